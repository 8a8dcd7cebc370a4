"""DiskStorer: the storer suites, and what files and several processes add to them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiosessions.storers.disk import DiskStorer
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
)
from tests.conftest import ASYNCIO, UVLOOP

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: see tests/conftest.py
    return request.param


class TestDiskStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def storer(self, tmp_path: Path, clock: Clock) -> AsyncIterator[DiskStorer]:
        storer = DiskStorer(tmp_path / "sessions", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, tmp_path: Path, clock: Clock) -> DiskStorer:
        return DiskStorer(tmp_path / "neighbour", clock=clock.now)
