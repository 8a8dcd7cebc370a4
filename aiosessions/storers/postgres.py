"""Sessions in a PostgreSQL table, through asyncpg."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar, cast

import anyio

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._jsonb import survives_jsonb
from aiosessions.storers._postgres_schema import Found, Layout, Statements, schema_sql
from aiosessions.storers.bounded import bounded, seconds_of
from aiosessions.storers.openings import Openings
from aiosessions.storers.storer import Record
from aiosessions.storers.text import digest
from aiosessions.storers.url import StorerURL, flag, seconds

try:
    import asyncpg
except ImportError as _error:
    raise ImportError('PostgresStorer needs asyncpg: pip install "aiosessions[postgres]"') from _error

__all__ = ["Pool", "PostgresStorer", "schema_sql"]

_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_PAGE = 500
_BATCH = 1000
_ESCAPED = re.compile(r"\\(\\|0|u[0-9a-f]{4})")
_ESCAPES = {"\\": "\\", "0": "\0"}
_T = TypeVar("_T")

# What libpq's URLs may say and asyncpg reads; it would send anything else to the server as a setting.
_DSN_OPTIONS = frozenset({
    "application_name", "database", "dbname", "gsslib", "host", "krbsrvname", "passfile", "password", "service",
    "sslcert", "sslcrl", "sslkey", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslmode", "sslnegotiation",
    "sslpassword", "sslrootcert", "target_session_attrs", "user",
})  # fmt: skip


class Pool(Protocol):
    """What a PostgresStorer uses of `asyncpg.Pool`."""

    def __await__(self) -> Generator[Any, Any, Any]:  # Any: whatever the pool awaits, and itself
        """Connect, if that has not been done yet."""
        ...

    def acquire(self) -> Awaitable[Any]:  # Any: asyncpg's connection; asyncpg ships no types
        """A connection."""
        ...

    def release(self, connection: Any, *, timeout: float | None = None) -> Awaitable[Any]:  # Any: as above
        """Give it back."""
        ...


class PostgresStorer:
    r"""Keeps each session in a row of a table: queryable, durable, and known by its user.

    The value is a JSONB document, so that you can query it; the order of its keys and its white space are not kept
    (`stores_json`). A value that JSONB would not give back as an equal document (`\u0000`, a lone surrogate, `-0.0`, a
    number in exponent notation, a key that comes twice, anything that is not JSON) is kept byte for byte in the column
    `raw`, and `value` is NULL. A trigger sets `updated_at` when the value changes; touches leave it alone.

    The server's clock decides what has expired. Each write says for how long from now the session lives, and the server
    adds that to its own time (`forget_at`): an application server whose clock is wrong neither loses sessions nor keeps
    them. The times as the application gave them are in `created_at`, `seen_at` and `expires_at`.

    Rows are found by the SHA-256 of the key (`key_hash`), because PostgreSQL cannot index 10 kB or store NUL; `key` is
    there to be read, with backslash, NUL and lone surrogates escaped.

    Each call is one statement and needs nothing of its connection afterwards, so that pgbouncer may pool transactions
    (the pool then needs `statement_cache_size=0`). PostgreSQL 14 or later, encoding UTF8, and transactions at the
    default isolation, READ COMMITTED.

    Args:
        pool: from `asyncpg.create_pool`, awaited or not; never closed. (asyncpg gives a pool up whose first connection
            fails: with `min_size=0` it makes none before one is needed.)
        table: the table's name, `schema.name` where the search path does not find it. Upper case is kept.
        column: "jsonb", or "bytea" for values that nobody queries and that come back byte for byte.
        timeout: how long one operation may take, the wait for a connection included.
        unlogged: an UNLOGGED table: faster to write, empty after a crash of the server, and absent from its replicas;
            such a storer is not `durable`.

    Raises:
        ConfigError: a table name that is no identifier, another type of column, a time-out that is not positive.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        table: str = "sessions",
        column: Literal["jsonb", "bytea"] = "jsonb",
        timeout: timedelta = timedelta(seconds=5),
        unlogged: bool = False,
    ) -> None:
        self._layout = Layout(table, column, unlogged=unlogged)
        self._sql = Statements(self._layout)
        self.durable: bool = not unlogged
        self.stores_json: bool = self._layout.is_jsonb
        self._pool = pool
        self._where = "PostgreSQL"
        self._timeout = seconds_of(timeout)
        self._connected = False
        self._connecting = anyio.Lock()
        self._openings = Openings(self._prepare, self._close)

    @classmethod
    def from_url(cls, url: str) -> "PostgresStorer":
        """A storer with a pool of its own: made by `open` or the first call, closed by the last `aclose`.

        Args:
            url: `postgresql://user:password@host:port/database`; options are this class's arguments (`timeout` in
                seconds), `min_size`, `max_size` and `statement_cache_size` of the pool, and those of libpq.

        Raises:
            ConfigError: an option that there is not, or a value that it cannot have.
        """
        parsed = StorerURL(url)
        pool = _OwnPool(parsed)
        column = parsed.option("column", str, "jsonb")
        storer = cls(
            pool,
            table=parsed.option("table", str, "sessions"),
            column=cast('Literal["jsonb", "bytea"]', column),  # anything else is refused by the constructor
            timeout=parsed.option("timeout", seconds, timedelta(seconds=5)),
            unlogged=parsed.option("unlogged", flag, default=False),
        )
        parsed.finish()
        storer._where = f"PostgreSQL at {pool.where}"
        return storer

    def __repr__(self) -> str:
        return f"<PostgresStorer {self._layout.table} in {self._where}>"

    async def open(self) -> None:
        """Connect, and create or complete the table, unless it is there; ten workers may do so at once.

        Raises:
            StorerError: the server cannot be reached, or refuses.
            ConfigError: there is a table of this name that is not one of ours, or this role may not create one; the
                message has the statement to run.
        """
        await self._openings.open()

    async def aclose(self) -> None:
        """Undo one `open`; the last closes the pool, if it came from a URL."""
        await self._openings.aclose()

    async def read(self, key: str) -> Record | None:
        rows = await self._fetch(self._sql.read, digest(key))
        return _record(rows[0]) if rows else None

    async def create(self, key: str, record: Record) -> bool:
        return bool(await self._fetch(self._sql.create, *self._row(key, record)))

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return bool(await self._fetch(self._sql.replace, *self._row(key, record), version))

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        lives = None if expires_at is None else expires_at - seen_at
        return bool(await self._fetch(self._sql.touch, digest(key), seen_at, expires_at, lives))

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        rows = await self._fetch(self._sql.delete, digest(key), version)
        return bool(rows and rows[0][0])

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        rows = await self._fetch(self._sql.list_by_owner, owner, _escape(prefix))
        return [(_unescape(key), _record(fields)) for key, *fields in rows]

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        kept = None if keep is None else digest(keep)
        rows = await self._fetch(self._sql.delete_by_owner, owner, _escape(prefix), kept)
        return int(rows[0][0])

    async def keys(self) -> AsyncIterator[str]:
        last = b""
        while rows := await self._fetch(self._sql.keys, last, _PAGE):
            for _, key in rows:
                yield _unescape(key)
            last = rows[-1][0]

    async def clean(self) -> int:
        removed = 0
        while True:
            rows = await self._fetch(self._sql.clean, self._layout.lock, _BATCH)
            count = int(rows[0][0])
            removed += count
            # Fewer than asked for: done, or another replica is at it.
            if count < _BATCH:
                return removed

    def _row(self, key: str, record: Record) -> tuple[object, ...]:
        text = survives_jsonb(record.value) if self.stores_json else None
        raw = record.value if text is None else None
        lives = None if record.expires_at is None else record.expires_at - record.seen_at
        times = record.created_at, record.seen_at, record.expires_at
        return digest(key), _escape(key), text, raw, record.meta, record.owner, *times, record.version, lives

    async def _close(self) -> None:
        if isinstance(self._pool, _OwnPool):
            self._connected = False
            await self._pool.close(self._timeout)

    async def _prepare(self) -> None:
        if not self._layout.to_run(await self._call(self._inspect)):
            return

        try:
            await self._call(self._create_table)
        except StorerError as failure:
            if not isinstance(failure.__cause__, asyncpg.InsufficientPrivilegeError | asyncpg.InvalidSchemaNameError):
                raise
            raise ConfigError(
                f"{self._where}: there is no schema for {self._layout.table}, or this role may not make or change it: "
                "let its owner run what `aiosessions schema` prints"
            ) from failure.__cause__

    async def _create_table(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            # One worker at a time, and each looks again when it is its turn.
            lock = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))"
            await connection.fetch(lock, self._layout.lock)
            if sql := self._layout.to_run(await self._inspect(connection)):
                await connection.execute(sql)

    async def _inspect(self, connection: asyncpg.Connection) -> Found:
        (row,) = await connection.fetch(self._layout.inspect, self._layout.table, self._layout.trigger)
        encoding, persistence, columns, indexed, unique, has_trigger = row
        return Found(encoding, persistence, frozenset(columns), frozenset(indexed), frozenset(unique), has_trigger)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def fetch(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            return await connection.fetch(statement, *arguments)

        return await self._call(fetch)

    async def _call(self, work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
        """Run *work* with a connection, within the time-out; whatever the driver raises leaves as a StorerError."""
        with bounded(self._timeout, _DRIVER_ERRORS, where=self._where, describe=_describe):
            await self._connect()
            connection: asyncpg.Connection = await self._pool.acquire()
            try:
                return await work(connection)
            finally:
                # asyncpg shields this from cancellation, and the time-out lets go of a server that hangs.
                await self._pool.release(connection, timeout=self._timeout)

    async def _connect(self) -> None:
        if self._connected:
            return

        # asyncpg refuses a second task that awaits the pool while the first still connects.
        async with self._connecting:
            await self._pool
            self._connected = True


class _OwnPool:
    """A pool made from a URL when it is first awaited, in the event loop that uses it."""

    def __init__(self, url: StorerURL) -> None:
        self._min_size = url.option("min_size", int, 0)
        self._max_size = url.option("max_size", int, 10)
        self._statement_cache_size = url.option("statement_cache_size", int, 100)
        if not 0 <= self._min_size <= self._max_size or self._max_size == 0:
            raise ConfigError(f"{url}: min_size must be from 0 to max_size, and max_size at least 1")
        port = url.option("port", int, 5432)
        options = url.driver_options(_DSN_OPTIONS)
        hosts = url.hosts or [(options.get("host", "localhost"), None)]
        self.where = ",".join(f"{host}:{own_port or port}" for host, own_port in hosts)
        if not url.hosts:
            options["port"] = str(port)
        self._dsn = url.rebuilt("postgresql", options, default_port=port)
        self._pool: asyncpg.Pool | None = None

    def __await__(self) -> Generator[Any, Any, Any]:  # Any: as in Pool
        # asyncpg closes a pool that could not connect at its start.
        if self._pool is None or self._pool.is_closing():
            self._pool = asyncpg.create_pool(
                self._dsn,
                min_size=self._min_size,
                max_size=self._max_size,
                statement_cache_size=self._statement_cache_size,
                # The query that cleans a connection up costs a second round trip, and our statements leave nothing.
                reset=_nothing_to_reset,
            )
        return self._pool.__await__()

    def acquire(self) -> Awaitable[Any]:  # Any: as in Pool
        return self._connected_pool().acquire()

    def release(self, connection: Any, *, timeout: float | None = None) -> Awaitable[Any]:  # Any: as in Pool
        return self._connected_pool().release(connection, timeout=timeout)

    async def close(self, timeout: float) -> None:
        if self._pool is None:
            return

        # Calls that are under way give their connections back to this pool, not to the next one.
        with anyio.move_on_after(timeout) as scope:
            await self._pool.close()
        if scope.cancelled_caught:
            self._pool.terminate()
        self._pool = None

    def _connected_pool(self) -> asyncpg.Pool:
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool was closed")
        return self._pool


async def _nothing_to_reset(_: asyncpg.Connection) -> None:
    pass


def _record(fields: Iterable[Any]) -> Record:  # Any: a row as asyncpg gives it
    text, raw, meta, owner, created_at, seen_at, expires_at, version = fields
    return Record(raw if text is None else text.encode(), meta, owner, created_at, seen_at, expires_at, version)


def _escape(key: str) -> str:
    """What PostgreSQL can store as text; a prefix of a key stays a prefix."""
    return key.replace("\\", r"\\").replace("\0", r"\0").encode("utf-8", "backslashreplace").decode()


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1]) or chr(int(found[1][1:], 16)), text)


def _describe(error: Exception) -> str:
    """The error without anything that may be a value or a password, and the error itself rid of them.

    PostgreSQL puts the failing row into DETAIL; errors about a value, the server's and asyncpg's own, quote it.
    """
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        error.detail = None
    if isinstance(error, asyncpg.DataError):
        error.args = ("a value does not fit its column",)
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
