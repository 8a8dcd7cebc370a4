"""Changes are seen and written, or refused by name: through codecs, and through a store."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOverseer,
    EncodeError,
    Event,
    MemoryStorer,
    StorageOverseer,
    Store,
    new_key,
)
from aiosessions.testing.suites_store import Visitor
from aiosessions.values.blank import Blank
from aiosessions.values.codecs import CheckedCodec, JSONCodec, MessagePackCodec, PydanticCodec, codec_for
from tests.facts import facts

NAN = float("nan")


@dataclass
class Uncompared:
    n: int = 0
    ratio: float | None = field(default=None, compare=False)
    late: int = field(default=0, init=False)


@dataclass
class Lenient:
    n: int = 0
    ratio: float | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lenient)

    def __hash__(self) -> int:
        return 0


@attrs.define
class UncomparedAttrs:
    ratio: float | None = attrs.field(default=None, eq=False)
    late: int = attrs.field(default=0, init=False)


@attrs.define
class Rough:
    ratio: float | None = attrs.field(default=None, eq=lambda _: 0)


class LenientStruct(msgspec.Struct):
    ratio: float | None = None

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class LenientRow(NamedTuple):
    ratio: float | None = None

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@dataclass(eq=False)
class Child(Uncompared):
    more: float | None = None


@attrs.define
class PrivateAttrs:
    n: int = 0
    _hidden: int = 0


@dataclass
class HoldsPrivateAttrs:
    parts: list[PrivateAttrs] = field(default_factory=list[PrivateAttrs])


class Excluded(pydantic.BaseModel):
    n: int = 0
    hidden: int = pydantic.Field(default=0, exclude=True)


class HoldsExcluded(pydantic.BaseModel):
    parts: dict[str, list[Excluded] | None] = {}


class Private(pydantic.BaseModel):
    n: int = 0
    _hidden: int = 0


class HoldsUninitialised(pydantic.BaseModel):
    part: Uncompared = Uncompared()


@pydantic.dataclasses.dataclass
class ExcludedPart:
    hidden: int = pydantic.Field(default=0, exclude=True)


class HoldsExcludedPart(pydantic.BaseModel):
    part: ExcludedPart | None = None


class Undefined(pydantic.BaseModel):
    n: "Nowhere" = 0  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]  # noqa: F821 (the point)


class Rounded(pydantic.BaseModel):
    n: int = 0
    m: int = 0

    @pydantic.field_serializer("n")
    def tens(self, n: int) -> int:
        return n // 10 * 10


class Silent(pydantic.BaseModel):
    n: int = 0

    @pydantic.model_serializer
    def nothing(self) -> dict[str, int]:
        return {}


class Omitted(pydantic.BaseModel):
    n: int = pydantic.Field(default=0, exclude_if=lambda n: n == 3)


class Plain(pydantic.BaseModel):
    n: int = 0


class Special(Plain):
    m: int = 0


class HoldsPlain(pydantic.BaseModel):
    part: Plain = Plain()


class Aliased(pydantic.BaseModel, serialize_by_alias=True):
    n: int = pydantic.Field(default=0, alias="theNumber")


async def kept(kind: type[Any], change: Callable[[Any], object], *, first: object = None) -> Any:  # Any: each test's
    """What a later request finds, after one that changed what an earlier one had stored."""
    store: StorageOverseer[Any] = StorageOverseer(kind, MemoryStorer())
    visitor = Visitor()
    async with visitor.visit() as visit:
        session = store.new(visit.request)
        if first is not None:
            session.value = first
        session.set_user("ann")
        await store.save(session, visit.response)
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        change(session.value)
        await store.save(session, visit.response)
    async with visitor.visit() as visit:
        return (await store.get(visit.request)).value


UNSEEN: list[tuple[type[Any], str]] = [
    (Uncompared, "ratio"),
    (Uncompared, "late"),
    (Lenient, "ratio"),
    (UncomparedAttrs, "ratio"),
    (UncomparedAttrs, "late"),
    (Rough, "ratio"),
    (LenientStruct, "ratio"),
    (Child, "ratio"),
    (Child, "more"),
]
"""Fields that `==` does not see: compare=False, eq=False, eq=..., an `__eq__` of one's own, an inherited one."""


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "name"), UNSEEN)
async def test_a_change_in_a_field_that_equality_does_not_see_is_saved(kind: type[Any], name: str) -> None:
    """V3: at the top, and in an item of a list."""

    def change(value: Any) -> None:
        setattr(value, name, 2)

    async def inside() -> Any:
        return (await kept(list_of(kind), lambda value: change(value[0]), first=[kind()]))[0]

    for found in (await kept(kind, change), await inside()):
        assert getattr(found, name) == 2


