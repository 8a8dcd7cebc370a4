"""Where a token travels: what every transport says and does."""

import re
from typing import ClassVar, Protocol, runtime_checkable

from aiosessions._discreet import Discreet
from aiosessions._errors import ConfigError, EncodeError
from aiosessions._views import RequestView, ResponseView

__all__ = ["Carried", "HTTPSOnly", "Transport", "check_name", "check_token", "forbid_caching", "merge_list"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_COOKIE_OCTETS = bytes(code if 0x20 < code < 0x7F and code not in b'",;\\' else 0 for code in range(256))
"""What may stand in a cookie (RFC 6265 §4.1.1); 0: all else."""
_DIRECTIVE = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')

# What lets a cache keep a response. `must-understand` tells a cache to ignore `no-store` (RFC 9111 §5.2.2.3).
_CACHEABLE = frozenset(("max-age", "must-understand", "public", "s-maxage"))


class Carried(Discreet, frozen=True):
    """What came with a request, for one session name. Its `repr` does not show the token.

    Attributes:
        where: the cookie's or header's name on the wire; two stores may not share it in one request.
        token: None: nothing that can be used.
        present: whether something came at all.
        duplicate: whether it came more than once, and is therefore no session.
        chunks: the names of the chunk cookies that came.
        others: what came beside it, from before a switch.
    """

    shown: ClassVar[tuple[str, ...]] = ("where", "present", "duplicate")

    where: str
    token: str | None = None
    present: bool = False
    duplicate: bool = False
    chunks: tuple[str, ...] = ()
    others: tuple["Carried", ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether there is something to clear."""
        return self.present or bool(self.others)


class Transport(Protocol):
    """Carries one token per session name, both ways.

    A transport may also have a method `check(name)` that raises ConfigError for session names it cannot carry, and an
    attribute `needs_https` (see `HTTPSOnly`).
    """

    def read(self, request: RequestView, name: str) -> Carried:
        """What came for this session. Never raises, whatever the client sent."""
        ...

    def write(self, response: ResponseView, name: str, token: str, carried: Carried, max_age: int | None) -> None:
        """Hand *token* to the client, for *max_age* seconds (None: as long as the client likes).

        What this response said before about the same session is replaced, and no cache may keep the response.

        Raises:
            SessionTooLargeError: the token does not fit; the response is unchanged.
            EncodeError: the token has characters that would not travel; the response is unchanged.
        """
        ...

    def clear(self, response: ResponseView, name: str, carried: Carried) -> None:
        """Make the client forget everything that this session left with it."""
        ...

    def vary(self, response: ResponseView, name: str) -> None:
        """Tell caches that the response depends on the session (RFC 9110 §12.5.5)."""
        ...


@runtime_checkable
class HTTPSOnly(Protocol):
    """A transport that says whether its tokens are lost on plain http."""

    @property
    def needs_https(self) -> bool:
        """Whether clients drop a token that comes by plain http; there the first one is warned about."""
        ...


def check_name(transport: Transport, name: str) -> None:
    """Raise ConfigError for a session name outside the grammar, or that *transport* cannot carry."""
    if not _NAME.fullmatch(str(name)):
        raise ConfigError(f"name={name!r}: a session's name is a letter and at most 63 letters, digits, '-' or '_'")
    check = getattr(transport, "check", None)
    if check is not None:
        check(name)


def check_token(token: str, name: str) -> None:
    """Raise EncodeError unless *token* has only characters that can stand in a cookie, and so in any header."""
    if not token or 0 in token.encode("utf-8", "surrogatepass").translate(_COOKIE_OCTETS):
        raise EncodeError(f"session {name!r}: the sealer made a token with characters that no cookie may have")


def forbid_caching(response: ResponseView) -> None:
    """Merge `no-store` into Cache-Control: no cache may keep a token (ASVS 5 14.3.2).

    Directives that allow storing go, the others stay as they are.
    """
    lines = response.header("Cache-Control")
    if not lines:
        response.add("Cache-Control", "no-store")
        return

    dropped = _CACHEABLE | {"no-store"}
    directives = (match[0].strip(" \t") for line in lines for match in _DIRECTIVE.finditer(line))
    kept = [each for each in directives if each and each.partition("=")[0].strip(" \t").lower() not in dropped]
    response.replace("Cache-Control", [", ".join([*kept, "no-store"])])


def merge_list(response: ResponseView, header: str, item: str, *, unless: str | None = None) -> None:
    """Add *item* to a header that is a list of names without case, unless it or *unless* is there already."""
    lines = response.header(header)
    if not lines:
        response.add(header, item)
        return

    listed = {each.strip(" \t").lower() for line in lines for each in line.split(",")}
    if item.lower() in listed or unless in listed:
        return

    response.replace(header, [", ".join([*filter(None, (line.strip(" \t,") for line in lines)), item])])
