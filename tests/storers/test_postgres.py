"""PostgresStorer on a real PostgreSQL."""

import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from types import FrameType
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace as changed

from aiosessions._errors import ConfigError
from aiosessions._tokens import new_version
from aiosessions.storers._jsonb import survives_jsonb
from aiosessions.storers.postgres import PostgresStorer, schema_sql
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    ListableSuite,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
    collected,
    race,
)
from tests import servers_sql
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.racers import ROUNDS, starting_record, winners_of_four_processes
from tests.servers_sql import PostgresServer

pytestmark = pytest.mark.anyio
postgres_server = servers_sql.postgres_server


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: as in conftest
    return request.param


@pytest.fixture
async def pool(postgres_server: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    """A pool as an application has one, not awaited yet, on a database without our tables."""
    pool = asyncpg.create_pool(postgres_server.url, min_size=0, max_size=10)
    yield pool
    await pool
    await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public")
    await pool.close()


class MovedBackClock:
    """Real time for the records; time passes by moving back what is stored."""

    limit = math.inf

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    def now(self) -> float:
        return time.time()

    async def advance(self, seconds: float) -> None:
        await self._pool  # asyncpg: connects, if nobody did yet
        times = ", ".join(
            f"{name} = {name} - make_interval(secs => {seconds})"
            for name in ("created_at", "seen_at", "expires_at", "forget_at", "clean_at")
        )
        for table in ("sessions", "others"):
            if await self._pool.fetchval("SELECT to_regclass($1)", table):
                await self._pool.execute(f"UPDATE {table} SET {times}")


def record(value: bytes = b'{"n":1}', *, owner: str | None = None, lives: float | None = 60.0) -> Record:
    now = float(int(time.time()))  # PostgreSQL rounds to microseconds
    return Record(value, b"meta", owner, now, now, None if lives is None else now + lives, new_version())


class TestStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    """What every storer promises, with documents."""

    stores_json = True

    @pytest.fixture
    async def clock(self, pool: asyncpg.Pool) -> MovedBackClock:
        return MovedBackClock(pool)

    @pytest.fixture
    async def storer(self, pool: asyncpg.Pool) -> AsyncIterator[PostgresStorer]:
        storer = PostgresStorer(pool)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, pool: asyncpg.Pool) -> AsyncIterator[PostgresStorer]:
        storer = PostgresStorer(pool, table="others")
        await storer.open()
        yield storer
        await storer.aclose()


class TestBytes(StorerSuite):
    """What every storer promises, with bytes, from a URL, and without statements that the server remembers."""

    @pytest.fixture
    async def clock(self, pool: asyncpg.Pool) -> MovedBackClock:
        return MovedBackClock(pool)

    @pytest.fixture
    async def storer(self, pool: asyncpg.Pool, postgres_server: PostgresServer) -> AsyncIterator[PostgresStorer]:
        storer = PostgresStorer.from_url(f"{postgres_server.url}&column=bytea&statement_cache_size=0")
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, pool: asyncpg.Pool, postgres_server: PostgresServer) -> AsyncIterator[PostgresStorer]:
        storer = PostgresStorer.from_url(f"{postgres_server.url}&column=bytea&table=others&unlogged=yes")
        await storer.open()
        yield storer
        await storer.aclose()


# The table


async def test_ten_workers_may_open_it_at_once(postgres_server: PostgresServer, pool: asyncpg.Pool) -> None:
    """S16: on a database without the table, and again on one with it."""
    storers = [PostgresStorer.from_url(f"{postgres_server.url}&table=Sessions") for _ in range(10)]
    for _ in range(2):
        await race(10, lambda number: storers[number].open())
        assert await storers[0].create("k", record()) or await storers[0].delete("k")
        await race(10, lambda number: storers[number].aclose())


async def test_a_table_made_from_the_printed_sql_needs_no_right_to_create(
    postgres_server: PostgresServer, pool: asyncpg.Pool
) -> None:
    """Issue 3: for those who run migrations themselves; the SQL may be run twice."""
    await pool
    for _ in range(2):
        await pool.execute(schema_sql(table="public.logins"))
    await pool.execute("DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN")
    as_app = postgres_server.url.replace("postgres@", "app@")

    missing = PostgresStorer.from_url(as_app)
    with pytest.raises(ConfigError, match=r'"sessions".* may not make.* `aiosessions schema`'):
        await missing.open()
    await missing.aclose()

    await pool.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON logins TO app")
    storer = PostgresStorer.from_url(f"{as_app}&table=public.logins")
    await storer.open()
    assert await storer.create("k", record())
    assert await storer.clean() == 0
    await storer.aclose()
    await pool.execute("DROP OWNED BY app; DROP ROLE app")


