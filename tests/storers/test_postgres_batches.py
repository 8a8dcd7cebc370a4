"""Calls of PostgresStorer that share a statement: each has its own answer."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest
from msgspec.structs import replace as changed

from aiosessions._errors import StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import race
from tests import servers_sql
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.servers_sql import PostgresServer

pytestmark = pytest.mark.anyio
postgres_server = servers_sql.postgres_server


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: as in conftest
    return request.param


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


@pytest.fixture(params=["jsonb", "bytea"])
async def storer(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, proxy: Proxy
) -> AsyncIterator[PostgresStorer]:
    """With a table of its own, behind the proxy."""
    url = postgres_server.url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
    storer = PostgresStorer.from_url(f"{url}&table=together&column={request.param}&max_size=3")
    await storer.open()
    yield storer
    await storer.aclose()
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute("DROP TABLE together")
    await connection.close()


def record(number: int = 0, *, owner: str | None = None, lives: float | None = 60.0) -> Record:
    now = float(int(time.time()))
    expires_at = None if lives is None else now + lives
    return Record(b'{"n": %d}' % number, b"%d" % number, owner, now, now, expires_at, new_version())


def lives_on(stored: Record) -> Record:
    """What a touch that ends the expiry makes of it."""
    return changed(stored, seen_at=stored.seen_at + 5, expires_at=None)


async def test_calls_of_one_tick_share_a_round_trip_and_each_has_its_own_answer(
    storer: PostgresStorer, proxy: Proxy
) -> None:
    """DESIGN 10, S2, S7: a hundred of one kind ask the server twice at most, the first of them alone."""
    first = [record(number, owner=f"user{number}", lives=None if number % 2 else 60.0) for number in range(100)]
    second = [record(number + 100) for number in range(100)]
    rounds = list[list[int]]()

    async def together(call: Callable[[int], Awaitable[object]], expected: Sequence[object]) -> None:
        proxy.tally.reset()
        assert [same(answer) for answer in await race(100, call)] == [same(answer) for answer in expected]
        rounds[-1].append(proxy.tally.round_trips)

    for _ in range(3):  # statements are prepared first, on each connection
        rounds.append([])
        await together(lambda n: storer.create(f"k{n}", first[n]), [True] * 100)
        await together(lambda n: storer.read(f"k{n}"), first)
        await together(lambda n: storer.replace(f"k{n}", second[n], version=first[n].version), [True] * 100)
        await together(lambda n: storer.touch(f"k{n}", seen_at=second[n].seen_at + 5, expires_at=None), [True] * 100)
        await together(lambda n: storer.read(f"k{n}"), [lives_on(stored) for stored in second])
        await together(lambda n: storer.delete(f"k{n}"), [True] * 100)
        await together(lambda n: storer.read(f"k{n}"), [None] * 100)
    assert max(min(each) for each in zip(*rounds, strict=True)) <= 2


def same(answer: object) -> object:
    """A document without its white space."""
    return changed(answer, value=answer.value.replace(b" ", b"")) if isinstance(answer, Record) else answer


async def test_a_write_that_is_refused_is_refused_alone(storer: PostgresStorer) -> None:
    """S3, S4, S5, S7, S8: present, absent, expired, of another version, one beside the other."""
    stored = [record(number, lives=-1.0 if number % 4 == 1 else 60.0) for number in range(40)]
    present = [number for number in range(40) if number % 4]  # of four keys: absent, expired, another version, as asked
    await race(len(present), lambda n: storer.create(f"k{present[n]}", stored[present[n]]))

    def version(number: int) -> int:
        return stored[number].version + (number % 4 == 2)

    assert await race(40, lambda n: storer.touch(f"k{n}", seen_at=stored[n].seen_at, expires_at=None)) == [
        number % 4 >= 2 for number in range(40)
    ]
    written = [record(number + 100) for number in range(40)]
    assert await race(40, lambda n: storer.replace(f"k{n}", written[n], version=version(n))) == [
        number % 4 == 3 for number in range(40)
    ]
    stored[3::4] = written[3::4]
    assert await race(40, lambda n: storer.create(f"k{n}", record())) == [number % 4 < 2 for number in range(40)]
    assert await race(40, lambda n: storer.delete(f"k{n}", version=version(n))) == [
        number % 4 == 3 for number in range(40)
    ]
    assert await race(40, lambda n: storer.delete(f"k{n}")) == [number % 4 != 3 for number in range(40)]


async def test_writes_of_one_key_in_one_tick_come_one_after_another(storer: PostgresStorer) -> None:
    """S3, S5, S6, S7, S8: of twenty that exclude each other one wins, and the very same write succeeds again."""
    one = record()
    assert await race(20, lambda _: storer.create("k", one)) == [True] * 20
    assert sum(await race(20, lambda _: storer.create("other", record()))) == 1
    assert sum(await race(20, lambda _: storer.replace("k", record(), version=one.version))) == 1
    assert await race(20, lambda n: storer.touch("k", seen_at=one.seen_at + n, expires_at=None)) == [True] * 20
    found = await storer.read("k")
    assert found is not None
    assert found.seen_at == one.seen_at + 19
    assert sum(await race(20, lambda _: storer.delete("k"))) == 1


async def test_a_row_that_somebody_holds_holds_up_nobody_else(
    storer: PostgresStorer, postgres_server: PostgresServer
) -> None:
    """S13: an application's transaction on one session is no wait for the others, and no deadlock."""
    stored = [record(number) for number in range(20)]
    await race(20, lambda n: storer.create(f"k{n}", stored[n]))
    calls: list[Callable[[int], Awaitable[bool]]] = [
        lambda n: storer.touch(f"k{n}", seen_at=stored[n].seen_at, expires_at=None),
        lambda n: storer.replace(f"k{n}", stored[n], version=stored[n].version),
        lambda n: storer.delete(f"k{n}", version=stored[n].version),
    ]
    connection = await asyncpg.connect(postgres_server.url)
    for call in calls:
        others = anyio.Semaphore(0)
        answers = dict[int, bool]()

        async def ask(
            number: int, call: Callable[[int], Awaitable[bool]], others: anyio.Semaphore, answers: dict[int, bool]
        ) -> None:
            answers[number] = await call(number)
            others.release()

        async with connection.transaction(), anyio.create_task_group() as group:
            await connection.execute("SELECT FROM together WHERE key = 'k7' FOR UPDATE")
            for number in range(20):
                group.start_soon(ask, number, call, others, answers)
            with anyio.fail_after(4):  # less than the time-out of the one that waits
                for _ in range(19):
                    await others.acquire()
            assert 7 not in answers
            await connection.execute("ROLLBACK")
            await others.acquire()
            await connection.execute("BEGIN")
        assert answers == dict.fromkeys(range(20), True)
    await connection.close()


