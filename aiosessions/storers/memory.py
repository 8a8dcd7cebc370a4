"""Sessions in this process's memory: for one process, for tests, and for what may be lost at a restart."""

import math
import struct
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

import anyio.lowlevel

from aiosessions._errors import ConfigError
from aiosessions.storers.storer import Record

__all__ = ["MemoryStorer"]

# Version, created_at, seen_at, expires_at (infinite: never), size of meta, size of owner (-1: none).
# Owner, meta and value follow.
_HEAD = struct.Struct("<QdddIi")
_pack, _unpack = _HEAD.pack, _HEAD.unpack_from
_SIZE = _HEAD.size

_SHELF = 60.0  # seconds of expiry that share a shelf
_GRACE = 60.0  # `clean` leaves what expired less than so many seconds ago (S10)
_SWEEP = 4  # what expired leaves four times as fast as new records come
_BATCH = 200  # between two turns of the event loop


class MemoryStorer:
    """Keeps records in a dict. Nothing here awaits, so that no lock is needed; runs on asyncio and trio.

    A record is one `bytes` object: small, isolated from whoever wrote or read it, and nothing for the garbage collector
    to walk. Beside the dict there are shelves of keys that expire in the same minute, so that removing what expired
    costs what expired; what expired also leaves as new records come, with or without a Cleaner.

    Args:
        max_sessions: how many to keep at most; None: no bound, and the storer is `durable` (for as long as the process
            lives). Anonymous records are evicted first, those that were written or touched longest ago before others;
            a record with an owner never makes room for one without: a new anonymous record is then evicted at once.
        clock: gives the time in unix seconds.

    Raises:
        ConfigError: *max_sessions* is not a positive integer.
    """

    stores_json = False

    def __init__(self, *, max_sessions: int | None = None, clock: Callable[[], float] = time.time) -> None:
        if max_sessions is not None and (type(max_sessions) is not int or max_sessions < 1):
            raise ConfigError(f"max_sessions={max_sessions!r}: give a positive integer, or None for no bound")

        self._max_sessions = max_sessions
        self._clock = clock
        self._records: dict[str, bytes] = {}
        self._shelves: dict[int, dict[str, None]] = {}  # dicts of str and None: the collector does not track them
        self._first_shelf = 0
        self._owners: dict[str, str | dict[str, None]] = {}  # one key, which is the rule, or several
        self._anonymous_queue = OrderedDict[str, None]()  # both are used only if the memory is bounded
        self._owned_queue = OrderedDict[str, None]()

    def __repr__(self) -> str:
        return f"<MemoryStorer of {len(self._records)} records>"

    @property
    def durable(self) -> bool:
        """Whether a record that was confirmed stays until it expires: yes, unless the memory is bounded."""
        return self._max_sessions is None

    async def read(self, key: str) -> Record | None:
        data = self._records.get(key)
        if data is None:
            return None

        version, created_at, seen_at, expires_at, meta_size, owner_size = _unpack(data)
        if expires_at <= self._clock():
            self._remove(key, data)
            return None

        return _record(data, version, created_at, seen_at, expires_at, meta_size, owner_size)

    async def create(self, key: str, record: Record) -> bool:
        data = self._live(key)
        if data is not None:
            return _version(data) == record.version

        self._sweep()
        self._put(key, record)
        if self._max_sessions is not None and len(self._records) > self._max_sessions:
            self._evict()
        return True

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        data = self._live(key)
        if data is None:
            return False

        found = _version(data)
        if found == record.version:
            return True
        if found != version:
            return False

        self._unfile(key, data)
        self._put(key, record)
        return True

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        data = self._live(key)
        if data is None:
            return False

        version, created_at, old_seen_at, old_expires_at, meta_size, owner_size = _unpack(data)
        new_expires_at = max(old_expires_at, math.inf if expires_at is None else expires_at)
        head = _pack(version, created_at, max(old_seen_at, seen_at), new_expires_at, meta_size, owner_size)
        self._records[key] = head + data[_SIZE:]
        self._unshelve(key, old_expires_at)
        self._shelve(key, new_expires_at)
        if self._max_sessions is not None:
            self._queue(owned=owner_size >= 0).move_to_end(key)
        return True

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        data = self._live(key)
        if data is None or (version is not None and _version(data) != version):
            return False

        self._remove(key, data)
        return True

    async def clean(self) -> int:
        latest = self._clock() - _GRACE
        removed = looked_at = 0
        for number in sorted(number for number in self._shelves if number * _SHELF <= latest):
            for key in tuple(self._shelves.get(number, ())):
                looked_at += 1
                if looked_at % _BATCH == 0:
                    await anyio.lowlevel.checkpoint()
                data = self._records.get(key)
                if data is not None and _expires_at(data) <= latest:
                    self._remove(key, data)
                    removed += 1
        return removed

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        return [(key, _record(data, *_unpack(data))) for key, data in self._owned(owner, prefix)]

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        ended = [(key, data) for key, data in self._owned(owner, prefix) if key != keep]
        for key, data in ended:
            self._remove(key, data)
        return len(ended)

    async def keys(self) -> AsyncIterator[str]:
        for number, key in enumerate(tuple(self._records), 1):
            if self._live(key) is not None:
                yield key
            if number % _BATCH == 0:
                await anyio.lowlevel.checkpoint()

    # One record

    def _live(self, key: str) -> bytes | None:
        data = self._records.get(key)
        if data is None or _expires_at(data) > self._clock():
            return data

        # Once seen expired it is gone: a clock that jumps back revives nothing.
        self._remove(key, data)
        return None

    def _put(self, key: str, record: Record) -> None:
        owner = b"" if record.owner is None else record.owner.encode("utf-8", "surrogatepass")
        owner_size = -1 if record.owner is None else len(owner)
        expires_at = math.inf if record.expires_at is None else record.expires_at
        head = _pack(record.version, record.created_at, record.seen_at, expires_at, len(record.meta), owner_size)
        self._records[key] = b"".join((head, owner, record.meta, record.value))
        self._shelve(key, expires_at)
        if record.owner is not None:
            self._index(record.owner, key)
        if self._max_sessions is not None:
            self._queue(owned=record.owner is not None)[key] = None

    def _remove(self, key: str, data: bytes) -> None:
        del self._records[key]
        self._unfile(key, data)

    def _unfile(self, key: str, data: bytes) -> None:
        _, _, _, expires_at, _, owner_size = _unpack(data)
        self._unshelve(key, expires_at)
        if owner_size >= 0:
            self._unindex(data[_SIZE : _SIZE + owner_size].decode("utf-8", "surrogatepass"), key)
        if self._max_sessions is not None:
            del self._queue(owned=owner_size >= 0)[key]

    # What expires when

    def _shelve(self, key: str, expires_at: float) -> None:
        if expires_at == math.inf:
            return

        number = int(expires_at // _SHELF)
        shelf = self._shelves.get(number)
        if shelf is None:
            shelf = self._shelves[number] = {}
            self._first_shelf = min(self._first_shelf, number)
        shelf[key] = None

    def _unshelve(self, key: str, expires_at: float) -> None:
        if expires_at == math.inf:
            return

        number = int(expires_at // _SHELF)
        shelf = self._shelves[number]
        del shelf[key]
        if not shelf:
            del self._shelves[number]

    def _sweep(self) -> None:
        due = int(self._clock() // _SHELF)  # all on earlier shelves has expired
        for _ in range(_SWEEP):
            if self._first_shelf >= due:
                return
            shelf = self._shelves.get(self._first_shelf)
            if shelf is None:  # at most once per shelf: the next that is there
                self._first_shelf = min(self._shelves, default=due)
                continue
            key = next(reversed(shelf))
            self._remove(key, self._records[key])

    # Whose it is

    def _index(self, owner: str, key: str) -> None:
        keys = self._owners.get(owner)
        if keys is None:
            self._owners[owner] = key
        elif isinstance(keys, dict):
            keys[key] = None
        else:
            self._owners[owner] = {keys: None, key: None}

    def _unindex(self, owner: str, key: str) -> None:
        keys = self._owners[owner]
        if isinstance(keys, dict):
            del keys[key]
        if keys == key or not keys:
            del self._owners[owner]

    def _owned(self, owner: str, prefix: str) -> list[tuple[str, bytes]]:
        keys = self._owners.get(owner, {})
        found = ((key, self._live(key)) for key in (tuple(keys) if isinstance(keys, dict) else (keys,)))
        return [(key, data) for key, data in found if data is not None and key.startswith(prefix)]

    # Who must make room

    def _queue(self, *, owned: bool) -> OrderedDict[str, None]:
        return self._owned_queue if owned else self._anonymous_queue

    def _evict(self) -> None:
        key = next(iter(self._anonymous_queue or self._owned_queue))
        self._remove(key, self._records[key])


def _version(data: bytes) -> int:
    version: int = _unpack(data)[0]
    return version


def _expires_at(data: bytes) -> float:
    expires_at: float = _unpack(data)[3]
    return expires_at


def _record(
    data: bytes,
    version: int,
    created_at: float,
    seen_at: float,
    expires_at: float,
    meta_size: int,
    owner_size: int,
) -> Record:
    owner = None
    start = _SIZE
    if owner_size >= 0:
        start += owner_size
        owner = data[_SIZE:start].decode("utf-8", "surrogatepass")
    value_start = start + meta_size
    return Record(
        data[value_start:],
        data[start:value_start],
        owner,
        created_at,
        seen_at,
        None if expires_at == math.inf else expires_at,
        version,
    )
