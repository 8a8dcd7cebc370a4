"""Many requests of one process that change one session: they are merged, one after the other, and written together."""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aiosessions import ConflictError, Record, Session, SessionTooLargeError, StorerError
from aiosessions.testing.suites_store import Visitor
from tests.storers_with_faults import Cart, FaultyStorer, Gate, Scene, adding

pytestmark = pytest.mark.anyio

Change = Callable[[Session[Cart]], object]


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine: nobody in a line takes the one before for hanging."""
    monkeypatch.setattr("aiosessions.overseers.race.RACE_SECONDS", 1e6)
    monkeypatch.setattr("aiosessions.overseers.line.COURTESY_SECONDS", 1e6)


class Busy:
    """A session that one request is about to write, and the requests that come meanwhile.

    Attributes:
        errors: what was raised, by the name of the request.
        scopes: cancel the requests.
    """

    def __init__(self, **options: Any) -> None:  # Any: see Scene
        self.scene = Scene("stored", **options)
        self.visitor = Visitor()
        self.errors: dict[str, Exception] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def begin(self, tasks: Any, others: dict[str, Change]) -> Gate:  # Any: a task group
        """Let "first" stop before its write, and the others wait for it; opens what they wait for."""
        self.visitor = await self.scene.visitor()
        first = self.scene.storer.stop_at("replace")
        tasks.start_soon(self.change, "first", item("first"))
        await anyio.wait_all_tasks_blocked()
        for name, change in others.items():
            tasks.start_soon(self.change, name, change)
            await anyio.wait_all_tasks_blocked()
        return first

    async def change(self, name: str, change: Change) -> None:
        """One request."""
        with anyio.CancelScope() as self.scopes[name]:
            try:
                async with self.scene.request(self.visitor.copy()) as (session, _):
                    change(session)
            except Exception as error:  # noqa: BLE001  # the test looks at it
                self.errors[name] = error

    async def value(self) -> Cart:
        """What is stored in the end."""
        session = await self.scene.session_of(self.visitor)
        value: Cart = session.value
        return value


def item(name: str) -> Change:
    """Append to a list."""
    return lambda session: session.value.items.append(name)


class SlowStorer(FaultyStorer):
    """Others may go on during each call."""

    async def read(self, key: str) -> Record | None:
        await anyio.lowlevel.checkpoint()
        return await super().read(key)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        await anyio.lowlevel.checkpoint()
        done = await super().replace(key, record, version=version)
        await anyio.lowlevel.checkpoint()
        return done


@pytest.mark.parametrize("how", ["save", "update", "both"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_of_fifty_in_flight_nothing_is_lost(how: str, processes: int) -> None:
    """F3: also beside another process; and in one they do not race."""
    scene = Scene("stored")
    scene.storer = SlowStorer(scene.clock.now)
    stores = [scene.another(Cart) for _ in range(processes)]
    visitor = await scene.visitor(store=stores[0])

    async def request(index: int) -> None:
        store = stores[index % processes]
        async with visitor.copy().visit() as visit:
            session = await store.get(visit.request)
            if how == "save" or (how == "both" and index % 3):
                session.value.items.append(str(index))
                session.value.total += 1
                session.flash(str(index))
                await store.save(session, visit.response)
            else:
                await store.update(session, adding(str(index)))
            assert str(index) in session.value.items

    async with anyio.create_task_group() as tasks:
        for index in range(50):
            tasks.start_soon(request, index)
    session = await scene.session_of(visitor, stores[0])
    assert sorted(session.value.items, key=int) == [str(index) for index in range(50)]
    saves = {"save": 50, "update": 0, "both": 33}[how]
    assert (session.value.total, len(session.flashes())) == (saves, saves)
    if processes == 1:
        assert scene.storer.calls["replace"] <= 4


async def test_who_waits_together_is_written_once_over_what_is_handed_over() -> None:
    """F3, DESIGN 6: no read and no lost race between them; each has an event of its own."""
    busy = Busy()
    async with anyio.create_task_group() as tasks:
        first = await busy.begin(tasks, {name: item(name) for name in "abc"})
        busy.scene.storer.calls.clear()
        first.open()
    assert (busy.scene.storer.calls["replace"], busy.scene.storer.calls["read"]) == (1, 0)
    assert busy.scene.kinds.count("saved") == 4
    assert sorted((await busy.value()).items) == ["a", "b", "c", "first"]


async def test_what_a_merge_had_to_decide_is_said_for_the_request_it_was_decided_for() -> None:
    """F3: never silent, in a shared write either."""
    busy = Busy()
    async with anyio.create_task_group() as tasks:
        others: dict[str, Change] = {
            "a": item("a"),
            "b": lambda session: setattr(session.value, "note", "b"),
            "c": lambda session: setattr(session.value, "note", "c"),
        }
        (await busy.begin(tasks, others)).open()
    assert [event.fields for event in busy.scene.events if event.kind == "merged"] == [("note",)]
    assert (await busy.value()).note in ("b", "c")


async def test_one_that_cannot_be_merged_stops_nobody() -> None:
    """F3: a ConflictError of its own."""
    busy = Busy()
    async with anyio.create_task_group() as tasks:
        others: dict[str, Change] = {
            "c": item("c"),
            "a": lambda session: setattr(session.value, "seal", "a"),
            "b": lambda session: setattr(session.value, "seal", "b"),
        }
        (await busy.begin(tasks, others)).open()
    ((loser, error),) = busy.errors.items()
    assert isinstance(error, ConflictError)
    value = await busy.value()
    assert {value.seal, loser} == {"a", "b"}
    assert sorted(value.items) == ["c", "first"]
    assert busy.scene.kinds.count("conflict") == 1


async def test_one_that_is_too_large_stops_nobody() -> None:
    """S18: measured beside what the others have written."""
    busy = Busy(max_size=6000)
    async with anyio.create_task_group() as tasks:
        others = {name: item(name * size) for name, size in (("c", 1), ("a", 3000), ("b", 3000))}
        (await busy.begin(tasks, others)).open()
    ((loser, error),) = busy.errors.items()
    assert isinstance(error, SessionTooLargeError)
    assert {*(await busy.value()).items, loser * 3000} == {"first", "a" * 3000, "b" * 3000, "c"}


async def test_a_shared_write_that_is_too_much_for_the_backend_is_written_one_by_one() -> None:
    """S18: whoever fits is in."""
    busy = Busy()
    limit = busy.scene.storer.replace

    async def limited(key: str, record: Record, *, version: int) -> bool:
        if len(record.value) > 3500:
            raise SessionTooLargeError(key, size=len(record.value), limit=3500)
        return await limit(key, record, version=version)

    busy.scene.storer.replace = limited  # type: ignore[method-assign]  # a backend with a limit of its own
    async with anyio.create_task_group() as tasks:
        others = {name: item(name * size) for name, size in (("c", 1), ("a", 2000), ("b", 2000))}
        (await busy.begin(tasks, others)).open()
    ((loser, error),) = busy.errors.items()
    assert isinstance(error, SessionTooLargeError)
    assert {*(await busy.value()).items, loser * 2000} == {"first", "a" * 2000, "b" * 2000, "c"}


async def test_a_shared_write_that_fails_is_said_to_each() -> None:
    """S13: its own StorerError, with the driver's error; later the session can be written again."""
    busy = Busy()
    async with anyio.create_task_group() as tasks:
        first = await busy.begin(tasks, {name: item(name) for name in "abc"})
        second = busy.scene.storer.stop_at("replace")
        first.open()
        await second.reached.wait()
        busy.scene.storer.failing = {"replace"}
        tasks.start_soon(busy.change, "late", item("late"))
        await anyio.wait_all_tasks_blocked()
        second.open()
    # those on their way had passed the fault, and the late one met it
    assert list(busy.errors) == ["late"]
    busy.scene.storer.failing = set()

    async with anyio.create_task_group() as tasks:
        first = await busy.begin(tasks, {name: item(name) for name in "abc"})
        busy.errors.clear()
        replace = busy.scene.storer.replace

        async def fails(key: str, record: Record, *, version: int) -> bool:
            busy.scene.storer.replace = replace  # type: ignore[method-assign]  # as below
            raise StorerError("the backend is away") from ConnectionResetError("on purpose")

        busy.scene.storer.replace = fails  # type: ignore[method-assign]  # a backend that is away for one write
        first.open()
    assert sorted(busy.errors) == ["a", "b", "c"]
    assert len({id(error) for error in busy.errors.values()}) == 3
    assert all(isinstance(error.__cause__, ConnectionResetError) for error in busy.errors.values())
    await busy.change("again", item("again"))
    assert (await busy.value()).items == ["first", "again"]


