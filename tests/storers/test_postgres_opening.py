"""What `PostgresStorer.open` finds out before the first request does."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import pytest

from aiosessions._errors import ConfigError, StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.postgres import PostgresStorer, schema_sql
from aiosessions.storers.storer import Record
from tests import servers_sql
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.servers_sql import PostgresServer, pgbouncer, postgres, standby

pytestmark = pytest.mark.anyio
postgres_server = servers_sql.postgres_server


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: as in conftest
    return request.param


@pytest.fixture
async def admin(postgres_server: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    """Who may do everything; what a test makes in the database is gone after it."""
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute("DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN")
    yield connection
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")
    await connection.execute("DROP SCHEMA IF EXISTS own CASCADE; DROP OWNED BY app; DROP ROLE app")
    await connection.close()


@asynccontextmanager
async def closing(storer: PostgresStorer) -> AsyncGenerator[PostgresStorer]:
    """Closed whatever happens: uvloop waits for ever for connections left open."""
    try:
        yield storer
    finally:
        await storer.aclose()


@asynccontextmanager
async def dropping(server: PostgresServer, table: str) -> AsyncGenerator[None]:
    """Drop the table at the end."""
    try:
        yield
    finally:
        connection = await asyncpg.connect(server.url)
        await connection.execute(f"DROP TABLE IF EXISTS {table}")
        await connection.close()


def as_app(server: PostgresServer, options: str = "") -> PostgresStorer:
    """A storer of a role that has only what it is given."""
    return PostgresStorer.from_url(server.url.replace("postgres@", "app@") + options)


def record() -> Record:
    now = float(int(time.time()))
    return Record(b"{}", b"", None, now, now, now + 60, new_version())


# Rights


@pytest.mark.parametrize("missing", ["SELECT", "INSERT", "UPDATE", "DELETE"])
async def test_a_missing_grant_is_named_and_what_it_says_suffices(
    admin: asyncpg.Connection, postgres_server: PostgresServer, missing: str
) -> None:
    """S13: `open` writes, reads and deletes a session, of which nothing is left."""
    await admin.execute(schema_sql())
    granted = ", ".join({"SELECT", "INSERT", "UPDATE", "DELETE"} - {missing})
    await admin.execute(f"GRANT {granted} ON sessions TO app")
    async with closing(as_app(postgres_server)) as storer:
        with pytest.raises(ConfigError, match=rf'run: GRANT {missing} ON "sessions" TO app$') as caught:
            await storer.open()
        await admin.execute(str(caught.value).partition("run: ")[2])
        await storer.open()
        assert await admin.fetchval("SELECT count(*) FROM sessions") == 0
        assert await storer.create("k", record())


async def test_row_level_security_that_hides_what_is_written_is_refused(
    admin: asyncpg.Connection, postgres_server: PostgresServer
) -> None:
    """S13: all rights are there, and still no session comes back."""
    await admin.execute(schema_sql())
    await admin.execute("""
        GRANT ALL ON sessions TO app; ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
        CREATE POLICY write_only ON sessions FOR INSERT TO app WITH CHECK (true)
    """)
    async with closing(as_app(postgres_server)) as storer:
        with pytest.raises(ConfigError, match="row-level security"):
            await storer.open()
        await admin.execute("CREATE POLICY all_rows ON sessions TO app USING (true)")
        await storer.open()


@pytest.mark.parametrize(
    ("options", "prepare"),
    [
        ("&table=own.sessions", ""),
        ("", "ALTER ROLE app SET search_path = own"),
    ],
)
async def test_a_schema_without_usage_is_refused_with_the_grant(
    admin: asyncpg.Connection, postgres_server: PostgresServer, options: str, prepare: str
) -> None:
    """S13: named by its table, and found by the search path."""
    await admin.execute(f"CREATE SCHEMA own; {schema_sql(table='own.sessions')}; {prepare}")
    await admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON own.sessions TO app")
    async with closing(as_app(postgres_server, options)) as storer:
        with pytest.raises(ConfigError, match=r"run: GRANT USAGE ON SCHEMA own TO app$") as caught:
            await storer.open()
        await admin.execute(str(caught.value).partition("run: ")[2])
        await storer.open()


# Transactions


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_stricter_isolation_of_the_role_does_not_reach_a_pool_of_ours(
    admin: asyncpg.Connection, postgres_server: PostgresServer, isolation: str
) -> None:
    """S5: of two that write one session at once the second is told so, and gets no error."""
    await admin.execute(
        f"ALTER ROLE app SET default_transaction_isolation = '{isolation}'; GRANT ALL ON SCHEMA public TO app"
    )
    async with closing(as_app(postgres_server)) as storer:
        await storer.open()
        assert await changed_under_its_feet(storer, admin)


async def test_a_stricter_isolation_of_the_applications_pool_is_refused(
    admin: asyncpg.Connection, postgres_server: PostgresServer
) -> None:
    """S5: the message says what to set, and that suffices."""
    await admin.execute(
        "ALTER ROLE app SET default_transaction_isolation = 'serializable'; GRANT ALL ON SCHEMA public TO app"
    )
    url = postgres_server.url.replace("postgres@", "app@")
    async with asyncpg.create_pool(url, min_size=0) as pool:
        with pytest.raises(ConfigError, match=r"serializable.*default_transaction_isolation.*read committed"):
            await PostgresStorer(pool).open()
    settings = {"default_transaction_isolation": "read committed"}
    async with asyncpg.create_pool(url, min_size=0, server_settings=settings) as pool:
        storer = PostgresStorer(pool)
        await storer.open()
        assert await changed_under_its_feet(storer, admin)


async def changed_under_its_feet(storer: PostgresStorer, admin: asyncpg.Connection) -> bool:
    """Whether a touch that waits for another transaction's write goes through after it."""
    first = record()
    await storer.create("k", first)
    touched = list[bool]()

    async def touch() -> None:
        touched.append(await storer.touch("k", seen_at=first.seen_at, expires_at=None))

    async with anyio.create_task_group() as group, admin.transaction():
        await admin.execute("UPDATE sessions SET meta = 'x'")
        group.start_soon(touch)
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with anyio.fail_after(4):
            while not await admin.fetchval(waits):
                await admin.execute("SELECT pg_stat_clear_snapshot()")
    return touched == [True]


