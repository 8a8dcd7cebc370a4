"""The Cleaner, and the count of who holds a storer open."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers.cleaner import Cleaner
from aiosessions.storers.holding import hold, is_held, release
from aiosessions.storers.memory import MemoryStorer

pytestmark = pytest.mark.anyio

SOON = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)


class Yard(MemoryStorer):
    """A storer that counts its rounds and fails or waits where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0
        self.failures: list[BaseException] = []
        self.round_begun = anyio.Event()
        self.gate = anyio.Event()
        self.gate.set()
        self.working = 0

    async def clean(self) -> int:
        self.rounds += 1
        self.round_begun.set()
        self.working += 1
        try:
            await self.gate.wait()
            await anyio.lowlevel.checkpoint()
        finally:
            self.working -= 1
        if self.failures:
            raise self.failures.pop()
        return 0

    async def until(self, rounds: int) -> None:
        with anyio.fail_after(10):
            while self.rounds < rounds:
                self.round_begun = anyio.Event()
                await self.round_begun.wait()


class Shop(Yard):
    """A storer to open and to close."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = 0
        self.opened = 0
        self.error: Exception | None = None
        self.opening = anyio.Event()
        self.may_open = anyio.Event()
        self.may_open.set()
        self.closing = anyio.Event()
        self.may_close = anyio.Event()
        self.may_close.set()

    async def open(self) -> None:
        self.opened += 1
        self.opening.set()
        await self.may_open.wait()
        if self.error is not None:
            raise self.error
        self.is_open += 1

    async def aclose(self) -> None:
        assert not self.working, "closed while a round was running"
        self.closing.set()
        await self.may_close.wait()
        self.is_open -= 1


async def in_another_task(call: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await call()

    async with anyio.create_task_group() as group:
        group.start_soon(run)


async def test_a_cleaner_cleans_again_and_again() -> None:
    """X6."""
    yard = Yard()
    async with Cleaner(yard, every=SOON):
        await yard.until(3)


async def test_start_and_stop_may_come_from_different_tasks() -> None:
    """X6: the task that cleans belongs to neither of them."""
    yard = Yard()
    cleaner = Cleaner(yard, every=SOON)
    await in_another_task(cleaner.start)
    await yard.until(2)
    await in_another_task(cleaner.stop)
    rounds = yard.rounds
    await anyio.sleep(0.01)
    assert yard.rounds == rounds


async def test_start_and_stop_twice_are_fine_and_a_stopped_cleaner_starts_again() -> None:
    """X6: and twice started is one task."""
    yard = Yard()
    yard.gate = anyio.Event()
    cleaner = Cleaner(yard, every=SOON)
    await cleaner.stop()
    await cleaner.start()
    await cleaner.start()
    await yard.until(1)
    await anyio.sleep(0.01)
    assert yard.working == 1
    await cleaner.stop()
    await cleaner.stop()
    assert yard.working == 0
    yard.gate.set()
    await cleaner.start()
    await yard.until(3)
    await cleaner.stop()


async def test_stop_waits_for_the_round_that_runs() -> None:
    """X6: also when several stop at once, and a start that comes meanwhile begins after it."""
    yard = Yard()
    yard.gate = anyio.Event()
    cleaner = Cleaner(yard, every=SOON, jitter=0)
    await cleaner.start()
    await yard.until(1)

    async def stop() -> None:
        await cleaner.stop()
        assert yard.working == 0

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        group.start_soon(stop)
    async with anyio.create_task_group() as group:
        await cleaner.start()
        await yard.until(2)
        group.start_soon(cleaner.stop)
        await anyio.lowlevel.checkpoint()
        group.start_soon(cleaner.start)
    yard.gate.set()
    await yard.until(4)
    await cleaner.stop()
    assert yard.working == 0


async def test_a_stop_that_is_cancelled_still_stops() -> None:
    """X6."""
    yard = Yard()
    cleaner = Cleaner(yard, every=SOON)
    await cleaner.start()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await cleaner.stop()
    await cleaner.start()
    await yard.until(1)
    await cleaner.stop()
    assert yard.working == 0


async def test_a_failing_round_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    """X6: whatever the storer raises."""
    yard = Yard()
    yard.failures = [StorerError("the disk is full"), ZeroDivisionError("a bug of the storer")]
    with caplog.at_level(logging.ERROR, "aiosessions"):
        async with Cleaner(yard, every=SOON):
            await yard.until(3)
    records = [record for record in caplog.records if record.name == "aiosessions"]
    assert [record.exc_info[0] for record in records if record.exc_info] == [ZeroDivisionError, StorerError]
    assert all("Yard" in record.getMessage() for record in records)


def test_a_clean_that_is_cancelled_from_within_is_a_failed_round(caplog: pytest.LogCaptureFixture) -> None:
    """X6: it may wait for a future that somebody else cancels; who cancels the cleaner's task still ends it."""
    yard = Yard()
    yard.failures = [asyncio.CancelledError()]

    async def clean() -> None:
        async with Cleaner(yard, every=SOON):
            await yard.until(3)
        async with Cleaner(yard, every=SOON) as cleaner:
            await yard.until(4)
            (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "aiosessions cleaner"]
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await cleaner.stop()

    with caplog.at_level(logging.ERROR, "aiosessions"):
        asyncio.run(clean())
    assert len([record for record in caplog.records if record.name == "aiosessions"]) == 1


