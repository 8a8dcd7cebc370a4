"""What happens when a PostgresStorer is opened: what is there is looked at, made or completed, and tried."""

import secrets
import time
from contextlib import suppress

import anyio

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._postgres_rows import row_of
from aiosessions.storers._postgres_schema import Found, Layout
from aiosessions.storers._postgres_server import Connection, Server, sqlstate
from aiosessions.storers._postgres_statements import Statements
from aiosessions.storers.storer import Record
from aiosessions.storers.text import digest

__all__ = ["prepare"]

_READ_COMMITTED = "read committed"
_NO_RIGHT = "42501"
_NO_SCHEMA = "3F000"
_LOST_STATEMENT = ("26000", "42P05")  # there is no such prepared statement, there is one already
_SECOND_CONNECTION = 1.0  # seconds to wait for it: the application may have a small pool, and use it

# The last is what the query says of itself: whether it is prepared under a name, with a mark that nobody else has.
_LOOK = """\
SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), current_setting('transaction_isolation'),
    pg_backend_pid(), EXISTS(SELECT FROM pg_prepared_statements
        WHERE starts_with(name, '__asyncpg') AND position($1 IN statement) > 0)"""

_POOLED = (
    "a pooler gives each transaction another connection to the server (PgBouncer: pool_mode=transaction), which loses "
    "prepared statements: create the pool with statement_cache_size=0 (in a URL: ?statement_cache_size=0)"
)


async def prepare(server: Server, layout: Layout) -> Statements:
    """Make or complete the table, unless it is there, and try what is to be said to it; ten workers may do so at once.

    Raises:
        StorerError: the server cannot be reached, or refuses.
        ConfigError: what is there cannot be used; the message says what to do.
    """
    try:
        await _look_around(server)
        sql = Statements(layout, is_swept=layout.is_swept(await _find_table(server, layout)))
        await _try(server, layout, sql)
    except StorerError as failure:
        if sqlstate(failure) in _LOST_STATEMENT:
            raise ConfigError(f"{server.where}: {_POOLED}") from failure.__cause__
        raise
    return sql


# The server


async def _look_around(server: Server) -> None:
    """Refuse a server, or a pool, that cannot work."""
    isolation = await _isolation(server)
    if isolation != _READ_COMMITTED and server.insist(default_transaction_isolation=_READ_COMMITTED):
        await server.close()
        isolation = await _isolation(server)
    if isolation != _READ_COMMITTED:
        raise ConfigError(
            f"{server.where}: transactions are at the isolation {isolation}, where concurrent writes fail: create the "
            "pool with server_settings={'default_transaction_isolation': 'read committed'}"
        )


async def _isolation(server: Server) -> str:
    """How far apart transactions are kept; a server that takes no writes, and a pooler that loses them, is refused."""
    mark = secrets.token_hex(8)

    async def look(connection: Connection) -> tuple[bool, str, str, bool]:
        (row,) = await connection.fetch(f"/* {mark} */ {_LOOK}", mark)
        in_recovery, read_only, isolation, process, is_named = row
        # A pooler tells its clients of a process that there is not.
        return in_recovery, read_only, isolation, is_named and process != connection.get_server_pid()

    in_recovery, read_only, isolation, is_suspect = await server.call(look)
    if in_recovery:
        raise ConfigError(
            f"{server.where}: this server is in recovery, a standby, and takes no writes: create the pool with all "
            "hosts and target_session_attrs='primary'"
        )
    if read_only == "on":
        raise ConfigError(
            f"{server.where}: transactions are read-only: connect to a server, with a role, whose "
            "default_transaction_read_only is off"
        )
    if is_suspect and await _shares_connections(server):
        raise ConfigError(f"{server.where}: {_POOLED}")
    return isolation


