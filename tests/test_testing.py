"""The helpers for those who test applications: what a browser keeps and sends, and whom it talks to."""

import itertools
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from aiosessions import CookieOverseer, HeaderTransport, HMACSealer, MemoryStorer, StorageOverseer, new_key
from aiosessions._errors import UnsupportedError
from aiosessions.testing import (
    Browser,
    Clock,
    Cookie,
    CookieJar,
    HandshakeDeniedError,
    LifespanError,
    WebSocketClosedError,
    signed_in,
)
from tests.conftest import ASYNCIO, UVLOOP

pytestmark = pytest.mark.anyio

HTTPS = "https://shop.example/cart/items"
HTTP = "http://shop.example/cart/items"


def kept(line: str, url: str = HTTPS, back: str | None = None) -> str:
    """What goes to *back* after *url* has set a cookie."""
    jar = CookieJar(Clock())
    jar.receive(line, url)
    return jar.header(back or url)


class TestJar:
    @pytest.mark.parametrize(
        ("line", "url", "back", "header"),
        [
            ("a=b", HTTPS, "https://shop.example/cart", "a=b"),
            ("a=b", HTTPS, "https://shop.example/cart/other", "a=b"),
            ("a=b", HTTPS, "https://shop.example/cartoon", ""),
            ("a=b", HTTPS, "https://www.shop.example/cart", ""),
            ("a=b; Path=/", HTTPS, "https://shop.example", "a=b"),
            ("a=b; Path=nonsense", HTTPS, "https://shop.example/cart", "a=b"),
            ("a=b; Path=/other", HTTPS, "https://shop.example/other/x", "a=b"),
            ("a=b; Path=/other/", HTTPS, "https://shop.example/other", ""),
            ("a=b; Domain=shop.example; Path=/", HTTPS, "https://www.shop.example/", "a=b"),
            ("a=b; Domain=.Shop.Example; Path=/", HTTPS, "https://www.shop.example/", "a=b"),
            ("a=b; Domain=shop.example; Path=/", HTTPS, "https://evilshop.example/", ""),
            ("a=b; Domain=localhost; Path=/", "http://localhost:80/", "http://localhost:81/", "a=b"),
            ("a=b; Path=/; Secure", HTTPS, "http://shop.example/", ""),
            ("a=b; Path=/; Secure", HTTPS, "wss://shop.example/", "a=b"),
            ("a=b; Path=/; Secure", "http://localhost/", "http://localhost/", "a=b"),
            ("a=b; Path=/; Secure", "http://127.0.0.9:80/", "http://127.0.0.9/", "a=b"),
            ("a=b; Path=/; Secure", "http://[::1]/", "http://[::1]/", "a=b"),
            (" a \t=\t b ; path = / ", HTTPS, "https://shop.example/", "a=b"),
            ('a="b c"', HTTPS, HTTPS, 'a="b c"'),
            ("a=", HTTPS, HTTPS, "a="),
            ("value", HTTPS, HTTPS, "value"),
        ],
    )
    def test_a_cookie_goes_where_it_belongs(self, line: str, url: str, back: str, header: str) -> None:
        """RFC 6265bis §5.1.3, §5.1.4, §5.8.3."""
        assert kept(line, url, back) == header

    @pytest.mark.parametrize(
        ("line", "url", "why"),
        [
            ("a=b; Secure", HTTP, "https://"),
            ("a=b; Domain=other.example", HTTPS, "not within"),
            ("a=b; Domain=www.shop.example", HTTPS, "not within"),
            ("a=b; Domain=example", HTTPS, "public suffix"),
            ("a=b; Domain=0.0.1", "https://127.0.0.1/", "not within"),
            ("a=b; SameSite=None", HTTPS, "SameSite=None"),
            ("a=b; Partitioned", HTTPS, "Partitioned"),
            ("a=\x01", HTTPS, "control"),
            ("=", HTTPS, "neither"),
            ("; Path=/", HTTPS, "neither"),
            ("a=" + "x" * 4096, HTTPS, "4096"),
            ("__Secure-a=b", HTTPS, "__Secure-"),
            ("__secure-a=b", HTTPS, "__Secure-"),
            ("__Host-a=b; Path=/", HTTPS, "__Host-"),
            ("__Host-a=b; Secure", "https://shop.example/", "__Host-"),
            ("__Host-a=b; Secure; Path=/cart", HTTPS, "__Host-"),
            ("__Host-a=b; Secure; Path=/; Domain=shop.example", HTTPS, "__Host-"),
            ("__Host-a=b; Secure; Path=/; Domain=", HTTPS, "__Host-"),
            ("=__Host-a=b", HTTPS, "without name"),
            ("__Secure-a", HTTPS, "without name"),
        ],
    )
    def test_what_no_browser_keeps_is_refused_with_its_reason(self, line: str, url: str, why: str) -> None:
        """RFC 6265bis §5.6, §5.7; CHIPS."""
        jar = CookieJar(Clock())
        assert not jar.receive(line, url)
        assert len(jar) == 0
        assert why in jar.refused[0]

    @pytest.mark.parametrize("line", ["__Host-a=b; Secure; Path=/", "__Secure-a=b; Secure; Domain=shop.example"])
    def test_prefixes_are_kept_with_what_they_promise(self, line: str) -> None:
        """RFC 6265bis §4.1.3."""
        assert kept(line).endswith("a=b")

    def test_plain_http_does_not_overlay_a_secure_cookie(self) -> None:
        """RFC 6265bis §5.7, "leave secure cookies alone"."""
        jar = CookieJar(Clock())
        assert jar.receive("a=secret; Path=/; Secure", HTTPS)
        assert not jar.receive("a=planted; Path=/cart; Domain=shop.example", HTTP)
        assert jar.receive("b=other; Path=/", HTTP)
        assert jar.header(HTTPS) == "a=secret; b=other"
        assert jar.receive("c=secret; Path=/cart; Secure", HTTPS)
        assert jar.receive("c=elsewhere; Path=/", HTTP)

    def test_expiry_follows_the_clock_and_is_capped_at_400_days(self) -> None:
        """X3; RFC 6265bis §5.5."""
        clock = Clock()
        jar = CookieJar(clock)
        jar.receive("a=1; Max-Age=60", HTTPS)
        jar.receive("b=1; Max-Age=999999999", HTTPS)
        jar.receive("c=1; Expires=Fri, 15 Jan 2027 08:01:00 GMT; Max-Age=x", HTTPS)
        jar.receive("d=1; Expires=yesterday", HTTPS)
        jar.receive("e=1; Expires=Fri, 01 Jan 9999 00:00:00 GMT", HTTPS)
        jar.receive("f=1; Max-Age=0; Expires=Fri, 01 Jan 9999 00:00:00 GMT", HTTPS)
        assert jar.header(HTTPS) == "a=1; b=1; c=1; d=1; e=1"
        clock.advance(60)
        assert jar.header(HTTPS) == "b=1; d=1; e=1"
        clock.advance(timedelta(days=400))
        assert jar.header(HTTPS) == "d=1"
        jar.end_session()
        assert list(jar) == []

    def test_a_cookie_is_replaced_and_removed_by_name_domain_and_path(self) -> None:
        """R7: a removal that forgets the path removes nothing."""
        jar = CookieJar(Clock())
        for line in ("a=1; Path=/", "a=2; Path=/cart", "a=3; Path=/", "a=; Max-Age=0; Path=/other"):
            jar.receive(line, HTTPS)
        assert jar.header(HTTPS) == "a=2; a=3"
        jar.receive("a=; Max-Age=0; Path=/cart", HTTPS)
        assert jar.header(HTTPS) == "a=3"

    def test_tests_may_look_plant_copy_and_forget(self) -> None:
        jar = CookieJar(Clock())
        jar.put(Cookie(name="a", value="secret", domain="shop.example"))
        stolen = jar.copy()
        jar.remove("a")
        assert jar.get("a") is None
        assert "a" not in jar
        assert "a" in stolen
        assert stolen.get("a") == "secret"
        assert "secret" not in repr(list(stolen))
        stolen.clear()
        assert len(stolen) == 0


