"""PostgresStorer while answers get lost, the server hangs, crashes and comes back, and callers give up."""

import asyncio
import gc
import json
import os
import random
import time
import traceback
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import pytest
from msgspec.structs import replace as changed

from aiosessions._errors import ConfigError, StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import collected, race
from tests import servers_sql
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.servers_sql import PostgresServer
from tests.storers.load import Load

pytestmark = pytest.mark.anyio
postgres_server = servers_sql.postgres_server


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: as in conftest
    return request.param


@asynccontextmanager
async def opened(server: PostgresServer, *, port: int | None = None, options: str) -> AsyncGenerator[PostgresStorer]:
    """A storer on a table of its own, closed whatever happens: uvloop waits for ever for connections left open."""
    url = server.url.replace(f":{server.port}/", f":{port or server.port}/")
    storer = PostgresStorer.from_url(f"{url}&table=faults&{options}")
    try:
        await storer.open()
        yield storer
    finally:
        await storer.aclose()
        connection = await asyncpg.connect(server.url)
        await connection.execute("DROP TABLE IF EXISTS faults")
        await connection.close()


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
async def storer(postgres_server: PostgresServer, proxy: Proxy) -> AsyncIterator[PostgresStorer]:
    """Behind the proxy, with few connections and a short time-out, on a table of its own."""
    async with opened(postgres_server, port=proxy.port, options="max_size=3&timeout=1") as storer:
        yield storer
        proxy.silent = False


def record(owner: str | None = None, value: bytes = b"{}") -> Record:
    now = float(int(time.time()))
    return Record(value, b"", owner, now, now, now + 3600, new_version())


def calls(storer: PostgresStorer) -> dict[str, Callable[[], Awaitable[object]]]:
    """Each method once."""
    now = time.time()
    return {
        "read": lambda: storer.read("k"),
        "create": lambda: storer.create("k", record()),
        "replace": lambda: storer.replace("k", record(), version=1),
        "touch": lambda: storer.touch("k", seen_at=now, expires_at=None),
        "delete": lambda: storer.delete("k"),
        "list_by_owner": lambda: storer.list_by_owner("ann"),
        "delete_by_owner": lambda: storer.delete_by_owner("ann"),
        "keys": lambda: collected(storer.keys()),
        "clean": storer.clean,
    }


async def test_a_write_whose_answer_got_lost_is_applied_once(storer: PostgresStorer, proxy: Proxy) -> None:
    """S6, S13: the first call is a StorerError of unknown outcome; the same call again says True, and a touch stays."""
    first, second = record(), record(value=b'{"n": 2}')

    async def lose(write: Awaitable[bool], *, after: Awaitable[bool]) -> None:
        await after  # so that the answer that is lost is not that to the statement's preparation
        proxy.drop_answers()
        with pytest.raises(StorerError) as caught:
            await write
        assert isinstance(caught.value.__cause__, asyncpg.PostgresError | OSError)

    await lose(storer.create("k", first), after=storer.create("other", record()))
    assert await storer.read("k") == first, "the server had done its work"
    later = changed(first, seen_at=first.seen_at + 5, expires_at=None)
    await storer.touch("k", seen_at=later.seen_at, expires_at=None)
    assert await storer.create("k", first) is True
    assert await storer.read("k") == later

    await lose(storer.replace("k", second, version=first.version), after=storer.replace("o", record(), version=1))
    assert await storer.read("k") == second, "the server had done its work"
    assert await storer.replace("k", second, version=first.version) is True
    assert await storer.replace("k", record(), version=first.version) is False
    assert proxy.dropped == 2


