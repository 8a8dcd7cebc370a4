"""MemoryStorer: the storer suites, and what only a storer of our own process can promise."""

import pytest

from aiosessions.storers.memory import MemoryStorer
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    StorerSuite,
    UserIndexedSuite,
)

pytestmark = pytest.mark.anyio


class TestMemoryStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite):
    @pytest.fixture
    async def storer(self, clock: Clock) -> MemoryStorer:
        return MemoryStorer(clock=clock.now)

    @pytest.fixture
    async def neighbour(self, clock: Clock) -> MemoryStorer:
        return MemoryStorer(clock=clock.now)
