"""The ASGI middleware: nested, mounted, beside others, with an application that fails, and as a lifespan."""

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import anyio
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware as Theirs
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from aiosessions import (
    AESGCMSealer,
    ConflictError,
    CookieOverseer,
    HeaderTransport,
    Lifetime,
    MappingSession,
    MemoryStorer,
    SessionError,
    StorageOverseer,
    Store,
    StorerError,
    new_key,
)
from aiosessions.asgi import Connection, SessionMiddleware
from aiosessions.testing import Browser, Clock, LifespanError
from tests.integrations.stage import CountingStorer, OpenStorer

pytestmark = pytest.mark.anyio

Scope: TypeAlias = Any
Receive: TypeAlias = Any
Send: TypeAlias = Any
Message: TypeAlias = Any
"""Any: what ASGI hands around"""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storer(clock: Clock) -> CountingStorer:
    return CountingStorer(clock=clock)


@pytest.fixture
def store(storer: CountingStorer, clock: Clock) -> StorageOverseer[dict[str, int]]:
    return StorageOverseer(dict[str, int], storer, clock=clock)


def counter(store: Store[dict[str, int]]) -> Callable[[Request], Awaitable[Response]]:
    async def count(request: Request) -> Response:
        session = await store.get(request)
        session["count"] = session.get("count", 0) + 1
        return PlainTextResponse(str(session["count"]))

    return count


