"""For Quart: `init_app(app, store)`, then `await store.get(request)` or `await store.get(websocket)`."""

from collections.abc import Sequence
from typing import Any

from quart import Quart, Response, has_request_context, request, websocket

from aiosessions._errors import ConflictError
from aiosessions._request_sessions import sessions_of_request
from aiosessions._store import Store
from aiosessions.asgi import SessionMiddleware

__all__ = ["init_app"]


def init_app(
    app: Quart,
    *stores: Store[Any],  # Any: stores of any types
    origins: Sequence[str] | None = None,
) -> None:
    """Save sessions before each answer of *app*, and open and close *stores* with it.

    A ConflictError that leaves a handler becomes a 409, unless the application has an error handler for it.

    Args:
        app: the application; also under `app.test_app()`.
        stores: what to open and close.
        origins: as for `SessionMiddleware`.

    Raises:
        ConfigError: something in *stores* cannot be opened and closed, or something in *origins* is no origin.
    """
    app.asgi_app = SessionMiddleware(app.asgi_app, stores=stores, origins=origins)  # type: ignore[method-assign]  # as Quart documents it
    if ConflictError not in app.error_handler_spec[None][None]:
        app.register_error_handler(ConflictError, _conflict)


async def _conflict(_: Exception) -> Response:
    connection = request if has_request_context() else websocket
    sessions_of_request(connection.scope).has_conflict = True
    return Response("Conflict", 409, content_type="text/plain; charset=utf-8")
