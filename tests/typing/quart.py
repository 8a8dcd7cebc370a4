"""`init_app` fits Quart, and so do its request, its websocket and its responses."""

from typing import assert_type

from quart import Quart, Response, request, websocket

from aiosessions import Session, Store
from aiosessions.quart import init_app
from tests.typing.stores import AppData


def an_application_is_set_up_with_its_stores(store: Store[AppData]) -> Quart:
    app = Quart("shop")
    init_app(app, store)
    init_app(store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return app


async def a_request_and_a_response_are_passed_straight_in(store: Store[AppData]) -> Response:
    session = await store.get(request)
    assert_type(session, Session[AppData])
    assert_type(await store.get(websocket), Session[AppData])
    response = Response("Welcome")
    await store.save(session, response)
    return response
