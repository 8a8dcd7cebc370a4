"""RedisStorer on a real Valkey cluster."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, cast

import anyio
import anyio.to_thread
import pytest
from redis.asyncio import Redis, RedisCluster

from aiosessions._errors import ConfigError, StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import ListableSuite, OpenableSuite, StorerSuite, UserIndexedSuite
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy, Tally
from tests.servers import NoServerError, ValkeyServer, until, valkey_cluster
from tests.storers.load import Load

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """redis-py is for asyncio."""
    return request.param


class TestRedisStorerOnACluster(StorerSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    waits = True
    shortest = 0.25

    @pytest.fixture
    async def storer(self, redis_cluster_client: RedisCluster, redis_prefix: str) -> AsyncIterator[RedisStorer]:
        storer = RedisStorer(redis_cluster_client, prefix=redis_prefix)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, redis_cluster_client: RedisCluster, redis_prefix: str) -> RedisStorer:
        return RedisStorer(redis_cluster_client, prefix=redis_prefix + "s#")


def a_record(owner: str | None = None, *, lives: float = 3600.0) -> Record:
    now = time.time()
    return Record(b"{}", b"", owner, now, now, now + lives, new_version())


@asynccontextmanager
async def proxied(nodes: list[ValkeyServer], tally: Tally) -> AsyncGenerator[tuple[RedisCluster, dict[int, Proxy]]]:
    """A client that knows each node by a proxy, and the proxies by the ports of the nodes."""
    async with AsyncExitStack() as stack:
        proxies = {
            node.port: await stack.enter_async_context(Proxy(node.host, node.port, tally=tally)) for node in nodes
        }

        def by_proxy(address: tuple[str, int]) -> tuple[str, int]:
            host, port = address
            return host, proxies[port].port if port in proxies else port

        start = proxies[nodes[0].port].port
        yield (
            await stack.enter_async_context(RedisCluster(host="127.0.0.1", port=start, address_remap=by_proxy)),
            proxies,
        )


def home(client: RedisCluster, storer: RedisStorer, key: str) -> int:
    """The port, as the client knows it, of the node where the record of *key* is."""
    node = client.get_node_from_key(cast("str", storer._key(key)))
    assert node is not None
    return int(node.port)


class TestOnACluster:
    async def test_round_trips_one_after_the_other(self, valkey_nodes: list[ValkeyServer], redis_prefix: str) -> None:
        """DESIGN 4: login 3 with its read; a later write of a logged-in session 2 with its read."""
        tally = Tally()
        async with proxied(valkey_nodes, tally) as (client, _):
            storer = RedisStorer(client, prefix=redis_prefix)
            for number in range(30):  # each node has each script, and enough connections are open
                key, first, second = f"warm{number}", a_record("ann"), a_record(f"user{number}")
                await storer.create(key, first)
                await storer.replace(key, second, version=first.version)
                await storer.touch(key, seen_at=time.time(), expires_at=time.time() + 7200)
                await storer.delete(key)

            first, login, later = a_record(), a_record("ann"), a_record("ann")
            expected = iter([1, 1, 2, 1, 1, 1, 2, 2])
            for what, call in (
                ("a new session", lambda: storer.create("k", first)),
                ("a read", lambda: storer.read("k")),
                ("a login", lambda: storer.replace("k", login, version=first.version)),
                ("a read", lambda: storer.read("k")),
                ("a later write", lambda: storer.replace("k", later, version=login.version)),
                ("a touch", lambda: storer.touch("k", seen_at=later.seen_at + 60, expires_at=time.time() + 7200)),
                ("a logout, and the entry in the user's index", lambda: storer.delete("k")),
                ("a session that is new and logged in", lambda: storer.create("k2", a_record("ann"))),
            ):
                tally.reset()
                assert await call(), what
                assert tally.waves == next(expected), what

    async def test_touches_carry_the_index_along(self, redis_cluster_client: RedisCluster, redis_prefix: str) -> None:
        """S15: a session that is only ever touched stays in its owner's index."""
        storer = RedisStorer(redis_cluster_client, prefix=redis_prefix)
        record = a_record("ann", lives=60.0)
        await storer.create("k", record)
        index = storer._index_key(b"ann")
        assert await redis_cluster_client.ttl(index) < 4 * 86_400
        assert await storer.touch("k", seen_at=record.seen_at, expires_at=record.seen_at + 30 * 86_400)
        assert await redis_cluster_client.ttl(index) > 60 * 86_400
        assert await storer.touch("k", seen_at=record.seen_at, expires_at=None)
        assert await redis_cluster_client.ttl(index) == -1

    async def test_a_session_is_in_the_index_before_it_is_there(
        self, valkey_nodes: list[ValkeyServer], redis_prefix: str
    ) -> None:
        """S15: also when the answer about the record never comes; and no list heals the entry away meanwhile."""
        async with proxied(valkey_nodes, Tally()) as (client, proxies):
            storer = RedisStorer(client, prefix=redis_prefix, timeout=timedelta(seconds=0.5))
            await storer.open()
            index = client.get_node_from_key(cast("str", storer._index_key(b"ann")))
            assert index is not None
            key = next(f"k{n}" for n in range(100) if home(client, storer, f"k{n}") != index.port)
            there = next(proxy for proxy in proxies.values() if proxy.port == home(client, storer, key))

            assert await storer.read(key) is None
            there.silent = True
            with pytest.raises(StorerError):
                await storer.create(key, a_record("ann"))
            there.silent = False
            assert await storer.read(key) is not None, "the node has done it, only its answer was lost"
            assert [name for name, _ in await storer.list_by_owner("ann")] == [key]

            await storer.delete(key)
            assert await storer.list_by_owner("ann") == []
            assert await client.zscore(storer._index_key(b"ann"), key) is not None, "too young to be healed away"

    async def test_scripts_survive_nodes_that_forgot_them(
        self, valkey_nodes: list[ValkeyServer], redis_cluster_client: RedisCluster, redis_prefix: str
    ) -> None:
        """S13: NOSCRIPT from each node of a pipeline."""
        storer = RedisStorer(redis_cluster_client, prefix=redis_prefix)
        records = [a_record("ann") for _ in range(20)]
        for number, record in enumerate(records):
            await storer.create(f"k{number}", record)
        for node in valkey_nodes[:3]:
            node.ask("SCRIPT", "FLUSH")
        later = a_record("ann")
        assert await storer.replace("k0", later, version=records[0].version)
        for node in valkey_nodes[:3]:
            node.ask("SCRIPT", "FLUSH")
        assert await storer.delete_by_owner("ann") == 20

    async def test_a_write_is_confirmed_when_the_replicas_have_it(
        self, valkey_nodes: list[ValkeyServer], redis_cluster_client: RedisCluster, redis_prefix: str
    ) -> None:
        """F4: WAIT, on each node that had a part in it."""
        storer = RedisStorer(redis_cluster_client, prefix=redis_prefix, wait_replicas=1)
        first, second = a_record("ann"), a_record("ann")
        assert await storer.create("k", first)
        assert await storer.replace("k", second, version=first.version)
        for number in range(10):
            assert await storer.create(f"k{number}", a_record("ann"))
        assert await storer.delete_by_owner("ann") == 11
        demanding = RedisStorer(
            redis_cluster_client, prefix=redis_prefix, wait_replicas=2, timeout=timedelta(seconds=0.4)
        )
        with pytest.raises(StorerError, match="1 replicas have the write, 2 are asked for"):
            await demanding.create("k", first)

    async def test_open_leaves_nothing_behind(
        self, valkey_nodes: list[ValkeyServer], redis_cluster_client: RedisCluster, redis_prefix: str
    ) -> None:
        """S13, S17: neither a record nor an entry, which is too young to be healed away."""
        await RedisStorer(redis_cluster_client, prefix=redis_prefix).open()
        assert not any(node.ask("KEYS", f"{redis_prefix}*") for node in valkey_nodes[:3])

    async def test_a_client_for_one_server_is_refused(self, valkey_nodes: list[ValkeyServer]) -> None:
        """S16: it would fail as soon as somebody logs in."""
        async with Redis(port=valkey_nodes[0].port) as client:
            with pytest.raises(ConfigError, match="RedisCluster"):
                await RedisStorer(client).open()

    async def test_a_cluster_that_is_not_there_is_named(self) -> None:
        """S13: with host and port, and no password."""
        client = RedisCluster(host="127.0.0.1", port=1, password="hunter2")
        with pytest.raises(StorerError, match=r"127\.0\.0\.1:1") as caught:
            await RedisStorer(client, timeout=timedelta(seconds=0.5)).open()
        assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
        await client.aclose()


