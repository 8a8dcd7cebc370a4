"""Where somebody listens, each call of a storer is an event; where nobody does, nothing stands before it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOverseer,
    DecodeError,
    DiskStorer,
    Durable,
    EncryptedStorer,
    Event,
    MemoryStorer,
    Record,
    StorageOverseer,
    Storer,
    StorerError,
    UnsupportedError,
    new_key,
)
from aiosessions.overseers.timed import TimedStorer
from aiosessions.storers.holding import is_held
from aiosessions.testing.suites import MovableClock, StoreSuite
from aiosessions.testing.suites_store import MakeStore, Visitor
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
)
from tests.storers.test_encrypted import CAPABILITIES, INNERS, Bare, Counted
from tests.storers_with_faults import Scene
from tests.test_imports import fresh
from tests.test_storage_overseer import Cart, House

pytestmark = pytest.mark.anyio


def listening(_: Event) -> None:
    """Somebody is, and does nothing about it."""


# Every promise, with a listener


class TestStores(StoreSuite):
    @pytest.fixture(params=["memory", "disk"])
    def make_store(self, request: pytest.FixtureRequest, clock: MovableClock, tmp_path: Path) -> MakeStore:
        on_disk = request.param == "disk"
        storer = DiskStorer(tmp_path / "sessions", clock=clock.now) if on_disk else MemoryStorer(clock=clock.now)

        def make(value_type: type[Any], **options: Any) -> StorageOverseer[Any]:
            options.setdefault("on_event", listening)
            return StorageOverseer(value_type, storer, clock=clock.now, **options)

        return make


class TestStorers(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture(params=["memory", "disk"])
    def make(self, request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Callable[[str], Storer]:
        def make(folder: str) -> Storer:
            on_disk = request.param == "disk"
            inner = DiskStorer(tmp_path / folder, clock=clock.now) if on_disk else MemoryStorer(clock=clock.now)
            return TimedStorer(inner, listening, "app")

        return make

    @pytest.fixture
    async def storer(self, make: Callable[[str], Any]) -> AsyncIterator[Storer]:  # Any: it is Openable
        storer = make("sessions")
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, make: Callable[[str], Storer]) -> Storer:
        return make("neighbour")


# What stands before a storer


@pytest.mark.parametrize("make_inner", INNERS.values(), ids=INNERS)
def test_it_can_what_the_storer_can_and_bears_its_name(make_inner: Callable[[], Storer]) -> None:
    """So that whoever looks at a store's storer sees what it was given."""
    inner = make_inner()
    storer = StorageOverseer(str, inner, on_event=listening)._backend.storer
    assert storer is not inner
    for capability in CAPABILITIES:
        assert isinstance(storer, capability) is isinstance(inner, capability), capability
    if isinstance(inner, Durable):
        assert isinstance(storer, Durable)
        assert storer.durable is inner.durable
    assert (type(storer).__name__, repr(storer)) == (type(inner).__name__, repr(inner))


@pytest.mark.parametrize("on_event", [None, listening])
async def test_what_a_storer_cannot_is_refused_in_the_same_words(on_event: Any) -> None:
    store = StorageOverseer(str, Bare(), on_event=on_event)
    async with store:
        with pytest.raises(UnsupportedError, match=r"^Bare has no user index"):
            await store.user_sessions("ann")
        with pytest.raises(UnsupportedError, match=r"^Bare has no keys\(\)"):
            await store.delete_all()
    with pytest.raises(ConfigError, match=r"^revocations=<MemoryStorer of 0 records> may forget"):
        CookieOverseer(str, AESGCMSealer(new_key()), revocations=MemoryStorer(max_sessions=1), on_event=on_event)


