"""MemcachedStorer on a real memcached."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

import anyio
import anyio.to_thread
import emcache
import pytest
from msgspec.structs import replace as changed

from aiosessions._errors import ConfigError, SessionTooLargeError, StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.memcached import MemcachedStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import MovableClock, OpenableSuite, StorerSuite, WaitingClock
from tests import servers_memcached
from tests.conftest import ASYNCIO, UVLOOP
from tests.proxy import Proxy
from tests.racers import ROUNDS, starting_record, winners_of_four_processes
from tests.servers_memcached import MemcachedServer

pytestmark = pytest.mark.anyio
memcached_server = servers_memcached.memcached_server


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: as in conftest
    return request.param


@pytest.fixture
async def client(memcached_server: MemcachedServer) -> AsyncIterator[emcache.Client]:
    """A client as an application has one, on an empty server."""
    node = emcache.MemcachedHostAddress("127.0.0.1", memcached_server.port)
    client = await emcache.create_client([node], max_connections=4)
    await client.flush_all(node)
    yield client
    await client.close()


class TestStorer(StorerSuite, OpenableSuite):
    """What every storer promises."""

    durable = False
    max_value = 1024 * 1024

    @pytest.fixture
    async def storer(self, client: emcache.Client, clock: MovableClock) -> AsyncIterator[MemcachedStorer]:
        storer = MemcachedStorer(client, clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, client: emcache.Client, clock: MovableClock) -> MemcachedStorer:
        return MemcachedStorer(client, prefix="session:k", clock=clock.now)


class TestURL(OpenableSuite):
    """With a client of its own."""

    durable = False

    @pytest.fixture
    def clock(self) -> WaitingClock:
        return WaitingClock()

    @pytest.fixture
    async def storer(self, client: emcache.Client, memcached_server: MemcachedServer) -> AsyncIterator[MemcachedStorer]:
        async with opened(f"{memcached_server.url}?max_connections=2") as storer:
            yield storer


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[MemcachedStorer]:
    storer = MemcachedStorer.from_url(url)
    try:
        await storer.open()
        yield storer
    finally:
        await storer.aclose()


def record(value: bytes = b"{}", *, owner: str | None = None, lives: float | None = 60.0) -> Record:
    now = time.time()
    return Record(value, b"", owner, now, now, None if lives is None else now + lives, new_version())


# What memcached is like


async def test_memcached_itself_forgets_and_never_too_early(client: emcache.Client) -> None:
    """S9: the lifetime is given to the server as well, rounded up: a reader whose clock stands still sees its end."""
    for number in range(20):
        start, key = time.time(), f"k{number}"
        storer = MemcachedStorer(client, clock=partial(float, start))
        await storer.create(key, Record(b"{}", b"", None, start, start, start + 0.5, new_version()))
        await anyio.sleep(0.6)
        is_there = await storer.read(key) is not None
        if time.time() < start + 1:  # or else this machine had something else to do, and the next try counts
            break
    else:
        pytest.fail("no try was in time")
    assert is_there, "memcached counts in whole seconds, and must not be early"
    with anyio.fail_after(5):
        while await storer.read(key) is not None:  # noqa: ASYNC110 - the server tells nobody
            await anyio.sleep(0.05)


@pytest.mark.parametrize("days", [29.99, 30, 30.01, 400])
async def test_a_long_lifetime_is_no_date(client: emcache.Client, days: float) -> None:
    """S9: memcached takes numbers over 30 days for dates, which are long over."""
    storer = MemcachedStorer(client)
    first, second = record(lives=days * 86_400), record(lives=days * 86_400)
    await storer.create("k", first)
    assert await storer.read("k") == first
    await storer.replace("k", second, version=first.version)
    assert await storer.read("k") == second
    await storer.touch("k", seen_at=second.seen_at, expires_at=second.seen_at + days * 86_400 + 9)
    assert await storer.read("k") is not None


async def test_the_largest_session_fits_and_one_byte_more_is_refused(client: emcache.Client) -> None:
    """S18: the limit is memcached's own, less what an item costs; with the longest prefix."""
    storer = MemcachedStorer(client, prefix="p" * 200)
    with pytest.raises(SessionTooLargeError) as caught:
        await storer.create("k", record(b"x" * 2_000_000))
    overhead = caught.value.size - 2_000_000
    largest = record(bytes(caught.value.limit - overhead))
    assert await storer.create("k", largest)
    assert await storer.read("k") == largest
    with pytest.raises(SessionTooLargeError):
        await storer.replace("k", changed(largest, value=largest.value + b"x"), version=largest.version)


