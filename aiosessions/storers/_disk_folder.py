"""The folder of a DiskStorer, and what is done to it in one go: plain functions that block, for a worker thread.

    records/ab/ab12…      one file per record, named by a digest of its key
    records/ab/.lock      held (flock) by whoever writes in records/ab
    records/ab/.writing   what is being written, then it takes the record's name: left behind by a process that died
    owners/cd/cd34…/ab12… the user index: an empty file per record, in a folder named by a digest of the owner
    .cleaning             held by the one process that cleans

Readers take no lock: a record is replaced as a whole, and a checksum tells when the head that `touch` writes in place
was read half way. Writers of one record exclude each other, in this process and in others.
"""

import os
import random
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import NamedTuple

from aiosessions.storers._disk_file import HEAD_SIZE, Stored, had_expired, pack, parse
from aiosessions.storers._disk_io import check_folder, contents, digests, lock_file, opened, try_lock, write
from aiosessions.storers.storer import Record
from aiosessions.storers.text import digest

__all__ = ["DOUBT", "SHARDS", "DiskFolder", "Doubt"]

SHARDS = 256


class Doubt(Enum):
    """A file that could not be read, that was read half way, that is damaged, or whose record has expired."""

    DOUBT = auto()


DOUBT = Doubt.DOUBT

_GRACE = 60.0  # `clean` leaves what expired less than so many seconds ago (S10)
_PAGE = 200  # files to look at in one go
_SWEPT = 25  # files and folders: each costs some system calls, after each of which a busy event loop keeps us waiting


