"""Views of the requests and responses that frameworks have.

They differ in their headers' types; an ASGI scope and three spellings of a multi-dict cover them all.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from aiosessions._discreet import Discreet
from aiosessions._views import ResponseView

SECURE_SCHEMES = frozenset(("https", "wss"))


class ASGIRequest(Discreet, frozen=True):
    """A view of an ASGI scope, http or websocket."""

    scope: Mapping[str, Any]  # Any: ASGI scopes hold anything

    @property
    def scheme(self) -> str:
        scheme: str = self.scope.get("scheme", "http")
        return scheme

    def header(self, name: str) -> list[str]:
        wanted = name.encode()
        found: list[str] = []
        for key, value in self.scope["headers"]:
            if key == wanted:
                found.append(value.decode("latin-1"))  # before 3.12 a comprehension is a call
        return found


class RawHeaders(Discreet, frozen=True):
    """A view of the header list of an ASGI message, changed in place."""

    lines: list[tuple[bytes, bytes]]

    def header(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        size = len(wanted)
        found: list[str] = []
        for key, value in self.lines:
            if len(key) == size and key.lower() == wanted:
                found.append(value.decode("latin-1"))  # as above
        return found

    def add(self, name: str, value: str) -> None:
        self.lines.append((name.lower().encode(), value.encode("latin-1")))

    def replace(self, name: str, values: Iterable[str]) -> None:
        wanted = name.lower().encode()
        self.lines[:] = [line for line in self.lines if line[0].lower() != wanted]
        for value in values:
            self.add(name, value)


class _MultiDict:
    """A view of the headers of Starlette, Quart (werkzeug) and aiohttp (multidict) responses."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Any) -> None:  # Any: three libraries' types, told apart by their methods
        self._headers = headers

    def header(self, name: str) -> list[str]:
        headers = self._headers
        if hasattr(headers, "getall"):
            return list(headers.getall(name, ()))
        return list(headers.getlist(name))

    def add(self, name: str, value: str) -> None:
        headers = self._headers
        (headers.add if hasattr(headers, "add") else headers.append)(name, value)

    def replace(self, name: str, values: Iterable[str]) -> None:
        if name in self._headers:
            del self._headers[name]
        for value in values:
            self.add(name, value)


def response_view(headers: MutableMapping[str, str] | Any) -> ResponseView:  # Any: see Response in _store
    """A view of a framework's response headers."""
    return _MultiDict(headers)