async def test_a_server_with_a_limit_of_its_own_is_asked_for_it(no_server: Callable[[str], NoReturn]) -> None:
    """S18: before anything is sent; a storer that nobody opened says so after the server; what was stored stays."""
    with servers_memcached.started(no_server, "-I", "512k") as started:
        async with opened(started.url) as storer:
            first = record()
            await storer.create("k", first)
            limit = 0
            for size in (524_000, 800_000):
                with pytest.raises(SessionTooLargeError) as caught:
                    await storer.replace("k", record(bytes(size)), version=first.version)
                limit = caught.value.limit
                assert 500_000 < limit < 524_000
                assert caught.value.__cause__ is None
                with pytest.raises(SessionTooLargeError):
                    await storer.create("new", record(bytes(size)))
            largest = record(bytes(limit - 100))
            assert await storer.replace("k", largest, version=first.version)

            unopened = MemcachedStorer.from_url(started.url)
            for write in (
                unopened.replace("k", record(bytes(800_000)), version=largest.version),
                unopened.create("new", record(bytes(800_000))),
            ):
                with pytest.raises(SessionTooLargeError, match="is the limit"):
                    await write
            await unopened.aclose()
            assert await storer.read("k") == largest


async def test_a_server_that_stores_nothing_is_told_at_open(memcached_server: MemcachedServer) -> None:
    """S13: though it answers."""
    async with Proxy("127.0.0.1", memcached_server.port) as proxy:
        proxy.drop_answers(to=b"add ")
        storer = MemcachedStorer.from_url(f"memcached://127.0.0.1:{proxy.port}?timeout=0.3")
        with pytest.raises(StorerError):
            await storer.open()


