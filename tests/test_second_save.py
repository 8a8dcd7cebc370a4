"""Several saves and updates in one request: only what it changed since its last save is its change."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from aiosessions import Session
from aiosessions.testing.suites_store import Visit, Visitor
from tests.storers_with_faults import Cart, Scene, adding

pytestmark = pytest.mark.anyio


class Item(msgspec.Struct):
    name: str = ""


class NewerItem(msgspec.Struct):
    """`Item`, a version later."""

    name: str = ""
    colour: str = "red"


@dataclass
class Shelf:
    items: list[Item] = field(default_factory=list[Item])
    count: int = 0


@dataclass
class NewerShelf:
    items: list[NewerItem] = field(default_factory=list[NewerItem])
    count: int = 0


async def add(scene: Scene, visitor: Visitor, *items: str) -> None:
    """Another request, which appends."""
    async with scene.request(visitor) as (session, _):
        session.value.items.extend(items)


@pytest.mark.parametrize("on_conflict", ["merge", "raise"])
async def test_a_socket_that_saves_twice_keeps_what_a_request_added(on_conflict: str) -> None:
    """F3, R5: and where a conflict raises, there is none."""
    scene = Scene(on_conflict=on_conflict)
    visitor = await scene.visitor()
    await add(scene, visitor, "base")
    async with visitor.visit() as visit:
        socket = await scene.store.get(visit.request)
        await add(scene, visitor, "http")
        socket.value.items.append("ws1")
        await scene.store.save(socket, visit.response)
        assert sorted((await scene.session_of(visitor)).value.items) == ["base", "http", "ws1"]
        socket.value.items.append("ws2")
        await scene.store.save(socket, visit.response)
    assert sorted((await scene.session_of(visitor)).value.items) == ["base", "http", "ws1", "ws2"]


@pytest.mark.parametrize("steps", ["ssss", "susu", "usus", "uuss", "ssuu"])
async def test_between_any_saves_and_updates_a_request_may_add(steps: str) -> None:
    """F3, R5: s saves, u updates; each is one more addition, and none is lost or made twice."""
    scene = Scene()
    visitor = await scene.visitor()
    async with visitor.visit() as visit:
        socket = await scene.store.get(visit.request)
        for number, step in enumerate(steps):
            await add(scene, visitor, f"http{number}")
            if step == "s":
                socket.value.items.append(f"ws{number}")
                await scene.store.save(socket, visit.response)
            else:
                await scene.store.update(socket, adding(f"ws{number}"))
    expected = [f"{who}{number}" for who in ("http", "ws") for number in range(len(steps))]
    assert sorted((await scene.session_of(visitor)).value.items) == expected


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_the_order_of_saves_no_addition_is_lost(seed: int) -> None:
    """F3, R5: three long requests on one session, each saves and updates some times, in a seeded order."""
    chance = random.Random(seed)  # the same in each run
    scene = Scene()
    visitor = await scene.visitor()
    visits = [Visit([(b"cookie", f"{name}={text}".encode())]) for name, text in visitor.cookies.items() for _ in "123"]
    sessions: list[Session[Cart]] = [await scene.store.get(visit.request) for visit in visits]
    added: list[str] = []
    for number in range(12):
        one = chance.randrange(len(sessions))
        item = f"{number:02} by {one}"
        added.append(item)
        if chance.random() < 0.3:
            await scene.store.update(sessions[one], adding(item))
        else:
            sessions[one].value.items.append(item)
            await scene.store.save(sessions[one], visits[one].response)
    assert sorted((await scene.session_of(visitor)).value.items) == added


@pytest.mark.parametrize("on_conflict", ["merge", "raise"])
async def test_what_another_took_away_stays_away_after_a_second_save(on_conflict: str) -> None:
    """F3, R5: a request empties the cart; what it has taken out is not the socket's to put back."""
    scene = Scene(on_conflict=on_conflict)
    visitor = await scene.visitor()
    await add(scene, visitor, "base")
    async with visitor.visit() as visit:
        socket = await scene.store.get(visit.request)
        async with scene.request(visitor) as (session, _):
            session.value.items.clear()
            session.value.note = "emptied"
        for tag in ("one", "two"):
            socket.value.tags.add(tag)
            await scene.store.save(socket, visit.response)
    assert (await scene.session_of(visitor)).value == Cart([], {"one", "two"}, "emptied")


@pytest.mark.parametrize("on_conflict", ["merge", "raise"])
async def test_a_field_that_a_request_wrote_once_is_its_change_once(on_conflict: str) -> None:
    """F3, R5: what others write after the first save is theirs, at the second one and at the third."""
    scene = Scene(on_conflict=on_conflict)
    visitor = await scene.visitor()
    async with visitor.visit() as visit:
        socket = await scene.store.get(visit.request)
        socket.value.note = "socket"
        await scene.store.save(socket, visit.response)
        for number in range(2):
            async with scene.request(visitor) as (session, _):
                session.value.note = f"request {number}"
            socket.value.items.append(str(number))
            await scene.store.save(socket, visit.response)
            value = (await scene.session_of(visitor)).value
            assert (value.note, value.items[-1]) == (f"request {number}", str(number))


CHANGES: dict[str, Callable[[Shelf, int], object]] = {
    "of another field": lambda shelf, number: setattr(shelf, "count", number),
    "that appends": lambda shelf, number: shelf.items.append(Item(f"new {number}")),
    "of an item": lambda shelf, number: setattr(shelf.items[0], "name", f"renamed {number}"),
}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("stored", {"on_conflict": "merge"}),
    ("stored", {"on_conflict": "raise"}),
    ("held", {}),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
async def test_fields_of_a_newer_version_survive_two_saves_of_an_older(
    kind: str, options: dict[str, Any], change: str
) -> None:
    """V2, R5: inside the items of a list too; one writer alone has no conflict."""
    scene = Scene(kind, Shelf, **options)
    newer = scene.another(NewerShelf, **options)
    visitor = Visitor()
    async with scene.request(visitor, newer) as (session, _):
        session.value.items = [NewerItem("a", "blue"), NewerItem("b", "green")]
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        for number in range(1, 3):
            CHANGES[change](session.value, number)
            await scene.store.save(session, visit.response)
    shelf = (await scene.session_of(visitor, newer)).value
    assert [item.colour for item in shelf.items[:2]] == ["blue", "green"]
    assert shelf.count == (2 if change == "of another field" else 0)


async def test_fields_of_a_newer_version_survive_a_save_after_an_update() -> None:
    """V2, R5."""
    scene = Scene("stored", Shelf)
    newer = scene.another(NewerShelf)
    visitor = Visitor()
    async with scene.request(visitor, newer) as (session, _):
        session.value.items = [NewerItem("a", "blue")]
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        await scene.store.update(session, _append)
        session.value.items.append(Item("saved"))
        await scene.store.save(session, visit.response)
    shelf = (await scene.session_of(visitor, newer)).value
    assert [(item.name, item.colour) for item in shelf.items] == [("a", "blue"), ("updated", "red"), ("saved", "red")]


def _append(shelf: Shelf) -> None:
    shelf.items.append(Item("updated"))
