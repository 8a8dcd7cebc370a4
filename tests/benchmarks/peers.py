"""Others, as their documentation shows them, with the same eight keys and the same three actions.

Each keeps a session for a day, and says `Secure` in its cookie, as ours do.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp_session
import starsessions
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.middleware.session.client_side import CookieBackendConfig
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starsessions.stores.redis import RedisStore

from tests.benchmarks.measure import ACTIONS, Subject, Visit
from tests.benchmarks.pages import Application, ASGIApp, bare, respond, use

__all__ = [
    "aiohttp_encrypted",
    "aiohttp_redis",
    "litestar_client_side",
    "starlette_signed",
    "starsessions_cookie",
    "starsessions_memory",
    "starsessions_redis",
]


def starlette_signed() -> Application:
    """Starlette's own: signed, in a cookie."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if scope["path"] != "/untouched":
            use(request.session, scope["path"][1:])
        await respond(send)

    app = SessionMiddleware(page, os.urandom(32).hex(), max_age=86_400, https_only=True)
    return Application("Starlette SessionMiddleware (signed)", cast("ASGIApp", app), bare)


def starsessions_cookie() -> Application:
    """The package starsessions: signed, in a cookie."""
    return _starsessions("CookieStore (signed)", starsessions.CookieStore(os.urandom(32).hex()))


def starsessions_memory() -> Application:
    """The same with a dict."""
    return _starsessions("InMemoryStore", starsessions.InMemoryStore())


def starsessions_redis(client: Any) -> Application:
    """The same with Redis."""
    store = RedisStore(connection=client)
    return _starsessions("RedisStore", store)


def _starsessions(name: str, store: Any) -> Application:
    """Loaded where the page wants it."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if scope["path"] != "/untouched":
            await starsessions.load_session(request)
            use(request.session, scope["path"][1:])
        await respond(send)

    app = starsessions.SessionMiddleware(page, store=store, lifetime=86_400)
    return Application(f"starsessions {name}", app, bare)


def litestar_client_side() -> Application:
    """Litestar's: AES-GCM, in a cookie."""

    @get("/{action:str}")
    async def page(request: LitestarRequest[Any, Any, Any], action: str) -> str:
        if action != "untouched":
            use(request.session, action)
        return "ok"

    @get("/{action:str}")
    async def without(request: LitestarRequest[Any, Any, Any], action: str) -> str:
        return "ok"

    backend = CookieBackendConfig(secret=os.urandom(32), max_age=86_400, secure=True)
    app = cast("ASGIApp", Litestar([page], middleware=[backend.middleware], openapi_config=None, logging_config=None))
    bare_litestar = cast("ASGIApp", Litestar([without], openapi_config=None, logging_config=None))
    return Application("Litestar client-side (AES-GCM)", app, bare_litestar)


async def aiohttp_encrypted() -> Subject:
    """aiohttp-session: Fernet, in a cookie."""
    storage = EncryptedCookieStorage(os.urandom(32), secure=True, max_age=86_400)
    return await _aiohttp("aiohttp-session EncryptedCookie", storage, clients=1)


async def aiohttp_redis(client: Any, *, clients: int) -> Subject:
    """aiohttp-session: Redis, its id in a cookie."""
    storage = RedisStorage(client, secure=True, max_age=86_400)
    return await _aiohttp("aiohttp-session Redis", storage, clients=clients)


async def _aiohttp(name: str, storage: Any, *, clients: int) -> Subject:
    """Its middleware around a handler, called as aiohttp's application calls it."""
    middleware = aiohttp_session.session_middleware(storage)

    async def without(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    def using(action: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def page(request: web.Request) -> web.Response:
            use(await aiohttp_session.get_session(request), action)
            return web.Response(text="ok")

        return without if action == "untouched" else page

    cookies: list[str] = []
    for _ in range(clients):
        response = await middleware(make_mocked_request("GET", "/"), using("write"))
        cookies.extend(f"{key}={morsel.value}" for key, morsel in response.cookies.items())
    assert len(cookies) == clients, "the application sets no cookie"
    models: list[Any] = [  # Any: their parts, which a server's parser makes, have no public names
        make_mocked_request("GET", "/", headers={"Host": "shop.example", "Cookie": cookie}) for cookie in cookies
    ]

    def request(number: int) -> web.Request:
        """A new one: it keeps what it has parsed."""
        model = models[number % clients]
        return web.Request(
            model._message, model._payload, model._protocol, model._payload_writer, model._task, model._loop
        )

    def visit(action: str) -> Visit:
        page = using(action)
        return lambda number: middleware(request(number), page)

    visits = {action: visit(action) for action in ACTIONS}
    return Subject(name, lambda number: without(request(number)), visits, cookies[0])
