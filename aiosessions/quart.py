"""For Quart: `init_app(app, store)`, then `await store.get(request)` or `await store.get(websocket)`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import ref

from quart import Quart, Request, Response, current_app, has_request_context, request, websocket
from quart.utils import encode_headers

from aiosessions._errors import ConflictError, NoSessionError, ReauthenticationError, SessionError
from aiosessions._lifespan import ASGIApp, Receive, Send
from aiosessions._request_sessions import CHALLENGE, kinds, sessions_of_request
from aiosessions._store import Store
from aiosessions._stores import Refreshed
from aiosessions.asgi import Scope, SessionMiddleware

__all__ = ["init_app"]

_REQUEST = "aiosessions.request"
_OURS = (ConflictError, NoSessionError, ReauthenticationError)
_TEXT = "text/plain; charset=utf-8"


def init_app(
    app: Quart,
    *stores: Store[Any],  # Any: stores of any types
    origins: Sequence[str] | None = None,
    refresh: Sequence[Refreshed] = (),
) -> None:
    """Save sessions before each answer of *app*, and open and close *stores* with it.

    A ConflictError that leaves a handler becomes a 409, and a NoSessionError, NotAuthenticatedError or
    ReauthenticationError about a session of the request a 401 (a websocket as in `SessionMiddleware`), unless the
    application or the blueprint has an error handler for it, or for a base class up to SessionError. The same handlers,
    and those for the other errors, answer when a save fails as the headers leave: in a request context of their own,
    since that of the page is gone by then; not for the handshakes of websockets.

    Args:
        app: the application; also under `app.test_app()`.
        stores: what to open and close.
        origins: as for `SessionMiddleware`.
        refresh: likewise.

    Raises:
        ConfigError: an argument cannot work; the message names it and the fix.
    """

    async def answer(scope: Scope, error: SessionError) -> ASGIApp | None:
        request: Request | None = scope.get(_REQUEST, _nobody)()
        return None if request is None else await _answer(app, request, error)

    saving = SessionMiddleware(app.asgi_app, stores=stores, refresh=refresh, origins=origins, on_save_error=answer)
    app.asgi_app = saving  # type: ignore[method-assign]  # as Quart documents it
    app.before_request(_remember)
    app.before_websocket(_take)
    _add_answers(app, None)


async def _remember() -> None:
    """Weakly: the request refers to its scope."""
    proxy: Any = request  # Any: Quart calls it a Request
    proxy.scope[_REQUEST] = ref(proxy._get_current_object())
    _add_answers(current_app, *proxy.blueprints)


async def _take() -> None:
    _add_answers(current_app, *websocket.blueprints)


def _add_answers(app: Any, *names: str | None) -> None:  # Any: Quart, or what stands for the current one
    """Quart asks a blueprint's handler for Exception before the application's for such an error: so each has ours."""
    for name in names:
        for kind in _OURS:
            app.error_handler_spec[name][None].setdefault(kind, _own_answer)


def _nobody() -> None:
    """What a reference to a request that never was gives."""


async def _answer(app: Quart, request: Request, error: SessionError) -> ASGIApp | None:
    """What the application's error handler says: that of the blueprint, or the application's own."""
    handle = _handler(app, request.blueprints, type(error).__mro__)
    if handle is None:
        return None

    async with app.request_context(request):
        result: Any = await app.ensure_async(handle)(error)  # Any: whatever a handler of Flask's or Quart's may return
        response: Any = await app.make_response(result)  # Any: hooks may return a response of Werkzeug's, too
        for name in (*request.blueprints, None):
            for hook in reversed(app.after_request_funcs[name]):
                response = await app.ensure_async(hook)(response)
        body = await response.get_data(as_text=False) if isinstance(response, Response) else response.get_data()
    headers = encode_headers(response.headers)

    async def send_it(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return send_it


async def _own_answer(error: Exception) -> Any:  # Any: whatever a handler of Flask's or Quart's may return
    """409 or 401, unless the application or the blueprint has a handler for the error or a base class."""
    connection = request if has_request_context() else websocket
    sessions = sessions_of_request(connection.scope)
    handle = _handler(current_app, connection.blueprints, kinds(error))
    if handle is not None:
        return await current_app.ensure_async(handle)(error)
    if isinstance(error, ConflictError):
        sessions.has_conflict = True
        return Response("Conflict", 409, content_type=_TEXT)
    if sessions.refuses(error):
        if has_request_context():
            return Response("Unauthorized", 401, {"WWW-Authenticate": CHALLENGE}, content_type=_TEXT)
        sessions.is_refused = True
        return Response("Forbidden", 403, content_type=_TEXT)

    # the application's: what Quart would do, had we no handler
    handle = _handler(current_app, connection.blueprints, (Exception,))
    if handle is not None:
        return await current_app.ensure_async(handle)(error)
    raise error


def _handler(app: Any, blueprints: Iterable[str], kinds: Iterable[type]) -> Callable[..., Any] | None:
    """The application's own for an error of these kinds: that of the blueprint, or else the application's."""
    spec, kinds = app.error_handler_spec, list(kinds)
    found = (spec[name][None].get(kind) for name in (*blueprints, None) for kind in kinds)
    return next((handle for handle in found if handle not in (None, _own_answer)), None)
