"""RedisStorer in several event loops and processes."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator

import pytest
import trio
from redis.asyncio import Redis

from aiosessions import ConfigError, StorerError, storer_from_url
from aiosessions._tokens import new_version
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.storer import Record
from tests.servers import ValkeyServer


def a_record() -> Record:
    now = time.time()
    return Record(b"{}", b"", "ann", now, now, now + 3600, new_version())


def from_url(server: ValkeyServer, prefix: str) -> RedisStorer:
    storer = storer_from_url(f"redis://127.0.0.1:{server.port}?prefix={prefix}")
    assert isinstance(storer, RedisStorer)
    return storer


async def check(storer: RedisStorer, record: Record) -> None:
    """All kinds of calls, many at once."""
    found = await asyncio.gather(*(storer.read("k") for _ in range(30)))
    assert found == [record] * 30
    assert [key for key, _ in await storer.list_by_owner("ann")] == ["k"]
    await storer.aclose()


@pytest.fixture
def unclosed(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """What a loop leaves open that ends first is garbage, and said to be."""
    yield
    gc.collect()
    assert [w.message for w in recwarn if not isinstance(w.message, ResourceWarning)] == []


@pytest.mark.usefixtures("unclosed")
def test_a_second_event_loop_has_a_client_of_its_own(valkey_server: ValkeyServer, redis_prefix: str) -> None:
    """S16: one after the other, the first not even closed, and two at once."""
    storer, record = from_url(valkey_server, redis_prefix), a_record()

    async def use() -> None:
        await storer.open()
        await storer.create("k", record)

    asyncio.run(use())
    asyncio.run(check(storer, record))

    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(check(storer, record))
        except BaseException as error:  # noqa: BLE001  (it is the other thread's)
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_fork_has_a_client_of_its_own(valkey_server: ValkeyServer, redis_prefix: str) -> None:
    """S14: neither takes the other's answers; the parent goes on as before."""
    storer, record = from_url(valkey_server, redis_prefix), a_record()
    with asyncio.Runner() as runner:
        runner.run(storer.open())
        runner.run(storer.create("k", record))
        child = os.fork()
        if not child:
            code = 1
            try:
                asyncio.run(check(storer, record))
                code = 0
            finally:
                os._exit(code)
        runner.run(check(storer, record))
        assert os.waitpid(child, 0)[1] == 0


def test_a_callers_client_that_was_used_before_a_fork_is_refused(
    valkey_server: ValkeyServer, redis_prefix: str
) -> None:
    """S14: it would read what the parent is answered."""
    with asyncio.Runner() as runner:
        client = Redis(port=valkey_server.port)
        storer = RedisStorer(client, prefix=redis_prefix)
        runner.run(storer.read("k"))
        child = os.fork()
        if not child:
            code = 1
            try:
                asyncio.run(storer.read("k"))
            except ConfigError as error:
                code = 0 if "forked" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        runner.run(client.aclose())


@pytest.mark.usefixtures("unclosed")
def test_a_callers_client_in_a_second_event_loop_never_raises_a_bare_runtime_error(
    valkey_server: ValkeyServer, redis_prefix: str
) -> None:
    """S13: the message says what may be wrong."""
    storer = RedisStorer(Redis(port=valkey_server.port), prefix=redis_prefix)

    async def use() -> None:
        await storer.open()
        await asyncio.gather(*(storer.read("k") for _ in range(30)))

    asyncio.run(use())
    try:
        asyncio.run(use())
    except StorerError as error:
        assert "another event loop" in str(error)  # noqa: PT017  (redis-py may also connect anew)


def test_trio_is_told_that_it_cannot_be(redis_prefix: str) -> None:
    """S13: redis-py is for asyncio."""
    storer = RedisStorer(Redis(), prefix=redis_prefix)
    with pytest.raises(ConfigError, match="asyncio"):
        trio.run(storer.read, "k")
