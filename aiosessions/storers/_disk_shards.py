"""Where a DiskStorer's files lie, who may write there, and whether the folder is still the one that was opened.

records/ab/ab12…      one file per record, named by a digest of its key
records/ab/.lock      held (flock) by whoever writes in records/ab
records/ab/.writing   what is being written, then it takes the record's name: left behind by a process that died
owners/cd/cd34…/ab12… the user index: an empty file per record, in a folder named by a digest of the owner
.cleaning             held by the one process that cleans
"""

import errno
import os
import random
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from aiosessions._errors import ConfigError
from aiosessions.storers._disk_io import (
    check_folder,
    close_lock,
    contents,
    digests,
    lock_file,
    open_lock,
    opened,
    try_lock,
    write,
)
from aiosessions.storers.text import digest

__all__ = ["SHARDS", "Place", "Shards"]

SHARDS = 256

_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class Place(NamedTuple):
    """Where a record lies, and under which name."""

    folder: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"


class Shards:
    """See the module.

    Args:
        path: the folder.
        fsync: whether each change waits until it would survive a loss of power.
    """

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = path
        self.records = os.path.join(path, "records")
        self.owners = os.path.join(path, "owners")
        self.fsync = fsync
        self._identity: tuple[int, int] | None = None
        self._known: set[str] = set()  # shards that are no links

    # The folder

    def ready(self) -> None:
        """Create what is missing and look at what is there, unless that was done.

        Raises:
            ConfigError: it is a link, belongs to another user, is open to others, or may not be written.
        """
        if self._identity is not None:
            return

        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._make_trees()
        except OSError as error:
            raise self._refused(error) from error
        for tree in (self.records, self.owners):
            _refuse_links(tree)
        found = os.stat(self.path)
        self._identity = found.st_dev, found.st_ino

    def probe(self) -> None:
        """Find out whether a file can be written, locked, read and deleted where records and owners lie.

        Raises:
            ConfigError: it may not.
        """
        self.ready()
        for tree in (self.records, self.owners):
            path = os.path.join(tree, ".probe")
            try:
                with lock_file(path) as file:
                    try_lock(file)  # of several that open at once one has it
                    write(file, b"aiosess")
                    os.pread(file, 7, 0)
                    with suppress(FileNotFoundError):  # another took it away just now
                        os.unlink(path)
            except OSError as error:
                raise self._refused(error) from error

    def see(self) -> None:
        """Tell a folder that somebody emptied, which has no records, from one that has vanished.

        Raises:
            OSError: another one is in its place, or none: a volume that is not mounted.
        """
        found = os.stat(self.path)
        if (found.st_dev, found.st_ino) != self._identity:
            raise FileNotFoundError(errno.ENOENT, "another folder is in its place", self.path)

    def _make_trees(self) -> None:
        for path in (self.path, self.records, self.owners):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            check_folder(path)

    def _refused(self, error: OSError) -> Exception:
        if error.errno not in _REFUSED:
            return error
        return ConfigError(
            f"{error.filename or self.path}: no session can be written there ({error.strerror}): let this process "
            "write in it, or give another folder"
        )

    # What is in it

    def place(self, key: str) -> Place:
        """Of the record under a key."""
        return self.place_of(digest(key).hex())

    def path_of(self, key: str) -> str:
        """Of the file of that record; on its own, for whoever reads many."""
        name = digest(key).hex()
        return f"{self.records}/{name[:2]}/{name}"

    def place_of(self, name: str) -> Place:
        """Of the record with a name."""
        return Place(f"{self.records}/{name[:2]}", name)

    def contents(self, path: str, size: int | None = None) -> bytes | None:
        """What the file of a record begins with, or all of it; None: there is none."""
        try:
            return contents(path, size)
        except FileNotFoundError:
            if not os.path.exists(self.records):
                self.see()
            return None

    def names(self, shard: int, patience: float) -> list[str]:
        """The records of a shard."""
        folder = os.path.join(self.records, f"{shard:02x}")
        if not os.path.lexists(folder):
            if not os.path.exists(self.records):
                self.see()
            return []

        with self.locked(folder, patience):  # a name that is replaced while it is listed may come twice or not at all
            return list(digests(folder))

    # Who may write

    @contextmanager
    def locked(self, folder: str, patience: float) -> Generator[None, None, None]:
        """Hold a shard of records, against other threads and processes.

        Raises:
            TimeoutError: another has held it for *patience* seconds.
        """
        path = f"{folder}/.lock"
        if folder not in self._known:
            self.make(folder)
            self._known.add(folder)
        try:
            lock = open_lock(path)
        except FileNotFoundError:
            self.make(folder)  # somebody removed it
            lock = open_lock(path)
        try:
            deadline = time.monotonic() + patience
            pause = 0.000_05
            while not try_lock(lock):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"another writer has held {path} for {patience} s")
                time.sleep(pause * (1 + random.random()))  # noqa: S311 - keeps writers apart, guards nothing
                pause = min(pause * 1.5, 0.002)
            yield
        finally:
            close_lock(lock)

    def make(self, folder: str) -> None:
        """One of the folders within, and all around it that somebody removed."""
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            try:
                check_folder(folder)
            except FileNotFoundError:
                self.make(folder)  # somebody removed it just now
            return
        except FileNotFoundError:
            self.see()
            self._make_trees()
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        self.sync(os.path.dirname(folder))

    def sync(self, folder: str) -> None:
        """Let its entries survive a loss of power, if that is asked for."""
        if self.fsync:
            with opened(folder, os.O_RDONLY) as file:
                os.fsync(file)


def _refuse_links(tree: str) -> None:
    with os.scandir(tree) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise ConfigError(f"{entry.path} is a link: put the folder itself in its place")
