"""Every order in which requests can meet at the backend, tried one by one, against what must hold in all of them.

Requests run as plain coroutines, without an event loop: a backend call is where one stops and another may go on. A
search by depth replays the meeting once for each order. A response reaches the browser when its save has returned: how
long the network holds back an answer that carries a new token is nothing a server can decide.
"""

import random
from collections.abc import Callable, Coroutine, Generator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations_with_replacement
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from aiosessions import (
    ConflictError,
    Event,
    Lifetime,
    MemoryStorer,
    NoSessionError,
    Record,
    ResponseStartedError,
    Session,
    StorageOverseer,
)
from aiosessions._state import Meta
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock

IDLE = 3600.0
AAL2 = Lifetime.nist_aal2()
TIMED = Lifetime(timedelta(seconds=IDLE), cookie=timedelta(seconds=IDLE), touch=timedelta(0))
"""Each read sends its token again."""
OnConflict = Literal["merge", "raise"]


class Pause:
    """Where another request may go on; this one may not before *event* has happened."""

    def __init__(self, event: "SteppedEvent | None" = None) -> None:
        self.event = event

    def __await__(self) -> Generator["SteppedEvent | None", None, None]:
        yield self.event


async def pause(*_: object) -> None:
    await Pause()


class SteppedEvent:
    """What requests wait for that take turns."""

    def __init__(self) -> None:
        self.is_set = False

    async def wait(self) -> None:
        while not self.is_set:
            await Pause(self)

    def set(self) -> None:
        self.is_set = True


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])
    note: str = ""


@dataclass
class Write:
    """What was stored, by whom it was asked for, and under which epoch that one had loaded."""

    key: str
    epoch: int
    seen_at: float
    by: "Request | None"


