"""A key and a record as the table has them, and back."""

import re
from collections.abc import Iterable
from typing import Any

from aiosessions.storers._jsonb import survives_jsonb
from aiosessions.storers.storer import Record
from aiosessions.storers.text import digest

__all__ = ["escaped", "record_of", "row_of", "unescaped"]

_ESCAPED = re.compile(r"\\(\\|0|u[0-9a-f]{4})")
_ESCAPES = {"\\": "\\", "0": "\0"}


def row_of(key: str, record: Record, *, is_jsonb: bool) -> tuple[object, ...]:
    """The arguments of a write."""
    text = survives_jsonb(record.value) if is_jsonb else None
    raw = record.value if text is None else None
    lives = None if record.expires_at is None else record.expires_at - record.seen_at
    times = record.created_at, record.seen_at, record.expires_at
    return digest(key), escaped(key), text, raw, record.meta, record.owner, *times, record.version, lives


def record_of(fields: Iterable[Any]) -> Record:  # Any: a row as asyncpg gives it
    """The record in a row that was asked for, without its key."""
    text, raw, meta, owner, created_at, seen_at, expires_at, version = fields
    return Record(raw if text is None else text.encode(), meta, owner, created_at, seen_at, expires_at, version)


def escaped(key: str) -> str:
    """What PostgreSQL can store as text; a prefix of a key stays a prefix."""
    return key.replace("\\", r"\\").replace("\0", r"\0").encode("utf-8", "backslashreplace").decode()


def unescaped(text: str) -> str:
    """The key that `escaped` was given."""
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1]) or chr(int(found[1][1:], 16)), text)
