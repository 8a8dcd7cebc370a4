"""RedisStorer on a real Valkey server: the storer suites, and what only Redis has to promise."""

import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import pytest
import redis
from msgspec.structs import replace as changed
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.cluster import LoadBalancingStrategy

from aiosessions._errors import ConfigError, StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import (
    ListableSuite,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
    collected,
    race,
)
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.servers import ValkeyServer, valkey

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """redis-py is for asyncio."""
    return request.param


class TestRedisStorer(StorerSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    waits = True
    shortest = 0.25
    cancellations = 300

    @pytest.fixture
    async def storer(self, redis_client: Redis, redis_prefix: str) -> AsyncIterator[RedisStorer]:
        storer = RedisStorer(redis_client, prefix=redis_prefix)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, redis_client: Redis, redis_prefix: str) -> RedisStorer:
        return RedisStorer(redis_client, prefix=redis_prefix + "s#")


def a_record(owner: str | None = None, *, value: bytes = b"{}", lives: float | None = 3600.0) -> Record:
    now = time.time()
    return Record(value, b"", owner, now, now, None if lives is None else now + lives, new_version())


def sentinel(**options: str) -> Any:  # Any: redis-py's Sentinel has no types
    return cast("Any", Sentinel)([("127.0.0.1", 1)], **options)


@pytest.fixture
async def storer(redis_client: Redis, redis_prefix: str) -> RedisStorer:
    return RedisStorer(redis_client, prefix=redis_prefix)


async def index_of(client: Redis, prefix: str) -> bytes:
    """The key of the one user index under *prefix*."""
    key: bytes
    (key,) = await cast("Any", client).keys(f"{prefix}u#*")  # redis-py gives it no types
    return key


async def members_of(client: Redis, index: bytes) -> set[bytes]:
    return set(await cast("Any", client).zrange(index, 0, -1))  # as above


