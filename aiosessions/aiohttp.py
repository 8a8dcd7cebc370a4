"""For aiohttp: `setup(app, store)`, then `await store.get(request)`.

Without `setup` by hand: `await store.save(session, response)`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from aiosessions._errors import ConflictError, SessionError
from aiosessions._request import response_view
from aiosessions._request_sessions import CHALLENGE, RequestSessions, error_status, incoming_other
from aiosessions._store import Store
from aiosessions._stores import Refresh, Refreshed, openable
from aiosessions._views import RequestView
from aiosessions.origins import Origins

__all__ = ["setup"]


def setup(
    app: web.Application,
    *stores: Store[Any],  # Any: stores of any types
    origins: Sequence[str] | None = None,
    refresh: Sequence[Refreshed] = (),
) -> None:
    """Save sessions before each answer of *app* and its sub-applications, and open and close *stores* with it.

    aiohttp has no exception handlers. A middleware of *app*, or of a sub-application, sees what an explicit save raised
    and may answer it; when the save before the headers fails it has returned already. That error leaves as
    `web.HTTPConflict` (a ConflictError, also one that nobody has caught) or `web.HTTPInternalServerError`, whose
    `__cause__` it is, so that applications further out may answer. For a response that a handler prepares itself,
    `prepare()` raises it. A NoSessionError, NotAuthenticatedError or ReauthenticationError about a session of the
    request that nobody has caught leaves likewise as `web.HTTPUnauthorized`, and everything is saved; a websocket gets
    a 403 before it is accepted, and is closed with 1008 after it. When a request is cancelled, what it destroyed ends
    all the same, and nothing is written.

    Args:
        app: an application that does not run yet.
        stores: what to open and close.
        origins: which other origins than the application's own host may open websockets and send what changes something
            (all but GET, HEAD and OPTIONS), like `https://shop.example`; None: any. Others get a 403 before a
            handler sees them (ASVS 5 3.5.1, 4.4.2).
        refresh: as for `SessionMiddleware`.

    Raises:
        ConfigError: an argument cannot work; the message names it and the fix.
    """
    opened, refreshed = openable(stores), Refresh(refresh)
    if refreshed:
        app.middlewares.insert(0, _refreshing(refreshed))
    if origins is not None:
        app.middlewares.insert(0, _guard(Origins(origins)))
    app.cleanup_ctx.extend(map(_running, opened))
    app.middlewares.insert(0, _save)  # the outermost of this application
    app.on_response_prepare.append(_before_headers)


def _guard(origins: Origins) -> Middleware:
    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if origins.refuses(_RequestView(request), None if _is_socket(request) else request.method):
            raise web.HTTPForbidden(text="Forbidden")
        return await handler(request)

    return guard


def _refreshing(refresh: Refresh) -> Middleware:
    @web.middleware
    async def load(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        await refresh.load(request)
        return await handler(request)

    return load


def _is_socket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


class _Saving:
    """A request's sessions, and how far saving them has come."""

    __slots__ = ("is_saved", "sessions", "socket", "unsent")

    def __init__(self) -> None:
        self.sessions = RequestSessions()
        self.is_saved = False
        self.socket: web.WebSocketResponse | None = None  # that was accepted, until the request is through
        self.unsent: Mapping[str, str] | None = None  # the headers that a handler prepared and saving kept back


_SAVING = web.RequestKey("saving", _Saving)


class _RequestView:
    """What a Transport reads of an aiohttp request."""

    __slots__ = ("_request",)

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    @property
    def scheme(self) -> str:
        return self._request.scheme

    def header(self, name: str) -> list[str]:
        return self._request.headers.getall(name, [])


@incoming_other.register(web.BaseRequest)
def _incoming(request: web.BaseRequest) -> tuple[RequestView, RequestSessions]:
    return _RequestView(request), _saving(request).sessions


def _saving(request: web.BaseRequest) -> _Saving:
    saving = request.get(_SAVING)
    if saving is None:
        saving = request[_SAVING] = _Saving()
    return saving


