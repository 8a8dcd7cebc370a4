"""Others, as their documentation shows them, with the same eight keys and the same three actions."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any, cast

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.middleware.session.client_side import CookieBackendConfig
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request

from tests.benchmarks.measure import ACTIONS, Subject, Visit
from tests.benchmarks.pages import ASGIApp, Shop, asgi_subject, respond

__all__ = [
    "aiohttp_encrypted",
    "aiohttp_redis",
    "litestar_client_side",
    "starlette_signed",
    "starsessions_cookie",
    "starsessions_memory",
    "starsessions_redis",
]

# Any: only the bench group installs these two, so the type checkers do not see them
starsessions: Any = import_module("starsessions")
aiohttp_session: Any = import_module("aiohttp_session")


async def starlette_signed() -> Subject:
    """Starlette's own: signed, in a cookie."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if scope["path"] != "/untouched":
            _use(request.session, scope["path"][1:])
        await respond(send)

    app = cast("ASGIApp", SessionMiddleware(page, os.urandom(32).hex(), https_only=True))
    return await asgi_subject("Starlette SessionMiddleware (signed)", app)


async def starsessions_cookie() -> Subject:
    """The package starsessions: signed, in a cookie."""
    return await _starsessions("CookieStore (signed)", starsessions.CookieStore(os.urandom(32).hex()), clients=1)


async def starsessions_memory() -> Subject:
    """The same with a dict."""
    return await _starsessions("InMemoryStore", starsessions.InMemoryStore(), clients=1)


async def starsessions_redis(client: Any, *, clients: int) -> Subject:
    """The same with Redis."""
    store = import_module("starsessions.stores.redis").RedisStore(connection=client)
    return await _starsessions("RedisStore", store, clients=clients)


async def _starsessions(name: str, store: Any, *, clients: int) -> Subject:
    """Loaded where the page wants it."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if scope["path"] != "/untouched":
            await starsessions.load_session(request)
            _use(request.session, scope["path"][1:])
        await respond(send)

    app = starsessions.SessionMiddleware(page, store=store, lifetime=86_400)
    return await asgi_subject(f"starsessions {name}", app, clients=clients)


async def litestar_client_side() -> Subject:
    """Litestar's: AES-GCM, in a cookie."""

    @get("/{action:str}")
    async def page(request: LitestarRequest[Any, Any, Any], action: str) -> str:
        if action != "untouched":
            _use(request.session, action)
        return "ok"

    @get("/{action:str}")
    async def without(request: LitestarRequest[Any, Any, Any], action: str) -> str:
        return "ok"

    backend = CookieBackendConfig(secret=os.urandom(32), secure=True)
    app = cast("ASGIApp", Litestar([page], middleware=[backend.middleware], openapi_config=None, logging_config=None))
    bare = cast("ASGIApp", Litestar([without], openapi_config=None, logging_config=None))
    return await asgi_subject("Litestar client-side (AES-GCM)", app, without=bare)


async def aiohttp_encrypted() -> Subject:
    """aiohttp-session: Fernet, in a cookie."""
    storage = import_module("aiohttp_session.cookie_storage").EncryptedCookieStorage(os.urandom(32), secure=True)
    return await _aiohttp("aiohttp-session EncryptedCookie", storage, clients=1)


async def aiohttp_redis(client: Any, *, clients: int) -> Subject:
    """aiohttp-session: Redis, its id in a cookie."""
    storage = import_module("aiohttp_session.redis_storage").RedisStorage(client, secure=True, max_age=86_400)
    return await _aiohttp("aiohttp-session Redis", storage, clients=clients)


async def _aiohttp(name: str, storage: Any, *, clients: int) -> Subject:
    """Its middleware around a handler, called as aiohttp's application calls it."""
    middleware = aiohttp_session.session_middleware(storage)

    async def bare(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    def using(action: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def page(request: web.Request) -> web.Response:
            _use(await aiohttp_session.get_session(request), action)
            return web.Response(text="ok")

        return bare if action == "untouched" else page

    cookies: list[str] = []
    for _ in range(clients):
        response: web.Response = await middleware(make_mocked_request("GET", "/"), using("write"))
        cookies.extend(f"{key}={morsel.value}" for key, morsel in response.cookies.items())
    assert len(cookies) == clients, "the application sets no cookie"
    models: list[Any] = [  # Any: their parts, which a server's parser makes, have no public names
        make_mocked_request("GET", "/", headers={"Host": "shop.example", "Cookie": cookie}) for cookie in cookies
    ]

    def request(number: int) -> web.Request:
        """A new one: it keeps what it has parsed."""
        model = models[number]
        return web.Request(
            model._message, model._payload, model._protocol, model._payload_writer, model._task, model._loop
        )

    def visit(action: str) -> Visit:
        page = using(action)
        return lambda number: middleware(request(number), page)

    return Subject(name, lambda number: bare(request(number)), {action: visit(action) for action in ACTIONS})


def _use(session: Any, action: str) -> None:
    """What the page does with a session that reads like a dict."""
    if "theme" not in session:
        session.update(asdict(Shop()))
    assert session["theme"] == "dark"
    if action == "write":
        session["visits"] += 1
