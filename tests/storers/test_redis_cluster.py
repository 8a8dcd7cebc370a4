"""RedisStorer on a real Valkey cluster."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import RedisCluster

from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites_storer import ListableSuite, OpenableSuite, StorerSuite, UserIndexedSuite
from tests.conftest import ASYNCIO, UVLOOP

pytest_plugins = ["tests.storers.redis_fixtures"]
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
