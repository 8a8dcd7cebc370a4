"""MemoryStorer: the storer suites, and what only a storer of our own process can promise."""

import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace as changed

from aiosessions._errors import ConfigError
from aiosessions._tokens import new_handle, new_version
from aiosessions.storers.memory import MemoryStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    MovableClock,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
    collected,
)

pytestmark = pytest.mark.anyio


class TestMemoryStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def storer(self, clock: Clock) -> MemoryStorer:
        return MemoryStorer(clock=clock.now)

    @pytest.fixture
    async def neighbour(self, clock: Clock) -> MemoryStorer:
        return MemoryStorer(clock=clock.now)


def record(clock: MovableClock, *, owner: str | None = None, lives: float | None = 3600.0) -> Record:
    now = clock.now()
    return Record(b'{"n":1}', b"meta", owner, now, now, None if lives is None else now + lives, new_version())


def held(storer: MemoryStorer) -> int:
    """How many records are in memory, alive or not."""
    return len(storer._records)


def leftovers(storer: MemoryStorer) -> int:
    """How many things are held at all."""
    holders = (storer._records, storer._shelves, storer._owners, storer._anonymous_queue, storer._owned_queue)
    return sum(len(holder) for holder in holders)


class CountedDict(dict[str, bytes]):
    """Counts how often a record is looked up."""

    lookups = 0

    def get(self, key: str, default: Any = None) -> Any:  # Any: as dict has it
        self.lookups += 1
        return super().get(key, default)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


async def test_what_expired_leaves_as_new_records_come(clock: MovableClock) -> None:
    """S10: a storer that nobody cleans stays bounded."""
    storer = MemoryStorer(clock=clock.now)
    largest = 0
    for number in range(5_000):
        await storer.create(f"k{number}", record(clock, owner=f"u{number}", lives=100.0))
        await clock.advance(1)
        largest = max(largest, held(storer))
    assert largest < 250, f"{largest} records were held, and 100 were alive at a time"
    await clock.advance(1000)
    for number in range(100):
        await storer.create(f"new{number}", record(clock))
    assert held(storer) == 100


async def test_the_short_lived_among_the_long_lived_leave_too(clock: MovableClock) -> None:
    """S10: also when the storer has already looked for what expires first."""
    storer = MemoryStorer(clock=clock.now)
    for number in range(10):
        await storer.create(f"long{number}", record(clock, lives=100_000.0))
    for number in range(10):
        await storer.create(f"short{number}", record(clock, lives=100.0))
    await clock.advance(1_000)
    for number in range(10):
        await storer.create(f"new{number}", record(clock))
    assert held(storer) == 20


async def test_a_storer_that_was_left_alone_catches_up_step_by_step(clock: MovableClock) -> None:
    """S10: no single call pays for a crowd that expired, and each pays for more than it adds."""
    storer = MemoryStorer(clock=clock.now)
    for number in range(1_000):
        await storer.create(f"k{number}", record(clock, lives=float(number)))
    await clock.advance(5_000)
    before = held(storer)
    for number in range(100):
        await storer.create(f"new{number}", record(clock))
        assert before - held(storer) <= 3
        assert held(storer) < before
        before = held(storer)


async def test_clean_looks_at_what_expired_and_not_at_what_is_stored(clock: MovableClock) -> None:
    """S10."""
    storer = MemoryStorer(clock=clock.now)
    records = storer._records = CountedDict()
    for number in range(1_000):
        await storer.create(f"live{number}", record(clock, lives=36_000.0))
    for number in range(10):
        await storer.create(f"old{number}", record(clock, lives=5.0))
    await clock.advance(600)
    records.lookups = 0
    assert await storer.clean() == 10
    assert records.lookups <= 10


async def test_nothing_stays_of_records_that_ended(clock: MovableClock) -> None:
    """S8, S10, S15: neither in the shelves nor in the index nor in the queues."""
    storer = MemoryStorer(clock=clock.now, max_sessions=100)
    for number in range(10):
        await storer.create(f"k{number}", record(clock, owner="ann" if number % 2 else None, lives=60.0 * number))
    for number in range(10):
        await storer.touch(f"k{number}", seen_at=clock.now(), expires_at=clock.now() + 120 * number)
    await storer.delete_by_owner("ann", keep="k9")
    await storer.delete("k2")
    assert await storer.read("k0") is None
    await clock.advance(10_000)
    await storer.clean()
    assert leftovers(storer) == 0


