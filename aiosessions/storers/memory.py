"""Sessions in this process's memory: for one process, for tests, and for what may be lost at a restart."""

import logging
import math
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache
from threading import Lock

import anyio.lowlevel

from aiosessions._errors import ConfigError
from aiosessions.storers.packed import expiry, pack, unpack
from aiosessions.storers.storer import Record

__all__ = ["MemoryStorer"]

_SHELF = 60.0  # seconds of expiry that share a shelf
_GRACE = 60.0  # `clean` leaves what expired less than so many seconds ago (S10)
_SWEEP = 4  # what expired leaves four times as fast as new records come
_BATCH = 200  # between two turns of the event loop


class MemoryStorer:
    """Keeps records in a dict; runs on asyncio and trio, also in several threads at once.

    Nothing here awaits, and a lock keeps threads apart that write: a tenth of a microsecond. A read takes none.

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
        self._lock = Lock()
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

    async def open(self) -> None:
        _warn_of_workers()

    async def aclose(self) -> None: ...

    async def read(self, key: str) -> Record | None:
        data = self._records.get(key)
        record = None if data is None else unpack(data)
        if record is None or record.expires_at is None or self._clock() < record.expires_at:
            return record

        with self._lock:
            return self._live(key)

    async def read_together(self, keys: Sequence[str]) -> list[Record | None]:
        return [await self.read(key) for key in keys]

    async def create(self, key: str, record: Record) -> bool:
        with self._lock:
            stored = self._live(key)
            if stored is not None:
                return stored.version == record.version

            self._sweep()
            self._put(key, record)
            if self._max_sessions is not None and len(self._records) > self._max_sessions:
                self._evict()
            return True

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        with self._lock:
            stored = self._live(key)
            if stored is None:
                return False
            if stored.version == record.version:
                return True
            if stored.version != version:
                return False

            if stored.owner == record.owner and self._max_sessions is None:
                self._records[key] = pack(record)
                self._move(key, stored.expires_at, record.expires_at)
            else:
                self._unfile(key, stored)
                self._put(key, record)
            return True

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        with self._lock:
            stored = self._live(key)
            if stored is None:
                return False

            touched = stored.touched(seen_at, expires_at)
            self._records[key] = pack(touched)
            self._move(key, stored.expires_at, touched.expires_at)
            if self._max_sessions is not None:
                self._queue(touched).move_to_end(key)
            return True

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        with self._lock:
            stored = self._live(key)
            if stored is None or (version is not None and stored.version != version):
                return False

            self._remove(key, stored)
            return True

    async def clean(self) -> int:
        latest = self._clock() - _GRACE
        removed = looked_at = 0
        for number in sorted(number for number in tuple(self._shelves) if number * _SHELF <= latest):
            for key in tuple(self._shelves.get(number, ())):
                looked_at += 1
                if looked_at % _BATCH == 0:
                    await anyio.lowlevel.checkpoint()
                with self._lock:
                    if key in self._records and expiry(self._records[key]) <= latest:
                        self._drop(key)
                        removed += 1
        return removed

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        with self._lock:
            return self._owned(owner, prefix)

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        with self._lock:
            ended = [(key, record) for key, record in self._owned(owner, prefix) if key != keep]
            for key, record in ended:
                self._remove(key, record)
            return len(ended)

    async def keys(self) -> AsyncIterator[str]:
        for number, key in enumerate(tuple(self._records), 1):
            with self._lock:
                is_live = self._live(key) is not None
            if is_live:
                yield key
            if number % _BATCH == 0:
                await anyio.lowlevel.checkpoint()

    # One record. All from here on needs the lock

    def _live(self, key: str) -> Record | None:
        data = self._records.get(key)
        record = None if data is None else unpack(data)
        if record is None or record.expires_at is None or self._clock() < record.expires_at:
            return record

        # Once seen expired it is gone: a clock that jumps back revives nothing.
        self._remove(key, record)
        return None

    def _put(self, key: str, record: Record) -> None:
        self._records[key] = pack(record)
        self._shelve(key, record.expires_at)
        if record.owner is not None:
            self._index(record.owner, key)
        if self._max_sessions is not None:
            self._queue(record)[key] = None

    def _remove(self, key: str, record: Record) -> None:
        del self._records[key]
        self._unfile(key, record)

    def _drop(self, key: str) -> None:
        record = unpack(self._records[key])
        if record is not None:
            self._remove(key, record)

    def _unfile(self, key: str, record: Record) -> None:
        self._unshelve(key, record.expires_at)
        if record.owner is not None:
            self._unindex(record.owner, key)
        if self._max_sessions is not None:
            del self._queue(record)[key]

    # What expires when

    def _shelve(self, key: str, expires_at: float | None) -> None:
        if expires_at is None or expires_at == math.inf:
            return

        number = int(expires_at // _SHELF)
        shelf = self._shelves.get(number)
        if shelf is None:
            shelf = self._shelves[number] = {}
            self._first_shelf = min(self._first_shelf, number)
        shelf[key] = None

    def _move(self, key: str, before: float | None, now: float | None) -> None:
        if before is not None and now is not None and before // _SHELF == now // _SHELF:
            return

        self._unshelve(key, before)
        self._shelve(key, now)

    def _unshelve(self, key: str, expires_at: float | None) -> None:
        if expires_at is None or expires_at == math.inf:
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
            self._drop(key)

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

    def _owned(self, owner: str, prefix: str) -> list[tuple[str, Record]]:
        keys = self._owners.get(owner, {})
        found = ((key, self._live(key)) for key in (tuple(keys) if isinstance(keys, dict) else (keys,)))
        return [(key, record) for key, record in found if record is not None and key.startswith(prefix)]

    # Who must make room

    def _queue(self, record: Record) -> OrderedDict[str, None]:
        return self._anonymous_queue if record.owner is None else self._owned_queue

    def _evict(self) -> None:
        self._drop(next(iter(self._anonymous_queue or self._owned_queue)))


@cache  # said once
def _warn_of_workers() -> None:
    """Say what becomes of sessions where the environment tells of several processes."""
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if (workers.isdecimal() and int(workers) > 1) or "gunicorn" in os.environ.get("SERVER_SOFTWARE", ""):
        logging.getLogger("aiosessions").warning(
            "MemoryStorer keeps sessions in one process, and WEB_CONCURRENCY or gunicorn says that there are several: "
            "a visitor whom another worker answers is logged out there: use SQLiteStorer, RedisStorer or PostgresStorer"
        )
