"""All sessions of a namespace, by the thousand, on every backend: listed, and ended at once while requests write."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    Event,
    Listable,
    NoSessionError,
    SessionInfo,
    StorageOverseer,
    Storer,
    UnsupportedError,
    new_key,
    storer_from_url,
)
from aiosessions._tokens import new_handle, new_version
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import collected, race
from tests.drills.backends import SHARED, Backend
from tests.facts import facts
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio

LISTING = ("memory", *(name for name in SHARED if name != "memcached"))
DURABLE = LISTING
SIZE = 2_350  # neither a multiple of a page of ours nor of the storers'


@dataclass
class Cart:
    items: list[int] = field(default_factory=list[int])


Stored = StorageOverseer[Cart]
Held = CookieOverseer[Cart]


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Storer]:
    """The storer of a URL, held open for the stores of a test."""
    storer = storer_from_url(url)
    async with StorageOverseer(str, storer):
        yield storer


async def begin(store: Stored | Held, user: str | None = None) -> Visitor:
    """Somebody with a session."""
    visitor = Visitor()
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        session.value.items.append(1)
        if user is not None:
            session.set_user(user)
        await store.save(session, visit.response)
    return visitor


async def is_in(store: Stored | Held, visitor: Visitor) -> bool:
    async with visitor.visit() as visit:
        return not (await store.get(visit.request)).is_new


async def fill(store: Stored, storer: Storer, namespace: str, size: int) -> set[str]:
    """So many sessions of two names, each of a user of its own; their handles."""
    visitor = await begin(store, "ann")
    (info,) = await store.user_sessions("ann")
    record = await storer.read(f"{namespace}:app:{info.handle}")
    assert record is not None
    assert visitor.tokens
    handles = [new_handle() for _ in range(size - 1)]

    async def create(number: int) -> bool:
        key = f"{namespace}:{'app' if number % 2 else 'admin'}:{handles[number]}"
        return await storer.create(key, replace(record, owner=f"user{number}", version=new_version()))

    for start in range(0, size - 1, 500):
        await race(min(500, size - 1 - start), lambda number, start=start: create(start + number))  # type: ignore[misc]  # bound per turn
    return {info.handle, *handles}


@pytest.mark.parametrize("backend", LISTING, indirect=True)
async def test_thousands_are_listed_and_logged_out(backend: Backend) -> None:
    """S19, F4: in pages; those of other namespaces stay, and so does what a cookie's store has revoked."""
    events: list[Event] = []
    async with opened(backend.url) as storer:
        store = StorageOverseer(Cart, storer, namespace="shop", on_event=facts(events))
        others = {name: StorageOverseer(Cart, storer, namespace=name) for name in ("", "sho", "shop2", "shop/a")}
        handles = await fill(store, storer, "shop", SIZE)
        outside = {name: await fill(other, storer, name, 30) for name, other in others.items()}
        held = CookieOverseer(Cart, AESGCMSealer(new_key()), namespace="shop", revocations=storer)
        ended = await begin(held, "ann")
        copy = ended.copy()
        async with ended.visit() as visit:
            await held.destroy(await held.get(visit.request), visit.response)

        infos = [info async for info in store.sessions()]
        assert {info.handle for info in infos} == handles
        # SCAN says twice what it meets while its table grows or shrinks
        assert len(infos) == SIZE or (backend.name == "valkey" and len(infos) < 1.05 * SIZE)
        assert {info.name for info in infos} == {"app", "admin"}
        assert len({info.user_id for info in infos}) == SIZE
        assert all(info.value == Cart([1]) for info in infos)
        first = await anext(store.sessions())
        assert first.handle in handles, "a walk may be left early"

        assert await store.delete_all() == SIZE
        assert (events[-1].kind, events[-1].reason) == ("destroyed", f"all {SIZE} sessions")
        assert [info async for info in store.sessions()] == []
        assert await store.user_sessions("user7") == []
        assert await store.delete_all() == 0
        assert not await is_in(held, copy), "a revocation was forgotten"
        for name, other in others.items():
            assert {info.handle async for info in other.sessions()} == outside[name]


