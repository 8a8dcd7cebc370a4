"""What happens when a PostgresStorer is opened: the table is found, made or completed."""

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._postgres_schema import Found, Layout
from aiosessions.storers._postgres_server import Connection, Server, sqlstate

__all__ = ["prepare"]

_NO_RIGHT = "42501"
_NO_SCHEMA = "3F000"


async def prepare(server: Server, layout: Layout) -> None:
    """Make or complete the table, unless it is there; ten workers may do so at once.

    Raises:
        StorerError: the server cannot be reached, or refuses.
        ConfigError: what is there cannot be used; the message says what to do.
    """

    async def inspect(connection: Connection) -> Found:
        (row,) = await connection.fetch(layout.inspect, layout.table, layout.trigger)
        encoding, persistence, columns, indexed, unique, has_trigger = row
        return Found(encoding, persistence, frozenset(columns), frozenset(indexed), frozenset(unique), has_trigger)

    async def create(connection: Connection) -> None:
        async with connection.transaction():
            # One worker at a time, and each looks again when it is its turn.
            lock = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))"
            await connection.fetch(lock, layout.lock)
            if sql := layout.to_run(await inspect(connection)):
                await connection.execute(sql)

    if not layout.to_run(await server.call(inspect)):
        return

    try:
        await server.call(create)
    except StorerError as failure:
        if sqlstate(failure) not in (_NO_RIGHT, _NO_SCHEMA):
            raise
        raise ConfigError(
            f"{server.where}: there is no schema for {layout.table}, or this role may not make or change it: "
            "let its owner run what `aiosessions schema` prints"
        ) from failure.__cause__
