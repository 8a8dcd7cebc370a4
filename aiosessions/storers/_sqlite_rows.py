"""Records as rows of an SQLiteStorer's table, and what is done to them: plain functions, for its threads.

Those that write run inside a transaction which has the file's lock. Text that SQLite can keep as text is kept so, for
people to query (`json_extract(value, '$.cart')`); what has NUL or is no UTF-8 is kept as bytes (a BLOB). Two texts are
never the same, and come back as they were.
"""

# ruff: noqa: S608  (every name put into SQL is a constant of this file)

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from aiosessions.storers.storer import Record
from aiosessions.storers.text import decoded, encoded

__all__ = ["clean", "create", "delete", "end_owned", "forget", "keys", "owned", "read", "replace", "touch"]

PAGE = 200  # rows: who writes does not wait long for one

_COLUMNS = "value, meta, owner, created_at, seen_at, expires_at, version"
_LIVE = "(expires_at IS NULL OR expires_at > :now)"
_OF_OWNER = "owner = :owner AND id > :last AND substr(CAST(key AS BLOB), 1, :size) = :prefix"

_READ = f"SELECT {_COLUMNS} FROM sessions WHERE key = ?"
_VERSION = f"SELECT version FROM sessions WHERE key = :key AND {_LIVE}"
_CREATE = (
    f"INSERT OR IGNORE INTO sessions (key, {_COLUMNS}) "
    "VALUES (:key, :value, :meta, :owner, :created_at, :seen_at, :expires_at, :version)"
)
_REPLACE = (
    "UPDATE sessions SET value = :value, meta = :meta, owner = :owner, created_at = :created_at, "
    "seen_at = :seen_at, expires_at = :expires_at, version = :version "
    f"WHERE key = :key AND version = :expected AND {_LIVE}"
)
_TOUCH = (
    # max() of a NULL is NULL: no deadline is later than any
    "UPDATE sessions SET seen_at = max(seen_at, :seen_at), expires_at = max(expires_at, :expires_at) "
    f"WHERE key = :key AND {_LIVE}"
)
_DELETE = f"DELETE FROM sessions WHERE key = :key AND version = coalesce(:version, version) AND {_LIVE}"
_FORGET = "DELETE FROM sessions WHERE key = :key AND expires_at <= :now"
_CLEAN = (
    "DELETE FROM sessions WHERE id IN "
    f"(SELECT id FROM sessions WHERE expires_at < :latest ORDER BY expires_at LIMIT {PAGE})"
)
_KEYS = f"SELECT id, key FROM sessions WHERE id > :last AND {_LIVE} ORDER BY id LIMIT {PAGE}"
_OWNED = f"SELECT id, key, {_COLUMNS} FROM sessions WHERE {_OF_OWNER} AND {_LIVE} ORDER BY id LIMIT {PAGE}"
_TO_END = f"SELECT id, {_LIVE} FROM sessions WHERE {_OF_OWNER} AND key IS NOT :keep ORDER BY id LIMIT {PAGE}"


def read(connection: sqlite3.Connection, keys: Sequence[str]) -> list[Record | None]:
    """The records, expired or not, as they were at one moment."""
    if len(keys) == 1:
        return [_read(connection, keys[0])]

    connection.execute("BEGIN")
    try:
        return [_read(connection, key) for key in keys]
    finally:
        connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection, key: str) -> Record | None:
    row = connection.execute(_READ, (_kept(key),)).fetchone()
    return None if row is None else _record(row)


def create(connection: sqlite3.Connection, now: float, key: str, record: Record) -> bool:
    row = _row(key, record)
    if connection.execute(_CREATE, row).rowcount:
        return True
    if forget(connection, now, key):
        connection.execute(_CREATE, row)
        return True
    return _has_version(connection, now, key, record.version)


def replace(connection: sqlite3.Connection, now: float, key: str, record: Record, expected: int) -> bool:
    row = {**_row(key, record), "now": now, "expected": expected}
    return bool(connection.execute(_REPLACE, row).rowcount) or (
        not forget(connection, now, key) and _has_version(connection, now, key, record.version)
    )


