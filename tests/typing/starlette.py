"""The middleware and the store fit Starlette's own types."""

from typing import assert_type

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from aiosessions import Session, Store
from aiosessions.asgi import SessionMiddleware
from tests.typing.stores import AppData


def the_middleware_is_one_of_starlette_s(store: Store[AppData], plain: Store[dict[str, object]]) -> Starlette:
    app = Starlette(middleware=[Middleware(SessionMiddleware, stores=[store], refresh=[store, (store, "other")])])
    app.add_middleware(SessionMiddleware, stores=[store, plain])
    app.add_middleware(SessionMiddleware, shops=[store])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    return app


async def a_request_and_a_response_are_passed_straight_in(store: Store[AppData], request: Request) -> Response:
    session = await store.get(request)
    assert_type(session, Session[AppData])
    response = JSONResponse(session.value.cart)
    await store.save(session, response)
    return response


async def so_are_websockets_and_connections(store: Store[AppData], socket: WebSocket, any_: HTTPConnection) -> None:
    assert_type(await store.get(socket), Session[AppData])
    assert_type(await store.get(any_), Session[AppData])


def the_application_is_an_asgi_application(app: Starlette) -> SessionMiddleware:
    return SessionMiddleware(app)
