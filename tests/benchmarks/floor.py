"""The floor: the least that a session can cost with the parts everybody has. A prototype, not a library.

No expiry on the server, no rotation, no logout that holds, no check of what a handler left in the value, cookies taken
from the first header that has one: what is missing here is what the difference to a library pays for.
"""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from time import time
from typing import Any, Protocol

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.requests import Request

from tests.benchmarks.pages import ASGIApp, Shop, respond

__all__ = ["Memory", "Sealed", "Server", "floor"]

_NAME = b"floor="


class Kept(Protocol):
    """Where a floor keeps the bytes of a session."""

    def encode(self, value: Shop, /) -> bytes:
        """A value's bytes."""
        ...

    def decode(self, data: bytes, /) -> Shop:
        """And back."""
        ...

    async def read(self, token: bytes) -> bytes | None:
        """The bytes behind a token."""
        ...

    async def write(self, token: bytes | None, data: bytes) -> bytes | None:
        """Keep them; a new token, if the client needs one."""
        ...


class Sealed:
    """AES-GCM + msgspec: with the client, encrypted."""

    encode = staticmethod(msgspec.msgpack.Encoder().encode)
    decode = staticmethod(msgspec.msgpack.Decoder(Shop).decode)

    def __init__(self) -> None:
        self._cipher = AESGCM(os.urandom(32))

    async def read(self, token: bytes) -> bytes | None:
        raw = urlsafe_b64decode(token)
        text = self._cipher.decrypt(raw[:12], raw[12:], b"floor")
        return text[8:] if int.from_bytes(text[:8], "big") > time() else None

    async def write(self, token: bytes | None, data: bytes) -> bytes | None:
        nonce = os.urandom(12)
        text = int(time() + 86_400).to_bytes(8, "big") + data
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text, b"floor"))


class Memory:
    """A dict in memory."""

    encode = staticmethod(msgspec.json.Encoder().encode)
    decode = staticmethod(msgspec.json.Decoder(Shop).decode)

    def __init__(self) -> None:
        self._data: dict[bytes, tuple[float, bytes]] = {}

    async def read(self, token: bytes) -> bytes | None:
        expires_at, data = self._data.get(token, (0.0, b""))
        return data if expires_at > time() else None

    async def write(self, token: bytes | None, data: bytes) -> bytes | None:
        new = None if token else urlsafe_b64encode(os.urandom(24))
        self._data[token or new or b""] = time() + 86_400, data
        return new


class Server:
    """GET and SET with an expiry, on a redis-py client."""

    encode = staticmethod(msgspec.json.Encoder().encode)
    decode = staticmethod(msgspec.json.Decoder(Shop).decode)

    def __init__(self, client: Any) -> None:  # Any: redis-py's asyncio client, whose commands have loose types
        self._get: Callable[[bytes], Awaitable[bytes | None]] = client.get
        self._set: Callable[..., Awaitable[object]] = client.set

    async def read(self, token: bytes) -> bytes | None:
        return await self._get(token)

    async def write(self, token: bytes | None, data: bytes) -> bytes | None:
        new = None if token else urlsafe_b64encode(os.urandom(24))
        await self._set(token or new, data, ex=86_400)
        return new


class _Floor:
    __slots__ = ("base", "headers", "kept", "send", "token", "value")

    def __init__(self, kept: Kept, scope: Any, send: Any) -> None:
        self.kept = kept
        self.headers = scope["headers"]  # not the scope, which refers to this: a cycle costs a collection
        self.send = send
        self.token: bytes | None = None
        self.base = b""
        self.value: Shop | None = None

    async def load(self) -> Shop:
        for name, value in self.headers:
            if name == b"cookie" and value.startswith(_NAME):
                self.token = token = value[len(_NAME) :]
                self.base = await self.kept.read(token) or b""
        self.value = self.kept.decode(self.base) if self.base else Shop()
        return self.value

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start" and self.value is not None:
            data = self.kept.encode(self.value)
            token = None if data == self.base else await self.kept.write(self.token, data)
            if token is not None:
                cookie = b"floor=%b; Path=/; Secure; HttpOnly; SameSite=Lax" % token
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie)]}
        await self.send(message)


def floor(kept: Kept) -> ASGIApp:
    """The page with the floor beneath it."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        Request(scope, receive)
        action = scope["path"]
        if action != "/untouched":
            value = await scope["floor"].load()
            assert value.theme == "dark"
            if action == "/write":
                value.visits += 1
        await respond(send)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        scope["floor"] = session = _Floor(kept, scope, send)
        await page(scope, receive, session)

    return middleware
