"""How long memcached is told to keep an item: its `exptime`, in whole seconds from now."""

import math

from aiosessions.storers.storer import Record

__all__ = ["DELETED", "lifetime", "seconds_between", "whole"]

_LONGEST = 30 * 86_400  # seconds; memcached reads a larger number as a date

DELETED = -1
"""Over at once."""


def lifetime(record: Record) -> int:
    """Of a record that is written now."""
    return whole(seconds_between(record.seen_at, record.expires_at))


def seconds_between(since: float, until: float | None) -> float:
    """Infinite, where there is no end."""
    return math.inf if until is None else until - since


def whole(lives: float) -> int:
    """Seconds as memcached takes them: never too few, because it cuts the first short; 0 is for ever."""
    if lives >= _LONGEST - 1:
        return 0
    return max(1, math.ceil(lives) + 1)