async def test_reads_of_one_turn_share_a_trip(client: emcache.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """S14: each gets its own answer, present or not; also when some are cancelled."""
    storer = MemcachedStorer(client)
    stored = {f"k{number}": record(b"%d" % number) for number in range(100)}
    for key, each in stored.items():
        await storer.create(key, each)
    many = client.gets_many
    trips: list[int] = []

    async def gets_many(keys: Sequence[bytes]) -> dict[bytes, emcache.Item]:
        trips.append(len(keys))
        return await many(keys)

    monkeypatch.setattr(client, "gets_many", gets_many)
    keys = [*stored, "absent"] * 2
    reads = [asyncio.ensure_future(storer.read(key)) for key in keys]
    await asyncio.sleep(0)
    for read in reads[1::3]:
        read.cancel()
    answers = await asyncio.gather(*reads, return_exceptions=True)
    for number, (key, answer) in enumerate(zip(keys, answers, strict=True)):
        assert isinstance(answer, asyncio.CancelledError) if number % 3 == 1 else answer == stored.get(key)
    assert 1 <= len(trips) <= 2


def test_a_second_event_loop_has_a_client_of_its_own(memcached_server: MemcachedServer) -> None:
    """S14: after use in another that is still there; each closes its own."""
    storer = MemcachedStorer.from_url(f"{memcached_server.url}?prefix=loops:")
    first = record()

    async def use() -> Record | None:
        await storer.create("k", first)
        return await storer.read("k")

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(use()) == first

    async def use_and_close() -> Record | None:
        try:
            return await use()
        finally:
            await storer.aclose()

    assert asyncio.run(use_and_close()) == first
    assert loop.run_until_complete(use_and_close()) == first
    loop.close()


def test_a_client_of_another_event_loop_is_a_storer_error(memcached_server: MemcachedServer) -> None:
    """S13: never a bare RuntimeError, and the message says what it is."""
    node = emcache.MemcachedHostAddress("127.0.0.1", memcached_server.port)

    async def make() -> emcache.Client:
        client = await emcache.create_client([node])
        await client.gets(b"k")
        return client

    async def use(storer: MemcachedStorer) -> None:
        for call in _calls(storer):
            with pytest.raises(StorerError, match="serves one event loop"):
                await call()

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(make())
    loop.run_until_complete(client.close())
    loop.close()
    asyncio.run(use(MemcachedStorer(client)))


async def test_what_somebody_else_stored_under_our_key_counts_as_absent(client: emcache.Client) -> None:
    """S12: it is no session, and it does not block one."""
    storer = MemcachedStorer(client)
    await storer.create("k", record())
    (name,) = await _names(client)
    for rubbish in (b"", b"\x07" * 100, b"short"):
        await client.set(name, rubbish)
        assert await storer.read("k") is None
        assert await storer.delete("k") is False
        assert await storer.replace("k", record(), version=-1) is False
        assert await storer.create("k", record())


async def _names(client: emcache.Client) -> list[bytes]:
    """The keys that memcached has."""
    (node,) = client.cluster_managment().nodes()
    assert isinstance(node, emcache.MemcachedHostAddress)
    reader, writer = await asyncio.open_connection(node.address, node.port)
    writer.write(b"lru_crawler metadump all\r\n")
    lines = (await reader.readuntil(b"END\r\n")).splitlines()
    writer.close()
    await writer.wait_closed()
    return [unquote_to_bytes(line[4:].split(b" ")[0].decode()) for line in lines if line.startswith(b"key=")]


async def test_a_delete_of_one_version_leaves_nothing_in_memcached(client: emcache.Client) -> None:
    """S8: the text protocol cannot compare and delete; what is stored instead is over at once."""
    storer = MemcachedStorer(client)
    kept = record()
    await storer.create("k", kept)
    (name,) = await _names(client)
    assert await storer.delete("k", version=kept.version)
    assert await client.get(name) is None


class _Meddling:
    """A client in whose `cas` something happens first."""

    def __init__(self, client: emcache.Client, meddle: Callable[[bytes], Awaitable[None]]) -> None:
        self._meddle = meddle
        self._cas = client.cas
        self.gets, self.add, self.delete = client.gets, client.add, client.delete

    async def cas(self, key: bytes, value: bytes, cas: int, *, exptime: int = 0) -> None:
        await self._meddle(key)
        await self._cas(key, value, cas, exptime=exptime)


async def test_what_is_deleted_between_look_and_write_stays_deleted(client: emcache.Client) -> None:
    """S4, S7, S8: memcached says "not found" to a cas, and emcache an error that is none."""
    storer = MemcachedStorer(_Meddling(client, client.delete))
    first = record()
    writes: list[Callable[[], Awaitable[bool]]] = [
        lambda: storer.replace("k", record(), version=first.version),
        lambda: storer.touch("k", seen_at=first.seen_at, expires_at=None),
        lambda: storer.delete("k", version=first.version),
    ]
    for write in writes:
        assert await storer.create("k", first)
        assert await write() is False
        assert await storer.read("k") is None


async def test_a_server_that_refuses_to_store_is_a_storer_error(client: emcache.Client) -> None:
    """S13: told apart from a record that is gone; what was there stays."""

    async def refuse(_: bytes) -> None:
        raise emcache.StorageCommandError("SERVER_ERROR out of memory storing object")

    storer = MemcachedStorer(_Meddling(client, refuse))
    first = record()
    await storer.create("k", first)
    with pytest.raises(StorerError) as caught:
        await storer.replace("k", record(), version=first.version)
    assert isinstance(caught.value.__cause__, emcache.StorageCommandError)
    assert await storer.read("k") == first


@pytest.mark.parametrize("option", ["purge_unhealthy_nodes", "autodiscovery"])
async def test_a_client_that_moves_sessions_between_nodes_is_refused(
    memcached_server: MemcachedServer, option: str
) -> None:
    """F4: a node that comes back would bring sessions with it that were ended on another."""
    node = emcache.MemcachedHostAddress("127.0.0.1", memcached_server.port)
    options: dict[str, Any] = {option: True}  # Any: emcache's options
    try:
        client = await emcache.create_client([node], **options)
    except (TimeoutError, RuntimeError):
        pytest.skip("this memcached knows nothing of a cluster")
    with pytest.raises(ConfigError, match=f"create it with {option}=False"):
        MemcachedStorer(client)
    await client.close()


@pytest.mark.parametrize(
    "wrong", [{"prefix": "a b"}, {"prefix": "é"}, {"prefix": "p" * 201}, {"timeout": timedelta(0)}], ids=str
)
def test_arguments_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:  # Any: arguments of several types
    """The message names them."""
    client: Any = None  # Any: never used
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
        MemcachedStorer(client, **wrong)


# The wire


async def test_round_trips_are_as_few_as_the_protocol_allows(memcached_server: MemcachedServer) -> None:
    """DESIGN 4: read 1, create 1, replace and touch 2: with its read, a write is 3."""
    async with (
        Proxy("127.0.0.1", memcached_server.port) as proxy,
        opened(f"memcached://127.0.0.1:{proxy.port}?prefix=wire:") as storer,
    ):
        first, second = record(), record()
        expected: dict[str, tuple[int, Callable[[], Awaitable[object]]]] = {
            "read": (1, lambda: storer.read("k")),
            "create": (1, lambda: storer.create("k", first)),
            "replace": (2, lambda: storer.replace("k", second, version=first.version)),
            "touch": (2, lambda: storer.touch("k", seen_at=second.seen_at, expires_at=None)),
            "delete": (2, lambda: storer.delete("k", version=second.version)),
        }
        for name, (trips, call) in expected.items():
            proxy.tally.reset()
            await call()
            assert proxy.tally.round_trips == trips, name
        assert await storer.read("k") is None


@asynccontextmanager
async def late_answers() -> AsyncGenerator[None]:
    """One may arrive in the turn of a time-out or cancellation: emcache drops the connection, asyncio reports it."""
    reported: list[dict[str, Any]] = []  # Any: as asyncio reports
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        yield
    finally:
        loop.set_exception_handler(handler)
    assert all(isinstance(context["exception"], asyncio.InvalidStateError) for context in reported)


async def test_a_write_whose_answer_got_lost_is_applied_once(memcached_server: MemcachedServer) -> None:
    """S6, S13: the first call is a StorerError of unknown outcome, the same call again says True."""
    async with (
        late_answers(),
        Proxy("127.0.0.1", memcached_server.port) as proxy,
        opened(f"memcached://127.0.0.1:{proxy.port}?prefix=lost:&timeout=0.5") as storer,
    ):
        first, second = record(), record()
        writes: dict[bytes, Callable[[], Awaitable[bool]]] = {
            b"add ": lambda: storer.create("k", first),
            b"cas ": lambda: storer.replace("k", second, version=first.version),
        }
        for command, write in writes.items():
            proxy.drop_answers(to=command)
            with pytest.raises(StorerError):
                await write()
            assert await write() is True
        assert proxy.dropped == 2
        assert await storer.read("k") == second
        assert await storer.replace("k", record(), version=first.version) is False
        await storer.delete("k")


async def test_a_server_that_hangs_is_a_storer_error_within_the_time_out(memcached_server: MemcachedServer) -> None:
    """S13: for every method; afterwards the same storer works."""
    async with (
        late_answers(),
        Proxy("127.0.0.1", memcached_server.port) as proxy,
        opened(f"memcached://127.0.0.1:{proxy.port}?prefix=hangs:&timeout=0.3") as storer,
    ):
        proxy.silent = True
        for call in _calls(storer):
            with anyio.fail_after(5), pytest.raises(StorerError, match=r"no answer within 0.3 s") as caught:
                await call()
            assert isinstance(caught.value.__cause__, TimeoutError)
        proxy.silent = False
        await _recovered(storer)


async def test_a_server_that_was_killed_is_a_storer_error_and_comes_back_empty(
    memcached_server: MemcachedServer,
) -> None:
    """S13: under load; nothing but StorerError, and the same storer works again."""
    async with late_answers(), opened(f"{memcached_server.url}?prefix=killed:&timeout=0.3") as storer:
        noticed, stop = anyio.Event(), anyio.Event()

        async def work(number: int) -> None:
            while not stop.is_set():
                try:
                    await storer.create(f"k{number}", record())
                    await storer.delete(f"k{number}")
                except StorerError:
                    noticed.set()

        await storer.create("before", record())
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for number in range(6):
                    group.start_soon(work, number)
                await anyio.to_thread.run_sync(memcached_server.kill)
                await noticed.wait()
                await anyio.to_thread.run_sync(memcached_server.start)
                await _recovered(storer)
                stop.set()
        assert await storer.read("before") is None, "memcached keeps nothing: the storer is not durable"


async def test_cancelled_calls_never_cross_answers(memcached_server: MemcachedServer) -> None:
    """S14: by asyncio's own cancellation, which no scope shields from, over slow answers and two connections."""
    chance = random.Random(14)
    async with (
        late_answers(),
        Proxy("127.0.0.1", memcached_server.port) as proxy,
        opened(f"memcached://127.0.0.1:{proxy.port}?prefix=cancel:&max_connections=2") as storer,
    ):
        wrong: list[str] = []
        for number in range(8):
            await storer.create(f"k{number}", record(b"%d" % number))

        async def use(number: int) -> None:
            found = await storer.read(f"k{number}")
            if found is not None and found.value != b"%d" % number:
                wrong.append(f"read of k{number} answered {found.value!r}")

        async def give_up(number: int) -> None:
            for _ in range(150):
                task = asyncio.ensure_future(use(number))
                await asyncio.sleep(chance.random() / 500)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled() and (error := task.exception()):
                    assert isinstance(error, StorerError)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(give_up, number)
        assert not wrong
        await _recovered(storer)


def test_of_20_racers_in_four_processes_one_wins(memcached_server: MemcachedServer) -> None:
    """S3, S5."""
    url = f"{memcached_server.url}?prefix=raced:&timeout=5"

    async def prepare() -> None:
        async with opened(url) as storer:
            for number in range(ROUNDS):
                await storer.create(f"replaced{number}", starting_record(number))

    asyncio.run(prepare())
    assert winners_of_four_processes(url) == ([1] * ROUNDS, [1] * ROUNDS)


def _calls(storer: MemcachedStorer) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: storer.read("k"),
        lambda: storer.create("k", record()),
        lambda: storer.replace("k", record(), version=1),
        lambda: storer.touch("k", seen_at=time.time(), expires_at=None),
        lambda: storer.delete("k"),
        lambda: storer.delete("k", version=1),
    ]


async def _recovered(storer: MemcachedStorer) -> None:
    """Wait until the storer works again: emcache tries to connect once a second."""
    while True:
        try:
            expected = record()
            await storer.delete("recovered")
            assert await storer.create("recovered", expected)
            assert await storer.read("recovered") == expected
        except StorerError:
            await anyio.sleep(0.05)
        else:
            return
