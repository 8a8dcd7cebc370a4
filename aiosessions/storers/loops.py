"""One of its own for each event loop of each process: what a client has connected works nowhere else."""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from aiosessions._errors import ConfigError

__all__ = ["Loops"]

T = TypeVar("T")


class Loops(Generic[T]):
    """Makes one for each event loop of each process, when it is first asked for.

    Those of loops that are closed are forgotten. Those of the process that this one was forked from stay: to let go of
    them would close, in its own loop's selector, what the parent still uses.

    Args:
        make: makes one for the running loop.
        who: the storer that asks, for messages.
    """

    __slots__ = ("_made", "_make", "_who")

    def __init__(self, make: Callable[[], T], *, who: str) -> None:
        self._make = make
        self._who = who
        self._made: dict[tuple[int, asyncio.AbstractEventLoop], T] = {}

    def here(self) -> T:
        """The running loop's own.

        Raises:
            ConfigError: this is no event loop of asyncio.
        """
        try:
            place = os.getpid(), asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(f"{self._who} runs on asyncio, like its driver: on trio choose another storer") from None
        made = self._made.get(place)
        return self._made_for(place) if made is None else made

    def _made_for(self, place: tuple[int, asyncio.AbstractEventLoop]) -> T:
        here, _ = place
        made = self._make()
        known = {old: each for old, each in self._made.items() if old[0] != here or not old[1].is_closed()}
        self._made = known | {place: made}
        return made
