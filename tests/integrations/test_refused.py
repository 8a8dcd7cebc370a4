"""Who is not logged in, or not lately: a 401 in five frameworks, unless the application says what to answer."""

import copy
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from aiosessions import (
    ConflictError,
    NoSessionError,
    NotAuthenticatedError,
    ReauthenticationError,
    SessionError,
    StorageOverseer,
)
from aiosessions.asgi import Connection, SessionMiddleware
from aiosessions.testing import Browser, HandshakeDeniedError, WebSocketClosedError, signed_in
from tests.integrations.apps import FRAMEWORKS, House, Page, Reply, Socket
from tests.integrations.stage import ASYNCIO, Backend, Case, CountingStorer, Stage

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


# the pages; each looks at a theme first, which is saved


async def log_in(house: House, request: Any) -> Reply:  # Any: each framework's own, here and below
    (await house.store.get(request)).set_user("ann")
    return Reply()


async def read(house: House, request: Any) -> Reply:
    basket, theme = await house.store.get(request), await house.theme.get(request)
    return Reply(f"{basket.value.count} {theme.value.color} {[flash.message for flash in theme.flashes(peek=True)]}")


async def change(house: House, request: Any) -> None:
    theme = await house.theme.get(request)
    theme.value.color = "dark"
    theme.flash("please log in")


async def user(house: House, request: Any) -> Reply:
    await change(house, request)
    return Reply((await house.store.get(request)).require_user())


async def stored(house: House, request: Any) -> Reply:
    await change(house, request)
    return Reply((await house.store.require(request)).name)


async def fresh(house: House, request: Any) -> Reply:
    await change(house, request)
    session = await house.store.get(request)
    await house.meanwhile()
    return Reply(session.require_fresh(timedelta(minutes=5)))


async def gone(house: House, request: Any) -> Reply:
    """An update of a session that somebody else ends."""
    await change(house, request)
    session = await house.store.get(request)
    await house.meanwhile()
    return Reply(str(await house.store.update(session, count_up)))


