"""What every storer promises, for SQLAlchemyStorer: inherit the suites it claims, and give them a storer."""

import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosessions_sqlalchemy import SQLAlchemyStorer
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from aiosessions import ConfigError, StorageOverseer, StorerError, storer_from_url
from aiosessions.testing import signed_in
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


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/sessions.db", hide_parameters=True)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:  # Any: the driver's
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")  # what a disk takes is not the question here

    yield engine
    await engine.dispose()


class TestSQLAlchemyStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    cancellations = 20
    crowd = 250

    @pytest.fixture
    async def storer(self, engine: AsyncEngine, clock: MovableClock) -> AsyncIterator[SQLAlchemyStorer]:
        storer = SQLAlchemyStorer(engine, clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, engine: AsyncEngine, clock: MovableClock) -> AsyncIterator[SQLAlchemyStorer]:
        storer = SQLAlchemyStorer(engine, table="others", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()


async def test_a_session_and_the_applications_own_rows_are_written_together_or_not_at_all(engine: AsyncEngine) -> None:
    """With the connection of the application's ORM session; outside of the block everything is as ever."""
    storer = SQLAlchemyStorer(engine)
    store = StorageOverseer(dict[str, int], storer)
    orders = sa.Table("orders", sa.MetaData(), sa.Column("product", sa.String(20)))

    async def buy(product: str, *, is_refused: bool) -> None:
        async with AsyncSession(engine) as database, database.begin():
            await database.execute(orders.insert().values(product=product))
            with storer.using(await database.connection()):
                session = await store.open(info.handle, user_id="ann")
                session[product] = 1
                await store.save(session)
                assert (await store.open(info.handle, user_id="ann")).value[product] == 1
            if is_refused:
                raise RuntimeError("the card was refused")

    async with store:
        async with engine.begin() as connection:
            await connection.run_sync(orders.metadata.create_all)
        await signed_in(store, "ann", {"visits": 1})
        (info,) = await store.user_sessions("ann")
        await buy("tea", is_refused=False)
        with pytest.raises(RuntimeError, match="refused"):
            await buy("gold", is_refused=True)
        assert (await store.open(info.handle, user_id="ann")).value == {"visits": 1, "tea": 1}
        async with engine.connect() as connection:
            assert (await connection.execute(sa.select(orders))).all() == [("tea",)]


async def test_a_failure_is_a_storer_error_and_shows_no_value(tmp_path: Path, clock: MovableClock) -> None:
    """The table is not there, and then the database is none."""
    (tmp_path / "diary.db").write_text("dear diary, " * 1000)
    storer = storer_from_url(f"sqlalchemy:sqlite+aiosqlite:///{tmp_path}/diary.db")
    secret = StorerSuite().record(clock, value=b"hunter2")
    for call in (storer.read("k"), storer.create("k", secret), storer.delete("k")):
        with pytest.raises(StorerError) as caught:
            await call
        assert isinstance(caught.value.__cause__, SQLAlchemyError)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert isinstance(storer, SQLAlchemyStorer)
    await storer.aclose()


async def test_a_url_finds_it(tmp_path: Path) -> None:
    """Through the entry point of the installed package; what it opened is closed with it."""
    storer = storer_from_url(f"sqlalchemy:sqlite+aiosqlite:///{tmp_path}/a.db")
    assert isinstance(storer, SQLAlchemyStorer)
    await storer.open()
    assert await storer.read("k") is None
    await storer.aclose()


@pytest.mark.parametrize(
    "url", ["sqlalchemy:", "sqlalchemy:sqlite:///a.db", "sqlalchemy:nosuch+driver://ann:hunter2@db"]
)
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        storer_from_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_time_out_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="timeout="):
        SQLAlchemyStorer(create_async_engine("sqlite+aiosqlite://"), timeout=0)
