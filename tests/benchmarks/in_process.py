"""Parts without a server: state with the client, state in memory, and the tail."""

import gc
import os
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import thread_time_ns

from aiosessions import CookieOverseer, MemoryStorer, StorageOverseer
from aiosessions.sealers.aesgcm import AESGCMSealer
from tests.benchmarks import peers
from tests.benchmarks.floor import Memory, Sealed, floor
from tests.benchmarks.measure import ACTIONS, Subject, Visit, added
from tests.benchmarks.pages import Shop, asgi_subject, ours, sign_in
from tests.benchmarks.table import Goal, Table

__all__ = ["cookie", "memory", "tail"]

_VISITS = 2000
_ROUNDS = 9
_FLOOR_COOKIE = "floor: AES-GCM + msgspec"
_FLOOR_MEMORY = "floor: dict in memory"
_OUR_COOKIE = "aiosessions CookieOverseer(AESGCMSealer)"
_OUR_MEMORY = "aiosessions MemoryStorer"


async def _our_cookie() -> Subject:
    return await asgi_subject(_OUR_COOKIE, ours(CookieOverseer(Shop, AESGCMSealer(os.urandom(32)))))


@asynccontextmanager
async def _our_memory() -> AsyncGenerator[Subject]:
    async with StorageOverseer(Shop, MemoryStorer()) as store:
        yield await asgi_subject(_OUR_MEMORY, ours(store))


async def cookie() -> list[Table]:
    """What the client holds."""
    signed = await peers.starlette_signed()
    subjects = [
        await asgi_subject(_FLOOR_COOKIE, floor(Sealed())),
        await _our_cookie(),
        signed,
        await peers.starsessions_cookie(),
        await peers.litestar_client_side(),
        await peers.aiohttp_encrypted(),
    ]
    costs = await added(subjects, visits=_VISITS, rounds=_ROUNDS, waits=False)
    ours, least, peer = costs[_OUR_COOKIE], costs[_FLOOR_COOKIE], costs[signed.name]
    goals = [Goal(f"cookie, {action}", "at most", 2.5, ours[action] / least[action], "floor") for action in ACTIONS[1:]]
    goals += [
        Goal(f"cookie, {action}", "at most", 0.6, ours[action] / peer[action], "Starlette's signed cookie")
        for action in ACTIONS[1:]
    ]
    goals.append(Goal("cookie, untouched", "at most", 2, ours["untouched"] / least["untouched"], "floor"))
    return [Table("With the client: µs added per request", ACTIONS, costs, goals)]


async def memory() -> list[Table]:
    """What this process holds."""
    async with _our_memory() as subject:
        subjects = [
            await asgi_subject(_FLOOR_MEMORY, floor(Memory())),
            subject,
            await peers.starsessions_memory(),
        ]
        costs = await added(subjects, visits=_VISITS, rounds=_ROUNDS, waits=False)
    ours, least = costs[_OUR_MEMORY], costs[_FLOOR_MEMORY]
    goals = [Goal(f"memory, {action}", "at most", 2.5, ours[action] / least[action], "floor") for action in ACTIONS[1:]]
    goals.append(Goal("memory, untouched", "at most", 2, ours["untouched"] / least["untouched"], "floor"))
    goals.append(Goal("memory, one session of eight keys", "at most", 450, await _bytes_each(), unit=" bytes"))
    return [Table("In memory: µs added per request", ACTIONS, costs, goals)]


async def _bytes_each(sessions: int = 10_000) -> float:
    """What one session takes, its key and its share of the dicts included."""
    async with StorageOverseer(Shop, MemoryStorer()) as store:
        app = ours(store)
        await sign_in(app)
        gc.collect()
        tracemalloc.start()
        for _ in range(sessions):
            await sign_in(app)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return taken / sessions


async def tail() -> list[Table]:
    """How much longer than usual a request may take: the best of several rounds, as elsewhere."""
    rows: dict[str, dict[str, float]] = {}
    async with _our_memory() as memory:
        visits = {"bare application": memory.bare}
        for subject in (memory, await _our_cookie()):
            visits.update({f"{subject.name}, {action}": subject.visits[action] for action in ACTIONS[1:]})

        for _ in range(_ROUNDS):
            for name, visit in visits.items():
                row = await _percentiles(visit)
                if name not in rows or row["p99/p50"] < rows[name]["p99/p50"]:
                    rows[name] = row
    bare = rows["bare application"]["p99/p50"]
    goals = [
        Goal(f"p99/p50, {name}", "at most", 1.25, row["p99/p50"] / bare, "the bare one's")
        for name, row in rows.items()
        if name != "bare application"
    ]
    return [Table("Tail: µs per request", ("p50", "p99", "p99/p50"), rows, goals)]


async def _percentiles(visit: Visit) -> dict[str, float]:
    took: list[int] = []
    gc.collect()
    for _ in range(5 * _VISITS):
        start = thread_time_ns()
        await visit(0)
        took.append(thread_time_ns() - start)
    took.sort()
    middle, high = took[len(took) // 2], took[len(took) * 99 // 100]
    return {"p50": middle / 1000, "p99": high / 1000, "p99/p50": high / middle}