def touch(connection: sqlite3.Connection, now: float, key: str, seen_at: float, expires_at: float | None) -> bool:
    row = {"key": _kept(key), "now": now, "seen_at": seen_at, "expires_at": expires_at}
    return _done_or_forgotten(connection, now, key, connection.execute(_TOUCH, row))


def delete(connection: sqlite3.Connection, now: float, key: str, version: int | None) -> bool:
    row = {"key": _kept(key), "now": now, "version": version}
    return _done_or_forgotten(connection, now, key, connection.execute(_DELETE, row))


def forget(connection: sqlite3.Connection, now: float, key: str) -> bool:
    """Remove it if it has expired: once seen so it is gone, and a clock that jumps back revives nothing (X5)."""
    return bool(connection.execute(_FORGET, {"key": _kept(key), "now": now}).rowcount)


def _done_or_forgotten(connection: sqlite3.Connection, now: float, key: str, done: sqlite3.Cursor) -> bool:
    if done.rowcount:
        return True
    forget(connection, now, key)
    return False


def _has_version(connection: sqlite3.Connection, now: float, key: str, version: int) -> bool:
    """Whether a write that is refused has been made before: it was sent twice (S6)."""
    row = connection.execute(_VERSION, {"key": _kept(key), "now": now}).fetchone()
    return row is not None and row[0] == version


# By pages: the row to begin after; how many, what they hold, and the row to go on after; None: that was all


def clean(connection: sqlite3.Connection, latest: float) -> int:
    """How many of one page went that had expired by *latest*."""
    return connection.execute(_CLEAN, {"latest": latest}).rowcount


def keys(connection: sqlite3.Connection, now: float, last: int) -> tuple[list[str], int | None]:
    rows = connection.execute(_KEYS, {"now": now, "last": last}).fetchall()
    return [_text(key) for _, key in rows], _next(rows)


def owned(
    connection: sqlite3.Connection, now: float, owner: str, prefix: str, last: int
) -> tuple[list[tuple[str, Record]], int | None]:
    rows = connection.execute(_OWNED, _whose(now, owner, prefix, last)).fetchall()
    return [(_text(key), _record(columns)) for _, key, *columns in rows], _next(rows)


def end_owned(
    connection: sqlite3.Connection, now: float, owner: str, prefix: str, keep: str | None, last: int
) -> tuple[int, int | None]:
    kept = None if keep is None else _kept(keep)
    rows = connection.execute(_TO_END, {**_whose(now, owner, prefix, last), "keep": kept}).fetchall()
    connection.executemany("DELETE FROM sessions WHERE id = ?", [(row,) for row, _ in rows])
    return sum(is_live for _, is_live in rows), _next(rows)


def _whose(now: float, owner: str, prefix: str, last: int) -> dict[str, object]:
    start = encoded(prefix)
    return {"now": now, "owner": _kept(owner), "prefix": start, "size": len(start), "last": last}


def _next(rows: list[Any]) -> int | None:  # Any: whose first columns are their numbers
    return rows[-1][0] if len(rows) == PAGE else None


# One row


def _row(key: str, record: Record) -> dict[str, object]:
    return {
        "key": _kept(key),
        "value": _as_text(record.value),
        "meta": record.meta,
        "owner": None if record.owner is None else _kept(record.owner),
        "created_at": record.created_at,
        "seen_at": record.seen_at,
        "expires_at": record.expires_at,
        "version": record.version,
    }


def _record(row: Iterable[Any]) -> Record:  # Any: what the columns hold
    value, meta, owner, created_at, seen_at, expires_at, version = row
    return Record(value, meta, None if owner is None else _text(owner), created_at, seen_at, expires_at, version)


def _kept(text: str) -> str | bytes:
    """A key or an owner as SQLite keeps it."""
    return text if "\0" not in text and text.isascii() else _as_text(encoded(text))


def _as_text(data: bytes) -> str | bytes:
    if b"\0" in data:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _text(data: bytes) -> str:
    return decoded(data)
