"""Sessions in a table of any database that SQLAlchemy has an async driver for."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any

import anyio
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from aiosessions import ConfigError, Record, StorerError

__all__ = ["SQLAlchemyStorer", "from_url"]

_PAGE = 200


class SQLAlchemyStorer:
    """Keeps each session in a row, found by a digest of its key: any database can index that.

    Each call is one transaction, in a connection of the engine's pool, or a part of the application's own: see `using`.
    The time of the process decides what has expired.

    Args:
        engine: never disposed of, unless *owns_engine*.
        table: the table's name. `storer.table` is its `sqlalchemy.Table`, for migrations.
        timeout: how long a call may take, in seconds.
        clock: gives the time in unix seconds.
        owns_engine: whether the last `aclose` disposes of the engine.

    Raises:
        ConfigError: *timeout* is not positive.
    """

    durable = True
    stores_json = False

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        table: str = "sessions",
        timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
        owns_engine: bool = False,
    ) -> None:
        if not timeout > 0:
            raise ConfigError(f"timeout={timeout!r}: give seconds, more than 0")

        self.table = _table(table)
        self._engine = engine
        self._timeout = timeout
        self._clock = clock
        self._owns_engine = owns_engine
        self._opened = 0
        self._turn = anyio.Lock()
        self._given = ContextVar[AsyncConnection | None](f"aiosessions.{table}", default=None)

    @contextmanager
    def using(self, connection: AsyncConnection) -> Generator[None]:
        """Within the block this task's calls are part of the transaction that *connection* is in.

        They are confirmed by its commit, and undone by its rollback: together with what the application writes there.

            async with engine.begin() as connection:
                await connection.execute(orders.insert().values(...))
                with storer.using(connection):
                    await store.save(session)

        Of an `AsyncSession` it is `await session.connection()`.
        """
        token = self._given.set(connection)
        try:
            yield
        finally:
            self._given.reset(token)

    async def open(self) -> None:
        """Make the table, unless it is there. Counted: as many `aclose` close it."""
        async with self._turn:
            if not self._opened:
                async with self._transaction() as connection:
                    await connection.run_sync(self.table.metadata.create_all)
            self._opened += 1

    async def aclose(self) -> None:
        """Undo one `open`."""
        async with self._turn:
            self._opened = max(0, self._opened - 1)
            if not self._opened and self._owns_engine:
                await self._engine.dispose()

    async def read(self, key: str) -> Record | None:
        t = self.table.c
        rows = await self._rows(sa.select(*_columns(self.table)).where(t.key_hash == _digest(key), self._live()))
        return _record(rows[0]) if rows else None

    async def create(self, key: str, record: Record) -> bool:
        t = self.table.c
        values = {"key_hash": _digest(key), "key": _bytes(key), **_values(record)}
        absent = sa.select(*(sa.literal(value, t[name].type) for name, value in values.items())).where(
            ~sa.exists(sa.select(t.key_hash).where(t.key_hash == values["key_hash"]))
        )
        try:
            async with self._transaction() as connection:
                expired = sa.and_(t.key_hash == values["key_hash"], t.expires_at <= self._clock())
                await connection.execute(self.table.delete().where(expired))
                made = await connection.execute(self.table.insert().from_select(list(values), absent))
                if made.rowcount:
                    return True
        except StorerError as failure:
            if not isinstance(failure.__cause__, IntegrityError):  # somebody else was faster
                raise
        return await self._has_version(key, record.version)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        t = self.table.c
        where = sa.and_(t.key_hash == _digest(key), t.version == version, self._live())
        done = await self._changed(self.table.update().where(where).values(**_values(record)))
        return bool(done) or await self._has_version(key, record.version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        t = self.table.c
        change = {t.seen_at: _later(t.seen_at, seen_at), t.expires_at: _later(t.expires_at, expires_at)}
        where = sa.and_(t.key_hash == _digest(key), self._live())
        return bool(await self._changed(self.table.update().where(where).values(change)))

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        t = self.table.c
        where = sa.and_(t.key_hash == _digest(key), self._live())
        if version is not None:
            where = sa.and_(where, t.version == version)
        return bool(await self._changed(self.table.delete().where(where)))

    async def clean(self) -> int:
        t = self.table.c
        removed = 0
        while True:
            expired = t.expires_at < self._clock() - 60
            rows = await self._rows(sa.select(t.key_hash).where(expired).order_by(t.expires_at).limit(_PAGE))
            names = [name for (name,) in rows]
            removed += await self._changed(self.table.delete().where(t.key_hash.in_(names), expired))
            if len(names) < _PAGE:
                return removed

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        t = self.table.c
        rows = await self._rows(
            sa.select(t.key, *_columns(self.table)).where(t.owner_hash == _digest(owner), self._live())
        )
        found = [(_text(key), _record(columns)) for key, *columns in rows]
        return [(key, record) for key, record in found if key.startswith(prefix)]

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        t = self.table.c
        ended = 0
        rows = await self._rows(sa.select(t.key_hash, t.key).where(t.owner_hash == _digest(owner), self._live()))
        names = [name for name, key in rows if _text(key).startswith(prefix) and _text(key) != keep]
        for start in range(0, len(names), _PAGE):
            page = t.key_hash.in_(names[start : start + _PAGE])
            where = sa.and_(page, t.owner_hash == _digest(owner), self._live())
            ended += await self._changed(self.table.delete().where(where))
        return ended

    async def keys(self) -> AsyncIterator[str]:
        t = self.table.c
        last = ""
        while True:
            page = sa.select(t.key_hash, t.key).where(t.key_hash > last, self._live()).order_by(t.key_hash).limit(_PAGE)
            rows = await self._rows(page)
            for last, key in rows:  # noqa: B007 - the page goes on from the last one
                yield _text(key)
            if len(rows) < _PAGE:
                return

    def _live(self) -> sa.ColumnElement[bool]:
        expires_at = self.table.c.expires_at
        return sa.or_(expires_at.is_(None), expires_at > self._clock())

    async def _has_version(self, key: str, version: int) -> bool:
        """Whether a write that was refused has been applied before: it was sent twice."""
        t = self.table.c
        where = sa.and_(t.key_hash == _digest(key), t.version == version, self._live())
        return bool(await self._rows(sa.select(t.version).where(where)))

    async def _rows(self, statement: sa.Executable) -> Sequence[Any]:  # Any: what the columns hold
        async with self._transaction() as connection:
            rows: Sequence[Any] = (await connection.execute(statement)).all()
        return rows

    async def _changed(self, statement: sa.Executable) -> int:
        """How many rows it changed."""
        async with self._transaction() as connection:
            return (await connection.execute(statement)).rowcount

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncConnection]:
        """The application's, or one of its own; whatever is raised leaves as a StorerError.

        Who is cancelled waits for the answer: no driver's connection is left in the middle of one.
        """
        given = self._given.get()
        try:
            with anyio.fail_after(self._timeout, shield=True):
                if given is not None:
                    yield given
                else:
                    async with self._engine.begin() as connection:
                        yield connection
        except (SQLAlchemyError, OSError) as error:  # TimeoutError is an OSError
            if isinstance(error, StatementError):
                error.hide_parameters = True  # the session is among them
            raise StorerError(f"the database failed: {type(error).__name__}") from error


def from_url(url: str) -> SQLAlchemyStorer:
    """`sqlalchemy:URL`, where URL is one of SQLAlchemy's: what the entry point names.

    Raises:
        ConfigError: SQLAlchemy cannot use the URL, or has no async driver for it.
    """
    try:
        engine = create_async_engine(url.partition(":")[2], hide_parameters=True)
    except (SQLAlchemyError, ImportError) as error:
        raise ConfigError(f"sqlalchemy: give sqlalchemy:DIALECT+ASYNC_DRIVER://... ({type(error).__name__})") from None
    return SQLAlchemyStorer(engine, owns_engine=True)


def _table(name: str) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("key_hash", sa.String(64), primary_key=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary(2**24 - 1), nullable=False),
        sa.Column("meta", sa.LargeBinary, nullable=False),
        sa.Column("owner", sa.LargeBinary),
        sa.Column("owner_hash", sa.String(64), index=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, index=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )


def _columns(table: sa.Table) -> list[sa.Column[Any]]:  # Any: what the columns hold
    return [table.c[name] for name in ("value", "meta", "owner", "created_at", "seen_at", "expires_at", "version")]


def _values(record: Record) -> dict[str, object]:
    return {
        "value": record.value,
        "meta": record.meta,
        "owner": None if record.owner is None else _bytes(record.owner),
        "owner_hash": None if record.owner is None else _digest(record.owner),
        "created_at": record.created_at,
        "seen_at": record.seen_at,
        "expires_at": record.expires_at,
        "version": record.version,
    }


def _record(row: Sequence[Any]) -> Record:  # Any: what the columns hold
    value, meta, owner, created_at, seen_at, expires_at, version = row
    return Record(value, meta, None if owner is None else _text(owner), created_at, seen_at, expires_at, version)


def _later(column: sa.Column[Any], time: float | None) -> sa.ColumnElement[Any]:  # Any: a time, or none
    """None is later than any."""
    if time is None:
        return sa.null()
    return sa.case((column.is_(None), column), (column > time, column), else_=time)


def _digest(text: str) -> str:
    return sha256(_bytes(text)).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
