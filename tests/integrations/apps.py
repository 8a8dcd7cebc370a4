"""One small application per framework: the same pages over whichever store a test gives."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import fastapi
import litestar
import litestar.exceptions
import litestar.response
import quart
from aiohttp import web
from litestar.di import NamedDependency
from litestar.handlers import websocket as litestar_websocket
from litestar.params import FromPath
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import aiosessions.aiohttp
import aiosessions.quart
from aiosessions import Session, Store
from aiosessions.asgi import SessionMiddleware
from aiosessions.fastapi import session_of
from aiosessions.litestar import SessionPlugin
from aiosessions.testing import Browser

__all__ = ["FRAMEWORKS", "Basket", "House", "Page", "Reply", "Socket", "Theme", "browser_of"]

THIS_FILE = Path(__file__)


@dataclass
class Basket:
    """The value of the session "app"."""

    count: int = 0
    items: list[str] = field(default_factory=list[str])
    number: float = 0.0


@dataclass
class Theme:
    """The value of the session "theme"."""

    color: str = "light"


@dataclass
class Reply:
    """What a page answers; each framework makes a response of its own of it."""

    body: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cookies: Mapping[str, str] = field(default_factory=dict[str, str])
    kind: str = "plain"
    """plain; redirect; raised: the framework's own exception; file: this one; stream: `chunks`"""
    chunks: AsyncIterator[bytes] | None = None
    by_hand: Session[Any] | None = None
    """saved with `store.save(session, response)`"""


class Socket:
    """A framework's WebSocket, in the four verbs that the pages use."""

    def __init__(
        self,
        accept: Callable[[], Awaitable[object]],
        send: Callable[[str], Awaitable[object]],
        receive: Callable[[], Awaitable[str]],
        deny: Callable[[], Awaitable[object]],
    ) -> None:
        self.accept = accept
        self.send = send
        self.receive = receive
        self.deny = deny


async def _nothing() -> None:
    """Nothing."""


@dataclass
class House:
    """What an application is made of."""

    store: Store[Basket]
    theme: Store[Theme]
    pages: Mapping[str, "Page"]
    sockets: Mapping[str, Callable[["House", Any, Socket], Awaitable[None]]] = field(
        default_factory=dict[str, Callable[["House", Any, Socket], Awaitable[None]]]
    )
    is_managed: bool = True
    """whether the adapter saves"""
    refresh: Sequence[Store[Any] | tuple[Store[Any], str]] = ()
    """what the adapter keeps alive"""
    meanwhile: Callable[[], Awaitable[object]] = _nothing
    """what happens while a slow page is at work"""
    answers: Mapping[type[Exception], Reply] = field(default_factory=dict[type[Exception], Reply])
    """what the application's own exception handlers say; aiohttp, which has none, has a middleware that does"""

    @property
    def stores(self) -> tuple[Store[Any], ...]:
        return (self.store, self.theme)

    async def visit(self, page: str, request: Any) -> Reply:  # Any: each framework's own
        return await self.pages[page](self, request)

    def answer(self, error: Exception) -> Reply:
        """What the application says to an exception that it has a handler for."""
        return next(self.answers[kind] for kind in type(error).__mro__ if kind in self.answers)


Page = Callable[[House, Any], Awaitable[Reply]]


async def _save(house: House, session: Session[Any], response: Any) -> None:
    await house.store.save(session, response)


# Starlette


def starlette_app(house: House) -> Starlette:
    async def page(request: Request) -> Response:
        reply = await house.visit(request.path_params["page"], request)
        return await _starlette_response(house, reply)

    async def socket(websocket: WebSocket) -> None:
        await house.sockets[websocket.path_params["page"]](house, websocket, _starlette_socket(websocket))

    return Starlette(
        routes=[Route("/{page}", page, methods=["GET", "POST"]), WebSocketRoute("/ws/{page}", socket)],
        middleware=[Middleware(SessionMiddleware, stores=house.stores, refresh=house.refresh)]
        if house.is_managed
        else [],
        exception_handlers=_starlette_handlers(house),
    )


