"""RedisStorer on a real Valkey server: the storer suites, and what only Redis has to promise."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites_storer import (
    Clock,
    ListableSuite,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
)
from tests.storers.redis_fixtures import anyio_backend, client, prefix, valkey_server

pytestmark = pytest.mark.anyio


class TestRedisStorer(StorerSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    waits = True
    cancellations = 300

    @pytest.fixture
    async def storer(self, client: Redis, prefix: str) -> AsyncIterator[RedisStorer]:
        storer = RedisStorer(client, prefix=prefix)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, client: Redis, prefix: str) -> RedisStorer:
        return RedisStorer(client, prefix=prefix + "s#")
