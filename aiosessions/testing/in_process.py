"""Talks to an ASGI application without a socket, as a server would that follows ASGI 3."""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from aiosessions.testing.host_task import HostTask
from aiosessions.testing.response import (
    HandshakeDeniedError,
    Headers,
    LifespanError,
    Response,
    Stream,
    WebSocketClosedError,
)

__all__ = ["ASGISocket", "InProcess", "Sent"]

_Message = dict[str, Any]  # Any: ASGI messages hold anything

# Below 2.4 applications listen for a disconnect themselves, as they have to under uvicorn.
_VERSIONS = {"version": "3.0", "spec_version": "2.3"}
_PATIENCE = 5.0  # seconds that an application has to end after its client went


@dataclass(frozen=True)
class Sent:
    """One request on its way.

    Args:
        heard: called with the response's headers as they arrive, as a browser keeps cookies before the body is there.
    """

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    heard: Callable[[Headers], None]


class InProcess:
    """Calls an ASGI application.

    Args:
        app: the application.
        raise_app_exceptions: what it raises is raised to the caller; False: a 500, as a server makes it.
    """

    def __init__(self, app: Callable[..., Any], *, raise_app_exceptions: bool) -> None:  # Any: see Browser
        self._app = app
        self._raises = raise_app_exceptions
        self._lifespan: _Lifespan | None = None

    async def start(self) -> None:
        """Run the application's start-up. An application that knows no lifespan goes without.

        Raises:
            LifespanError: it failed.
        """
        lifespan = _Lifespan(self._app)
        await lifespan.start()
        self._lifespan = lifespan

    async def stop(self) -> None:
        """Run the application's shutdown.

        Raises:
            LifespanError: it failed.
        """
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            await lifespan.stop()

    async def ask(self, sent: Sent) -> Response:
        """The whole response."""
        exchange = _Exchange(self._app, self._scope("http", sent), sent, None)
        try:
            await exchange.run()
        except Exception:  # whatever the application raises, a server answers it
            if self._raises:
                raise
            if not exchange.status:
                return Response(500, Headers(), b"Internal Server Error", sent.url)
        return Response(exchange.status, exchange.headers, b"".join(exchange.chunks), sent.url)

    @asynccontextmanager
    async def stream(self, sent: Sent) -> AsyncGenerator[Stream, None]:
        """The response as soon as its headers are there; leaving the block is the client's disconnect."""
        writer, reader = anyio.create_memory_object_stream[bytes](0)
        exchange = _Exchange(self._app, self._scope("http", sent), sent, writer)
        task = HostTask(exchange.run, "application")
        try:
            with reader:
                await exchange.started.wait()
                if exchange.status:
                    yield Stream(exchange.status, exchange.headers, sent.url, reader)
        finally:
            exchange.over.set()
            await task.finish(within=_PATIENCE)
        if task.error is not None and (self._raises or not exchange.status):
            raise task.error

    @asynccontextmanager
    async def websocket(self, sent: Sent, subprotocols: Sequence[str]) -> AsyncGenerator["ASGISocket", None]:
        """An accepted WebSocket; leaving the block closes it.

        Raises:
            HandshakeDeniedError: the application did not accept it.
        """
        scope = self._scope("websocket", sent)
        scope["subprotocols"] = list(subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        del scope["method"]
        socket = ASGISocket(self._app, scope, raise_app_exceptions=self._raises)
        try:
            await socket.open(sent)
            yield socket
            await socket.close()
        finally:
            await socket.leave()
        socket.raise_error()

    def _scope(self, kind: str, sent: Sent) -> _Message:
        url = urlsplit(sent.url)
        scheme = url.scheme if kind == "http" else {"http": "ws", "https": "wss"}.get(url.scheme, url.scheme)
        port = url.port or (443 if url.scheme in ("https", "wss") else 80)
        scope: _Message = {
            "type": kind,
            "asgi": _VERSIONS,
            "http_version": "1.1",
            "method": sent.method,
            "scheme": scheme,
            "path": unquote(url.path) or "/",
            "raw_path": (url.path or "/").encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in sent.headers],
            "client": ("127.0.0.1", 50_000),
            "server": (url.hostname or "", port),
            "extensions": {},
        }
        if self._lifespan is not None:
            scope["state"] = dict(self._lifespan.state)
        return scope


class _Exchange:
    """One http request and its response; the body goes into a pipe, or is kept."""

    def __init__(
        self, app: Callable[..., Any], scope: _Message, sent: Sent, pipe: MemoryObjectSendStream[bytes] | None
    ) -> None:  # Any: see Browser
        self.status = 0
        self.headers: Headers = Headers()
        self.chunks: list[bytes] = []
        self.started = anyio.Event()
        self.over = anyio.Event()
        self._app = app
        self._scope = scope
        self._sent = sent
        self._pipe = pipe
        self._is_asked = False

    async def run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
            if not self.status:
                raise AssertionError("the application returned without a response")
        finally:
            self._end()

    async def _receive(self) -> _Message:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": self._sent.body, "more_body": False}

        await self.over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: _Message) -> None:
        await anyio.lowlevel.checkpoint()
        if self.over.is_set():
            return  # the client has gone
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = _headers(message)
            self._sent.heard(self.headers)
            if self._pipe is not None:
                self.started.set()
            return

        await self._pass_on(message.get("body", b""))
        if not message.get("more_body", False):
            self._end()

    async def _pass_on(self, chunk: bytes) -> None:
        if not chunk or self._sent.method == "HEAD":
            return
        if self._pipe is None:
            self.chunks.append(bytes(chunk))
            return
        try:
            await self._pipe.send(bytes(chunk))
        except anyio.BrokenResourceError:
            self._end()

    def _end(self) -> None:
        self.over.set()
        self.started.set()
        if self._pipe is not None:
            self._pipe.close()


