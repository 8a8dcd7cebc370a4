"""Calls that reach a backend in one tick share a trip; nobody gets another's answer, error or cancellation."""

import asyncio
import gc
import random
import threading
from collections.abc import Awaitable, Sequence
from typing import Any

import anyio
import pytest
import trio

from aiosessions.storers.batches import Batches
from tests.conftest import ASYNCIO, UVLOOP

pytestmark = pytest.mark.anyio

Calls = Sequence[int]
Answers = Sequence[str | Exception]


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    return request.param


class Backend:
    """Answers each call with its own text, when it is let.

    Attributes:
        trips: what each trip carried.
        tasks: who carried it.
        ended: the trips that were cancelled.
    """

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.tasks: list[asyncio.Task[Any] | None] = []  # Any: tasks of any result
        self.ended: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def send(self, calls: Calls) -> Answers:
        self.trips.append(list(calls))
        self.tasks.append(asyncio.current_task())
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ended.append(list(calls))
            raise
        if self.failure is not None:
            raise self.failure
        return [answer(call) for call in calls]


class OddError(Exception):
    """One whose constructor takes other arguments than it passes on."""

    def __init__(self, call: int, *, why: str) -> None:
        super().__init__(f"{why}: {call}")
        self.why = why


def answer(call: int) -> str | Exception:
    return OddError(call, why="negative") if call < 0 else str(call)


