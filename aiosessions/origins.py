"""Who may open a websocket: browsers send cookies along whatever page opens one (ASVS 5 4.4.2)."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from aiosessions._errors import ConfigError

__all__ = ["Origins"]

_PORTS = {"http": 80, "https": 443}


class Origins:
    """The application's own host, and these others.

    Args:
        others: like `https://shop.example`.

    Raises:
        ConfigError: one of them is no origin.
    """

    __slots__ = ("_others",)

    def __init__(self, others: Iterable[str]) -> None:
        self._others = frozenset(map(self._checked, others))

    def allows(self, origin: str | None, host: str) -> bool:
        """Whether a handshake may go on.

        Args:
            origin: its Origin header; None: no browser sent it, and so no cookies of somebody else.
            host: its Host header. The scheme is not compared: behind a proxy it is not known.
        """
        if origin is None or origin in self._others:
            return True

        parts = urlsplit(origin)
        own = urlsplit(f"//{host}")
        try:
            default = _PORTS.get(parts.scheme)
            return bool(parts.hostname) and (parts.hostname, parts.port or default) == (
                own.hostname,
                own.port or default,
            )
        except ValueError:  # a port that is no number
            return False

    @staticmethod
    def _checked(origin: str) -> str:
        parts = urlsplit(origin)
        if parts.scheme not in _PORTS or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}".lower():
            raise ConfigError(f"origins: {origin!r} is no origin: write it like 'https://shop.example'")
        return origin
