"""Cookies: how they are named, protected, read, set and removed (RFC 6265bis)."""

import logging
import math
import os
import re
import secrets
from dataclasses import dataclass
from functools import cache
from typing import Literal

from aiosessions._errors import ConfigError, SessionTooLargeError
from aiosessions._lifetime import MAX_AGE_LIMIT
from aiosessions._views import RequestView, ResponseView
from aiosessions.transports.transport import Carried, check_token, forbid_caching, merge_list

__all__ = ["CookieOptions", "CookieTransport", "default_transport", "warn_plain_http"]

_logger = logging.getLogger("aiosessions")

_COOKIE_LIMIT = 4096  # name and value of one cookie (RFC 6265bis §5.6)
_TOTAL_LIMIT = 6144  # servers refuse requests with headers of 8 KiB, and ours are not the only ones
_SMALLEST = 512
_MAX_AGE = int(MAX_AGE_LIMIT.total_seconds())
_SET_ID_LENGTH = 8
_KNOWN = 256  # names: where visitors choose them there is no end
_TOO_LARGE = "raise max_bytes (6144 at most), or keep it in a StorageOverseer"

_PATH = re.compile(r"/[ -:<-~]{0,1023}", re.ASCII)  # RFC 6265 §4.1.1 path-value; longer ones are ignored (6265bis §5.6)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class CookieOptions:
    """How session cookies are protected. The defaults are the strictest that an ordinary application can have.

    Args:
        path: which part of the site gets the cookie.
        domain: the host that gets it, with all its subdomains; None: exactly the host that set it.
        secure: https only (ASVS 5 3.3.1).
        http_only: hidden from scripts (ASVS 5 3.3.4).
        same_site: which requests of other sites carry it; always stated (ASVS 5 3.3.2).
        partitioned: a jar of its own under each embedding site (CHIPS).
        prefix: name it `__Host-` where the rules allow it (secure, path "/", no domain), else `__Secure-` where it is
            secure: then no other host and no plain http can plant one (ASVS 5 3.3.3, RFC 6265bis §4.1.3).
        max_bytes: what all cookies of one session may take together, as the browser sends them, names included;
            from 512 to 6144. Above 4096 a value that does not fit in one cookie travels in chunks.

    Raises:
        ConfigError: an argument cannot work, or not with the others; names it and the fix.
    """

    path: str = "/"
    domain: str | None = None
    secure: bool = True
    http_only: bool = True
    same_site: Literal["lax", "strict", "none"] = "lax"
    partitioned: bool = False
    prefix: bool = True
    max_bytes: int = _COOKIE_LIMIT

    @classmethod
    def debug(cls) -> "CookieOptions":
        """For plain http on one's own machine: no Secure, no prefix."""
        return cls(secure=False, prefix=False)

    def __post_init__(self) -> None:
        if self.domain is not None:
            object.__setattr__(self, "domain", str(self.domain).lower())
        self._check_each()
        self._check_together()

    def _check_each(self) -> None:
        for flag in ("secure", "http_only", "partitioned", "prefix"):
            if not isinstance(getattr(self, flag), bool):
                raise ConfigError(f"{flag}={getattr(self, flag)!r}: give True or False")
        if not _PATH.fullmatch(str(self.path)):
            raise ConfigError(f"path={self.path!r}: begin with '/', no ';', printable ASCII, at most 1024 characters")
        if self.domain is not None and not _DOMAIN.fullmatch(self.domain):
            raise ConfigError(f"domain={self.domain!r}: give a host name in ASCII without a leading dot, or None")
        if self.same_site not in ("lax", "strict", "none"):
            raise ConfigError(f"same_site={self.same_site!r}: give 'lax', 'strict' or 'none'")
        if self.max_bytes not in range(_SMALLEST, _TOTAL_LIMIT + 1):
            raise ConfigError(f"max_bytes={self.max_bytes!r}: give {_SMALLEST} to {_TOTAL_LIMIT}")

    def _check_together(self) -> None:
        if self.same_site == "none" and not self.secure:
            raise ConfigError("same_site='none' needs secure=True: browsers drop the cookie otherwise")
        if self.partitioned and not self.secure:
            raise ConfigError("partitioned=True needs secure=True: browsers drop the cookie otherwise")
        if self.max_bytes > _COOKIE_LIMIT and not self.name_prefix:
            raise ConfigError(
                f"max_bytes={self.max_bytes} means chunks, and those need a name prefix: leave secure and prefix True, "
                f"or give at most {_COOKIE_LIMIT}"
            )

    @property
    def name_prefix(self) -> str:
        """`__Host-`, `__Secure-` or nothing: what the cookies' names begin with."""
        if not (self.prefix and self.secure):
            return ""
        return "__Host-" if self.path == "/" and self.domain is None else "__Secure-"

    @property
    def attributes(self) -> str:
        """All attributes but Max-Age, as they stand in Set-Cookie."""
        said = (
            f"Path={self.path}",
            self.domain and f"Domain={self.domain}",
            self.secure and "Secure",
            self.http_only and "HttpOnly",
            f"SameSite={self.same_site.capitalize()}",
            self.partitioned and "Partitioned",
        )
        return "".join(f"; {each}" for each in said if each)