def test_a_cleaner_that_is_cancelled_before_its_first_step_is_stopped() -> None:
    """X6: stop returns, and it starts again; held by a store, the storer is closed."""
    shop = Shop()

    def cancel_cleaners() -> None:
        for task in asyncio.all_tasks():
            if task.get_name() == "aiosessions cleaner":
                task.cancel()

    async def clean() -> None:
        cleaner = Cleaner(shop, every=SOON)
        await cleaner.start()
        cancel_cleaners()
        await asyncio.wait_for(cleaner.stop(), 10)
        await cleaner.start()
        await shop.until(1)
        await cleaner.stop()

        await hold(shop, clean_every=HOUR)
        cancel_cleaners()
        await asyncio.wait_for(release(shop), 10)
        assert shop.is_open == 0

    asyncio.run(clean())


def test_pauses_grow_with_each_failure_up_to_an_hour() -> None:
    """X6: the back-off is bounded, and never shorter than the interval."""
    minutely = Cleaner(MemoryStorer(), every=timedelta(minutes=1), jitter=0)
    assert [minutely._pause(failures) for failures in (0, 1, 2, 3, 100_000)] == [60, 120, 240, 480, 3600]
    daily = Cleaner(MemoryStorer(), every=timedelta(days=1), jitter=0)
    assert [daily._pause(failures) for failures in (0, 1, 2)] == [86400, 86400, 86400]


def test_jitter_keeps_replicas_apart() -> None:
    """X6: from the first round on, within its share of the pause."""
    cleaner = Cleaner(MemoryStorer(), every=timedelta(seconds=100), jitter=0.1)
    pauses = [cleaner._pause(0) for _ in range(50)]
    assert len(set(pauses)) > 1
    assert all(100 <= pause <= 110 for pause in pauses)
    first = [cleaner._first_pause() for _ in range(50)]
    assert len(set(first)) > 1
    assert all(0 <= pause <= 10 for pause in first)


@pytest.mark.parametrize("every", [timedelta(0), timedelta(seconds=-1), 3600, None])
def test_an_interval_must_be_a_positive_timedelta(every: timedelta) -> None:
    """F10."""
    with pytest.raises(ConfigError, match="every="):
        Cleaner(MemoryStorer(), every=every)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan")])
def test_jitter_must_be_a_share(jitter: float) -> None:
    """F10."""
    with pytest.raises(ConfigError, match="jitter="):
        Cleaner(MemoryStorer(), jitter=jitter)


def test_a_storer_that_has_nothing_to_clean_is_refused() -> None:
    """F10: the message says why."""
    with pytest.raises(ConfigError, match=r"object has no clean\(\)"):
        Cleaner(object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what the test is about


def test_a_cleaner_whose_event_loop_ended_starts_in_another() -> None:
    """X6: a task of a dead loop is no task."""
    yard = Yard()
    cleaner = Cleaner(yard, every=SOON)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cleaner.start())
    tasks = asyncio.all_tasks(loop)

    async def again() -> None:
        await cleaner.stop()
        await cleaner.start()
        await yard.until(1)
        await cleaner.stop()

    asyncio.run(again())
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


async def test_a_stopped_cleaner_leaves_nothing_behind() -> None:
    """X6: neither its task nor the storer is kept, and no cycle keeps them."""
    gc.collect()
    gc.disable()
    try:
        yard = Yard()
        gone = weakref.ref(yard)
        async with Cleaner(yard, every=SOON):
            await yard.until(1)
        await anyio.lowlevel.checkpoint()
        del yard
        assert gone() is None
    finally:
        gc.enable()


# Who holds a storer open


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    yield shop
    assert not is_held(shop)
    assert shop.is_open == 0
    assert shop.working == 0


