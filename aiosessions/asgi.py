"""For Starlette and every other ASGI application: saves sessions before the headers go, runs the stores.

    app.add_middleware(SessionMiddleware, stores=[store])
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, NamedTuple

from aiosessions._errors import ConfigError, ConflictError, SessionError, StorerError
from aiosessions._events import logger
from aiosessions._messages import RawHeaders
from aiosessions._request_sessions import RequestSessions, error_status, sessions_of_request
from aiosessions._store import Store

__all__ = ["SessionMiddleware"]

# Any: what stands in a scope or a message is ASGI's affair and each framework's
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS_LEAVE = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))
_DENIAL = "websocket.http.response"


class SessionMiddleware:
    """Saves every session that was opened during a request, whichever store opened it.

    Below status 500 everything is saved; at 500 and above only what was destroyed is removed. It may be nested: the
    outermost saves.

    Args:
        app: the application.
        stores: opened and closed with the application (ASGI lifespan); a failure is a failed start-up.
        refresh: loaded and touched on every request, also where no handler looks.
        request_session: what Starlette's `request.session` is, for Authlib, sqladmin and older code.

    Raises:
        ConfigError: something in *stores* cannot be opened and closed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        stores: Sequence[Store[Any]] = (),  # Any: stores of any types
        refresh: Sequence[Store[Any]] = (),  # Any: likewise
        request_session: Store[dict[str, Any]] | None = None,  # Any: what request.session may hold
    ) -> None:
        self._app = app
        self._stores = [openable(store) for store in stores]
        self._refresh = tuple(refresh)
        self._request_session = request_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await _Lifespan(receive, send).run(self._app, scope, self._stores)
            return
        if kind not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        sessions = sessions_of_request(scope)
        if not sessions.exchange.is_managed:
            sessions.exchange.is_managed = True
            send = answer = _Answer(sessions, send, scope)
            try:
                await self._run(scope, receive, send)
            except Exception as error:
                await answer.after(error)
            return

        await self._run(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        for store in self._refresh:
            try:
                await store.get(_Connection(scope))
            except StorerError:  # the handler may do without; if not, its own get() says so
                logger.exception("a session could not be refreshed")
        if self._request_session is not None:
            scope["session"] = await self._request_session.get(_Connection(scope))

        await self._app(scope, receive, send)


class _Connection(NamedTuple):
    """A Request, before there is a framework's."""

    scope: Scope

    @property
    def headers(self) -> Mapping[str, str]:
        return {key.decode("latin-1"): value.decode("latin-1") for key, value in self.scope["headers"]}


class _Answer:
    """`send`, but the sessions are saved before the headers."""

    __slots__ = ("_failure", "_is_started", "_scope", "_send", "_sessions")

    def __init__(self, sessions: RequestSessions, send: Send, scope: Scope) -> None:
        self._sessions = sessions
        self._send = send
        self._scope = scope
        self._is_started = False
        self._failure: SessionError | None = None

    async def __call__(self, message: Message) -> None:
        if self._failure is not None:
            return  # the answer has been given; frameworks may try to give theirs
        if not self._is_started:
            message = await self._start(message)
        await self._send(message)

    async def _start(self, message: Message) -> Message:
        kind = message["type"]
        if kind == "websocket.close":
            return await self._deny(message)
        if kind not in _HEADERS_LEAVE:
            return message

        self._is_started = True
        if not self._sessions:
            self._sessions.exchange.is_started = True
            return message

        try:
            await self._sessions.save(message.get("status", 101))
        except SessionError as error:
            await self._fail(error)
            raise  # so that a stream does not run on for nobody

        headers = message["headers"] = list(message.get("headers", ()))
        self._sessions.deliver(RawHeaders(headers))
        return message

    async def _deny(self, message: Message) -> Message:
        """A handshake refused without a response: where the server can send one, it carries the tokens."""
        self._is_started = True
        try:
            await self._sessions.save(403)
        except SessionError as error:
            logger.error("sessions of a refused handshake were not saved: %s", error)
            return message

        if not self._sessions.must_tell() or _DENIAL not in self._scope.get("extensions", {}):
            return message

        await self._respond(403, "Forbidden")
        return {"type": f"{_DENIAL}.body", "body": b""}

    async def after(self, error: Exception) -> None:
        """The application raised: answer if nobody else can say what must be said, else raise it on."""
        if self._failure is not None:
            return  # answered and logged
        if self._is_started:
            raise error
        if isinstance(error, ConflictError):
            await self._sessions.save(500)
            await self._fail(error)
            return

        await self._sessions.save(500)
        if self._sessions.must_tell() and self._scope["type"] == "http":
            # whoever makes the 500 outside of here knows nothing of tokens, and somebody has logged out
            await self._respond(500, "Internal Server Error")
            await self._send({"type": "http.response.body", "body": b"Internal Server Error"})
        raise error

    async def _fail(self, error: SessionError) -> None:
        self._failure = error
        self._is_started = True
        status = error_status(error)
        if status == 409:
            logger.info("a session was not saved: %s", error)
        else:
            logger.error("a session was not saved", exc_info=error)
        if self._scope["type"] == "websocket" and _DENIAL not in self._scope.get("extensions", {}):
            await self._send({"type": "websocket.close", "code": 1011})
            return

        text = "Conflict" if status == 409 else "Internal Server Error"
        await self._respond(status, text)
        body = "http.response.body" if self._scope["type"] == "http" else f"{_DENIAL}.body"
        await self._send({"type": body, "body": text.encode()})

    async def _respond(self, status: int, text: str) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if self._scope["type"] == "http":
            headers.append((b"content-length", str(len(text)).encode()))
        self._sessions.deliver(RawHeaders(headers))
        start = "http.response.start" if self._scope["type"] == "http" else f"{_DENIAL}.start"
        await self._send({"type": start, "status": status, "headers": headers})


class _Lifespan:
    """Opens the stores before the application starts and closes them after it has stopped."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._stores = AsyncExitStack()
        self._was_asked = False
        self._has_answered = False

    async def run(self, app: ASGIApp, scope: Scope, stores: Sequence[AbstractAsyncContextManager[Any]]) -> None:
        async with self._stores:
            try:
                for store in stores:
                    await self._stores.enter_async_context(store)
            except SessionError as error:
                logger.exception("a session store could not be opened")
                await self._receive()
                await self._send({"type": "lifespan.startup.failed", "message": str(error)})
                return

            try:
                await app(scope, self._listen, self._tell)
            except Exception:
                if self._was_asked or self._has_answered:
                    raise
                await self._stand_in()  # an application without a lifespan of its own

    async def _listen(self) -> Message:
        self._was_asked = True
        return await self._receive()

    async def _tell(self, message: Message) -> None:
        self._has_answered = True
        if message["type"].startswith("lifespan.shutdown"):
            await self._stores.aclose()  # the server may be gone once it has been told
        await self._send(message)

    async def _stand_in(self) -> None:
        await self._receive()
        await self._send({"type": "lifespan.startup.complete"})
        await self._receive()
        await self._tell({"type": "lifespan.shutdown.complete"})


def openable(store: Store[Any]) -> AbstractAsyncContextManager[Any]:  # Any: stores of any types
    """The store as what an application's lifespan opens and closes.

    Raises:
        ConfigError: it is no async context manager.
    """
    if isinstance(store, AbstractAsyncContextManager):
        return store

    raise ConfigError(f"stores: {type(store).__name__} is no async context manager: give the store itself")