async def test_a_server_that_hangs_is_a_storer_error_within_the_time_out(storer: PostgresStorer, proxy: Proxy) -> None:
    """S13: for every method, whether it has a connection or waits for one; afterwards the same storer works."""
    failures = list[StorerError]()

    async def fail(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(StorerError, match="no answer within 1 s") as caught:
            await call()
        failures.append(caught.value)

    proxy.silent = True
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for call in calls(storer).values():
                group.start_soon(fail, call)
    assert [type(failure.__cause__) for failure in failures] == [TimeoutError] * 9
    proxy.silent = False
    proxy.cut()
    await recovered(storer)


async def test_a_server_that_is_gone_is_a_storer_error_with_the_drivers_error(
    postgres_server: PostgresServer,
) -> None:
    """S13: for every method, open included; after it is back the same storer works."""
    async with opened(postgres_server, options="timeout=2") as storer:
        another = PostgresStorer.from_url(f"{postgres_server.url}&table=faults&min_size=1")
        await anyio.to_thread.run_sync(postgres_server.crash)
        try:
            for call in calls(storer).values():
                with pytest.raises(StorerError, match=f"127.0.0.1:{postgres_server.port}") as caught:
                    await call()
                assert isinstance(caught.value.__cause__, asyncpg.PostgresError | asyncpg.InterfaceError | OSError)
            for call in (another.open, another.clean):
                with pytest.raises(StorerError):
                    await call()
        finally:
            await anyio.to_thread.run_sync(postgres_server.start)
        await recovered(storer)
        await another.open()
        await another.aclose()


async def test_a_crash_under_load_loses_nothing_that_was_confirmed(postgres_server: PostgresServer) -> None:
    """S13, F4: each call succeeds or gets StorerError, nobody waits longer than the time-out, and all go on."""
    async with opened(postgres_server, options="timeout=2") as storer:
        load = Load(storer)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(load.run)
                for _ in range(2):
                    await load.reach(30)
                    await anyio.to_thread.run_sync(postgres_server.crash)
                    await anyio.to_thread.run_sync(postgres_server.start)
                await load.reach(30)
                load.stop.set()
        assert load.failed, "the crashes went unnoticed: the test is no test"
        await load.check(storer)


async def test_thousands_of_cancelled_calls_never_cross_answers(storer: PostgresStorer, proxy: Proxy) -> None:
    """S14: task groups, time-outs and plain asyncio cancellation, at random points, over three connections."""
    chance = random.Random(14)
    keys = [f"k{number}" for number in range(8)]
    wrong: list[str] = []

    def fresh(key: str) -> Record:
        return record(key, json.dumps({"key": key}).encode())

    async def use(key: str) -> None:
        found = await storer.read(key)
        if found is None:
            await storer.create(key, fresh(key))
        elif found.owner != key or json.loads(found.value) != {"key": key}:
            wrong.append(f"read({key!r}) answered with the record of {found.owner!r}")
        elif chance.random() < 0.5:
            await storer.replace(key, fresh(key), version=found.version)
        else:
            await storer.delete(key, version=found.version)

    async def give_up(key: str) -> None:
        for _ in range(60):
            if chance.random() < 0.5:
                with anyio.move_on_after(chance.random() / 200):
                    await use(key)
            else:
                task = asyncio.ensure_future(use(key))
                await asyncio.sleep(chance.random() / 200)
                task.cancel()
                await asyncio.wait([task])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(give_up, keys[number % len(keys)])
        assert not wrong
        for key in keys:
            await recovered(storer, key, fresh(key))


async def test_no_error_shows_a_value(postgres_server: PostgresServer, storer: PostgresStorer) -> None:
    """Issue 3: PostgreSQL quotes the row that breaks a rule, and asyncpg the argument that does not fit."""
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute("ALTER TABLE faults ADD CHECK (user_id <> 'private')")
    await connection.close()
    for bad in (record("private", b'{"card": "private"}'), record("private\x00"), record("private\ud800")):
        with pytest.raises(StorerError) as caught:
            await storer.create("k", bad)
        shown = traceback.format_exception(caught.value)
        assert not [line for line in shown if "private" in line]


async def test_a_pool_without_free_connections_is_a_storer_error(postgres_server: PostgresServer) -> None:
    """S13: the wait for a connection is part of the time-out; it is found again when it is free."""
    pool = asyncpg.create_pool(postgres_server.url, min_size=0, max_size=1)
    storer = PostgresStorer(pool, table="busy", timeout=timedelta(seconds=0.5))
    await storer.open()
    async with pool.acquire():
        with pytest.raises(StorerError, match=r"no answer within 0.5 s"):
            await storer.read("k")
    await recovered(storer)
    await pool.execute("DROP TABLE busy")
    await pool.close()


@pytest.mark.parametrize("tls", ["", "&sslmode=disable"])
async def test_a_server_that_hangs_floods_no_log(
    postgres_server: PostgresServer, proxy: Proxy, caplog: pytest.LogCaptureFixture, tls: str
) -> None:
    """S13: each call says so to its caller, and asyncio has nothing to add: no exception that nobody retrieved."""
    address = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?table=hanging&max_size=5&timeout=0.3{tls}"
    storer = PostgresStorer.from_url(address)
    await storer.open()

    async def fail(number: int) -> None:
        with pytest.raises(StorerError, match="no answer"):
            await (storer.read("k") if number % 2 else storer.list_by_owner(f"u{number}"))

    for connected in (True, False):
        proxy.silent = True
        if not connected:
            proxy.cut()
        for _ in range(3):
            await race(20, fail)
        proxy.silent = False
        proxy.cut()
    await recovered(storer)
    await storer.aclose()
    gc.collect()
    await asyncio.sleep(0)
    assert not [entry.getMessage() for entry in caplog.records if entry.name == "asyncio" and entry.levelno >= 30]
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute("DROP TABLE hanging")
    await connection.close()


def test_a_second_event_loop_has_a_pool_of_its_own(postgres_server: PostgresServer) -> None:
    """S13, S16: one storer, used by loops one after another and at once, in threads; closed or not before they end."""
    storer = PostgresStorer.from_url(f"{postgres_server.url}&table=loops")
    expected = record()

    async def use(number: int) -> None:
        await storer.open()
        keys = [f"{number}-{key}" for key in range(20)]
        await race(20, lambda n: storer.create(keys[n], expected))
        assert await race(20, lambda n: storer.read(keys[n])) == [expected] * 20
        assert await race(20, lambda n: storer.delete(keys[n])) == [True] * 20
        await storer.aclose()

    for number in range(2):
        asyncio.run(use(number))
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(asyncio.run, use(number)) for number in range(8)]:
            done.result(30)

    async def forget() -> None:
        await storer.open()
        assert await storer.create("k", expected)

    async def remember() -> None:
        assert await storer.read("k") == expected
        connection = await asyncpg.connect(postgres_server.url)
        await connection.execute("DROP TABLE loops")
        await connection.close()
        await storer.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's: nobody closed the first loop's connections
        asyncio.run(forget())
        asyncio.run(remember())
        gc.collect()


