"""A clock that stands still until a test moves it."""

from datetime import datetime, timedelta

__all__ = ["Clock"]


class Clock:
    """Give it to overseers, storers and browsers as their `clock=`.

    Args:
        start: unix seconds.
    """

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._seconds = start

    def __call__(self) -> float:
        """Unix seconds."""
        return self._seconds

    def __repr__(self) -> str:
        return f"Clock({self._seconds!r})"

    def advance(self, duration: timedelta | float) -> None:
        """Move by a duration, or by seconds; backwards too."""
        self._seconds += duration.total_seconds() if isinstance(duration, timedelta) else duration

    def set(self, moment: datetime | float) -> None:
        """Move to an aware datetime, or to unix seconds.

        Raises:
            ValueError: a datetime without a time zone.
        """
        if isinstance(moment, datetime):
            if moment.tzinfo is None:
                raise ValueError(f"{moment} has no time zone: give tzinfo=")
            moment = moment.timestamp()
        self._seconds = moment
