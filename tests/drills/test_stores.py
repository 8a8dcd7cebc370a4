"""Every promise of a store, over every real backend."""

import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from redis.asyncio import RedisCluster

from aiosessions import StorageOverseer, Storer, storer_from_url
from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites import MovableClock, StoreSuite
from aiosessions.testing.suites_store import MakeStore
from tests.conftest import ASYNCIO, UVLOOP
from tests.drills.backends import Backend

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """The drivers are for asyncio."""
    return request.param


class _OnServers(StoreSuite):
    """The overseer's clock is moved; the servers' own goes on, and only forgets what has ended in any case."""

    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock(time.time())


def over(storer: Storer, clock: MovableClock) -> MakeStore:
    """Stores that share a storer."""

    def make(value_type: type[Any], **options: Any) -> StorageOverseer[Any]:
        return StorageOverseer(value_type, storer, clock=clock.now, **options)

    return make


class _OnBackends(_OnServers):
    @pytest.fixture
    async def make_store(self, backend: Backend, clock: MovableClock) -> AsyncIterator[MakeStore]:
        storer = storer_from_url(backend.url)
        async with StorageOverseer(str, storer):  # holds it open for the others
            yield over(storer, clock)


@pytest.mark.parametrize("backend", ["disk", "sqlite", "valkey", "postgres"], indirect=True)
class TestStores(_OnBackends):
    pass


@pytest.mark.parametrize("backend", ["memcached"], indirect=True)
class TestStoresOnMemcached(_OnBackends):
    lists: ClassVar[bool] = False


class TestStoresOnACluster(_OnServers):
    @pytest.fixture
    async def make_store(
        self, redis_cluster_client: RedisCluster, redis_prefix: str, clock: MovableClock
    ) -> AsyncIterator[MakeStore]:
        storer = RedisStorer(redis_cluster_client, prefix=redis_prefix)
        async with StorageOverseer(str, storer):
            yield over(storer, clock)