async def _shares_connections(server: Server) -> bool:
    """Whether one process of the server serves two of our connections, or one of ours is served by two."""
    first, second = set[int](), set[int]()

    async def look(connection: Connection) -> None:
        async def look_too(another: Connection) -> None:
            for _ in range(3):
                second.add(await another.fetchval("SELECT pg_backend_pid()"))
                first.add(await connection.fetchval("SELECT pg_backend_pid()"))

        with anyio.move_on_after(_SECOND_CONNECTION):
            await server.call(look_too)

    await server.call(look)
    return bool(first & second) or len(first) > 1 or len(second) > 1


# The table


async def _find_table(server: Server, layout: Layout) -> Found:
    """The table as it is now."""

    async def inspect(connection: Connection) -> Found:
        (row,) = await connection.fetch(layout.inspect, layout.table, layout.trigger)
        encoding, persistence, columns, indexed, unique, has_trigger = row
        return Found(encoding, persistence, frozenset(columns), frozenset(indexed), frozenset(unique), has_trigger)

    async def create(connection: Connection) -> Found:
        async with connection.transaction(isolation="read_committed"):
            # One worker at a time, and each looks again when it is its turn.
            lock = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))"
            await connection.fetch(lock, layout.lock)
            if sql := layout.to_run(await inspect(connection)):
                await connection.execute(sql)
            return await inspect(connection)

    try:
        found = await server.call(inspect)
        return await server.call(create) if layout.to_run(found) else found
    except StorerError as failure:
        if sqlstate(failure) not in (_NO_RIGHT, _NO_SCHEMA):
            raise
        cause = failure.__cause__

    # Where a schema may not be used, PostgreSQL says of what is in it that it is not there.
    hidden = """\
SELECT quote_ident(nspname), quote_ident(current_user) FROM pg_namespace n WHERE NOT has_schema_privilege(oid, 'USAGE')
    AND nspname = coalesce($2::text, nspname)
    AND ($2::text IS NOT NULL OR EXISTS(SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = $1::text))"""
    for schema, role in await server.fetch(hidden, layout.name, layout.schema):
        raise ConfigError(
            f"{server.where}: this role may not use the schema of {layout.table}: let its owner run: "
            f"GRANT USAGE ON SCHEMA {schema} TO {role}"
        ) from cause
    raise ConfigError(
        f"{server.where}: there is no schema for {layout.table}, or this role may not make or change it: "
        "let its owner run what `aiosessions schema` prints"
    ) from cause


# A session


class _UndoneError(Exception):
    """Whatever was done is not to stay."""


async def _try(server: Server, layout: Layout, sql: Statements) -> None:
    """Write, read, change and delete a session that nobody else ever sees."""
    key = f"aiosessions probe {secrets.token_hex(8)}"
    now = time.time()
    row = row_of(key, Record(b"{}", b"", None, now, now, now + 60, 1), is_jsonb=layout.is_jsonb)
    calls: dict[str, tuple[object, ...]] = {
        sql.create: row,
        sql.replace: (*row, 1),
        sql.touch: (digest(key), now, now + 60, 60.0),
        sql.read: ([digest(key)],),
        sql.delete: (digest(key), None),
    }

    async def use(connection: Connection) -> bool:
        answers = list[bool]()
        with suppress(_UndoneError):
            async with connection.transaction(isolation="read_committed"):
                for statement, arguments in calls.items():
                    answers.append(bool(await connection.fetch(statement, *arguments)))
                raise _UndoneError
        return all(answers)

    try:
        if await server.call(use):
            return
        cause = None
    except StorerError as failure:
        if sqlstate(failure) != _NO_RIGHT:
            raise
        cause = failure.__cause__

    missing = """\
SELECT string_agg(kind, ', '), quote_ident(current_user) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) kind
    WHERE NOT has_table_privilege($1::text::regclass, kind)"""
    ((kinds, role),) = await server.fetch(missing, layout.table)
    if kinds is not None:
        raise ConfigError(
            f"{server.where}: this role has not all rights that sessions need: let the owner of the table run: "
            f"GRANT {kinds} ON {layout.table} TO {role}"
        ) from cause
    raise ConfigError(
        f"{server.where}: in {layout.table} this role cannot write a session, read it and delete it again: look for "
        "its row-level security, its triggers and its rules"
    ) from cause
