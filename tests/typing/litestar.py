"""The plugin fits Litestar, and so do its requests and sockets."""

from typing import Any, assert_type

from litestar import Litestar, Request, WebSocket

from aiosessions import Session, Store
from aiosessions.litestar import SessionPlugin
from tests.typing.stores import AppData


def the_plugin_is_one_of_litestar_s(store: Store[AppData]) -> Litestar:
    SessionPlugin(store)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    return Litestar(plugins=[SessionPlugin(origins=[], refresh=[store, (store, "other")], session=store)])


async def a_request_is_passed_straight_in(
    store: Store[AppData],
    request: Request[Any, Any, Any],  # Any: the application's own types
    socket: WebSocket[Any, Any, Any],  # Any: likewise
) -> None:
    assert_type(await store.get(request), Session[AppData])
    assert_type(await store.get(socket), Session[AppData])