class TestNesting:
    async def test_the_outermost_of_several_middlewares_saves(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R16, R9: one write, one cookie; the cleaner is started once and stopped once."""
        page = Starlette(routes=[Route("/", counter(store))])
        app = SessionMiddleware(SessionMiddleware(SessionMiddleware(page, stores=[store])), stores=[store])
        async with Browser(app) as browser:
            response = await browser.get("/")
            assert len(response.set_cookies) == 1
            assert storer.calls == ["create"]
            assert (await browser.get("/")).text == "2"
            assert storer.calls == ["create", "read", "replace"]

    async def test_what_a_layer_between_two_middlewares_changes_is_saved_too(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R16: the outermost saves, so nothing inside it comes too late."""
        page = SessionMiddleware(Starlette(routes=[Route("/", counter(store))]))

        async def between(scope: Scope, receive: Receive, send: Send) -> None:
            async def late(message: Message) -> None:
                if message["type"] == "http.response.start":
                    (await store.get(Connection(scope)))["count"] += 10
                await send(message)

            await page(scope, receive, late)

        async with Browser(SessionMiddleware(between), clock=store.now) as browser, store:
            await browser.get("/")
            assert storer.calls == ["create"]
            assert (await browser.get("/")).text == "12"

    async def test_an_application_can_be_mounted(self, store: StorageOverseer[dict[str, int]]) -> None:
        """R16: with a middleware of its own, under one that has another."""
        inner = Starlette(
            routes=[Route("/", counter(store))], middleware=[Middleware(SessionMiddleware, stores=[store])]
        )
        outer = Starlette(
            routes=[Mount("/inner", inner), Route("/", counter(store))],
            middleware=[Middleware(SessionMiddleware, stores=[store])],
        )
        async with Browser(outer) as browser:
            assert (await browser.get("/inner/")).text == "1"
            assert (await browser.get("/")).text == "2"

    async def test_a_mounted_application_whose_lifespan_nobody_runs_is_named(
        self, store: StorageOverseer[dict[str, int]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """R16: Starlette runs the outer application's alone; the store opens itself, and says once what to do."""
        inner = Starlette(
            routes=[Route("/", counter(store))], middleware=[Middleware(SessionMiddleware, stores=[store])]
        )
        async with Browser(Starlette(routes=[Mount("/inner", inner)])) as browser:
            assert [(await browser.get("/inner/")).text for _ in range(2)] == ["1", "2"]
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "was not opened" in warning
        assert warning.endswith(
            "of an application that is mounted in another nobody runs the lifespan: give its stores to the outer one"
        )

    async def test_a_middleware_further_out_may_look_first(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R16, R5: what it changes before the handler is saved with the rest, and loaded once."""

        class Greeter(BaseHTTPMiddleware):
            async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
                session = await store.get(request)
                session["seen"] = session.get("seen", 0) + 1
                return await call_next(request)

        app = Starlette(
            routes=[Route("/", counter(store))],
            middleware=[Middleware(Greeter), Middleware(SessionMiddleware, stores=[store])],
        )
        async with Browser(app) as browser:
            await browser.get("/")
            storer.calls.clear()
            assert (await browser.get("/")).text == "2"
            assert storer.calls == ["read", "replace"]

    async def test_a_middleware_further_in_may_answer_in_the_handlers_place(
        self, store: StorageOverseer[dict[str, int]]
    ) -> None:
        """R16, R10: BaseHTTPMiddleware runs the handler in a task of its own."""

        class Answerer(BaseHTTPMiddleware):
            async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
                await call_next(request)
                return PlainTextResponse("another answer", 404)

        app = Starlette(
            routes=[Route("/", counter(store))],
            middleware=[Middleware(SessionMiddleware, stores=[store]), Middleware(Answerer)],
        )
        async with Browser(app) as browser:
            response = await browser.get("/")
            assert (response.status, response.text) == (404, "another answer")
            assert len(response.set_cookies) == 1

    async def test_a_middleware_further_in_may_keep_what_it_sent(self, store: StorageOverseer[dict[str, int]]) -> None:
        """R9: a cache keeps its own messages; nobody's token gets into them."""
        kept: list[Message] = []

        async def cached(scope: Scope, receive: Receive, send: Send) -> None:
            await counter(store)(Request(scope))
            kept.append({"type": "http.response.start", "status": 200, "headers": [(b"x-cached", b"yes")]})
            await send(kept[0])
            await send({"type": "http.response.body", "body": b""})

        async with Browser(SessionMiddleware(cached, stores=[store])) as browser:
            assert len((await browser.get("/")).set_cookies) == 1
        assert kept[0]["headers"] == [(b"x-cached", b"yes")]

    async def test_other_kinds_of_connections_pass_through(self) -> None:
        """R16: what is neither http nor websocket nor lifespan is not ours."""
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["type"])

        await SessionMiddleware(app)({"type": "future"}, anyio.sleep_forever, anyio.sleep)
        assert seen == ["future"]

    async def test_messages_before_the_headers_pass_through(self, store: StorageOverseer[dict[str, int]]) -> None:
        """R10: early hints do not carry tokens, and what follows does."""
        sent: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.early_hint", "links": []})
            await counter(store)(Request(scope))
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": "http", "scheme": "https", "headers": []}
        async with store:
            await SessionMiddleware(app)(scope, anyio.sleep_forever, send)
        assert [message["type"].rpartition(".")[2] for message in sent] == ["early_hint", "start", "body"]
        assert b"set-cookie" in dict(sent[1]["headers"])


class TestFailures:
    @pytest.fixture
    def app(self, store: StorageOverseer[dict[str, int]]) -> Starlette:
        async def log_in(request: Request) -> Response:
            (await store.get(request)).set_user("ann")
            return Response()

        async def log_out_and_fail(request: Request) -> Response:
            (await store.get(request)).destroy()
            raise RuntimeError("the handler failed")

        async def conflict(request: Request) -> Response:
            (await store.get(request))["count"] = 1
            raise ConflictError("lost")

        async def huge(request: Request) -> Response:
            (await store.get(request))["x" * 300_000] = 1
            return Response()

        async def handled(request: Request, error: Exception) -> Response:
            return PlainTextResponse(f"handled {type(error).__name__}", 404)

        app = Starlette(
            routes=[
                Route("/login", log_in),
                Route("/logout", log_out_and_fail),
                Route("/conflict", conflict),
                Route("/huge", huge),
            ],
            middleware=[Middleware(SessionMiddleware, stores=[store])],
        )
        app.state.handled = handled
        return app

    async def test_a_logout_is_told_even_by_a_crash(self, app: Starlette, storer: CountingStorer) -> None:
        """R7: the 500 that is made outside knows nothing of tokens, so the middleware makes it; the error goes on."""
        async with Browser(app) as browser:
            await browser.get("/login")
            with pytest.raises(RuntimeError, match="the handler failed"):
                await browser.get("/logout")
            assert len(browser.cookies) == 0
            assert await storer.stored() == []

    async def test_a_lost_race_is_a_409_unless_the_application_handles_it(
        self, app: Starlette, storer: CountingStorer
    ) -> None:
        """R10: and then its status decides."""
        async with Browser(app) as browser:
            response = await browser.get("/conflict")
            assert (response.status, response.text) == (409, "Conflict")
            assert await storer.stored() == []
        app.add_exception_handler(ConflictError, app.state.handled)
        app.middleware_stack = None
        async with Browser(app) as browser:
            assert (await browser.get("/conflict")).text == "handled ConflictError"
            assert len(await storer.stored()) == 1

    async def test_an_error_of_the_middlewares_save_is_a_500_unless_the_application_handles_it(
        self, app: Starlette, storer: CountingStorer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R11: the page's own response has been thrown away; without a handler the log says what happened."""
        async with Browser(app) as browser:
            response = await browser.get("/huge")
        assert (response.status, response.text) == (500, "Internal Server Error")
        assert "session 'app' was not saved in 'GET /huge'" in caplog.text
        app.add_exception_handler(SessionError, app.state.handled)
        app.middleware_stack = None
        async with Browser(app) as browser:
            response = await browser.get("/huge")
        assert (response.status, response.text) == (404, "handled SessionTooLargeError")
        assert await storer.stored() == []

    async def test_an_application_of_no_framework_may_say_how_a_failed_save_is_answered(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R11: `on_save_error`; where it says nothing, the answer is ours."""

        async def answer(scope: Scope, error: SessionError) -> Response | None:
            return PlainTextResponse(f"{scope['path']}: {error}", 503) if isinstance(error, StorerError) else None

        async def page(scope: Scope, receive: Receive, send: Send) -> None:
            session = await store.get(Request(scope))
            session["x" * (300_000 if scope["path"] == "/huge" else 1)] = 1
            await Response()(scope, receive, send)

        storer.fails = lambda method, _: method == "create"
        async with Browser(SessionMiddleware(page, stores=[store], on_save_error=answer)) as browser:
            response = await browser.get("/away")
            assert (response.status, response.text) == (503, "/away: create failed")
            assert (await browser.get("/huge")).status == 500

    async def test_a_path_cannot_forge_a_line_of_the_log(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """F12: it may hold anything, and be as long as it likes."""

        async def page(scope: Scope, receive: Receive, send: Send) -> None:
            await counter(store)(Request(scope))
            await Response()(scope, receive, send)

        storer.fails = lambda method, _: method == "create"
        async with Browser(SessionMiddleware(page, stores=[store])) as browser:
            await browser.get("/%0AINFO%20all%20is%20well" + "%1B" * 1000)
        (line,) = [record.getMessage() for record in caplog.records if "was not saved" in record.getMessage()]
        assert line.startswith(r"session 'app' was not saved in 'GET /\nINFO all is well\x1b")
        assert len(line) < 400

    async def test_an_application_that_goes_on_after_a_failed_save_speaks_to_nobody(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R11: it sees the error, so that a stream can stop; an answer of its own comes too late."""
        seen: list[str] = []
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await counter(store)(Request(scope))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            except StorerError as error:
                seen.append(str(error))
            await PlainTextResponse("another answer", 418)(scope, receive, send)

        storer.fails = lambda method, _: method == "create"
        async with store:
            scope: Scope = {"type": "http", "scheme": "https", "headers": []}
            await SessionMiddleware(app)(scope, anyio.sleep_forever, send)
        assert [message.get("status", message.get("body")) for message in sent] == [500, b"Internal Server Error"]
        assert seen == ["create failed"]

    async def test_a_backend_that_cannot_delete_still_clears_the_cookie(
        self, app: Starlette, storer: CountingStorer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R7, R11: the answer is an error, and the log says that the record is there."""
        async with Browser(app, raise_app_exceptions=False) as browser:
            await browser.get("/login")
            storer.fails = lambda method, _: method == "delete"
            response = await browser.get("/logout")
            assert (response.status, len(browser.cookies)) == (500, 0)
        assert "could not be destroyed" in caplog.text

    async def test_an_error_in_the_middle_of_a_stream_goes_on(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R10: what was saved with the headers stays; the server ends the connection."""

        async def chunks() -> AsyncGenerator[bytes]:
            yield b"begun"
            raise ConflictError("too late for a 409")

        async def stream(request: Request) -> Response:
            await counter(store)(request)
            return StreamingResponse(chunks())

        app = Starlette(routes=[Route("/", stream)], middleware=[Middleware(SessionMiddleware, stores=[store])])
        async with Browser(app) as browser:
            with pytest.raises(ConflictError):
                await browser.get("/")
            assert len(browser.cookies) == len(await storer.stored()) == 1


class TestOneRequest:
    async def test_tasks_that_look_at_once_share_one_load(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R5: the others wait for it."""

        async def page(request: Request) -> Response:
            found: list[int] = []

            async def look() -> None:
                found.append(id(await store.get(request)))

            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(look)
            return PlainTextResponse(str(len(found) - len(set(found))))

        app = Starlette(
            routes=[Route("/", page), Route("/count", counter(store))],
            middleware=[Middleware(SessionMiddleware, stores=[store])],
        )
        async with Browser(app) as browser:
            await browser.get("/count")
            storer.calls.clear()
            storer.delay = anyio.lowlevel.checkpoint
            assert (await browser.get("/")).text == "4"
            assert storer.calls == ["read"]

    async def test_a_load_that_failed_is_tried_again(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R5, S13: the next `get` of the same request asks the backend again."""

        async def page(request: Request) -> Response:
            storer.fails = lambda _, __: True
            with pytest.raises(StorerError):
                await store.get(request)
            storer.fails = lambda _, __: False
            return await counter(store)(request)

        app = Starlette(routes=[Route("/", page), Route("/count", counter(store))])
        async with Browser(SessionMiddleware(app, stores=[store])) as browser:
            await browser.get("/count")
            assert (await browser.get("/")).text == "2"

    async def test_an_answer_does_not_wait_for_a_look_that_still_waits(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R2: it says that it varies; there is nothing to save."""

        async def page(scope: Scope, receive: Receive, send: Send) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.get, Connection(scope))
                await anyio.wait_all_tasks_blocked()
                await PlainTextResponse("hello")(scope, receive, send)
                tasks.cancel_scope.cancel()

        async with Browser(SessionMiddleware(page, stores=[store])) as browser:
            await browser.sign_in(store, "ann")
            storer.delay = anyio.sleep_forever
            response = await browser.get("/")
        assert (response.text, response.headers["vary"], response.set_cookies) == ("hello", "Cookie", [])

    def test_a_connection_is_a_request_of_no_framework(self) -> None:
        """DESIGN 3, V8: it has headers, and the scope that `store.get` reads; a traceback shows neither."""
        connection = Connection({"type": "http", "headers": [(b"accept", b"text/html")]})
        assert connection.headers == {"accept": "text/html"}
        assert repr(connection) == "<Connection http>"


class TestRefresh:
    async def test_a_session_nobody_looks_at_stays_alive_under_traffic(self, clock: Clock) -> None:
        """R17: one read per request, one touch per window."""
        storer = CountingStorer(clock=clock)
        store = StorageOverseer(dict[str, int], storer, lifetime=Lifetime(timedelta(hours=1)), clock=clock)

        async def nothing(request: Request) -> Response:
            return Response()

        app = Starlette(
            routes=[Route("/", nothing), Route("/count", counter(store))],
            middleware=[Middleware(SessionMiddleware, stores=[store], refresh=[store])],
        )
        async with Browser(app, clock=clock) as browser:
            await browser.get("/")
            assert storer.calls == []
            await browser.get("/count")
            storer.calls.clear()
            for _ in range(4):
                clock.advance(timedelta(minutes=40))
                assert (await browser.get("/")).set_cookies == []
                await browser.get("/")
            assert storer.calls == ["read", "touch", "read"] * 4
            assert (await browser.get("/count")).text == "2"

    async def test_a_backend_that_is_away_does_not_stop_who_needs_no_session(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R17: who does look sees the error."""

        async def nothing(request: Request) -> Response:
            return Response()

        app = Starlette(
            routes=[Route("/", nothing), Route("/count", counter(store))],
            middleware=[Middleware(SessionMiddleware, stores=[store], refresh=[store])],
        )
        async with Browser(app) as browser:
            await browser.get("/count")
            storer.fails = lambda _, __: True
            assert (await browser.get("/")).status == 200
            assert "session 'app' could not be refreshed" in caplog.text
            with pytest.raises(StorerError):
                await browser.get("/count")


class TestRequestSession:
    async def test_older_code_finds_its_session_where_starlette_has_it(self) -> None:
        """DESIGN 3: what Authlib does with `request.session`, and what logs out in older code."""
        store = CookieOverseer(dict[str, Any], AESGCMSealer(new_key()))

        async def begin(request: Request) -> Response:
            request.session["_state_github_x1"] = {"data": {"redirect_uri": "https://a/b"}, "exp": 1.5}
            request.session.setdefault("next", "/home")
            return Response()

        async def callback(request: Request) -> Response:
            stale = [key for key in request.session if key.startswith("_state_")]
            found = request.session.pop(stale[0])
            return JSONResponse({"found": found, "next": request.session.get("next"), "left": dict(request.session)})

        async def clear(request: Request) -> Response:
            request.session.clear()
            return JSONResponse("next" in request.session)

        app = Starlette(
            routes=[Route("/begin", begin), Route("/callback", callback), Route("/clear", clear)],
            middleware=[Middleware(SessionMiddleware, request_session=store)],
        )
        async with Browser(app) as browser:
            assert len((await browser.get("/begin")).set_cookies) == 1
            assert (await browser.get("/callback")).json() == {
                "found": {"data": {"redirect_uri": "https://a/b"}, "exp": 1.5},
                "next": "/home",
                "left": {"next": "/home"},
            }
            assert (await browser.get("/clear")).json() is False

    @pytest.mark.parametrize("is_outside", [True, False], ids=["outside", "inside"])
    async def test_another_middleware_of_this_kind_is_named_once_and_does_not_fail(
        self, is_outside: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """DESIGN 3: which one wins, and how to order them; Starlette's would fail to write a session of ours."""
        store = CookieOverseer(dict[str, Any], AESGCMSealer(new_key()))

        async def count(request: Request) -> Response:
            request.session["count"] = request.session.get("count", 0) + 1
            return PlainTextResponse(f"{request.session['count']} {isinstance(request.session, MappingSession)}")

        async def refuse(request: Request) -> Response:
            request.session["count"] = 10
            raise ConflictError("lost")

        async def handled(_: Request, error: Exception) -> Response:
            return PlainTextResponse(f"handled {error}", 404)

        ours = Middleware(SessionMiddleware, request_session=store)
        theirs = Middleware(Theirs, secret_key="secret")
        app = Starlette(
            routes=[Route("/", count), Route("/refuse", refuse)],
            middleware=[theirs, ours] if is_outside else [ours, theirs],
            exception_handlers={ConflictError: handled},
        )
        async with Browser(app) as browser:
            assert (await browser.get("/")).text == f"1 {is_outside}"
            response = await browser.get("/")
            assert response.text == f"2 {is_outside}"
            assert [line.partition("=")[0] for line in response.set_cookies] == [
                "__Host-app" if is_outside else "session"
            ]
            assert (await browser.get("/refuse")).text == "handled lost"
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "request.session is put there by SessionMiddleware and by another middleware: "
            + (
                "ours wins, and the one outside of it is not seen: remove that one, or have it inside"
                if is_outside
                else "the one inside of it wins, and ours is not seen: remove that one, or have it outside"
            )
        ]

    async def test_two_of_ours_are_no_mistake(self, caplog: pytest.LogCaptureFixture) -> None:
        """R16: an application that is mounted may have another `request.session` than the one around it."""
        stores = [CookieOverseer(dict[str, Any], AESGCMSealer(new_key()), name=name) for name in ("app", "admin")]

        async def name(request: Request) -> Response:
            request.session["count"] = 1
            return PlainTextResponse(request.session.name)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # ours

        inner, outer = (Middleware(SessionMiddleware, request_session=store) for store in reversed(stores))
        admin = Starlette(routes=[Route("/", name)], middleware=[inner])
        app = Starlette(routes=[Route("/", name), Mount("/admin", admin)], middleware=[outer])
        async with Browser(app) as browser:
            assert [(await browser.get(path)).text for path in ("/", "/admin/")] == ["app", "admin"]
        assert caplog.records == []


class TestLifespan:
    async def test_stores_are_opened_before_the_application_and_closed_after_it(self) -> None:
        """R16, S16: once, however many stores and middlewares share the storer."""
        storer = OpenStorer()
        stores = [StorageOverseer(dict[str, int], storer, name=name) for name in ("a", "b")]

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            storer.log.append("application starts")
            yield
            storer.log.append("application stops")

        app = SessionMiddleware(SessionMiddleware(Starlette(lifespan=lifespan), stores=stores), stores=stores)
        async with Browser(app):
            assert storer.log == ["open", "application starts"]
        assert storer.log == ["open", "application starts", "application stops", "close"]

    @pytest.mark.parametrize("error", [StorerError("no backend at host:1"), OSError("no backend at host:1")])
    async def test_a_store_that_cannot_be_opened_is_a_failed_start(self, error: Exception) -> None:
        """R16: the application does not start, and stores that were opened are closed."""
        first, second = OpenStorer(), OpenStorer(error)
        stores = [StorageOverseer(dict[str, int], storer, name=name) for name, storer in (("a", first), ("b", second))]
        started: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            started.append(scope["type"])

        with pytest.raises(LifespanError, match="no backend at host:1"):
            async with Browser(SessionMiddleware(app, stores=stores)):
                raise AssertionError("not reached")
        assert started == []
        assert first.log == ["open", "close"]

    @pytest.mark.parametrize("error", [StorerError("no backend at host:1"), OSError("no backend at host:1")])
    def test_starlettes_test_client_gets_the_error_of_a_store_that_cannot_be_opened(self, error: Exception) -> None:
        """R16: and does not wait for ever, as for an application that ends after it has failed to start."""
        store = StorageOverseer(dict[str, int], OpenStorer(error))
        app = Starlette(middleware=[Middleware(SessionMiddleware, stores=[store])])
        with pytest.raises(type(error), match="no backend at host:1"), TestClient(app):
            raise AssertionError("not reached")

    async def test_an_application_that_fails_to_start_has_its_stores_closed(self) -> None:
        """R16."""
        storer = OpenStorer()

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncGenerator[None]:
            if not app.routes:
                raise RuntimeError("no configuration")
            yield

        store = StorageOverseer(dict[str, int], storer)
        app = Starlette(lifespan=lifespan, middleware=[Middleware(SessionMiddleware, stores=[store])])
        with pytest.raises(LifespanError, match="no configuration"):
            async with Browser(app):
                raise AssertionError("not reached")
        assert storer.log == ["open", "close"]

    async def test_an_error_of_the_applications_own_lifespan_goes_on(self) -> None:
        """R16: the server says what it makes of it."""
        storer = OpenStorer()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            raise RuntimeError("while starting")

        async def receive() -> Message:
            return {"type": "lifespan.startup"}

        middleware = SessionMiddleware(app, stores=[StorageOverseer(dict[str, int], storer)])
        with pytest.raises(RuntimeError, match="while starting"):
            await middleware({"type": "lifespan"}, receive, anyio.sleep)
        assert storer.log == ["open", "close"]

    @pytest.mark.parametrize("raises", [True, False])
    async def test_an_application_without_a_lifespan_gets_one(self, raises: bool) -> None:
        """R16: whether it raises or returns at once, which are ASGI's two ways to have none."""
        storer = OpenStorer()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                if raises:
                    raise ValueError("no lifespan")
                return
            await Response("hello")(scope, receive, send)

        async with Browser(SessionMiddleware(app, stores=[StorageOverseer(dict[str, int], storer)])) as browser:
            assert (await browser.get("/")).text == "hello"
            assert storer.log == ["open"]
        assert storer.log == ["open", "close"]

    async def test_a_store_may_be_left_in_another_task(self) -> None:
        """R16: as fixtures and frameworks do."""
        storer = OpenStorer()
        store = StorageOverseer(dict[str, int], storer, clean_every=timedelta(hours=1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.__aenter__)
            await anyio.wait_all_tasks_blocked()
        assert storer.log == ["open"]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.__aexit__, None, None, None)
        assert storer.log == ["open", "close"]


class TestCycles:
    @pytest.mark.parametrize("path", ["/read", "/count", "/login", "/logout", "/missing", "/user"])
    async def test_a_request_leaves_nothing_for_the_garbage_collector(
        self, store: StorageOverseer[dict[str, int]], path: str
    ) -> None:
        """DESIGN 4: no reference cycles between scope, request and session."""

        async def page(scope: Scope, receive: Receive, send: Send) -> None:
            session = await store.get(Request(scope))
            if path == "/count":
                session["count"] = session.get("count", 0) + 1
            if path == "/login":
                session.set_user("ann")
                session.flash("hello")
            if path == "/logout":
                session.destroy()
            if path == "/user":
                session.require_user()
            await send({"type": "http.response.start", "status": 404 if path == "/missing" else 200, "headers": []})
            await send({"type": "http.response.body"})

        app = SessionMiddleware(page)
        cookie = b""

        async def request() -> None:
            async def send(message: Message) -> None:
                nonlocal cookie
                for name, value in message.get("headers", ()):
                    if name == b"set-cookie":
                        cookie = value.partition(b";")[0]

            await app({"type": "http", "scheme": "https", "headers": [(b"cookie", cookie)]}, anyio.sleep_forever, send)

        async with store:
            for _ in range(3):
                await request()
            gc.collect()
            gc.disable()
            try:
                left = list[int]()
                for _ in range(3):  # what other tests have left may go meanwhile, but once
                    for _ in range(50):
                        await request()
                    left.append(gc.collect())
            finally:
                gc.enable()
        assert min(left) == 0


class TestHeaders:
    async def test_a_header_session_is_exposed_and_two_travel_in_one_request(self) -> None:
        """R5, R9: with names that CORS lets a script read."""
        transport = HeaderTransport()
        stores = [
            StorageOverseer(dict[str, int], MemoryStorer(), name=name, transport=transport) for name in ("app", "cart")
        ]

        async def page(request: Request) -> Response:
            for store in stores:
                (await store.get(request))["count"] = 1
            raise HTTPException(403, headers={"Access-Control-Expose-Headers": "X-Request-Id"})

        app = Starlette(routes=[Route("/", page)], middleware=[Middleware(SessionMiddleware, stores=stores)])
        async with Browser(app, keep_headers="Session-") as browser:
            response = await browser.get("/")
            exposed = response.headers["access-control-expose-headers"]
            assert exposed == "X-Request-Id, Session-App, Session-Cart"
            assert response.headers["vary"] == "Session-App, Session-Cart"
            assert len(browser.headers) == 2
