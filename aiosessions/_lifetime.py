"""How long a session lives, and how long its cookie stays."""

import math
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Literal

from aiosessions._errors import ConfigError

MAX_AGE_LIMIT = timedelta(days=400)
"""What a browser keeps a cookie at most (RFC 6265bis §5.5)."""
_MAX_AGE = int(MAX_AGE_LIMIT.total_seconds())


@dataclass(frozen=True)
class Lifetime:
    """Idle and absolute timeout, enforced on the server (ASVS 5 7.3.1, 7.3.2), and how the cookie follows.

    Args:
        idle: the session ends when nobody used it for so long; None: never.
        absolute: it ends so long after it began or the last login, however busy; None: never.
        cookie: "browser": the browser forgets it at its end; "persistent": stays until the absolute deadline;
            a timedelta: that Max-Age, sent again with the first use after one touch window since it was last sent.
        touch: how stale `seen_at` may get before a read writes; None: idle/20, between 1 s and 5 min, at most half of a
            timed cookie.
        rotate: a new secret after so long, during the session (OWASP "renewal timeout"); None: at logins only.
        grace: how long the previous secret is still recognised after a rotation.

    Raises:
        ConfigError: a duration is not positive or over 400 days, *touch* is as long as *idle* or a timed cookie, or
            "persistent" has no absolute timeout.
    """

    idle: timedelta | None = timedelta(days=1)
    absolute: timedelta | None = timedelta(days=30)
    _: KW_ONLY
    cookie: Literal["browser", "persistent"] | timedelta = "browser"
    touch: timedelta | None = None
    rotate: timedelta | None = None
    grace: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        for name in ("idle", "absolute", "touch", "rotate", "grace"):
            self._check(name, getattr(self, name), zero=name == "touch" or name == "grace")
        if isinstance(self.cookie, timedelta):
            self._check("cookie", self.cookie)
            if self.cookie < timedelta(seconds=1):
                raise ConfigError(f"cookie={self.cookie}: a cookie's Max-Age is in whole seconds: give at least one")
        elif self.cookie not in ("browser", "persistent"):
            raise ConfigError(f"cookie={self.cookie!r}: give 'browser', 'persistent' or a timedelta")
        if self.cookie == "persistent" and self.absolute is None:
            raise ConfigError("cookie='persistent' needs an absolute timeout: give absolute=timedelta(...)")
        if self.idle is not None and self.touch is not None and self.touch >= self.idle:
            raise ConfigError(f"touch={self.touch} must be shorter than idle={self.idle}, or active sessions end")
        if isinstance(self.cookie, timedelta) and self.touch is not None and self.touch >= self.cookie:
            raise ConfigError(f"touch={self.touch} must be shorter than cookie={self.cookie}, or it is sent too late")

    @staticmethod
    def _check(name: str, value: object, *, zero: bool = False) -> None:
        if value is None and name not in ("grace", "cookie"):
            return
        if not isinstance(value, timedelta):
            raise ConfigError(f"{name}={value!r}: give a timedelta")
        if value < timedelta(0) or (not value and not zero):
            raise ConfigError(f"{name}={value}: give a positive duration")
        if value > MAX_AGE_LIMIT:
            raise ConfigError(f"{name}={value}: 400 days is the most (RFC 6265bis §5.5)")

    @classmethod
    def remember_me(cls) -> "Lifetime":
        """30 days idle, 90 absolute, persistent cookie."""
        return cls(timedelta(days=30), timedelta(days=90), cookie="persistent")

    @classmethod
    def nist_aal2(cls) -> "Lifetime":
        """1 hour idle, 24 hours absolute (NIST SP 800-63B-4 §2.2.3)."""
        return cls(timedelta(hours=1), timedelta(hours=24))

    @classmethod
    def nist_aal3(cls) -> "Lifetime":
        """15 minutes idle, 12 hours absolute (NIST SP 800-63B-4 §2.3.3)."""
        return cls(timedelta(minutes=15), timedelta(hours=12))

    @cached_property
    def touch_window(self) -> float:
        """How stale `seen_at` may get before a read writes, in seconds."""
        if self.touch is not None:
            return self.touch.total_seconds()
        window = 300.0 if isinstance(self.cookie, str) else min(300.0, self.cookie.total_seconds() / 2)
        if self.idle is None:
            return window
        return min(max(self.idle.total_seconds() / 20, min(1.0, self.idle.total_seconds() / 2)), window)

    @cached_property
    def is_timed(self) -> bool:
        """Whether the cookie has a Max-Age of its own, and is sent again and again."""
        return isinstance(self.cookie, timedelta)

    @cached_property
    def _idle(self) -> float | None:
        return None if self.idle is None else self.idle.total_seconds()

    def deadline(self, seen_at: float, ends_at: float | None) -> float | None:
        """The earlier of the idle and the absolute deadline, in unix seconds; None: never.

        Args:
            seen_at: last touch or write, unix seconds.
            ends_at: the absolute deadline, unix seconds; None: none.
        """
        if self._idle is None:
            return ends_at

        idle_at = seen_at + self._idle
        return idle_at if ends_at is None or idle_at < ends_at else ends_at

    def max_age(self, now: float, ends_at: float | None) -> int | None:
        """The cookie's Max-Age in whole seconds: a persistent cookie never ends before its record does.

        Args:
            now: unix seconds.
            ends_at: the absolute deadline, unix seconds; None: none.
        """
        if self.cookie == "browser" or (self.cookie == "persistent" and ends_at is None):
            return None

        seconds = self.cookie.total_seconds() if isinstance(self.cookie, timedelta) else (ends_at or now) - now
        return min(max(math.ceil(seconds), 1), _MAX_AGE)

    def pack(self) -> tuple[float | str | None, ...]:
        """What a record's meta keeps of it: numbers are seconds."""
        values = (self.idle, self.absolute, self.cookie, self.touch, self.rotate, self.grace)
        return tuple(value.total_seconds() if isinstance(value, timedelta) else value for value in values)


@lru_cache(maxsize=256)
def unpack_lifetime(packed: tuple[float | str | None, ...]) -> Lifetime | None:
    """The Lifetime that `pack` made this of; None for what no Lifetime could be."""
    try:
        idle, absolute, cookie, touch, rotate, grace = packed
        return Lifetime(
            _span(idle),
            _span(absolute),
            cookie=_stay(cookie),
            touch=_span(touch),
            rotate=_span(rotate),
            grace=_span(grace) or timedelta(0),
        )
    except (ConfigError, TypeError, ValueError, OverflowError):
        return None


def _stay(cookie: float | str | None) -> Literal["browser", "persistent"] | timedelta:
    if cookie == "browser":
        return "browser"
    return "persistent" if cookie == "persistent" else _span(cookie) or timedelta(0)


def _span(seconds: float | str | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=float(seconds))


def moment(seconds: float) -> datetime:
    """Unix seconds as an aware datetime, UTC."""
    return datetime.fromtimestamp(seconds, UTC)
