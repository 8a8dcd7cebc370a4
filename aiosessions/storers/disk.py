"""Sessions in a folder: they survive a restart, and several processes of one machine may share them."""

import asyncio
import contextvars
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import ParamSpec, TypeVar

from aiofiles.os import wrap

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._disk_folder import DOUBT, SHARDS, DiskFolder, Doubt
from aiosessions.storers.bounded import seconds_of
from aiosessions.storers.storer import Record

__all__ = ["DiskStorer"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DiskStorer:
    """Keeps one file per record in a folder of its own. For asyncio; needs POSIX file locks.

    Any number of processes may use one folder. Each call is one hop to a worker thread and back, whatever it does to
    files there, and all reads of one turn of the event loop share a hop. A record is written as a whole or not at all,
    also when the process is killed in the middle. A call that is cancelled or runs out of time is carried out or not,
    and never by half: its thread ends on its own.

    Args:
        path: the folder; made with mode 0700 if it is absent. It must be one's own, no link, and closed to others.
        fsync: whether a write waits until it would survive a loss of power. Without it, such a loss may undo the
            last writes, or damage a file, which then counts as absent.
        clock: gives the time in unix seconds.
        timeout: how long a call may take; then it is a StorerError.

    Raises:
        ConfigError: *path* is empty, *timeout* is not positive, or the system has no POSIX file locks.
    """

    durable = True
    stores_json = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: bool = False,
        clock: Callable[[], float] = time.time,
        timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        if sys.platform == "win32":
            raise ConfigError("DiskStorer needs POSIX file locks, which Windows has not: use another storer")
        if not os.fspath(path):
            raise ConfigError(f"path={path!r}: name a folder")

        self._path = os.path.abspath(path)
        self._timeout = seconds_of(timeout)
        self._folder = DiskFolder(self._path, fsync=fsync, clock=clock, timeout=self._timeout)
        self._reads: _Reads | None = None

    def __repr__(self) -> str:
        return f"<DiskStorer of {self._path}>"

    async def open(self) -> None:
        """Make the folder if it is absent, or see that it is fit to hold sessions (also done before the first use).

        Raises:
            ConfigError: it is a link or no folder, belongs to another user, or is open to others.
            StorerError: it cannot be made.
        """
        await self._hop(self._folder.open)

    async def aclose(self) -> None:
        """Nothing stays open between two calls."""

    async def read(self, key: str) -> Record | None:
        loop = asyncio.get_running_loop()
        reads = self._reads
        if reads is None or reads.loop is not loop:
            reads = self._reads = _Reads(loop, self._read_together)
        reads.keys.append(key)
        index = len(reads.keys) - 1
        found = (await asyncio.shield(reads.task))[index]  # shielded: a reader that is cancelled cancels no other
        if found is DOUBT:
            return await self._hop(self._folder.read, key)
        return found

    async def create(self, key: str, record: Record) -> bool:
        return await self._hop(self._folder.create, key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await self._hop(self._folder.replace, key, record, version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        return await self._hop(self._folder.touch, key, seen_at, expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self._hop(self._folder.delete, key, version)

    async def clean(self) -> int:
        """See Cleanable. Walks through the folder; of several processes one does, and the others return 0."""
        removed = shard = 0
        while shard < SHARDS:
            more, shard = await self._hop(self._folder.clean, shard)
            removed += more
        return removed

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        found: list[tuple[str, Record]] = []
        for names in await self._hop(self._folder.listed, owner):
            found += await self._hop(self._folder.owned, owner, names, prefix)
        return found

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        ended = 0
        for names in await self._hop(self._folder.listed, owner):
            ended += await self._hop(self._folder.end_owned, owner, names, prefix, keep)
        return ended

    async def keys(self) -> AsyncIterator[str]:
        shard = 0
        while shard < SHARDS:
            keys, shard = await self._hop(self._folder.keys, shard)
            for key in keys:
                yield key

    async def _read_together(self, reads: "_Reads") -> "list[Record | Doubt | None]":
        # This begins once every task that was ready has had its turn; who reads later reads with others.
        if self._reads is reads:
            self._reads = None
        return await self._hop(self._folder.glance, reads.keys)

    async def _hop(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            async with asyncio.timeout(self._timeout):
                return await _in_thread(partial(work, *args, **kwargs))
        except OSError as error:  # TimeoutError is one
            raise StorerError(f"the folder {self._path} failed: {error.strerror or 'it took too long'}") from error


class _Reads:
    """The reads of one turn of the event loop. Every reader awaits the one task."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        read_together: Callable[["_Reads"], Coroutine[None, None, list[Record | Doubt | None]]],
    ) -> None:
        self.loop = loop
        self.keys: list[str] = []
        self.task = loop.create_task(read_together(self), context=contextvars.Context())


def _call(work: Callable[[], _T]) -> _T:
    return work()


_in_thread = wrap(_call)
