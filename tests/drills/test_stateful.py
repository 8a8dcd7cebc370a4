"""Each real storer against a plain model: any operations in any order, while time passes and answers get lost."""

import asyncio
import json
import math
import re
import time
import uuid
from collections.abc import Callable, Coroutine, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import asyncpg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from msgspec.structs import replace
from redis.asyncio import Redis

from aiosessions import Cleanable, Listable, Record, StorerError, UserIndexed
from aiosessions.storers.registry import storer_from_url
from aiosessions.testing.suites_storer import collected
from tests.drills.backends import BACKENDS, Backend
from tests.proxy import Proxy

T = TypeVar("T")
After = Callable[[Record | None], Record | None]
Fits = Callable[[Record | None], bool]

KEYS = st.sampled_from(["a", "b", "a/b"])
OWNERS = st.sampled_from([None, "ann", "bob"])
LIVES = st.sampled_from([60, 600, None])  # seconds; time passes by the half minute, so that no expiry is in doubt
FAULTS = st.sampled_from(["", "", "", "lost", "cut"])
STEP = 30
START = float(int(time.time()))


class World:
    """One backend, behind a proxy where it has a server, in an event loop that machines use one after the other."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.proxy: Proxy | None = None
        self.storer: Any = None  # Any: what it is capable of is found out
        self.now = START
        self.postgres: Any = None  # Any: asyncpg's connection
        self.redis: Any = None  # Any: redis-py has no types for what is used here
        self.prefix = self.backend.url.partition("prefix=")[2]

    def run(self, steps: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(steps)

    async def open(self) -> None:
        url = self.backend.url
        if self.backend.address is not None:
            self.proxy = await self.stack.enter_async_context(Proxy(*self.backend.address))
            url = self.backend.make_url(self.proxy.port)
            if self.backend.name == "memcached":
                url += "&timeout=0.5"
        self.storer = storer_from_url(url)
        if hasattr(self.storer, "open"):
            await self.storer.open()
            self.stack.push_async_callback(self.storer.aclose)
        if self.backend.name == "valkey":
            self.redis = await self.stack.enter_async_context(Redis(port=self.backend.port))
        if self.backend.name == "postgres":
            self.postgres = await asyncpg.connect(self.backend.url.partition("?")[0] + "?sslmode=disable")
            self.stack.push_async_callback(self.postgres.close)
        elif hasattr(self.storer, "_clock"):
            self.storer._clock = self.clock
        else:
            self.storer._folder._clock = self.clock

    def clock(self) -> float:
        return self.now

    async def pass_time(self, seconds: float) -> None:
        """Move the clock; where the server has one of its own, move what is stored back."""
        if self.postgres is None:
            self.now += seconds
            for key in await self.redis.keys(f"{self.prefix}*") if self.redis else ():
                left = await self.redis.pttl(key)
                if left > 0:
                    await self.redis.pexpire(key, left - round(seconds * 1000))
            return
        found = re.search(r"table=(\w+)", self.backend.url)
        assert found is not None
        names = ("created_at", "seen_at", "expires_at", "forget_at", "clean_at")
        times = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in names)
        await self.postgres.execute(f"UPDATE {found[1]} SET {times}")


@dataclass
class Model:
    """What must be stored: under each key a record, or, after a failure, one of several, and None for none."""

    possible: dict[str, list[Record | None]]

    def of(self, key: str) -> list[Record | None]:
        return self.possible.get(key, [None])


class Machine(RuleBasedStateMachine):
    """The operations."""

    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        self.prefix = f"{uuid.uuid4().hex}:"
        self.model = Model({})
        self.version = 0
        # emcache does not notice that a server hung up, and each loss costs the time-out
        self.faults = 1 if self.world.backend.name == "memcached" else 100

    @property
    def now(self) -> float:
        return self.world.now

    def key(self, name: str) -> str:
        return self.prefix + name

    def record(self, owner: str | None, lives: int | None, size: int) -> Record:
        self.version += 1
        value = json.dumps({"n": self.version, "filler": "x" * size}).encode()
        expires_at = None if lives is None else self.now + lives
        owned = None if owner is None else self.prefix + owner
        return Record(value, b"meta%d" % self.version, owned, self.now, self.now, expires_at, self.version)

    def live(self, record: Record | None) -> Record | None:
        if record is None or (record.expires_at is not None and record.expires_at <= self.now):
            return None
        return record

    def ask(self, steps: Coroutine[Any, Any, T], fault: str) -> T | None:
        """Do it, with a fault on the way; None: nobody knows whether it was done."""
        world = self.world
        if world.proxy is None or not fault or not self.faults:
            return world.run(steps)
        self.faults -= 1
        if fault == "cut":
            world.proxy.cut()
        else:
            world.proxy.drop_answers()
        try:
            return world.run(steps)
        except StorerError:
            return None
        finally:
            world.proxy.drop_answers(0)

    @rule(name=KEYS, owner=OWNERS, lives=LIVES, size=st.sampled_from([0, 5000]), fault=FAULTS)
    def create(self, name: str, owner: str | None, lives: int | None, size: int, fault: str) -> None:
        record = self.record(owner, lives, size)
        answer = self.ask(self.world.storer.create(self.key(name), record), fault)
        self._outcome(name, answer, lambda found: record if found is None else found, lambda found: found is None)

    @rule(name=KEYS, owner=OWNERS, lives=LIVES, is_newest=st.booleans(), fault=FAULTS)
    def replace(self, name: str, owner: str | None, lives: int | None, is_newest: bool, fault: str) -> None:
        record = self.record(owner, lives, 0)
        known = [found.version for found in self.model.of(name) if found is not None]
        version = known[-1] if known and is_newest else 10**9
        answer = self.ask(self.world.storer.replace(self.key(name), record, version=version), fault)

        def fits(found: Record | None) -> bool:
            return found is not None and found.version == version

        self._outcome(name, answer, lambda found: record if fits(found) else found, fits)

    @rule(name=KEYS, lives=LIVES, fault=FAULTS)
    def touch(self, name: str, lives: int | None, fault: str) -> None:
        seen_at, expires_at = self.now, None if lives is None else self.now + lives
        steps = self.world.storer.touch(self.key(name), seen_at=seen_at, expires_at=expires_at)

        def after(found: Record | None) -> Record | None:
            if found is None:
                return None
            later = max(_deadline(found.expires_at), _deadline(expires_at))
            return replace(found, seen_at=max(found.seen_at, seen_at), expires_at=None if later == math.inf else later)

        self._outcome(name, self.ask(steps, fault), after, lambda found: found is not None)

    @rule(name=KEYS, which=st.sampled_from(["any", "newest", "other"]), fault=FAULTS)
    def delete(self, name: str, which: str, fault: str) -> None:
        known = [found.version for found in self.model.of(name) if found is not None]
        version = None if which == "any" else known[-1] if known and which == "newest" else 10**9

        def fits(found: Record | None) -> bool:
            return found is not None and (version is None or found.version == version)

        answer = self.ask(self.world.storer.delete(self.key(name), version=version), fault)
        # what the driver sends twice finds nothing the second time
        sure = answer if answer or not fault else None
        self._outcome(name, sure, lambda found: None if fits(found) else found, fits)

    @rule(name=KEYS)
    def read(self, name: str) -> None:
        found = self.world.run(self.world.storer.read(self.key(name)))
        before = self._alive(name)
        same = [record for record in before if _equal(record, found)]
        assert same, f"{name} is {found}, not one of {before}"
        self.model.possible[name] = same[:1]

    @rule(owner=st.sampled_from(["ann", "bob"]))
    def list_by_owner(self, owner: str) -> None:
        if not isinstance(self.world.storer, UserIndexed):
            return
        self._read_all()
        listed = self.world.run(self.world.storer.list_by_owner(self.prefix + owner, prefix=self.prefix))
        theirs = {self.key(name) for name, (found,) in self.model.possible.items() if self._owner(found) == owner}
        assert {key for key, _ in listed} == theirs

    @rule(owner=st.sampled_from(["ann", "bob"]), kept=st.none() | KEYS)
    def delete_by_owner(self, owner: str, kept: str | None) -> None:
        if not isinstance(self.world.storer, UserIndexed):
            return
        self._read_all()
        keep = None if kept is None else self.key(kept)
        count = self.world.run(self.world.storer.delete_by_owner(self.prefix + owner, prefix=self.prefix, keep=keep))
        ended = [name for name, (found,) in self.model.possible.items() if self._owner(found) == owner and name != kept]
        assert count == len(ended)
        for name in ended:
            self.model.possible[name] = [None]

    @rule(steps=st.integers(1, 4))
    def time_passes(self, steps: int) -> None:
        seconds = float(steps * STEP) + 0.5  # never the very moment
        self.world.run(self.world.pass_time(seconds))
        if self.world.postgres is not None:
            for name, records in self.model.possible.items():
                self.model.possible[name] = [_moved(record, -seconds) for record in records]

    @rule()
    def clean(self) -> None:
        if isinstance(self.world.storer, Cleanable):
            self.world.run(self.world.storer.clean())

    @rule()
    def walk(self) -> None:
        if not isinstance(self.world.storer, Listable):
            return
        self._read_all()
        found = self.world.run(collected(self.world.storer.keys()))
        alive = {self.key(name) for name, (record,) in self.model.possible.items() if record is not None}
        assert {key for key in found if key.startswith(self.prefix)} == alive

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self._read_all()

    def _read_all(self) -> None:
        for name in list(self.model.possible):
            self.read(name)

    def _alive(self, name: str) -> list[Record | None]:
        return [self.live(record) for record in self.model.of(name)]

    def _owner(self, record: Record | None) -> str | None:
        return None if record is None or record.owner is None else record.owner.removeprefix(self.prefix)

    def _outcome(self, name: str, answer: bool | None, after: After, is_yes: Fits) -> None:
        before = self._alive(name)
        if answer is None:
            self.model.possible[name] = before + [after(found) for found in before]
            return
        fitting = [found for found in before if is_yes(found) == answer]
        assert fitting, f"{answer} for {name}, which is one of {before}"
        self.model.possible[name] = [after(found) for found in fitting]


def _deadline(expires_at: float | None) -> float:
    return math.inf if expires_at is None else expires_at


def _moved(record: Record | None, seconds: float) -> Record | None:
    if record is None:
        return None
    expires_at = None if record.expires_at is None else record.expires_at + seconds
    return replace(
        record, created_at=record.created_at + seconds, seen_at=record.seen_at + seconds, expires_at=expires_at
    )


def _equal(one: Record | None, other: Record | None) -> bool:
    if one is None or other is None:
        return one is other
    return replace(one, value=b"") == replace(other, value=b"") and json.loads(one.value) == json.loads(other.value)


@contextmanager
def opened_world(backend: Backend) -> Generator[World]:
    world = World(backend)
    with world.runner:
        world.run(world.open())
        try:
            yield world
        finally:
            world.run(world.stack.aclose())


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_storer_does_as_a_plain_model_does(backend: Backend, full: bool) -> None:
    """S1, S3, S4, S5, S6, S7, S8, S9, S10, S13, S15, S19."""
    with opened_world(backend) as world:
        machine = type("Machine", (Machine,), {"world": world})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=500 if full else 25, stateful_step_count=40, deadline=None)
        )
