"""Tokens in a header of their own, for clients without cookies."""

import re
from functools import lru_cache

from aiosessions._errors import ConfigError, SessionTooLargeError
from aiosessions._views import RequestView, ResponseView
from aiosessions.transports.transport import Carried, check_token, forbid_caching, merge_list

__all__ = ["HeaderTransport"]

_HEADER_NAME = re.compile(r"[a-z0-9-]+", re.ASCII)
_HEADER_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2

# Headers with a meaning of their own, which a prefix and a session name must not spell together.
_TAKEN = frozenset(
    (
        "access-control-allow-credentials",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "cache-control",
        "clear-site-data",
        "content-encoding",
        "content-length",
        "content-security-policy",
        "content-type",
        "set-cookie",
        "strict-transport-security",
        "transfer-encoding",
    )
)

_HEADER_LIMIT = 16_384


class HeaderTransport:
    """Carries each session in a header of its own: `Session-App` for "app". The value `-` ends the session.

    For clients without cookies: native apps, other services. Session names consist of lower-case letters, digits and
    hyphens here, since header names know no case. The lifetime of a header is the client's affair.

    Args:
        prefix: what the header's name begins with; None: `Session-`, or nothing where there is a suffix.
        suffix: what it ends with: `App-Session` with `suffix="-Session"`.
        expose: name the header in `Access-Control-Expose-Headers`, so that a script of another origin may read it.

    Raises:
        ConfigError: prefix or suffix cannot stand in a header's name.
    """

    __slots__ = ("_affixes", "_expose")

    def __init__(self, prefix: str | None = None, *, suffix: str = "", expose: bool = True) -> None:
        self._affixes = ("" if suffix else "Session-") if prefix is None else prefix, suffix
        if not _HEADER_TOKEN.fullmatch("".join(map(str, self._affixes))):
            raise ConfigError(
                f"prefix={prefix!r}, suffix={suffix!r}: use letters, digits and hyphens, as in any header's name"
            )
        self._expose = expose

    def __repr__(self) -> str:
        prefix, suffix = self._affixes
        return f"HeaderTransport(prefix={prefix!r}, suffix={suffix!r}, expose={self._expose})"

    def check(self, name: str) -> None:
        """Raises ConfigError for a session name that makes no header name."""
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"name={name!r}: in a header use lower-case letters, digits and hyphens only")
        wire = _wire(self._affixes, name)
        if wire.key in _TAKEN:
            raise ConfigError(
                f"name={name!r}: {wire.header!r} has a meaning of its own: choose another prefix or suffix"
            )

    def read(self, request: RequestView, name: str) -> Carried:
        """See `Transport.read`."""
        wire = _wire(self._affixes, name)
        values = request.header(wire.key)
        if not values:
            return wire.absent
        if len(values) > 1:
            return Carried(wire.where, present=True, duplicate=True)

        token = values[0].strip(" \t")
        usable = token not in ("", "-") and len(token) <= _HEADER_LIMIT and token.isascii()
        return Carried(wire.where, token if usable else None, present=True)

    def write(self, response: ResponseView, name: str, token: str, carried: Carried, max_age: int | None) -> None:  # noqa: ARG002 -- a cookie needs them
        """See `Transport.write`. A token may have 16 384 bytes here; *max_age* means nothing to a header."""
        check_token(token, name)
        if len(token) > _HEADER_LIMIT:
            raise SessionTooLargeError(name, size=len(token), limit=_HEADER_LIMIT, fix="keep it in a StorageOverseer")
        self._send(response, name, token)

    def clear(self, response: ResponseView, name: str, carried: Carried) -> None:  # noqa: ARG002 -- a cookie needs it
        """See `Transport.clear`."""
        self._send(response, name, "-")

    def vary(self, response: ResponseView, name: str) -> None:
        """See `Transport.vary`."""
        merge_list(response, "Vary", _wire(self._affixes, name).header, unless="*")

    def _send(self, response: ResponseView, name: str, value: str) -> None:
        header = _wire(self._affixes, name).header
        response.replace(header, [value])
        if self._expose:
            # "*" does not cover requests with credentials, so the name stands beside it.
            merge_list(response, "Access-Control-Expose-Headers", header)
        forbid_caching(response)


class _Wire:
    """What one session's header is called, worked out once."""

    def __init__(self, affixes: tuple[str, str], session: str) -> None:
        prefix, suffix = affixes
        self.header = prefix + session.title() + suffix
        self.key = self.header.lower()
        self.where = f"header {self.key}"
        self.absent = Carried(self.where)


_wire = lru_cache(maxsize=256)(_Wire)