class DiskFolder:
    """See the module.

    Args:
        path: the folder.
        fsync: whether each write waits until it would survive a loss of power.
        clock: gives the time in unix seconds.
        timeout: how long to wait for another writer, in seconds.
    """

    def __init__(self, path: str, *, fsync: bool, clock: Callable[[], float], timeout: float) -> None:
        self._path = path
        self._records = os.path.join(path, "records")
        self._owners = os.path.join(path, "owners")
        self._fsync = fsync
        self._clock = clock
        self._timeout = timeout
        self._is_open = False

    def open(self) -> None:
        """Create what is missing, and refuse what others could read or write."""
        os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        for path in (self._path, self._records, self._owners):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            check_folder(path)
        self._is_open = True

    # One record

    def glance(self, keys: Iterable[str]) -> list[Record | Doubt | None]:
        """What can be read without waiting for anybody; DOUBT where `read` must look closer."""
        self._ready()
        return [self._glance(self._place(key)) for key in keys]

    def _glance(self, place: "_Place") -> Record | Doubt | None:
        try:
            data = self._contents(place.path)
        except OSError:
            return DOUBT
        if data is None:
            return None

        stored = parse(data)
        return stored.record if stored is not None and stored.record.is_live(self._clock()) else DOUBT

    def read(self, key: str) -> Record | None:
        self._ready()
        place = self._place(key)
        stored = self._peek(place)
        if stored is not None and not stored.record.is_live(self._clock()):
            with self._locked(place.folder):
                stored = self._live(place)
        return None if stored is None else stored.record

    def create(self, key: str, record: Record) -> bool:
        self._ready()
        place = self._place(key)
        with self._locked(place.folder):
            stored = self._live(place)
            if stored is not None:
                return stored.record.version == record.version

            self._store(place, key, record)
            return True

    def replace(self, key: str, record: Record, version: int) -> bool:
        self._ready()
        place = self._place(key)
        with self._locked(place.folder):
            stored = self._live(place)
            if stored is None:
                return False
            if stored.record.version == record.version:
                return True
            if stored.record.version != version:
                return False

            self._store(place, key, record)
            if stored.record.owner != record.owner:
                self._unlist(stored.record.owner, place.name)
            return True

    def touch(self, key: str, seen_at: float, expires_at: float | None) -> bool:
        self._ready()
        place = self._place(key)
        with self._locked(place.folder):
            stored = self._live(place)
            if stored is None:
                return False

            touched = pack(stored.key, stored.record.touched(seen_at, expires_at))
            with opened(place.path, os.O_WRONLY) as file:
                os.pwrite(file, touched[:HEAD_SIZE], 0)
                if self._fsync:
                    os.fsync(file)
            return True

    def delete(self, key: str, version: int | None) -> bool:
        self._ready()
        place = self._place(key)
        with self._locked(place.folder):
            stored = self._live(place)
            if stored is None or (version is not None and stored.record.version != version):
                return False

            self._remove(place, stored)
            return True

    # All records, by pages: the shard to begin with, and the one to go on with

    def keys(self, shard: int) -> tuple[list[str], int]:
        self._ready()
        found: list[str] = []
        while shard < SHARDS and len(found) < _PAGE:
            for place in self._shard(shard):
                stored = self._peek(place)
                if stored is not None and stored.record.is_live(self._clock()):
                    found.append(stored.key)
            shard += 1
        return found, shard

    def clean(self, shard: int) -> tuple[int, int]:
        """How many went; the shard to go on with is the last one at once where another process is cleaning."""
        self._ready()
        with lock_file(os.path.join(self._path, ".cleaning")) as lock:
            if not try_lock(lock):
                return 0, SHARDS

            removed = looked_at = 0
            while shard < SHARDS and looked_at < _SWEPT:
                places = self._shard(shard)
                removed += self._clean_shard(os.path.join(self._records, f"{shard:02x}"), places)
                looked_at += 1 + len(places) + self._heal_shard(os.path.join(self._owners, f"{shard:02x}"))
                shard += 1
            return removed, shard

    def _clean_shard(self, folder: str, places: list["_Place"]) -> int:
        latest = self._clock() - _GRACE
        suspects = [place for place in places if had_expired(self._contents(place.path, HEAD_SIZE) or b"", latest)]
        unfinished = os.path.join(folder, ".writing")
        if not suspects and not os.path.lexists(unfinished):
            return 0

        removed = 0
        with self._locked(folder):
            with suppress(FileNotFoundError):  # nobody is writing: we hold the lock
                os.unlink(unfinished)
            for place in suspects:
                data = self._contents(place.path)
                if data is None or not had_expired(data, latest):
                    continue
                stored = parse(data)
                self._remove(place, stored)
                removed += stored is not None
        return removed

    def _heal_shard(self, folder: str) -> int:
        entries = [
            (os.path.join(folder, owner), name)
            for owner in digests(folder)
            for name in digests(os.path.join(folder, owner))
        ]
        for owner_folder, name in entries:
            if not os.path.lexists(self._place_of(name).path):
                self._heal(owner_folder, name)
        return len(entries)

    # The records of one owner: what the index lists, then page by page what is behind it

    def listed(self, owner: str) -> list[list[str]]:
        self._ready()
        os.stat(self._owners)  # a folder that has vanished is a failure, not a user without sessions
        names = digests(self._owner_folder(owner))
        return [names[start : start + _PAGE] for start in range(0, len(names), _PAGE)]

    def owned(self, owner: str, names: Iterable[str], prefix: str) -> list[tuple[str, Record]]:
        found: list[tuple[str, Record]] = []
        for name in names:
            stored = self._peek(self._place_of(name))
            if stored is None or stored.record.owner != owner:
                self._heal(self._owner_folder(owner), name)
            elif stored.record.is_live(self._clock()) and stored.key.startswith(prefix):
                found.append((stored.key, stored.record))
        return found

    def end_owned(self, owner: str, names: Iterable[str], prefix: str, keep: str | None) -> int:
        ended = 0
        for name in names:
            place = self._place_of(name)
            with self._locked(place.folder):
                stored = self._live(place)
                if stored is None or stored.record.owner != owner:
                    continue
                if stored.key != keep and stored.key.startswith(prefix):
                    self._remove(place, stored)
                    ended += 1
        return ended

    def _list(self, owner: str, name: str) -> None:
        folder = self._owner_folder(owner)
        entry = os.path.join(folder, name)
        with suppress(FileNotFoundError):
            os.utime(entry)
            return

        while True:
            self._make(os.path.dirname(folder))
            self._make(folder)
            # If it is not there, its last entry went just now, and the folder with it.
            with suppress(FileNotFoundError), opened(entry, os.O_WRONLY | os.O_CREAT):
                break
        self._sync(folder)

    def _unlist(self, owner: str | None, name: str) -> None:
        if owner is not None:
            folder = self._owner_folder(owner)
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
            with suppress(OSError):  # others are listed there
                os.rmdir(folder)

    def _heal(self, owner_folder: str, name: str) -> None:
        """Take an entry that no record stands behind from the index, unless it is young: a process died just then."""
        entry = os.path.join(owner_folder, name)
        place = self._place_of(name)
        with suppress(FileNotFoundError), self._locked(place.folder):
            if time.time() - os.stat(entry).st_mtime <= 2 * self._timeout:
                return
            stored = parse(self._contents(place.path) or b"")
            owner = None if stored is None else stored.record.owner
            if owner is None or self._owner_folder(owner) != owner_folder:
                os.unlink(entry)
                with suppress(OSError):  # others are listed there
                    os.rmdir(owner_folder)

    # One file. All but `_peek` need the lock

    def _peek(self, place: "_Place") -> Stored | None:
        data = self._contents(place.path)
        if data is None:
            return None

        stored = parse(data)
        if stored is None:  # damaged, or its times were read half way
            with self._locked(place.folder):
                stored = parse(self._contents(place.path) or b"")
        return stored

    def _live(self, place: "_Place") -> Stored | None:
        stored = parse(self._contents(place.path) or b"")
        if stored is None or stored.record.is_live(self._clock()):
            return stored

        # Once seen expired it is gone: a clock that jumps back revives nothing.
        self._remove(place, stored)
        return None

    def _store(self, place: "_Place", key: str, record: Record) -> None:
        if record.owner is not None:
            self._list(record.owner, place.name)  # first: no live record is ever in no index
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
        self._sync(place.folder)

    def _remove(self, place: "_Place", stored: Stored | None) -> None:
        os.unlink(place.path)
        self._sync(place.folder)
        if stored is not None:
            self._unlist(stored.record.owner, place.name)

    def _contents(self, path: str, size: int | None = None) -> bytes | None:
        try:
            return contents(path, size)
        except FileNotFoundError:
            os.stat(self._records)  # a folder that has vanished is a failure, not a folder of nothing
            return None

    # Places and locks

    def _ready(self) -> None:
        if not self._is_open:
            self.open()

    def _place(self, key: str) -> "_Place":
        return self._place_of(digest(key).hex())

    def _place_of(self, name: str) -> "_Place":
        return _Place(f"{self._records}/{name[:2]}", name)

    def _shard(self, shard: int) -> list["_Place"]:
        folder = os.path.join(self._records, f"{shard:02x}")
        if not os.path.lexists(folder):
            os.stat(self._records)
            return []

        with self._locked(folder):  # a name that is replaced while it is listed may come twice or not at all
            return [_Place(folder, name) for name in digests(folder)]

    def _owner_folder(self, owner: str) -> str:
        name = digest(owner).hex()
        return os.path.join(self._owners, name[:2], name)

    def _make(self, folder: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            self._sync(os.path.dirname(folder))

    def _sync(self, folder: str) -> None:
        if self._fsync:
            with opened(folder, os.O_RDONLY) as file:
                os.fsync(file)

    @contextmanager
    def _locked(self, folder: str) -> Generator[None, None, None]:
        self._make(folder)
        with lock_file(os.path.join(folder, ".lock")) as lock:
            deadline = time.monotonic() + self._timeout
            pause = 0.000_05
            while not try_lock(lock):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another writer has held {folder}/.lock for {self._timeout} s")
                time.sleep(pause * (1 + random.random()))  # noqa: S311 - keeps writers apart, guards nothing
                pause = min(pause * 1.5, 0.002)
            yield


class _Place(NamedTuple):
    """Where a record lies, and under which name."""

    folder: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"