async def test_a_bounded_memory_evicts_the_anonymous_that_was_used_longest_ago(clock: MovableClock) -> None:
    """S9: an evicted record is an absent one; a touch or a write counts as use."""
    storer = MemoryStorer(max_sessions=4, clock=clock.now)
    first = record(clock)
    await storer.create("written", first)
    await storer.create("touched", record(clock))
    await storer.create("owned", record(clock, owner="ann"))
    await storer.create("oldest", record(clock))
    await storer.touch("touched", seen_at=clock.now(), expires_at=clock.now() + 7200)
    await storer.replace("written", record(clock), version=first.version)
    await storer.create("new", record(clock))
    assert await storer.read("oldest") is None
    await storer.create("newer", record(clock))
    assert await storer.read("touched") is None
    await storer.create("newest", record(clock, owner="bob"))
    assert await storer.read("written") is None
    assert await collected(storer.keys()) == {"owned", "new", "newer", "newest"}


async def test_an_owned_record_never_makes_room_for_an_anonymous_one(clock: MovableClock) -> None:
    """S9: the new one is evicted at once; for another owned one the oldest owned one goes."""
    storer = MemoryStorer(max_sessions=2, clock=clock.now)
    await storer.create("ann", record(clock, owner="ann"))
    await storer.create("bob", record(clock, owner="bob"))
    assert await storer.create("anonymous", record(clock)) is True
    assert await storer.read("anonymous") is None
    assert await collected(storer.keys()) == {"ann", "bob"}
    await storer.create("cem", record(clock, owner="cem"))
    assert await collected(storer.keys()) == {"bob", "cem"}
    assert await storer.list_by_owner("ann") == []


async def test_what_expired_makes_room_before_anything_is_evicted(clock: MovableClock) -> None:
    """S9, S10."""
    storer = MemoryStorer(max_sessions=2, clock=clock.now)
    await storer.create("oldest", record(clock))
    await storer.create("expiring", record(clock, lives=60.0))
    await clock.advance(300)
    await storer.create("new", record(clock))
    assert await collected(storer.keys()) == {"oldest", "new"}


async def test_a_login_moves_a_record_to_the_owned_ones(clock: MovableClock) -> None:
    """S9: it is then kept before the anonymous ones, and after clear_user it is not."""
    storer = MemoryStorer(max_sessions=2, clock=clock.now)
    first, owned, anonymous = record(clock), record(clock, owner="ann"), record(clock)
    await storer.create("k", first)
    await storer.create("other", record(clock))
    await storer.replace("k", owned, version=first.version)
    await storer.create("new", record(clock))
    assert await collected(storer.keys()) == {"k", "new"}
    await storer.replace("k", anonymous, version=owned.version)
    await storer.create("owned", record(clock, owner="bob"))
    assert await collected(storer.keys()) == {"k", "owned"}


def test_a_bounded_memory_is_not_durable() -> None:
    """A storer says whether what it confirmed stays: revocations refuse one that evicts."""
    assert MemoryStorer().durable
    assert not MemoryStorer(max_sessions=10).durable


@pytest.mark.parametrize("max_sessions", [0, -1, True, 1.5, "10"])
def test_a_bound_must_be_a_positive_integer(max_sessions: int) -> None:
    """F10."""
    with pytest.raises(ConfigError, match="max_sessions="):
        MemoryStorer(max_sessions=max_sessions)


async def test_a_clock_that_jumps_back_revives_nothing(clock: MovableClock) -> None:
    """X5: what was once seen expired is gone."""
    storer = MemoryStorer(clock=clock.now)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: storer.read("k"),
        lambda: storer.touch("k", seen_at=clock.now(), expires_at=None),
        lambda: storer.delete("k"),
        lambda: storer.replace("k", record(clock), version=0),
        lambda: storer.list_by_owner("ann"),
        lambda: collected(storer.keys()),
    ]
    for call in calls:
        await storer.create("k", record(clock, owner="ann", lives=60.0))
        await clock.advance(60)
        await call()
        await clock.advance(-60)
        assert await storer.read("k") is None