async def ticks(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcomes(*asked: Awaitable[str]) -> list[str | BaseException]:
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_who_is_alone_travels_at_once_in_its_own_task() -> None:
    """S11: no future, no task, no tick; and so again after it."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    me, tasks = asyncio.current_task(), asyncio.all_tasks()
    for call in range(3):
        asked = batches.ask(call)
        with pytest.raises(StopIteration) as done:
            asked.send(None)
        assert done.value.value == str(call)
    assert backend.tasks == [me] * 3
    assert asyncio.all_tasks() == tasks


async def test_those_of_one_tick_share_a_trip_in_their_order() -> None:
    """S11: the first finds nobody and leaves alone; the others leave together when the tick ends."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    backend.gate.clear()
    asked = asyncio.gather(*(batches.ask(call) for call in range(6)))
    await ticks()
    backend.gate.set()
    assert await asked == [str(call) for call in range(6)]
    assert backend.trips == [[0], [1, 2, 3, 4, 5]]

    assert await asyncio.gather(*(batches.ask(call) for call in range(3))) == ["0", "1", "2"]
    assert backend.trips[2:] == [[0, 1, 2]]


async def test_after_a_crowd_one_who_is_alone_travels_at_once_again() -> None:
    """S11: the first of them waits for the tick's end, those after it do not."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    backend.gate.clear()
    asked = [asyncio.ensure_future(batches.ask(call)) for call in range(5)]
    await ticks()
    backend.gate.set()
    await outcomes(*asked)
    del backend.tasks[:]
    for call in range(3):
        await batches.ask(call)
    me = asyncio.current_task()
    assert [task is me for task in backend.tasks] == [False, True, True]


async def test_several_calls_of_one_caller_share_a_trip() -> None:
    """S11: alone at once, in its own task; in a crowd with the others, as many as a trip takes."""
    backend = Backend()
    batches = Batches(backend.send, most=4)
    assert await batches.ask_all([1, 2, 3]) == ["1", "2", "3"]
    assert await batches.ask_all([]) == []
    assert backend.tasks[:1] == [asyncio.current_task()]
    assert backend.trips == [[1, 2, 3]]

    del backend.trips[:]
    backend.gate.clear()
    asked = asyncio.gather(batches.ask(0), batches.ask_all([1, 2, 3]), batches.ask(4), batches.ask_all([5, 6]))
    await ticks()
    backend.gate.set()
    assert list(await asked) == ["0", ["1", "2", "3"], "4", ["5", "6"]]
    assert backend.trips == [[0], [1, 2, 3, 4], [5, 6]]

    del backend.trips[:]
    assert await Batches(backend.send, most=4).ask_all(range(9)) == [str(call) for call in range(9)]
    assert backend.trips == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    with pytest.raises(OddError, match="-2"):
        await batches.ask_all([1, -2, 3])


async def test_a_caller_of_several_who_is_cancelled_holds_up_nobody() -> None:
    """S14: a trip that nobody waits for any more ends; one that somebody waits for goes on."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    backend.gate.clear()
    first = asyncio.ensure_future(batches.ask(0))
    await ticks()
    several, other = asyncio.ensure_future(batches.ask_all([1, 2])), asyncio.ensure_future(batches.ask(3))
    await ticks()
    several.cancel()
    await ticks()
    backend.gate.set()
    assert await outcomes(first, other) == ["0", "3"]
    assert several.cancelled()

    batches = Batches(backend.send, most=8)
    backend.gate.clear()
    first = asyncio.ensure_future(batches.ask(0))
    several = asyncio.ensure_future(batches.ask_all([1, 2]))
    others = asyncio.all_tasks()
    await ticks()
    (trip,) = asyncio.all_tasks() - others
    several.cancel()
    await ticks()
    assert trip.cancelled()
    backend.gate.set()
    assert await first == "0"


async def test_more_than_one_trip_takes_leave_in_several_first_come_first_carried() -> None:
    """S11: at most `most` calls a trip."""
    backend = Backend()
    batches = Batches(backend.send, most=4)
    backend.gate.clear()
    asked = asyncio.gather(*(batches.ask(call) for call in range(10)))
    await ticks()
    backend.gate.set()
    assert await asked == [str(call) for call in range(10)]
    assert backend.trips == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


async def test_an_error_that_is_an_answer_is_raised_for_its_caller_alone() -> None:
    """S13: also for who travels alone."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    with pytest.raises(OddError, match="negative: -1"):
        await batches.ask(-1)
    backend.gate.clear()
    asked = asyncio.gather(*(batches.ask(call) for call in (1, 2, -3, 4)), return_exceptions=True)
    await ticks()
    backend.gate.set()
    first, second, third, fourth = await asked
    assert (first, second, fourth) == ("1", "2", "4")
    assert isinstance(third, OddError)


async def test_an_error_of_a_trip_is_raised_for_each_of_it_with_a_traceback_of_its_own() -> None:
    """S13: same type, text, attributes and cause; 50 tasks do not share one traceback."""
    backend = Backend()
    batches = Batches(backend.send, most=64)
    backend.gate.clear()
    asked = [asyncio.ensure_future(batches.ask(call)) for call in range(50)]
    await ticks()
    backend.failure = OddError(7, why="down")
    backend.failure.__cause__ = OSError("refused")
    backend.gate.set()
    failed = await outcomes(*asked)
    assert len({id(error) for error in failed}) == 50
    for error in failed:
        assert isinstance(error, OddError)
        assert (str(error), error.why, error.__cause__) == ("down: 7", "down", backend.failure.__cause__)
        assert depth(error) < 12

    backend.failure = None
    assert await batches.ask(1) == "1"


def depth(error: BaseException) -> int:
    trace, count = error.__traceback__, 0
    while trace is not None:
        trace, count = trace.tb_next, count + 1
    return count


async def test_a_backend_that_answers_too_little_is_an_error_and_nobody_waits_for_ever() -> None:
    """S13: and none gets another's answer."""

    async def send(calls: Calls) -> Answers:
        await ticks(3)
        return ["one"]

    batches = Batches(send, most=8)
    first, *others = await outcomes(*(batches.ask(call) for call in range(4)))
    assert first == "one"
    assert [type(error) for error in others] == [ValueError] * 3


async def test_one_who_is_cancelled_before_the_trip_leaves_does_not_travel() -> None:
    """S11: the others do."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    backend.gate.clear()
    loop = asyncio.get_running_loop()
    asked = [asyncio.ensure_future(batches.ask(call)) for call in range(4)]
    loop.call_soon(asked[2].cancel)
    loop.call_soon(backend.gate.set)
    first, second, third, fourth = await outcomes(*asked)
    assert (first, second, fourth) == ("0", "1", "3")
    assert isinstance(third, asyncio.CancelledError)
    assert backend.trips == [[0], [1, 3]]


async def test_one_who_is_cancelled_on_the_way_loses_its_own_answer_only() -> None:
    """S11: the trip goes on for the others, and ends when the last of them has gone."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    backend.gate.clear()
    asked = [asyncio.ensure_future(batches.ask(call)) for call in range(4)]
    await ticks()
    asked[1].cancel()
    asked[3].cancel()
    await ticks()
    assert backend.ended == []
    backend.gate.set()
    assert [type(outcome) for outcome in await outcomes(*asked)] == [
        str,
        asyncio.CancelledError,
        str,
        asyncio.CancelledError,
    ]

    backend.gate.clear()
    asked = [asyncio.ensure_future(batches.ask(call)) for call in range(4)]
    await ticks()
    for each in asked:
        each.cancel()
    await ticks()
    assert backend.ended == [[0, 1, 2, 3]]
    backend.gate.set()
    assert await batches.ask(7) == "7"


async def test_one_who_is_cancelled_when_its_answer_is_there_leaves_no_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S13: nor if the answer is an error that nobody looks at."""
    backend = Backend()
    batches = Batches(backend.send, most=8)

    async def crowd() -> None:
        backend.gate.clear()
        asked = [asyncio.ensure_future(batches.ask(call)) for call in (1, -2, -3)]
        await ticks()
        (trip,) = (task for task in backend.tasks if task not in asked)
        assert trip is not None
        trip.add_done_callback(lambda _: asked[1].cancel())
        asyncio.get_running_loop().call_soon(backend.gate.set)
        assert isinstance((await outcomes(*asked))[2], OddError)

    await crowd()
    backend.tasks.clear()
    gc.collect()
    await ticks()
    assert caplog.records == []


async def test_a_trip_that_somebody_ends_leaves_nobody_waiting() -> None:
    """S11: also one that ends before its first step."""
    backend = Backend()
    batches = Batches(backend.send, most=2)
    backend.gate.clear()
    before = asyncio.all_tasks()
    asked = [asyncio.ensure_future(batches.ask(call)) for call in range(5)]
    await ticks(2)  # the first has gone, the others leave now
    trips = asyncio.all_tasks() - before - {*asked}
    assert len(trips) == 2
    for trip in trips:
        trip.cancel()
    backend.gate.set()
    first, *others = await outcomes(*asked)
    assert first == "0"
    assert [type(error) for error in others] == [asyncio.CancelledError] * 4


async def test_one_who_travels_alone_and_is_cancelled_leaves_the_line_empty() -> None:
    """S11: the next one travels at once."""
    backend = Backend()
    batches = Batches(backend.send, most=8)
    backend.gate.clear()
    with anyio.move_on_after(0):
        await batches.ask(1)
    assert backend.ended == [[1]]
    backend.gate.set()
    await batches.ask(2)
    assert backend.tasks[-1] is asyncio.current_task()


def test_two_loops_never_share_a_trip(anyio_backend: Any) -> None:  # Any: as above
    """S11: each thread with a loop has its own trips, at the same time."""
    carried: list[tuple[int, list[int]]] = []

    async def send(calls: Calls) -> Answers:
        await ticks(2)
        carried.append((threading.get_ident(), list(calls)))
        return [str(call) for call in calls]

    batches = Batches(send, most=8)
    meet = threading.Barrier(2)

    async def crowd(start: int) -> None:
        for _ in range(50):
            meet.wait(10)
            asked = range(start, start + 5)
            assert await asyncio.gather(*map(batches.ask, asked)) == [str(call) for call in asked]

    def run(start: int) -> None:
        anyio.run(crowd, start, backend=anyio_backend[0], backend_options=anyio_backend[1])

    threads = [threading.Thread(target=run, args=(start,)) for start in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    owners = {call: thread for thread, calls in carried for call in calls}
    assert len({owners[call] for call in range(5)} | {owners[call] for call in range(100, 105)}) == 2
    assert all(len({call < 100 for call in calls}) == 1 for _, calls in carried)
    assert sum(len(calls) for _, calls in carried) == 500


def test_a_loop_that_ends_leaves_nobody_waiting_and_the_next_one_works(
    anyio_backend: Any,  # Any: as above
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S11: with some under way and some still to leave."""
    batches: Batches[int, str] | None = None
    seen: list[BaseException] = []

    async def ask(call: int) -> None:
        assert batches is not None
        try:
            await batches.ask(call)
        except BaseException as error:
            seen.append(error)
            raise

    async def first() -> None:
        nonlocal batches
        backend = Backend()
        backend.gate.clear()
        batches = Batches(backend.send, most=2)
        asked = [asyncio.ensure_future(ask(call)) for call in range(6)]
        await ticks(3)
        asked.append(asyncio.ensure_future(ask(6)))
        await asyncio.sleep(0)

    anyio.run(first, backend=anyio_backend[0], backend_options=anyio_backend[1])
    assert [type(error) for error in seen] == [asyncio.CancelledError] * 7

    async def second() -> None:
        assert batches is not None
        batches._send = Backend().send
        assert await asyncio.gather(*map(batches.ask, range(6))) == [str(call) for call in range(6)]
        assert len(batches._lines) == 1

    anyio.run(second, backend=anyio_backend[0], backend_options=anyio_backend[1])
    gc.collect()
    assert caplog.records == []


def test_where_there_is_no_asyncio_everybody_travels_alone() -> None:
    """S15: under trio."""
    carried: list[list[int]] = []

    async def send(calls: Calls) -> Answers:
        carried.append(list(calls))
        await trio.lowlevel.checkpoint()
        return [answer(call) for call in calls]

    async def crowd() -> list[str]:
        batches = Batches(send, most=8)
        got: list[str] = []

        async def ask(call: int) -> None:
            got.append(await batches.ask(call))

        async with trio.open_nursery() as nursery:
            for call in range(4):
                nursery.start_soon(ask, call)
        with pytest.raises(OddError):
            await batches.ask(-1)
        return got

    assert sorted(trio.run(crowd)) == ["0", "1", "2", "3"]
    assert sorted(carried) == [[-1], [0], [1], [2], [3]]


class Schedule:
    """Tasks that ask at random ticks and are cancelled at random ones, over a backend of random patience and faults."""

    MOST = 3

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.carried: list[int] = []
        self.asked: list[int] = []
        self.broken: set[int] = set()
        self.batches = Batches(self.send, most=self.MOST)

    async def send(self, calls: Calls) -> Answers:
        assert 1 <= len(calls) <= self.MOST
        self.carried += calls
        await ticks(self.random.randrange(4))
        if self.random.random() < 0.2:
            self.broken.update(calls)
            raise OddError(calls[0], why="broken")
        return [answer(call) for call in calls]

    async def passenger(self, number: int) -> None:
        for round_ in range(self.random.randrange(1, 4)):
            await ticks(self.random.randrange(3))
            call = number * 10 + round_ + 1
            call *= self.random.choice((1, 1, 1, -1))
            self.asked.append(call)
            try:
                got = await self.batches.ask(call)
            except OddError as error:
                got = str(error) if error.why == "negative" else "broken"
            assert got == ("broken" if call in self.broken else f"negative: {call}" if call < 0 else str(call))

    async def run(self) -> None:
        tasks = [asyncio.ensure_future(self.passenger(number)) for number in range(self.random.randrange(2, 6))]
        for _ in range(self.random.randrange(3)):
            await ticks(self.random.randrange(4))
            self.random.choice(tasks).cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

        assert [call for call in self.asked if call in set(self.carried)] == self.carried  # each once, first come first
        await ticks(8)
        for line in self.batches._lines.values():
            assert (line.waiting, line.trips, line.is_taken) == ([], {}, False)


async def test_a_hundred_thousand_random_schedules(pytestconfig: pytest.Config) -> None:
    """S11, S13: each asker gets its own answer or its own error, once, in order; nothing is left over."""
    for seed in range(100_000 if pytestconfig.option.full else 10_000):
        try:
            await Schedule(seed).run()
        except BaseException as error:
            error.add_note(f"schedule {seed}")
            raise