class ASGISocket:
    """The client's end of a WebSocket; see `WebSocket`."""

    def __init__(
        self, app: Callable[..., Any], scope: _Message, *, raise_app_exceptions: bool
    ) -> None:  # Any: see Browser
        self.headers: Headers = Headers()
        self.subprotocol: str | None = None
        self._raises = raise_app_exceptions
        self._to_app, self._at_app = _channel()
        self._to_client, self._at_client = _channel()
        self._closed: WebSocketClosedError | None = None

        async def run() -> None:
            try:
                await app(scope, self._at_app.receive, self._accept_message)
            finally:
                self._to_client.close()

        self._task = HostTask(run, "application")

    async def send_text(self, text: str) -> None:
        await self._put({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        await self._put({"type": "websocket.receive", "bytes": data})

    async def receive_text(self) -> str:
        text: str = (await self._receive())["text"]
        return text

    async def receive_bytes(self) -> bytes:
        data: bytes = (await self._receive())["bytes"]
        return data

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if self._closed is None:
            self._closed = WebSocketClosedError(code, reason)
            await self._put({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def open(self, sent: Sent) -> None:
        """Shake hands; the Browser does."""
        await self._put({"type": "websocket.connect"})
        message = await self._next()
        if message["type"] == "websocket.accept":
            self.headers = _headers(message)
            self.subprotocol = message.get("subprotocol")
            sent.heard(self.headers)
            return

        status, body = 403, b""
        if message["type"] == "websocket.http.response.start":
            status = message["status"]
            self.headers = _headers(message)
            sent.heard(self.headers)
            more = True
            while more:
                part = await self._next()
                body += part.get("body", b"")
                more = part.get("more_body", False)
        raise HandshakeDeniedError(Response(status, self.headers, body, sent.url))

    def raise_error(self) -> None:
        """Raise, once, what the application raised; the Browser does."""
        error, self._task.error = self._task.error, None
        if error is not None and self._raises:
            raise error

    async def leave(self) -> None:
        """Wait for the application to end; the Browser does."""
        if self._closed is None:
            await self._put({"type": "websocket.disconnect", "code": 1006, "reason": ""})
        await self._task.finish(within=_PATIENCE)
        for end in (self._to_app, self._at_app, self._to_client, self._at_client):
            end.close()

    async def _receive(self) -> _Message:
        if self._closed is not None:
            raise self._closed
        message = await self._next()
        if message["type"] == "websocket.close":
            self._closed = WebSocketClosedError(message.get("code", 1000), message.get("reason") or "")
            await self._put({"type": "websocket.disconnect", "code": self._closed.code, "reason": self._closed.reason})
            raise self._closed
        return message

    async def _next(self) -> _Message:
        try:
            return await self._at_client.receive()
        except anyio.EndOfStream:
            await self._task.finish(within=_PATIENCE)
            self.raise_error()
            self._closed = WebSocketClosedError(1006, "the application ended")
            raise self._closed from None

    async def _put(self, message: _Message) -> None:
        await self._to_app.send(message)

    async def _accept_message(self, message: _Message) -> None:
        await self._to_client.send(message)


class _Lifespan:
    """The application's start-up and shutdown, in a task that stays between them."""

    def __init__(self, app: Callable[..., Any]) -> None:  # Any: see Browser
        self.state: dict[str, Any] = {}  # Any: the application's own
        self._app = app
        self._to_app, self._at_app = _channel()
        self._to_client, self._at_client = _channel()
        self._is_supported = True
        self._task = HostTask(self._run, "lifespan")

    async def start(self) -> None:
        try:
            await self._pass("startup")
        except BaseException:
            await self._end()
            raise

    async def stop(self) -> None:
        try:
            if self._is_supported:
                await self._pass("shutdown")
        finally:
            await self._end()

    async def _run(self) -> None:
        scope: _Message = {"type": "lifespan", "asgi": _VERSIONS, "state": self.state}
        try:
            await self._app(scope, self._at_app.receive, self._to_client.send)
        finally:
            self._to_client.close()

    async def _pass(self, phase: str) -> None:
        await self._to_app.send({"type": f"lifespan.{phase}"})
        try:
            message = await self._at_client.receive()
        except anyio.EndOfStream:
            self._is_supported = False  # it raised or returned at once: ASGI's way to say so
            return
        if message["type"] == f"lifespan.{phase}.failed":
            raise LifespanError(message.get("message") or f"{phase} failed")

    async def _end(self) -> None:
        await self._task.finish(within=_PATIENCE)
        for end in (self._to_app, self._at_app, self._to_client, self._at_client):
            end.close()


def _channel() -> tuple[MemoryObjectSendStream[_Message], MemoryObjectReceiveStream[_Message]]:
    return anyio.create_memory_object_stream[_Message](math.inf)


def _headers(message: _Message) -> Headers:
    lines = message.get("headers") or ()
    return Headers((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in lines)
