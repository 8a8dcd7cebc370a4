"""Many sessions in this process's memory: what each takes, and what a sweep costs."""

import asyncio
import gc
import tracemalloc
from itertools import count
from time import perf_counter

import msgspec

from aiosessions import MemoryStorer, Record, StorageOverseer
from aiosessions.testing import Clock
from tests.benchmarks.measure import Effort
from tests.benchmarks.pages import Shop, ours, sign_in
from tests.benchmarks.table import Goal, Table

__all__ = ["kept", "sweep"]

_MEASURED = 10_000  # sessions: the goal's; the dicts' spare room differs from number to number
_DAY = 86_400
_GRACE = 60  # seconds: a sweep leaves what has only just expired


async def kept(effort: Effort) -> list[Table]:
    """The keys of the sessions and their shares of the dicts included."""
    key, record = await _stored()
    rows: dict[str, dict[str, float]] = {}
    for sessions in sorted({_MEASURED, *effort.sessions}):
        storer = MemoryStorer()
        gc.collect()
        tracemalloc.start()
        await _fill(storer, key, record, sessions)
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        rows[f"{sessions:,} sessions"] = {"bytes each": taken / sessions, "MB": taken / 1e6}
    reached = rows[f"{_MEASURED:,} sessions"]["bytes each"]
    goal = Goal("memory, one session of eight keys", 450, reached, unit="bytes")
    return [Table("Kept in memory", ("bytes each", "MB"), rows, [goal])]


async def sweep(effort: Effort) -> list[Table]:
    """It costs what expired, not what is stored. A pause is how long it kept the event loop from others."""
    sessions, clock = effort.sessions[-1], Clock(0)
    key, record = await _stored()
    storer = MemoryStorer(clock=clock)
    # one after another, throughout the second day
    await _fill(storer, key, msgspec.structs.replace(record, expires_at=float(_DAY)), sessions, spread=_DAY)

    rows: dict[str, dict[str, float]] = {}
    for expired, moment in (("none", _DAY), ("1 %", _DAY * 1.01 + _GRACE), ("all", _DAY * 3)):
        clock.set(moment)
        pauses = asyncio.create_task(_longest_pause())
        await asyncio.sleep(0)
        start = perf_counter()
        removed = await storer.clean()
        took = perf_counter() - start
        pauses.cancel()
        rows[f"{expired} of {sessions:,} expired"] = {
            "removed": removed,
            "ms": took * 1e3,
            "longest pause, ms": await pauses * 1e3,
        }
    return [Table("A sweep of the memory", ("removed", "ms", "longest pause, ms"), rows)]


async def _stored() -> tuple[str, Record]:
    """A session as an overseer stores it."""
    storer = MemoryStorer()
    async with StorageOverseer(Shop, storer) as store:
        await sign_in(ours("", store).app)
        key = await anext(storer.keys())
        record = await storer.read(key)
    assert record is not None
    return key, record


async def _fill(storer: MemoryStorer, key: str, record: Record, sessions: int, *, spread: int = 0) -> None:
    """Others like it; with *spread* they expire over so many seconds."""
    start, expires_at = key[:-24], record.expires_at
    assert expires_at is not None
    for number in range(sessions):
        if spread:
            record = msgspec.structs.replace(record, expires_at=expires_at + number * spread / sessions)
        await storer.create(f"{start}{number:024}", record)


async def _longest_pause() -> float:
    """Until it is cancelled: the most seconds between two turns of the loop."""
    longest, last = 0.0, perf_counter()
    try:
        for _ in count():
            await asyncio.sleep(0)
            longest, last = max(longest, perf_counter() - last), perf_counter()
    except asyncio.CancelledError:
        pass
    return max(longest, perf_counter() - last)
