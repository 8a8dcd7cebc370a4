"""Opening, locking, reading and writing for a DiskStorer: what the operating system gives, without links."""

import os
import re
import stat
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

from aiosessions._errors import ConfigError

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

__all__ = ["check_folder", "close_lock", "contents", "digests", "lock_file", "open_lock", "opened", "try_lock", "write"]

_CHUNK = 1 << 16
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def digests(folder: str) -> Iterator[str]:
    """The digests in a folder, one by one; what is called otherwise is not ours."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if _DIGEST.fullmatch(entry.name):
                yield entry.name


def check_folder(path: str) -> None:
    """Refuse what others could read, write, or put in its place (S11)."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{path} is a link: give the folder that it leads to")
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is no folder: give another path")
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to another user (uid {found.st_uid}): give a folder of one's own")
    if found.st_mode & 0o077:
        raise ConfigError(f"{path} is open to others: chmod 700 {path}")


@contextmanager
def opened(path: str, flags: int) -> Generator[int, None, None]:
    """An open file; never one that a link leads to."""
    file = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def lock_file(path: str) -> Generator[int, None, None]:
    """An open file to lock."""
    file = open_lock(path)
    try:
        yield file
    finally:
        close_lock(file)


def open_lock(path: str) -> int:
    """An open file to lock; made if it is absent."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def close_lock(file: int) -> None:
    """Let go of the lock, and of the file."""
    try:
        flock(file, LOCK_UN)  # closing is not enough if the process has forked meanwhile
    finally:
        os.close(file)


def try_lock(file: int) -> bool:
    """Take the lock, against other threads and processes; False if another has it."""
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def contents(path: str, size: int | None = None) -> bytes:
    """What the file begins with, or all of it."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        data = os.read(file, _CHUNK if size is None else size)
        if size is not None or len(data) < _CHUNK:
            return data

        parts = [data]
        while parts[-1]:
            parts.append(os.read(file, _CHUNK))
        return b"".join(parts)
    finally:
        os.close(file)


def write(file: int, data: bytes) -> None:
    """All of it, however often the system takes a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