async def test_an_older_table_is_completed(pool: asyncpg.Pool) -> None:
    """Issue 3: what may be empty or has a default is added; sessions stay."""
    storer = PostgresStorer(pool)
    await storer.open()
    kept = record()
    await storer.create("k", kept)
    await storer.aclose()
    await pool.execute("""
        DROP TRIGGER sessions_updated_at ON sessions; DROP FUNCTION sessions_updated_at; DROP INDEX sessions_by_user;
        ALTER TABLE sessions DROP COLUMN raw, DROP COLUMN updated_at, DROP COLUMN forget_at
    """)

    await storer.open()
    assert await storer.read("k") == changed(kept, value=b'{"n": 1}')
    assert await storer.create("other", record(b"\x00"))
    assert await pool.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = 'sessions'") == 3
    assert await pool.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname = 'sessions_updated_at'") == 1


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ("CREATE TABLE sessions (id int)", "key_hash is missing"),
        (schema_sql(column="bytea"), "value is bytea"),
        (schema_sql() + "ALTER TABLE sessions DROP CONSTRAINT sessions_pkey", "key_hash is not unique"),
        (schema_sql() + "ALTER TABLE sessions ALTER version TYPE text", "version is text"),
    ],
)
async def test_a_table_of_somebody_else_is_refused_with_the_statement_to_run(
    pool: asyncpg.Pool, prepare: str, said: str
) -> None:
    """Issue 3: nothing in it is changed."""
    await pool
    await pool.execute(prepare)
    storer = PostgresStorer(pool)
    with pytest.raises(ConfigError, match=said) as caught:
        await storer.open()
    _, _, statement = str(caught.value).partition("run: ")
    await pool.execute(statement)
    await storer.open()
    assert await storer.create("k", record())


@pytest.mark.parametrize("unlogged", [True, False])
async def test_a_table_logged_otherwise_is_refused_with_the_statement_to_run(
    pool: asyncpg.Pool, unlogged: bool
) -> None:
    """An unlogged table is empty after a crash: whether a storer is durable is not left to chance."""
    await pool
    await pool.execute(schema_sql(unlogged=not unlogged))
    storer = PostgresStorer(pool, unlogged=unlogged)
    assert storer.durable is not unlogged
    with pytest.raises(ConfigError, match=f"unlogged={unlogged}") as caught:
        await storer.open()
    await pool.execute(str(caught.value).partition("run: ")[2])
    await storer.open()


async def test_a_database_of_another_encoding_is_refused(postgres_server: PostgresServer, pool: asyncpg.Pool) -> None:
    """JSONB takes only what the database's encoding has."""
    await pool
    await pool.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    storer = PostgresStorer.from_url(postgres_server.url.replace("/postgres?", "/latin?"))
    with pytest.raises(ConfigError, match="LATIN1"):
        await storer.open()
    await storer.aclose()
    await pool.execute("DROP DATABASE latin")


@pytest.mark.parametrize("table", ["", "a b", 'a"; DROP TABLE users; --', "a.b.c", ".a", "a.", "1a", "é", "a" * 49])
def test_a_table_name_that_is_no_identifier_is_refused(table: str) -> None:
    """S17, and SQL injection."""
    with pytest.raises(ConfigError, match="table="):
        schema_sql(table=table)


def test_arguments_that_cannot_be_are_refused() -> None:
    """The message names them."""
    pool: Any = None  # Any: never used
    with pytest.raises(ConfigError, match="column='json'"):
        PostgresStorer(pool, column="json")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the test
    with pytest.raises(ConfigError, match="timeout="):
        PostgresStorer(pool, timeout=timedelta(0))


# The row


