"""`setup` fits aiohttp, and so do its requests and responses."""

from typing import assert_type

from aiohttp import web

from aiosessions import Session, Store
from aiosessions.aiohttp import setup
from tests.typing.stores import AppData


def an_application_is_set_up_with_its_stores(store: Store[AppData]) -> web.Application:
    app = web.Application()
    setup(app, store)
    setup(store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return app


async def a_request_and_a_response_are_passed_straight_in(store: Store[AppData], request: web.Request) -> web.Response:
    session = await store.get(request)
    assert_type(session, Session[AppData])
    response = web.json_response(session.value.cart)
    await store.save(session, response)
    return response


async def so_is_a_websocket_s_response(store: Store[AppData], session: Session[AppData]) -> None:
    await store.save(session, web.WebSocketResponse())
