"""RedisStorer while answers get lost, servers hang, crash and come back, and callers give up."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace as changed
from redis.asyncio import BlockingConnectionPool, Redis, Sentinel

from aiosessions._errors import StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import collected
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.servers import ValkeyServer, until, valkey, valkey_sentinel
from tests.storers.load import Load
from tests.storers.redis_racer import ROUNDS

pytestmark = pytest.mark.anyio

SHORT = timedelta(seconds=0.3)


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """redis-py is for asyncio."""
    return request.param


def a_record(owner: str | None = None, value: bytes = b"{}") -> Record:
    now = time.time()
    return Record(value, b"", owner, now, now, now + 3600, new_version())


@contextmanager
def replica_of(server: ValkeyServer) -> Generator[ValkeyServer]:
    with valkey(replicaof=f"{server.host} {server.port}") as replica:
        until(lambda: bool(replica.ask("INFO", "replication")["master_link_status"] == "up"), "replication")
        yield replica


def replicas_known_to(sentinel: ValkeyServer) -> int:
    return len(sentinel.ask("SENTINEL", "REPLICAS", "shop"))


class TestLostAnswers:
    async def test_what_the_driver_sends_again_is_applied_once(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S6: each write, its answer lost."""
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix)
            first, second = a_record("ann"), a_record("ann", b"2")
            later = changed(second, seen_at=second.seen_at + 9, expires_at=time.time() + 7200)

            proxy.drop_answers(to=b"EVALSHA")
            assert await storer.create("k", first) is True
            proxy.drop_answers(to=b"EVALSHA")
            assert await storer.replace("k", second, version=first.version) is True
            proxy.drop_answers(to=b"EVALSHA")
            assert await storer.touch("k", seen_at=later.seen_at, expires_at=later.expires_at) is True
            proxy.drop_answers(to=b"GET")
            assert await storer.read("k") == later
            proxy.drop_answers(to=b"EVALSHA")
            await storer.delete("k")
            assert await storer.read("k") is None
            assert proxy.dropped == 5

    async def test_increments_are_exact_while_answers_get_lost(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S5, S6: 5 tasks, each with a session of its own, 20 increments each, every fourth without an answer."""
        chance = random.Random(6)
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix)

            async def increment(key: str) -> None:
                record = a_record(value=b"0")
                await storer.create(key, record)
                for number in range(1, 21):
                    if chance.random() < 0.25:
                        proxy.drop_answers(to=b"EVALSHA")
                    new = a_record(value=b"%d" % number)
                    assert await storer.replace(key, new, version=record.version)
                    record = new

            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(increment, f"k{number}")
            for number in range(5):
                record = await storer.read(f"k{number}")
                assert record is not None
                assert record.value == b"20"
            assert proxy.dropped > 10


class TestFailures:
    async def test_every_call_fails_within_the_time_out_and_works_again_afterwards(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S13: a server that hangs, a connection that is cut, a server that is gone; the cause stays."""
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix, timeout=SHORT / 2)
            record = a_record("ann", b"a secret")
            await storer.create("k", record)
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: storer.read("k"),
                lambda: storer.create("k", record),
                lambda: storer.replace("k", record, version=record.version),
                lambda: storer.touch("k", seen_at=record.seen_at, expires_at=None),
                lambda: storer.delete("k"),
                lambda: storer.list_by_owner("ann"),
                lambda: storer.delete_by_owner("ann"),
                lambda: collected(storer.keys()),
                storer.open,
            ]

            async def all_fail() -> None:
                for call in calls:
                    with anyio.fail_after(5), pytest.raises(StorerError) as caught:
                        await call()
                    assert caught.value.__cause__ is not None
                    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"

            proxy.silent = True
            await all_fail()
            proxy.silent = False
            assert await storer.read("k") is not None, "a server that answers again is used again"

            port, proxy.server_port = proxy.server_port, 1
            proxy.cut()
            await all_fail()
            proxy.server_port = port
            assert await storer.read("k") is not None

            proxy.cut()
            assert await storer.read("k") is not None, "a cut connection alone is no failure: the driver connects again"
            assert await storer.delete("k")

    async def test_one_failure_among_many_calls_is_a_failure(self, redis_client: Redis, redis_prefix: str) -> None:
        """S13: delete_by_owner, where one key holds a foreign type."""
        storer = RedisStorer(redis_client, prefix=redis_prefix)
        for key in ("k1", "k2", "k3"):
            await storer.create(key, a_record("ann"))
        await redis_client.delete(f"{redis_prefix}s#k2")
        await redis_client.lpush(f"{redis_prefix}s#k2", "x")
        with pytest.raises(StorerError, match="ResponseError"):
            await storer.delete_by_owner("ann")

    async def test_scripts_survive_a_server_that_forgot_them(
        self, valkey_server: ValkeyServer, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S13: NOSCRIPT, in single calls and in pipelines."""
        storer = RedisStorer(redis_client, prefix=redis_prefix)
        first, second = a_record("ann"), a_record("ann")

        def forget() -> None:
            valkey_server.ask("SCRIPT", "FLUSH")

        forget()
        assert await storer.create("k", first)
        forget()
        assert await storer.replace("k", second, version=first.version)
        forget()
        assert await storer.touch("k", seen_at=first.seen_at, expires_at=None)
        await storer.create("another", first)
        forget()
        assert await storer.delete_by_owner("ann") == 2
        await storer.create("k", first)
        forget()
        assert await storer.delete("k")

    async def test_a_crash_under_load_loses_nothing_that_was_confirmed(self) -> None:
        """S13, F4: `appendfsync always`, kill -9, restart; each call succeeds or gets StorerError, and goes on."""
        with valkey(appendonly="yes", appendfsync="always") as server:
            async with Redis(port=server.port) as client:
                load = Load(RedisStorer(client, timeout=timedelta(seconds=1)))
                with anyio.fail_after(20):
                    async with anyio.create_task_group() as group:
                        group.start_soon(load.run)
                        for _ in range(2):
                            await load.reach(40)
                            server.kill()
                            await anyio.to_thread.run_sync(server.start)
                        await load.reach(40)
                        load.stop.set()
                await load.check(load.storer)

    async def test_thousands_of_cancelled_calls_never_cross_answers(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S14: few connections, slow answers, time-outs and task groups: CVE-2023-28859 is the warning."""
        chance = random.Random(14)
        wrong: list[str] = []
        async with Proxy(valkey_server.host, valkey_server.port) as proxy:
            proxy.delay = 0.0005
            pool = BlockingConnectionPool(port=proxy.port, max_connections=3)
            async with Redis.from_pool(pool) as client:
                storer = RedisStorer(client, prefix=redis_prefix)
                keys = [f"k{number}" for number in range(8)]

                async def use(key: str) -> None:
                    record = await storer.read(key)
                    if record is None:
                        await storer.create(key, a_record(key, key.encode()))
                    elif record.value != key.encode():
                        wrong.append(f"{key}: {record.value!r}")
                    else:
                        wrong.extend(f"{key} in a list: {k}" for k, _ in await storer.list_by_owner(key) if k != key)
                        await storer.replace(key, a_record(key, key.encode()), version=record.version)
                        await storer.delete_by_owner(key)

                for _ in range(250):
                    async with anyio.create_task_group() as group:
                        for key in keys:
                            group.start_soon(use, key)
                        await anyio.sleep(chance.random() / 200)
                        group.cancel_scope.cancel()
                proxy.delay = 0.0
                assert not wrong
                for key in keys:
                    await storer.delete(key)
                    record = a_record(value=key.encode())
                    assert await storer.create(key, record)
                    assert await storer.read(key) == record


class TestReplicas:
    async def test_a_write_is_confirmed_when_the_replicas_have_it(self) -> None:
        """S13, F4: WAIT; too few in time is an error, and a re-sent write waits like the first."""
        with valkey(repl_diskless_sync_delay=0) as server, replica_of(server) as replica:
            async with Proxy(server.host, server.port) as proxy, Redis(port=proxy.port) as client:
                storer = RedisStorer(client, prefix="", wait_replicas=1, timeout=2 * SHORT)
                first, second, third = (a_record("ann") for _ in range(3))
                assert await storer.create("k", first)
                proxy.tally.reset()
                assert await storer.replace("k", second, version=first.version)
                assert proxy.round_trips == 1, "the write and its WAIT travel together"
                assert replica.ask("GET", "s#k") is not None
                assert await storer.delete("k")
                assert replica.ask("GET", "s#k") is None
                assert await storer.create("k", first)
                assert await storer.delete_by_owner("ann") == 1
                assert replica.ask("GET", "s#k") is None
                assert await storer.create("k", first)

                replica.pause()
                calls: list[Callable[[], Awaitable[object]]] = [
                    lambda: storer.create("another", third),
                    lambda: storer.replace("k", second, version=first.version),
                    lambda: storer.replace("k", second, version=first.version),  # finds its own version, and waits
                    lambda: storer.delete("k"),
                    lambda: storer.delete("k"),  # finds it gone, and waits
                    lambda: storer.delete_by_owner("ann"),
                ]
                for call in calls:
                    proxy.cut()  # so that WAIT does not wait for an earlier write of the same connection
                    with pytest.raises(StorerError, match="0 replicas have the write, 1 are asked for"):
                        await call()
                replica.resume()
                assert not await storer.delete("k")

    async def test_a_server_that_forbids_wait_confirms_nothing(self) -> None:
        """S13: what cannot be known is an error."""
        with valkey() as server:
            server.ask("ACL", "SETUSER", "default", "-wait")
            async with Redis(port=server.port) as client:
                storer = RedisStorer(client, wait_replicas=1)
                with pytest.raises(StorerError, match="NoPermissionError"):
                    await storer.create("k", a_record())

    async def test_a_fail_over_by_sentinel_keeps_what_the_replica_had(self) -> None:
        """S13, F4: the same storer goes on with the new primary."""
        with (
            valkey(repl_diskless_sync_delay=0) as server,
            replica_of(server) as replica,
            valkey_sentinel(server, "shop") as watcher,
        ):
            until(lambda: replicas_known_to(watcher) == 1, "the discovery of the replica")
            sentinel = cast("Any", Sentinel)([(watcher.host, watcher.port)])  # redis-py gives it no types
            async with sentinel.sentinels[0], sentinel.master_for("shop") as client:
                storer = RedisStorer(client, wait_replicas=1)
                await storer.open()
                record = a_record("ann")
                assert await storer.create("k", record)
                server.kill()
                promoted = partial(until, lambda: bool(replica.ask("ROLE")[0] == b"master"), "a fail-over")
                await anyio.to_thread.run_sync(promoted)
                storer = RedisStorer(client)
                with anyio.fail_after(10):
                    while True:
                        try:
                            found = await storer.read("k")
                        except StorerError:
                            continue
                        break
                assert found == record
                assert await storer.delete("k")


class TestProcesses:
    def test_racers_from_four_processes_have_one_winner(self, valkey_server: ValkeyServer, redis_prefix: str) -> None:
        """S3, S5: 20 racers, 50 rounds, on create and on replace."""
        now = time.time()

        async def prepare() -> None:
            async with Redis(port=valkey_server.port) as client:
                storer = RedisStorer(client, prefix=redis_prefix)
                for number in range(ROUNDS):
                    await storer.create(f"r{number}", Record(b"", b"", None, now, now, now + 60, 1))

        anyio.run(prepare)
        command = [sys.executable, "-m", "tests.storers.redis_racer", str(valkey_server.port), redis_prefix, "4"]
        racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
        results = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
        for kind in ("created", "replaced"):
            assert sorted(number for result in results for number in result[kind]) == list(range(ROUNDS)), kind
