"""Websockets, and requests that change something, of other origins are refused where an application asks for it."""

from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, route, websocket
from litestar import Request as LitestarRequest
from litestar.connection import WebSocket as LitestarWebSocket
from quart import Quart
from quart import request as quart_request
from quart import websocket as quart_websocket
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from aiosessions import ConfigError, MemoryStorer, StorageOverseer
from aiosessions.aiohttp import setup
from aiosessions.asgi import SessionMiddleware
from aiosessions.litestar import SessionPlugin
from aiosessions.origins import Origins
from aiosessions.quart import init_app
from aiosessions.testing import Browser, HandshakeDeniedError

pytestmark = pytest.mark.anyio

OTHERS = ["https://other.example"]
METHODS: list[Any] = ["GET", "POST", "PUT", "PATCH", "DELETE"]  # Any: Litestar has a type of its own


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Frameworks decide; asyncio is what all of them run on."""
    name: str = request.param
    return name


def starlette_app(origins: list[str] | None) -> Any:
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    async def page(request: Request) -> Response:
        return PlainTextResponse(request.method)

    return Starlette(
        routes=[WebSocketRoute("/", socket), Route("/page", page, methods=METHODS)],
        middleware=[Middleware(SessionMiddleware, stores=[store()], origins=origins)],
    )


def quart_app(origins: list[str] | None) -> Any:
    app = Quart(__name__)
    init_app(app, store(), origins=origins)

    @app.websocket("/")
    async def socket() -> None:
        await quart_websocket.send("hello")

    @app.route("/page", methods=METHODS)
    async def page() -> str:
        return quart_request.method

    return app


def litestar_app(origins: list[str] | None) -> Any:
    @websocket("/")
    async def handler(socket: LitestarWebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    @route("/page", http_method=METHODS, status_code=200, media_type="text/plain")
    async def page(request: LitestarRequest[Any, Any, Any]) -> str:
        return request.method

    return Litestar([handler, page], plugins=[SessionPlugin(origins=origins, app=store())])


def aiohttp_app(origins: list[str] | None) -> Any:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.send_str("hello")
        await response.close()
        return response

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=request.method)

    app = web.Application()
    app.router.add_get("/", socket)
    app.router.add_route("*", "/page", page)
    setup(app, store(), origins=origins)
    return app


def store() -> StorageOverseer[dict[str, int]]:
    return StorageOverseer(dict[str, int], MemoryStorer())


@pytest.mark.parametrize("make_app", [starlette_app, quart_app, litestar_app, aiohttp_app])
@pytest.mark.parametrize(
    ("origins", "origin", "is_allowed"),
    [
        (None, "https://evil.example", True),
        ([], "https://evil.example", False),
        ([], None, True),
        ([], "null", False),
        (OTHERS, OTHERS[0], True),
        (OTHERS, "https://evil.example", False),
    ],
)
async def test_a_handshake_is_let_in_or_not(
    make_app: Any, origins: list[str] | None, origin: str | None, is_allowed: bool
) -> None:
    """SECURITY: ASVS 5 4.4.2."""
    headers = {} if origin is None else {"origin": origin}
    async with Browser(make_app(origins)) as browser:
        if is_allowed:
            async with browser.websocket("/", headers=headers) as socket:
                assert await socket.receive_text() == "hello"
        else:
            with pytest.raises(HandshakeDeniedError):
                async with browser.websocket("/", headers=headers):
                    pass


EVIL = {"origin": "https://evil.example"}
LISTED = {"origin": OTHERS[0]}


@pytest.mark.parametrize("make_app", [starlette_app, quart_app, litestar_app, aiohttp_app])
async def test_only_pages_of_the_application_and_of_listed_origins_change_anything(make_app: Any) -> None:
    """SECURITY: ASVS 5 3.5.1; 403 before a handler, by Fetch Metadata, or else by Origin and Host."""

    def site(site: str, **others: str) -> dict[str, str]:
        return {"sec-fetch-site": site, **others}

    async with Browser(make_app(OTHERS)) as browser:

        async def status(method: str, headers: dict[str, str]) -> int:
            return (await browser.request(method, "/page", headers=headers)).status

        for headers in (EVIL, site("cross-site"), site("same-site", **EVIL), {"origin": "null"}):
            assert await status("GET", headers) == 200
            for method in METHODS[1:]:
                assert await status(method, headers) == 403, (method, headers)
        for headers in (
            {},  # no browser
            site("same-origin"),
            site("none"),
            site("cross-site", **LISTED),
            site("same-site", **LISTED),
            LISTED,
            {**EVIL, "host": "evil.example"},  # as this server sees it, it is evil.example
        ):
            assert await status("POST", headers) == 200, headers
        for headers in (
            site("same-site"),
            site(""),
            site("Same-Origin"),
            {**EVIL, "x-forwarded-host": "evil.example"},
            {"origin": "http://["},
        ):
            assert await status("POST", headers) == 403, headers


@pytest.mark.parametrize("make_app", [starlette_app, quart_app, litestar_app, aiohttp_app])
async def test_without_origins_every_page_is_let_in(make_app: Any) -> None:
    """SECURITY: ASVS 5 3.5.1: `csrf_token` is there as well."""
    async with Browser(make_app(None)) as browser:
        assert (await browser.request("POST", "/page", headers=EVIL)).status == 200


@pytest.mark.parametrize(
    ("origin", "host", "is_allowed"),
    [
        ("https://shop.example", "shop.example", True),
        ("https://shop.example", "SHOP.example:443", True),
        ("http://shop.example", "shop.example:80", True),
        ("https://shop.example:8443", "shop.example", False),
        ("https://shop.example", "shop.example:8443", False),
        ("https://shop.example.evil.example", "shop.example", False),
        ("https://shop.example:x", "shop.example", False),
        ("https://shop.example:65536", "shop.example:65536", False),
        ("https://shop.example:0", "shop.example", False),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://[", "shop.example", False),
        ("http://[", "[", False),
        ("http://[1]", "[1]", False),
        ("http://]", "]", False),
        ("http://shop.example", "[", False),
        ("http://shop.example", "shop.example:x", False),
        ("http://\u2100", "shop.example", False),
        ("http://shop.example", "\u2100", False),
        ("https://", "", False),
        ("null", "", False),
        ("", "", False),
    ],
)
def test_the_applications_own_host_is_its_own_origin(origin: str, host: str, is_allowed: bool) -> None:
    """SECURITY: ASVS 5 4.4.2; the scheme is not compared, the port is."""
    assert Origins(()).allows(origin, host) == is_allowed


PIECES = st.sampled_from(
    ["http", "https://", "shop.example", "[", "]", "::1", "@", ":", "80", "/", "%", "\u2100", "\xff"]
)
MALFORMED = st.one_of(st.text(max_size=20), st.lists(PIECES, max_size=6).map("".join))


@given(MALFORMED, MALFORMED)
def test_whatever_a_client_sends_is_an_answer_and_no_error(origin: str, host: str) -> None:
    """SECURITY: ASVS 5 4.4.2; a handshake is refused, not a 500."""
    origins = Origins(OTHERS)
    assert origins.allows(origin, "other.test") is False
    assert origins.allows("https://evil.example", host) is False
    assert origins.allows(origin, host) in (True, False)


@pytest.mark.parametrize("origin", ["http://[", "http://]", "https://shop.example:x", "http://[::1"])
async def test_a_malformed_origin_is_refused_as_any_other(origin: str) -> None:
    """SECURITY: ASVS 5 4.4.2; likewise a malformed Host."""
    async with Browser(starlette_app([])) as browser:
        for headers in ({"origin": origin}, {"origin": "https://testserver", "host": origin.partition("//")[2]}):
            with pytest.raises(HandshakeDeniedError):
                async with browser.websocket("/", headers=headers):
                    pass


@pytest.mark.parametrize(
    "origin",
    [
        "shop.example",
        "https://shop.example/",
        "https://",
        "*",
        "ftp://a",
        "HTTPS://A",
        "http://[",
        "https://a:x",
        "https://:80",
        "https://ann@a",
    ],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    """F10."""
    with pytest.raises(ConfigError, match="origins"):
        Origins([origin])