async def destroyed(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.destroy()
    return Reply(session.require_user())


async def broken(house: House, request: Any) -> Reply:
    """Nobody is there, and what was changed cannot be saved."""
    (await house.theme.get(request)).value.color = "x" * 300_000
    return Reply((await house.store.get(request)).require_user())


async def of_a_job(house: House, _: Any) -> Reply:
    """What `open` raises is about somebody else's session."""
    assert isinstance(house.store, StorageOverseer)
    await house.store.open("A" * 24, user_id="bob")
    return Reply("never seen")


async def in_a_job(house: House, request: Any) -> Reply:
    """And so is what a session raises that `open` gave."""
    assert isinstance(house.store, StorageOverseer)
    session = await house.store.get(request)
    opened = await house.store.open(session.handle, user_id="ann")
    opened.clear_user()
    return Reply(opened.require_user())


async def by_hand(_: House, __: Any) -> Reply:
    """The application's own word, about whatever it likes."""
    raise NotAuthenticatedError("the API key is wrong")


def count_up(basket: Any) -> None:
    basket.count += 1


PAGES: dict[str, Page] = {
    page.__name__: page
    for page in (log_in, read, user, stored, fresh, gone, destroyed, broken, of_a_job, in_a_job, by_hand)
}


async def early(house: House, request: Any, _: Socket) -> None:
    await change(house, request)
    (await house.store.get(request)).require_user()


async def late(house: House, request: Any, socket: Socket) -> None:
    session = await house.store.get(request)
    await socket.accept()
    await socket.send("hello")
    session.require_user()


async def job(_: House, __: Any, socket: Socket) -> None:
    await socket.accept()
    await socket.send("hello")
    raise NotAuthenticatedError("the API key is wrong")


SOCKETS = {socket.__name__: socket for socket in (early, late, job)}


@pytest.fixture(params=FRAMEWORKS)
def stage(request: pytest.FixtureRequest) -> Stage:
    stage = Stage(Case(request.param, "storage", "cookie", "plain"), pages=PAGES)
    stage.house.sockets = SOCKETS
    return stage


async def an_hour(stage: Stage) -> None:
    stage.clock.advance(timedelta(hours=1))


async def everybody_out(stage: Stage) -> None:
    assert isinstance(stage.house.store, StorageOverseer)
    await stage.house.store.delete_user_sessions("ann")


@pytest.mark.parametrize(
    ("page", "meanwhile"), [("user", None), ("stored", None), ("fresh", an_hour), ("gone", everybody_out)]
)
async def test_an_error_about_the_requests_own_session_is_a_401_and_everything_is_saved(
    stage: Stage, page: str, meanwhile: Callable[[Stage], Awaitable[None]] | None
) -> None:
    """R10: value and flashes, and the token that tells of them; the challenge is what HTTP asks of a 401."""

    async def run() -> None:
        assert meanwhile is not None
        await meanwhile(stage)

    stage.house.meanwhile = run
    async with stage.open() as browser:
        if meanwhile is not None:
            await browser.get("/log_in")
        response = await browser.get(f"/{page}")
        assert (response.status, response.text) == (401, "Unauthorized")
        assert response.headers.lines("www-authenticate") == ["Session"]
        assert len(stage.told(response, "theme")) == 1
        assert (await browser.get("/read")).text == "0 dark ['please log in']"
        if page != "gone":
            await browser.get("/log_in")
        assert (await browser.get("/user")).status == (401 if page == "gone" else 200)


async def test_a_destroy_is_carried_out_with_the_401(stage: Stage) -> None:
    """R7, R10."""
    async with stage.open() as browser:
        await browser.get("/log_in")
        response = await browser.get("/destroyed")
        assert (response.status, len(stage.told(response)), stage.token(browser)) == (401, 1, "")
        assert await stage.storer.stored() == []


async def test_a_401_that_cannot_be_saved_for_is_an_error_like_others(stage: Stage) -> None:
    """R11: answered once."""
    async with stage.open() as browser:
        response = await browser.get("/broken")
        assert (response.status, response.text, response.set_cookies) == (500, "Internal Server Error", [])


@pytest.mark.parametrize("kind", [NotAuthenticatedError, NoSessionError, LookupError, SessionError])
async def test_a_handler_of_the_error_or_of_a_base_of_it_answers(stage: Stage, kind: type[Exception]) -> None:
    """R10: and its status decides what is saved."""
    stage.house.answers = {kind: Reply("the login page", 403)}
    async with stage.open() as browser:
        response = await browser.get("/user")
        assert (response.status, response.text) == (403, "the login page")
        assert len(stage.told(response, "theme")) == 1


@pytest.mark.parametrize("kind", [ReauthenticationError, SessionError])
async def test_a_handler_of_an_old_login_answers(stage: Stage, kind: type[Exception]) -> None:
    """R10: ReauthenticationError has its own."""

    async def later() -> None:
        await an_hour(stage)

    stage.house.meanwhile = later
    stage.house.answers = {kind: Reply("your password, please", 403), ConflictError: Reply("never seen")}
    async with stage.open() as browser:
        await browser.get("/log_in")
        assert (await browser.get("/fresh")).text == "your password, please"


@pytest.mark.parametrize("stage", [name for name in FRAMEWORKS if name != "aiohttp"], indirect=True)
async def test_a_handler_for_every_exception_is_not_asked(stage: Stage) -> None:
    """R10: it is there for what nobody expected; aiohttp has none, and a middleware says what it catches."""
    stage.house.answers = {Exception: Reply("sorry", 503)}
    async with stage.open() as browser:
        assert (await browser.get("/user")).status == 401
        response = await browser.get("/by_hand")
        assert (response.status, response.text) == (503, "sorry")


@pytest.mark.parametrize("page", ["of_a_job", "in_a_job", "by_hand"])
async def test_an_error_about_another_session_is_the_applications(stage: Stage, page: str) -> None:
    """R10: what `open` raises, and a session that it gave, and the application itself: nobody is to log in for it."""
    async with stage.open() as browser:
        await browser.get("/log_in")
        assert (await browser.get(f"/{page}")).status == 500


# websockets


async def test_a_handshake_of_nobody_is_denied_with_403(stage: Stage) -> None:
    """R12, R10: and what was changed is saved and told."""
    async with stage.open() as browser:
        with pytest.raises(HandshakeDeniedError) as denied:
            async with browser.websocket("/ws/early"):
                raise AssertionError("not reached")
        assert denied.value.response.status == 403
        assert len(stage.told(denied.value.response, "theme")) == 1
        assert (await browser.get("/read")).text == "0 dark ['please log in']"


async def test_an_accepted_socket_of_nobody_is_closed_with_1008(stage: Stage) -> None:
    """R12: whatever code the framework has for an error."""
    async with stage.open() as browser, browser.websocket("/ws/late") as socket:
        assert await socket.receive_text() == "hello"
        with pytest.raises(WebSocketClosedError) as closed:
            await socket.receive_text()
    assert closed.value.code == 1008


async def test_an_accepted_socket_with_an_error_of_the_application_is_not(stage: Stage) -> None:
    """R12: the framework's own code stays."""
    async with stage.open() as browser, browser.websocket("/ws/job") as socket:
        assert await socket.receive_text() == "hello"
        with pytest.raises(WebSocketClosedError) as closed:
            await socket.receive_text()
    assert closed.value.code != 1008


# applications inside of others


@pytest.fixture
def storer() -> CountingStorer:
    return CountingStorer(clock=lambda: 1e9)


@pytest.fixture
def store(storer: CountingStorer) -> StorageOverseer[dict[str, int]]:
    return StorageOverseer(dict[str, int], storer, clock=lambda: 1e9)


@pytest.mark.parametrize(("error", "status"), [("user", 401), ("conflict", 409)])
async def test_an_application_that_is_mounted_makes_no_500_of_it(
    store: StorageOverseer[dict[str, int]], error: str, status: int
) -> None:
    """R16, R10: Starlette's outermost layer answers every error as it passes, also that of a mounted application."""

    async def page(request: Request) -> Response:
        session = await store.get(request)
        session["count"] = 1
        if error == "conflict":
            raise ConflictError("lost")
        return PlainTextResponse(session.require_user())

    inner = Starlette(routes=[Route("/", page)])
    outer = Starlette(
        routes=[Mount("/inner", inner), Mount("/app", SessionMiddleware(inner))],
        middleware=[Middleware(SessionMiddleware, stores=[store])],
    )
    for app, path in ((outer, "/inner/"), (outer, "/app/"), (SessionMiddleware(inner, stores=[store]), "/")):
        async with Browser(app) as browser:
            response = await browser.get(path)
            assert (response.status, len(response.set_cookies)) == (status, status == 401)


async def test_an_error_in_the_middle_of_a_stream_goes_on(store: StorageOverseer[dict[str, int]]) -> None:
    """R10: another answer has begun; the server ends the connection."""

    async def page(request: Request) -> Response:
        session = await store.get(request)

        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun"
            yield session.require_user().encode()

        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/", page)], middleware=[Middleware(SessionMiddleware, stores=[store])])
    async with Browser(app) as browser:
        with pytest.raises(NotAuthenticatedError):
            await browser.get("/")


@pytest.mark.parametrize("how", ["closed before", "client gone"])
async def test_a_socket_that_is_closed_already_is_not_closed_again(
    store: StorageOverseer[dict[str, int]], how: str
) -> None:
    """R12: after the application's own close the error is the server's to log; a client that went is no error."""
    sent: list[Any] = []

    async def app(scope: Any, _: Any, send: Any) -> None:
        session = await store.get(Connection(scope))
        await send({"type": "websocket.accept"})
        if how == "closed before":
            await send({"type": "websocket.close", "code": 4401})
        session.require_user()

    async def send(message: Any) -> None:
        if how == "client gone" and message["type"] == "websocket.close":
            raise OSError("the client is gone")
        sent.append((message["type"], message.get("code")))

    scope: Any = {"type": "websocket", "scheme": "wss", "headers": []}
    async with store:
        if how == "closed before":
            with pytest.raises(NotAuthenticatedError):
                await SessionMiddleware(app)(scope, anyio.sleep_forever, send)
            assert sent == [("websocket.accept", None), ("websocket.close", 4401)]
        else:
            await SessionMiddleware(app)(scope, anyio.sleep_forever, send)


async def test_the_error_shows_no_token_and_can_be_pickled(store: StorageOverseer[dict[str, int]]) -> None:
    """V8: it knows its request, and says nothing of it."""
    async with store:
        credentials = await signed_in(store, "ann")
        cookie = credentials.headers["Cookie"].encode()
        session = await store.get(Connection({"type": "http", "headers": [(b"cookie", cookie)]}))
        session.clear_user()
        with pytest.raises(NotAuthenticatedError) as raised:
            session.require_user()
    for error in (raised.value, copy.copy(raised.value), pickle.loads(pickle.dumps(raised.value))):  # ours
        assert vars(error) == {}
        assert str(error) == "session 'app' has no user: call set_user() first"