@pytest.mark.parametrize("backend", LISTING, indirect=True)
async def test_nobody_comes_back_by_what_was_under_way(backend: Backend) -> None:
    """F4: requests that read, wrote, updated and rotated while everybody was logged out."""
    async with opened(backend.url) as storer:
        store = StorageOverseer(Cart, storer, namespace="shop")
        visitors: list[Visitor] = []

        async def enter(number: int) -> bool:
            visitors.append(await begin(store, f"user{number}"))
            return True

        await race(120, enter)
        entered, loaded, is_over = [visitor.copy() for visitor in visitors], [0], anyio.Event()
        alive: list[SessionInfo] = []

        async def work(visitor: Visitor, chance: random.Random) -> None:
            while not is_over.is_set():
                async with visitor.visit() as visit:
                    session = await store.get(visit.request)
                    loaded[0] += 1
                    if session.is_new:
                        return
                    await anyio.sleep(chance.random() / 100)
                    session.value.items.append(2)
                    way = chance.randrange(4)
                    if way == 0:
                        session.regenerate()
                    elif way == 1:
                        session.touch()
                    try:
                        if way == 2:
                            await store.update(session, lambda cart: cart.items.append(3))
                        await store.save(session, visit.response)
                    except NoSessionError:
                        pass  # it was told so

        async with anyio.create_task_group() as group:
            for number, visitor in enumerate(visitors):
                group.start_soon(work, visitor, random.Random(number))
            while loaded[0] < 200:
                await anyio.lowlevel.checkpoint()
            assert await store.delete_all() == 120
            alive += [info async for info in store.sessions()]
            is_over.set()
        assert alive == []
        assert isinstance(storer, Listable)
        assert await collected(storer.keys()) == set()
        assert not [visitor for visitor in (*visitors, *entered) if await is_in(store, visitor)]


@pytest.mark.parametrize("backend", ["memcached"], indirect=True)
async def test_where_keys_cannot_be_listed_nobody_is_logged_out(backend: Backend) -> None:
    """UnsupportedError, which names who can."""
    async with opened(backend.url) as storer:
        store = StorageOverseer(Cart, storer)
        visitor = await begin(store)
        with pytest.raises(UnsupportedError, match=r"MemcachedStorer has no keys\(\): .*PostgresStorer"):
            await store.delete_all()
        with pytest.raises(UnsupportedError, match=r"keys\(\)"):
            [info async for info in store.sessions()]
        assert await is_in(store, visitor)


# sessions that the client holds


@asynccontextmanager
async def processes(backend: Backend, **options: Any) -> AsyncGenerator[list[Held]]:  # Any: the store's own
    """Two, which share a key and what is revoked."""
    sealer = AESGCMSealer(new_key())
    async with opened(backend.url) as one, opened(backend.url) as other:
        storers = (one, one) if backend.name == "memory" else (one, other)
        yield [CookieOverseer(Cart, sealer, revocations=each, namespace="shop", **options) for each in storers]


@pytest.mark.parametrize("replay_protection", [False, True], ids=["", "replay protection"])
@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_every_token_is_dead_in_every_process(backend: Backend, replay_protection: bool) -> None:
    """F4: users' and strangers'; those that begin afterwards, wherever, count in every process."""
    async with processes(backend, replay_protection=replay_protection) as (here, there):
        for _ in range(2):
            inside = [await begin(store, user) for store in (here, there) for user in (None, "ann")]
            for visitor in inside:
                assert await is_in(here, visitor)
                assert await is_in(there, visitor)
            assert await here.delete_all() == 0
            assert not [visitor for visitor in inside for store in (here, there) if await is_in(store, visitor)]


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_those_who_log_everybody_out_at_once_all_do(backend: Backend) -> None:
    """F4: and what was sealed between two of them is dead."""
    async with processes(backend) as (here, there):
        before, between = await begin(here, "ann"), list[Visitor]()

        async def end(number: int) -> bool:
            await (here if number % 2 else there).delete_all()
            return True

        async def come(number: int) -> bool:
            between.append(await begin(there if number % 2 else here, None if number % 3 else "ann"))
            return True

        await race(10, lambda number: end(number) if number < 4 else come(number))
        await here.delete_all()
        assert not [visitor for visitor in (before, *between) if await is_in(there, visitor)]
        assert await is_in(there, await begin(here))


@pytest.mark.parametrize("backend", ["valkey", "postgres"], indirect=True)
async def test_what_it_costs_to_ask_for_the_epoch_of_all(backend: Backend) -> None:
    """DESIGN 7: a read is one trip, and so is what a write asks; an anonymous session takes one as it begins."""
    assert backend.address is not None
    async with Proxy(*backend.address) as proxy, opened(backend.make_url(proxy.port)) as storer:
        for turn in range(2):
            store = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=storer)
            for user, trips in ((None, 1), ("ann", 1)):
                await begin(store, user)
                proxy.tally.reset()
                visitor = await begin(store, user)
                assert proxy.tally.round_trips == trips, (turn, user)
                proxy.tally.reset()
                assert await is_in(store, visitor)
                assert proxy.tally.round_trips == 1, (turn, user)
                async with visitor.visit() as visit:
                    session = await store.get(visit.request)
                    proxy.tally.reset()
                    session.value.items.append(2)
                    await store.save(session, visit.response)
                    assert proxy.tally.round_trips == 1, (turn, user)
            await store.delete_all()


async def test_without_revocations_nobody_is_asked_and_nobody_can_be_ended() -> None:
    """UnsupportedError, as for one user."""
    store = CookieOverseer(Cart, AESGCMSealer(new_key()))
    visitor = await begin(store)
    with pytest.raises(UnsupportedError, match="revocations="):
        await store.delete_all()
    assert await is_in(store, visitor)
