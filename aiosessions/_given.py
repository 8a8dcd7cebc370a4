"""What an application hands over: it is what its place takes, or is refused at once, and not shown."""

from collections.abc import Sequence
from datetime import timedelta

from aiosessions._errors import ConfigError

__all__ = ["check_part", "seconds_within"]


def check_part(option: str, part: object, methods: Sequence[str], fix: str) -> None:
    """Raise ConfigError unless *part* is an object with these methods; the message says *fix*."""
    kind = type(part).__name__
    if isinstance(part, type):
        raise ConfigError(f"{option}: {part.__name__} is a class: give one that was made, {part.__name__}(...)")
    missing = [name for name in methods if not callable(getattr(part, name, None))]
    if missing:
        raise ConfigError(f"{option}={kind} has no {', '.join(f'{name}()' for name in missing)}: {fix}")


def seconds_within(within: object) -> float:
    """A duration in seconds; TypeError for what is none."""
    if not isinstance(within, timedelta):
        raise TypeError(f"within must be a timedelta, not {type(within).__name__}: write timedelta(minutes=5)")
    return within.total_seconds()
