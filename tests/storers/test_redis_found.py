"""RedisStorer on servers as operations people run them: full, evicting, behind an ACL, shared with others."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import anyio
import anyio.lowlevel
import pytest
from redis.asyncio import Redis

from aiosessions import AESGCMSealer, ConfigError, CookieOverseer, StorerError, storer_from_url
from aiosessions._tokens import new_version
from aiosessions.storers._redis_acl import COMMANDS
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import collected, race
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.servers import ValkeyServer, until, valkey, valkey_sentinel

pytestmark = pytest.mark.anyio

DAY = 86_400.0


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """redis-py is for asyncio."""
    return request.param


def a_record(owner: str | None = None, *, value: bytes = b"{}", lives: float = 3600.0) -> Record:
    now = time.time()
    return Record(value, b"", owner, now, now, now + lives, new_version())


async def hold(client: Redis, key: str) -> None:
    """Use a connection until something is pushed there."""
    await client.blpop([key])


class TestTrips:
    async def test_what_is_asked_in_one_tick_shares_a_trip(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S13: fifty reads, and fifty writes, are few round trips, and each gets its own answer."""
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix)
            records = [a_record("ann", value=b"%d" % number) for number in range(50)]

            async def create(number: int) -> bool:
                return await storer.create(f"k{number}", records[number])

            async def read(number: int) -> bool:
                return await storer.read(f"k{number}") == records[number]

            async def change(number: int) -> bool:
                key, record = f"k{number}", records[number]
                if number % 3 == 0:
                    return await storer.replace(key, a_record(), version=record.version)
                if number % 3 == 1:
                    return await storer.touch(key, seen_at=record.seen_at, expires_at=record.seen_at + 7200)
                return await storer.delete(key, version=record.version)

            await race(50, lambda number: storer.create(f"warm{number}", a_record()))
            await race(50, lambda number: storer.delete(f"warm{number}"))
            proxy.tally.reset()
            assert all(await race(50, create))
            assert all(await race(50, read))
            assert proxy.round_trips <= 10
            assert all(await race(50, change))
            assert len(await collected(storer.keys())) == 34

    async def test_one_call_that_fails_fails_alone(self, redis_client: Redis, redis_prefix: str) -> None:
        """S13: a key that holds a foreign type, among twenty that are written in the same step."""
        storer = RedisStorer(redis_client, prefix=redis_prefix)
        await cast("Any", redis_client).lpush(f"{redis_prefix}s#k7", "x")
        outcomes: list[object] = []

        async def create(number: int) -> None:
            try:
                outcomes.append(await storer.create(f"k{number}", a_record("ann")))
            except StorerError as error:
                outcomes.append(type(error.__cause__).__name__)

        await race(20, create)
        assert sorted(map(str, outcomes)) == ["ResponseError", *["True"] * 19]


class TestTheOwnConnection:
    async def test_it_is_given_back_and_a_lost_one_is_no_failure(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S16, S13: cut between two calls, cut during one, and given back while it is in use."""
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix)
            await storer.open()
            record = a_record()
            assert await storer.create("k", record)
            proxy.cut()
            assert await storer.read("k") == record
            proxy.drop_answers(to=b"GET")
            assert await storer.read("k") == record
            assert proxy.dropped == 1

            proxy.delay = 0.05
            found: list[Record | None] = []

            async def read() -> None:
                found.append(await storer.read("k"))

            proxy.tally.reset()
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                while not proxy.round_trips:
                    await anyio.lowlevel.checkpoint()
                await storer.aclose()
            assert found == [record]
            assert in_use(client) == 0
            assert await storer.read("k") == record

    async def test_a_caller_who_gives_up_on_it_leaves_no_answer_behind(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S14: one call after the other, each on the one connection."""
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix)
            await storer.open()
            records = [a_record(value=b"%d" % number) for number in range(20)]
            for number, record in enumerate(records):
                await storer.create(f"k{number}", record)
            for number, record in enumerate(records):
                proxy.delay = 0.05
                proxy.tally.reset()
                async with anyio.create_task_group() as group:
                    group.start_soon(storer.read, f"k{(number + 1) % 20}")
                    while not proxy.round_trips:
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
                proxy.delay = 0.0
                assert await storer.read(f"k{number}") == record
            await storer.aclose()

    @pytest.mark.parametrize("size", [1, 2, 3])
    async def test_a_small_pool_keeps_connections_for_others(
        self, valkey_server: ValkeyServer, redis_prefix: str, size: int
    ) -> None:
        """S13: three storers that are open, and the application, on one client."""
        async with Redis(port=valkey_server.port, max_connections=size) as client:
            storers = [RedisStorer(client, prefix=f"{redis_prefix}{number}") for number in range(3)]
            for storer in storers:
                await storer.open()
            await client.set(f"{redis_prefix}x", "1")
            for storer in storers:
                assert await storer.create("k", a_record())
                await storer.aclose()
            assert in_use(client) == 0


