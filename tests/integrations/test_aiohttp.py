"""What is aiohttp's own: responses that handlers prepare, errors made outside of middlewares, sub-applications."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from aiosessions import (
    ConfigError,
    ConflictError,
    NotAuthenticatedError,
    ResponseStartedError,
    StorageOverseer,
    StorerError,
)
from aiosessions.aiohttp import setup
from aiosessions.testing import Browser, HandshakeDeniedError
from tests.integrations.stage import ASYNCIO, UVLOOP, Backend, CountingStorer

pytestmark = pytest.mark.anyio

SECONDS = 10
"""What nothing here takes: one that waits for ever is a failure."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(
    scope="module",
    params=[ASYNCIO, UVLOOP],
    ids=["asyncio", "uvloop"],
)
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.param
    return backend


@pytest.fixture
def storer() -> CountingStorer:
    return CountingStorer(clock=time.time)


@pytest.fixture
def store(storer: CountingStorer) -> StorageOverseer[dict[str, int]]:
    return StorageOverseer(dict[str, int], storer)


class Site:
    """An application whose handler a test chooses, with a login."""

    def __init__(self, store: StorageOverseer[dict[str, int]], *middlewares: Any) -> None:
        self.handler: Handler
        self.app = web.Application(middlewares=middlewares)
        self.app.router.add_get("/", self._answer)
        self.app.router.add_get("/login", self._log_in)
        self.store = store
        setup(self.app, store)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return await self.handler(request)

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        (await self.store.get(request)).set_user("ann")
        return web.Response()


@pytest.fixture
def site(store: StorageOverseer[dict[str, int]]) -> Site:
    return Site(store)


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    async with Browser(site.app) as browser:
        yield browser