class CookieTransport:
    """Carries each session in a cookie: `__Host-app` for "app"; larger ones in chunks, `__Host-app.0` and so on.

    Cookies are read by our own parser, because a prefix is worth only what the parser makes of it: the raw header is
    split at `;`, space and tab are stripped, the name must be equal to the letter, and a name that comes twice counts
    as forged.

    Args:
        options: None: `CookieOptions()`, or `CookieOptions.debug()` with AIOSESSIONS_DEBUG=1 in the environment, which
            is looked at now and never again.
    """

    __slots__ = ("_attributes", "_most_chunks", "_options", "_room", "_wires")

    def __init__(self, options: CookieOptions | None = None) -> None:
        if options is None and os.environ.get("AIOSESSIONS_DEBUG") == "1":
            _warn_debug()
            options = CookieOptions.debug()
        self._options = options = options or CookieOptions()
        self._attributes = options.attributes
        self._wires = _Wires(options.name_prefix)
        self._room = min(options.max_bytes, _COOKIE_LIMIT)  # of one cookie
        # Every chunk but the last is a full cookie.
        self._most_chunks = 0 if options.max_bytes <= _COOKIE_LIMIT else math.ceil(options.max_bytes / _COOKIE_LIMIT)

    @classmethod
    def debug(cls) -> "CookieTransport":
        """For plain http on one's own machine: no Secure, no prefix."""
        return cls(CookieOptions.debug())

    def __repr__(self) -> str:
        return f"CookieTransport({self._options!r})"

    @property
    def options(self) -> CookieOptions:
        """How this transport's cookies are protected."""
        return self._options

    @property
    def needs_https(self) -> bool:
        """See `HTTPSOnly`: some browsers drop a Secure cookie that comes by plain http."""
        return self._options.secure

    def read(self, request: RequestView, name: str) -> Carried:
        """See `Transport.read`."""
        wire = self._wires[name]
        lines = request.header("cookie")
        if len(lines) == 1 and lines[0].startswith(wire.equals) and ";" not in lines[0]:
            # The session's cookie and no other: what most requests carry.
            token = lines[0][len(wire.equals) :].rstrip(" \t")
            return Carried(wire.where, token if _is_usable(token) else None, True)  # noqa: FBT003  # a keyword costs

        values: list[str] = []
        chunks: list[tuple[str, str]] = []
        for line in lines:
            if wire.name not in line:
                continue
            for pair in line.split(";"):
                stripped = pair.strip(" \t")
                if stripped.startswith(wire.equals):
                    values.append(stripped[len(wire.equals) :])
                elif (chunk := wire.chunk.match(stripped)) is not None:
                    chunks.append((chunk[1], chunk[2]))
        if not values and not chunks:
            return wire.absent

        parts = dict(sorted(chunks))
        token = values[0] if values else _join(parts)
        duplicate = len(values) > 1 or len(parts) < len(chunks)
        usable = not duplicate and not (values and chunks) and _is_usable(token)
        return Carried(wire.where, token if usable else None, present=True, duplicate=duplicate, chunks=tuple(parts))

    def write(self, response: ResponseView, name: str, token: str, carried: Carried, max_age: int | None) -> None:
        """See `Transport.write`. Max-Age is at least 1 second and at most 400 days (RFC 6265bis §5.5)."""
        check_token(token, name)
        wire = self._wires[name]
        fits = len(wire.equals) + len(token) <= self._room
        lifetime = "" if max_age is None else f"; Max-Age={min(max(int(max_age), 1), _MAX_AGE)}"
        self._send(response, wire, {wire.name: token} if fits else self._split(name, wire, token), lifetime, carried)

    def clear(self, response: ResponseView, name: str, carried: Carried) -> None:
        """See `Transport.clear`."""
        self._send(response, self._wires[name], {}, "", carried)

    def vary(self, response: ResponseView, name: str) -> None:  # noqa: ARG002 -- a header needs it
        """See `Transport.vary`."""
        merge_list(response, "Vary", "Cookie", unless="*")

    def _split(self, name: str, wire: "_Wire", token: str) -> dict[str, str]:
        """Names and values of chunks, each with their set's id and their number."""
        limit = self._options.max_bytes
        if limit <= _COOKIE_LIMIT:
            raise SessionTooLargeError(name, size=len(wire.equals) + len(token), limit=limit, fix=_TOO_LARGE)

        room = _COOKIE_LIMIT - len(f"{wire.chunks[0]}{'':{_SET_ID_LENGTH}}~0~")
        parts = [token[start : start + room] for start in range(0, len(token), room)]
        head = f"{secrets.token_urlsafe(6)}~{len(parts)}~"
        cookies = {f"{wire.name}.{index}": head + part for index, part in enumerate(parts)}
        size = len("; ".join(f"{each}={value}" for each, value in cookies.items()))
        if size > limit:
            raise SessionTooLargeError(name, size=size, limit=limit, fix=_TOO_LARGE)
        return cookies

    def _send(
        self, response: ResponseView, wire: "_Wire", cookies: dict[str, str], lifetime: str, carried: Carried
    ) -> None:
        """Set these cookies, and remove every other that this session can have.

        Not only those that came: a browser hears the answers to two requests in any order, so what it will hold when
        it hears this one is not known.
        """
        others = response.header("Set-Cookie")
        if others:
            response.replace("Set-Cookie", [each for each in others if not wire.own.match(each)])
        for each, value in cookies.items():
            response.add("Set-Cookie", f"{each}={value}{lifetime}{self._attributes}")
        if self._most_chunks or carried.chunks or not cookies:
            for each in dict.fromkeys((wire.name, *wire.chunks[: self._most_chunks], *carried.chunks)):
                if each not in cookies:
                    response.add("Set-Cookie", f"{each}=; Max-Age=0{self._attributes}")
        forbid_caching(response)


