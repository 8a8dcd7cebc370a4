"""Taking turns, where almost nobody ever waits."""

import anyio

__all__ = ["Turn"]


class Turn:
    """A lock whose uncontended use is one flag: an `anyio.Lock` costs more than a whole read may.

    Whoever sets `is_taken` without waiting must not have awaited since it saw that it was free.
    """

    __slots__ = ("_ended", "is_taken")

    def __init__(self) -> None:
        self.is_taken = False
        self._ended: anyio.Event | None = None  # made by the first who waits

    async def take(self) -> None:
        """Wait until it is free, and take it."""
        while self.is_taken:
            if self._ended is None:
                self._ended = anyio.Event()
            await self._ended.wait()
        self.is_taken = True

    def end(self) -> None:
        """Let those who wait go on."""
        self.is_taken = False
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.set()
