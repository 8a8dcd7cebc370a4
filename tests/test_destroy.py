"""`destroy()` ends the session, or StorerError says that it may not have: whatever the request looked like."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
import trio.testing

from aiosessions import StorerError
from aiosessions.asgi import Connection
from aiosessions.testing.suites_store import Visitor
from tests.storers_with_faults import ENDING, Cart, Gate, Scene

pytestmark = pytest.mark.anyio

SECONDS = 30
"""What no request of these takes: one that waits for ever is a failure."""
JUMPING = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})])
"""Where nothing happens for a while, the clock goes on at once: nobody waits."""


@dataclass
class Other:
    """What `Cart` cannot be read as."""

    items: str = ""
    note: int = 0


async def destroyed(scene: Scene, visitor: Visitor, *, failing: set[str], by_method: bool) -> bool:
    """Log out in a request that could not read its session; whether StorerError said that it may not have ended."""
    async with visitor.visit() as visit:
        scene.storer.failing = {"read"}
        session = await scene.store.get(visit.request)
        assert session.is_degraded
        scene.storer.failing = failing
        try:
            if by_method:
                await scene.store.destroy(session, visit.response)
            else:
                session.destroy()
                await scene.store.save(session, visit.response)
        except StorerError:
            return True
        finally:
            scene.storer.failing = set()
    return False


@pytest.mark.parametrize("by_method", [True, False], ids=["store.destroy", "session.destroy and save"])
async def test_a_session_that_could_not_be_read_is_ended_or_storer_error_says_so(by_method: bool) -> None:
    """F14, R7: `on_storer_error="new"`, and by the time of the save the backend is there again."""
    scene = Scene("stored", on_storer_error="new")
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    says_so = await destroyed(scene, visitor, failing=set(), by_method=by_method)
    assert says_so or not await scene.is_alive(old)


@pytest.mark.parametrize("failing", [{"read", "delete"}, {"delete"}], ids=["away", "cannot delete"])
@pytest.mark.parametrize("by_method", [True, False], ids=["store.destroy", "session.destroy and save"])
async def test_a_session_that_can_be_neither_read_nor_ended_is_a_storer_error(
    by_method: bool, failing: set[str]
) -> None:
    """F14: never silent."""
    scene = Scene("stored", on_storer_error="new")
    visitor = await scene.visitor(user="ann")
    assert await destroyed(scene, visitor, failing=failing, by_method=by_method)


async def test_a_logout_of_a_session_that_could_not_be_read_is_no_success() -> None:
    """F14, R11: through the middleware, with the backend away: the answer is an error."""
    scene = Scene("stored", on_storer_error="new")
    visitor = await scene.visitor(user="ann")

    async def log_out(connection: Connection) -> None:
        (await scene.store.get(connection)).destroy()

    scene.storer.failing = {"read", "delete"}
    assert await scene.serve(visitor, log_out) == 500


@pytest.mark.parametrize("goes_on", [False, True], ids=["destroy", "destroy and flash"])
@pytest.mark.parametrize("kind", ENDING)
async def test_a_session_that_this_version_cannot_read_is_ended(kind: str, goes_on: bool) -> None:
    """F14, R7, V2: the request has proved its right to it; and its cookie is cleared, or replaced."""
    scene = Scene(kind, Other)
    carts = scene.another(Cart)
    visitor = await scene.visitor(user="ann", store=carts)
    old = visitor.copy()
    async with scene.request(visitor) as (session, _):
        assert session.is_new
        session.destroy()
        if goes_on:
            session.flash("bye")
    assert not await scene.is_alive(old, carts)
    assert bool(visitor.tokens) == goes_on
    assert visitor.tokens != old.tokens


WRITES = [("stored", "create"), ("stored", "replace"), ("revocable", "read"), ("guarded", "create")]
"""Where a save stands at the backend: a client-held session's login asks for the user's epoch, a guarded one counts."""


@pytest.mark.parametrize("by_method", [True, False], ids=["store.destroy", "session.destroy and save"])
@pytest.mark.parametrize(("kind", "call"), WRITES)
async def test_a_session_is_ended_while_a_save_is_at_the_backend(kind: str, call: str, by_method: bool) -> None:
    """F14, R7: what that save stores ends too, and no token of it is left with the client."""
    scene = Scene(kind)
    visitor = await scene.visitor() if call == "replace" else Visitor()
    sent: list[str] = []
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        session.value.note = "stored a moment later"
        session.set_user("ann")
        gate = scene.storer.stop_at(call)

        async def log_out() -> None:
            if by_method:
                await scene.store.destroy(session, visit.response)
            else:
                session.destroy()
                await scene.store.save(session, visit.response)

        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(scene.store.save, session, visit.response)
                await gate.reached.wait()
                tasks.start_soon(log_out)
                await anyio.wait_all_tasks_blocked()
                gate.open()
        sent += visit.sent
    for line in sent:
        name, _, text = line.partition(";")[0].partition("=")
        assert not await scene.is_alive(Visitor({name: text}))
    assert not await scene.is_alive(visitor)
    if kind == "stored":
        assert await scene.stored() == []
    assert (session.is_new, session.user_id, session.value, session.handle) == (True, None, Cart(), "")


@pytest.mark.parametrize("kind", ENDING)
async def test_a_request_that_is_cancelled_after_destroy_has_ended_its_session(kind: str) -> None:
    """F14, R7: from outside the middleware, as a server does when the client hangs up."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    waits = anyio.Event()

    async def log_out_and_wait(connection: Connection) -> None:
        (await scene.store.get(connection)).destroy()
        waits.set()
        await anyio.sleep_forever()

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.serve, visitor, log_out_and_wait)
            await waits.wait()
            tasks.cancel_scope.cancel()
    assert not await scene.is_alive(old)