@web.middleware
async def _save(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Write before aiohttp prepares what the handler returned or raised: here an error still becomes an answer."""
    saving = _saving(request)
    sessions = saving.sessions
    if sessions.reply.is_managed:  # by an outer application
        return await handler(request)

    sessions.reply.is_managed = True
    try:
        return await _answer(saving, request, handler)
    finally:  # cancelled too, maybe while something was ending
        saving.socket = None  # it refers to the request
        await sessions.end()


async def _answer(
    saving: _Saving, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as answer:
        error = await _saved(saving, answer.status)
        if error is None:
            raise
    except Exception as raised:
        if saving.sessions.refuses(raised):
            socket = await _refuse(saving, request, raised)
            if socket is not None:
                return socket
        if saving.sessions.reply.is_started:
            raise
        error = await _saved(saving, 500)
        if not isinstance(raised, SessionError) or (saving.unsent is None and not isinstance(raised, ConflictError)):
            raise  # aiohttp makes the 500, and `_before_headers` sees it
        error = raised
    else:
        # a handler that returns something else, or nothing: aiohttp logs it and answers 500
        error = await _saved(saving, getattr(response, "status", 500))
        if error is None:
            return response

    raise _refusal(saving, request, error) from error


async def _refuse(saving: _Saving, request: web.Request, error: Exception) -> web.StreamResponse | None:
    """401, or for a socket 403; one that was accepted is closed. None: too late, another answer has begun."""
    if saving.sessions.reply.is_started:
        if saving.socket is not None and not saving.socket.closed:
            await saving.socket.close(code=1008)  # policy violation (RFC 6455 §7.4.1)
            return saving.socket
        return None

    is_socket = _is_socket(request)
    failed = await _saved(saving, 403 if is_socket else 401)
    if failed is not None:
        raise _refusal(saving, request, failed) from failed
    if is_socket:
        raise web.HTTPForbidden(text="Forbidden") from error
    raise web.HTTPUnauthorized(text="Unauthorized", headers={"WWW-Authenticate": CHALLENGE}) from error


async def _saved(saving: _Saving, status: int) -> SessionError | None:
    if saving.sessions.reply.is_started:
        return None

    saving.is_saved = True
    try:
        await saving.sessions.save(status)
    except SessionError as error:
        return error
    return None


async def _before_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the client, on whichever response leaves in the end; aiohttp drops the connection if this raises.

    Except within the handler: for a response that it prepares itself (streams, websockets) sessions are saved here.
    """
    saving = request.get(_SAVING)
    if saving is None or saving.sessions.reply.is_started:
        return

    if not saving.is_saved:
        try:
            await saving.sessions.save(response.status)
        except SessionError:
            saving.unsent = response.headers
            raise
    if saving.unsent is not None:
        _frame_like(saving.unsent, response)
    saving.sessions.deliver(response_view(response.headers))
    if isinstance(response, web.WebSocketResponse):
        saving.socket = response


def _refusal(saving: _Saving, request: web.Request, error: SessionError) -> web.HTTPException:
    saving.sessions.log(error, f"{request.method} {request.path}")
    if error_status(error) == 409:
        return web.HTTPConflict(text="Conflict")
    return web.HTTPInternalServerError(text="Internal Server Error")


def _frame_like(unsent: Mapping[str, str], response: web.StreamResponse) -> None:
    """Another response leaves in the place of a prepared one: the connection's writer is set to that one's framing."""
    headers = response.headers
    framing = {name: unsent[name] for name in ("Transfer-Encoding", "Content-Encoding") if name in unsent}
    if framing:
        headers.popall("Content-Length", None)
        headers.update(framing)
    headers["Connection"] = "close"
    response.force_close()


def _running(
    store: AbstractAsyncContextManager[Any],  # Any: whatever entering gives
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def running(_: web.Application) -> AsyncIterator[None]:
        async with store:
            yield

    return running
