"""SQLiteStorer: the storer suites, and what one file and several processes add to them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiosessions import SQLiteStorer
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
)

pytestmark = pytest.mark.anyio


class TestSQLiteStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def storer(self, tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStorer]:
        storer = SQLiteStorer(tmp_path / "sessions.db", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStorer]:
        storer = SQLiteStorer(tmp_path / "neighbour.db", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()
