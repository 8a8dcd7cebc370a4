"""One against another, hundreds of times on every backend: who has logged out stays out, who logged in stays in."""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import pytest

from aiosessions import ConflictError, Lifetime, Listable, NoSessionError, StorageOverseer, UserIndexed
from aiosessions.testing.suites_store import Visit, Visitor
from aiosessions.testing.suites_storer import collected
from tests.drills.backends import BACKENDS, Backend, opened

pytestmark = pytest.mark.anyio

_AT_ONCE = 10
SLIDING = Lifetime(cookie=timedelta(days=7), touch=timedelta(0))


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])


Overseer = StorageOverseer[Cart]
Round = Callable[[Overseer, random.Random, str], Awaitable[None]]


@pytest.fixture
def rounds(full: bool) -> int:
    return 1000 if full else 100


async def play(store: Overseer, rounds: int, one: Round) -> None:
    """So many rounds, some at a time, the same in each run."""
    numbers = iter(range(rounds))

    async def player() -> None:
        for number in numbers:
            await one(store, random.Random(number), f"user{number}")

    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(player)


async def dawdle(chance: random.Random) -> None:
    """What a handler does besides: for a moment, or not at all."""
    for _ in range(chance.randrange(3)):
        await anyio.sleep(chance.random() / 500)


@asynccontextmanager
async def visit_with(tokens: Visitor, visitor: Visitor) -> AsyncGenerator[Visit]:
    """A request that left with these tokens; the visitor keeps what its answer says."""
    async with tokens.copy().visit() as visit:
        yield visit
        visitor.keep(visit)


async def write(store: Overseer, visit: Visit, chance: random.Random, *, updates: bool, begins: bool) -> None:
    """A handler that adds to the session, and may or may not begin one."""
    await dawdle(chance)
    session = await store.get(visit.request)
    await dawdle(chance)
    if session.is_new and not begins:
        return
    try:
        if updates:
            await store.update(session, lambda cart: cart.items.append("late"))
        else:
            session.value.items.append("late")
        await store.save(session, visit.response)
    except (ConflictError, NoSessionError):
        pass  # it was told so


async def begin(store: Overseer, user: str | None) -> Visitor:
    visitor = Visitor()
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        session.value.items.append("first")
        if user is not None:
            session.set_user(user)
        await store.save(session, visit.response)
    return visitor


async def log_out(store: Overseer, chance: random.Random, user: str) -> None:
    """A slow writer against a logout, of one of three kinds."""
    visitor = await begin(store, user)
    before = visitor.copy()

    async def leave() -> None:
        async with visit_with(before, visitor) as visit:
            await dawdle(chance)
            session = await store.get(visit.request)
            await dawdle(chance)
            kind = chance.randrange(3)
            if kind == 0:
                await store.delete(session.handle, user_id=user)
            elif kind == 1 and isinstance(store._backend.storer, UserIndexed):
                await store.delete_user_sessions(user)
            else:
                await store.destroy(session, visit.response)

    async def stay() -> None:
        async with visit_with(before, visitor) as visit:
            await write(store, visit, chance, updates=chance.random() < 0.5, begins=False)

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        group.start_soon(stay)
    for tokens in (before, visitor):
        async with tokens.visit() as visit:
            assert (await store.get(visit.request)).is_new, f"{user} is back"


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_a_logout_beats_a_slow_writer(backend: Backend, rounds: int) -> None:
    """F4: afterwards no session is alive."""
    async with opened(backend.url) as storer, StorageOverseer(Cart, storer, clean_every=None) as store:
        await play(store, rounds, log_out)
        if isinstance(storer, Listable):
            assert await collected(storer.keys()) == set()


async def log_in(store: Overseer, chance: random.Random, user: str, *others: Overseer) -> None:
    """Slow readers and writers with the old cookie against a login, here or there; answers arrive in any order."""
    visitor = await begin(store, None)
    before = visitor.copy()

    async def enter(store: Overseer, visit: Visit) -> None:
        await dawdle(chance)
        session = await store.get(visit.request)
        session.set_user(user)
        session.value.items.append("login")
        await dawdle(chance)
        await store.save(session, visit.response)

    async def read(store: Overseer, visit: Visit) -> None:
        await dawdle(chance)
        session = await store.get(visit.request)
        await dawdle(chance)
        session.flashes()
        await store.save(session, visit.response)

    async def touch(store: Overseer, visit: Visit) -> None:
        await dawdle(chance)
        session = await store.get(visit.request)
        await dawdle(chance)
        session.touch()
        await store.save(session, visit.response)

    async def save(store: Overseer, visit: Visit) -> None:
        await write(store, visit, chance, updates=False, begins=True)

    async def update(store: Overseer, visit: Visit) -> None:
        await write(store, visit, chance, updates=True, begins=True)

    async def ask(handler: Callable[[Overseer, Visit], Awaitable[None]]) -> None:
        async with visit_with(before, visitor) as visit:
            await handler(chance.choice((store, *others)), visit)

    handlers = [enter, read, read, touch, save, update]
    chance.shuffle(handlers)
    async with anyio.create_task_group() as group:
        for handler in handlers:
            group.start_soon(ask, handler)
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        assert session.user_id == user, f"a slow answer has logged {user} out"
        items = session.value.items
        assert items[0] == "first"
        assert items[-1] == "login", f"somebody with the cookie from before {user} logged in has written: {items}"
    async with before.visit() as visit:
        assert (await store.get(visit.request)).is_new, f"the cookie from before {user} logged in still opens"


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_a_login_beats_slow_readers_and_writers(backend: Backend, rounds: int) -> None:
    """R8, R18, F14: the jar always ends logged in."""
    async with opened(backend.url) as storer, StorageOverseer(Cart, storer, clean_every=None) as store:
        await play(store, rounds, log_in)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_a_login_beats_tokens_that_are_sent_again(backend: Backend, rounds: int) -> None:
    """R15, R18: each read, write and touch of a timed cookie sends it, from two processes."""

    def store() -> Overseer:
        return StorageOverseer(Cart, storer, clean_every=None, lifetime=SLIDING)

    async with opened(backend.patient_url) as storer, store() as here, store() as there:

        async def one(_: Overseer, chance: random.Random, user: str) -> None:
            await log_in(here, chance, user, there)

        async with (await begin(here, "ann")).visit() as visit:
            await here.save(await here.get(visit.request), visit.response)
            assert len(visit.tokens) == 1, "else this shows nothing"
        await play(here, rounds, one)
