"""How one record lies in a file.

    offset  0  "aiosess" and the format's version
            8  checksum of all that follows: what a power failure left, or `touch` did half, is recognised
           12  size of the key
           16  the packed record, then the key

Its times lie in the first HEAD_SIZE bytes, so that `clean` reads no more than those, and `touch` writes no others.
"""

import struct
from typing import NamedTuple
from zlib import crc32

from aiosessions.storers import packed
from aiosessions.storers.storer import Record
from aiosessions.storers.text import decoded, encoded

__all__ = ["HEAD_SIZE", "Stored", "had_expired", "pack", "parse"]

_KIND = b"aiosess"
_MAGIC = _KIND + bytes([packed.FORMAT])
_SUM = struct.Struct(">I")
_SIZE = struct.Struct(">I")
_SUM_END = len(_MAGIC) + _SUM.size
_FRONT = _SUM_END + _SIZE.size

HEAD_SIZE = _FRONT + packed.HEAD_SIZE


class Stored(NamedTuple):
    """What a file says."""

    key: str
    record: Record


def pack(key: str, record: Record) -> bytes:
    """The whole file."""
    raw_key = encoded(key)
    summed = b"".join((_SIZE.pack(len(raw_key)), packed.pack(record), raw_key))
    return b"".join((_MAGIC, _SUM.pack(crc32(summed)), summed))


def parse(data: bytes) -> Stored | None:
    """What the file says, or None if it is damaged or of a later format."""
    if len(data) < HEAD_SIZE or not data.startswith(_MAGIC):
        return None

    (said,) = _SUM.unpack_from(data, len(_MAGIC))
    (key_size,) = _SIZE.unpack_from(data, _SUM_END)
    key_start = len(data) - key_size
    if crc32(memoryview(data)[_SUM_END:]) != said or key_start < HEAD_SIZE:
        return None

    record = packed.unpack(data[_FRONT:key_start])
    try:
        return None if record is None else Stored(decoded(data[key_start:]), record)
    except UnicodeDecodeError:
        return None


def had_expired(data: bytes, moment: float) -> bool:
    """Whether what begins with *data* had expired by then. A damaged file had, one of a later format had not."""
    if data.startswith(_MAGIC) and len(data) >= HEAD_SIZE:
        return packed.expiry(data[_FRONT:]) <= moment
    return not data.startswith(_KIND) or data[: len(_MAGIC)] <= _MAGIC
