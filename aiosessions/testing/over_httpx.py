"""Talks real HTTP to a server that runs somewhere, with httpx's transport."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx

from aiosessions._errors import UnsupportedError
from aiosessions.testing.in_process import Sent
from aiosessions.testing.response import Headers, Response, Stream, WebSocket

__all__ = ["OverHTTPX"]

_SECONDS = 30.0  # for connecting, and between two chunks


class OverHTTPX:
    """A connection pool. The transport alone: httpx's client would keep cookies of its own."""

    def __init__(self) -> None:
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def start(self) -> None:
        """Nothing to do before the first request."""

    async def stop(self) -> None:
        """Hang up."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def ask(self, sent: Sent) -> Response:
        """The whole response."""
        async with self.stream(sent) as stream:
            return Response(stream.status, stream.headers, await stream.read(), sent.url)

    @asynccontextmanager
    async def stream(self, sent: Sent) -> AsyncGenerator[Stream, None]:
        """The response as soon as its headers are there; leaving the block hangs up."""
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(trust_env=False)
        request = httpx.Request(
            sent.method,
            sent.url,
            headers=sent.headers,
            content=sent.body,
            extensions={"timeout": httpx.Timeout(_SECONDS).as_dict()},
        )
        response = await self._transport.handle_async_request(request)
        try:
            headers = Headers(response.headers.multi_items())
            sent.heard(headers)
            yield Stream(response.status_code, headers, sent.url, response.aiter_bytes())
        finally:
            await response.aclose()

    def websocket(
        self,
        sent: Sent,
        subprotocols: Sequence[str],  # noqa: ARG002 -- the other servers need them
    ) -> AbstractAsyncContextManager[WebSocket]:
        """There are none with httpx.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{sent.url}: a Browser opens WebSockets of applications, not of addresses")