async def test_stores_with_and_without_a_listener_open_a_storer_once() -> None:
    """S16, X6: opened by the first, closed by the last, with one cleaner; one that learns that it may forget, too."""
    inner = Counted()
    stores = [StorageOverseer(str, inner, name=name, on_event=told) for name, told in (("a", listening), ("b", None))]
    async with stores[0]:
        assert is_held(inner)
        async with stores[1]:
            assert inner.calls == ["open"]
        assert inner.calls == ["open"]
    assert inner.calls == ["open", "close"]
    held = CookieOverseer(str, AESGCMSealer(new_key()), revocations=inner, on_event=listening)
    inner.forgets = True
    with pytest.raises(ConfigError, match="may forget"):
        async with held:
            pass


def test_without_a_listener_nothing_stands_before_a_storer() -> None:
    storer = MemoryStorer()
    assert StorageOverseer(str, storer)._backend.storer is storer
    held = CookieOverseer(str, AESGCMSealer(new_key()), revocations=storer)
    assert held._revocations is not None
    assert held._revocations._storer is storer


def test_nothing_of_it_is_imported_before_somebody_listens() -> None:
    program = """
import sys
from aiosessions import MemoryStorer, StorageOverseer
def loaded():
    return [name for name in sys.modules if name.startswith("opentelemetry") or name.endswith((".timed", ".telemetry"))]
StorageOverseer(str, MemoryStorer())
print(loaded())
StorageOverseer(str, MemoryStorer(), on_event=print)
print(loaded())
"""
    answer = fresh(program)
    assert (answer.stdout, answer.stderr) == ("[]\n['aiosessions.overseers.timed']\n", "")


# What is told


class Listened(House):
    """A House whose events are all kept, in the order they came."""

    def __init__(self, **options: Any) -> None:
        self.told: list[Event] = []
        super().__init__(on_event=self.told.append, **options)

    def calls(self) -> list[Event]:
        """Those since the last time."""
        calls = [event for event in self.told if event.kind == "storer_call"]
        self.told.clear()
        return calls


def size_of(record: Record) -> int:
    return len(record.value) + len(record.meta)


async def test_each_call_is_told_with_its_session_and_size() -> None:
    house, visitor = Listened(), Visitor()

    async def stored() -> Record:
        [record] = [record for _, record in await house.storer.list_by_owner("ann")]
        return record

    async with house.request(visitor) as (session, _):
        session.set_user("ann")
    handle = session.handle
    [event] = house.calls()
    assert event == Event(
        "storer_call",
        "app",
        handle,
        operation="create",
        seconds=event.seconds,
        size=size_of(await stored()),
        storer="WatchedStorer",
    )

    async with house.request(visitor) as (session, _):
        session.value.note = "changed"
        before = size_of(await stored())
    after = size_of(await stored())
    assert [(each.operation, each.size) for each in house.calls()] == [("read", before), ("replace", after)]

    async with house.request(visitor) as (session, _):
        session.touch()
    assert [(each.operation, each.handle, each.size) for each in house.calls()][1:] == [("touch", handle, None)]

    await house.store.user_sessions("ann")
    assert [info async for info in house.store.sessions()]
    told = [(each.operation, each.name, each.handle, each.size) for each in house.calls()]
    assert told == [
        ("list_by_owner", "app", "", after),
        ("keys", "app", "", None),
        ("read_together", "app", "", after),
    ]
    assert await house.store.delete_user_sessions("ann") == 1
    async with house.request(visitor):
        pass
    other = await house.visitor()
    async with house.request(other) as (session, _):
        session.destroy()
    assert [(each.operation, each.size is None) for each in house.calls()] == [
        ("delete_by_owner", True),
        ("read", True),
        ("create", False),
        ("read", False),
        ("delete", True),
    ]


async def test_a_name_is_that_of_the_session_and_a_ledger_has_the_store_s() -> None:
    """What revocations remember is no session: no handle, which would be a digest of a user or another's id."""
    house = Listened(name="shop", namespace="a.b/c")
    async with Visitor().visit() as visit:
        session = await house.store.get(visit.request, "prefs")
        session.value.note = "a"
        await house.store.save(session, visit.response)
    assert [(each.name, each.handle) for each in house.calls()] == [("prefs", session.handle)]

    told: list[Event] = []
    scene = Scene("guarded", name="shop", on_event=told.append)
    visitor = await scene.visitor(user="ann")
    await scene.end(visitor)
    await scene.store.delete_user_sessions("ann")
    calls = [event for event in told if event.kind == "storer_call"]
    assert {event.operation for event in calls} >= {"read_together", "create"}
    assert {(event.name, event.handle) for event in calls} == {("shop", "")}