class TestASharedPool:
    async def test_two_storers_on_one_client_wait_their_turn(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S13: a pool that the other one uses is no failure; pages of lists do not share trips."""
        async with Redis(port=valkey_server.port, max_connections=3) as client:
            storers = [RedisStorer(client, prefix=f"{redis_prefix}{number}") for number in range(2)]
            await race(100, lambda number: storers[number % 2].list_by_owner(f"user{number}"))

    async def test_the_application_beside_us_may_use_all_connections_for_a_while(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S13: we wait until one is free, or the time-out is up."""
        async with Redis(port=valkey_server.port, max_connections=2) as client, Redis(port=valkey_server.port) as other:
            storer = RedisStorer(client, prefix=redis_prefix)
            impatient = RedisStorer(client, prefix=redis_prefix, timeout=timedelta(seconds=0.1))
            done: list[bool] = []

            async def create() -> None:
                done.append(await storer.create("k", a_record()))

            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(hold, client, f"{redis_prefix}list")
                while in_use(client) < 2:
                    await anyio.lowlevel.checkpoint()
                group.start_soon(create)
                with pytest.raises(StorerError, match=r"within 0\.1 s"):
                    await impatient.read("k")
                assert not done
                await cast("Any", other).rpush(f"{redis_prefix}list", 1, 2)
            assert done == [True]


class TestTheClocks:
    async def test_a_clock_that_is_ahead_empties_no_index(self, redis_client: Redis, redis_prefix: str) -> None:
        """S15: what only one application server takes for expired lives on, and "log out everywhere" ends it."""
        right = RedisStorer(redis_client, prefix=redis_prefix)
        ahead = RedisStorer(redis_client, prefix=redis_prefix, clock=lambda: time.time() + 2 * DAY)
        await right.create("k", a_record("ann"))
        (index,) = await cast("Any", redis_client).keys(f"{redis_prefix}u#*")
        now = int(time.time())
        await redis_client.zadd(index, {"k": now + 1000 + (now - 5000) % 2**20 / 2**20})  # written long ago
        assert await ahead.list_by_owner("ann") == []
        assert [key for key, _ in await right.list_by_owner("ann")] == ["k"]
        assert await right.delete_by_owner("ann") == 1
        assert await right.read("k") is None


class TestTheUserIndex:
    async def test_a_logout_leaves_no_entry(self, redis_client: Redis, redis_prefix: str) -> None:
        """S15: nor do hundreds; and another's entry stays."""
        storer = RedisStorer(redis_client, prefix=redis_prefix)
        for number in range(100):
            await storer.create(f"k{number}", a_record("ann"))
            assert await storer.delete(f"k{number}")
        assert await cast("Any", redis_client).keys(f"{redis_prefix}*") == []

    async def test_a_session_that_comes_back_at_once_keeps_its_entry(
        self, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S15: created anew between a delete and the forgetting of its entry."""
        storer = RedisStorer(redis_client, prefix=redis_prefix)
        await storer.create("k", a_record("ann"))
        await storer._forget(storer._servers.here(), "k", b"ann")
        assert [key for key, _ in await storer.list_by_owner("ann")] == ["k"]


class TestAFullServer:
    async def test_the_memory_limit_holds(self) -> None:
        """S13: writes are refused once the memory is full; sessions are read, touched and ended all the same."""
        with valkey(maxmemory="12mb", maxmemory_policy="noeviction") as server:
            async with Redis(port=server.port) as client:
                storer = RedisStorer(client)
                await storer.open()
                assert storer.durable
                first = a_record("ann", value=bytes(10_000), lives=60.0)
                await storer.create("k", first)
                refused: list[str] = []
                for number in range(3000):
                    try:
                        await storer.create(f"k{number}", a_record("ann", value=bytes(10_000)))
                    except StorerError as error:
                        refused.append(str(error))
                assert len(refused) > 1000
                assert all("OutOfMemory" in error for error in refused)
                assert int(server.ask("INFO", "memory")["used_memory"]) < 16_000_000

                later = first.seen_at + 90 * DAY
                assert await storer.touch("k", seen_at=first.seen_at + 1, expires_at=later)
                found = await storer.read("k")
                assert found is not None
                assert (found.seen_at, found.expires_at) == (first.seen_at + 1, later)
                assert await client.ttl("session:s#k") > 80 * DAY
                assert await storer.touch("k", seen_at=first.seen_at + 2, expires_at=later)
                assert await storer.delete("k")
                await storer.aclose()

    async def test_revocations_on_a_server_that_evicts_are_refused_and_the_policy_is_named(self) -> None:
        """F16: at `open`, when it is known."""
        with valkey(maxmemory="100mb", maxmemory_policy="volatile-lru") as server:
            async with Redis(port=server.port) as client:
                store = CookieOverseer(dict[str, str], AESGCMSealer(os.urandom(32)), revocations=RedisStorer(client))
                with pytest.raises(ConfigError, match="evict: volatile-lru"):
                    async with store:
                        pass
                assert in_use(client) == 0


class TestURLs:
    async def test_sentinels_are_asked_for_the_primary(self) -> None:
        """S16: and everything is closed afterwards."""
        with valkey() as server, valkey_sentinel(server, "shop") as watcher:
            storer = storer_from_url(f"redis+sentinel://{watcher.host}:{watcher.port}/shop/1")
            assert isinstance(storer, RedisStorer)
            await storer.open()
            assert await storer.create("k", a_record())
            assert "db1" in server.ask("INFO", "keyspace")
            await storer.aclose()
            until(lambda: drivers_at(server) == drivers_at(watcher) == 1, "the end of all connections but who asks")

    @pytest.mark.parametrize("protocol", [2, 3])
    async def test_a_socket_s_path_may_be_a_host_and_each_protocol_will_do(self, protocol: int) -> None:
        """S16, S15: percent-encoded, upper case and all; lists are read in either protocol."""
        with tempfile.TemporaryDirectory(prefix="Valkey") as folder, valkey(unixsocket=f"{folder}/S") as server:
            host = quote(f"{folder}/S", safe="")
            storer = storer_from_url(f"redis://{host}/1?protocol={protocol}")
            assert isinstance(storer, RedisStorer)
            await storer.open()
            assert await storer.create("k", a_record("ann"))
            assert [key for key, _ in await storer.list_by_owner("ann")] == ["k"]
            assert await collected(storer.keys()) == {"k"}
            assert "db1" in server.ask("INFO", "keyspace")
            await storer.aclose()


class TestAnACL:
    @pytest.fixture(params=["valkey", "redis-server"])
    async def server(self, request: pytest.FixtureRequest) -> AsyncIterator[ValkeyServer]:
        """Valkey, and Debian's Redis, whose scripts are not told which command was refused."""
        name: str = request.param
        binary = None if name == "valkey" else shutil.which(name)
        if binary is None and name != "valkey":
            pytest.skip(f"no {name}: apt-get install {name}")
        with valkey(binary=binary) as server:
            yield server

    async def test_all_works_under_exactly_the_acl_that_docs_list(self, server: ValkeyServer) -> None:
        """S13: `~prefix*` and COMMANDS, nothing else."""
        page = Path(__file__).parents[2] / "docs" / "storage.md"
        (listed,) = re.findall(r"```text\n~PREFIX\* (.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        assert listed.split() == COMMANDS.split()
        server.ask("ACL", "SETUSER", "app", "on", ">pass", "~shop:*", *COMMANDS.split())
        async with Redis(port=server.port, username="app", password="pass") as client:
            storer = RedisStorer(client, prefix="shop:")
            await storer.open()
            first, second = a_record("ann"), a_record("ben")
            assert await storer.create("k", first)
            assert await storer.replace("k", second, version=first.version)
            assert all(await race(10, lambda _: storer.read("k")))
            assert await storer.touch("k", seen_at=second.seen_at, expires_at=second.seen_at + 90 * DAY)
            assert await storer.touch("k", seen_at=second.seen_at, expires_at=None)
            assert await collected(storer.keys()) == {"k"}
            assert [key for key, _ in await storer.list_by_owner("ben")] == ["k"]
            assert await storer.delete_by_owner("ben") == 1
            assert await storer.create("k", first)
            assert await storer.delete("k")
            await storer.aclose()
        assert all(key.startswith(b"shop:u#") for key in server.ask("KEYS", "*")), "nothing else is left"

    async def test_another_database_and_replicas_need_one_command_more(self, server: ValkeyServer) -> None:
        """S13: `+select`, or `+wait`: with it all works, without it the message names it."""
        with valkey(replicaof=f"{server.host} {server.port}") as replica:
            until(lambda: bool(replica.ask("INFO", "replication")["master_link_status"] == "up"), "replication")
            for command, database, replicas in (("select", 3, 0), ("wait", 0, 1)):
                server.ask("ACL", "SETUSER", "app", "reset", "on", ">pass", "~shop:*", *COMMANDS.split())
                async with Redis(port=server.port, db=database, username="app", password="pass") as client:
                    storer = RedisStorer(client, prefix="shop:", wait_replicas=replicas)
                    with pytest.raises((ConfigError, StorerError)) as caught:
                        await storer.open()
                    assert command in f"{caught.value} {caught.value.__cause__}"
                    server.ask("ACL", "SETUSER", "app", f"+{command}")
                    await storer.open()
                    assert await storer.create("k", a_record("ann"))
                    assert await storer.delete("k")
                    await storer.aclose()

    @pytest.mark.parametrize("command", sorted({word[1:] for word in COMMANDS.split()} - {"persist", "scan", "info"}))
    async def test_what_is_missing_is_named_at_open(self, server: ValkeyServer, command: str) -> None:
        """S13: and so is what suffices."""
        allowed = [word for word in COMMANDS.split() if word != f"+{command}"]
        server.ask("ACL", "SETUSER", "app", "on", ">pass", "~shop:*", *allowed)
        async with Redis(port=server.port, username="app", password="pass") as client:
            with pytest.raises(ConfigError, match=rf"'{command}'.*~shop:\* .*\+{command}"):
                await RedisStorer(client, prefix="shop:").open()
            with pytest.raises(ConfigError, match=r"~other:\*"):
                await RedisStorer(client, prefix="other:").open()

    async def test_open_leaves_nothing_behind_and_shows_nothing(self, server: ValkeyServer) -> None:
        """S13, S17: what it wrote to see whether it can."""
        async with Redis(port=server.port) as client:
            storer = RedisStorer(client)
            await storer.open()
            assert server.ask("KEYS", "*") == []
            await storer.aclose()


def drivers_at(server: ValkeyServer) -> int:
    """How many connections of redis-py a server has."""
    return cast("bytes", server.ask("CLIENT", "LIST")).count(b"lib-name=redis-py")


def in_use(client: Redis) -> int:
    """How many connections of the pool are taken."""
    (_, (taken, _)) = cast("Any", client.connection_pool).get_connection_count()  # redis-py gives it no types
    return int(taken)
