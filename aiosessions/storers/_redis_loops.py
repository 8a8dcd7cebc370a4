"""One of each for each event loop of each process: what a client has connected works nowhere else."""

import asyncio
import os
from typing import Generic, Protocol, TypeVar

from aiosessions._errors import ConfigError

__all__ = ["PerLoop"]

S = TypeVar("S")
_S_co = TypeVar("_S_co", covariant=True)


class _Another(Protocol[_S_co]):
    def __call__(self, *, is_forked: bool) -> _S_co: ...


class PerLoop(Generic[S]):
    """Makes another where there is none.

    Args:
        first: for the first event loop that asks, also if that is in a child of the process.
        another: makes one for each further loop; it is told whether another process used the first.
    """

    __slots__ = ("_another", "_first", "_made")

    def __init__(self, first: S, another: _Another[S]) -> None:
        self._first: S | None = first
        self._another = another
        self._made: dict[tuple[int, asyncio.AbstractEventLoop], S] = {}

    def here(self) -> S:
        """This loop's.

        Raises:
            ConfigError: no event loop of asyncio runs here.
        """
        try:
            place = os.getpid(), asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError("RedisStorer needs asyncio: no event loop of it runs here") from None
        return self._made.get(place) or self._make(place)

    def _make(self, place: tuple[int, asyncio.AbstractEventLoop]) -> S:
        # A parent's stay: to let go of them would close, in its own loop's selector, what the parent still uses.
        self._made = {
            (process, loop): made
            for (process, loop), made in self._made.items()
            if process != place[0] or not loop.is_closed()
        }
        first, self._first = self._first, None
        made = first or self._another(is_forked=any(process != place[0] for process, _ in self._made))
        self._made[place] = made
        return made
