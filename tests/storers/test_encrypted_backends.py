"""EncryptedStorer over each backend with a driver: every promise of a storer, owners in clear and hashed."""

from pathlib import Path
from typing import Any

import asyncpg
import emcache
import pytest
from redis.asyncio import Redis, RedisCluster

from aiosessions import DiskStorer, SQLiteStorer
from aiosessions.storers.memcached import MemcachedStorer
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
)
from tests import servers_memcached, servers_sql
from tests.conftest import ASYNCIO
from tests.storers.test_encrypted import Encrypted
from tests.storers.test_memcached import client
from tests.storers.test_postgres import MovedBackClock, pool

__all__ = ["client", "pool"]

pytestmark = pytest.mark.anyio
memcached_server = servers_memcached.memcached_server
postgres_server = servers_sql.postgres_server


@pytest.fixture(scope="module", params=[ASYNCIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: as in conftest
    """The drivers are for asyncio; uvloop has its turn in the storers' own suites."""
    return request.param


class TestOverDisk(Encrypted, StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def inner(self, tmp_path: Path, clock: Clock) -> DiskStorer:
        return DiskStorer(tmp_path / "sessions", clock=clock.now)

    @pytest.fixture
    async def beside(self, tmp_path: Path, clock: Clock) -> DiskStorer:
        return DiskStorer(tmp_path / "neighbour", clock=clock.now)


class TestOverSQLite(Encrypted, StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def inner(self, tmp_path: Path, clock: Clock) -> SQLiteStorer:
        return SQLiteStorer(tmp_path / "sessions.db", clock=clock.now)

    @pytest.fixture
    async def beside(self, tmp_path: Path, clock: Clock) -> SQLiteStorer:
        return SQLiteStorer(tmp_path / "neighbour.db", clock=clock.now)


class _OverRedis(Encrypted, StorerSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    waits = True
    shortest = 0.25

    @pytest.fixture
    async def inner(self, redis: Redis | RedisCluster, redis_prefix: str) -> RedisStorer:
        return RedisStorer(redis, prefix=redis_prefix)

    @pytest.fixture
    async def beside(self, redis: Redis | RedisCluster, redis_prefix: str) -> RedisStorer:
        return RedisStorer(redis, prefix=redis_prefix + "s#")


class TestOverValkey(_OverRedis):
    @pytest.fixture
    def redis(self, redis_client: Redis) -> Redis:
        return redis_client


class TestOverACluster(_OverRedis):
    @pytest.fixture
    def redis(self, redis_cluster_client: RedisCluster) -> RedisCluster:
        return redis_cluster_client


class TestOverPostgres(Encrypted, StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    """Without `stores_json`: what the JSONB column is not given comes back byte for byte."""

    @pytest.fixture
    async def clock(self, pool: asyncpg.Pool) -> MovedBackClock:
        return MovedBackClock(pool)

    @pytest.fixture
    async def inner(self, pool: asyncpg.Pool) -> PostgresStorer:
        return PostgresStorer(pool)

    @pytest.fixture
    async def beside(self, pool: asyncpg.Pool) -> PostgresStorer:
        return PostgresStorer(pool, table="others")


class TestOverMemcached(Encrypted, StorerSuite, OpenableSuite):
    durable = False
    max_value = 1024 * 1024

    @pytest.fixture
    async def inner(self, client: emcache.Client, clock: Clock) -> MemcachedStorer:
        return MemcachedStorer(client, clock=clock.now)

    @pytest.fixture
    async def beside(self, client: emcache.Client, clock: Clock) -> MemcachedStorer:
        return MemcachedStorer(client, prefix="session:k", clock=clock.now)
