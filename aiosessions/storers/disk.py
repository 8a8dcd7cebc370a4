"""Sessions in a folder: they survive a restart, and several processes of one machine may share them."""

import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import ParamSpec, TypeVar

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._disk_folder import DOUBT, DiskFolder, Doubt
from aiosessions.storers._disk_shards import SHARDS
from aiosessions.storers._disk_sweep import START, Sweep
from aiosessions.storers._disk_threads import Threads
from aiosessions.storers.batches import Batches
from aiosessions.storers.bounded import seconds_of
from aiosessions.storers.openings import Openings
from aiosessions.storers.storer import Record

__all__ = ["DiskStorer"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_READERS = 8  # threads: none of them ever waits for another process
_WRITERS = 4
_READS = 128  # that share a hop
_WRITES = 32  # that share a hop: each makes some dozen system calls
_PAGE = 200  # records to look at in one go


class DiskStorer:
    """Keeps one file per record in a folder of its own. For asyncio and trio; needs POSIX file locks.

    Any number of processes may use one folder. Each call is one hop to a thread of the storer's own and back, whatever
    it does to files there; the reads of one turn of the event loop share a hop, and so do its writes. A record is
    written as a whole or not at all, also when the process is killed in the middle. A call that is cancelled or runs
    out of time is carried out or not, and never by half: its thread ends on its own.

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
        self._fsync = fsync
        self._timeout = seconds_of(timeout)
        self._folder = DiskFolder(self._path, fsync=fsync, clock=clock, timeout=self._timeout)
        self._readers = Threads(_READERS, f"aiosessions reads {self._path}")
        self._writers = Threads(_WRITERS, f"aiosessions writes {self._path}")
        self._reads = Batches(self._read_together, most=_READS)
        self._writes: Batches[Callable[[float], bool], bool | Doubt] = Batches(self._write_together, most=_WRITES)
        self._mark = START
        self._openings = Openings(self._prepare, self._close)

    def __repr__(self) -> str:
        return f"<DiskStorer of {self._path}>"

    async def open(self) -> None:
        """Make the folder if it is absent, or see that it is fit to hold sessions (also done before the first use).

        Then find out whether a file can be written, read and deleted there.

        Raises:
            ConfigError: it is a link or no folder, belongs to another user, is open to others, or may not be written;
                or a folder within it is a link.
            StorerError: it cannot be made, or is full.
        """
        await self._openings.open()

    async def aclose(self) -> None:
        """Undo one `open`; the last lets the threads end. Nothing else stays open between two calls."""
        await self._openings.aclose()

    async def read(self, key: str) -> Record | None:
        return await self._sure(key, await self._reads.ask(key))

    async def read_together(self, keys: Sequence[str]) -> list[Record | None]:
        found = await self._reads.ask_all(keys)
        return [await self._sure(key, record) for key, record in zip(keys, found, strict=True)]

    async def create(self, key: str, record: Record) -> bool:
        return await self._write(partial(self._folder.create, key, record))

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await self._write(partial(self._folder.replace, key, record, version))

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        return await self._write(partial(self._folder.touch, key, seen_at, expires_at))

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self._write(partial(self._folder.delete, key, version))

    async def clean(self) -> int:
        """See Cleanable. Walks through the folder; of several processes one does, and the others return 0.

        A round that fails ends there, and the next one begins behind.
        """
        sweep = Sweep(self._folder, self._mark)
        try:
            while await self._hop(self._writers, sweep.advance):
                pass
        finally:
            self._mark = sweep.mark
        return sweep.removed

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        found: list[tuple[str, Record]] = []
        for names in _pages(await self._hop(self._writers, self._folder.listed, owner)):
            found += await self._hop(self._writers, self._folder.owned, owner, names, prefix)
        return found

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        ended = 0
        for names in _pages(await self._hop(self._writers, self._folder.listed, owner)):
            ended += await self._hop(self._writers, self._folder.end_owned, owner, names, prefix, keep)
        return ended

    async def keys(self) -> AsyncIterator[str]:
        shard = 0
        while shard < SHARDS:
            found, shard = await self._hop(self._writers, self._folder.names, shard)
            for names in _pages(found):
                for key in await self._hop(self._writers, self._folder.keys, names):
                    yield key

    async def _prepare(self) -> None:
        await self._hop(self._writers, self._folder.shards.probe)

    async def _close(self) -> None:
        self._readers.end()
        self._writers.end()

    async def _sure(self, key: str, found: Record | Doubt | None) -> Record | None:
        return await self._hop(self._writers, self._folder.read, key) if found is DOUBT else found

    async def _read_together(self, keys: Sequence[str]) -> list[Record | Doubt | None]:
        return await self._hop(self._readers, self._folder.glance, keys)

    async def _write(self, work: Callable[[float], bool]) -> bool:
        # Writes that wait for the disk do so beside each other, and the system lets them share its trips.
        if not self._fsync:
            done = await self._writes.ask(work)
            if done is not DOUBT:
                return done
        return await self._hop(self._writers, work, self._timeout)

    async def _write_together(self, works: Sequence[Callable[[float], bool]]) -> list[bool | Doubt | Exception]:
        done = await self._hop(self._writers, self._folder.together, works)
        return [self._failed(each) if isinstance(each, OSError) else each for each in done]

    async def _hop(self, threads: Threads, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await threads.run(partial(work, *args, **kwargs), self._timeout)
        except OSError as error:  # TimeoutError is one
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorerError:
        failure = StorerError(f"the folder {self._path} failed: {error.strerror or 'it took too long'}")
        failure.__cause__ = error
        return failure


def _pages(names: list[str]) -> list[list[str]]:
    return [names[start : start + _PAGE] for start in range(0, len(names), _PAGE)]
