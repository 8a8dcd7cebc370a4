"""What every storer promises, for SQLiteStorer: inherit the suites it claims, and give them a storer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiosessions_sqlite import SQLiteStorer

from aiosessions import ConfigError, storer_from_url
from aiosessions.testing.suites import (
    CleanableSuite,
    ListableSuite,
    MovableClock,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestSQLiteStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def storer(self, tmp_path: Path, clock: MovableClock) -> AsyncIterator[SQLiteStorer]:
        storer = SQLiteStorer(tmp_path / "sessions.db", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, tmp_path: Path, clock: MovableClock) -> AsyncIterator[SQLiteStorer]:
        storer = SQLiteStorer(tmp_path / "sessions.db", table="others", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()


async def test_a_url_finds_it(tmp_path: Path) -> None:
    """Through the entry point of the installed package."""
    storer = storer_from_url(f"sqlite:{tmp_path}/a.db?table=logins&timeout=2")
    assert isinstance(storer, SQLiteStorer)
    await storer.open()
    assert await storer.read("k") is None
    await storer.aclose()
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("url", ["sqlite:", "sqlite:a.db?colour=red", "sqlite:a.db?timeout=soon", "sqlite:a?table=a-b"])
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        storer_from_url(url)