async def test_a_row_that_postgresql_refuses_is_a_storer_error_for_its_own_call(storer: PostgresStorer) -> None:
    """S13, S18: the others of its tick are stored; text with NUL is no user id of PostgreSQL's."""
    failed = list[int]()

    async def create(number: int) -> None:
        try:
            assert await storer.create(f"k{number}", record(owner="a\0" if number == 7 else "ann"))
        except StorerError:
            failed.append(number)

    await race(20, create)
    assert failed == [7]
    assert len(await storer.list_by_owner("ann")) == 19


async def test_whoever_gives_up_takes_only_their_own_answer(storer: PostgresStorer) -> None:
    """S14: of a tick's calls every second is cancelled, on its way or before."""
    stored = [record(number) for number in range(40)]
    await race(40, lambda n: storer.create(f"k{n}", stored[n]))
    for ticks in range(4):
        found = dict[int, Record | None]()

        async def read(number: int, found: dict[int, Record | None], scope: anyio.CancelScope) -> None:
            with scope if number % 2 else nullcontext():
                found[number] = await storer.read(f"k{number}")

        async with anyio.create_task_group() as group:
            scopes = [anyio.CancelScope() for _ in range(40)]
            for number, scope in enumerate(scopes):
                group.start_soon(read, number, found, scope)
            for _ in range(ticks):
                await anyio.lowlevel.checkpoint()
            for scope in scopes[1::2]:
                scope.cancel()
        assert {number: record and record.version for number, record in found.items() if not number % 2} == {
            number: stored[number].version for number in range(0, 40, 2)
        }