# Poolers


@pytest.mark.parametrize("own", [True, False])
async def test_pgbouncer_that_pools_transactions_is_refused_unless_nothing_is_prepared(
    admin: asyncpg.Connection, postgres_server: PostgresServer, own: bool
) -> None:
    """Issue 9: prepared statements get lost some time later; the message names the setting, and that suffices."""
    with pgbouncer(postgres_server, pool_mode="transaction") as bouncer:
        async with AsyncExitStack() as stack:

            async def storer(size: int) -> PostgresStorer:
                if own:
                    storer = PostgresStorer.from_url(f"{bouncer.url}&statement_cache_size={size}")
                    return await stack.enter_async_context(closing(storer))
                pool = asyncpg.create_pool(bouncer.url, min_size=0, statement_cache_size=size)
                return PostgresStorer(await stack.enter_async_context(pool))

            with pytest.raises(ConfigError, match="statement_cache_size=0"):
                await (await storer(100)).open()
            works = await storer(0)
            await works.open()
            assert await works.create("k", record())
            assert await works.read("k") is not None


async def test_pgbouncer_that_pools_sessions_is_as_good_as_none(
    admin: asyncpg.Connection, postgres_server: PostgresServer
) -> None:
    """Issue 9."""
    with pgbouncer(postgres_server, pool_mode="session") as bouncer:
        async with closing(PostgresStorer.from_url(bouncer.url)) as storer:
            await storer.open()
            assert await storer.create("k", record())