@pytest.mark.parametrize("is_applied", [False, True])
@pytest.mark.parametrize("who", ["leads", "is written with it", "waits"])
async def test_a_cancelled_request_takes_nobody_along(who: str, is_applied: bool) -> None:
    """S14, F3: its own change may be in or not; the others' are, once each, and nobody hangs."""
    busy = Busy()
    storer = busy.scene.storer
    replace = storer.replace
    gate = Gate()
    calls = 0

    async def stops(key: str, record: Record, *, version: int) -> bool:
        nonlocal calls
        calls += 1
        if calls != 1:
            return await replace(key, record, version=version)
        done = is_applied and await replace(key, record, version=version)
        await gate.passed()
        return done or await replace(key, record, version=version)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            first = await busy.begin(tasks, {name: item(name) for name in "abc"})
            storer.replace = stops  # type: ignore[method-assign]  # stops before its work, or before its answer
            if who == "waits":
                busy.scopes["b"].cancel()
                await anyio.wait_all_tasks_blocked()
            first.open()
            await gate.reached.wait()
            other = busy.scene.another(Cart)  # another process writes over it
            async with busy.scene.request(busy.visitor.copy(), other) as (session, _):
                session.value.items.append("other")
            tasks.start_soon(busy.change, "late", item("late"))
            await anyio.wait_all_tasks_blocked()
            if who != "waits":
                busy.scopes["a" if who == "leads" else "b"].cancel()
                await anyio.wait_all_tasks_blocked()
            gate.open()
    assert busy.errors == {}
    items = (await busy.value()).items
    cancelled = "a" if who == "leads" else "b"
    assert sorted({*items, cancelled} - {cancelled}) == sorted({"a", "b", "c", "first", "late", "other"} - {cancelled})
    assert len(items) == len(set(items))
    assert not (who == "waits" and "b" in items)


