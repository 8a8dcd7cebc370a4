"""One of its own for each event loop."""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from aiosessions._errors import ConfigError

__all__ = ["Loops"]

T = TypeVar("T")


class Loops(Generic[T]):
    """Makes one for each event loop of each process, when it is first asked for.

    Those of loops that are closed, and of the process that this one was forked from, are forgotten: nobody can end
    them from here.

    Args:
        make: makes one for the running loop.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, tuple[int, T]] = {}

    def here(self) -> T:
        """The running loop's own.

        Raises:
            ConfigError: this is no event loop of asyncio.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError("PostgresStorer runs on asyncio, like asyncpg: on trio choose another storer") from None
        process, made = self._made.get(loop, (0, None))
        if made is not None and process == os.getpid():
            return made

        made = self._make()
        here = os.getpid()
        known = {old: entry for old, entry in self._made.items() if not old.is_closed() and entry[0] == here}
        self._made = known | {loop: (here, made)}
        return made