class TestAClusterThatMoves:
    @pytest.fixture
    def nodes(self, no_server: Callable[[str], NoReturn]) -> Iterator[list[ValkeyServer]]:
        try:
            with valkey_cluster() as nodes:
                yield nodes
        except NoServerError as error:
            no_server(str(error))

    @pytest.mark.parametrize("anyio_backend", [UVLOOP], indirect=True)
    async def test_moving_slots_and_failing_over_undo_nothing_that_was_confirmed_and_replicated(
        self, nodes: list[ValkeyServer]
    ) -> None:
        """F4, S13: slots move, a primary dies and comes back as a replica, under load: nothing but StorerError."""
        async with RedisCluster(host=nodes[0].host, port=nodes[0].port) as client:
            storer = RedisStorer(client, wait_replicas=1, timeout=timedelta(seconds=1))
            load = Load(storer)
            with anyio.fail_after(40):
                async with anyio.create_task_group() as group:
                    group.start_soon(load.run)
                    await load.reach(20)
                    slots = sorted({client.keyslot(storer._key(key)) for key in load.possible})
                    for slot in slots[:10]:
                        await anyio.to_thread.run_sync(move_slot, nodes, slot)
                    await load.reach(20)

                    await anyio.to_thread.run_sync(nodes[0].kill)
                    promoted = partial(until, lambda: role(nodes[3]) == "master", "a fail-over")
                    await anyio.to_thread.run_sync(promoted)
                    await anyio.to_thread.run_sync(nodes[0].start)
                    await load.reach(20)
                    load.stop.set()
            await load.check(RedisStorer(client))
            for worker in range(load.workers):
                keys = {key for key, _ in await storer.list_by_owner(f"user{worker}")}
                for key in load.possible:
                    record = await storer.read(key)
                    assert (record is not None and record.owner == f"user{worker}") is (key in keys)


def role(node: ValkeyServer) -> str:
    return str(node.ask("INFO", "replication")["role"])


def move_slot(nodes: list[ValkeyServer], slot: int) -> None:
    """Give *slot*, and what is in it, to the next primary, as a cluster's tools do."""
    primaries = nodes[:3]
    names = [node.ask("CLUSTER", "MYID").decode() for node in primaries]
    owner: bytes = next(entry[2][2] for entry in nodes[0].ask("CLUSTER", "SLOTS") if entry[0] <= slot <= entry[1])
    source = primaries[names.index(owner.decode())]
    target = primaries[(names.index(owner.decode()) + 1) % 3]
    new_owner = names[primaries.index(target)]
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.decode())
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", new_owner)
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
        source.ask("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source, *primaries):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