@pytest.mark.anyio
async def test_a_named_tuple_whose_equality_is_its_own_is_saved_as_it_is() -> None:
    """V3: as a class."""
    first = {"a": LenientRow()}

    found = await kept(dict[str, LenientRow], lambda value: value.update(a=LenientRow(0.25)), first=first)

    assert tuple(found["a"]) == (0.25,)
    with pytest.raises(EncodeError, match=r"\$\.a\[0\]"):
        await kept(dict[str, LenientRow], lambda value: value.update(a=LenientRow(NAN)), first=first)


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in UNSEEN if name in ("ratio", "more")])
async def test_nan_in_a_field_that_equality_does_not_see_is_refused_by_its_name(kind: type[Any], name: str) -> None:
    """V9: JSON writes it as null, which is what was stored before."""

    def change(value: Any) -> None:
        setattr(value, name, NAN)

    with pytest.raises(EncodeError, match=rf"\$\.{name}`"):
        await kept(kind, change)


def test_nan_is_no_unchanged_null_however_the_backend_spelled_it() -> None:
    """V3, V9: and where no float may be None there is no such null."""
    codec = JSONCodec(Lenient)
    data = codec.encode(Lenient(1, NAN))

    assert codec.unchanged(data, Lenient(1), data)
    assert not codec.unchanged(data, Lenient(1, NAN), data)
    assert not codec.unchanged(b'{"ratio":null,  "n":1}', Lenient(1, NAN), data)
    assert codec.unchanged(b'{"ratio":null,  "n":1}', Lenient(1), data)
    assert codec.hides(data)
    assert not codec.hides(codec.encode(Lenient(1, 0.5)))
    assert not MessagePackCodec(Lenient).hides(MessagePackCodec(Lenient).encode(Lenient()))
    assert JSONCodec(dict[str, Any]).hides(b'{"a":null}')
    assert not JSONCodec(dict[str, int | None]).hides(b'{"a":null}')
    assert JSONCodec(dict[str, list[float | str | None]]).hides(b'{"a":[null]}')
    assert JSONCodec(dict[str, Annotated[float, msgspec.Meta(ge=0, title="Ratio")] | None]).hides(b'{"a":null}')
    assert not JSONCodec(dict[str, float]).hides(b'{"a":null}'), "None is no float, so NaN was never stored"
    assert PydanticCodec(Plain).hides(b"{}")


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (PrivateAttrs, "PrivateAttrs.*_hidden"),
        (HoldsPrivateAttrs, r"\$\.parts\[\.\.\.\]\._hidden.*PrivateAttrs"),
        (Excluded, "hidden.*Excluded.*exclude=True"),
        (HoldsExcluded, "hidden.*Excluded.*exclude=True"),
        (HoldsExcludedPart, "hidden.*ExcludedPart.*exclude=True"),
        (Private, "_hidden.*Private.*private attributes"),
        (HoldsUninitialised, "late.*Uncompared.*init=False"),
        (Undefined, "Nowhere"),
    ],
)
def test_a_field_that_would_not_be_written_or_read_is_a_config_error_that_names_it_and_the_fix(
    kind: type[Any], named: str
) -> None:
    """V9: at construction, and not a change that is lost without a word."""
    with pytest.raises(ConfigError, match=named) as caught:
        StorageOverseer(kind, MemoryStorer())
    assert kind.__name__ in str(caught.value)
    assert "codec=" in str(caught.value) or kind is Undefined


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "change", "path"),
    [
        (Rounded, {"n": 5}, "$.n"),
        (Silent, {"n": 5}, "$.n"),
        (Omitted, {"n": 3}, "$.n"),
        (HoldsPlain, {"part": Special(m=3)}, "$.part"),
    ],
)
async def test_what_a_serializer_of_the_applications_own_would_lose_is_refused_at_save(
    kind: type[Any], change: dict[str, Any], path: str
) -> None:
    """V3, V9: also where the bytes are those that were stored."""

    def apply(value: Any) -> None:
        for name, new in change.items():
            setattr(value, name, new)

    with pytest.raises(EncodeError) as caught:
        await kept(kind, apply)
    assert f"at `{path}`" in str(caught.value)


@pytest.mark.anyio
async def test_serializers_that_lose_nothing_and_aliases_are_written() -> None:
    """V1: whatever the model says about aliases."""
    assert (await kept(Rounded, lambda value: setattr(value, "n", 20))).n == 20
    assert (await kept(Omitted, lambda value: setattr(value, "n", 2))).n == 2
    assert (await kept(Aliased, lambda value: setattr(value, "n", 2))).n == 2


# new values


class Required(pydantic.BaseModel):
    n: int


class RequiredKey(TypedDict):
    n: int


class Refusing(msgspec.Struct):
    n: int = 0

    def __post_init__(self) -> None:
        raise ValueError("hunter2")


@dataclass
class Counting:
    n: int = 0

    def __post_init__(self) -> None:
        self.n += 1