async def test_a_value_can_be_queried_and_its_changes_are_dated(pool: asyncpg.Pool) -> None:
    """Issue 3: JSONB; a trigger sets updated_at when the value changes, and not for touches and equal values."""
    storer = PostgresStorer(pool)
    await storer.open()
    first = record(b'{"cart": [1, 2]}', owner="ann")
    await storer.create("app:k", first)
    assert (
        await pool.fetchval("SELECT key FROM sessions WHERE value @> '{\"cart\": [2]}' AND user_id = 'ann'") == "app:k"
    )

    async def updated_at() -> object:
        return await pool.fetchval("SELECT updated_at FROM sessions")

    before = await updated_at()
    await storer.touch("app:k", seen_at=first.seen_at + 5, expires_at=first.seen_at + 99)
    assert await updated_at() == before, "a touch is no change"
    second = changed(first, owner="bob", meta=b"2", version=new_version())
    await storer.replace("app:k", second, version=first.version)
    assert await updated_at() == before, "another owner is no change of the value"
    third = changed(second, value=b'{"cart": []}', version=new_version())
    await storer.replace("app:k", third, version=second.version)
    after = await updated_at()
    assert after != before, "a changed value must be dated"
    fourth = changed(third, value=b"\xff", version=new_version())
    await storer.replace("app:k", fourth, version=third.version)
    assert await updated_at() != after, "a changed value must be dated, raw or not"
    await storer.create("app:k", fourth)
    assert await pool.fetchval("SELECT value IS NULL AND raw = '\\xff' FROM sessions")


_DOCUMENTS = {
    b'{"a": 1, "b": [true, null, 1.50, "x\\\\u0000", "\\ud83d\\ude00", "\\u00e9\\u2028"], "": {"": -1}}': True,
    b'{"n": 12345678901234567890123456789012345678901234567890}': True,
    b"0.1": True,
    b"[100000.0, -0.5, 0.0]": True,
    b'"text"': True,
    b" null ": True,
    b"[" * 300 + b"]" * 300: True,
    b"": False,
    b"{": False,
    b"NaN": False,
    b"[-0.0]": False,
    b"[-0]": False,
    b"[1e16]": False,
    b"[1E-7]": False,
    b'{"a": 1, "a": 2}': False,
    b'{"a": {"b": 1, "b": 1}}': False,
    b'"\\u0000"': False,
    b'"\\\\\\u0000"': False,
    b'"\\ud83d"': False,
    b'"\\ud83d\\ud83d\\ude00"': False,
    b"\xef\xbb\xbf{}": False,
    b'{"a": "\xff"}': False,
    b"[" * 100_000: False,
    b"1" * 5000: False,
}


@pytest.mark.parametrize(("document", "survives"), _DOCUMENTS.items(), ids=lambda value: str(value)[:40])
async def test_a_document_is_jsonb_where_it_comes_back_equal_and_raw_where_not(
    pool: asyncpg.Pool, document: bytes, survives: bool
) -> None:
    """S2: equal, numbers of the same type included; byte for byte where JSONB would change it."""
    storer = PostgresStorer(pool)
    await storer.open()
    assert (survives_jsonb(document) is not None) is survives
    await storer.create("k", record(document))
    assert await pool.fetchval("SELECT (value IS NOT NULL) AND (raw IS NULL) FROM sessions") is survives
    got = await storer.read("k")
    assert got is not None
    if survives:
        assert json.dumps(json.loads(got.value), sort_keys=True) == json.dumps(json.loads(document), sort_keys=True)
    else:
        assert got.value == document


@pytest.mark.parametrize(
    "document", [b"[-0.0]", b"-0.0", b"-0", b'{"a":-0.0}', b"[1e16]", b"1e+16", b'[1,"-0",-0.0]', b"[1.5e-9]"]
)
def test_what_msgspec_writes_is_looked_through_too(document: bytes) -> None:
    """S2: the short way is for what JSONB keeps."""
    assert survives_jsonb(document) is None
    for harmless in (b'{"day":"2026-01-05","id":"3e4f-0","a":0.0,"b":-1}', b'[",-0,"]', b'[":1e5"]'):
        assert survives_jsonb(harmless) == harmless.decode()


async def test_a_large_value_does_not_hold_up_the_event_loop(pool: asyncpg.Pool) -> None:
    """Issue 9: a document that needs a close look is looked at in another thread: no number of it is looked at here."""
    storer = PostgresStorer(pool)
    await storer.open()
    large = json.dumps({"rows": [{"id": number, "price": number / 10} for number in range(8000)]}).encode()
    called = 0

    def count(frame: FrameType, *_: object) -> None:
        nonlocal called
        called += frame.f_code.co_filename.endswith("_jsonb.py")

    stored = record(large)
    sys.setprofile(count)
    try:
        assert await storer.create("k", stored)
    finally:
        sys.setprofile(None)
    assert called < 100
    found = await storer.read("k")
    assert found is not None
    assert json.loads(found.value) == json.loads(large)