class TestRoundTrips:
    async def test_each_call_is_one_round_trip(self, valkey_server: ValkeyServer, redis_prefix: str) -> None:
        """R4, DESIGN 4: read 1, write 2 with its read, login 2 with its read, later write of a logged-in session 2."""
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix)
            await storer.create("warm", a_record("ann"))
            await storer.touch("warm", seen_at=time.time(), expires_at=time.time() + 7200)
            await storer.delete("warm")

            first, login, later = a_record(), a_record("ann"), a_record("ann")
            proxy.tally.reset()
            assert await storer.read("k") is None
            assert proxy.round_trips == 1, "an unknown session"
            assert await storer.create("k", first)
            assert proxy.round_trips == 2, "a new session"
            assert await storer.read("k") == first
            assert proxy.round_trips == 3, "a session that is only read"
            assert await storer.replace("k", login, version=first.version)
            assert proxy.round_trips == 4, "a login: 2 with the read before it, index included"
            assert await storer.replace("k", later, version=login.version)
            assert proxy.round_trips == 5, "a later write of a logged-in session: 2 with its read"
            assert await storer.touch("k", seen_at=later.seen_at + 60, expires_at=time.time() + 7200)
            assert proxy.round_trips == 6, "a touch"
            assert await storer.delete("k")
            assert proxy.round_trips == 8, "a logout, and the entry in the user's index"

    @pytest.mark.parametrize("anyio_backend", [UVLOOP], indirect=True)
    async def test_many_sessions_of_a_user_travel_by_the_page(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S15: a user with 10 000 sessions."""
        async with Proxy(valkey_server.host, valkey_server.port) as proxy, Redis(port=proxy.port) as client:
            storer = RedisStorer(client, prefix=redis_prefix)
            record = a_record("ann")

            async def log_in(number: int) -> None:
                for turn in range(500):
                    await storer.create(f"k{number}.{turn}", record)

            await race(20, log_in)
            proxy.tally.reset()
            assert len(await storer.list_by_owner("ann")) == 10_000
            assert 22 <= proxy.round_trips <= 25, "20 pages of records, and names in pages too"
            proxy.tally.reset()
            assert await storer.delete_by_owner("ann", keep="k7.7") == 9_999
            assert proxy.round_trips <= 50
            assert [key for key, _ in await storer.list_by_owner("ann")] == ["k7.7"]


class TestTheUserIndex:
    async def test_touches_carry_the_index_along(
        self, storer: RedisStorer, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S15: a session that is only ever touched stays in its owner's index, for as long as it lives."""
        record = a_record("ann", lives=60.0)
        await storer.create("k", record)
        index = await index_of(redis_client, redis_prefix)
        assert await redis_client.ttl(index) < 4 * 86_400
        assert await storer.touch("k", seen_at=record.seen_at, expires_at=record.seen_at + 30 * 86_400)
        assert await redis_client.ttl(index) > 60 * 86_400
        assert await storer.touch("k", seen_at=record.seen_at, expires_at=None)
        assert await redis_client.ttl(index) == -1, "a session that persists needs an index that does"
        assert await redis_client.ttl(f"{redis_prefix}s#k") == -1
        assert [key for key, _ in await storer.list_by_owner("ann")] == ["k"]

    async def test_the_index_of_a_user_who_never_comes_back_expires(
        self, storer: RedisStorer, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S15: but after the last session that it names, touches included."""
        await storer.create("short", a_record("ann", lives=60.0))
        await storer.create("long", a_record("ann", lives=90 * 86_400.0))
        await storer.create("short", a_record("ann", lives=60.0))
        assert await redis_client.ttl(await index_of(redis_client, redis_prefix)) > 180 * 86_400

    async def test_a_refused_write_does_not_shorten_an_entry(
        self, storer: RedisStorer, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S15: in a cluster the entry is written before it is known whether the record will be."""
        await storer.create("k", a_record("ann", lives=90 * 86_400.0))
        index = await index_of(redis_client, redis_prefix)
        before = await redis_client.zscore(index, "k")
        record = a_record("ann", lives=60.0)
        assert await storer._servers.here().call([[storer._index("k", b"ann", record.seen_at, record.expires_at)]])
        after = await redis_client.zscore(index, "k")
        assert before is not None
        assert after is not None
        assert int(after) >= int(before)

    async def test_stale_entries_heal_but_never_young_ones(self, redis_client: Redis, redis_prefix: str) -> None:
        """S15: an entry without a record may belong to a login that is under way, for twice the time-out."""
        storer = RedisStorer(redis_client, prefix=redis_prefix, timeout=timedelta(seconds=5))
        await storer.create("live", a_record("ann"))
        index, now = await index_of(redis_client, redis_prefix), int(time.time())
        entries = {
            "young": now + 1000 + now % 2**20 / 2**20,
            "nine seconds": now + 1000 + (now - 9) % 2**20 / 2**20,
            "old": now + 1000 + (now - 15) % 2**20 / 2**20,
            "due": now - 1 + (now - 9) % 2**20 / 2**20,
            "from a clock that was ahead": now + 1000 + (now + 20) % 2**20 / 2**20,
        }
        await redis_client.zadd(index, entries)
        assert [key for key, _ in await storer.list_by_owner("ann")] == ["live"]
        assert await members_of(redis_client, index) == {
            b"live",
            b"young",
            b"nine seconds",
            b"due",
            b"from a clock that was ahead",
        }
        await storer.create("another", a_record("ann"))
        assert b"due" not in await members_of(redis_client, index), "what is due leaves as others come"

    async def test_a_live_record_is_never_healed_away(
        self, storer: RedisStorer, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S15: however old its entry is."""
        await storer.create("k", a_record("ann"))
        index, now = await index_of(redis_client, redis_prefix), int(time.time())
        await redis_client.zadd(index, {"k": now + 1000 + (now - 500_000) % 2**20 / 2**20})
        for _ in range(2):
            assert [key for key, _ in await storer.list_by_owner("ann")] == ["k"]


class TestTheClock:
    async def test_the_server_counts_down_whatever_an_application_servers_clock_says(
        self, redis_client: Redis, redis_prefix: str
    ) -> None:
        """X5: a clock that is two days off shortens nobody's session."""
        now = 0.0
        storer = RedisStorer(redis_client, prefix=redis_prefix, clock=lambda: now)
        for now in (time.time() - 172_800, time.time() + 172_800):
            record = Record(b"{}", b"", None, now, now, now + 60, new_version())
            await storer.create(f"k{now}", record)
            assert await storer.read(f"k{now}") == record
            assert 55 <= await redis_client.ttl(f"{redis_prefix}s#k{now}") <= 60

    async def test_what_came_late_still_ends_at_its_deadline(self, redis_client: Redis, redis_prefix: str) -> None:
        """S9: for every method; a clock that is ahead deletes nothing."""
        now = time.time()
        storer = RedisStorer(redis_client, prefix=redis_prefix, clock=lambda: now)
        record = a_record("ann", lives=60.0)
        await storer.create("k", record)
        now += 61
        assert await storer.read("k") is None
        assert await storer.list_by_owner("ann") == []
        assert not await storer.touch("k", seen_at=now, expires_at=now + 60)
        assert not await storer.replace("k", a_record(), version=record.version)
        assert await redis_client.exists(f"{redis_prefix}s#k")
        now -= 61
        assert await storer.read("k") == record


class TestKeys:
    async def test_prefixes_that_look_like_each_others_keys_never_meet(
        self, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S17, S19, S11: prefixes and keys made of the very characters that part them."""
        parts = ("", "s#", "u#", "s#s#", "a", "as#", "#", "%23", "*", "a:s#")
        storers = {part: RedisStorer(redis_client, prefix=redis_prefix + part) for part in parts}
        for storer in storers.values():
            for key in parts:
                assert await storer.create(key, a_record("ann")), "a neighbour's key is in the way"
        for storer in storers.values():
            assert await collected(storer.keys()) == set(parts)
            assert len(await storer.list_by_owner("ann")) == len(parts)

    async def test_what_is_no_record_is_an_error_and_no_logout(
        self, storer: RedisStorer, redis_client: Redis, redis_prefix: str
    ) -> None:
        """S13: a record of a later version of this library, a foreign value, a foreign type."""
        await redis_client.set(f"{redis_prefix}s#newer", b"\x02" + bytes(100))
        await redis_client.set(f"{redis_prefix}s#foreign", "x")
        await redis_client.lpush(f"{redis_prefix}s#list", "x")
        for key in ("newer", "foreign", "list"):
            with pytest.raises(StorerError):
                await storer.read(key)
        with pytest.raises(StorerError):
            await storer.create("foreign", a_record())


class TestConstruction:
    def test_what_cannot_work_is_refused(self) -> None:
        """F10: the message names the argument and the fix."""
        client = Redis()
        with pytest.raises(ConfigError, match=r"redis\.asyncio"):
            RedisStorer(cast("Redis", redis.Redis()))
        with pytest.raises(ConfigError, match="without decode_responses=True"):
            RedisStorer(Redis(decode_responses=True))
        with pytest.raises(ConfigError, match="without decode_responses=True"):
            RedisStorer(RedisCluster(host="127.0.0.1", decode_responses=True))
        with pytest.raises(ConfigError, match="load_balancing_strategy"):
            RedisStorer(RedisCluster(host="127.0.0.1", load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN))
        with pytest.raises(ConfigError, match="master_for"):
            RedisStorer(sentinel().slave_for("shop"))
        with pytest.raises(ConfigError, match="timeout"):
            RedisStorer(client, timeout=timedelta(0))
        with pytest.raises(ConfigError, match="wait_replicas"):
            RedisStorer(client, wait_replicas=-1)

    def test_repr_and_errors_name_the_server_and_no_password(self) -> None:
        """V8: for each kind of client."""
        for client, where in (
            (cast("Any", Redis).from_url("redis://ann:hunter2@example.org:7777/3"), "example.org:7777"),
            (Redis(unix_socket_path="/run/valkey", password="hunter2"), "/run/valkey"),
            (RedisCluster(host="127.0.0.1", port=7001, password="hunter2"), "127.0.0.1:7001"),
            (sentinel(password="hunter2").master_for("shop"), "'shop'"),
        ):
            text = repr(RedisStorer(client))
            assert where in text
            assert "hunter2" not in text


class TestOpening:
    async def test_a_server_that_is_not_there_is_named(self) -> None:
        """S13: with host and port, and within the time-out."""
        async with Redis(host="127.0.0.1", port=1, password="hunter2") as client:
            storer = RedisStorer(client, timeout=timedelta(seconds=0.3))
            with pytest.raises(StorerError, match=r"127\.0\.0\.1:1") as caught:
                await storer.open()
        assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"

    async def test_a_wrong_password_is_named_and_not_shown(self) -> None:
        """S13, V8: none, a wrong one, and the right one."""
        with valkey(requirepass="hunter2") as server:
            for password in (None, "hunter3"):
                async with Redis(port=server.port, password=password) as client:
                    with pytest.raises(StorerError, match=f"localhost:{server.port} refuses") as caught:
                        await RedisStorer(client, timeout=timedelta(seconds=0.5)).open()
                    assert "hunter" not in f"{caught.value!r} {caught.value.__cause__!r}"
            async with Redis(port=server.port, password="hunter2") as client:
                await RedisStorer(client).open()

    @pytest.mark.parametrize(
        ("options", "durable"),
        [
            ({"maxmemory": "100mb", "maxmemory_policy": "allkeys-lru"}, False),
            ({"maxmemory": "100mb", "maxmemory_policy": "volatile-ttl"}, False),
            ({"maxmemory": "100mb", "maxmemory_policy": "noeviction"}, True),
            ({"maxmemory": "0", "maxmemory_policy": "allkeys-lru"}, True),
        ],
    )
    async def test_a_server_that_evicts_is_warned_about_and_not_durable(
        self, caplog: pytest.LogCaptureFixture, options: dict[str, str], durable: bool
    ) -> None:
        """S9, F16: an evicted session is an absent one, and an evicted denial a session that comes back."""
        with valkey(**options) as server:
            async with Redis(port=server.port) as client:
                storer = RedisStorer(client)
                with caplog.at_level(logging.WARNING, "aiosessions"):
                    await storer.open()
                assert storer.durable is durable
        assert (options["maxmemory_policy"] in caplog.text) is not durable
        assert ("noeviction" in caplog.text) is not durable

    async def test_a_server_that_does_not_want_to_be_asked_is_opened_all_the_same_and_not_durable(self) -> None:
        """S16, F16: hosted servers forbid INFO; nobody knows then whether they evict."""
        with valkey() as server:
            server.ask("ACL", "SETUSER", "default", "-info")
            async with Redis(port=server.port) as client:
                storer = RedisStorer(client)
                before = storer.durable
                await storer.open()
                assert (before, storer.durable) == (True, False)
                assert await storer.create("k", a_record())

    async def test_a_replica_is_refused(self, valkey_server: ValkeyServer) -> None:
        """S16: it could not write, and might not know of a logout."""
        with valkey(replicaof=f"{valkey_server.host} {valkey_server.port}") as replica:
            async with Redis(port=replica.port) as client:
                with pytest.raises(ConfigError, match="primary"):
                    await RedisStorer(client).open()

    async def test_the_callers_client_stays_open_and_an_owned_one_is_closed(
        self, valkey_server: ValkeyServer, redis_prefix: str
    ) -> None:
        """S16: at the last of several."""
        for owned in (False, True):
            client = Redis(port=valkey_server.port)
            storer = RedisStorer(client, prefix=redis_prefix, owns_client=owned)
            await storer.open()
            await storer.open()
            await storer.read("k")
            await storer.aclose()
            pool = cast("Any", client.connection_pool)  # its connections have no public name
            assert any(connection.is_connected for connection in pool._available_connections)
            await storer.aclose()
            assert any(connection.is_connected for connection in pool._available_connections) is not owned
            await client.aclose()


class TestThePool:
    @pytest.mark.parametrize("blocking", [False, True])
    async def test_more_requests_than_connections_wait_their_turn(
        self, valkey_server: ValkeyServer, redis_prefix: str, blocking: bool
    ) -> None:
        """S13: a pool that is in use is no failure."""
        if blocking:
            client = Redis.from_pool(BlockingConnectionPool(port=valkey_server.port, max_connections=3))
        else:
            client = Redis(port=valkey_server.port, max_connections=3)
        async with client:
            storer = RedisStorer(client, prefix=redis_prefix)
            assert all(await race(100, lambda number: storer.create(f"k{number}", a_record())))

    async def test_a_value_may_be_as_large_as_an_overseer_lets_it_be(self, storer: RedisStorer) -> None:
        """S2, S18: the server's limit is 512 MB."""
        record = a_record("ann", value=bytes(5_000_000))
        await storer.create("k", record)
        later = changed(record, version=new_version())
        assert await storer.replace("k", later, version=record.version)
        assert await storer.read("k") == later
