"""Valkey beneath whole requests: many clients at once, one at a time, and many requests of one client."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from redis.asyncio import Redis
from starlette.requests import Request

from aiosessions import Merge, StorageOverseer
from aiosessions.storers.redis import RedisStorer
from tests.benchmarks import peers
from tests.benchmarks.floor import Server, floor
from tests.benchmarks.measure import ACTIONS, Costs, Effort, Subject, added
from tests.benchmarks.pages import Application, Shop, asgi_subject, bare, ours
from tests.benchmarks.table import Goal, Table
from tests.servers import valkey as server

__all__ = ["OUR_VALKEY", "hot", "valkey"]

OUR_VALKEY = "aiosessions RedisStorer"

_IN_FLIGHT = 50
_FLOOR = "floor: redis-py GET/SET"
_GET = "redis-py GET by itself"


@asynccontextmanager
async def _clients(count: int) -> AsyncGenerator[list[Any]]:  # Any: redis-py's commands have loose types
    """So many clients of one new server, each with connections of its own."""
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(server())
        yield [await stack.enter_async_context(Redis(host=valkey.host, port=valkey.port)) for _ in range(count)]


async def valkey(effort: Effort) -> list[Table]:
    """50 requests in flight, each of a client of its own, then one at a time."""
    async with _clients(5) as (one, two, three, four, five), StorageOverseer(Shop, RedisStorer(two)) as store:
        subjects = [
            await asgi_subject(Application(_FLOOR, floor(Server(one)), bare), clients=_IN_FLIGHT),
            await asgi_subject(ours(OUR_VALKEY, store), clients=_IN_FLIGHT),
            await peers.aiohttp_redis(three, clients=_IN_FLIGHT),
            await asgi_subject(peers.starsessions_redis(four), clients=_IN_FLIGHT),
        ]
        many = await added(subjects, effort, in_flight=_IN_FLIGHT, visits=50 * _IN_FLIGHT, waits=True)

        await five.set("key", bytes(300))
        get = Subject(_GET, _nothing, {"read": lambda _: five.get("key")})
        single = await added([*subjects[:2], get], effort, visits=500, waits=True)

    our, peer = many[OUR_VALKEY], many[subjects[2].name]
    return [
        Table(
            "Valkey, 50 in flight: µs added per request",
            ACTIONS,
            many,
            [
                _goal("Valkey, 50 in flight", action, limit, our, peer)
                for action, limit in (("read", 0.2), ("write", 0.28))
            ],
            plot="in Valkey, 50 in flight",
        ),
        Table(
            "Valkey, one at a time: µs added per request",
            ACTIONS,
            single,
            [
                Goal(
                    "Valkey, one at a time, read, against a bare GET",
                    1.15,
                    single[OUR_VALKEY]["read"] / single[_GET]["read"],
                )
            ],
        ),
    ]


@dataclass
class _Counting(Shop):
    visits: Annotated[int, Merge.ADD] = 0


async def hot(effort: Effort) -> list[Table]:
    """50 requests in flight of one client, each adding one. Ours must all have counted; the peer overwrites blindly."""
    async with _clients(2) as (one, two), StorageOverseer(_Counting, RedisStorer(one)) as store:
        subject = await asgi_subject(ours(OUR_VALKEY, store), actions=("write",))
        peer = await peers.aiohttp_redis(two, clients=1)
        peer = Subject(peer.name, peer.bare, {"write": peer.visits["write"]})
        sent = 0

        async def write(number: int) -> None:
            nonlocal sent
            sent += 1
            await subject.visits["write"](number)

        before = await _visits(store, subject)
        counted = Subject(subject.name, subject.bare, {"write": write})
        costs = await added([counted, peer], effort, in_flight=_IN_FLIGHT, visits=10 * _IN_FLIGHT, waits=True)
        kept = await _visits(store, subject) - before
    assert kept == sent, f"of {sent} writes {kept} were kept"

    goals = [_goal("Valkey, 50 in flight on one session", "write", 0.5, costs[OUR_VALKEY], costs[peer.name])]
    return [Table("Valkey, 50 in flight on one session: µs added per request", ("write",), costs, goals)]


def _goal(what: str, action: str, limit: float, our: Costs, peer: Costs) -> Goal:
    return Goal(f"{what}, {action}, against aiohttp-session", limit, our[action] / peer[action])


async def _nothing(_: int) -> None:
    pass


async def _visits(store: StorageOverseer[_Counting], subject: Subject) -> int:
    """What the one client's session has counted."""
    headers = [(b"cookie", subject.cookie.encode())]
    request = Request({"type": "http", "scheme": "https", "method": "GET", "path": "/", "headers": headers})
    return (await store.get(request)).value.visits