async def test_a_user_s_many_sessions_are_listed_in_pages(postgres_server: PostgresServer, pool: asyncpg.Pool) -> None:
    """S15: each answer is small, and each session is listed once, whatever the number."""
    await pool
    async with Proxy("127.0.0.1", postgres_server.port) as proxy:
        storer = PostgresStorer.from_url(f"{_through(postgres_server, proxy)}&max_size=1")
        await storer.open()
        for count in (1, 499, 500, 501, 1700):
            await pool.execute("DELETE FROM sessions")
            await pool.execute(f"""
                INSERT INTO sessions (key_hash, key, value, meta, user_id, created_at, seen_at, version)
                SELECT sha256(n::text::bytea), 'p' || n, '{{}}', '', 'ann', now(), now(), n
                FROM generate_series(1, {count}) n
            """)
            await storer.list_by_owner("ann")
            proxy.tally.reset()
            found = await storer.list_by_owner("ann", prefix="p")
            assert sorted(key for key, _ in found) == sorted(f"p{number + 1}" for number in range(count))
            assert proxy.tally.round_trips == count // 500 + 1
        await storer.aclose()


async def test_codecs_that_the_application_gave_its_pool_do_not_matter(postgres_server: PostgresServer) -> None:
    """People set a JSON codec for their own queries."""

    async def init(connection: asyncpg.Connection) -> None:
        for name in ("json", "jsonb"):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    pool = await asyncpg.create_pool(postgres_server.url, init=init, min_size=0, statement_cache_size=0)
    storer = PostgresStorer(pool, table="codecs")
    await storer.open()
    expected = record(owner="ann")
    await storer.create("k", expected)
    got = await storer.read("k")
    assert got is not None
    assert json.loads(got.value) == json.loads(expected.value)
    assert [key for key, _ in await storer.list_by_owner("ann")] == ["k"]
    await storer.aclose()
    assert not pool.is_closing(), "S16: a pool given by the caller is never closed"
    await pool.execute("DROP TABLE codecs")
    await pool.close()


@pytest.mark.parametrize("hours", [-2, 2])
async def test_an_application_server_whose_clock_is_wrong_loses_no_session_and_keeps_none(
    pool: asyncpg.Pool, hours: int
) -> None:
    """X5, S9: the lifetime counts, by the server's clock."""
    storer = PostgresStorer(pool)
    await storer.open()
    wrong = int(time.time()) + hours * 3600.0
    live = Record(b"{}", b"", None, wrong, wrong, wrong + 600, new_version())
    await storer.create("live", live)
    await storer.create("dead", changed(live, expires_at=wrong - 61))
    assert await storer.read("live") is not None
    assert await storer.read("dead") is None
    assert await storer.touch("live", seen_at=wrong + 1, expires_at=wrong + 601)
    assert await storer.clean() == 1
    assert await storer.read("live") == changed(live, seen_at=wrong + 1, expires_at=wrong + 601)


async def test_keys_are_stored_readable(pool: asyncpg.Pool) -> None:
    """S11: NUL, backslash and lone surrogates are escaped, and no two keys are one."""
    storer = PostgresStorer(pool)
    await storer.open()
    keys = ["app:é", "a\x00", "a\\0", "a\\", "a\\\\", "a\ud800", "a\\ud800", "\\u0031"]
    for key in keys:
        assert await storer.create(key, record(owner="ann")), f"{key!r} collides"
    assert await collected(storer.keys()) == set(keys)
    assert {key for key, _ in await storer.list_by_owner("ann", prefix="a\\")} == {"a\\0", "a\\", "a\\\\", "a\\ud800"}
    assert await pool.fetchval("SELECT count(*) FROM sessions WHERE key = 'app:é'") == 1


# Cleaning


