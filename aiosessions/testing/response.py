"""What a Browser gets back."""

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "HandshakeDeniedError",
    "Headers",
    "LifespanError",
    "Response",
    "Stream",
    "WebSocket",
    "WebSocketClosedError",
]


class Headers(Mapping[str, str]):
    """Headers by name, without case. `headers[name]` joins several lines with a comma; `lines` gives each."""

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self._lines = [(name.lower(), value) for name, value in lines]

    def lines(self, name: str) -> list[str]:
        """Every value of the header, as sent."""
        return [value for key, value in self._lines if key == name.lower()]

    def __getitem__(self, name: str) -> str:
        if not (values := self.lines(name)):
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._lines))

    def __len__(self) -> int:
        return len({name for name, _ in self._lines})

    def __repr__(self) -> str:
        return f"Headers({list(self)})"


@dataclass(frozen=True)
class Response:
    """A whole response.

    Args:
        history: the redirects that were followed to it, first one first.
    """

    status: int
    headers: Headers
    body: bytes
    url: str
    history: tuple["Response", ...] = ()

    @property
    def set_cookies(self) -> list[str]:
        """The Set-Cookie lines, as sent."""
        return self.headers.lines("set-cookie")

    @property
    def text(self) -> str:
        """The body, decoded by its charset, or as UTF-8."""
        charset = re.search(r"charset=\"?([\w.:-]+)", self.headers.get("content-type", ""), re.ASCII)
        return self.body.decode(charset[1] if charset else "utf-8", "replace")

    def json(self) -> Any:  # Any: the caller knows what it asked for
        """The body as a JSON document.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)


class Stream:
    """A response whose body is still coming: `async for chunk in stream`."""

    def __init__(self, status: int, headers: Headers, url: str, chunks: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.url = url
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def read(self) -> bytes:
        """All that is still to come."""
        return b"".join([chunk async for chunk in self._chunks])


class WebSocket(Protocol):
    """The client's end of a WebSocket.

    Attributes:
        headers: of the answer to the handshake.
        subprotocol: what the application chose.
    """

    headers: Headers
    subprotocol: str | None

    async def send_text(self, text: str) -> None:
        """Send a text message."""
        ...

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        ...

    async def receive_text(self) -> str:
        """The next message, which must be text.

        Raises:
            WebSocketClosedError: the application closed it, or ended.
        """
        ...

    async def receive_bytes(self) -> bytes:
        """The next message, which must be binary.

        Raises:
            WebSocketClosedError: the application closed it, or ended.
        """
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close this end; twice is fine."""
        ...


class HandshakeDeniedError(Exception):
    """The application did not accept the WebSocket.

    Args:
        response: what it answered; 403 where it just closed.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(f"the WebSocket handshake was answered with {response.status}")
        self.response = response


class WebSocketClosedError(Exception):
    """The application has closed the WebSocket.

    Args:
        code: RFC 6455 §7.4.
        reason: what it said.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class LifespanError(Exception):
    """The application said that its start-up or shutdown failed."""
