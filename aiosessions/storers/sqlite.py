"""Sessions in an SQLite file: the embedded default for one machine, on every platform."""

# ruff: noqa: PTH100, PTH119  (a path is a str, as sqlite3 takes it)

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers import _sqlite_rows as rows
from aiosessions.storers._sqlite_file import File
from aiosessions.storers._sqlite_thread import Worker
from aiosessions.storers.batches import Batches
from aiosessions.storers.bounded import seconds_of
from aiosessions.storers.storer import Record

__all__ = ["SQLiteStorer"]

_MOST = 128  # calls in one trip
_GRACE = 60.0  # `clean` leaves what expired less than so many seconds ago (S10)
_ERRORS = (sqlite3.Error, OSError, UnicodeDecodeError)  # TimeoutError is an OSError
_OF_ONE = (sqlite3.DataError, OverflowError)  # what SQLite says of one value that it cannot keep
_T = TypeVar("_T")
_Write = Callable[[sqlite3.Connection, float], bool]


class SQLiteStorer:
    """Keeps each session in a row of an SQLite file: durable, queryable, and known by its user.

    For asyncio and trio; needs nothing but Python's own `sqlite3`. Any number of processes of one machine may use one
    file, on a local disk. One thread writes: all writes of one turn of the event loop, and those that came while it
    was at work, are one transaction, and each is confirmed once that would survive a loss of power. Another thread
    reads beside it, and waits for no writer. A call that is cancelled or runs out of time is carried out or not, and
    never by half.

    The file, and SQLite's own two beside it (`-wal`, `-shm`), must not be moved or deleted while they are in use:
    every call is a StorerError then, until what uses them is restarted. Copy them with `sqlite3 FILE .backup`.

    Args:
        path: the file; made with mode 0600 if it is absent. It must be one's own, no link, closed to others, and of
            sessions alone.
        timeout: how long a call may take, the wait for other processes included; then it is a StorerError.
        clock: gives the time in unix seconds.

    Raises:
        ConfigError: *path* is no path of a file, or *timeout* is not positive.
    """

    durable = True
    stores_json = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: timedelta = timedelta(seconds=5),
        clock: Callable[[], float] = time.time,
    ) -> None:
        name = os.fspath(path)
        if not name or os.path.basename(name) == ":memory:":
            raise ConfigError(f"path={path!r}: name a file; what need not outlive the process is MemoryStorer's")
        if name.startswith("file:"):
            raise ConfigError(f"path={path!r}: give a path, not one of SQLite's URIs")

        self._file = File(os.path.abspath(name))
        self._timeout = seconds_of(timeout)
        self._clock = clock
        self._count = 0
        self._reader = Worker("aiosessions reader", partial(self._file.connect, probe=False), self._file.each)
        self._writer = Worker("aiosessions writer", partial(self._file.connect, probe=True), self._file.transaction)
        self._reads = Batches(self._read_together, most=_MOST)
        self._writes = Batches(self._write_together, most=_MOST)

    def __repr__(self) -> str:
        return f"<SQLiteStorer of {self._file.path}>"

    async def open(self) -> None:
        """Make the file and its table, and prove that it can be written (also done before the first use).

        Raises:
            ConfigError: the path is a folder or a link, its folder is missing or read-only, the file belongs to
                another user, is open to others, is no database, or one of something else.
            StorerError: the disk failed, or another process held the lock all the time.
        """
        self._count += 1
        try:
            await self._hop(self._writer, _nothing)
            await self._hop(self._reader, _nothing)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Undo one `open`; the last one ends the threads and closes the file."""
        self._count = max(0, self._count - 1)
        if not self._count:
            endings = [self._writer.stop(), self._reader.stop()]
            self._file.forget()
            for ending in endings:
                await ending.wait(self._timeout)

    async def read(self, key: str) -> Record | None:
        return await self._live(key, await self._reads.ask(key))

    async def read_together(self, keys: Sequence[str]) -> list[Record | None]:
        found = await self._reads.ask_all(keys)
        return [await self._live(key, record) for key, record in zip(keys, found, strict=True)]

    async def _live(self, key: str, record: Record | None) -> Record | None:
        if record is None or record.is_live(self._clock()):
            return record

        # Absent all the same where nothing can be written.
        with suppress(StorerError):
            await self._writes.ask(partial(rows.forget, key=key))
        return None

    async def create(self, key: str, record: Record) -> bool:
        return await self._writes.ask(partial(rows.create, key=key, record=record))

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await self._writes.ask(partial(rows.replace, key=key, record=record, expected=version))

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        return await self._writes.ask(partial(rows.touch, key=key, seen_at=seen_at, expires_at=expires_at))

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self._writes.ask(partial(rows.delete, key=key, version=version))

    async def clean(self) -> int:
        """See Cleanable. A page is one transaction, so that who writes waits for no more than a page."""
        removed = 0
        while True:
            page = await self._hop(self._writer, lambda connection: rows.clean(connection, self._clock() - _GRACE))
            removed += page
            if page < rows.PAGE:
                return removed

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        found: dict[str, Record] = {}  # a key that is made anew between two pages comes twice
        last: int | None = 0
        while last is not None:
            listed = partial(rows.owned, now=self._clock(), owner=owner, prefix=prefix, last=last)
            page, last = await self._hop(self._reader, listed)
            found.update(page)
        return list(found.items())

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        ended = 0
        last: int | None = 0
        while last is not None:
            end = partial(rows.end_owned, now=self._clock(), owner=owner, prefix=prefix, keep=keep, last=last)
            page, last = await self._hop(self._writer, end)
            ended += page
        return ended

    async def keys(self) -> AsyncIterator[str]:
        last: int | None = 0
        while last is not None:
            page, last = await self._hop(self._reader, partial(rows.keys, now=self._clock(), last=last))
            for key in page:
                yield key

    async def _read_together(self, keys: Sequence[str]) -> Sequence[Record | Exception | None]:
        return await self._hop(self._reader, partial(rows.read, keys=keys))

    async def _write_together(self, calls: Sequence[_Write]) -> Sequence[bool | Exception]:
        def write(connection: sqlite3.Connection) -> list[bool | Exception]:
            now = self._clock()
            return [self._write(call, connection, now) for call in calls]

        return await self._hop(self._writer, write)

    def _write(self, call: _Write, connection: sqlite3.Connection, now: float) -> bool | Exception:
        try:
            return call(connection, now)
        except _OF_ONE as error:  # the transaction goes on
            return self._failure(error, error)

    async def _hop(self, worker: Worker, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return await worker.do(work, timeout=self._timeout)
        except _ERRORS as error:
            raise self._failure(error) from error
        except ConfigError as error:
            if not self._file.is_known:
                raise
            raise self._failure(error) from error

    def _failure(self, error: Exception, cause: Exception | None = None) -> StorerError:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        failure = StorerError(f"SQLite in {self._file.path}: {said}")
        failure.__cause__ = cause
        return failure


def _nothing(_: sqlite3.Connection) -> None:
    """What `open` asks for: to connect is enough."""
