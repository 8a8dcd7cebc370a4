"""Serves an aiohttp application on a free loopback port and talks to it with aiohttp's client."""

import ssl
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from aiosessions.testing.in_process import Sent
from aiosessions.testing.response import HandshakeDeniedError, Headers, Response, Stream, WebSocketClosedError

__all__ = ["AiohttpSocket", "OverAiohttp"]

_R = TypeVar("_R")


class OverAiohttp:
    """A server of aiohttp's own, with a certificate made for it, so that `request.scheme` is what the URL says.

    What the application raises becomes aiohttp's 500.

    Args:
        app: the application; it runs between `start` and `stop`.
    """

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Run the application's start-up and listen: on one port for https, on another for http."""
        runner = self._runner = web.AppRunner(self._app, access_log=None)
        self._client = _client()
        try:
            await runner.setup()
            for context in (_certificate(), None):
                await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Hang up, and run the application's shutdown."""
        await _started(self._client).close()
        await _started(self._runner).cleanup()

    async def ask(self, sent: Sent) -> Response:
        """The whole response."""
        async with self.stream(sent) as stream:
            return Response(stream.status, stream.headers, await stream.read(), sent.url)

    @asynccontextmanager
    async def stream(self, sent: Sent) -> AsyncGenerator[Stream, None]:
        """The response as soon as its headers are there; leaving the block hangs up."""
        url, headers = self._address(sent)
        async with _started(self._client).request(
            sent.method, url, headers=headers, data=sent.body or None, allow_redirects=False
        ) as response:
            received = Headers(response.headers.items())
            sent.heard(received)
            yield Stream(response.status, received, sent.url, response.content.iter_any())

    @asynccontextmanager
    async def websocket(self, sent: Sent, subprotocols: Sequence[str]) -> AsyncGenerator["AiohttpSocket", None]:
        """An accepted WebSocket; leaving the block closes it.

        Raises:
            HandshakeDeniedError: the application did not accept it.
        """
        url, headers = self._address(sent)
        answered: list[Headers] = []

        async def keep(_: object, __: object, end: aiohttp.TraceRequestEndParams) -> None:
            answered.append(Headers(end.response.headers.items()))

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(keep)
        async with _client(trace) as client:
            try:
                connection = await client.ws_connect(url, headers=headers, protocols=subprotocols)
            except aiohttp.WSServerHandshakeError as error:
                received = answered[-1] if answered else Headers()
                sent.heard(received)
                raise HandshakeDeniedError(Response(error.status, received, b"", sent.url)) from None

            sent.heard(answered[-1])
            async with connection:
                yield AiohttpSocket(connection, answered[-1])

    def _address(self, sent: Sent) -> tuple[URL, list[tuple[str, str]]]:
        """The port that listens, and the headers that say which host is meant."""
        url = urlsplit(sent.url)
        secure, plain = _started(self._runner).addresses
        port = (secure if url.scheme in ("https", "wss") else plain)[1]
        return URL(url._replace(netloc=f"127.0.0.1:{port}").geturl(), encoded=True), sent.headers


class AiohttpSocket:
    """The client's end of a WebSocket; see `WebSocket`."""

    def __init__(self, connection: "aiohttp.ClientWebSocketResponse[bool]", headers: Headers) -> None:
        self.headers = headers
        self.subprotocol: str | None = connection.protocol
        self._connection = connection

    async def send_text(self, text: str) -> None:
        await self._connection.send_str(text)

    async def send_bytes(self, data: bytes) -> None:
        await self._connection.send_bytes(data)

    async def receive_text(self) -> str:
        return str(await self._receive(aiohttp.WSMsgType.TEXT))

    async def receive_bytes(self) -> bytes:
        return bytes(await self._receive(aiohttp.WSMsgType.BINARY))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code=code, message=reason.encode())

    async def _receive(self, kind: aiohttp.WSMsgType) -> Any:  # Any: str or bytes, as *kind* says
        message = await self._connection.receive()
        if message.type is not kind:
            raise WebSocketClosedError(self._connection.close_code or 1006, str(message.extra or ""))
        return message.data


def _client(*traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    # The certificate is a moment old and nobody's: what it proves is not asked.
    connector = aiohttp.TCPConnector(ssl=False)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[*traces])


def _started(resource: _R | None) -> _R:
    if resource is None:
        raise RuntimeError("an aiohttp application needs its server started: use `async with Browser(app) as browser`")
    return resource


@cache
def _certificate() -> ssl.SSLContext:
    """One certificate per process, for a name that nobody checks."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "testserver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "testserver.pem"  # the ssl module reads certificates from files only
        chain.write_bytes(private + certificate.public_bytes(pem))
        context.load_cert_chain(chain)
    return context
