"""For Starlette and every other ASGI application: saves sessions before the headers go, runs the stores.

`app.add_middleware(SessionMiddleware, stores=[store])`, then `await store.get(request)`.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import msgspec

from aiosessions._errors import ConfigError, ConflictError, SessionError
from aiosessions._events import logger
from aiosessions._lifespan import ASGIApp, Lifespan, Receive, Send
from aiosessions._request import ASGIRequest, RawHeaders
from aiosessions._request_sessions import CHALLENGE, RequestSessions, error_status, sessions_of_request
from aiosessions._session import Session
from aiosessions._store import Store
from aiosessions._stores import Refresh, Refreshed, check_mapping, openable
from aiosessions.origins import Origins

__all__ = ["ASGIApp", "Connection", "Receive", "Send", "SessionMiddleware"]

# Any: each framework has types of its own for these, which agree in nothing but in being ASGI
Scope: TypeAlias = Any
Message: TypeAlias = Any
OnSaveError = Callable[[Any, SessionError], Awaitable[ASGIApp | None]]

_HEADERS_LEAVE = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))
_DENIAL = "websocket.http.response"
_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1
_REASONS = {401: b"Unauthorized", 403: b"Forbidden", 409: b"Conflict", 500: b"Internal Server Error"}


class SessionMiddleware:
    """Saves every session that was opened during a request, whichever store opened it.

    Below status 500 everything is saved; at 500 and above only what was destroyed is removed. It may be nested: the
    outermost saves. When a request is cancelled, what it destroyed ends all the same, and nothing is written.

    A save that fails as the headers leave is answered in the response's place: by the application's own exception
    handler for that error (or a base class of it) in Starlette and FastAPI, whose response carries the tokens of the
    sessions that were written; what the handler changes in sessions is not saved. Without one it is a 409 for a
    ConflictError, else a 500. For handshakes of websockets no handler is asked, and none for `Exception` or 500: such
    run further out than any middleware. Whoever wants the error in the page itself awaits `store.save(session)` there.

    A NoSessionError, NotAuthenticatedError or ReauthenticationError about a session of the request that no exception
    handler of the application takes (for it or a base class, up to SessionError) is a 401 with `WWW-Authenticate:
    Session`, and everything is saved; a websocket gets a 403 before it is accepted, and is closed with 1008 after it.

    Args:
        app: the application.
        stores: opened and closed with the application (ASGI lifespan); a failure is a failed start-up.
        refresh: loaded and touched on every request that carries their token, also where no handler looks: a store
            stands for its own name and every name (at most 64) that this process has opened through it, `(store, name)`
            for another.
        request_session: what Starlette's `request.session` is, for Authlib and older code. Since that cannot be
            awaited, it is loaded before the handler on every request that carries its token. Beside another middleware
            of this kind, the inner one's is what the application sees: so it is in sqladmin, whose backend brings its
            own, until its `middlewares` are emptied.
        origins: which other origins than the application's own host may open websockets and send what changes something
            (all but GET, HEAD and OPTIONS), like `https://shop.example`; None: any. Others get a 403 before the
            application sees them (ASVS 5 3.5.1, 4.4.2). CORSMiddleware goes outside of this one.
        on_save_error: called with the scope and the error of a save that failed as the headers leave; gives the ASGI
            application that answers, or None for ours. None: Starlette's exception handlers are asked.

    Raises:
        ConfigError: an argument cannot work; the message names it and the fix.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        stores: Sequence[Store[Any]] = (),  # Any: stores of any types
        refresh: Sequence[Refreshed] = (),
        request_session: Store[dict[str, Any]] | None = None,  # Any: what request.session may hold
        origins: Sequence[str] | None = None,
        on_save_error: OnSaveError | None = None,
    ) -> None:
        self._app = app
        self._stores = openable(stores)
        self._origins = None if origins is None else Origins(origins)
        self._refresh = Refresh(refresh)
        if request_session is not None:
            check_mapping("request_session", request_session)
        self._request_session = request_session
        self._is_warned = False
        if on_save_error is not None and not callable(on_save_error):
            raise ConfigError("on_save_error: give an async function of a scope and an error")
        self._on_save_error = on_save_error or _answer_of_starlette
        self._run = self._load_first if self._refresh or request_session is not None else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await Lifespan(receive, send).run(self._app, scope, self._stores)
            return
        if kind not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        if self._origins is not None and self._origins.refuses(ASGIRequest(scope), scope.get("method")):
            await _refuse(kind, receive, send)
            return

        sessions = sessions_of_request(scope)
        if "session" in scope and self._request_session is not None:
            scope = self._beside(scope)
        if sessions.reply.is_managed:
            await self._run(scope, receive, send)
            return

        sessions.reply.is_managed = True
        answer = _Answer(sessions, scope, receive, send, self._on_save_error)
        try:
            try:
                await self._run(scope, receive, answer.relay)
            except Exception as error:
                if not await answer.covers(error):
                    raise
            if sessions.found and sessions.must_end():
                await sessions.end()
        except BaseException:  # cancelled, most of all: from outside, and maybe while something was ending
            await sessions.abandon()
            raise

    async def _load_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._refresh.load(Connection(scope))
        if self._request_session is not None:
            scope["session"] = await self._request_session.get(Connection(scope))

        await self._app(scope, receive, send)
        if self._request_session is not None and not isinstance(scope["session"], Session):
            self._warn("the one inside of it wins, and ours is not seen: remove that one, or have it outside")

    def _beside(self, scope: Scope) -> Scope:
        """A scope of our own, where another middleware has put its session: it could not save ours."""
        if isinstance(scope["session"], Session):
            return scope  # of a SessionMiddleware around this one
        self._warn("ours wins, and the one outside of it is not seen: remove that one, or have it inside")
        return dict(scope)

    def _warn(self, which: str) -> None:
        if not self._is_warned:
            self._is_warned = True
            logger.warning("request.session is put there by SessionMiddleware and by another middleware: %s", which)


