"""How one record lies in a file.

A head of fixed size, then the body: key, owner, meta and value. Both have a checksum, so that what a power failure left
is recognised. The two times that `touch` moves lie at the end of the head, next to its checksum: one write in place.
"""

import math
import struct
from typing import NamedTuple
from zlib import crc32

from aiosessions.storers.storer import Record

__all__ = ["HEAD_SIZE", "TIMES_OFFSET", "Stored", "had_expired", "pack", "pack_times", "parse"]

_KIND = b"aiosess"
_MAGIC = _KIND + b"\x01"  # the last byte is the format's version
_HEAD = struct.Struct("<8sIIQddd")  # magic, size and checksum of the body, version, created_at, seen_at, expires_at
_TIMES = struct.Struct("<dd")
_SUM = struct.Struct("<I")
_BODY = struct.Struct("<IiI")  # sizes of key, owner (-1: none) and meta; the value is the rest

HEAD_SIZE = _HEAD.size + _SUM.size
TIMES_OFFSET = _HEAD.size - _TIMES.size


class Stored(NamedTuple):
    """What a file says."""

    key: str
    record: Record

    def is_live(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.record.expires_at is None or self.record.expires_at > now


def pack(key: str, record: Record) -> bytes:
    """The whole file."""
    raw_key = _encode(key)
    raw_owner = b"" if record.owner is None else _encode(record.owner)
    owner_size = -1 if record.owner is None else len(raw_owner)
    sizes = _BODY.pack(len(raw_key), owner_size, len(record.meta))
    body = b"".join((sizes, raw_key, raw_owner, record.meta, record.value))
    expires_at = math.inf if record.expires_at is None else record.expires_at
    return _sealed(
        _HEAD.pack(_MAGIC, len(body), crc32(body), record.version, record.created_at, record.seen_at, expires_at), body
    )


def pack_times(data: bytes, *, seen_at: float, expires_at: float | None) -> bytes:
    """What to write at TIMES_OFFSET of the file that holds *data*, so that both times are later, never earlier."""
    *fixed, old_seen_at, old_expires_at = _HEAD.unpack_from(data)
    latest = max(old_expires_at, math.inf if expires_at is None else expires_at)
    return _sealed(_HEAD.pack(*fixed, max(old_seen_at, seen_at), latest))[TIMES_OFFSET:]


def parse(data: bytes) -> Stored | None:
    """What the file says, or None if it is damaged or of a later format."""
    if not _has_head(data):
        return None

    _, body_size, body_sum, version, created_at, seen_at, expires_at = _HEAD.unpack_from(data)
    body = data[HEAD_SIZE:]
    if len(body) != body_size or crc32(body) != body_sum:
        return None

    key_size, owner_size, meta_size = _BODY.unpack_from(body)
    owner_start = _BODY.size + key_size
    meta_start = owner_start + max(owner_size, 0)
    value_start = meta_start + meta_size
    record = Record(
        value=body[value_start:],
        meta=body[meta_start:value_start],
        owner=None if owner_size < 0 else _decode(body[owner_start:meta_start]),
        created_at=created_at,
        seen_at=seen_at,
        expires_at=None if expires_at == math.inf else expires_at,
        version=version,
    )
    return Stored(_decode(body[_BODY.size : owner_start]), record)


def had_expired(data: bytes, moment: float) -> bool:
    """Whether what begins with *data* had expired by then. A damaged file had, one of a later format had not."""
    if _has_head(data):
        expires_at: float = _HEAD.unpack_from(data)[-1]
        return expires_at <= moment
    return not data.startswith(_KIND) or data[: len(_MAGIC)] <= _MAGIC


def _has_head(data: bytes) -> bool:
    if len(data) < HEAD_SIZE or not data.startswith(_MAGIC):
        return False
    (head_sum,) = _SUM.unpack_from(data, _HEAD.size)
    return bool(crc32(data[: _HEAD.size]) == head_sum)


def _sealed(head: bytes, body: bytes = b"") -> bytes:
    return b"".join((head, _SUM.pack(crc32(head)), body))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")
