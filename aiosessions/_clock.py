"""The clock of a store: a clock that jumps back revives nothing, and one wild reading ends nothing for good."""

import logging
import time
from collections.abc import Callable

_log = logging.getLogger("aiosessions")

_STEP = 86_400.0
"""Seconds. What a wall clock may run ahead of the machine's own counter: more is a step that no clock makes."""


class Clock:
    """Reads a clock that never goes back (CONTRACT X5).

    The latest reading is remembered and holds against earlier ones. A reading that is more than a day ahead of where
    the machine's monotonic counter says it could be counts for itself alone and is not remembered: the next sane one
    goes on from where the clock was.

    Args:
        read: unix seconds.
    """

    __slots__ = ("_has_warned", "_horizon", "_latest", "_read", "_skew")

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._latest = read()
        self._skew = self._latest - time.monotonic()
        self._horizon = self._latest + _STEP
        self._has_warned = False

    def now(self) -> float:
        """Unix seconds."""
        now = self._read()
        if now <= self._latest:
            return self._latest
        if now > self._horizon and not self._is_credible(now):
            return now

        self._latest = now
        return now

    def _is_credible(self, now: float) -> bool:
        self._horizon = self._skew + time.monotonic() + _STEP
        if now <= self._horizon:
            return True

        if not self._has_warned:
            self._has_warned = True
            _log.warning("the clock stepped %.0f s ahead: what it says holds while it says so", now - self._latest)
        return False
