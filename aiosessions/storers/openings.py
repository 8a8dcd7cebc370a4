"""How often a storer was opened: the first `open` prepares it, the last `aclose` closes what it opened itself (S16)."""

from collections.abc import Awaitable, Callable

import anyio

from aiosessions._errors import SessionError

__all__ = ["Openings"]


class Openings:
    """Counts. Who comes while the first still prepares waits for it.

    Args:
        prepare: connects, creates, inspects; what it raises, the first `open` raises, and nothing is counted.
        close: closes what the storer made itself, also after a preparation that failed; to call it twice is no error.
    """

    def __init__(self, prepare: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]) -> None:
        self._prepare = prepare
        self._close = close
        self._count = 0
        self._turn = anyio.Lock()

    async def open(self) -> None:
        """One more."""
        async with self._turn:
            if not self._count:
                try:
                    await self._prepare()
                except SessionError:
                    await self._close()
                    raise
            self._count += 1

    async def aclose(self) -> None:
        """One less, if there is one; whether it was the last or there was none, everything is closed after it."""
        async with self._turn:
            self._count = max(0, self._count - 1)
            if not self._count:
                await self._close()