async def test_clean_works_in_batches_and_passes_over_rows_that_are_in_use(pool: asyncpg.Pool) -> None:
    """S10: SKIP LOCKED: a row that a request holds is left for the next round."""
    storer = PostgresStorer(pool)
    await storer.open()
    await pool.execute("""
        INSERT INTO sessions (key_hash, key, meta, created_at, seen_at, forget_at, version)
        SELECT n::text::bytea, n, '', now(), now(), now() - interval '61 seconds', n FROM generate_series(1, 2500) n
    """)
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetch("SELECT FROM sessions WHERE version = 7 FOR UPDATE")
        assert await storer.clean() == 2499
    assert await storer.clean() == 1


@pytest.mark.parametrize("older", [False, True])
async def test_clean_costs_what_expired_and_not_what_is_stored(
    postgres_server: PostgresServer, pool: asyncpg.Pool, older: bool
) -> None:
    """S10: of twenty thousand rows, known to the planner or not, it looks at those that are due, through an index."""
    await make_table(pool, older=older)
    fill = """
        INSERT INTO sessions (key_hash, key, meta, created_at, seen_at, forget_at, version)
        SELECT sha256(n::text::bytea), n, '', now(), now(), now() + make_interval(secs => n - 2562), n
        FROM generate_series(1, 20000) n
    """
    refill = "DELETE FROM sessions WHERE version <= 2600; " + fill.replace("(1, 20000)", "(1, 2600)")
    for analyzed in ("SELECT", "ANALYZE sessions"):
        async with pool.acquire() as connection:  # one, so that all that it read is published when it says so
            await connection.execute(fill if "ANALYZE" not in analyzed else refill)
            if not older:
                await connection.execute("UPDATE sessions SET clean_at = forget_at")
            await connection.execute(analyzed)
            await connection.execute("SELECT pg_stat_force_next_flush()")
        storer = PostgresStorer.from_url(postgres_server.url)
        await storer.open()
        before = await looked_at(pool)
        assert 2490 <= await storer.clean() <= 2530  # a minute of them is too young
        await storer.aclose()  # its statistics are published when its connection ends
        after = before
        while after == before:
            after = await looked_at(pool)
        assert after[0] == before[0], "the whole table was read"
        # A planner that knows nothing of the table has each batch sort those that are left.
        assert after[1] - before[1] < (3 if "ANALYZE" in analyzed else 6) * 2530


async def looked_at(pool: asyncpg.Pool) -> tuple[int, int]:
    """How many rows were read by going through the table, and through its indexes."""
    query = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'sessions'"
    (row,) = await pool.fetch(f"SELECT pg_stat_clear_snapshot(), s.* FROM ({query}) s")
    _, by_table, by_index = row
    return by_table, by_index


async def make_table(pool: asyncpg.Pool, *, older: bool) -> None:
    """The table, or the one that was made before `clean_at` was."""
    await pool
    await pool.execute(schema_sql())
    if older:
        await pool.execute("ALTER TABLE sessions DROP COLUMN clean_at")
        await pool.execute("CREATE INDEX sessions_forget_at ON sessions (forget_at)")


async def test_a_session_that_lives_on_is_found_when_it_ends(pool: asyncpg.Pool) -> None:
    """S7, S10: `clean` passes over it, and comes back; one that ends sooner than it was to is found sooner."""
    storer = PostgresStorer(pool)
    await storer.open()
    touched, shortened = record(), record(lives=9000.0)
    await storer.create("touched", touched)
    await storer.create("shortened", shortened)
    await storer.touch("touched", seen_at=touched.seen_at, expires_at=touched.seen_at + 600)
    clock = MovedBackClock(pool)
    await clock.advance(200)
    assert await storer.clean() == 0
    assert await storer.read("touched") is not None
    await storer.replace("shortened", record(lives=60.0), version=shortened.version)
    await clock.advance(200)
    assert await storer.clean() == 1
    assert await collected(storer.keys()) == {"touched"}
    await clock.advance(300)
    assert await storer.clean() == 1


async def test_an_earlier_version_s_table_is_used_as_it_is_until_the_printed_sql_is_run(pool: asyncpg.Pool) -> None:
    """Issue 9: nothing is altered while the application starts."""
    await make_table(pool, older=True)
    stored = record(lives=-61)
    storer = PostgresStorer(pool)
    for has_column in (False, True):
        await storer.open()
        columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'sessions'::regclass AND attname = 'clean_at'"
        assert bool(await pool.fetchval(columns)) is has_column
        assert await storer.create("k", stored)
        assert await storer.create("j", record())
        assert await race(20, lambda n: storer.create(f"k{n}", stored)) == [True] * 20
        assert await storer.clean() == 21
        await storer.aclose()
        await pool.execute(schema_sql())
        if not has_column:
            assert await storer.delete("j")
    assert await pool.fetchval("SELECT count(*) FROM pg_indexes WHERE indexname = 'sessions_forget_at'") == 0


