"""What memcached has under a key: head, owner, meta, value, in one piece."""

import math
import struct

from aiosessions._errors import SessionTooLargeError
from aiosessions.storers.storer import Record

__all__ = ["StoredItem", "encode"]

# Format, version, created_at, seen_at, expires_at (infinity: never), size of meta, size of owner (-1: none).
_HEAD = struct.Struct("<BQdddIi")
_FORMAT = 1

# memcached's default limit for an item (1 MiB), less its own header, the key and what chunking a large item costs.
_LIMIT = 1024 * 1024 - 2048


def encode(key: str, record: Record) -> bytes:
    """The record as one item.

    Raises:
        SessionTooLargeError: memcached would not take it.
    """
    owner = b"" if record.owner is None else record.owner.encode("utf-8", "surrogatepass")
    expires_at = math.inf if record.expires_at is None else record.expires_at
    times = record.created_at, record.seen_at, expires_at
    sizes = len(record.meta), -1 if record.owner is None else len(owner)
    data = _HEAD.pack(_FORMAT, record.version, *times, *sizes) + owner + record.meta + record.value
    if len(data) > _LIMIT:
        raise SessionTooLargeError(key, size=len(data), limit=_LIMIT)
    return data


class StoredItem:
    """An item, its head read. What is no record of ours counts as expired.

    Args:
        data: what is stored.
        cas: the number that the server gave it.
    """

    __slots__ = ("_data", "_head", "cas", "expires_at", "version")

    def __init__(self, data: bytes, cas: int) -> None:
        self._data = data
        self.cas = cas
        ours = len(data) >= _HEAD.size and data[0] == _FORMAT
        self._head = _HEAD.unpack_from(data) if ours else (0, -1, 0.0, 0.0, -math.inf, 0, 0)
        self.version: int = self._head[1]
        self.expires_at: float = self._head[4]

    def record(self) -> Record:
        """All of it."""
        _, version, created_at, seen_at, expires_at, meta_size, owner_size = self._head
        meta_start = _HEAD.size + max(0, owner_size)
        value_start = meta_start + meta_size
        owner = None if owner_size < 0 else self._data[_HEAD.size : meta_start].decode("utf-8", "surrogatepass")
        return Record(
            self._data[value_start:],
            self._data[meta_start:value_start],
            owner,
            created_at,
            seen_at,
            None if expires_at == math.inf else expires_at,
            version,
        )

    def touched(self, seen_at: float, expires_at: float) -> bytes:
        """The same with a head that says when it was seen, never earlier than it does, and when it expires."""
        _, version, created_at, seen_before, _, meta_size, owner_size = self._head
        times = created_at, max(seen_at, seen_before), expires_at
        return _HEAD.pack(_FORMAT, version, *times, meta_size, owner_size) + self._data[_HEAD.size :]