class TestPreparedByTheHandler:
    @pytest.mark.parametrize("framing", ["chunked", "length", "compressed"])
    async def test_a_stream_that_cannot_be_saved_for_is_a_whole_500(
        self, site: Site, browser: Browser, storer: CountingStorer, framing: str
    ) -> None:
        """R11: however the stream was to be framed; and the application goes on."""

        async def stream(request: web.Request) -> web.StreamResponse:
            (await site.store.get(request))["count"] = 1
            response = web.StreamResponse()
            if framing == "length":
                response.content_length = 5
            if framing == "compressed":
                response.enable_compression(web.ContentCoding.deflate)
            await response.prepare(request)
            await response.write(b"hello")
            return response

        site.handler = stream
        storer.fails = lambda method, _: method == "create"
        response = await browser.get("/")
        assert (response.status, response.text) == (500, "Internal Server Error")
        assert response.set_cookies == []
        storer.fails = lambda _, __: False
        response = await browser.get("/")
        assert (response.status, len(response.set_cookies)) == (200, 1)

    async def test_a_websocket_that_cannot_be_saved_for_is_not_opened(
        self, site: Site, browser: Browser, storer: CountingStorer
    ) -> None:
        """R11, R12: the handshake is answered with 500."""

        async def socket(request: web.Request) -> web.StreamResponse:
            (await site.store.get(request))["count"] = 1
            websocket = web.WebSocketResponse()
            await websocket.prepare(request)
            return websocket

        site.handler = socket
        storer.fails = lambda method, _: method == "create"
        with pytest.raises(HandshakeDeniedError) as denied:
            async with browser.websocket("/"):
                raise AssertionError("not reached")
        assert denied.value.response.status == 500
        assert denied.value.response.set_cookies == []

    async def test_a_handler_may_answer_otherwise_when_preparing_fails(
        self, site: Site, browser: Browser, storer: CountingStorer
    ) -> None:
        """R11: it sees the error of `prepare`, and its own answer arrives whole."""

        async def stream(request: web.Request) -> web.StreamResponse:
            (await site.store.get(request))["count"] = 1
            try:
                await web.StreamResponse().prepare(request)
            except StorerError as error:
                raise web.HTTPServiceUnavailable(text=str(error)) from None
            raise AssertionError("not reached")

        site.handler = stream
        storer.fails = lambda method, _: method == "create"
        response = await browser.get("/")
        assert (response.status, response.text) == (503, "create failed")

    async def test_a_change_after_the_headers_needs_no_token_or_is_refused(self, site: Site, browser: Browser) -> None:
        """R12, R14: a stored session is written; a new one can no longer be told."""

        async def stream(request: web.Request) -> web.StreamResponse:
            session = await site.store.get(request)
            response = web.StreamResponse()
            await response.prepare(request)
            session["count"] = 5
            try:
                await site.store.save(session)
            except ResponseStartedError:
                session.pop("count")
                await response.write(b"too late")
            else:
                await response.write(b"written")
            return response

        site.handler = stream
        assert (await browser.get("/")).text == "too late"
        await browser.get("/login")
        assert (await browser.get("/")).text == "written"

    @pytest.mark.parametrize("error", [RuntimeError("too late"), ConflictError("too late")])
    async def test_an_error_after_the_headers_changes_nothing(
        self, site: Site, storer: CountingStorer, error: Exception
    ) -> None:
        """R10: what was saved with the headers stays, and no second answer is put behind the first."""

        async def stream(request: web.Request) -> web.StreamResponse:
            session = await site.store.get(request)
            session["count"] = 1
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"begun")
            raise error

        site.handler = stream
        runner = web.AppRunner(site.app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with await anyio.connect_tcp(*runner.addresses[0]) as connection:
                await connection.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                answer = b"".join([chunk async for chunk in connection])
        finally:
            await runner.cleanup()
        assert answer.count(b"HTTP/1.1") == answer.count(b"Set-Cookie") == 1
        assert answer.endswith(b"begun\r\n")
        assert len(await storer.stored()) == 1


class TestErrors:
    @pytest.mark.parametrize("how", ["raises", "times out", "returns nothing"])
    async def test_a_logout_is_told_by_the_error_that_aiohttp_makes(
        self, site: Site, browser: Browser, storer: CountingStorer, how: str
    ) -> None:
        """R7: it is made outside of middlewares, and carries the token all the same."""

        async def log_out(request: web.Request) -> web.StreamResponse:
            (await site.store.get(request)).destroy()
            if how == "times out":
                raise TimeoutError
            if how == "raises":
                raise RuntimeError("the handler failed")
            return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # the mistake

        site.handler = log_out
        await browser.get("/login")
        response = await browser.get("/")
        assert response.status == (504 if how == "times out" else 500)
        assert len(response.set_cookies) == 1
        assert len(browser.cookies) == 0
        assert await storer.stored() == []

    async def test_a_handler_that_returns_nothing_has_nothing_saved(
        self, site: Site, browser: Browser, storer: CountingStorer
    ) -> None:
        """R10: aiohttp makes that a 500."""

        async def forgetful(request: web.Request) -> web.StreamResponse:
            (await site.store.get(request))["count"] = 1
            return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # the mistake

        site.handler = forgetful
        assert (await browser.get("/")).status == 500
        assert await storer.stored() == []

    @pytest.mark.parametrize("place", ["inside", "outside"])
    async def test_an_error_of_ours_that_a_handler_lets_go_is_the_applications(
        self, store: StorageOverseer[dict[str, int]], place: str
    ) -> None:
        """R10: its own middlewares answer it as they like; outside of it it is aiohttp's 401, whose cause it is."""
        kind: type[Exception] = NotAuthenticatedError if place == "inside" else web.HTTPUnauthorized
        seen: list[BaseException | None] = []

        @web.middleware
        async def to_login(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except kind as error:
                seen.append(error if place == "inside" else error.__cause__)
                raise web.HTTPSeeOther("/login") from None

        async def guarded(request: web.Request) -> web.StreamResponse:
            return web.Response(text=(await store.get(request)).require_user())

        site = Site(store, *([to_login] if place == "inside" else []))
        site.handler = guarded
        app = site.app
        if place == "outside":
            app = web.Application(middlewares=[to_login])
            app.add_subapp("/shop", site.app)
        async with Browser(app) as browser:
            path = "/" if place == "inside" else "/shop/"
            assert (await browser.get(path)).headers["location"] == "/login"
            await browser.get(f"{path}login")
            assert (await browser.get(path)).text == "ann"
        assert [type(error) for error in seen] == [NotAuthenticatedError]

    @pytest.mark.parametrize("how", ["at the end", "not caught"])
    async def test_an_application_further_out_sees_why_a_save_failed(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer, how: str
    ) -> None:
        """R10, R11: as aiohttp's own exceptions, whose cause it is; its answer leaves, and nothing is written."""
        seen: list[str] = []

        @web.middleware
        async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPError as error:
                seen.append(f"{error.status} {error.__cause__!r}")
                return web.Response(text="explained", status=422)

        async def lose(request: web.Request) -> web.StreamResponse:
            (await store.get(request))["count"] = 1
            if how == "not caught":
                raise ConflictError("lost")
            return web.Response()

        inner = Site(store)
        inner.handler = lose
        outer = web.Application(middlewares=[explain])
        outer.add_subapp("/inner", inner.app)
        storer.fails = lambda method, _: method == "create"
        async with Browser(outer) as browser:
            response = await browser.get("/inner/")
        assert (response.status, response.text, response.set_cookies) == (422, "explained", [])
        assert seen == ["500 StorerError('create failed')" if how == "at the end" else "409 ConflictError('lost')"]

    async def test_a_request_of_another_framework_is_refused_by_name(
        self, store: StorageOverseer[dict[str, int]]
    ) -> None:
        """F10: the error says what to import."""

        class Stranger:
            headers: dict[str, str] = {}  # noqa: RUF012  # never changed

        with pytest.raises(ConfigError, match=r"Stranger is no request this process knows.*aiosessions\.aiohttp"):
            await store.get(Stranger())


class TestApplications:
    async def test_a_sub_application_may_be_set_up_too(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R16, R9: the outer one saves, once."""
        inner, outer = Site(store), web.Application()

        async def count(request: web.Request) -> web.StreamResponse:
            session = await store.get(request)
            session["count"] = session.get("count", 0) + 1
            return web.Response(text=str(session["count"]))

        inner.handler = count
        outer.add_subapp("/inner", inner.app)
        setup(outer, store)
        async with Browser(outer) as browser:
            response = await browser.get("/inner/")
            assert (response.text, len(response.set_cookies)) == ("1", 1)
            assert storer.calls == ["create"]
            assert (await browser.get("/inner/")).text == "2"

    async def test_the_status_of_the_outermost_application_decides(
        self, store: StorageOverseer[dict[str, int]], storer: CountingStorer
    ) -> None:
        """R10, R16: what an inner one would have saved is not, when the answer is a 503 in the end."""

        @web.middleware
        async def overloaded(request: web.Request, handler: Handler) -> web.StreamResponse:
            await handler(request)
            raise web.HTTPServiceUnavailable

        outer = web.Application(middlewares=[overloaded])
        outer.add_subapp("/inner", Site(store).app)
        setup(outer, store)
        async with Browser(outer) as browser:
            response = await browser.get("/inner/login")
            assert (response.status, response.set_cookies) == (503, [])
        assert await storer.stored() == []

    async def test_what_the_applications_own_middlewares_change_is_saved(
        self, store: StorageOverseer[dict[str, int]]
    ) -> None:
        """R10: those that were there before `setup` too."""

        @web.middleware
        async def bump(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            (await store.get(request))["count"] = 1
            return response

        async with Browser(Site(store, bump).app) as browser:
            assert len((await browser.get("/login")).set_cookies) == 1

        async def read(request: web.Request) -> web.StreamResponse:
            return web.Response(text=str((await store.get(request)).get("count")))

        site = Site(store)
        site.handler = read
        async with Browser(site.app) as other:
            other.cookies = browser.cookies
            assert (await other.get("/")).text == "1"

    async def test_an_outer_middleware_may_replace_the_response(self, store: StorageOverseer[dict[str, int]]) -> None:
        """R10: what was written is told on whichever response leaves."""

        @web.middleware
        async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
            await handler(request)
            return web.Response(text="another answer")

        async def count(request: web.Request) -> web.StreamResponse:
            (await store.get(request))["count"] = 1
            return web.Response()

        inner = Site(store)
        inner.handler = count
        outer = web.Application(middlewares=[replace])
        outer.add_subapp("/inner", inner.app)
        async with Browser(outer) as browser:
            response = await browser.get("/inner/")
            assert (response.text, len(response.set_cookies)) == ("another answer", 1)

    async def test_a_cloned_request_has_the_same_sessions(self, site: Site, browser: Browser) -> None:
        """R5: as middlewares make them."""

        async def page(request: web.Request) -> web.StreamResponse:
            session = await site.store.get(request)
            return web.Response(text=str(session is await site.store.get(request.clone(method="POST"))))

        site.handler = page
        assert (await browser.get("/")).text == "True"

    async def test_stores_run_with_the_application(
        self, store: StorageOverseer[dict[str, int]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """R16: no warning that nobody opened them."""
        site = Site(store)
        async with Browser(site.app) as browser:
            await browser.get("/login")
        assert "was not opened" not in caplog.text


class TestHangingUp:
    @pytest.mark.parametrize("is_begun", [False, True], ids=["before the headers", "after the headers"])
    async def test_a_request_whose_client_hangs_up_has_logged_out(
        self, site: Site, storer: CountingStorer, is_begun: bool
    ) -> None:
        """F14, R7: where the server cancels handlers (`handler_cancellation=True`); nothing else is written."""
        reached = anyio.Event()

        async def wait(request: web.Request) -> web.StreamResponse:
            session = await site.store.get(request)
            if is_begun:
                await web.StreamResponse().prepare(request)
            session.destroy()
            session["count"] = 1
            reached.set()
            await anyio.sleep_forever()
            raise AssertionError("not reached")

        site.handler = wait
        async with serving(site.app) as port:
            token = await _logged_in(port)
            async with await anyio.connect_tcp("127.0.0.1", port) as connection:
                await connection.send(b"GET / HTTP/1.1\r\nHost: test\r\nCookie: %s\r\n\r\n" % token)
                await reached.wait()
            with anyio.fail_after(SECONDS):
                while await storer.stored():
                    await anyio.lowlevel.checkpoint()
        assert storer.calls == ["create", "read", "delete"]


class TestOrigins:
    @pytest.mark.parametrize("header", ["Origin: http://[", "Origin: https://test\r\nHost: [", "Origin: http://test:x"])
    async def test_a_malformed_origin_or_host_is_refused_as_any_other(
        self, store: StorageOverseer[dict[str, int]], header: str
    ) -> None:
        """SECURITY: ASVS 5 4.4.2."""
        app = web.Application()
        setup(app, store, origins=[])
        host = "" if "Host" in header else "Host: test\r\n"
        async with serving(app) as port, await anyio.connect_tcp("127.0.0.1", port) as connection:
            request = f"GET / HTTP/1.1\r\n{host}{header}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            await connection.send(request.encode())
            assert (await connection.receive()).startswith(b"HTTP/1.1 403 ")


@asynccontextmanager
async def serving(app: web.Application) -> AsyncGenerator[int]:
    """A server that cancels a handler whose client has gone; its port."""
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _logged_in(port: int) -> bytes:
    """The cookie that `/login` gives."""
    async with await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(b"GET /login HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        answer = b"".join([chunk async for chunk in connection])
    return answer.partition(b"Set-Cookie: ")[2].partition(b";")[0]
