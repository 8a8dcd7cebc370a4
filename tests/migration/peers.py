"""Applications on other session software: what they leave with a client, and what they read of it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp_session
import flask
import quart
from aiohttp import DummyCookieJar, web
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer as AiohttpServer
from aiohttp_session import AbstractStorage
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

__all__ = ["Data", "FlaskPeer", "Peer", "QuartPeer", "StarlettePeer", "aiohttp_client", "aiohttp_cookie", "value_of"]

Data = dict[str, Any]  # Any: whatever an application keeps in a session


def value_of(set_cookie: str) -> str:
    """A cookie's value as a store reads it: without the quotes that some put around it."""
    value = set_cookie.partition(";")[0].partition("=")[2]
    return value[1:-1] if value.startswith('"') else value


class Peer:
    """An application that keeps what it is told, and reads it.

    Attributes:
        secret: what it signs with.
    """

    secret: Any  # Any: each has its own kinds

    def kept(self, data: Data, *flashes: tuple[str, str]) -> str:
        """Its cookie's value after it has kept *data*, and flashed messages: category and text."""
        raise NotImplementedError

    def read(self, cookie: str) -> Data:
        """What it takes such a cookie for; {}: for none."""
        raise NotImplementedError


class StarlettePeer(Peer):
    def __init__(self, secret: Any, **options: Any) -> None:  # Any: of its middleware
        self.secret = secret
        self._data: Data = {}
        self._seen: Data = {}

        async def write(request: Request) -> Response:
            request.session.update(self._data)
            return Response()

        async def read(request: Request) -> Response:
            self._seen = dict(request.session)
            return Response()

        app = Starlette(
            routes=[Route("/write", write), Route("/read", read)],
            middleware=[Middleware(SessionMiddleware, secret_key=secret, **options)],
        )
        self._client = TestClient(app)

    def kept(self, data: Data, *flashes: tuple[str, str]) -> str:
        assert not flashes, "Starlette has none"
        self._data = data
        self._client.cookies.clear()
        return value_of(self._client.get("/write").headers["set-cookie"])

    def read(self, cookie: str) -> Data:
        self._client.cookies.clear()
        assert self._client.get("/read", headers={"cookie": f"session={cookie}"}).status_code == 200
        return self._seen


class FlaskPeer(Peer):
    def __init__(self, secret: str | bytes, *, fallbacks: list[str | bytes] | None = None) -> None:
        self.secret = secret
        self.app = flask.Flask("peer")
        self.app.secret_key = secret
        self.app.config["SECRET_KEY_FALLBACKS"] = fallbacks

        self._data: Data = {}
        self._flashes: tuple[tuple[str, str], ...] = ()
        self._seen: Data = {}

        def write() -> str:
            flask.session.update(self._data)
            for category, text in self._flashes:
                flask.flash(text, category)
            return ""

        def read() -> str:
            self._seen = dict(flask.session)
            return ""

        self.app.add_url_rule("/write", view_func=write)
        self.app.add_url_rule("/read", view_func=read)

    def kept(self, data: Data, *flashes: tuple[str, str]) -> str:
        self._data, self._flashes = data, flashes
        return value_of(self.app.test_client().get("/write").headers["set-cookie"])

    def read(self, cookie: str) -> Data:
        client = self.app.test_client(use_cookies=False)
        assert client.get("/read", headers={"cookie": f"session={cookie}"}).status_code == 200
        return self._seen


class QuartPeer(Peer):
    def __init__(self, secret: str | bytes, *, fallbacks: list[str | bytes] | None = None) -> None:
        self.secret = secret
        self.app = quart.Quart("peer")
        self.app.secret_key = secret
        self.app.config["SECRET_KEY_FALLBACKS"] = fallbacks

        self._data: Data = {}
        self._flashes: tuple[tuple[str, str], ...] = ()
        self._seen: Data = {}

        async def write() -> str:
            quart.session.update(self._data)
            for category, text in self._flashes:
                await quart.flash(text, category)
            return ""

        async def read() -> str:
            self._seen = dict(quart.session)
            return ""

        self.app.add_url_rule("/write", view_func=write)
        self.app.add_url_rule("/read", view_func=read)

    def kept(self, data: Data, *flashes: tuple[str, str]) -> str:
        self._data, self._flashes = data, flashes

        async def asked() -> str:
            return value_of((await self.app.test_client().get("/write")).headers["set-cookie"])

        return asyncio.run(asked())

    def read(self, cookie: str) -> Data:
        async def asked() -> int:
            client = self.app.test_client(use_cookies=False)
            return (await client.get("/read", headers={"cookie": f"session={cookie}"})).status_code

        assert asyncio.run(asked()) == 200
        return self._seen


Ask = Callable[..., Awaitable[Any]]  # Any: aiohttp's own


@asynccontextmanager
async def aiohttp_client(storage: AbstractStorage) -> AsyncGenerator[Ask]:
    """Asks a running application: `await ask("write", data)` gives its Set-Cookie.

    With a cookie `await ask("read", cookie=...)` gives the data, and "empty" takes all out of the session.
    """

    async def write(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        session.update(json.loads(await request.text()))
        return web.Response()

    async def empty(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request)).clear()
        return web.Response()

    async def read(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        return web.Response(text=json.dumps(dict(session)))

    app = web.Application()
    aiohttp_session.setup(app, storage)
    app.add_routes([web.post("/write", write), web.post("/empty", empty), web.post("/read", read)])
    async with AiohttpClient(AiohttpServer(app), cookie_jar=DummyCookieJar()) as client:

        async def ask(path: str, data: Data | None = None, *, cookie: str = "none=") -> Any:  # Any: see above
            async with client.post(f"/{path}", data=json.dumps(data), headers={"cookie": cookie}) as response:
                assert response.status == 200
                return json.loads(await response.text()) if path == "read" else response.headers.get("set-cookie")

        yield ask


def aiohttp_cookie(storage: AbstractStorage, data: Data) -> str:
    """The whole Set-Cookie of an application that has kept *data*, and reads it again."""

    async def asked() -> str:
        async with aiohttp_client(storage) as ask:
            said: str = await ask("write", data)
            assert await ask("read", cookie=said.partition(";")[0]) == data
            return said

    return asyncio.run(asked())