# Several hosts


Hosts = tuple[PostgresServer, PostgresServer]


@pytest.fixture(scope="module")
def hosts(postgres_server: PostgresServer) -> Iterator[Hosts]:
    """A standby, and the primary that it follows."""
    with standby(postgres_server) as follower:
        yield follower, postgres_server


async def test_of_several_hosts_the_primary_is_asked_also_after_it_came_back(hosts: Hosts) -> None:
    """S13: the pool never stays with a standby, where every write fails and reads are old."""
    follower, primary = hosts
    both = f"127.0.0.1:{follower.port},127.0.0.1:{primary.port}"
    url = primary.url.replace(f"127.0.0.1:{primary.port}", both)
    async with dropping(primary, "hosts"), closing(PostgresStorer.from_url(f"{url}&table=hosts")) as storer:
        await storer.open()
        assert await storer.create("k", record())
        await anyio.to_thread.run_sync(primary.crash)
        try:
            for call in (storer.delete, storer.read):
                with pytest.raises(StorerError):
                    await call("k")
        finally:
            await anyio.to_thread.run_sync(primary.start)
        assert await storer.delete("k")


async def test_a_standby_is_refused(hosts: Hosts) -> None:
    """S13: in a pool of the application's, and where a URL asks for any server."""
    follower, _ = hosts
    async with asyncpg.create_pool(follower.url, min_size=0) as pool:
        with pytest.raises(ConfigError, match=r"standby.*target_session_attrs='primary'"):
            await PostgresStorer(pool).open()
    async with closing(PostgresStorer.from_url(f"{follower.url}&target_session_attrs=any")) as storer:
        with pytest.raises(ConfigError, match="standby"):
            await storer.open()
    async with closing(PostgresStorer.from_url(follower.url)) as storer:
        with pytest.raises(StorerError, match="no server that takes writes"):
            await storer.open()


async def test_a_role_whose_transactions_are_read_only_is_refused(
    admin: asyncpg.Connection, postgres_server: PostgresServer
) -> None:
    """S13."""
    await admin.execute("ALTER ROLE app SET default_transaction_read_only = on")
    async with closing(as_app(postgres_server)) as storer:
        with pytest.raises(ConfigError, match="read-only"):
            await storer.open()


@pytest.mark.parametrize("own", [True, False])
async def test_a_server_that_takes_no_writes_any_more_is_left_for_the_one_that_does(
    postgres_server: PostgresServer, own: bool
) -> None:
    """S13: connections that outlive a failover cost one call."""
    async with dropping(postgres_server, "moved"), AsyncExitStack() as stack:
        demoted = stack.enter_context(postgres())
        proxy = await stack.enter_async_context(Proxy("127.0.0.1", demoted.port))
        admin = await asyncpg.connect(demoted.url)
        stack.push_async_callback(admin.close)
        url = demoted.url.replace(f":{demoted.port}/", f":{proxy.port}/")
        if own:
            storer = await stack.enter_async_context(closing(PostgresStorer.from_url(f"{url}&table=moved&max_size=1")))
        else:
            pool = await stack.enter_async_context(asyncpg.create_pool(url, min_size=0, max_size=1))
            storer = PostgresStorer(pool, table="moved")
        promoted = await stack.enter_async_context(
            closing(PostgresStorer.from_url(f"{postgres_server.url}&table=moved"))
        )
        await promoted.open()
        await storer.open()
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        proxy.server_port = postgres_server.port
        with anyio.fail_after(10), pytest.raises(StorerError, match="takes no writes"):
            await endlessly(storer)  # the setting reaches a connection some time, between two statements
        assert await promoted.read("k") is None
        assert await storer.create("k", record())
        assert await promoted.delete("k")


async def endlessly(storer: PostgresStorer) -> None:
    """Write."""
    while True:
        await storer.create("k", record())
