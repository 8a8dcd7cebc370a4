"""Parts without a server: state with the client, state in memory, dicts of anything, and the tail."""

import gc
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import thread_time_ns
from typing import Any

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    HMACSealer,
    JWTSealer,
    MemoryStorer,
    Sealer,
    StorageOverseer,
    new_key,
)
from tests.benchmarks import peers
from tests.benchmarks.floor import Memory, Sealed, floor
from tests.benchmarks.measure import ACTIONS, Costs, Effort, Subject, Visit, added
from tests.benchmarks.pages import Application, Shop, asgi_subject, bare, ours, ours_untyped
from tests.benchmarks.table import Goal, Table

__all__ = ["OUR_COOKIE", "OUR_MEMORY", "cookie", "memory", "sizes", "tail", "untyped"]

OUR_COOKIE = "aiosessions CookieOverseer(AESGCMSealer)"
OUR_MEMORY = "aiosessions MemoryStorer"

_VISITS = 2000
_FLOOR_COOKIE = "floor: AES-GCM + msgspec"
_FLOOR_MEMORY = "floor: dict in memory"
_DATACLASS = "the dataclass"


async def _our_cookie() -> Subject:
    return await asgi_subject(ours(OUR_COOKIE, CookieOverseer(Shop, AESGCMSealer(os.urandom(32)))))


@asynccontextmanager
async def _our_memory() -> AsyncGenerator[Subject]:
    async with StorageOverseer(Shop, MemoryStorer()) as store:
        yield await asgi_subject(ours(OUR_MEMORY, store))


async def memory(effort: Effort) -> list[Table]:
    """What this process holds."""
    async with _our_memory() as subject:
        subjects = [
            await asgi_subject(Application(_FLOOR_MEMORY, floor(Memory()), bare)),
            subject,
            await asgi_subject(peers.starsessions_memory()),
        ]
        costs = await added(subjects, effort, visits=_VISITS, waits=False)
    goals = _against("memory", costs[OUR_MEMORY], "the floor", costs[_FLOOR_MEMORY], read=3, write=4, untouched=1.6)
    return [Table("In memory: µs added per request", ACTIONS, costs, goals, plot="in memory")]


async def cookie(effort: Effort) -> list[Table]:
    """What the client holds."""
    signed = await asgi_subject(peers.starlette_signed())
    subjects = [
        await asgi_subject(Application(_FLOOR_COOKIE, floor(Sealed()), bare)),
        await _our_cookie(),
        signed,
        await asgi_subject(peers.starsessions_cookie()),
        await asgi_subject(peers.litestar_client_side()),
        await peers.aiohttp_encrypted(),
    ]
    costs = await added(subjects, effort, visits=_VISITS, waits=False)
    our, peer = costs[OUR_COOKIE], costs[signed.name]
    goals = [
        *_against("encrypted cookie", our, "the floor", costs[_FLOOR_COOKIE], read=2.2, write=2.5, untouched=1.6),
        *_against("encrypted cookie", our, "Starlette's signed one", peer, read=0.65, write=0.75),
    ]
    return [Table("With the client: µs added per request", ACTIONS, costs, goals, plot="in a cookie")]


async def untyped(effort: Effort) -> list[Table]:
    """`dict[str, Any]`, what everyone has who comes from elsewhere, beside the dataclass of the same keys."""
    anything: Any = dict[str, Any]  # Any: pyright takes a dict's alias for no type[T]
    async with (
        _our_memory() as typed_memory,
        StorageOverseer[dict[str, Any]](anything, MemoryStorer()) as store,
    ):
        in_cookie = CookieOverseer[dict[str, Any]](anything, AESGCMSealer(os.urandom(32)))
        memory = await asgi_subject(ours_untyped("aiosessions MemoryStorer, dict[str, Any]", store))
        cookie = await asgi_subject(ours_untyped("aiosessions CookieOverseer, dict[str, Any]", in_cookie))
        costs = await added([typed_memory, memory, await _our_cookie(), cookie], effort, visits=_VISITS, waits=False)
    goals = [
        *_against("dict[str, Any] in memory", costs[memory.name], _DATACLASS, costs[OUR_MEMORY], read=1, write=1.1),
        *_against("dict[str, Any] in a cookie", costs[cookie.name], _DATACLASS, costs[OUR_COOKIE], read=1, write=1.1),
    ]
    return [Table("Untyped: µs added per request", ACTIONS, costs, goals)]


def _against(what: str, costs: Costs, other: str, others: Costs, **limits: float) -> list[Goal]:
    return [
        Goal(f"{what}, {action}, against {other}", limit, costs[action] / others[action])
        for action, limit in limits.items()
    ]


async def tail(effort: Effort) -> list[Table]:
    """How much longer than usual a request may take: the best of several rounds, as elsewhere."""
    rows: dict[str, dict[str, float]] = {}
    async with _our_memory() as memory:
        visits = {"bare application": memory.bare}
        for subject in (memory, await _our_cookie()):
            visits.update({f"{subject.name}, {action}": subject.visits[action] for action in ACTIONS[1:]})

        for _ in range(effort.rounds):
            for name, visit in visits.items():
                row = await _percentiles(visit, effort.of(5 * _VISITS))
                if name not in rows or row["p99/p50"] < rows[name]["p99/p50"]:
                    rows[name] = row
    least = rows["bare application"]["p99/p50"]
    goals = [
        Goal(f"p99/p50 of {name}, against the bare application's", limit, row["p99/p50"] / least)
        for action, limit in (("read", 1.1), ("write", 1.25))
        for name, row in rows.items()
        if name.endswith(action)
    ]
    return [Table("Tail: µs per request", ("p50", "p99", "p99/p50"), rows, goals)]


async def _percentiles(visit: Visit, visits: int) -> dict[str, float]:
    took: list[int] = []
    gc.collect()
    for _ in range(visits):
        start = thread_time_ns()
        await visit(0)
        took.append(thread_time_ns() - start)
    took.sort()
    middle, high = took[len(took) // 2], took[len(took) * 99 // 100]
    return {"p50": middle / 1000, "p99": high / 1000, "p99/p50": high / middle}


async def sizes(_: Effort) -> list[Table]:
    """What a client sends with each request: name, `=` and value."""
    sealers: dict[str, Sealer] = {
        "AESGCMSealer": AESGCMSealer(new_key()),
        "HMACSealer": HMACSealer(new_key()),
        "JWTSealer": JWTSealer(new_key()),
    }
    applications = [
        *(ours(f"aiosessions CookieOverseer({name})", CookieOverseer(Shop, each)) for name, each in sealers.items()),
        peers.starlette_signed(),
        peers.starsessions_cookie(),
        peers.litestar_client_side(),
        peers.starsessions_memory(),
    ]
    async with _our_memory() as memory:
        subjects = [*[await asgi_subject(each) for each in applications], await peers.aiohttp_encrypted(), memory]
    rows = {subject.name: {"bytes": float(len(subject.cookie))} for subject in subjects}
    return [Table("The cookie a client sends", ("bytes",), rows)]