@pytest.mark.parametrize("kind", ENDING)
async def test_a_request_that_is_cancelled_while_its_logout_is_at_the_backend_has_ended_its_session(kind: str) -> None:
    """F14, R7, S14: the middleware saves, and the client hangs up in between."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    gate = scene.storer.stop_at(*_ending(kind))

    async def log_out(connection: Connection) -> None:
        (await scene.store.get(connection)).destroy()

    with anyio.fail_after(SECONDS):
        await _cancelled_at(gate, scene.serve, visitor, log_out)
    assert not await scene.is_alive(old)


@pytest.mark.parametrize("by_method", [True, False], ids=["store.destroy", "session.destroy and save"])
@pytest.mark.parametrize("kind", ENDING)
async def test_a_logout_by_hand_that_is_cancelled_at_the_backend_has_ended_its_session(
    kind: str, by_method: bool
) -> None:
    """F14, S14: without a middleware."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    gate = scene.storer.stop_at(*_ending(kind))

    async def log_out() -> None:
        async with visitor.visit() as visit:
            session = await scene.store.get(visit.request)
            if by_method:
                await scene.store.destroy(session, visit.response)
            else:
                session.destroy()
                await scene.store.save(session, visit.response)

    with anyio.fail_after(SECONDS):
        await _cancelled_at(gate, log_out)
    assert not await scene.is_alive(old)


@pytest.mark.parametrize("kind", ENDING)
async def test_a_cancelled_request_writes_nothing_but_its_logout(kind: str) -> None:
    """F14, R10: what another session of that request had changed is not written."""
    scene = Scene(kind)
    side = scene.another(Cart, name="side")
    visitor = await scene.visitor(user="ann")
    async with scene.request(visitor, side) as (session, _):
        session.value.note = "before"
    old = visitor.copy()
    waits = anyio.Event()

    async def handler(connection: Connection) -> None:
        (await side.get(connection)).value.note = "changed"
        (await scene.store.get(connection)).destroy()
        waits.set()
        await anyio.sleep_forever()

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.serve, visitor, handler)
            await waits.wait()
            tasks.cancel_scope.cancel()
    assert not await scene.is_alive(old)
    assert (await scene.session_of(old, side)).value.note == "before"


@JUMPING
async def test_a_cancelled_logout_does_not_wait_for_ever_for_its_backend() -> None:
    """F14, S13: the shield has a bound."""
    scene = Scene("stored")
    visitor = await scene.visitor(user="ann")
    waits = anyio.Event()

    async def log_out_and_wait(connection: Connection) -> None:
        (await scene.store.get(connection)).destroy()
        waits.set()
        await anyio.sleep_forever()

    never_opened = scene.storer.stop_at("delete")
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.serve, visitor, log_out_and_wait)
            await waits.wait()
            tasks.cancel_scope.cancel()
    assert never_opened.reached.is_set(), "the logout was not tried"


def _ending(kind: str) -> tuple[str, ...]:
    """The calls of the storer that end a session."""
    return ("delete",) if kind == "stored" else ("create", "replace")


async def _cancelled_at(
    gate: Gate,
    function: Callable[..., Coroutine[Any, Any, Any]],  # Any: a coroutine function
    *args: Any,  # Any: its arguments
) -> None:
    """Run, cancel as soon as it stands before the gate, and open the gate then."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(function, *args)
        await gate.reached.wait()
        tasks.cancel_scope.cancel()
        gate.open()


@JUMPING
async def test_a_logout_that_its_backend_never_answers_says_that_it_may_not_have_ended() -> None:
    """F14, S13: StorerError within a bound, and the next save tries again."""
    scene = Scene("stored")
    visitor = await scene.visitor(user="ann")
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        gate = scene.storer.stop_at("delete")
        with pytest.raises(StorerError, match="may not have ended"):
            await scene.store.destroy(session, visit.response)
        gate.open()
        await scene.store.save(session, visit.response)
    assert await scene.stored() == []
