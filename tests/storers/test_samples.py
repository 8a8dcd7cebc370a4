"""What was stored once is read for ever: bytes, keys and rows as this version writes them, checked in.

Nothing here is ever changed, only added to: a storer that cannot read one of these has lost somebody's sessions.
"""

import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import emcache
import pytest
from msgspec.structs import replace as changed
from redis.asyncio import Redis

from aiosessions import DiskStorer, Record, SQLiteStorer, StorerError
from aiosessions.storers.memcached import MemcachedStorer
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites_storer import collected
from tests import servers_memcached, servers_sql
from tests.conftest import ASYNCIO
from tests.servers_memcached import MemcachedServer
from tests.servers_sql import PostgresServer

pytestmark = pytest.mark.anyio
memcached_server = servers_memcached.memcached_server
postgres_server = servers_sql.postgres_server

KEY = "app:é#%\\\0"
KEY_DIGEST = "917ba82cb639d0b30fe7e74447eaaf13f9b183599c5d1346b44b720a8a53378e"
OWNER = "Ж\x01"
OWNER_DIGEST = "1b70d78697a34a94e2cc28bf4b8ed887f80166e710594415fd1ec2107e443504"

OWNED = Record(
    b'{"name":"caf\xc3\xa9","n":1}',
    b"\x00\xffmeta",
    OWNER,
    1_700_000_000.25,
    1_700_000_100.5,
    4_102_444_800.0,
    0x0123456789ABCDEF,
)
BARE = Record(b"{}", b"", None, 1_700_000_000.0, 1_700_000_000.0, None, 2**63 - 1)
"""Nobody's, for ever, with the largest version."""

PACKED = {
    OWNED: "010123456789abcdef41d954fc5920000041ee90cae000000041d954fc401000000000000300000006"
    "d0960100ff6d6574617b226e616d65223a22636166c3a9222c226e223a317d",
    BARE: "017fffffffffffffff41d954fc400000007ff000000000000041d954fc40000000ffffffff000000007b7d",
}
FILES = {
    OWNED: "61696f736573730135f3bccb0000000a" + PACKED[OWNED] + "6170703ac3a923255c00",
    BARE: "61696f73657373013d29f75b0000000a" + PACKED[BARE] + "6170703ac3a923255c00",
}
REDIS_VALUES = {OWNED: "41f83b8bc9b80000" + PACKED[OWNED], BARE: "7ff0000000000000" + PACKED[BARE]}

DATABASE = """
PRAGMA journal_mode = WAL;
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    value TEXT NOT NULL,
    meta BLOB NOT NULL,
    owner TEXT,
    created_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    expires_at REAL,
    version INTEGER NOT NULL
);
CREATE INDEX sessions_owner ON sessions (owner) WHERE owner IS NOT NULL;
CREATE INDEX sessions_expires_at ON sessions (expires_at) WHERE expires_at IS NOT NULL;
PRAGMA application_id = 1634299763;
PRAGMA user_version = 1;
"""
SQLITE_ROWS = {
    OWNED: """X'6170703ac3a923255c00', '{"name":"café","n":1}', X'00ff6d657461', 'Ж\x01',"""
    " 1700000000.25, 1700000100.5, 4102444800.0, 81985529216486895",
    BARE: "X'6170703ac3a923255c00', '{}', X'', NULL, 1700000000.0, 1700000000.0, NULL, 9223372036854775807",
}
"""A text that has NUL is kept as bytes."""

TABLE = """
CREATE TABLE samples (
    "key_hash" bytea PRIMARY KEY,
    "key" text NOT NULL,
    {value},
    "meta" bytea NOT NULL,
    "user_id" text,
    "created_at" timestamp with time zone NOT NULL,
    "updated_at" timestamp with time zone NOT NULL DEFAULT now(),
    "seen_at" timestamp with time zone NOT NULL,
    "expires_at" timestamp with time zone,
    "forget_at" timestamp with time zone NOT NULL DEFAULT 'infinity',
    "version" bigint NOT NULL
);
"""
ROW = """
INSERT INTO samples (key_hash, key, {column}, meta, user_id, created_at, seen_at, expires_at, forget_at, version)
VALUES ('\\x917ba82cb639d0b30fe7e74447eaaf13f9b183599c5d1346b44b720a8a53378e', 'app:é#%\\\\\\0', {value}, '\\x00ff6d657461',
    E'Ж\\x01', '2023-11-14 22:13:20.25+00', '2023-11-14 22:15:00.5+00', '2100-01-01 00:00:00+00',
    '2100-01-01 00:00:00+00', 81985529216486895)
"""  # noqa: E501 - as psql shows it
LAYOUTS = {
    "document": (
        '"value" jsonb, "raw" bytea',
        "value",
        """'{"name":"café","n":1}'""",
        b'{"n": 1, "name": "caf\xc3\xa9"}',
    ),
    "raw": ('"value" jsonb, "raw" bytea', "raw", r"'\x7b226e223a2d302e307d'", b'{"n":-0.0}'),
    "bytes": ('"value" bytea NOT NULL', "value", r"'\x7b226e223a2d302e307d'", b'{"n":-0.0}'),
}
"""The columns of the value, the one that has it, what it has, and what is read."""