async def test_touches_and_writes_look_at_no_index(postgres_server: PostgresServer, pool: asyncpg.Pool) -> None:
    """Issue 9: most are HOT updates: no indexed column moves, and a page has room for them."""
    await pool
    storer = PostgresStorer.from_url(postgres_server.url)
    await storer.open()
    stored = {f"k{number}": record(b'{"n": "%s"}' % (b"x" * 200), owner="ann") for number in range(500)}
    await race(500, lambda n: storer.create(f"k{n}", stored[f"k{n}"]))

    async def touch_and_write(first: int) -> None:
        for key in [f"k{number}" for number in range(first, 500, 10)]:
            before = stored[key]
            seen_at = before.seen_at + 1
            after = stored[key] = changed(before, seen_at=seen_at, expires_at=seen_at + 60, version=new_version())
            assert await storer.touch(key, seen_at=seen_at, expires_at=seen_at + 60)
            assert await storer.replace(key, after, version=before.version)

    await race(10, touch_and_write)
    await storer.aclose()  # its statistics are published when its connections end
    updated = hot = 0
    while updated < 1000:
        query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
        ((_, updated, hot),) = await pool.fetch(f"SELECT pg_stat_clear_snapshot(), s.* FROM ({query}) s")
    assert hot > 0.8 * updated


async def test_one_replica_cleans_at_a_time(pool: asyncpg.Pool) -> None:
    """S10, X6: whoever comes second finds nothing to do, and leaves no lock behind."""
    storer = PostgresStorer(pool)
    await storer.open()
    await storer.create("k", record(lives=-61))
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetch("SELECT pg_advisory_xact_lock(hashtextextended('aiosessions \"sessions\"', 1))")
        assert await storer.clean() == 0
    assert await storer.clean() == 1
    assert await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_logouts_of_one_user_at_once_do_not_wait_for_each_other(pool: asyncpg.Pool) -> None:
    """S15: no deadlock, and each session is counted once."""
    storer = PostgresStorer(pool)
    await storer.open()
    for _ in range(5):
        await race(40, lambda number: storer.create(f"k{number}", record(owner="ann")))
        assert sum(await race(8, lambda _: storer.delete_by_owner("ann"))) == 40


# The wire


async def test_each_call_is_one_round_trip(postgres_server: PostgresServer, pool: asyncpg.Pool) -> None:
    """DESIGN 4: counted by a proxy, once connected and with the statements known to the server."""
    async with Proxy("127.0.0.1", postgres_server.port) as proxy:
        storer = PostgresStorer.from_url(f"{_through(postgres_server, proxy)}&max_size=1")
        await storer.open()
        first, second = record(owner="ann"), record(owner="ann")
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "read": lambda: storer.read("k"),
            "create": lambda: storer.create("k", first),
            "replace": lambda: storer.replace("k", second, version=first.version),
            "touch": lambda: storer.touch("k", seen_at=second.seen_at, expires_at=None),
            "list": lambda: storer.list_by_owner("ann"),
            "delete": lambda: storer.delete("k"),
            "delete by owner": lambda: storer.delete_by_owner("ann"),
        }
        for call in calls.values():
            await call()
        for name, call in calls.items():
            proxy.tally.reset()
            await call()
            assert proxy.tally.round_trips == 1, name
        await storer.aclose()


def test_of_20_racers_in_four_processes_one_wins(postgres_server: PostgresServer) -> None:
    """S3, S5."""
    url = f"{postgres_server.url}&table=raced"

    async def prepare() -> None:
        storer = PostgresStorer.from_url(url)
        await storer.open()
        for number in range(ROUNDS):
            await storer.create(f"replaced{number}", starting_record(number))
        await storer.aclose()

    asyncio.run(prepare())
    assert winners_of_four_processes(url) == ([1] * ROUNDS, [1] * ROUNDS)


def _through(server: PostgresServer, proxy: Proxy) -> str:
    return server.url.replace(f":{server.port}/", f":{proxy.port}/")
