"""Which pages may cause a request or open a websocket: browsers send cookies along for any (ASVS 5 3.5.1, 4.4.2)."""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from aiosessions._errors import ConfigError
from aiosessions._views import RequestView

__all__ = ["Origins"]

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_OWN_SITE = frozenset(("same-origin", "none"))  # none: the user typed it
_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"https?://[a-z0-9._:\[\]-]+", re.ASCII)  # as browsers write it (RFC 6454 §6.2)


class Origins:
    """The application's own host, and these others.

    Args:
        others: like `https://shop.example`.

    Raises:
        ConfigError: one of them is no origin.
    """

    __slots__ = ("_others",)

    def __init__(self, others: Iterable[str]) -> None:
        if isinstance(others, (str, bytes)) or not hasattr(others, "__iter__"):
            raise ConfigError(f"origins={others!r}: give a list: origins=['https://shop.example']")
        self._others = frozenset(map(self._checked, others))

    def refuses(self, request: RequestView, method: str | None) -> bool:
        """Whether a page of another origin causes this.

        Where a browser says how the page and the application stand to each other (Fetch Metadata, W3C), that counts;
        else its Origin is compared with the Host that the server sees. `X-Forwarded-Host` is never read: anybody may
        send it.

        Args:
            request: what came.
            method: its method; GET, HEAD and OPTIONS change nothing and are let in. None: the handshake of a websocket.
        """
        if method in _SAFE:
            return False

        lines = request.header("origin")
        origin = ", ".join(lines) if lines else None  # more than one is none
        if method is not None and origin not in self._others and (sites := request.header("sec-fetch-site")):
            return not _OWN_SITE.issuperset(sites)
        return not self.allows(origin, ", ".join(request.header("host")))

    def allows(self, origin: str | None, host: str) -> bool:
        """Whether an origin is the application's own, or listed.

        Args:
            origin: the Origin header; None: no browser sent it, and so no cookies of somebody else.
            host: the Host header. The scheme is not compared: behind a proxy it is not known.
        """
        if origin is None or origin in self._others:
            return True

        theirs = _address(origin)
        return theirs is not None and theirs == _address(f"{theirs.scheme}://{host}")

    @staticmethod
    def _checked(origin: str) -> str:
        if not _ORIGIN.fullmatch(str(origin)) or _address(origin) is None:
            raise ConfigError(f"origins: {origin!r} is no origin: write it like 'https://shop.example'")
        return origin


class _Address(NamedTuple):
    scheme: str
    host: str
    port: int | None


def _address(origin: str) -> _Address | None:
    """Where an origin is; None for what is none, as `null` and whatever a client may make up."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:  # brackets around no address, a port that is no number, letters that no host has
        return None

    if not parts.scheme or not parts.hostname:
        return None
    return _Address(parts.scheme, parts.hostname, _PORTS.get(parts.scheme) if port is None else port)