@pytest.fixture(scope="module", params=[ASYNCIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: as in conftest
    """Formats know no event loop."""
    return request.param


@pytest.fixture
async def memcached(memcached_server: MemcachedServer) -> AsyncIterator[emcache.Client]:
    node = emcache.MemcachedHostAddress("127.0.0.1", memcached_server.port)
    client = await emcache.create_client([node])
    await client.flush_all(node)
    yield client
    await client.close()


@pytest.fixture
async def database(postgres_server: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_server.url)
    yield connection
    await connection.execute("DROP TABLE IF EXISTS samples")
    await connection.close()


def stored_file(folder: Path, data: bytes) -> Path:
    """A folder with one file, made by hand."""
    folder.mkdir(mode=0o700)
    path = folder / "records" / "91" / KEY_DIGEST
    entry = folder / "owners" / "1b" / OWNER_DIGEST / KEY_DIGEST
    for file, content in ((path, data), (entry, b"")):
        for parent in reversed(file.relative_to(folder).parents[:-1]):
            (folder / parent).mkdir(mode=0o700)
        file.write_bytes(content)
    return path


@pytest.mark.parametrize("record", [OWNED, BARE], ids=["owned", "bare"])
async def test_a_file_is_read_for_ever(tmp_path: Path, record: Record) -> None:
    """S2: its key, its owner's list and what `touch` and `clean` read are part of the format."""
    stored_file(tmp_path / "sessions", bytes.fromhex(FILES[record]))
    storer = DiskStorer(tmp_path / "sessions")
    assert await storer.read(KEY) == record
    assert await collected(storer.keys()) == {KEY}
    assert await storer.list_by_owner(OWNER) == ([(KEY, record)] if record.owner else [])
    assert await storer.clean() == 0
    assert await storer.touch(KEY, seen_at=record.seen_at + 1, expires_at=record.expires_at)
    assert await storer.read(KEY) == changed(record, seen_at=record.seen_at + 1)


@pytest.mark.parametrize("record", [OWNED, BARE], ids=["owned", "bare"])
async def test_a_memcached_item_is_read_for_ever(memcached: emcache.Client, record: Record) -> None:
    """S2."""
    await memcached.set(b"session:kXuoLLY50LMP5-dER-qvE_mxg1mcXRNGtEtyCopTN44", bytes.fromhex(PACKED[record]))
    storer = MemcachedStorer(memcached)
    assert await storer.read(KEY) == record
    assert await storer.replace(KEY, changed(record, version=1), version=record.version)


@pytest.mark.parametrize("record", [OWNED, BARE], ids=["owned", "bare"])
async def test_an_sqlite_row_is_read_for_ever(tmp_path: Path, record: Record) -> None:
    """S2: a file as this version makes it, in whichever of SQLite's types it keeps each text."""
    path = tmp_path / "sessions.db"
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DATABASE)
        connection.execute(f"INSERT INTO sessions VALUES (1, {SQLITE_ROWS[record]})")
        connection.commit()
    storer = SQLiteStorer(path)
    assert await storer.read(KEY) == record
    assert await collected(storer.keys()) == {KEY}
    assert await storer.list_by_owner(OWNER) == ([(KEY, record)] if record.owner else [])
    assert await storer.clean() == 0
    assert await storer.touch(KEY, seen_at=record.seen_at + 1, expires_at=record.expires_at)
    assert await storer.read(KEY) == changed(record, seen_at=record.seen_at + 1)
    await storer.aclose()


@pytest.mark.parametrize("record", [OWNED, BARE], ids=["owned", "bare"])
async def test_an_sqlite_file_is_made_as_it_was(tmp_path: Path, record: Record) -> None:
    """S2: what this version writes is what the sample says, so that an older one reads it too."""
    storer = SQLiteStorer(tmp_path / "made.db")
    await storer.create(KEY, record)
    await storer.aclose()
    contents: list[list[str]] = []
    with (
        closing(sqlite3.connect(tmp_path / "sample.db")) as sample,
        closing(sqlite3.connect(tmp_path / "made.db")) as made,
    ):
        sample.executescript(DATABASE)
        sample.execute(f"INSERT INTO sessions VALUES (1, {SQLITE_ROWS[record]})")
        for connection in (sample, made):
            numbers = [connection.execute(f"PRAGMA {name}").fetchall() for name in ("application_id", "user_version")]
            contents.append([*map(str, numbers), *connection.iterdump()])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("record", [OWNED, BARE], ids=["owned", "bare"])
async def test_a_redis_value_is_read_for_ever(redis_client: Redis, redis_prefix: str, record: Record) -> None:
    """S2: the names of the keys, the user's index and what the scripts read are part of the format."""
    await redis_client.set(f"{redis_prefix}s#app:é%23%25\\\0", bytes.fromhex(REDIS_VALUES[record]))
    await redis_client.zadd(f"{redis_prefix}u#{OWNER_DIGEST}", {KEY: 4_102_444_800.25})
    storer = RedisStorer(redis_client, prefix=redis_prefix)
    assert await storer.read(KEY) == record
    assert await collected(storer.keys()) == {KEY}
    assert await storer.list_by_owner(OWNER) == ([(KEY, record)] if record.owner else [])
    assert await storer.touch(KEY, seen_at=record.seen_at + 1, expires_at=record.expires_at)
    assert await storer.read(KEY) == changed(record, seen_at=record.seen_at + 1)
    assert await storer.delete(KEY, version=record.version)


@pytest.mark.parametrize(("columns", "column", "value", "read"), LAYOUTS.values(), ids=LAYOUTS)
async def test_a_postgresql_row_is_read_for_ever(
    database: asyncpg.Connection, postgres_server: PostgresServer, columns: str, column: str, value: str, read: bytes
) -> None:
    """S2: a table as this version makes it is opened by every later one."""
    await database.execute(TABLE.format(value=columns) + ROW.format(column=column, value=value))
    is_jsonb = "jsonb" in columns
    storer = PostgresStorer.from_url(f"{postgres_server.url}&table=samples&column={'jsonb' if is_jsonb else 'bytea'}")
    await storer.open()
    try:
        record = changed(OWNED, value=read)
        assert await storer.read(KEY) == record
        assert await collected(storer.keys()) == {KEY}
        assert await storer.list_by_owner(OWNER) == [(KEY, record)]
    finally:
        await storer.aclose()


# What somebody or something else changed


def damaged(data: bytes) -> Iterator[bytes]:
    """Cut anywhere, and with each byte another, once in each of its halves; some rubbish."""
    chance = random.Random(0)
    yield from (data[:size] for size in range(len(data)))
    for place, byte in enumerate(data):
        for bit in (chance.randrange(4), chance.randrange(4, 8)):
            yield data[:place] + bytes([byte ^ 1 << bit]) + data[place + 1 :]
    yield from (chance.randbytes(chance.randrange(200)) for _ in range(100))


async def test_a_file_with_any_byte_changed_is_absent(tmp_path: Path) -> None:
    """S12: never half a record, never an exception."""
    path = stored_file(tmp_path / "sessions", b"")
    storer = DiskStorer(tmp_path / "sessions")
    for data in damaged(bytes.fromhex(FILES[OWNED])):
        path.write_bytes(data)
        assert await storer.read(KEY) is None, data


async def test_a_memcached_item_with_any_byte_changed_raises_nothing(memcached: emcache.Client) -> None:
    """F13: it has no checksum; it is a record of its own, or absent and no obstacle."""
    name = b"session:kXuoLLY50LMP5-dER-qvE_mxg1mcXRNGtEtyCopTN44"
    storer = MemcachedStorer(memcached)
    for data in damaged(bytes.fromhex(PACKED[OWNED])):
        await memcached.set(name, data)
        found = await storer.read(KEY)
        assert await storer.create(KEY, BARE) is (found is None), data


@pytest.mark.parametrize(
    "data",
    [
        *(PACKED[OWNED][: 2 * size] for size in (0, 1, 40, 41, 43, 49)),
        PACKED[OWNED].replace("0000000300000006", "fffffffe00000006"),
        PACKED[OWNED].replace("0000000300000006", "7fffffff00000006"),
        PACKED[OWNED].replace("0000000300000006", "00000003ffffffff"),
        "02" + PACKED[OWNED][2:],
    ],
)
async def test_a_memcached_item_that_contradicts_itself_is_absent(memcached: emcache.Client, data: str) -> None:
    """F13: cut before its value, with sizes that cannot be, of another format."""
    await memcached.set(b"session:kXuoLLY50LMP5-dER-qvE_mxg1mcXRNGtEtyCopTN44", bytes.fromhex(data))
    assert await MemcachedStorer(memcached).read(KEY) is None


async def test_a_redis_value_with_any_byte_changed_raises_nothing_but_storer_errors(
    redis_client: Redis, redis_prefix: str
) -> None:
    """F13: whoever shares the database and its keys."""
    name = f"{redis_prefix}s#app:é%23%25\\\0"
    storer = RedisStorer(redis_client, prefix=redis_prefix)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: storer.read(KEY),
        lambda: storer.touch(KEY, seen_at=OWNED.seen_at, expires_at=None),
        lambda: storer.replace(KEY, changed(OWNED, version=1), version=OWNED.version),
        lambda: storer.create(KEY, BARE),
        lambda: storer.delete(KEY),
    ]
    for data in damaged(bytes.fromhex(REDIS_VALUES[OWNED])):
        await redis_client.set(name, data)
        for call in calls:
            try:
                await call()
            except StorerError:
                continue