async def test_the_first_opens_and_the_last_closes(shop: Shop) -> None:
    """S16: a storer that several stores share is opened and closed once."""
    assert not is_held(shop)
    await hold(shop, clean_every=None)
    await hold(shop, clean_every=None)
    assert (shop.opened, shop.is_open) == (1, 1)
    await in_another_task(lambda: release(shop))
    assert shop.is_open == 1
    assert is_held(shop)
    await release(shop)
    assert shop.is_open == 0
    await release(shop)
    await hold(shop, clean_every=None)
    assert (shop.opened, shop.is_open) == (2, 1)
    await release(shop)


async def test_a_shared_storer_has_one_cleaner(shop: Shop) -> None:
    """X6: started by the first that wants one, stopped before the storer is closed."""
    shop.gate = anyio.Event()
    await hold(shop, clean_every=None)
    await hold(shop, clean_every=SOON)
    await hold(shop, clean_every=SOON)
    await shop.until(1)
    await anyio.sleep(0.01)
    assert shop.working == 1
    for _ in range(3):
        await release(shop)
    assert shop.working == 0


async def test_a_storer_that_has_nothing_to_open_is_held_too() -> None:
    """S16."""
    storer = MemoryStorer()
    await hold(storer, clean_every=HOUR)
    assert is_held(storer)
    await release(storer)
    assert not is_held(storer)


async def test_those_who_come_while_it_opens_wait_for_it(shop: Shop) -> None:
    """S16."""
    shop.may_open = anyio.Event()
    held: list[int] = []

    async def take() -> None:
        await hold(shop, clean_every=None)
        held.append(shop.is_open)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(take)
        await shop.opening.wait()
        assert not is_held(shop)
        shop.may_open.set()
    assert shop.opened == 1
    assert held == [1] * 5
    for _ in range(5):
        assert is_held(shop)
        await release(shop)


async def test_an_opening_that_fails_fails_for_all_and_leaves_nothing_held(shop: Shop) -> None:
    """S16, R16: and it may be tried again."""
    shop.may_open = anyio.Event()
    shop.error = StorerError("no such server")
    failures: list[Exception] = []

    async def take() -> None:
        with pytest.raises(StorerError) as caught:
            await hold(shop, clean_every=SOON)
        failures.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(take)
        await shop.opening.wait()
        shop.may_open.set()
    assert failures == [shop.error] * 5
    assert shop.opened == 1
    assert not is_held(shop)
    assert shop.rounds == 0
    shop.error = None
    await hold(shop, clean_every=None)
    assert shop.is_open == 1
    await release(shop)


async def test_when_the_first_is_cancelled_the_next_opens(shop: Shop) -> None:
    """S14, S16."""
    shop.may_open = anyio.Event()
    first = anyio.CancelScope()

    async def cancelled() -> None:
        with first:
            await hold(shop, clean_every=None)

    async def take() -> None:
        await hold(shop, clean_every=None)

    async with anyio.create_task_group() as group:
        group.start_soon(cancelled)
        await shop.opening.wait()
        shop.opening = anyio.Event()
        group.start_soon(take)
        await anyio.lowlevel.checkpoint()
        first.cancel()
        await shop.opening.wait()
        shop.may_open.set()
    assert (shop.opened, shop.is_open) == (2, 1)
    await release(shop)


async def test_those_who_come_while_it_closes_open_it_again(shop: Shop) -> None:
    """S16: also when the one who closes is cancelled."""
    await hold(shop, clean_every=HOUR)
    shop.may_close = anyio.Event()
    scope = anyio.CancelScope()

    async def leave() -> None:
        with scope:
            await release(shop)

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        await shop.closing.wait()
        scope.cancel()
        assert not is_held(shop)
        await release(shop)
        group.start_soon(lambda: hold(shop, clean_every=None))
        await anyio.lowlevel.checkpoint()
        assert shop.opened == 1
        shop.may_close.set()
    assert (shop.opened, shop.is_open) == (2, 1)
    await release(shop)


def test_what_a_dead_event_loop_held_does_not_matter_to_another() -> None:
    """S16."""
    shop = Shop()

    async def leave_it_open() -> None:
        await hold(shop, clean_every=HOUR)

    async def use() -> None:
        assert not is_held(shop)
        await hold(shop, clean_every=HOUR)
        assert is_held(shop)
        await release(shop)
        assert not is_held(shop)

    asyncio.run(leave_it_open())
    asyncio.run(use())
    assert (shop.opened, shop.is_open) == (2, 1)
