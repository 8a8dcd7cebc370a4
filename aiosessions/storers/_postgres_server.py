"""What PostgresStorer asks of asyncpg: statements, each bounded in time, over a pool of the running event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar, runtime_checkable

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


# What operations can do something about.
_MEANINGS: dict[type[Exception], str] = {
    asyncpg.TargetServerAttributeNotMatched: "no server that takes writes (target_session_attrs)",
    asyncpg.ReadOnlySQLTransactionError: "the server takes no writes (any more)",
    asyncpg.InvalidSQLStatementNameError: "behind a pooler of transactions give the pool statement_cache_size=0",
    asyncpg.DuplicatePreparedStatementError: "behind a pooler of transactions give the pool statement_cache_size=0",
    RuntimeError: "the pool belongs to another event loop",
}


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


@runtime_checkable
class _Expiring(Protocol):
    """A pool that can be told that its connections are of no use any more."""

    async def expire_connections(self) -> None: ...


class Server:
    """A PostgreSQL server, or several of which one takes writes, behind a pool.

    Args:
        source: a pool of the application's, for one event loop; or a URL: each event loop has a pool of its own.
        timeout: seconds that one operation may take, the wait for a connection included.
    """

    def __init__(self, source: "Pool | OwnPools", timeout: float) -> None:
        self._source = source
        self._timeout = timeout
        self._lines = Loops(self._new_line, who="PostgresStorer")
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
                answer = await work(connection)
            except BaseException as error:
                if isinstance(error, asyncpg.ReadOnlySQLTransactionError) and isinstance(pool, _Expiring):
                    # It was the primary: whoever connects now finds the new one.
                    await pool.expire_connections()
                await line.hand_back(pool, connection, self._timeout)
                raise
            await pool.release(connection, timeout=self._timeout)
            return answer

    def insist(self, **settings: str) -> bool:
        """Have them set on each connection that is made from now on; False: the pool is not ours."""
        if not isinstance(self._source, OwnPools):
            return False
        self._source.settings.update(settings)
        return True

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
            own = self._source
            return _Line(lambda: own.create(self._timeout))
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
        self._returns = set[asyncio.Task[None]]()
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

    async def hand_back(self, pool: Pool, connection: Connection, timeout: float) -> None:
        """After a failure: asyncpg ends what the connection is at, or within *timeout* seconds the connection.

        That goes on when nobody waits for it, and if the server hangs it fails: the failure is no news, for the call
        has failed already, and asyncio would log it.
        """

        async def release() -> None:
            await pool.release(connection, timeout=timeout)

        task = asyncio.create_task(release())
        self._returns.add(task)
        task.add_done_callback(self._returned)
        await asyncio.shield(task)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._returns.discard(task)
        if not task.cancelled():
            task.exception()


class OwnPools:
    """Makes pools from a URL.

    Args:
        url: see `PostgresStorer.from_url`.

    Attributes:
        where: hosts and ports.
        settings: what is set on each connection.

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
        # Of several hosts one takes writes; after a failover it is another one.
        options.setdefault("target_session_attrs", "primary")
        self.settings = dict[str, str]()
        self._dsn = url.rebuilt("postgresql", options, default_port=port)

    def create(self, timeout: float) -> asyncpg.Pool:
        """A pool for the running event loop, still to be awaited; *timeout* is for one connection, in seconds."""
        return asyncpg.create_pool(
            self._dsn,
            min_size=self._min_size,
            max_size=self._max_size,
            statement_cache_size=self._statement_cache_size,
            # The query that cleans a connection up costs a second round trip, and our statements leave nothing.
            reset=_nothing_to_reset,
            server_settings=self.settings,
            connect=_connect,
            timeout=timeout,
        )

    async def close(self, pool: Pool, timeout: float) -> None:
        """Close one of them; what is not done within *timeout* seconds is cut off."""
        assert isinstance(pool, asyncpg.Pool)
        with anyio.move_on_after(timeout) as scope:
            await pool.close()
        if scope.cancelled_caught:
            pool.terminate()


_connecting = set[asyncio.Task[Connection]]()


async def _connect(*arguments: Any, **options: Any) -> Connection:  # Any: they come from the pool
    """A connection, made in a task of its own: asyncpg that is cancelled half way leaves an exception for the log."""
    task = asyncio.create_task(asyncpg.connect(*arguments, **options))
    _connecting.add(task)
    task.add_done_callback(_connecting.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_drop)
        raise


def _drop(task: asyncio.Task[Connection]) -> None:
    """Nobody waits for it any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


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
    said = next((said for kind, said in _MEANINGS.items() if isinstance(error, kind)), "")
    if isinstance(error, OSError):
        said = str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