def _starlette_handlers(house: House) -> dict[Any, Any]:  # Any: Starlette and FastAPI have each a type of their own
    async def handle(_: Request, error: Exception) -> Response:
        return await _starlette_response(house, house.answer(error))

    return dict.fromkeys(house.answers, handle)


async def _starlette_response(house: House, reply: Reply) -> Response:
    if reply.kind == "raised":
        raise HTTPException(reply.status, headers=dict(reply.headers))
    response: Response
    if reply.kind == "redirect":
        response = RedirectResponse("/read", 303)
    elif reply.kind == "file":
        response = FileResponse(THIS_FILE)
    elif reply.chunks is not None:
        response = StreamingResponse(reply.chunks)
    else:
        response = Response(reply.body, reply.status)
    for name, value in reply.headers.items():
        response.headers[name] = value
    for name, value in reply.cookies.items():
        response.set_cookie(name, value)
    if reply.by_hand is not None:
        await _save(house, reply.by_hand, response)
    return response


def _starlette_socket(websocket: WebSocket) -> Socket:
    return Socket(websocket.accept, websocket.send_text, websocket.receive_text, websocket.close)


# FastAPI


def fastapi_app(house: House) -> fastapi.FastAPI:
    app = fastapi.FastAPI(openapi_url=None, exception_handlers=_starlette_handlers(house))
    if house.is_managed:
        app.add_middleware(SessionMiddleware, stores=house.stores, refresh=house.refresh)
    basket = session_of(house.store)

    @app.get("/nothing")
    async def nothing(request: Request) -> Response:
        return await _starlette_response(house, await house.visit("nothing", request))

    @app.api_route("/{page}", methods=["GET", "POST"])
    async def page(page: str, request: Request) -> Response:
        return await _starlette_response(house, await house.visit(page, request))

    @app.api_route("/injected/{page}", methods=["GET", "POST"])
    async def injected(
        page: str, request: Request, session: Annotated[Session[Basket], fastapi.Depends(basket)]
    ) -> Response:
        assert await house.store.get(request) is session
        return await _starlette_response(house, await house.visit(page, request))

    @app.websocket("/ws/{page}")
    async def socket(websocket: WebSocket, page: str) -> None:
        await house.sockets[page](house, websocket, _starlette_socket(websocket))

    return app


# Litestar