class SteppedStorer(MemoryStorer):
    """Stops before each call, and writes down what was confirmed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.writes: list[Write] = []
        self.deleted: list[str] = []
        self.running: Request | None = None

    async def read(self, key: str) -> Record | None:
        await pause()
        return await super().read(key)

    async def create(self, key: str, record: Record) -> bool:
        await pause()
        done = await super().create(key, record)
        return self._note(key, record, done=done)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        await pause()
        done = await super().replace(key, record, version=version)
        return self._note(key, record, done=done)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        await pause()
        return await super().touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        await pause()
        done = await super().delete(key, version=version)
        if done:
            self.deleted.append(key)
        return done

    def _note(self, key: str, record: Record, *, done: bool) -> bool:
        meta = Meta.unpack(record.meta)
        if done and meta is not None:
            self.writes.append(Write(key, meta.epoch, record.seen_at, self.running))
        return done


class Request:
    """One request of the browser: load, act, save."""

    def __init__(self, world: "World", name: str, action: str, store: StorageOverseer[Cart]) -> None:
        self.world = world
        self.store = store
        self.name = name
        self.action = action
        self.loaded_epoch: int | None = None
        self.is_dropped = False
        self.handle = ""
        self.waits_for: SteppedEvent | None = None
        self.steps: Coroutine[SteppedEvent | None, None, None] = self._run()

    @property
    def can_go_on(self) -> bool:
        return self.waits_for is None or self.waits_for.is_set

    async def _run(self) -> None:
        world = self.world
        if self.action == "expire":
            await pause()
            world.clock.time += IDLE + 1
            return
        async with world.browser.visit() as visit:
            session = await self.store.get(visit.request, touch=world.is_timed or self.action == "touch")
            if not session.is_new:
                self.loaded_epoch = session._state.meta.epoch
            await pause()
            try:
                await self._act(session)
                await self.store.save(session, visit.response)
            except (ConflictError, NoSessionError, ResponseStartedError):
                self.is_dropped = True
            self.handle = session.handle
            world.finished.append(self)

    async def _act(self, session: Session[Cart]) -> None:
        match self.action:
            case "write":
                session.value.items.append(self.name)
            case "note":
                session.value.note = self.name
            case "update":
                await self.store.update(session, lambda cart: cart.items.append(self.name))
            case "flash":
                session.flash(self.name)
            case "login":
                session.value.items.append(self.name)
                session.set_user(self.name)
            case "destroy" | "regenerate" | "clear_user" | "touch":
                getattr(session, self.action)()
            case _:
                pass


class World:
    """One browser with a stored session, and the requests that meet; each process has a store of its own."""

    def __init__(
        self,
        actions: tuple[str, ...],
        on_conflict: OnConflict = "merge",
        *,
        processes: int = 1,
        lifetime: Lifetime = AAL2,
    ) -> None:
        self.is_timed = lifetime.is_timed
        self.lifetime = lifetime
        self.clock = MovableClock()
        self.storer = SteppedStorer(self.clock.now)
        self.events: list[tuple[Request | None, Event]] = []
        self.stores = [self._store(on_conflict) for _ in range(processes)]
        self.store = self.stores[0]
        self.browser = Visitor()
        self.finished: list[Request] = []
        finish(Request(self, "first", "write", self.store))
        (self.key,) = {write.key for write in self.storer.writes}
        self.finished.clear()
        self.storer.writes.clear()
        self.requests = [
            Request(self, f"{action}{index}", action, self.stores[index % processes])
            for index, action in enumerate(actions)
        ]

    def _store(self, on_conflict: OnConflict) -> StorageOverseer[Cart]:
        store = StorageOverseer(
            Cart,
            self.storer,
            lifetime=self.lifetime,
            clock=self.clock.now,
            on_conflict=on_conflict,
            on_event=lambda event: self.events.append((self.storer.running, event)),
        )
        store._holder.is_open = True  # there is no event loop to open it in
        return store

    def step(self, request: Request) -> bool:
        """Let one request go on to its next stop; False when it has ended."""
        self.storer.running = request
        try:
            request.waits_for = request.steps.send(None)
        except StopIteration:
            return False
        finally:
            self.storer.running = None
        return True

    def now_stored(self) -> dict[str, Record]:
        """What lives."""
        found: dict[str, Record] = {}

        async def collect() -> None:
            async for key in self.storer.keys():
                record = await MemoryStorer.read(self.storer, key)
                if record is not None:
                    found[key] = record

        drive(collect())
        return found


def drive(steps: Coroutine[Any, None, Any]) -> None:
    """Run to the end."""
    try:
        while True:
            steps.send(None)
    except StopIteration:
        return


def finish(request: Request) -> None:
    while request.world.step(request):
        pass


def check(world: World, order: list[int]) -> None:
    """What must hold whatever the order was."""
    about = f"{[request.action for request in world.requests]} in the order {order}"
    stored = world.now_stored()
    dropped = {request for request, event in world.events if event.kind in ("dropped", "token_superseded")}

    # a session that was logged out is not alive
    for key in world.storer.deleted:
        assert key not in stored, f"dead and alive: {about}"

    # no write by a bearer of a dead token; clocks only go forward
    epochs: dict[str, int] = {world.key: 0}
    seen: dict[str, float] = {}
    for write in world.storer.writes:
        before = epochs.get(write.key)
        if before is not None and write.by is not None:
            assert write.by.loaded_epoch == before, f"written over a newer epoch: {about}"
        epochs[write.key] = write.epoch
        assert write.seen_at >= seen.get(write.key, 0.0), f"a clock went back: {about}"
        seen[write.key] = write.seen_at

    # no update is lost without a ConflictError or an event
    for request in world.finished:
        key = f":app:{request.handle}"
        if request.action not in ("write", "login", "update") or request.is_dropped or request in dropped:
            continue
        if key in stored:
            items = world.store._codec.decode(stored[key].value).items
            assert request.name in items, f"{request.name} is lost: {about}"

    # the index knows who is there
    for owner in {request.name for request in world.requests}:
        listed: list[str] = []

        async def collect(owner: str = owner, listed: list[str] = listed) -> None:
            listed += [key for key, _ in await MemoryStorer.list_by_owner(world.storer, owner)]

        drive(collect())
        assert sorted(listed) == sorted(key for key, record in stored.items() if record.owner == owner), about

    # the browser ends logged in whenever the last word was a login; R18 speaks of tokens whose record is there:
    # who came with one that was logged out may start anew
    words = [
        request for request in world.finished if request.action in ("login", "destroy", "clear_user", "regenerate")
    ]
    expired = any(request.action == "expire" for request in world.requests)
    started_anew = any(request.loaded_epoch is None and request.handle for request in world.finished)
    if not started_anew and words and words[-1].action == "login" and not words[-1].is_dropped and not expired:
        user: list[str | None] = []

        async def look() -> None:
            async with world.browser.visit() as visit:
                user.append((await world.store.get(visit.request)).user_id)

        drive(look())
        assert user == [words[-1].name], f"logged out by a slow answer: {about}"


def explore(actions: tuple[str, ...], on_conflict: OnConflict, processes: int, lifetime: Lifetime = AAL2) -> int:
    """Try every order; how many there were."""
    choices: list[list[int]] = []
    count = 0
    while True:
        world = World(actions, on_conflict, processes=processes, lifetime=lifetime)
        waiting = list(world.requests)
        order: list[int] = []
        while waiting:
            ready = [request for request in waiting if request.can_go_on]
            if len(order) == len(choices):
                choices.append([0, len(ready)])
            request = ready[choices[len(order)][0]]
            order.append(world.requests.index(request))
            if not world.step(request):
                waiting.remove(request)
        check(world, order)
        count += 1
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return count
        choices[-1][0] += 1


ACTIONS = (
    "read",
    "write",
    "note",
    "update",
    "flash",
    "touch",
    "destroy",
    "regenerate",
    "clear_user",
    "login",
    "expire",
)


NEVER = SimpleNamespace(cancelled_caught=False)


def never(_: float, *, shield: bool = False) -> "nullcontext[SimpleNamespace]":
    """A time limit, where no time passes."""
    return nullcontext(NEVER)


@pytest.fixture(autouse=True)
def no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting between attempts is one more place where another request may go on."""
    stepped = SimpleNamespace(sleep=pause, current_time=lambda: 0.0, Event=SteppedEvent, move_on_after=never)
    monkeypatch.setattr("aiosessions._turn.anyio", stepped)
    monkeypatch.setattr("aiosessions.overseers.race.anyio", stepped)
    monkeypatch.setattr("aiosessions.overseers.line.anyio", stepped)
    monkeypatch.setattr("aiosessions.overseers.overseer.anyio", stepped)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("on_conflict", ["merge", "raise"])
