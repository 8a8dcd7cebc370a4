"""What a handler took out of `session.value` before a save that merges others' writes is part of it afterwards."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from aiosessions import Session
from aiosessions.testing.suites_store import Visit, Visitor
from tests.storers_with_faults import Scene

pytestmark = pytest.mark.anyio

NAMES = ("http0", "http1", "update0", "update1", "ws0", "ws1")
"""What others, updates of this request, and its handler add: to a list, as a key, as the field of that name."""


@dataclass
class Plain:
    http0: str = ""
    http1: str = ""
    ws0: str = ""
    ws1: str = ""
    update0: str = ""
    update1: str = ""


@dataclass(slots=True)
class Slotted(Plain):
    pass


@dataclass(frozen=True)
class Frozen:
    http0: str = ""
    http1: str = ""
    ws0: str = ""
    ws1: str = ""
    update0: str = ""
    update1: str = ""


class Struct(msgspec.Struct):
    http0: str = ""
    http1: str = ""
    ws0: str = ""
    ws1: str = ""
    update0: str = ""
    update1: str = ""


class FrozenStruct(msgspec.Struct, frozen=True):
    http0: str = ""
    http1: str = ""
    ws0: str = ""
    ws1: str = ""
    update0: str = ""
    update1: str = ""


@attrs.define
class Attrs:
    http0: str = ""
    http1: str = ""
    ws0: str = ""
    ws1: str = ""
    update0: str = ""
    update1: str = ""


class Model(pydantic.BaseModel):
    http0: str = ""
    http1: str = ""
    ws0: str = ""
    ws1: str = ""
    update0: str = ""
    update1: str = ""


class ValidatingModel(Model):
    model_config = pydantic.ConfigDict(validate_assignment=True)


class FrozenModel(Model):
    model_config = pydantic.ConfigDict(frozen=True)


class Models(pydantic.BaseModel):
    names: list[str] = []
    model: Model = Model()


@dataclass
class Shelf:
    names: list[str] = field(default_factory=list[str])
    keys: dict[str, str] = field(default_factory=dict[str, str])
    tags: set[str] = field(default_factory=set[str])
    plain: Plain = field(default_factory=Plain)
    slotted: Slotted = field(default_factory=Slotted)
    struct: Struct = field(default_factory=Struct)
    attributes: Attrs = field(default_factory=Attrs)
    deep: dict[str, list[str]] = field(default_factory=lambda: {"in": []})
    frozen: Frozen = field(default_factory=Frozen)
    frozen_struct: FrozenStruct = field(default_factory=FrozenStruct)


Take = Callable[[Any], Any]  # Any: of a value of any type, a part of any type


def itself(value: Any) -> Any:  # Any: as above
    return value


def deep(shelf: Shelf) -> list[str]:
    return shelf.deep["in"]


KEPT: list[tuple[Any, Take]] = [
    *((Shelf, attrgetter(name)) for name in ("names", "keys", "tags", "plain", "slotted", "struct", "attributes")),
    (Shelf, deep),
    *((kind, itself) for kind in (list[str], dict[str, str], set[str], Plain, Slotted, Struct, Attrs)),
    *((kind, itself) for kind in (Model, ValidatingModel)),
    (Models, attrgetter("names")),
    (Models, attrgetter("model")),
]
"""A store's type, and a part of its values that can be changed in place."""


def named(argument: object) -> str:
    """A name for a test that is the same in each process."""
    return getattr(argument, "__name__", str(argument))


REPLACED: list[tuple[Any, str]] = [
    (Shelf, "frozen"),
    (Shelf, "frozen_struct"),
    *((kind, "") for kind in (Frozen, FrozenStruct, FrozenModel)),
]
"""A store's type, and the field of its values that cannot; "" is the value itself."""


def add(part: Any, name: str) -> None:  # Any: as above
    adds = getattr(part, "append", None) or getattr(part, "add", None)
    if adds is not None:
        adds(name)
    elif isinstance(part, dict):
        part[name] = name
    else:
        setattr(part, name, name)


def added(part: Any) -> list[str]:  # Any: as above
    """What was added to a part so far, sorted."""
    return sorted(part) if type(part) in (list, dict, set) else [name for name in NAMES if getattr(part, name)]