async def test_an_error_is_told_by_its_class_the_cause_first() -> None:
    house = Listened()
    visitor = await house.visitor()
    house.calls()
    house.storer.failing = {"read"}
    with pytest.raises(StorerError):
        await house.session_of(visitor)
    kinds = [(event.kind, event.reason) for event in house.told]
    assert kinds == [("storer_call", "ConnectionResetError"), ("store_failed", "ConnectionResetError")]

    inner = MemoryStorer()
    await inner.create(":app:" + "h" * 24, Record(b"", b"", None, 0.0, 0.0, None, 1))
    told: list[Event] = []
    with pytest.raises(DecodeError):
        await TimedStorer(EncryptedStorer(inner, new_key()), told.append, "app").read(":app:" + "h" * 24)
    [event] = told
    assert (event.reason, event.storer) == ("DecodeError", "MemoryStorer")  # the one that does it


async def test_a_call_that_is_cancelled_is_told() -> None:
    """A backend that hangs is seen also where clients hang up first."""
    house = Listened()
    visitor = await house.visitor()
    house.calls()
    house.storer.before["read"] = anyio.sleep_forever
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.session_of, visitor)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    [event] = house.calls()
    assert (event.operation, event.reason) == ("read", anyio.get_cancelled_exc_class().__name__)


async def test_the_seconds_are_those_of_the_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a walk through keys too: what its caller does between two of them takes no time of it."""
    clock = MovableClock(1000.0)
    monkeypatch.setattr("aiosessions.overseers.timed.perf_counter", clock.now)

    class Slow(MemoryStorer):
        async def read(self, key: str) -> Record | None:
            await clock.advance(3)
            return await super().read(key)

        async def keys(self) -> AsyncIterator[str]:
            for key in ("a", "b", "c"):
                await clock.advance(1)
                yield key
            await clock.advance(0.5)

    told: list[Event] = []
    storer: Any = TimedStorer(Slow(), told.append, "app")  # Any: it is Listable
    await storer.read("k")
    async for _ in storer.keys():
        await clock.advance(100)
    async with aclosing(storer.keys()) as keys:
        async for _ in keys:
            await clock.advance(100)
            break
    assert [(event.operation, event.seconds, event.reason) for event in told] == [
        ("read", 3.0, ""),
        ("keys", 3.5, ""),
        ("keys", 1.0, ""),
    ]


async def test_a_call_is_in_no_log_and_a_listener_that_raises_breaks_none(caplog: pytest.LogCaptureFixture) -> None:
    def raising(event: Event) -> None:
        if event.kind == "storer_call":
            raise RuntimeError("broken")

    caplog.set_level(logging.DEBUG, "aiosessions")
    house = House(on_event=raising)
    async with house.request(Visitor()) as (session, _):
        session.value.note = "a"
    assert session.handle
    messages = [record.message for record in caplog.records]
    assert messages.count("on_event raised") == 1
    assert "storer_call" not in " ".join(messages)


async def test_a_lost_race_has_written_nothing() -> None:
    house = Listened()
    visitor = await house.visitor()
    elsewhere = StorageOverseer(Cart, house.storer, clock=house.clock.now)

    async def meanwhile() -> None:
        async with visitor.copy().visit() as visit:
            session = await elsewhere.get(visit.request)
            session.value.items.append("theirs")
            await elsewhere.save(session, visit.response)

    async with house.request(visitor) as (session, _):
        session.value.items.append("ours")
        house.calls()
        house.storer.before["replace"] = meanwhile
    told = [(event.operation, event.size is None) for event in house.calls()]
    assert told == [("replace", True), ("read", False), ("replace", False)]
