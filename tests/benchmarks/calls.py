"""A storer's calls, as more of them are in flight: real servers on this machine, a folder, a file."""

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib import import_module
from itertools import islice
from pathlib import Path
from time import time
from typing import Any

import asyncpg
import msgspec
from redis.asyncio import Redis

from aiosessions import Storer
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.sqlite import SQLiteStorer
from aiosessions.storers.storer import Record
from tests.benchmarks.measure import Effort, Visit, fastest
from tests.benchmarks.pages import Shop
from tests.benchmarks.table import Goal, Table
from tests.servers import valkey
from tests.servers_sql import postgres

__all__ = ["disk", "growth", "postgresql", "sqlite"]

_IN_FLIGHT = (1, 10, 50, 200)
_MOST = _IN_FLIGHT[-1]
_VISITS = 1000


class _Calls:
    """Sessions in a storer, as an overseer would store them, one for each client; and calls upon them."""

    def __init__(self, storer: Storer) -> None:
        self.keys = [f":app:{number:024}" for number in range(_MOST)]
        self._storer = storer
        self._versions = [1] * _MOST
        self._value = msgspec.json.encode(Shop())

    async def fill(self) -> None:
        """Create them."""
        for key in self.keys:
            assert await self._storer.create(key, self._record(1))

    async def read(self, number: int) -> None:
        """One of them."""
        assert await self._storer.read(self.keys[number]) is not None

    async def replace(self, number: int) -> None:
        """One of them, which nobody else changes."""
        version = self._versions[number]
        assert await self._storer.replace(self.keys[number], self._record(version + 1), version=version)
        self._versions[number] = version + 1

    def _record(self, version: int) -> Record:
        now = time()
        return Record(self._value, bytes(range(100)), None, now, now, now + 86_400, version)


async def growth(effort: Effort) -> list[Table]:
    """Valkey."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(valkey())
        ours, bare = [
            await stack.enter_async_context(Redis(host=server.host, port=server.port, max_connections=2 * _MOST))
            for _ in range(2)
        ]
        calls = _Calls(RedisStorer(ours))
        await calls.fill()
        await bare.set("key", bytes(300))
        get: Any = bare.get  # Any: redis-py's commands have loose types
        rows = await _grown(
            {
                "redis-py GET": lambda _: get("key"),
                "aiosessions RedisStorer.read": calls.read,
                "aiosessions RedisStorer.replace": calls.replace,
            },
            effort,
        )
    return [_table("Valkey", rows)]


async def postgresql(effort: Effort) -> list[Table]:
    """PostgreSQL, over a pool of ten connections."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres())
        pool: Any = asyncpg.create_pool(server.url)  # Any: our stub of asyncpg has what the package uses
        await pool
        stack.push_async_callback(pool.close)
        storer = PostgresStorer(pool)
        await storer.open()
        stack.push_async_callback(storer.aclose)
        calls = _Calls(storer)
        await calls.fill()
        query, least, read = "SELECT * FROM sessions WHERE key = $1", "pool.fetchrow", "aiosessions PostgresStorer.read"
        rows = await _grown(
            {
                least: lambda number: pool.fetchrow(query, calls.keys[number]),
                read: calls.read,
                "aiosessions PostgresStorer.replace": calls.replace,
            },
            effort,
        )
    return [_table("PostgreSQL", rows, _faster("PostgreSQL", "pool.fetchrow", 4.5, rows[least], rows[read]))]


async def disk(effort: Effort) -> list[Table]:
    """A folder, against the same files read by aiofiles."""
    with tempfile.TemporaryDirectory() as folder:
        storer = DiskStorer(Path(folder) / "sessions")
        await storer.open()
        calls = _Calls(storer)
        await calls.fill()
        files = await asyncio.to_thread(_copies, Path(folder))

        open_file: Any = import_module("aiofiles").open  # Any: it ships no types

        async def read_file(number: int) -> None:
            async with open_file(files[number], "rb") as file:
                await file.read()

        least, read = "aiofiles open/read/close", "aiosessions DiskStorer.read"
        rows = await _grown(
            {least: read_file, read: calls.read, "aiosessions DiskStorer.replace": calls.replace}, effort
        )
        await storer.aclose()
    return [_table("Disk", rows, _faster("disk", "aiofiles", 8, rows[least], rows[read]))]


async def sqlite(effort: Effort) -> list[Table]:
    """A file of SQLite's."""
    with tempfile.TemporaryDirectory() as folder:
        storer = SQLiteStorer(f"{folder}/sessions.db")
        await storer.open()
        calls = _Calls(storer)
        await calls.fill()
        rows = await _grown(
            {"aiosessions SQLiteStorer.read": calls.read, "aiosessions SQLiteStorer.replace": calls.replace}, effort
        )
        await storer.aclose()
    return [_table("SQLite", rows)]


async def _grown(turns: Mapping[str, Visit], effort: Effort) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {name: {} for name in turns}
    for in_flight in _IN_FLIGHT:
        best = await fastest(turns, effort, in_flight=in_flight, visits=_VISITS, waits=True)
        for name, took in best.items():
            rows[name][f"{in_flight} in flight"] = took
    return rows


def _table(what: str, rows: dict[str, dict[str, float]], *goals: Goal) -> Table:
    return Table(f"{what}: µs per call", [f"{in_flight} in flight" for in_flight in _IN_FLIGHT], rows, goals)


def _faster(what: str, least: str, limit: float, others: Mapping[str, float], ours: Mapping[str, float]) -> Goal:
    reached = others["50 in flight"] / ours["50 in flight"]
    return Goal(f"{what}, 50 in flight, read, against {least}'s throughput", limit, reached, "at least")


def _copies(folder: Path) -> list[Path]:
    """The storer's own files, by other names."""
    records = (path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 200)
    copies = [folder / f"copy{number}" for number in range(_MOST)]
    for copy, record in zip(copies, islice(records, _MOST), strict=True):
        copy.write_bytes(record)
    return copies