def default_transport() -> CookieTransport:
    """What an overseer uses when it is given no transport."""
    return CookieTransport()


def warn_plain_http() -> None:
    """Say what becomes of the cookie of a transport that `needs_https` on a request that came without."""
    _logger.warning(
        "a Secure session cookie was set on what looks like plain http, where some browsers drop it: use https; "
        "behind a proxy let the server trust its forwarded headers; on your own machine set AIOSESSIONS_DEBUG=1 or use "
        "CookieTransport.debug(); in tests use a base URL with https://"
    )


@cache
def _warn_debug() -> None:
    _logger.warning(
        "AIOSESSIONS_DEBUG=1: session cookies are set without Secure and without name prefix: for your own machine only"
    )


class _Wire:
    """What one session is called in cookie headers, worked out once."""

    def __init__(self, prefix: str, session: str) -> None:
        name = prefix + session
        literal = re.escape(name)
        self.name = name
        self.equals = f"{name}="
        self.chunks = tuple(f"{name}.{index}" for index in range(10))
        self.chunk = re.compile(rf"({literal}\.[0-9])=(.*)", re.ASCII | re.DOTALL)
        self.own = re.compile(rf"[ \t]*{literal}(?:\.[0-9])?[ \t]*=", re.ASCII)
        self.where = f"cookie {name}"
        self.absent = Carried(self.where)


class _Wires(dict[str, _Wire]):
    """What sessions are called in cookie headers, by their names; each is made when it is first asked for."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, name: str) -> _Wire:
        if len(self) >= _KNOWN:
            self.clear()
        wire = self[name] = _Wire(self._prefix, name)
        return wire


def _is_usable(token: str) -> bool:
    return 0 < len(token) <= _TOTAL_LIMIT and token.isascii()


def _join(chunks: dict[str, str]) -> str:
    """The token that a set of chunks, in order, carries; nothing unless the set is whole and of one making."""
    heads: set[str] = set()
    token = ""
    for index, (name, value) in enumerate(chunks.items()):
        head, part = value[: _SET_ID_LENGTH + 1], value[_SET_ID_LENGTH + 1 :]
        count, _, text = part.partition("~")
        if not name.endswith(f".{index}") or not head.endswith("~") or count != str(len(chunks)) or not text:
            return ""
        heads.add(head)
        token += text
    return token if len(heads) == 1 else ""