def test_a_small_session_takes_at_most_450_bytes() -> None:
    """Where the dicts are well filled, and where they have just grown."""
    for count in (10_000, 22_000):
        tracemalloc.start()
        storer = asyncio.run(filled(count))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held(storer) == count
        assert size / count <= 450, f"{size / count:.0f} bytes for each of {count} sessions"


def test_the_garbage_collector_has_nothing_to_walk() -> None:
    """A record is one bytes object, and the dicts around it hold nothing that could be part of a cycle."""
    gc.collect()
    before = len(gc.get_objects())
    storer = asyncio.run(filled(2_000))
    gc.collect()
    assert held(storer) == 2_000
    assert len(gc.get_objects()) - before < 100


async def filled(count: int) -> MemoryStorer:
    storer = MemoryStorer()
    now = time.time()
    for _ in range(count):
        value = Record(b'{"cart":[1,2,3]}', b"m" * 90, None, now, now, now + 86_400, new_version())
        await storer.create("app:" + new_handle(), value)
    return storer


@pytest.mark.parametrize("max_sessions", [None, 20])
def test_threads_share_it(max_sessions: int | None) -> None:
    """S3, S5, S13: each with an event loop of its own; compare-and-set holds, and no error of a dict comes out."""
    storer = MemoryStorer(max_sessions=max_sessions)
    errors: list[Exception] = []
    won: list[bool] = []

    async def count() -> None:
        while len(won) < 600:
            found = await storer.read("counter")
            assert found is not None
            after = changed(found, value=b"%d" % (int(found.value) + 1), version=new_version())
            if await storer.replace("counter", after, version=found.version):
                won.append(True)

    async def live_and_die(chance: random.Random) -> None:
        for _ in range(1_500):
            key, now = f"k{chance.randrange(8)}", time.time()
            owner = chance.choice([None, "ann", "bob"])
            if await storer.create(key, Record(b"", b"", owner, now, now, now + 0.000_05, new_version())):
                await storer.touch(key, seen_at=now, expires_at=now + 0.000_1)
            await storer.read(key)
            ends: list[Callable[[], Awaitable[object]]] = [
                storer.clean,
                partial(storer.delete, key),
                partial(storer.delete_by_owner, "ann"),
            ]
            await chance.choice(ends)()

    def run(number: int) -> None:
        try:
            asyncio.run(count() if number % 2 else live_and_die(random.Random(number)))
        except Exception as error:  # noqa: BLE001 (it is shown below)
            errors.append(error)

    asyncio.run(storer.create("counter", Record(b"0", b"", "ann's boss", 0.0, 0.0, None, new_version())))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    counter = asyncio.run(storer.read("counter"))
    assert counter is not None
    assert int(counter.value) == len(won)
    asyncio.run(_end_all(storer))
    assert leftovers(storer) == 0


async def _end_all(storer: MemoryStorer) -> None:
    for key in await collected(storer.keys()):
        await storer.delete(key)
    for number in range(8):
        await storer.read(f"k{number}")


def test_its_repr_shows_no_key_and_no_value() -> None:
    """V8."""
    assert repr(MemoryStorer()) == "<MemoryStorer of 0 records>"


WORKER = """
import asyncio, logging
from aiosessions import MemoryStorer, StorageOverseer

async def main():
    for name in ("a", "b"):
        async with StorageOverseer(str, MemoryStorer(), name=name):
            pass

logging.basicConfig(format="%(levelname)s %(message)s")
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("environment", "warnings"),
    [
        ({}, 0),
        ({"WEB_CONCURRENCY": "1"}, 0),
        ({"WEB_CONCURRENCY": "many"}, 0),
        ({"SERVER_SOFTWARE": "uvicorn"}, 0),
        ({"WEB_CONCURRENCY": "4"}, 1),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0"}, 1),
    ],
)
def test_several_workers_are_warned_of_once(environment: dict[str, str], warnings: int) -> None:
    """DESIGN 3: each would have sessions of its own."""
    path = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-c", WORKER], capture_output=True, text=True, check=True, env={**path, **environment}
    )
    assert ran.stderr.count("WARNING MemoryStorer keeps sessions in one process") == warnings
    assert ran.stderr.count("\n") == warnings