def adding(take: Take, name: str) -> Callable[[Any], None]:  # Any: as above
    """What an update does: add to a part."""
    return lambda value: add(take(value), name)


def renewing(part: str, name: str) -> Callable[[Any], Any]:  # Any: as above
    """What an update does: put another object in the place of a part."""
    return lambda value: renewed(value, part, name)


def append(rows: list[Plain]) -> None:
    """What an update does."""
    rows.append(Plain(ws0="ws0"))


async def stored_session(kind: Any) -> tuple[Scene, Visitor]:  # Any: a type
    """Somebody with a session whose value is the default: without a change in it that could meet another."""
    scene = Scene("stored", kind)
    visitor = Visitor()
    async with scene.request(visitor) as (session, _):
        session.set_user("ann")
    return scene, visitor


async def save(scene: Scene, session: Session[Any], visit: Visit) -> None:  # Any: of any type
    await scene.store.save(session, visit.response)


@pytest.mark.parametrize(("kind", "take"), KEPT, ids=named)
async def test_a_part_that_was_taken_out_before_a_save_is_part_of_the_value_afterwards(kind: Any, take: Take) -> None:
    """F3, R5: it holds what others added, and what is added to it is saved by the next save."""
    scene, visitor = await stored_session(kind)
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        held, whole = take(session.value), session.value
        expected: set[str] = set()
        for number in range(2):
            async with scene.request(visitor.copy()) as (other, _):
                add(take(other.value), f"http{number}")
            add(held, f"ws{number}")
            await save(scene, session, visit)
            expected |= {f"http{number}", f"ws{number}"}
            assert added(held) == sorted(expected)
            assert take(session.value) is held
            assert session.value is whole
            assert added(take((await scene.session_of(visitor)).value)) == sorted(expected)


@pytest.mark.parametrize(("kind", "take"), KEPT, ids=named)
async def test_a_part_that_was_taken_out_before_an_update_is_part_of_the_value_afterwards(
    kind: Any, take: Take
) -> None:
    """F3, R5: what was added to it and not saved stays in it, and the next save saves it."""
    scene, visitor = await stored_session(kind)
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        held = take(session.value)
        expected: set[str] = set()
        for number in range(2):
            async with scene.request(visitor.copy()) as (other, _):
                add(take(other.value), f"http{number}")
            add(held, f"ws{number}")
            await scene.store.update(session, adding(take, f"update{number}"))
            expected |= {f"http{number}", f"update{number}"}
            assert added(held) == sorted(expected | {f"ws{number}"})
            assert take(session.value) is held
            assert added(take((await scene.session_of(visitor)).value)) == sorted(expected)
            await save(scene, session, visit)
            expected.add(f"ws{number}")
            assert added(take((await scene.session_of(visitor)).value)) == sorted(expected)


@pytest.mark.parametrize("how", ["save", "update"])
async def test_an_item_before_which_nothing_was_added_is_part_of_its_list_afterwards(how: str) -> None:
    """F3, R5: others appended to the list that holds it."""
    scene, visitor = Scene("stored", list[Plain]), Visitor()
    async with scene.request(visitor) as (session, _):
        session.value.append(Plain())
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        held = session.value[0]
        async with scene.request(visitor.copy()) as (other, _):
            other.value.append(Plain(http0="http0"))
        if how == "save":
            append(session.value)
            await save(scene, session, visit)
        else:
            await scene.store.update(session, append)
        held.ws1 = "ws1"
        await save(scene, session, visit)
    assert (await scene.session_of(visitor)).value == [Plain(ws1="ws1"), Plain(http0="http0"), Plain(ws0="ws0")]


@pytest.mark.parametrize("how", ["save", "update"])
@pytest.mark.parametrize(("kind", "name"), REPLACED, ids=str)
async def test_a_part_that_cannot_be_changed_in_place_is_another_and_nothing_is_lost(
    kind: Any, name: str, how: str
) -> None:
    """F3, R5: frozen classes are replaced, by this request, by others, and by the save."""
    scene, visitor = await stored_session(kind)
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        expected: set[str] = set()
        for number in range(2):
            async with scene.request(visitor.copy()) as (other, _):
                other.value = renewed(other.value, name, f"http{number}")
            if how == "save":
                session.value = renewed(session.value, name, f"ws{number}")
                await save(scene, session, visit)
            else:
                await scene.store.update(session, renewing(name, f"ws{number}"))
            expected |= {f"http{number}", f"ws{number}"}
            assert added(getattr(session.value, name) if name else session.value) == sorted(expected)
            value = (await scene.session_of(visitor)).value
            assert added(getattr(value, name) if name else value) == sorted(expected)