@pytest.mark.parametrize("actions", list(combinations_with_replacement(ACTIONS, 2)), ids="-".join)
def test_two_requests_in_every_order(actions: tuple[str, str], on_conflict: OnConflict, processes: int) -> None:
    """F3, F4, F14, R8, R18, S15."""
    assert explore(actions, on_conflict, processes) > 5


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_token_that_is_sent_again_meets_a_login(action: str, processes: int) -> None:
    """R15, R18: in every order."""
    assert explore((action, "login"), "merge", processes, TIMED) > 5


@pytest.mark.parametrize("lifetime", [AAL2, TIMED], ids=["browser", "timed"])
@pytest.mark.parametrize("seed", range(10))
def test_three_requests_in_many_orders(seed: int, lifetime: Lifetime) -> None:
    """F3, F4, F14, R8, R15, R18, S15: a seeded choice of meetings and of orders."""
    chance = random.Random(seed)  # the same in each run
    for _ in range(150):
        actions, processes = tuple(chance.choices(ACTIONS, k=3)), chance.choice((1, 2, 3))
        world = World(actions, processes=processes, lifetime=lifetime)
        waiting = list(world.requests)
        order: list[int] = []
        while waiting:
            request = chance.choice([request for request in waiting if request.can_go_on])
            order.append(world.requests.index(request))
            if not world.step(request):
                waiting.remove(request)
        check(world, order)
