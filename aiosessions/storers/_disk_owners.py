"""The user index of a DiskStorer: an empty file per record, in a folder per owner."""

import os
import time
from contextlib import suppress

from aiosessions.storers._disk_file import parse
from aiosessions.storers._disk_io import digests, opened
from aiosessions.storers._disk_shards import Shards
from aiosessions.storers.text import digest

__all__ = ["Owners"]


class Owners:
    """Which records are whose. An entry is there before its record is, and goes after it.

    Args:
        shards: where it lies.
        young: how long an entry stays that no record stands behind, in seconds: its writer is about to write.
    """

    def __init__(self, shards: Shards, *, young: float) -> None:
        self._shards = shards
        self._young = young

    def names(self, owner: str) -> list[str]:
        """The records that are listed for an owner."""
        if not os.path.exists(self._shards.owners):
            self._shards.see()
        return list(digests(self.folder(owner)))

    def folder(self, owner: str) -> str:
        """Of one owner."""
        name = digest(owner).hex()
        return os.path.join(self._shards.owners, name[:2], name)

    def add(self, owner: str, name: str) -> None:
        """List a record."""
        folder = self.folder(owner)
        entry = os.path.join(folder, name)
        with suppress(FileNotFoundError):
            os.utime(entry)
            return

        while True:
            self._shards.make(os.path.dirname(folder))
            self._shards.make(folder)
            # If it is not there, its last entry went just now, and the folder with it.
            with suppress(FileNotFoundError), opened(entry, os.O_WRONLY | os.O_CREAT):
                break
        self._shards.sync(folder)

    def remove(self, owner: str | None, name: str) -> None:
        """List it no more."""
        if owner is not None:
            _remove(self.folder(owner), name)

    def heal(self, owner_folder: str, name: str, patience: float) -> None:
        """Take away an entry that no record stands behind, unless it is young: a process died just then."""
        place = self._shards.place_of(name)
        with suppress(FileNotFoundError), self._shards.locked(place.folder, patience):
            if time.time() - os.stat(os.path.join(owner_folder, name)).st_mtime <= self._young:
                return
            stored = parse(self._shards.contents(place.path) or b"")
            owner = None if stored is None else stored.record.owner
            if owner is None or self.folder(owner) != owner_folder:
                _remove(owner_folder, name)


def _remove(folder: str, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, name))
    with suppress(OSError):  # others are listed there
        os.rmdir(folder)
