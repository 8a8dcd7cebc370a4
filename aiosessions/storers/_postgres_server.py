"""What PostgresStorer asks of asyncpg: statements, each bounded in time, over a pool of the running event loop."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

import anyio

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers.bounded import bounded
from aiosessions.storers.loops import Loops
from aiosessions.storers.url import StorerURL

try:
    import asyncpg
except ImportError as _error:
    raise ImportError('PostgresStorer needs asyncpg: pip install "aiosessions[postgres]"') from _error

__all__ = ["Connection", "OwnPools", "Pool", "Server", "blames_a_row", "sqlstate"]

Connection = asyncpg.Connection

_DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    RuntimeError,  # a pool that another event loop connected
)
_T = TypeVar("_T")

# What libpq's URLs may say and asyncpg reads; it would send anything else to the server as a setting.
_DSN_OPTIONS = frozenset({
    "application_name", "database", "dbname", "gsslib", "host", "krbsrvname", "passfile", "password", "service",
    "sslcert", "sslcrl", "sslkey", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslmode", "sslnegotiation",
    "sslpassword", "sslrootcert", "target_session_attrs", "user",
})  # fmt: skip

# What PostgreSQL says of a row (its data, a rule it breaks, a lock it waits for), not of the connection or the table.
_OF_A_ROW = frozenset({"22", "23", "40", "44", "54", "P0"})


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


class Server:
    """A PostgreSQL server, or several of which one takes writes, behind a pool.

    Args:
        source: a pool of the application's, for one event loop; or a URL: each event loop has a pool of its own.
        timeout: seconds that one operation may take, the wait for a connection included.
    """

    def __init__(self, source: "Pool | OwnPools", timeout: float) -> None:
        self._source = source
        self._timeout = timeout
        self._lines = Loops(self._new_line)
        self._is_taken = False
        self.where = f"PostgreSQL at {source.where}" if isinstance(source, OwnPools) else "PostgreSQL"

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows that one statement answers.

        Raises:
            StorerError: the server, or the driver, could not; or it took too long.
        """

        async def fetch(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(statement, *arguments)

        return await self.call(fetch)

    async def call(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run *work* with a connection, within the time-out; whatever the driver raises leaves as a StorerError."""
        line = self._lines.here()
        with bounded(self._timeout, _DRIVER_ERRORS, where=self.where, describe=_describe):
            pool = line.pool or await line.connect()
            connection: Connection = await pool.acquire()
            try:
                return await work(connection)
            finally:
                # asyncpg shields this from cancellation, and the time-out lets go of a server that hangs.
                await pool.release(connection, timeout=self._timeout)

    async def close(self) -> None:
        """Close the running loop's pool, if it was made here; the next call makes another."""
        if isinstance(self._source, OwnPools):
            line = self._lines.here()
            # Calls that are under way give their connections back to this pool, not to the next one.
            pool, line.pool = line.pool, None
            if pool is not None:
                await self._source.close(pool, self._timeout)

    def _new_line(self) -> "_Line":
        if isinstance(self._source, OwnPools):
            return _Line(self._source.create)
        if self._is_taken:
            raise ConfigError(
                f"{self.where}: a pool belongs to one event loop of one process, and this is another: make a pool, and "
                "a storer, in each, or use PostgresStorer.from_url"
            )
        self._is_taken, pool = True, self._source
        return _Line(lambda: pool)


class _Line:
    """One event loop's way to the server.

    Attributes:
        pool: connected; None: not yet, or no more.
    """

    def __init__(self, create: Callable[[], Pool]) -> None:
        self._create = create
        self._turn = anyio.Lock()
        self.pool: Pool | None = None

    async def connect(self) -> Pool:
        # asyncpg refuses a second task that awaits the pool while the first still connects.
        async with self._turn:
            if self.pool is None:
                # One that could not connect at its start is closed by asyncpg: the next call makes another.
                pool = self._create()
                await pool
                self.pool = pool
            return self.pool


class OwnPools:
    """Makes pools from a URL.

    Args:
        url: see `PostgresStorer.from_url`.

    Raises:
        ConfigError: an option that cannot be.
    """

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

    def create(self) -> asyncpg.Pool:
        """A pool for the running event loop, still to be awaited."""
        return asyncpg.create_pool(
            self._dsn,
            min_size=self._min_size,
            max_size=self._max_size,
            statement_cache_size=self._statement_cache_size,
            # The query that cleans a connection up costs a second round trip, and our statements leave nothing.
            reset=_nothing_to_reset,
        )

    async def close(self, pool: Pool, timeout: float) -> None:
        """Close one of them; what is not done within *timeout* seconds is cut off."""
        assert isinstance(pool, asyncpg.Pool)
        with anyio.move_on_after(timeout) as scope:
            await pool.close()
        if scope.cancelled_caught:
            pool.terminate()


async def _nothing_to_reset(_: Connection) -> None:
    pass


def sqlstate(error: StorerError) -> str:
    """What PostgreSQL calls the failure, in five characters; "" if it is none of PostgreSQL's."""
    cause = error.__cause__
    return (cause.sqlstate or "") if isinstance(cause, asyncpg.PostgresError) else ""


def blames_a_row(error: StorerError) -> bool:
    """Whether the statement did nothing because of one of its rows: without that row it may succeed."""
    return sqlstate(error)[:2] in _OF_A_ROW


def _describe(error: Exception) -> str:
    """The error without anything that may be a value or a password, and the error itself rid of them.

    PostgreSQL puts the failing row into DETAIL; errors about a value, the server's and asyncpg's own, quote it.
    """
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        error.detail = None
    if isinstance(error, asyncpg.DataError):
        error.args = ("a value does not fit its column",)
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
