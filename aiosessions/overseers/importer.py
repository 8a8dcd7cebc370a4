"""What other software left with a client, and how it is read: one importer for each kind of token of theirs."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from aiosessions._discreet import Discreet
from aiosessions._errors import ConfigError
from aiosessions._given import check_max_age, check_until
from aiosessions.transports.cookies import CookieOptions

__all__ = ["Data", "Importer", "NotImportedError", "Theirs", "earlier"]

T_co = TypeVar("T_co", covariant=True)
Data: TypeAlias = dict[str, Any]  # Any: whatever an application kept in a session of theirs
_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", re.ASCII)  # RFC 6265 §4.1.1 cookie-name, a token
_REASONS: TypeAlias = Literal["expired", "forged", "malformed"]


class NotImportedError(Exception):
    """A token of theirs counts for nothing.

    Args:
        reason: `forged`, `expired`, or `malformed`: signed, and yet not what that software makes.
    """

    def __init__(self, reason: _REASONS) -> None:
        super().__init__(reason)
        self.reason: _REASONS = reason


def earlier(*ends: float | None) -> float | None:
    """The earliest end; None: never."""
    return min((end for end in ends if end is not None), default=None)


class Theirs(Discreet, frozen=True):
    """What a token of theirs says, once it is proven. Its `repr` does not show the values.

    Attributes:
        data: the session's own keys; None: `Importer.fetch` has them.
        ends_at: when they would not have taken it any longer, unix seconds; None: never.
        flashes: messages that wait, oldest first: text and category.
    """

    data: Data | None = None
    ends_at: float | None = None
    flashes: tuple[tuple[str, str], ...] = ()


class Importer(ABC, Generic[T_co]):
    """Reads what one kind of session of other software left with clients.

    Args:
        cookie: their cookie's name, to the letter.
        path: as they set it: only so it can be cleared.
        domain: likewise.
        max_age: how old a session of theirs may be; None: of any age.
        until: from then on nothing is read; aware. A switch has an end: set it soon.
        to: makes the value of the session's own keys; None: not to be imported. Without it fields are taken by name.
        user: whose session it is.
        clear: whether their cookie is cleared once our session is stored.

    Attributes:
        options: how their cookie is cleared.

    Raises:
        ConfigError: an argument cannot work; names it and the fix.
    """

    cookie: str = ""  # a traceback shows it half made

    def __init__(
        self,
        *,
        cookie: str,
        path: str,
        domain: str | None,
        max_age: timedelta | None,
        until: datetime | None,
        to: Callable[[Data], T_co | None] | None,
        user: Callable[[Data], str | None] | None,
        clear: bool,
    ) -> None:
        cookie = str(cookie)
        if not _COOKIE.fullmatch(cookie):
            raise ConfigError(f"cookie={cookie!r:.80}: give the name of their cookie, to the letter")
        check_max_age(max_age)
        check_until(until)
        for option, function in (("to", to), ("user", user)):
            if function is not None and not callable(function):
                raise ConfigError(f"{option}={type(function).__name__}: give a function of the session's keys")

        self.cookie = cookie
        # browsers ignore a leading dot (RFC 6265 §5.2.3), and so do they who set it
        bare = None if domain is None else str(domain).removeprefix(".")
        is_secure = cookie.startswith(("__Host-", "__Secure-"))  # what is not, browsers drop under such a name
        self.options: CookieOptions = CookieOptions(path=path, domain=bare, secure=is_secure, prefix=False)
        self.max_age: timedelta | None = max_age
        self.until: datetime | None = until
        self.to: Callable[[Data], T_co | None] | None = to
        self.user: Callable[[Data], str | None] | None = user
        self.clear: bool = clear

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cookie={self.cookie!r})"

    @abstractmethod
    def open(self, text: str, *, now: float) -> Theirs:
        """What a token says. Asks no backend, and blocks no event loop.

        Args:
            text: the cookie's value; one in quotes comes without them.
            now: unix seconds.

        Raises:
            NotImportedError: it is not theirs, or too old.
        """

    async def fetch(self, text: str, *, now: float) -> Theirs | None:  # noqa: ARG002  # cookies have no backend
        """What their backend keeps for a token, where `open` said no data; None: nothing that they would take.

        Args:
            text: as in `open`.
            now: unix seconds.

        Raises:
            NotImportedError: it is not what that software makes, or too old.
            StorerError: the backend failed, or did not answer in time.
        """
        return None

    async def delete(self, text: str) -> None:
        """Their backend forgets it: it is ours now, or was logged out.

        Raises:
            StorerError: the backend failed, or did not answer in time.
        """
