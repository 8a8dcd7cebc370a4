"""What an application hands over: it is what its place takes, or is refused at once, and not shown."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from aiosessions._errors import ConfigError


def check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    """Raise ConfigError unless *value* is one of them."""
    if value not in choices:
        raise ConfigError(f"{option}={value!r}: give one of {choices}")


def check_max_age(max_age: object) -> None:
    """Raise ConfigError unless it is a positive duration, or None."""
    if max_age is not None and not (isinstance(max_age, timedelta) and max_age > timedelta(0)):
        raise ConfigError(f"max_age={max_age!r}: give a positive timedelta, or None")


def check_part(option: str, part: object, methods: Sequence[str], fix: str) -> None:
    """Raise ConfigError unless *part* is an object with these methods; the message says *fix*."""
    kind = type(part).__name__
    if isinstance(part, type):
        raise ConfigError(f"{option}: {part.__name__} is a class: give one that was made, {part.__name__}(...)")
    missing = [name for name in methods if not callable(getattr(part, name, None))]
    if missing:
        raise ConfigError(f"{option}={kind} has no {', '.join(f'{name}()' for name in missing)}: {fix}")


def check_until(until: object) -> None:
    """Raise ConfigError unless it is an aware datetime, or None."""
    if until is not None and not (isinstance(until, datetime) and until.tzinfo is not None):
        raise ConfigError(f"until={until!r}: give an aware datetime, as datetime(2027, 1, 31, tzinfo=UTC)")


def seconds_within(within: object) -> float:
    """A duration in seconds; TypeError for what is none."""
    if not isinstance(within, timedelta):
        raise TypeError(f"within must be a timedelta, not {type(within).__name__}: write timedelta(minutes=5)")
    return within.total_seconds()
