"""Whether a storer does what sessions need: for `aiosessions check`. Nobody's session is touched."""

import logging
import secrets
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

import anyio

from aiosessions._errors import ConfigError
from aiosessions._tokens import new_version
from aiosessions.cli.stored import opened
from aiosessions.storers.storer import Durable, Record, Storer

__all__ = ["Finding", "examine"]

_READS = 20
_LIVES = 60.0  # seconds, of what the probe writes, should it not come to delete it
_OFFSET = 1.0  # seconds that two clocks in step never are apart


class Finding(NamedTuple):
    """One line of the report.

    Args:
        what: was looked at.
        said: what came out.
        is_problem: whether somebody has to do something.
    """

    what: str
    said: str
    is_problem: bool = False


async def examine(storer: Storer, *, clock: Callable[[], float] = time.time) -> AsyncGenerator[Finding]:
    """Open it, and try it.

    Args:
        storer: nobody has opened it yet.
        clock: this machine's, unix seconds.

    Raises:
        StorerError: the backend failed.
    """
    yield Finding("storer", repr(storer))
    promised, warnings = _is_durable(storer), _Warnings()
    log = logging.getLogger("aiosessions")
    log.addHandler(warnings)  # and so they are not printed a second time
    try:
        async with opened(storer):
            yield Finding("open", "it can be written, read and deleted")
            async for finding in _tried(storer, clock):
                yield finding
            yield _eviction(promised=promised, is_durable=_is_durable(storer), warned=warnings.said)
            async for finding in _clocks(storer, clock):
                yield finding
    except ConfigError as error:
        yield Finding("open", str(error), is_problem=True)
    finally:
        log.removeHandler(warnings)


class _Warnings(logging.Handler):
    """What a storer has to say as it is opened."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


async def _tried(storer: Storer, clock: Callable[[], float]) -> AsyncGenerator[Finding]:
    """Each call once, on a key that is no session's, and reads by the dozen."""
    key, now = f"aiosessions check {secrets.token_hex(8)}", clock()
    record = Record(b'{"probe":1}', b"probe", None, now, now, now + _LIVES, new_version())
    second = Record(b'{"probe":2}', b"probe", None, now, now, now + _LIVES, new_version())
    kept: Record | None = None
    took: list[float] = []
    # another's version first: it must be refused
    did = [
        await storer.create(key, record),
        not await storer.replace(key, second, version=record.version ^ 1),
        await storer.replace(key, second, version=record.version),
        await storer.touch(key, seen_at=now + 1, expires_at=now + _LIVES + 1),
    ]
    try:
        for _ in range(_READS):
            started = time.perf_counter()
            kept = await storer.read(key)
            took.append(time.perf_counter() - started)
    finally:
        with anyio.CancelScope(shield=True):
            did.append(await storer.delete(key))
    did.append(await storer.read(key) is None)

    is_kept = all(did) and kept is not None and kept.version == second.version and kept.meta == second.meta
    said = "every call did what it says" if is_kept else "it does not keep what it confirmed"
    yield Finding("probe", said, is_problem=not is_kept)
    yield Finding("round trip", f"{statistics.median(took) * 1000:.2f} ms; {max(took) * 1000:.2f} ms at most")


def _eviction(*, promised: bool, is_durable: bool, warned: list[str]) -> Finding:
    if is_durable:
        return Finding("eviction", "none: what was confirmed stays until it expires")
    if promised:
        return Finding("eviction", "; ".join(warned) or "the server may forget sessions", is_problem=True)
    return Finding("eviction", "this storer may forget sessions, as it is made or was asked to: no logout relies on it")


def _is_durable(storer: Storer) -> bool:
    return isinstance(storer, Durable) and storer.durable


async def _clocks(storer: Storer, clock: Callable[[], float]) -> AsyncGenerator[Finding]:
    """How far the server's clock is from ours, and what cannot be told for the time that the answer took."""
    async for where, ask in _servers(storer):
        before = clock()
        server = await ask()
        after = clock()
        offset, doubt = server - (before + after) / 2, (after - before) / 2
        is_problem = abs(offset) - doubt > _OFFSET
        advice = ": keep the clocks in step (NTP)" if is_problem else ""
        yield Finding(f"clock{where}", f"the server's is {offset:+.3f} s from this one's{advice}", is_problem)


async def _servers(storer: Storer) -> AsyncGenerator[tuple[str, Callable[[], Any]]]:  # Any: what gives its time
    """Those whose clock counts. A file's is this machine's, and memcached is told how long, never when."""
    if type(storer).__module__ == "aiosessions.storers.redis":
        from aiosessions.storers.redis import RedisStorer

        assert isinstance(storer, RedisStorer)
        server = storer._servers.here()
        for number, node in enumerate(await server.nodes()):

            async def redis_time(node: Any = node) -> float:  # Any: a node of redis-py
                seconds, micro = await server.ask("TIME", node=node)
                return int(seconds) + int(micro) / 1e6

            yield f" of node {number + 1}" if server.is_cluster else "", redis_time

    elif type(storer).__module__ == "aiosessions.storers.postgres":
        from aiosessions.storers.postgres import PostgresStorer

        assert isinstance(storer, PostgresStorer)
        postgres = storer._server

        async def postgres_time() -> float:
            ((seconds,),) = await postgres.fetch("SELECT extract(epoch FROM clock_timestamp())::float8")
            return float(seconds)

        yield "", postgres_time
