"""Sessions in a PostgreSQL table, through asyncpg."""

import math
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Literal, cast

import anyio.to_thread

from aiosessions.storers._postgres_opening import prepare
from aiosessions.storers._postgres_rows import escaped, record_of, row_of, unescaped
from aiosessions.storers._postgres_schema import Layout, schema_sql
from aiosessions.storers._postgres_server import OwnPools, Pool, Server
from aiosessions.storers._postgres_statements import Statements
from aiosessions.storers._postgres_writes import Writes
from aiosessions.storers.batches import Batches
from aiosessions.storers.bounded import seconds_of
from aiosessions.storers.loops import Loops
from aiosessions.storers.openings import Openings
from aiosessions.storers.storer import Record
from aiosessions.storers.text import digest
from aiosessions.storers.url import StorerURL, flag, seconds

__all__ = ["Pool", "PostgresStorer", "schema_sql"]

_PAGE = 500
_BATCH = 400
_TOGETHER = 128
_LONG = 32_768  # bytes of a value


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

    Calls that come in one tick of the event loop share a statement (`batches.py`), and each gets its own answer: one
    whose row somebody holds waits alone. A statement needs nothing of its connection afterwards, so that pgbouncer may
    pool transactions (the pool then needs `statement_cache_size=0`). PostgreSQL 14 or later, encoding UTF8, and
    transactions at the default isolation, READ COMMITTED.

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
        self._setup(Layout(table, column, unlogged=unlogged), Server(pool, seconds_of(timeout)))

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
        pools = OwnPools(parsed)
        column = parsed.option("column", str, "jsonb")
        layout = Layout(
            parsed.option("table", str, "sessions"),
            cast('Literal["jsonb", "bytea"]', column),  # anything else is refused by Layout
            unlogged=parsed.option("unlogged", flag, default=False),
        )
        timeout = parsed.option("timeout", seconds, timedelta(seconds=5))
        parsed.finish()
        storer = cls.__new__(cls)
        storer._setup(layout, Server(pools, timeout.total_seconds()))
        return storer

    def _setup(self, layout: Layout, server: Server) -> None:
        self._layout = layout
        self._server = server
        self.durable: bool = not layout.unlogged
        self.stores_json: bool = layout.is_jsonb
        self._openings = Loops(lambda: Openings(self._prepare, server.close), who="PostgresStorer")
        self._reads = Batches(self._read_all, most=_TOGETHER)
        self._say(Statements(layout))

    def _say(self, sql: Statements) -> None:
        """Use these from now on."""
        server, self._sql = self._server, sql
        self._creates = Writes(server, sql.create, sql.all_create, most=_TOGETHER)
        self._replaces = Writes(server, sql.replace, sql.all_replace, most=_TOGETHER)
        self._touches = Writes(server, sql.touch, sql.all_touch, most=_TOGETHER)
        self._deletes = Writes(server, sql.delete, sql.all_delete, most=_TOGETHER)

    def __repr__(self) -> str:
        return f"<PostgresStorer {self._layout.table} in {self._server.where}>"

    async def open(self) -> None:
        """Connect, and create or complete the table, unless it is there; ten workers may do so at once.

        Raises:
            StorerError: the server cannot be reached, or refuses.
            ConfigError: there is a table of this name that is not one of ours, or this role may not create one; the
                message has the statement to run.
        """
        await self._openings.here().open()

    async def aclose(self) -> None:
        """Undo one `open`; the last closes the pool, if it came from a URL."""
        await self._openings.here().aclose()

    async def read(self, key: str) -> Record | None:
        return await self._reads.ask(digest(key))

    async def read_together(self, keys: Sequence[str]) -> Sequence[Record | None]:
        return await self._reads.ask_all([digest(key) for key in keys])

    async def create(self, key: str, record: Record) -> bool:
        return await self._creates.ask(*await self._row(key, record))

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await self._replaces.ask(*await self._row(key, record), version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        lives = None if expires_at is None else expires_at - seen_at
        return await self._touches.ask(digest(key), seen_at, expires_at, lives)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self._deletes.ask(digest(key), version)

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        found = list[tuple[str, Record]]()
        last, rows = b"", None
        while rows is None or len(rows) == _PAGE:
            rows = await self._server.fetch(self._sql.list_by_owner, owner, escaped(prefix), last, _PAGE)
            found += [(unescaped(key), record_of(fields)) for _, key, *fields in rows if key is not None]
            last = rows[-1][0] if rows else last
        return found

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        kept = None if keep is None else digest(keep)
        rows = await self._server.fetch(self._sql.delete_by_owner, owner, escaped(prefix), kept)
        return int(rows[0][0])

    async def keys(self) -> AsyncIterator[str]:
        last = b""
        while rows := await self._server.fetch(self._sql.keys, last, _PAGE):
            for _, key in rows:
                yield unescaped(key)
            last = rows[-1][0]

    async def clean(self) -> int:
        removed, last = 0, -math.inf
        gone: int
        looked_at: int
        while True:
            ((gone, looked_at, last),) = await self._server.fetch(self._sql.clean, self._layout.lock, _BATCH, last)
            removed += gone
            # Fewer than asked for: done, or another replica is at it.
            if looked_at < _BATCH:
                return removed

    async def _row(self, key: str, record: Record) -> tuple[object, ...]:
        if len(record.value) < _LONG:
            return row_of(key, record, is_jsonb=self.stores_json)
        # To look through a document of this size may take 40 ms.
        return await anyio.to_thread.run_sync(partial(row_of, key, record, is_jsonb=self.stores_json))

    async def _read_all(self, hashes: Sequence[bytes]) -> Sequence[Record | None]:
        rows = await self._server.fetch(self._sql.read, hashes)
        found = {key_hash: record_of(fields) for key_hash, *fields in rows}
        return [found.get(key_hash) for key_hash in hashes]

    async def _prepare(self) -> None:
        self._say(await prepare(self._server, self._layout))