@pytest.mark.parametrize("end", ["destroy", "regenerate", "set_user"])
async def test_who_waits_behind_an_end_is_dropped(end: str) -> None:
    """F4, F14, R8: what waits is another's turn, and another epoch, like in any other process."""
    busy = Busy()

    def ended(session: Session[Cart]) -> None:
        session.set_user("ann") if end == "set_user" else getattr(session, end)()

    async with anyio.create_task_group() as tasks:
        first = await busy.begin(tasks, {"a": item("a"), "end": ended})
        gate = busy.scene.storer.stop_at("delete" if end == "destroy" else "replace")
        if end != "destroy":  # "a" goes first
            gate.open()
        first.open()
        await anyio.wait_all_tasks_blocked()
        gate.open()
    await busy.change("late", item("late"))
    assert busy.errors == {}
    assert (await busy.scene.session_of(busy.visitor)).is_new
    assert len(await busy.scene.stored()) == 1  # the one that was rotated, or the late request's own


async def test_a_line_ends_with_those_who_stood_in_it() -> None:
    """S14: cancelled or not, nothing of it stays: the next request finds the session as it is stored."""
    busy = Busy()
    async with anyio.create_task_group() as tasks:
        await busy.begin(tasks, {"a": item("a"), "b": item("b")})
        tasks.cancel_scope.cancel()
    assert busy.scene.store._race._lines == {}
    await busy.change("next", item("next"))
    assert (await busy.value()).items == ["next"]


async def test_who_stands_behind_one_that_hangs_goes_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: a line is a courtesy; the one that hung is merged when it comes back."""
    monkeypatch.setattr("aiosessions.overseers.line.COURTESY_SECONDS", 0.01)
    busy = Busy()
    async with anyio.create_task_group() as tasks:
        first = await busy.begin(tasks, {})
        await busy.change("second", item("second"))
        assert (await busy.value()).items == ["second"]
        first.open()
    assert (await busy.value()).items == ["second", "first"]
    assert busy.errors == {}
