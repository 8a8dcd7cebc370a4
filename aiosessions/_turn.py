"""Taking turns, where almost nobody ever waits."""

import anyio
import msgspec


class Turn(msgspec.Struct, eq=False):
    """A lock whose uncontended use is one flag: an `anyio.Lock` costs more than a whole read may.

    Whoever sets `is_taken` itself must not have awaited since it saw that it was free.

    Attributes:
        is_taken: somebody's turn.
        waiting: set at its end; None: nobody waits.
    """

    is_taken: bool = False
    waiting: anyio.Event | None = None  # made by the first who waits

    async def take(self) -> None:
        """Wait until it is free, and take it."""
        while self.is_taken:
            await self.ended()
        self.is_taken = True

    async def ended(self) -> None:
        """Wait until whoever has it ends it; others may be faster to take it then."""
        if self.waiting is None:
            self.waiting = anyio.Event()
        await self.waiting.wait()

    def end(self) -> None:
        """Let those who wait go on."""
        self.is_taken = False
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.set()