class TestClock:
    def test_it_moves_when_told(self) -> None:
        clock = Clock(100.0)
        clock.advance(1.5)
        clock.advance(timedelta(minutes=1))
        clock.advance(-0.5)
        assert clock() == 161.0
        clock.set(datetime(2030, 1, 1, tzinfo=UTC))
        assert clock() == 1_893_456_000.0
        clock.set(5)
        assert repr(clock) == "Clock(5)"
        with pytest.raises(ValueError, match="tzinfo"):
            clock.set(datetime(2030, 1, 1))  # noqa: DTZ001 -- what is refused


async def echo(request: Request) -> JSONResponse:
    body = (await request.body()).decode()
    response = JSONResponse(
        {
            "method": request.method,
            "url": str(request.url),
            "path": request.scope["path"],
            "raw_path": request.scope["raw_path"].decode(),
            "headers": dict(request.headers),
            "body": body,
            "state": getattr(request.state, "opened", None),
        }
    )
    for line in request.query_params.getlist("set"):
        response.headers.append("set-cookie", line)
    return response


async def redirect(request: Request) -> Response:
    to = request.query_params["to"]
    response = RedirectResponse(to, int(request.query_params.get("status", "302")))
    response.set_cookie("seen", "on-the-way")
    return response


async def broken(request: Request) -> Response:
    raise ZeroDivisionError("broken")


