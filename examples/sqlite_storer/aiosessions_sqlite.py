"""Sessions in an SQLite file: for several processes on one machine."""

# ruff: noqa: S608  (the one name put into SQL is checked to be one)

import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import anyio.to_thread

from aiosessions import ConfigError, Record, StorerError

__all__ = ["SQLiteStorer", "from_url"]

_COLUMNS = "value, meta, owner, created_at, seen_at, expires_at, version"
_LIVE = "(expires_at IS NULL OR expires_at > :now)"
_PAGE = 200


class SQLiteStorer:
    """Keeps each session in a row. Each call is one statement, or two that cannot disagree, in a worker thread.

    Args:
        path: the database file; made for its owner alone, if it is not there.
        table: the table's name: letters, digits and underscores.
        timeout: how long one statement may wait for other processes, in seconds.
        clock: gives the time in unix seconds.

    Raises:
        ConfigError: *table* is no name.
    """

    durable = True
    stores_json = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: str = "sessions",
        timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table, re.ASCII):
            raise ConfigError(f"table={table!r}: give letters, digits and underscores")

        self._path = os.fspath(path)
        self._table = table
        self._timeout = timeout
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._turn = anyio.CapacityLimiter(1)
        self._opened = 0

    async def open(self) -> None:
        """Make the file and the table, unless they are there. Counted: as many `aclose` close it."""
        await self._run("SELECT 1")
        self._opened += 1

    async def aclose(self) -> None:
        """Undo one `open`."""
        self._opened = max(0, self._opened - 1)
        if not self._opened:
            await anyio.to_thread.run_sync(self._close, limiter=self._turn)

    async def read(self, key: str) -> Record | None:
        rows = await self._run(f"SELECT {_COLUMNS} FROM {self._table} WHERE key = :key AND {_LIVE}", key=_bytes(key))
        return _record(rows[0]) if rows else None

    async def create(self, key: str, record: Record) -> bool:
        values = _values(key, record)
        written = await self._run(
            f"INSERT INTO {self._table} (key, {_COLUMNS}) "
            "VALUES (:key, :value, :meta, :owner, :created_at, :seen_at, :expires_at, :version) "
            "ON CONFLICT (key) DO UPDATE SET value = :value, meta = :meta, owner = :owner, created_at = :created_at, "
            "seen_at = :seen_at, expires_at = :expires_at, version = :version WHERE expires_at <= :now RETURNING 1",
            **values,
        )
        return bool(written) or await self._has_version(key, record.version)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        values = _values(key, record)
        written = await self._run(
            f"UPDATE {self._table} SET value = :value, meta = :meta, owner = :owner, created_at = :created_at, "
            "seen_at = :seen_at, expires_at = :expires_at, version = :version "
            f"WHERE key = :key AND version = :expected AND {_LIVE} RETURNING 1",
            **values,
            expected=version,
        )
        return bool(written) or await self._has_version(key, record.version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        touched = await self._run(
            f"UPDATE {self._table} SET seen_at = max(seen_at, :seen_at), "
            # max() of a NULL is NULL: no deadline is later than any.
            f"expires_at = max(expires_at, :expires_at) WHERE key = :key AND {_LIVE} RETURNING 1",
            key=_bytes(key),
            seen_at=seen_at,
            expires_at=expires_at,
        )
        return bool(touched)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        rows = await self._run(
            f"DELETE FROM {self._table} WHERE key = :key AND version = coalesce(:version, version) RETURNING {_LIVE}",
            key=_bytes(key),
            version=version,
        )
        return bool(rows and rows[0][0])

    async def clean(self) -> int:
        removed = 0
        while True:
            rows = await self._run(
                f"DELETE FROM {self._table} WHERE key IN "
                f"(SELECT key FROM {self._table} WHERE expires_at < :now - 60 LIMIT {_PAGE}) RETURNING 1"
            )
            removed += len(rows)
            if len(rows) < _PAGE:
                return removed

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        rows = await self._run(
            f"SELECT key, {_COLUMNS} FROM {self._table} "
            f"WHERE owner = :owner AND substr(key, 1, length(:prefix)) = :prefix AND {_LIVE}",
            owner=_bytes(owner),
            prefix=_bytes(prefix),
        )
        return [(_text(key), _record(columns)) for key, *columns in rows]

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        rows = await self._run(
            f"DELETE FROM {self._table} WHERE owner = :owner AND substr(key, 1, length(:prefix)) = :prefix "
            f"AND key IS NOT :keep RETURNING {_LIVE}",
            owner=_bytes(owner),
            prefix=_bytes(prefix),
            keep=None if keep is None else _bytes(keep),
        )
        return sum(live for (live,) in rows)

    async def keys(self) -> AsyncIterator[str]:
        # The empty key comes first, and nothing is less than it.
        statement = f"SELECT key FROM {self._table} WHERE key {{}} :last AND {_LIVE} ORDER BY key LIMIT {_PAGE}"
        rows = await self._run(statement.format(">="), last=b"")
        while rows:
            for (key,) in rows:
                yield _text(key)
            rows = await self._run(statement.format(">"), last=rows[-1][0])

    async def _has_version(self, key: str, version: int) -> bool:
        """Whether a write that was refused has been applied before: it was sent twice."""
        statement = f"SELECT 1 FROM {self._table} WHERE key = :key AND version = :version AND {_LIVE}"
        return bool(await self._run(statement, key=_bytes(key), version=version))

    async def _run(self, statement: str, **values: object) -> list[tuple[Any, ...]]:  # Any: what the columns hold
        # A worker thread is not abandoned when its caller is cancelled: no statement is ever left half done.
        return await anyio.to_thread.run_sync(self._execute, statement, values, limiter=self._turn)

    def _execute(self, statement: str, values: dict[str, object]) -> list[tuple[Any, ...]]:  # Any: as above
        try:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection.execute(statement, {"now": self._clock(), **values}).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise StorerError(f"SQLite in {self._path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        # The threads take turns, so that the connection may be made in one and used in another.
        connection = sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # Whole after any crash; a loss of power may forget the last writes. FULL waits for the disk each time.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (key BLOB PRIMARY KEY, value BLOB, meta BLOB, owner BLOB, "
            "created_at REAL, seen_at REAL, expires_at REAL, version INTEGER) WITHOUT ROWID"
        )
        for column in ("owner", "expires_at"):
            connection.execute(f"CREATE INDEX IF NOT EXISTS {self._table}_{column} ON {self._table} ({column})")
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def from_url(url: str) -> SQLiteStorer:
    """`sqlite:PATH`, with `?table=` and `?timeout=` (seconds): what the entry point names.

    Raises:
        ConfigError: an option that there is not, or a value that it cannot have.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    table, timeout = options.pop("table", "sessions"), options.pop("timeout", "5")
    if options or not parts.path:
        raise ConfigError("give sqlite:PATH, and of options only table and timeout")
    try:
        return SQLiteStorer(unquote(parts.path), table=table, timeout=float(timeout))
    except ValueError as error:
        raise ConfigError(f"sqlite: {error}") from error


def _values(key: str, record: Record) -> dict[str, object]:
    return {
        "key": _bytes(key),
        "value": record.value,
        "meta": record.meta,
        "owner": None if record.owner is None else _bytes(record.owner),
        "created_at": record.created_at,
        "seen_at": record.seen_at,
        "expires_at": record.expires_at,
        "version": record.version,
    }


def _record(row: list[Any] | tuple[Any, ...]) -> Record:  # Any: what the columns hold
    value, meta, owner, created_at, seen_at, expires_at, version = row
    return Record(value, meta, None if owner is None else _text(owner), created_at, seen_at, expires_at, version)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