def renewed(value: Any, name: str, text: str) -> Any:  # Any: as above
    """The value, with a new object in the place of its part."""
    if name:
        setattr(value, name, renewed(getattr(value, name), "", text))
        return value
    if isinstance(value, pydantic.BaseModel):
        return value.model_copy(update={text: text})
    replace: Callable[..., Any] = msgspec.structs.replace if isinstance(value, msgspec.Struct) else dataclasses.replace
    return replace(value, **{text: text})


@dataclass
class Row:
    name: str = ""
    count: int = 0
    unseen: int = field(default=0, compare=False)


@dataclass
class Rows:
    rows: list[Row] = field(default_factory=list[Row])
    count: int = 0


@dataclass(frozen=True)
class FrozenNames:
    names: list[str] = field(default_factory=list[str])
    count: int = 0


class ValidatingNames(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_assignment=True)
    names: list[str] = []


@pytest.mark.parametrize("place", [0, 1], ids=["before it", "after it"])
@pytest.mark.parametrize("is_new", [True, False])
async def test_an_item_that_others_left_alone_is_part_of_its_list_wherever_they_added(is_new: bool, place: int) -> None:
    """F3, R5: an item that this request appended, too."""
    scene, visitor = Scene("stored", Rows), Visitor()
    async with scene.request(visitor) as (session, _):
        session.value.rows.append(Row("first"))
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        async with scene.request(visitor.copy()) as (other, _):
            other.value.rows.insert(place, Row("theirs"))
        held = session.value.rows[0]
        if is_new:
            held = Row("ours")
            session.value.rows.append(held)
        session.value.count = 1
        await save(scene, session, visit)
        held.count = 5
        await save(scene, session, visit)
    rows = (await scene.session_of(visitor)).value.rows
    assert {row.name: row.count for row in rows}[held.name] == 5
    assert "theirs" in {row.name for row in rows}


@pytest.mark.parametrize("how", ["unseen", "bool"])
async def test_what_others_changed_where_equality_does_not_look_is_not_undone_by_a_second_save(how: str) -> None:
    """F3, R5: a field that does not compare; True where 1 was."""
    kind: Any = Rows if how == "unseen" else dict[str, Any]  # Any: of a type of the test's choice
    first: Any = Rows([Row("a")]) if how == "unseen" else {"rows": [1], "count": 0}  # Any: likewise
    scene, visitor = Scene("stored", kind), Visitor()
    async with scene.request(visitor) as (session, _):
        session.value = first
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        async with scene.request(visitor.copy()) as (other, _):
            if how == "unseen":
                other.value.rows[0].unseen = 7
            else:
                other.value["rows"][0] = True
        for number in (1, 2):
            add_count(session.value, number)
            await save(scene, session, visit)
    value = (await scene.session_of(visitor)).value
    if how == "unseen":
        assert (value.rows[0].unseen, value.count) == (7, 2)
    else:
        assert (value["rows"][0], value["count"]) == (True, 2)
        assert type(value["rows"][0]) is bool


def add_count(value: Any, number: int) -> None:  # Any: as above
    if isinstance(value, dict):
        value["count"] = number
    else:
        value.count = number


@pytest.mark.parametrize("kind", [FrozenNames, ValidatingNames])
async def test_a_list_in_what_cannot_be_assigned_is_part_of_the_value_afterwards(kind: Any) -> None:
    """F3, R5: the list itself can be changed in place; also where a frozen object around it is replaced."""
    scene, visitor = await stored_session(kind)
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        held = session.value.names
        async with scene.request(visitor.copy()) as (other, _):
            other.value.names.append("theirs")
            if kind is FrozenNames:
                other.value = dataclasses.replace(other.value, count=1)
        for name in ("one", "two"):
            held.append(name)
            await save(scene, session, visit)
    assert sorted((await scene.session_of(visitor)).value.names) == ["one", "theirs", "two"]
