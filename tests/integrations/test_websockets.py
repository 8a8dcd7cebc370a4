"""WebSockets in five frameworks: a session is loaded in the handshake and told with it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
import pytest

from aiosessions import NoSessionError, ResponseStartedError, StorageOverseer
from aiosessions.asgi import Connection, SessionMiddleware
from aiosessions.testing import HandshakeDeniedError, signed_in
from tests.integrations.apps import FRAMEWORKS, House, Socket
from tests.integrations.stage import ASYNCIO, TRIO, Backend, Case, CountingStorer, Stage, some_combinations

SocketPage = Callable[[House, Any, Socket], Awaitable[None]]

Combination: TypeAlias = tuple[Case, Backend]

CASES: list[Combination] = [
    *((case, ASYNCIO) for framework in FRAMEWORKS for case in some_combinations(framework)),
    *((case, TRIO) for case in some_combinations("starlette")),
]

pytestmark = pytest.mark.anyio


def name_of(combination: Combination) -> str:
    case, backend = combination
    return str(case) if backend == ASYNCIO else f"{case}-trio"


@pytest.fixture(params=CASES, ids=name_of)
def combination(request: pytest.FixtureRequest) -> Combination:
    chosen: Combination = request.param
    return chosen


@pytest.fixture
def anyio_backend(combination: Combination) -> Backend:
    return combination[1]


async def look(house: House, request: Any, socket: Socket) -> None:
    session = await house.store.get(request)
    await socket.accept()
    await socket.send(f"{session.value.count} {session.user_id}")


async def greet(house: House, request: Any, socket: Socket) -> None:
    """Change before accepting."""
    session = await house.store.get(request)
    session.value.count += 1
    await socket.accept()
    await socket.send(str(session.value.count))


async def refuse(house: House, request: Any, socket: Socket) -> None:
    """Change, and deny."""
    session = await house.store.get(request)
    session.flash("not here")
    await socket.deny()


async def log_out(house: House, request: Any, socket: Socket) -> None:
    (await house.store.get(request)).destroy()
    await socket.accept()
    await socket.send("bye")


async def count(house: House, request: Any, socket: Socket) -> None:
    """Count messages, each at once."""
    session = await house.store.get(request)
    await socket.accept()
    while await socket.receive() != "stop":
        session.value.count += 1
        try:
            await house.store.save(session)
        except ResponseStartedError:
            session.value.count -= 1
            await socket.send("too late")
        else:
            await socket.send(str(session.value.count))


async def update(house: House, request: Any, socket: Socket) -> None:
    """Count messages, together with everybody else."""
    session = await house.store.get(request)
    await socket.accept()
    while await socket.receive() != "stop":
        try:
            value = await house.store.update(session, _increment)
        except NoSessionError:
            await socket.send("gone")
        else:
            await socket.send(str(value.count))


def _increment(basket: Any) -> None:
    basket.count += 1


SOCKETS: Mapping[str, SocketPage] = {page.__name__: page for page in (look, greet, refuse, log_out, count, update)}


@pytest.fixture
def stage(combination: Combination) -> Stage:
    stage = Stage(combination[0])
    stage.house.sockets = SOCKETS
    return stage


def told(stage: Stage, headers: Any) -> list[str]:
    if stage.case.is_cookie:
        return [line for line in headers.lines("set-cookie") if line.startswith("__Host-app")]
    lines: list[str] = headers.lines("session-app")
    return lines


async def test_a_session_is_loaded_in_the_handshake(stage: Stage) -> None:
    """R12, R2, R3: nothing is sent, and one read is made."""
    async with stage.open() as browser:
        async with browser.websocket("/ws/look") as socket:
            assert await socket.receive_text() == "0 None"
        assert told(stage, socket.headers) == []
        await browser.get("/login")
        stage.calls()
        async with browser.websocket("/ws/look") as socket:
            assert await socket.receive_text() == "0 ann"
        assert told(stage, socket.headers) == []
        assert stage.calls() == (["read"] if stage.case.is_stored else [])


async def test_a_change_before_accept_is_told_with_it(stage: Stage) -> None:
    """R12: the answer to the handshake sets the cookie."""
    async with stage.open() as browser:
        async with browser.websocket("/ws/greet") as socket:
            assert await socket.receive_text() == "1"
        assert len(told(stage, socket.headers)) == 1
        assert (await browser.get("/read")).text.startswith("1 known")


async def test_a_logout_before_accept_is_told_with_it(stage: Stage) -> None:
    """R12, R7."""
    async with stage.open() as browser:
        await browser.get("/login")
        async with browser.websocket("/ws/log_out") as socket:
            assert await socket.receive_text() == "bye"
        assert stage.token(browser) == ""
        assert await stage.storer.stored() == []


async def test_a_denied_handshake_tells_too(stage: Stage) -> None:
    """R12: below 500 everything is saved."""
    async with stage.open() as browser:
        with pytest.raises(HandshakeDeniedError) as denied:
            async with browser.websocket("/ws/refuse"):
                raise AssertionError("not reached")
        assert denied.value.response.status == 403
        assert len(told(stage, denied.value.response.headers)) == 1
        assert (await browser.get("/flashes")).text == "not here"


async def test_saving_later_works_unless_the_client_had_to_be_told(stage: Stage) -> None:
    """R12, R14: a stored session is written; a new one, or one that the client holds, cannot be told any more."""
    async with stage.open() as browser:
        async with browser.websocket("/ws/count") as socket:
            await socket.send_text("one")
            assert await socket.receive_text() == "too late"
            await socket.send_text("stop")
        assert await stage.storer.stored() == []

        await browser.get("/add")
        async with browser.websocket("/ws/count") as socket:
            for expected in ("2", "3"):
                await socket.send_text("more")
                assert await socket.receive_text() == (expected if stage.case.is_stored else "too late")
            await socket.send_text("stop")
        assert (await browser.get("/read")).text.startswith("3 known" if stage.case.is_stored else "1 known")


@pytest.mark.parametrize("combination", [each for each in CASES if each[0].is_stored], ids=name_of, indirect=True)
async def test_updates_count_together_with_other_requests_until_the_session_ends(stage: Stage) -> None:
    """R12, F3, F4: none is lost, and after a logout there is nothing to count."""
    async with stage.open() as browser:
        await browser.get("/add")
        async with browser.websocket("/ws/update") as socket:
            for expected in ("2", "4", "6"):
                await socket.send_text("more")
                assert await socket.receive_text() == expected
                await browser.get("/add")
            await browser.get("/destroy")
            await socket.send_text("more")
            assert await socket.receive_text() == "gone"
            await socket.send_text("stop")
        assert await stage.storer.stored() == []


class TestServersWithoutDenials:
    """Some servers cannot send a response to a refused handshake: there is only `websocket.close`."""

    @pytest.fixture(params=[ASYNCIO, TRIO], ids=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Backend:
        backend: Backend = request.param
        return backend

    @staticmethod
    async def _shake(store: StorageOverseer[dict[str, int]], change: str, cookie: bytes = b"") -> list[Any]:
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            session = await store.get(Connection(scope))
            if change.startswith("add"):
                session["count"] = session.get("count", 0) + 1
            if change == "rotate":
                session.regenerate()
            if change == "raise":
                session.destroy()
                raise RuntimeError("the handler failed")
            await send({"type": "websocket.accept"} if change.endswith("accept") else {"type": "websocket.close"})

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "scheme": "wss", "headers": [(b"cookie", cookie)]}
        await SessionMiddleware(app)(scope, anyio.sleep_forever, send)
        return sent

    async def test_what_needs_no_token_is_saved_and_no_rotation_locks_the_client_out(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R12, R8: a new token has no way, so the old one stays good."""
        storer = CountingStorer(clock=lambda: 1e9)
        store = StorageOverseer(dict[str, int], storer, clock=lambda: 1e9)
        async with store:
            credentials = await signed_in(store, "ann")
            cookie = credentials.headers["Cookie"].encode()
            storer.calls.clear()
            assert await self._shake(store, "add", cookie) == [{"type": "websocket.close"}]
            assert await self._shake(store, "rotate", cookie) == [{"type": "websocket.close"}]
            assert storer.calls == ["read", "replace", "read"]
            assert "session 'app' was not saved in 'websocket '" in caplog.text

    async def test_a_handshake_that_cannot_be_saved_for_is_closed(self) -> None:
        """R11, R12: never an open socket with an unsaved session."""
        storer = CountingStorer(clock=lambda: 1e9)
        store = StorageOverseer(dict[str, int], storer, clock=lambda: 1e9)
        storer.fails = lambda method, _: method == "create"
        async with store:
            assert await self._shake(store, "add and accept") == [{"type": "websocket.close", "code": 1011}]

    async def test_an_error_goes_on_when_there_is_no_way_to_answer(self) -> None:
        """R7: the record is gone all the same."""
        storer = CountingStorer(clock=lambda: 1e9)
        store = StorageOverseer(dict[str, int], storer, clock=lambda: 1e9)
        async with store:
            cookie = (await signed_in(store, "ann")).headers["Cookie"].encode()
            with pytest.raises(RuntimeError, match="the handler failed"):
                await self._shake(store, "raise", cookie)
            assert await storer.stored() == []