def litestar_app(house: House) -> litestar.Litestar:
    async def respond(reply: Reply) -> Any:  # Any: a response of some kind
        if reply.kind == "raised":
            raise litestar.exceptions.HTTPException(status_code=reply.status, headers=dict(reply.headers))
        response: litestar.Response[Any]
        if reply.kind == "redirect":
            response = litestar.response.Redirect("/read", status_code=303)
        elif reply.kind == "file":
            response = litestar.response.File(THIS_FILE, status_code=reply.status)
        elif reply.chunks is not None:
            response = litestar.response.Stream(reply.chunks, status_code=reply.status)
        else:
            response = litestar.Response(reply.body or None, status_code=reply.status, media_type="text/plain")
        for name, value in reply.headers.items():
            response.headers[name] = value
        for name, value in reply.cookies.items():
            response.set_cookie(name, value)
        return response

    @litestar.route("/{page:str}", http_method=["GET", "POST"])
    async def page(page: FromPath[str], request: litestar.Request[Any, Any, Any]) -> Any:
        return await respond(await house.visit(page, request))

    @litestar.route("/injected/{page:str}", http_method=["GET", "POST"])
    async def injected(
        page: FromPath[str], request: litestar.Request[Any, Any, Any], app: NamedDependency[Session[Basket]]
    ) -> Any:
        assert await house.store.get(request) is app
        return await respond(await house.visit(page, request))

    @litestar_websocket("/ws/{page:str}")
    async def socket(page: FromPath[str], socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await house.sockets[page](
            house, socket, Socket(socket.accept, socket.send_text, socket.receive_text, socket.close)
        )

    def answer(_: litestar.Request[Any, Any, Any], error: Exception) -> litestar.Response[Any]:
        reply = house.answer(error)
        return litestar.Response(reply.body, status_code=reply.status, media_type="text/plain")

    return litestar.Litestar(
        [page, socket, *([injected] if house.is_managed else [])],
        plugins=[SessionPlugin(refresh=house.refresh, app=house.store, theme=house.theme)] if house.is_managed else [],
        exception_handlers=dict.fromkeys(house.answers, answer),
        openapi_config=None,
        logging_config=None,
    )


# Quart


def quart_app(house: House) -> quart.Quart:
    app = quart.Quart("tests")
    if house.is_managed:
        aiosessions.quart.init_app(app, *house.stores, refresh=house.refresh)

    async def answer(error: Exception) -> Any:  # Any: Quart's own response
        reply = house.answer(error)
        return quart.Response(reply.body, reply.status)

    for kind in house.answers:
        app.register_error_handler(kind, answer)

    @app.route("/<page>", methods=["GET", "POST"])
    async def page(page: str) -> Any:
        reply = await house.visit(page, quart.request)
        if reply.kind == "raised":
            quart.abort(reply.status)
        response: Any  # Any: Quart's own response, or werkzeug's
        if reply.kind == "redirect":
            response = quart.redirect("/read", 303)
        elif reply.kind == "file":
            response = await quart.send_file(THIS_FILE)  # pyright: ignore[reportUnknownMemberType]  # Quart's PathLike
        elif reply.chunks is not None:
            response = quart.Response(reply.chunks)
        else:
            response = quart.Response(reply.body, reply.status)
        for name, value in reply.headers.items():
            response.headers[name] = value
        for name, value in reply.cookies.items():
            response.set_cookie(name, value)
        if reply.by_hand is not None:
            await _save(house, reply.by_hand, response)
        return response

    @app.websocket("/ws/<page>")
    async def socket(page: str) -> None:
        async def deny() -> None:
            quart.abort(403)

        websocket: Any = quart.websocket  # Any: it receives str or bytes; here the former only
        await house.sockets[page](house, websocket, Socket(websocket.accept, websocket.send, websocket.receive, deny))

    return app


# aiohttp


def aiohttp_app(house: House) -> web.Application:
    async def page(request: web.Request) -> web.StreamResponse:
        reply = await house.visit(request.match_info["page"], request)
        if reply.kind == "raised":
            raise _AIOHTTP_ERRORS[reply.status]
        if reply.kind == "redirect":
            raise web.HTTPSeeOther("/read")
        response: web.StreamResponse
        if reply.kind == "file":
            response = web.FileResponse(THIS_FILE)
        elif reply.chunks is not None:
            response = web.StreamResponse()
        else:
            response = web.Response(text=reply.body, status=reply.status)
        for name, value in reply.headers.items():
            response.headers[name] = value
        for name, value in reply.cookies.items():
            response.set_cookie(name, value)
        if reply.by_hand is not None:
            await _save(house, reply.by_hand, response)
        if reply.chunks is not None:
            await response.prepare(request)
            async for chunk in reply.chunks:
                await response.write(chunk)
            await response.write_eof()
        return response

    async def socket(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()

        async def accept() -> None:
            await websocket.prepare(request)

        async def deny() -> None:
            raise web.HTTPForbidden

        await house.sockets[request.match_info["page"]](
            house, request, Socket(accept, websocket.send_str, websocket.receive_str, deny)
        )
        return websocket

    @web.middleware
    async def answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except tuple(house.answers) as error:
            reply = house.answer(error)
            return web.Response(text=reply.body, status=reply.status)

    app = web.Application(middlewares=[answer] if house.answers else [])
    app.router.add_route("GET", "/ws/{page}", socket)
    app.router.add_route("*", "/{page}", page)
    if house.is_managed:
        aiosessions.aiohttp.setup(app, *house.stores, refresh=house.refresh)
    return app


_AIOHTTP_ERRORS = {404: web.HTTPNotFound, 503: web.HTTPServiceUnavailable}


FRAMEWORKS: dict[str, Callable[[House], Any]] = {  # Any: each framework's own application
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "litestar": litestar_app,
    "quart": quart_app,
    "aiohttp": aiohttp_app,
}


def browser_of(framework: str, house: House, clock: Callable[[], float] = time.time) -> Browser:
    """A browser at the application; what an application raises is a 500, as a server makes it."""
    app = FRAMEWORKS[framework](house)
    return Browser(app, raise_app_exceptions=False, keep_headers="Session-", clock=clock)