def test_a_pool_of_the_application_s_in_a_second_loop_is_refused(postgres_server: PostgresServer) -> None:
    """S13: asyncpg would say that a future is attached to another loop, or that the loop is closed."""

    async def first() -> asyncpg.Pool:
        pool = await asyncpg.create_pool(postgres_server.url, min_size=0)
        await PostgresStorer(pool, table="loops").open()
        await pool.execute("DROP TABLE loops")
        await pool.close()
        return pool

    async def used_before() -> None:
        with pytest.raises(ConfigError, match="event loop"):
            await storer.read("k")

    async def used_elsewhere() -> None:
        with pytest.raises(StorerError):
            await PostgresStorer(pool, table="loops").read("k")

    pool = asyncio.run(first())
    asyncio.run(used_elsewhere())
    storer = PostgresStorer(pool)

    async def use() -> None:
        with pytest.raises(StorerError):
            await storer.read("k")

    asyncio.run(use())
    asyncio.run(used_before())


def test_a_process_that_was_forked_after_use_has_a_pool_of_its_own(postgres_server: PostgresServer) -> None:
    """S13: the child's calls go over its own connections, and the parent's stay whole."""

    async def main() -> None:
        storer = PostgresStorer.from_url(f"{postgres_server.url}&table=forked&max_size=1")
        await storer.open()
        assert await storer.create("k", record())
        child = os.fork()
        if not child:
            os._exit(0 if _child_reads(storer) else 1)
        _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
        assert status == 0
        assert await storer.delete("k")
        await storer.aclose()
        connection = await asyncpg.connect(postgres_server.url)
        await connection.execute("DROP TABLE forked")
        await connection.close()

    asyncio.run(main())


def _child_reads(storer: PostgresStorer) -> bool:
    async def read() -> bool:
        await storer.open()
        found = await storer.read("k")
        await storer.aclose()
        return found is not None

    try:
        return asyncio.run(read())
    except BaseException:  # noqa: BLE001 - whatever it was, the parent's test must not go on in the child
        return False


async def recovered(storer: PostgresStorer, key: str = "recovered", expected: Record | None = None) -> None:
    """Fail unless the storer works again: a connection that died may cost one call."""
    expected = expected or record()
    for _ in range(10):
        try:
            await storer.delete(key)
            assert await storer.create(key, expected)
            found = await storer.read(key)
        except StorerError:
            continue
        assert found is not None
        assert found.version == expected.version
        return
    raise AssertionError("the storer did not recover")
