"""Saves of one session that overlap take turns, and one that fails leaves the turn to the next."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aiosessions import EncodeError, SessionError, SessionTooLargeError
from aiosessions.asgi import Connection
from aiosessions.testing.suites_store import Visitor
from tests.storers_with_faults import ENDING, Cart, Scene, adding

pytestmark = pytest.mark.anyio

SECONDS = 5
"""What no request of these takes: one that hangs is a failure."""

FLAWS: dict[str, tuple[Callable[[Cart], Any], type[SessionError]]] = {
    "cannot be encoded": (lambda cart: setattr(cart, "note", "\ud800"), EncodeError),
    "is too large": (lambda cart: setattr(cart, "note", "x" * 300_000), SessionTooLargeError),
}


async def overlap(scene: Scene, session: Any, response: Any = None, flaw: str = "cannot be encoded") -> None:
    """A save stops on its way to the backend; another waits for its turn, and by then its value has the flaw."""
    break_it, error = FLAWS[flaw]
    gate = scene.storer.stop_at("read", "create", "replace")
    session.set_user("ann")  # what every kind of store takes to its backend

    async def second() -> None:
        with pytest.raises(error):
            await scene.store.save(session, response)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.store.save, session, response)
        await gate.reached.wait()
        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        break_it(session.value)
        gate.open()
    session.value.note = "mended"


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("kind", ENDING)
async def test_a_save_that_fails_while_it_waits_its_turn_does_not_stop_the_next(kind: str, flaw: str) -> None:
    """R14, R11: the next save writes."""
    scene = Scene(kind)
    visitor = Visitor()
    with anyio.fail_after(SECONDS):
        async with visitor.visit() as visit:
            session = await scene.store.get(visit.request)
            await overlap(scene, session, visit.response, flaw)
            await scene.store.save(session, visit.response)
        found = await scene.session_of(visitor)
    assert (found.user_id, found.value.note) == ("ann", "mended")


@pytest.mark.parametrize("then", ["update", "destroy"])
@pytest.mark.parametrize("kind", ENDING)
async def test_nor_does_it_stop_an_update_or_a_logout(kind: str, then: str) -> None:
    """R14, F14."""
    scene = Scene(kind)
    visitor = Visitor()

    async def handler(connection: Connection) -> None:
        session = await scene.store.get(connection)
        await overlap(scene, session)
        if then == "destroy":
            await scene.store.destroy(session)
        else:
            await scene.store.update(session, adding("updated"))

    with anyio.fail_after(SECONDS):
        await scene.serve(visitor, handler)
        found = await scene.session_of(visitor)
    assert (found.is_new, found.value.items) == ((True, []) if then == "destroy" else (False, ["updated"]))


@pytest.mark.parametrize("kind", ENDING)
async def test_nor_does_it_stop_the_save_of_the_middleware(kind: str) -> None:
    """R11, R14: the request is answered."""
    scene = Scene(kind)
    visitor = Visitor()

    async def handler(connection: Connection) -> None:
        session = await scene.store.get(connection)
        await overlap(scene, session)

    with anyio.fail_after(SECONDS):
        assert await scene.serve(visitor, handler) == 200
        found = await scene.session_of(visitor)
    assert (found.user_id, found.value.note) == ("ann", "mended")


@pytest.mark.parametrize("kind", ENDING)
async def test_a_save_that_is_cancelled_while_it_waits_its_turn_does_not_stop_the_next(kind: str) -> None:
    """R14, S14."""
    scene = Scene(kind)
    visitor = Visitor()
    with anyio.fail_after(SECONDS):
        async with visitor.visit() as visit:
            session = await scene.store.get(visit.request)
            session.set_user("ann")
            gate = scene.storer.stop_at("read", "create", "replace")
            waiting = anyio.CancelScope()

            async def second() -> None:
                with waiting:
                    await scene.store.save(session, visit.response)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(scene.store.save, session, visit.response)
                await gate.reached.wait()
                tasks.start_soon(second)
                await anyio.wait_all_tasks_blocked()
                waiting.cancel()
                await anyio.wait_all_tasks_blocked()
                gate.open()
            session.value.note = "next"
            await scene.store.save(session, visit.response)
        found = await scene.session_of(visitor)
    assert (found.user_id, found.value.note) == ("ann", "next")