@dataclass
class Needy:
    n: int


@pytest.mark.parametrize("kind", [Required, RequiredKey, Refusing, Needy])
def test_a_type_that_cannot_be_made_without_arguments_is_a_config_error_that_names_the_fix(kind: type[Any]) -> None:
    """V9: pydantic's ValidationError among the reasons; and with default= it can."""
    with pytest.raises(ConfigError, match=rf"{kind.__name__} .*give default=") as caught:
        StorageOverseer(kind, MemoryStorer())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    if kind is not Refusing:
        StorageOverseer(kind, MemoryStorer(), default=lambda: kind(n=1))


def test_what_the_applications_default_raises_leaves_as_it_is() -> None:
    """V9: it is the application's own error."""

    class BrokenError(Exception):
        pass

    def default() -> Plain:
        raise BrokenError

    with pytest.raises(BrokenError):
        StorageOverseer(Plain, MemoryStorer(), default=default)
    with pytest.raises(pydantic.ValidationError):
        StorageOverseer(Required, MemoryStorer(), default=lambda: Required.model_validate({}))


def test_a_type_that_changes_whenever_it_is_read_is_a_config_error() -> None:
    """V9, V3: no value of it could be saved."""
    with pytest.raises(ConfigError, match=r"a new Counting cannot be stored.*\$\.n"):
        StorageOverseer(Counting, MemoryStorer())
    with pytest.raises(ConfigError, match=r"a new Plain cannot be stored"):
        StorageOverseer(Plain, MemoryStorer(), default=lambda: Plain.model_construct(n="many"))


def test_new_values_share_nothing_and_are_made_each_by_itself() -> None:
    """V1: a default may be mutable, and depend on the time."""
    shared: dict[str, list[int]] = {"a": []}
    codec = codec_for(dict[str, list[int]], json=True)
    blank = Blank(codec, dict[str, list[int]], lambda: shared)

    value, data = blank()
    value["a"].append(1)

    assert blank() == ({"a": []}, data)
    shared["b"] = [2]
    assert blank() == (shared, codec.encode(shared))


# spellings


@dataclass
class Person:
    name: str
    age: int = 0
    colour: Literal["red", "blue"] | None = None
    friends: "list[Person]" = field(default_factory=list["Person"])
    marks: dict[str, int] = field(default_factory=dict[str, int])


class Keys(TypedDict):
    zebra: int
    ant: NotRequired[str]
    bee: NotRequired[list[str]]


