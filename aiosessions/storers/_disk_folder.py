"""What a DiskStorer does to its files in one go: plain functions that block, for a thread.

Readers take no lock: a record is replaced as a whole, and a checksum tells when the head that `touch` writes in place
was read half way. Writers of one record exclude each other, in this process and in others. Who writes says how long it
waits for another writer, in seconds.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import TypeVar

from aiosessions.storers._disk_file import HEAD_SIZE, Stored, had_expired, pack, parse
from aiosessions.storers._disk_io import opened, write
from aiosessions.storers._disk_owners import Owners
from aiosessions.storers._disk_shards import SHARDS, Place, Shards
from aiosessions.storers.storer import Record

__all__ = ["DOUBT", "DiskFolder", "Doubt"]

_T = TypeVar("_T")


class Doubt(Enum):
    """What takes a closer look.

    Of a read: a file that could not be read, that was read half way, that is damaged, or whose record has expired. Of
    a write: another writer is at work there.
    """

    DOUBT = auto()


DOUBT = Doubt.DOUBT

_GRACE = 60.0  # `clean` leaves what expired less than so many seconds ago (S10)
_PAGE = 200  # names to list in one go, if a shard has fewer


class DiskFolder:
    """See the module.

    Args:
        path: the folder.
        fsync: whether each write waits until it would survive a loss of power.
        clock: gives the time in unix seconds.
        timeout: how long any call may take, in seconds.

    Attributes:
        shards: where the files lie.
        owners: the user index.
    """

    def __init__(self, path: str, *, fsync: bool, clock: Callable[[], float], timeout: float) -> None:
        self.shards: Shards = Shards(path, fsync=fsync)
        self.owners: Owners = Owners(self.shards, young=2 * timeout)
        self._fsync = fsync
        self._clock = clock
        self._timeout = timeout

    # Several in one go

    def glance(self, keys: Iterable[str]) -> list[Record | Doubt | None]:
        """What can be read without waiting for anybody; DOUBT where `read` must look closer."""
        self.shards.ready()
        return [self._glance(self.shards.path_of(key)) for key in keys]

    def _glance(self, path: str) -> Record | Doubt | None:
        try:
            data = self.shards.contents(path)
        except OSError:
            return DOUBT
        if data is None:
            return None

        stored = parse(data)
        return stored.record if stored is not None and stored.record.is_live(self._clock()) else DOUBT

    def together(self, writes: Sequence[Callable[[float], _T]]) -> list[_T | Doubt | OSError]:
        """What can be written without waiting for anybody; DOUBT where somebody is writing."""
        self.shards.ready()
        return [_try(write) for write in writes]

    # One record

    def read(self, key: str) -> Record | None:
        self.shards.ready()
        place = self.shards.place(key)
        stored = self._peek(place)
        if stored is not None and not stored.record.is_live(self._clock()):
            with self.shards.locked(place.folder, self._timeout):
                stored = self._live(place)
        return None if stored is None else stored.record

    def create(self, key: str, record: Record, patience: float) -> bool:
        self.shards.ready()
        place = self.shards.place(key)
        with self.shards.locked(place.folder, patience):
            stored = self._live(place)
            if stored is not None:
                return stored.record.version == record.version

            self._store(place, key, record)
            return True

    def replace(self, key: str, record: Record, version: int, patience: float) -> bool:
        self.shards.ready()
        place = self.shards.place(key)
        with self.shards.locked(place.folder, patience):
            stored = self._live(place)
            if stored is None:
                return False
            if stored.record.version == record.version:
                return True
            if stored.record.version != version:
                return False

            self._store(place, key, record)
            if stored.record.owner != record.owner:
                self.owners.remove(stored.record.owner, place.name)
            return True

    def touch(self, key: str, seen_at: float, expires_at: float | None, patience: float) -> bool:
        self.shards.ready()
        place = self.shards.place(key)
        with self.shards.locked(place.folder, patience):
            stored = self._live(place)
            if stored is None:
                return False

            touched = pack(stored.key, stored.record.touched(seen_at, expires_at))
            with opened(place.path, os.O_WRONLY) as file:
                os.pwrite(file, touched[:HEAD_SIZE], 0)
                if self._fsync:
                    os.fsync(file)
            return True

    def delete(self, key: str, version: int | None, patience: float) -> bool:
        self.shards.ready()
        place = self.shards.place(key)
        with self.shards.locked(place.folder, patience):
            stored = self._live(place)
            if stored is None or (version is not None and stored.record.version != version):
                return False

            self._remove(place, stored)
            return True

    def remove_expired(self, name: str, patience: float) -> bool:
        """Remove it if it expired more than a minute ago, or is damaged; whether there was a record."""
        place, latest = self.shards.place_of(name), self._clock() - _GRACE
        head = self.shards.contents(place.path, HEAD_SIZE)
        if head is None or not had_expired(head, latest):
            return False

        with self.shards.locked(place.folder, patience):
            data = self.shards.contents(place.path)
            if data is None or not had_expired(data, latest):
                return False

            stored = parse(data)
            self._remove(place, stored)
            return stored is not None

    # All records: pages of names from a shard on, with the shard to go on with, then what is behind them

    def names(self, shard: int) -> tuple[list[str], int]:
        self.shards.ready()
        found: list[str] = []
        while shard < SHARDS and len(found) < _PAGE:
            found += self.shards.names(shard, self._timeout)
            shard += 1
        return found, shard

    def keys(self, names: Iterable[str]) -> list[str]:
        found = (self._peek(self.shards.place_of(name)) for name in names)
        return [stored.key for stored in found if stored is not None and stored.record.is_live(self._clock())]

    # The records of one owner: what the index lists, then what is behind it

    def listed(self, owner: str) -> list[str]:
        self.shards.ready()
        return self.owners.names(owner)

    def owned(self, owner: str, names: Iterable[str], prefix: str) -> list[tuple[str, Record]]:
        found: list[tuple[str, Record]] = []
        for name in names:
            stored = self._peek(self.shards.place_of(name))
            if stored is None or stored.record.owner != owner:
                self.owners.heal(self.owners.folder(owner), name, self._timeout)
            elif stored.record.is_live(self._clock()) and stored.key.startswith(prefix):
                found.append((stored.key, stored.record))
        return found

    def end_owned(self, owner: str, names: Iterable[str], prefix: str, keep: str | None) -> int:
        ended = 0
        for name in names:
            place = self.shards.place_of(name)
            with self.shards.locked(place.folder, self._timeout):
                stored = self._live(place)
                if stored is None or stored.record.owner != owner:
                    continue
                if stored.key != keep and stored.key.startswith(prefix):
                    self._remove(place, stored)
                    ended += 1
        return ended

    # One file. All but `_peek` need the lock

    def _peek(self, place: Place) -> Stored | None:
        data = self.shards.contents(place.path)
        if data is None:
            return None

        stored = parse(data)
        if stored is None:  # damaged, or its times were read half way
            with self.shards.locked(place.folder, self._timeout):
                stored = parse(self.shards.contents(place.path) or b"")
        return stored

    def _live(self, place: Place) -> Stored | None:
        stored = parse(self.shards.contents(place.path) or b"")
        if stored is None or stored.record.is_live(self._clock()):
            return stored

        # Once seen expired it is gone: a clock that jumps back revives nothing.
        self._remove(place, stored)
        return None

    def _store(self, place: Place, key: str, record: Record) -> None:
        if record.owner is not None:
            self.owners.add(record.owner, place.name)  # first: no live record is ever in no index
        unfinished = os.path.join(place.folder, ".writing")
        try:
            with opened(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
                write(file, pack(key, record))
                if self._fsync:
                    os.fsync(file)
            os.replace(unfinished, place.path)
        except OSError:
            with suppress(OSError):  # a full disk need not hold half a record as well
                os.unlink(unfinished)
            raise
        self.shards.sync(place.folder)

    def _remove(self, place: Place, stored: Stored | None) -> None:
        os.unlink(place.path)
        self.shards.sync(place.folder)
        if stored is not None:
            self.owners.remove(stored.record.owner, place.name)


def _try(write: Callable[[float], _T]) -> _T | Doubt | OSError:
    try:
        return write(0.0)
    except TimeoutError:
        return DOUBT
    except OSError as error:
        return error