async def ticks(request: Request) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d;" % number
        if "break" in request.query_params:
            raise ZeroDivisionError

    return StreamingResponse(body(), headers={"set-cookie": "stream=1"})


async def headers_of_request(request: Request) -> Response:
    return Response(headers={"Session-App": request.query_params["token"]})


async def talk(socket: WebSocket) -> None:
    if "deny" in socket.query_params:
        await socket.send_denial_response(PlainTextResponse("no", 401, headers={"set-cookie": "denied=1"}))
        return
    if "close" in socket.query_params:
        await socket.close()
        return
    if "break" in socket.query_params:
        raise ZeroDivisionError
    chosen = socket.scope["subprotocols"][0] if socket.scope["subprotocols"] else None
    await socket.accept(subprotocol=chosen, headers=[(b"set-cookie", b"socket=1; Path=/")])
    codes: list[int] = []
    socket.app.state.codes = codes
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await socket.close(4000, "as you wish")
        elif message.get("text") == "break":
            raise ZeroDivisionError
        elif message.get("text") is not None:
            await socket.send_text(f"{message['text']} over {socket.url.scheme}")
        else:
            await socket.send_bytes(message["bytes"][::-1])
    codes.append(message["code"])


def application(lifespan: Any = None) -> Starlette:  # Any: Starlette's own, generic over the application
    return Starlette(
        routes=[
            Route("/redirect", redirect, methods=["GET", "POST"]),
            Route("/broken", broken),
            Route("/ticks", ticks),
            Route("/token", headers_of_request),
            WebSocketRoute("/talk", talk),
            Route("/{rest:path}", echo, methods=["GET", "POST", "HEAD"]),
        ],
        lifespan=lifespan,
    )