CODECS: list[CheckedCodec[Any]] = [
    JSONCodec(Person),
    MessagePackCodec(Person),
    JSONCodec(Keys),
    JSONCodec(dict[str, Any]),
]
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.test_values import CODECS
print([codec.spelling(b"same") for codec in CODECS])
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_spelling_is_the_same_in_every_process(seed: str) -> None:
    """V3: what one has written another knows; no two types or formats spell alike."""
    root = str(pathlib.Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONHASHSEED": seed}

    run = subprocess.run([sys.executable, "-c", SCRIPT, root], check=True, capture_output=True, text=True, env=env)

    ours = [codec.spelling(b"same") for codec in CODECS]
    assert run.stdout.strip() == str(ours)
    assert len({*ours, 0}) == len(CODECS) + 1


def list_of(kind: Any) -> Any:  # Any: a type, of a class that a test chose
    return list[kind]


def version(*fields: Any, name: str = "V") -> CheckedCodec[Any]:
    return JSONCodec(dataclasses.make_dataclass(name, fields))


def test_a_spelling_changes_with_the_fields_of_a_type_and_with_the_bytes() -> None:
    """V2: added, removed, renamed, retyped, made optional; at any depth."""
    inner = [list_of(dataclasses.make_dataclass("In", [("x", kind)])) for kind in (int, str)]
    versions = [
        version(),
        version(("a", int)),
        version(("a", int, 0)),
        version(("b", int)),
        version(("a", str)),
        version(("a", int | None)),
        version(("a", int), ("b", int)),
        version(("a", Literal[1])),
        version(("a", Literal[2])),
        version(("a", inner[0])),
        version(("a", inner[1])),
        version(("a", dict[str, int])),
        JSONCodec(msgspec.defstruct("V", [("a", int)])),
        JSONCodec(msgspec.defstruct("V", [("a", int)], rename={"a": "b"})),
        JSONCodec(msgspec.defstruct("V", [("a", int)], tag="v")),
        JSONCodec(msgspec.defstruct("V", [("a", int)], tag="w")),
    ]
    spellings = [each.spelling(b"{}") for each in versions]

    assert len({*spellings, 0}) == len(versions) + 1
    assert version(("a", int)).spelling(b"{}") == spellings[1]
    assert versions[1].spelling(b"{ }") != spellings[1]


def test_what_we_do_not_know_has_no_spelling() -> None:
    """V2: 0 says so."""
    assert PydanticCodec(Plain).spelling(b"{}") == 0
    assert codec_for(Plain, json=True, codec=Own()).spelling(b"{}") == 0


class Own:
    is_json = True

    def encode(self, value: Plain) -> bytes:
        return b"%d" % value.n

    def decode(self, data: bytes) -> Plain:
        return Plain(n=int(data))

    def to_tree(self, value: Plain) -> object:
        return value.n

    def from_tree(self, tree: object) -> Plain:
        return Plain.model_validate({"n": tree})


class Brief(msgspec.Struct, omit_defaults=True):
    n: int = 1000


@dataclass
class Stripping:
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name.strip()


@given(st.sampled_from([JSONCodec, MessagePackCodec]), st.data())
def test_law_a_known_spelling_changes_no_answer(kind: Any, data: st.DataObject) -> None:
    """V3: it saves a look at the stored value, and no more."""
    numbers = st.integers(0, 30)
    people = st.deferred(
        lambda: st.builds(
            Person,
            st.text("ab", max_size=2),
            numbers,
            st.sampled_from([None, "red", "blue"]),
            st.lists(people, max_size=1),
            st.dictionaries(st.sampled_from("abc"), numbers, max_size=3),
        )
    )
    anything: st.SearchStrategy[Any] = st.recursive(
        st.sampled_from([None, True, 1, 1.0, 1.5, "a"]), lambda part: st.lists(part, max_size=2), max_leaves=3
    )
    values: st.SearchStrategy[Any]
    kinds: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (Person, people),
        (dict[str, int], st.dictionaries(st.sampled_from("abc"), numbers)),
        (dict[str, float], st.dictionaries(st.sampled_from("ab"), st.sampled_from([0, 0.0, 1, 1.5]))),
        (dict[str, Any], st.dictionaries(st.sampled_from("abc"), anything)),
        (Brief, st.builds(Brief, st.sampled_from([1000, 10**3, 1]))),
        (set[int], st.sets(numbers)),
        (list[str | bool | None], st.lists(st.sampled_from(["a", None, True]))),
    ]
    value_type, values = data.draw(st.sampled_from(kinds))
    codec: CheckedCodec[Any] = kind(value_type)
    base = codec.encode(data.draw(values))
    value = data.draw(st.just(codec.decode(base)) | values)
    base = codec.settled(codec.decode(base), base)  # what a write that is spelled has stored
    after = codec.encode(value)

    expected = codec.unchanged(base, value, after)

    changed = codec.changed(base, value, after, spelling=codec.spelling(base))
    assert (changed is None) is expected
    if changed is not None:
        assert codec.changed(changed, codec.decode(changed), changed, spelling=codec.spelling(changed)) is None
        assert codec.changed(changed, value, after, spelling=codec.spelling(changed)) is None
        assert changed == codec.encode(codec.decode(changed)) or not codec.spelling(changed)


@dataclass
class Priced:
    price: float = 1.5


@pytest.mark.anyio
@pytest.mark.parametrize("kept", ["memory", "cookie"])
async def test_an_int_for_a_float_is_written_once(kept: str) -> None:
    """V3, R3: neither again in its own request, nor when it comes back as a float."""
    events: list[Event] = []
    options: dict[str, Any] = {"on_event": facts(events)}
    sealer = AESGCMSealer(new_key())
    store: Store[Priced] = CookieOverseer(Priced, sealer, **options)
    if kept == "memory":
        store = StorageOverseer(Priced, MemoryStorer(), clean_every=None, **options)
    visitor = Visitor()
    for price in (2.5, 3, 3.0, 3):
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.value.price = price
            await store.save(session, visit.response)
            await store.save(session, visit.response)

    assert [event.kind for event in events if event.kind != "loaded"] == ["created", "saved"]


def test_a_spelling_proves_nothing_where_equal_values_are_written_differently() -> None:
    """V3: an int for a float, a default that was left out, a class that changes what is read."""
    cases: list[tuple[CheckedCodec[Any], bytes, Any]] = [
        (JSONCodec(list[float]), b"[1.0]", [1]),
        (JSONCodec(Brief), b"{}", Brief(int("1000"))),
        (JSONCodec(Stripping), b'{"name":" a"}', Stripping("a")),
        (JSONCodec(dict[str, int]), b'{"a":1,"b":2}', {"b": 2, "a": 1}),
    ]
    for codec, base, value in cases:
        data = codec.encode(value)
        assert data != base
        assert codec.changed(base, value, data, spelling=codec.spelling(base)) is None
    codec = JSONCodec(dict[str, int])
    assert codec.changed(b'{"a":12}', {"a": 21}, b'{"a":21}', spelling=codec.spelling(b'{"a":12}')) == b'{"a":21}'
