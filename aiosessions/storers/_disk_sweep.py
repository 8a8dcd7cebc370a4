"""One round of a DiskStorer's `clean`: what expired, what writers left who died, what the user index has too much."""

import errno
import os
import time
from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from aiosessions.storers._disk_folder import DiskFolder
from aiosessions.storers._disk_io import digests, lock_file, try_lock
from aiosessions.storers._disk_shards import SHARDS

__all__ = ["START", "Mark", "Sweep"]

_SLICE = 0.05  # seconds at a time; after each system call in them a busy event loop may keep the thread waiting
_PATIENCE = 0.05  # seconds: what somebody else holds for longer can wait for the next round
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Mark(NamedTuple):
    """Where a sweep is: first come the shards of records, then those of the user index."""

    shard: int
    name: str


START = Mark(0, "")


class Sweep:
    """See the module. It looks at everything once, in the order of names, and begins behind *mark*.

    So a round that was broken off, by a file that cannot be read or a disk that hangs, is no obstacle to the next one.

    Args:
        folder: what to sweep.
        mark: where the last round was broken off, or START.

    Attributes:
        mark: where this round is: what is looked at now.
        removed: how many records went.
    """

    def __init__(self, folder: DiskFolder, mark: Mark) -> None:
        self.mark: Mark = mark
        self.removed: int = 0
        self._folder = folder
        self._shards = folder.shards
        self._walk = self._round()

    def advance(self) -> bool:
        """Go on for a moment. False: that was all, or another process is cleaning."""
        self._shards.ready()
        if not os.path.exists(self._shards.records):
            self._shards.see()
        with _alone(os.path.join(self._shards.path, ".cleaning")) as is_alone:
            if not is_alone:
                return False

            deadline = time.monotonic() + _SLICE
            return any(time.monotonic() > deadline for _ in self._walk)

    def _round(self) -> Iterator[None]:
        begun = self.mark
        yield from self._sweep(begun.shard, begun.name)
        for shard in (*range(begun.shard + 1, 2 * SHARDS), *range(begun.shard + bool(begun.name))):
            yield from self._sweep(shard, "")
        self.mark = START

    def _sweep(self, shard: int, after: str) -> Iterator[None]:
        self.mark = Mark(shard, after)
        is_index, number = divmod(shard, SHARDS)
        folder = os.path.join(self._shards.owners if is_index else self._shards.records, f"{number:02x}")
        names: list[str] = []
        for name in digests(folder):  # without the lock: what is replaced meanwhile may be missed, and has not expired
            names.append(name)
            yield
        names.sort()
        if not is_index:
            self._remove_unfinished(folder)
        for name in names[bisect_right(names, after) :]:
            self.mark = Mark(shard, name)
            yield
            if is_index:
                yield from self._heal(os.path.join(folder, name))
            else:
                self._remove_expired(name)

    def _remove_unfinished(self, folder: str) -> None:
        unfinished = os.path.join(folder, ".writing")
        if os.path.lexists(unfinished):
            # Nobody is writing: we hold the lock.
            with suppress(TimeoutError, FileNotFoundError), self._shards.locked(folder, _PATIENCE):
                os.unlink(unfinished)

    def _remove_expired(self, name: str) -> None:
        with suppress(TimeoutError):
            self.removed += self._folder.remove_expired(name, _PATIENCE)

    def _heal(self, folder: str) -> Iterator[None]:
        for name in digests(folder):
            yield
            if not os.path.lexists(self._shards.place_of(name).path):
                with suppress(TimeoutError):
                    self._folder.owners.heal(folder, name, _PATIENCE)


@contextmanager
def _alone(path: str) -> Generator[bool, None, None]:
    with ExitStack() as stack:
        is_alone = True
        try:
            is_alone = try_lock(stack.enter_context(lock_file(path)))
        except OSError as error:
            if error.errno not in _FULL:  # where no file can be made, what frees some must go on; two do no harm
                raise
        yield is_alone
