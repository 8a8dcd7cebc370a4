"""A Record as bytes: what memory, files, Redis and memcached keep of it.

    offset  0  format, 1 byte
            1  version, 8 bytes
            9  seen_at
           17  expires_at
           25  created_at
           33  size of the owner, -1: none
           37  size of meta
           41  owner, meta, value

Numbers have the most significant byte first, as Redis's Lua reads them. Times are doubles; infinite: never. What was
written once is read for ever: tests/storers/test_samples.py has one of each.
"""

import math
import struct

from aiosessions.storers.storer import Record
from aiosessions.storers.text import decoded, encoded

__all__ = ["FORMAT", "HEAD_SIZE", "expiry", "pack", "unpack"]

FORMAT = 1
_HEAD = struct.Struct(">BQdddiI")
_EXPIRY = struct.Struct(">17xd")

HEAD_SIZE = _HEAD.size


def pack(record: Record) -> bytes:
    """The whole record."""
    owner = b"" if record.owner is None else encoded(record.owner)
    head = _HEAD.pack(
        FORMAT,
        record.version,
        record.seen_at,
        math.inf if record.expires_at is None else record.expires_at,
        record.created_at,
        -1 if record.owner is None else len(owner),
        len(record.meta),
    )
    return b"".join((head, owner, record.meta, record.value))


def unpack(data: bytes) -> Record | None:
    """The record, or None if these bytes are none of this format, whatever they are."""
    if len(data) < HEAD_SIZE:
        return None

    form, version, seen_at, expires_at, created_at, owner_size, meta_size = _HEAD.unpack_from(data)
    meta_start = HEAD_SIZE if owner_size < 0 else HEAD_SIZE + owner_size
    value_start = meta_start + meta_size
    if form != FORMAT or owner_size < -1 or value_start > len(data):
        return None

    owner = None
    if owner_size >= 0:
        try:
            owner = decoded(data[HEAD_SIZE:meta_start])
        except UnicodeDecodeError:
            return None
    return Record(
        data[value_start:],
        data[meta_start:value_start],
        owner,
        created_at,
        seen_at,
        None if expires_at == math.inf else expires_at,
        version,
    )


def expiry(head: bytes) -> float:
    """When the record expires whose first HEAD_SIZE bytes these are; infinite: never."""
    (expires_at,) = _EXPIRY.unpack_from(head)
    return float(expires_at)