class TestInProcess:
    async def test_an_application_sees_what_a_server_would_show(self) -> None:
        browser = Browser(application())
        browser.headers["X-Always"] = "1"
        seen = (await browser.post("/a b/é?q=1#part", json={"n": 1}, headers={"X-Once": "2"})).json()
        assert seen["method"] == "POST"
        assert seen["url"] == "https://testserver/a b/é?q=1"
        assert (seen["path"], seen["raw_path"]) == ("/a b/é", "/a%20b/%C3%A9")
        assert seen["body"] == '{"n": 1}'
        expected = {"host": "testserver", "content-type": "application/json", "x-always": "1", "x-once": "2"}
        assert expected.items() <= seen["headers"].items()
        assert (await browser.post("/", data={"a": "ä b"})).json()["body"] == "a=%C3%A4+b"
        assert (await browser.post("/", data="raw")).json()["body"] == "raw"
        assert (await browser.request("HEAD", "/")).body == b""

    async def test_cookies_are_kept_and_sent_and_a_given_header_takes_their_place(self) -> None:
        browser = Browser(application())
        response = await browser.get("/?set=a=1;Path=/&set=b=2;Secure;HttpOnly;Path=/&set=c=3;Path=/elsewhere")
        assert response.set_cookies == ["a=1;Path=/", "b=2;Secure;HttpOnly;Path=/", "c=3;Path=/elsewhere"]
        assert (await browser.get("/")).json()["headers"]["cookie"] == "a=1; b=2"
        assert (await browser.get("http://testserver/")).json()["headers"]["cookie"] == "a=1"
        assert (await browser.get("/", headers={"Cookie": "forged"})).json()["headers"]["cookie"] == "forged"
        assert "cookie" not in (await browser.another().get("/")).json()["headers"]

    async def test_redirects_are_followed_when_asked_within_the_same_host(self) -> None:
        browser = Browser(application())
        stayed = await browser.get("/redirect?to=/there")
        assert (stayed.status, stayed.headers["location"], stayed.history) == (302, "/there", ())
        went = await browser.post("/redirect?to=/there", data="x", follow=True)
        assert (went.url, [each.status for each in went.history]) == ("https://testserver/there", [302])
        assert (went.json()["method"], went.json()["body"]) == ("GET", "")
        assert went.json()["headers"]["cookie"] == "seen=on-the-way"
        again = await browser.post("/redirect?to=/there&status=307", data="x", follow=True)
        assert (again.json()["method"], again.json()["body"]) == ("POST", "x")
        assert (await browser.get("/redirect?to=https://other.example/", follow=True)).status == 302
        assert (await browser.get("/redirect?to=/redirect%3Fto=/", follow=True)).status == 200

    async def test_a_circle_of_redirects_ends(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 302, "headers": [(b"location", b"/")]})
            await send({"type": "http.response.body"})

        assert len((await Browser(app).get("/", follow=True)).history) == 20

    async def test_what_the_application_raises_is_raised_or_a_500(self) -> None:
        with pytest.raises(ZeroDivisionError):
            await Browser(application()).get("/broken")
        assert (await Browser(application(), raise_app_exceptions=False).get("/broken")).status == 500

        async def silent(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["type"] == "http.request"

        with pytest.raises(AssertionError, match="without a response"):
            await Browser(silent).get("/")
        assert (await Browser(silent, raise_app_exceptions=False).get("/")).text == "Internal Server Error"

    async def test_session_headers_are_kept_until_they_are_ended(self) -> None:
        """Issue 4: what a client of HeaderTransport does."""
        browser = Browser(application(), keep_headers="Session-")
        await browser.get("/token?token=abc")
        assert (await browser.get("/")).json()["headers"]["session-app"] == "abc"
        await browser.get("/token?token=-")
        assert browser.headers == {}

    async def test_a_stream_arrives_while_it_is_made_and_hanging_up_ends_it(self) -> None:
        """R13."""
        seen: list[str] = []

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            async def tick() -> None:
                for number in itertools.count():
                    await send({"type": "http.response.body", "body": b"%d;" % number, "more_body": True})

            seen.append((await receive())["type"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", b"early=1")]})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tick)
                seen.append((await receive())["type"])
                tasks.cancel_scope.cancel()

        browser = Browser(endless)
        async with browser.stream("/") as stream:
            assert (stream.status, stream.headers["set-cookie"]) == (200, "early=1")
            assert browser.cookies.get("early") == "1"
            chunks: list[bytes] = []
            async for chunk in stream:
                chunks.append(chunk)
                if len(chunks) == 3:
                    break
            assert chunks == [b"0;", b"1;", b"2;"]
            assert seen == ["http.request"]
        assert seen == ["http.request", "http.disconnect"]

        async def waiting(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200})
            seen.append((await receive())["type"])

        async with Browser(waiting).stream("/"):
            seen.clear()
        assert seen == ["http.disconnect"]

        async with Browser(application()).stream("/ticks") as stream:
            assert await stream.read() == b"0;1;2;"

    async def test_a_stream_that_breaks_raises_when_it_is_left(self) -> None:
        with pytest.raises(ZeroDivisionError):
            async with Browser(application()).stream("/ticks?break=1") as stream:
                assert await stream.read() == b"0;1;2;"
        with pytest.raises(ZeroDivisionError):
            async with Browser(application()).stream("/broken") as stream:
                assert stream.status == 500

        async def silent(scope: Any, receive: Any, send: Any) -> None:
            return

        with pytest.raises(AssertionError, match="without a response"):
            async with Browser(silent, raise_app_exceptions=False).stream("/"):
                pytest.fail("there is nothing to read")

    async def test_an_application_that_ignores_the_end_of_its_client_is_cancelled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("aiosessions.testing.in_process._PATIENCE", 0.01)
        ended: list[bool] = []

        async def stubborn(scope: Any, receive: Any, send: Any) -> None:
            try:
                await send({"type": "http.response.start", "status": 200})
                await anyio.sleep_forever()
            finally:
                ended.append(True)

        async with Browser(stubborn).stream("/"):
            assert not ended
        assert ended

    async def test_a_socket_talks_both_ways_and_keeps_the_cookie_of_its_handshake(self) -> None:
        """R12."""
        app = application()
        browser = Browser(app)
        async with browser.websocket("/talk", subprotocols=["chat"]) as socket:
            assert socket.subprotocol == "chat"
            assert socket.headers["set-cookie"] == "socket=1; Path=/"
            assert browser.cookies.get("socket") == "1"
            await socket.send_text("hello")
            assert await socket.receive_text() == "hello over wss"
            await socket.send_bytes(b"abc")
            assert await socket.receive_bytes() == b"cba"
        assert app.state.codes == [1000]

        async with browser.websocket("/talk") as socket:
            await socket.send_text("bye")
            with pytest.raises(WebSocketClosedError, match="4000 as you wish"):
                await socket.receive_text()
            with pytest.raises(WebSocketClosedError, match="4000"):
                await socket.receive_bytes()
        async with browser.websocket("/talk") as socket:
            await socket.close(3000)
            await socket.close(3001)
        assert app.state.codes == [3000]

    async def test_a_socket_left_by_an_error_is_closed_abnormally(self) -> None:
        app = application()
        with pytest.raises(KeyError):
            async with Browser(app).websocket("/talk"):
                raise KeyError
        assert app.state.codes == [1006]

    async def test_a_denied_handshake_carries_its_response(self) -> None:
        """R12."""
        browser = Browser(application())
        with pytest.raises(HandshakeDeniedError, match="401") as denied:
            async with browser.websocket("/talk?deny=1"):
                pytest.fail("it was denied")
        assert denied.value.response.text == "no"
        assert browser.cookies.get("denied") == "1"
        with pytest.raises(HandshakeDeniedError, match="403"):
            async with browser.websocket("/talk?close=1"):
                pytest.fail("it was closed")

    async def test_what_a_socket_raises_is_raised_once_or_closes_it(self) -> None:
        with pytest.raises(ZeroDivisionError):
            async with Browser(application()).websocket("/talk?break=1"):
                pytest.fail("there was no handshake")
        async with Browser(application()).websocket("/talk") as socket:
            await socket.send_text("break")
            with pytest.raises(ZeroDivisionError):
                await socket.receive_text()
        with pytest.raises(ZeroDivisionError):
            async with Browser(application()).websocket("/talk") as socket:
                await socket.send_text("break")
        async with Browser(application(), raise_app_exceptions=False).websocket("/talk") as socket:
            await socket.send_text("break")
            with pytest.raises(WebSocketClosedError, match="1006"):
                await socket.receive_text()

    async def test_a_browser_runs_the_lifespan_and_may_be_left_in_another_task(self) -> None:
        """R16."""
        opened: list[str] = []

        class Lifespan:
            def __init__(self, app: Starlette) -> None: ...

            async def __aenter__(self) -> dict[str, str]:
                opened.append("open")
                return {"opened": "yes"}

            async def __aexit__(self, *_: object) -> None:
                opened.append("closed")

        browser = Browser(application(Lifespan))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.__aenter__)
        assert (await browser.get("/")).json()["state"] == "yes"
        async with browser.another() as guest:
            assert (await guest.get("/")).json()["state"] == "yes"
        assert opened == ["open"]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.__aexit__, None, None, None)
        assert opened == ["open", "closed"]

    async def test_a_failed_start_up_or_shutdown_is_an_error(self) -> None:
        """R16."""

        class Failing:
            def __init__(self, app: Starlette) -> None: ...

            async def __aenter__(self) -> None:
                raise ConnectionError("no database")

            async def __aexit__(self, *_: object) -> None: ...

        class FailingLate(Failing):
            async def __aenter__(self) -> None: ...

            async def __aexit__(self, *_: object) -> None:
                raise ConnectionError("no goodbye")

        with pytest.raises(LifespanError, match="no database"):
            async with Browser(application(Failing)):
                pytest.fail("it did not start")
        with pytest.raises(LifespanError, match="no goodbye"):
            async with Browser(application(FailingLate)):
                pass

    async def test_an_application_without_a_lifespan_goes_without(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
            assert (await receive())["type"] == "http.request"
            assert (await receive())["type"] == "http.disconnect"
            await send({"type": "http.response.body", "body": b"too late"})

        async with Browser(app) as browser:
            response = await browser.get("/")
        assert (response.status, response.body, len(response.headers)) == (204, b"", 0)
        assert repr(response.headers) == "Headers([])"


class TestOverSockets:
    @pytest.fixture(params=[ASYNCIO, UVLOOP])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    def app(self) -> web.Application:
        async def show(request: web.Request) -> web.Response:
            seen = {
                "url": str(request.url),
                "secure": request.secure,
                "cookie": request.headers.get("Cookie", ""),
                "body": await request.text(),
            }
            return web.json_response(seen, headers={"Set-Cookie": "a=1; Path=/"})

        async def count(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(3):
                await response.write(b"tick;")
            return response

        async def shout(request: web.Request) -> web.WebSocketResponse:
            if "deny" in request.query:
                raise web.HTTPUnauthorized(headers={"Set-Cookie": "denied=1; Path=/"})
            socket = web.WebSocketResponse(protocols=["chat"])
            socket.headers["Set-Cookie"] = "socket=1; Path=/"
            await socket.prepare(request)
            async for message in socket:
                if message.data == "bye":
                    await socket.close(code=4000)
                elif isinstance(message.data, bytes):
                    await socket.send_bytes(message.data[::-1])
                else:
                    await socket.send_str(f"{message.data}!")
            return socket

        async def away(request: web.Request) -> web.Response:
            raise web.HTTPFound("/")

        app = web.Application()
        routes = [web.get("/away", away), web.get("/count", count), web.get("/shout", shout), web.route("*", "/", show)]
        app.add_routes(routes)
        return app

    async def test_an_aiohttp_application_is_served_over_https(self) -> None:
        async with Browser(self.app()) as browser:
            first = await browser.post("/", data="hi")
            assert first.json() == {"url": "https://testserver/", "secure": True, "cookie": "", "body": "hi"}
            assert (await browser.get("/")).json()["cookie"] == "a=1"
            assert (await browser.get("http://testserver/")).json()["secure"] is False
            assert (await browser.another().get("/")).json()["cookie"] == ""
            assert (await browser.get("/away")).status == 302
            async with browser.stream("/count") as stream:
                assert await stream.read() == b"tick;tick;tick;"

    async def test_an_aiohttp_application_talks_over_sockets(self) -> None:
        """R12."""
        async with Browser(self.app()) as browser:
            async with browser.websocket("/shout", subprotocols=["chat"]) as socket:
                assert socket.subprotocol == "chat"
                assert browser.cookies.get("socket") == "1"
                await socket.send_text("hey")
                assert await socket.receive_text() == "hey!"
                await socket.send_bytes(b"abc")
                assert await socket.receive_bytes() == b"cba"
                await socket.send_text("bye")
                with pytest.raises(WebSocketClosedError, match="4000"):
                    await socket.receive_text()
                await socket.close()
            with pytest.raises(HandshakeDeniedError, match="401"):
                async with browser.websocket("/shout?deny=1"):
                    pytest.fail("it was denied")
            assert browser.cookies.get("denied") == "1"

    async def test_a_failed_start_up_of_an_aiohttp_application_is_an_error(self) -> None:
        """R16."""

        async def fail(app: web.Application) -> None:
            raise ConnectionError("no database")

        app = self.app()
        app.on_startup.append(fail)
        with pytest.raises(ConnectionError):
            async with Browser(app):
                pytest.fail("it did not start")

    async def test_an_aiohttp_application_needs_its_server_started(self) -> None:
        with pytest.raises(RuntimeError, match="async with"):
            await Browser(self.app()).get("/")

    async def test_an_address_is_asked_over_http(self) -> None:
        runner = web.AppRunner(self.app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with Browser(address) as browser:
                assert (await browser.post("/", data="hi")).json()["url"] == f"{address}/"
                assert (await browser.get("/")).json()["cookie"] == "a=1"
                async with browser.stream("/count") as stream:
                    assert await stream.read() == b"tick;tick;tick;"
                with pytest.raises(UnsupportedError, match="WebSockets"):
                    async with browser.websocket("/shout"):
                        pytest.fail("httpx has no WebSockets")
        finally:
            await runner.cleanup()

    async def test_the_absence_of_httpx_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "aiosessions.testing.over_httpx", raising=False)
        monkeypatch.setitem(sys.modules, "httpx", None)
        with pytest.raises(ImportError, match=r"aiosessions\[demo\]"):
            Browser("http://127.0.0.1:1")


def shop(store: Any) -> Starlette:  # Any: two kinds of stores
    async def who(request: Request) -> JSONResponse:
        session = await store.get(request)
        return JSONResponse({"user": session.user_id, "value": session.value})

    return Starlette(routes=[Route("/", who)])


class TestSignIn:
    @pytest.mark.parametrize("transport", [None, HeaderTransport()], ids=["cookie", "header"])
    @pytest.mark.parametrize("kind", ["storage", "cookie"])
    async def test_a_signed_in_browser_has_the_session(self, kind: str, transport: HeaderTransport | None) -> None:
        """DESIGN 3: without the application's login page."""
        if kind == "storage":
            store: Any = StorageOverseer(dict[str, int], MemoryStorer(), transport=transport, clean_every=None)
        else:
            store = CookieOverseer(dict[str, int], HMACSealer(new_key()), transport=transport)
        browser = Browser(shop(store))
        await browser.sign_in(store, "ann", {"n": 1})
        assert (await browser.get("/")).json() == {"user": "ann", "value": {"n": 1}}
        assert (await browser.another().get("/")).json()["user"] is None

        credentials = await signed_in(store, "bob")
        assert (await browser.another().get("/", headers=credentials.headers)).json() == {"user": "bob", "value": {}}
        assert list(credentials) == (["__Host-app"] if transport is None else [])
        for secret in (*credentials.values(), *credentials.headers.values()):
            assert secret not in repr(credentials)

    async def test_a_transport_may_change_its_mind(self) -> None:
        class Hesitant(HeaderTransport):
            def write(self, response: Any, name: str, token: str, carried: Any, max_age: int | None) -> None:
                super().write(response, name, "first", carried, max_age)
                super().write(response, name, token, carried, max_age)
                assert response.header("Session-App") == [token]

        store = CookieOverseer(dict[str, int], HMACSealer(new_key()), transport=Hesitant())
        browser = Browser(shop(store))
        await browser.sign_in(store, "ann")
        assert (await browser.get("/")).json()["user"] == "ann"

    async def test_a_base_url_at_which_no_browser_keeps_the_cookie_is_named(self) -> None:
        store = CookieOverseer(dict[str, int], HMACSealer(new_key()))
        with pytest.raises(ValueError, match="https://"):
            await Browser(shop(store), base_url="http://shop.example").sign_in(store, "ann")