async def _refuse(kind: str, receive: Receive, send: Send) -> None:
    """403, to a handshake too: servers make one of a close before the accept."""
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    for message in _plain(403, "http.response"):
        await send(message)


class Connection(NamedTuple):
    """A Request, where there is no framework's."""

    scope: Scope

    def __repr__(self) -> str:  # tracebacks may show local variables: no cookie
        return f"<Connection {self.scope['type']}>"

    @property
    def headers(self) -> Mapping[str, str]:
        return {key.decode("latin-1"): value.decode("latin-1") for key, value in self.scope["headers"]}


class _Answer(msgspec.Struct, eq=False):
    """`send`, but the sessions are saved before the headers."""

    sessions: RequestSessions
    scope: Scope
    receive: Receive
    send: Send
    on_save_error: OnSaveError
    is_started: bool = False
    is_failed: bool = False
    is_closed: bool = False

    def __repr__(self) -> str:  # tracebacks may show local variables: no cookie
        return "<_Answer>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # a Struct's own would show it
        return []

    @property
    def _is_http(self) -> bool:
        kind: str = self.scope["type"]
        return kind == "http"

    @property
    def _prefix(self) -> str:
        return "http.response" if self._is_http else _DENIAL

    @property
    def _can_respond(self) -> bool:
        return self._is_http or _DENIAL in (self.scope.get("extensions") or ())

    async def relay(self, message: Message) -> None:
        """What the application has for `send`."""
        if self.is_failed:
            return  # the answer has been given; frameworks may try to give theirs
        kind = message["type"]
        if not self.is_started and kind in _HEADERS_LEAVE:
            if message.get("status") == 500 and await self._is_ours(sys.exception()):
                return
            self.is_started = True
            if self.sessions.found:
                try:
                    await self.sessions.save(message.get("status", 101))
                    message = self._telling(message)
                except SessionError as error:
                    self.is_failed = True
                    if not (self._is_http and await self._is_handled(error)):
                        await self._fail(error)
                    raise  # so that a stream does not run on for nobody
            self.sessions.reply.is_started = True
        elif kind == "websocket.close":
            self.is_closed = True
            if self.sessions.is_refused:
                message = {"type": kind, "code": _POLICY_VIOLATION}
            if not self.is_started:
                await self._deny(message)
                return
        await self.send(message)

    def _telling(self, message: Message) -> Message:
        """A new message: the sender's own may be on its way into a cache, where a token must not go."""
        headers = list(message.get("headers", ()))
        self.sessions.deliver(RawHeaders(headers))
        return {**message, "headers": headers}

    async def _is_handled(self, error: SessionError) -> bool:
        """Whether the application has answered with what it has for such an error."""
        try:
            app = await self.on_save_error(self.scope, error)
            if app is not None:
                await app(self.scope, self.receive, self._send_handled)
        except Exception:  # noqa: BLE001 -- whatever it raises, the client gets a clean answer
            logger.exception("the application's own answer to %s failed", type(error).__name__)
        return self.sessions.reply.is_started

    async def _send_handled(self, message: Message) -> None:
        await self.send(self._telling(message) if message["type"] == "http.response.start" else message)

    async def _deny(self, message: Message) -> None:
        """A handshake refused without a response: where the server can send one, it carries the tokens."""
        self.is_started = True
        self.sessions.reply.is_started = not self._can_respond
        try:
            await self.sessions.save(403)
        except SessionError as error:
            self.sessions.log(error, self._request)
        if self._can_respond and self.sessions.must_tell():
            await self._respond(403)
        else:
            await self.send(message)

    async def covers(self, error: Exception) -> bool:
        """The application raised: whether that is answered and logged, or the error goes on."""
        if self.is_failed or await self._is_ours(error):
            return True
        if self.is_started:
            return False

        await self.sessions.save(500)
        if self._can_respond and self.sessions.must_tell():
            # whoever makes the 500 outside of here knows nothing of tokens, and somebody has logged out
            await self._respond(500)
        return False

    async def _is_ours(self, error: BaseException | None) -> bool:
        """Whether it is an error that is answered here, and has been.

        An application inside of others makes a 500 of it while it passes: that is not sent.
        """
        if self.sessions.refuses(error):
            return await self._refuse()
        if isinstance(error, ConflictError) and not self.is_started:
            await self.sessions.save(500)
            await self._fail(error)
            return True
        return False

    async def _refuse(self) -> bool:
        """Say that nobody is there whom the page asks for; False: too late, another answer has begun."""
        if self.is_closed or (self._is_http and self.is_started):
            return False

        if self._is_http:
            start, body = _plain(401, self._prefix)
            start["headers"].append((b"www-authenticate", CHALLENGE.encode()))
            with suppress(SessionError):  # of a save; it has been answered then
                await self.relay(start)
                await self.relay(body)
        else:
            with suppress(OSError):  # the client is gone
                await self.relay({"type": "websocket.close", "code": _POLICY_VIOLATION})
        self.is_failed = True
        return True

    async def _fail(self, error: SessionError) -> None:
        self.is_failed = self.is_started = True
        self.sessions.log(error, self._request)
        if self._can_respond:
            await self._respond(error_status(error))
        else:
            await self.send({"type": "websocket.close", "code": 1011})

    @property
    def _request(self) -> str:
        """For the log."""
        return f"{self.scope.get('method', 'websocket')} {self.scope.get('path', '')}"

    async def _respond(self, status: int) -> None:
        self.is_started = True
        start, body = _plain(status, self._prefix)
        self.sessions.deliver(RawHeaders(start["headers"]))
        await self.send(start)
        await self.send(body)


def _plain(status: int, prefix: str) -> tuple[Message, Message]:
    """An answer of our own."""
    body = _REASONS[status]
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    return {"type": f"{prefix}.start", "status": status, "headers": headers}, {"type": f"{prefix}.body", "body": body}


async def _answer_of_starlette(scope: Scope, error: SessionError) -> ASGIApp | None:
    """What the application's exception handler says, where Starlette has left word of one."""
    handlers, *_ = scope.get("starlette.exception_handlers", ({},))
    if handlers.keys().isdisjoint(type(error).__mro__):
        return None

    from starlette.middleware.exceptions import ExceptionMiddleware  # noqa: PLC0415 -- here it has been imported already

    async def fail(_: Scope, __: Receive, ___: Send) -> None:
        raise error

    return ExceptionMiddleware(fail, handlers=handlers)
