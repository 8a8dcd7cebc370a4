"""Parts with a backend: real servers on this machine, and a folder."""

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from time import time
from typing import Any

import asyncpg
import msgspec
from redis.asyncio import Redis

from aiosessions import StorageOverseer, Storer
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.storer import Record
from tests.benchmarks import peers
from tests.benchmarks.floor import Server, floor
from tests.benchmarks.measure import ACTIONS, Visit, added, seconds_each
from tests.benchmarks.pages import Shop, asgi_subject, ours
from tests.benchmarks.table import Goal, Table
from tests.servers import valkey
from tests.servers_sql import postgres

__all__ = ["disk", "postgresql", "redis"]

_IN_FLIGHT = 50
_ROUNDS = 5
_FLOOR = "floor: redis-py GET/SET"
_OURS = "aiosessions RedisStorer"


async def redis() -> list[Table]:
    """Valkey: 50 requests in flight, each of a client of its own, then one at a time."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(valkey())
        clients = [await stack.enter_async_context(Redis(host=server.host, port=server.port)) for _ in range(5)]
        store = await stack.enter_async_context(StorageOverseer(Shop, RedisStorer(clients[1])))
        subjects = [
            await asgi_subject(_FLOOR, floor(Server(clients[0])), clients=_IN_FLIGHT),
            await asgi_subject(_OURS, ours(store), clients=_IN_FLIGHT),
            await peers.aiohttp_redis(clients[2], clients=_IN_FLIGHT),
            await peers.starsessions_redis(clients[3], clients=_IN_FLIGHT),
        ]
        many = await added(subjects, in_flight=_IN_FLIGHT, visits=50 * _IN_FLIGHT, rounds=_ROUNDS, waits=True)
        one = await added(subjects[:2], visits=500, rounds=_ROUNDS, waits=True)
        await clients[4].set("key", bytes(300))
        get = await _best({"redis-py GET by itself": lambda _: clients[4].get("key")}, in_flight=1, visits=500)

    peer = many["aiohttp-session Redis"]
    goals = [
        Goal(f"Valkey, 50 in flight, {action}", "at most", limit, many[_OURS][action] / peer[action], "aiohttp-session")
        for action, limit in (("read", 0.2), ("write", 0.28))
    ]
    bare = get["redis-py GET by itself"]["µs"]
    goals_one = [Goal("Valkey, one at a time, read", "at most", 1.15, one[_OURS]["read"] / bare, "a bare GET")]
    return [
        Table("Valkey, 50 in flight: µs added per request", ACTIONS, many, goals),
        Table("Valkey, one at a time: µs added per request", ACTIONS, one, goals_one),
        Table("", ("µs",), get),
    ]


async def postgresql() -> list[Table]:
    """PostgreSQL, 50 reads in flight over a pool of ten connections."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres())
        pool = asyncpg.create_pool(server.url)
        await pool
        stack.push_async_callback(pool.close)
        storer = PostgresStorer(pool)
        await storer.open()
        keys = await _filled(storer)
        query = "SELECT * FROM sessions WHERE key = $1"
        floor_pool: Any = pool  # Any: our stub of asyncpg has what the package uses
        floor_name, name = "floor: pool.fetchrow", "aiosessions PostgresStorer.read"
        rows = await _best(
            {
                floor_name: lambda number: floor_pool.fetchrow(query, keys[number]),
                name: lambda number: storer.read(keys[number]),
            },
            in_flight=_IN_FLIGHT,
            visits=50 * _IN_FLIGHT,
        )
        await storer.aclose()

    faster = rows[floor_name]["µs"] / rows[name]["µs"]
    goal = Goal("PostgreSQL, 50 in flight, read", "at least", 2.5, faster, "the throughput of pool.fetchrow")
    return [Table("PostgreSQL, 50 in flight: µs per read", ("µs",), rows, [goal])]


async def disk() -> list[Table]:
    """A folder, 50 reads in flight, against the same files read by aiofiles."""
    with tempfile.TemporaryDirectory() as folder:
        storer = DiskStorer(Path(folder) / "sessions")
        await storer.open()
        keys = await _filled(storer)
        files = await asyncio.to_thread(_copies, Path(folder))

        open_file: Any = import_module("aiofiles").open  # Any: our stub of aiofiles has what the package uses

        async def read(number: int) -> None:
            async with open_file(files[number], "rb") as file:
                await file.read()

        floor_name, name = "floor: aiofiles open/read/close", "aiosessions DiskStorer.read"
        rows = await _best(
            {floor_name: read, name: lambda number: storer.read(keys[number])},
            in_flight=_IN_FLIGHT,
            visits=50 * _IN_FLIGHT,
        )
        await storer.aclose()

    faster = rows[floor_name]["µs"] / rows[name]["µs"]
    goal = Goal("disk, 50 in flight, read", "at least", 4, faster, "the throughput of aiofiles")
    return [Table("Disk, 50 in flight: µs per read", ("µs",), rows, [goal])]


async def _best(visits_of: dict[str, Visit], *, in_flight: int, visits: int) -> dict[str, dict[str, float]]:
    best: dict[str, float] = {}
    for _ in range(_ROUNDS):
        for name, visit in visits_of.items():
            took = await seconds_each(visit, in_flight=in_flight, visits=visits)
            best[name] = min(took, best.get(name, took))
    return {name: {"µs": took * 1e6} for name, took in best.items()}


async def _filled(storer: Storer) -> Sequence[str]:
    """Keys of sessions as an overseer would store them."""
    keys = [f":app:{number:022}" for number in range(_IN_FLIGHT)]
    value, now = msgspec.json.encode(Shop()), time()
    for number, key in enumerate(keys):
        record = Record(value, bytes(range(100)), None, now, now, now + 86_400, number + 1)
        assert await storer.create(key, record)
    return keys


def _copies(folder: Path) -> list[Path]:
    """The storer's own files, by other names."""
    found = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size > 200]
    copies = [folder / f"copy{number}" for number in range(_IN_FLIGHT)]
    for number, copy in enumerate(copies):
        copy.write_bytes(found[number % len(found)])
    return copies
