"""A rotation and a logout that meet: what has ended stays ended, and of two rotations one wins, with the client too."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aiosessions import Session
from tests.storers_with_faults import REVOKING, Scene

pytestmark = pytest.mark.anyio

CHANGES: dict[str, Callable[[Session[Any]], Any]] = {
    "write": lambda session: session.value.items.append("slow"),
    "flash": lambda session: session.flash("slow"),
    "touch": lambda session: session.touch(),
    "regenerate": lambda session: session.regenerate(),
    "clear_user": lambda session: session.clear_user(),
}
ENDS = [
    *((kind, end) for kind in REVOKING for end in ("destroy", "delete_user_sessions")),
    ("stored", "delete_user_sessions"),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("kind", "end"), ENDS)
async def test_what_was_in_flight_at_a_logout_brings_nothing_back(kind: str, end: str, change: str) -> None:
    """F4, F14, R18: and its answer sends nothing."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    copy = visitor.copy()
    async with scene.request(visitor) as (slow, visit):
        await scene.end(visitor.copy(), end)
        CHANGES[change](slow)
    assert visit.sent == []
    assert not await scene.is_alive(visitor)
    assert not await scene.is_alive(copy)


@pytest.mark.parametrize("change", ["write", "regenerate", "clear_user"])
@pytest.mark.parametrize(("kind", "end"), ENDS)
async def test_a_write_that_a_logout_was_faster_than_is_an_event(kind: str, end: str, change: str) -> None:
    """F14: `dropped`, and never silent."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    async with scene.request(visitor) as (slow, _):
        await scene.end(visitor.copy(), end)
        CHANGES[change](slow)
    assert "dropped" in scene.kinds


@pytest.mark.parametrize("calls", [("read",), ("create", "replace")], ids=["reads", "writes"])
@pytest.mark.parametrize("change", ["regenerate", "clear_user"])
@pytest.mark.parametrize(("kind", "end"), [end for end in ENDS if end[0] in REVOKING])
async def test_a_logout_while_a_rotation_is_on_its_way_to_the_backend_ends_both(
    kind: str, end: str, change: str, calls: tuple[str, ...]
) -> None:
    """F4, F14: the logout is confirmed before the rotation has written anything."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    async with visitor.visit() as visit:
        slow = await scene.store.get(visit.request)
        CHANGES[change](slow)
        gate = scene.storer.stop_at(*calls)

        async def save() -> None:
            await scene.store.save(slow, visit.response)
            gate.reached.set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(save)
                await gate.reached.wait()
                await scene.end(visitor.copy(), end)
                gate.open()
    assert visit.sent == []
    assert not await scene.is_alive(visitor)


@pytest.mark.parametrize("kind", REVOKING)
async def test_of_two_rotations_of_one_token_the_first_wins(kind: str) -> None:
    """F14, R8: the second sends nothing, and one session lives."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    quick, slow = visitor.copy(), visitor.copy()
    async with scene.request(slow) as (second, visit):
        async with scene.request(quick) as (first, _):
            first.regenerate()
        second.regenerate()
    assert visit.sent == []
    assert await scene.is_alive(quick)
    assert not await scene.is_alive(slow)


@pytest.mark.parametrize("calls", [("read",), ("create", "replace")], ids=["reads", "writes"])
@pytest.mark.parametrize("kind", REVOKING)
async def test_two_rotations_of_one_token_at_once_leave_one_session(kind: str, calls: tuple[str, ...]) -> None:
    """F14, R8: one stops on its way to the backend, the other overtakes it."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    quick, slow = visitor.copy(), visitor.copy()
    async with slow.visit() as visit:
        second = await scene.store.get(visit.request)
        second.regenerate()
        gate = scene.storer.stop_at(*calls)

        async def save() -> None:
            await scene.store.save(second, visit.response)
            gate.reached.set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(save)
                await gate.reached.wait()
                async with scene.request(quick) as (first, _):
                    first.regenerate()
                gate.open()
    assert [await scene.is_alive(client) for client in (quick, slow)] == [True, False]
    assert visit.sent == []


@pytest.mark.parametrize("change", ["write", "flash", "touch"])
@pytest.mark.parametrize("rotation", ["set_user", "regenerate", "clear_user"])
@pytest.mark.parametrize("kind", REVOKING)
async def test_a_slow_answer_does_not_overwrite_the_cookie_of_a_login(kind: str, rotation: str, change: str) -> None:
    """R18, F14: the token that it would send is dead; so in one browser the login stays."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="eve")
    async with visitor.visit() as visit:
        slow = await scene.store.get(visit.request)
        async with scene.request(visitor) as (session, _):
            getattr(session, rotation)(*(["ann"] if rotation == "set_user" else []))
        CHANGES[change](slow)
        await scene.store.save(slow, visit.response)
        assert visit.sent == []
    winner = await scene.session_of(visitor)
    assert (winner.is_new, winner.value.note) == (False, "first")
    assert winner.user_id == {"set_user": "ann", "regenerate": "eve", "clear_user": None}[rotation]


@pytest.mark.parametrize("end", ["destroy", "delete_user_sessions", "set_user"])
@pytest.mark.parametrize("kind", REVOKING)
async def test_only_a_login_goes_on_after_its_session_has_ended(kind: str, end: str) -> None:
    """R8, F4: as a session of its own, which ends nobody else's."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    other, copy = visitor.copy(), visitor.copy()
    async with scene.request(visitor) as (slow, _):
        if end == "set_user":
            async with scene.request(other) as (session, _):
                session.set_user("ann")
        else:
            await scene.end(other, end)
        slow.set_user("bob")
    assert (await scene.session_of(visitor)).user_id == "bob"
    assert (await scene.session_of(other)).user_id == ("ann" if end == "set_user" else None)
    assert not await scene.is_alive(copy)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("change", ["regenerate", "clear_user", "login"])
@pytest.mark.parametrize("kind", ["stored", *REVOKING])
async def test_a_logout_holds_also_after_a_rotation_that_was_faster(kind: str, change: str, times: int) -> None:
    """F4, F14: a destroy() is carried out whatever the epoch, and ends what became of the session meanwhile."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    async with scene.request(visitor.copy()) as (slow, _):
        for _ in range(times):
            async with scene.request(visitor) as (session, _):
                session.set_user("bob") if change == "login" else CHANGES[change](session)
        slow.destroy()
    assert not await scene.is_alive(visitor)
