"""Who only takes flashes changes nothing that others could be in conflict with."""

from typing import Any

import anyio
import pytest
import trio.testing

from aiosessions import ConflictError
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock
from tests.test_cookie_overseer import Servers, count, do
from tests.test_storage_overseer import House

pytestmark = pytest.mark.anyio

RACE = 5.0
"""Seconds for which a write is tried again while others win."""

JUMPING = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})])
"""Where nothing happens for a while, the clock goes on at once: nobody waits."""


def hello(session: Any) -> None:  # Any: sessions of either test module's type
    session.value.note = "waiting"
    session.flash("hello")


def always_win(house: House, visitor: Visitor) -> None:
    """From now on others write before each write, for twice as long as one is tried again."""
    end = anyio.current_time() + 2 * RACE

    async def interfere() -> None:
        if anyio.current_time() < end:
            async with house.request(visitor) as (other, _):
                other.value.total += 1
            house.storer.before["replace"] = interfere

    house.storer.before["replace"] = interfere


# kept in a storer


@pytest.mark.parametrize("peek", [False, True])
async def test_who_takes_flashes_while_others_write_gets_no_conflict(peek: bool) -> None:
    """V5, F3: under `on_conflict="raise"`: what the others wrote stays, and what was taken is gone."""
    house = House(on_conflict="raise")
    visitor = await house.visitor()
    async with house.request(visitor) as (session, _):
        hello(session)
    async with house.request(visitor) as (slow, _):
        async with house.request(visitor) as (quick, _):
            quick.value.note = "quick"
        assert [flash.message for flash in slow.flashes(peek=peek)] == ["hello"]
    session = await house.session_of(visitor)
    assert session.value.note == "quick"
    assert bool(session.flashes()) == peek
    assert "conflict" not in house.kinds


async def test_two_who_take_the_same_flash_get_no_conflict() -> None:
    """V5: both may show it."""
    house = House(on_conflict="raise")
    visitor = await house.visitor()
    async with house.request(visitor) as (session, _):
        hello(session)
    async with house.request(visitor) as (first, _), house.request(visitor) as (second, _):
        assert first.flashes() == second.flashes() != []
    assert (await house.session_of(visitor)).flashes() == []
    assert "conflict" not in house.kinds


@JUMPING
@pytest.mark.parametrize("change", ["flashes", "touch", "read"])
async def test_who_takes_flashes_while_others_always_win_gets_no_conflict(change: str) -> None:
    """V5, DESIGN 6: however long the others keep writing."""
    house = House(on_conflict="raise")
    visitor = await house.visitor()
    async with house.request(visitor) as (session, _):
        hello(session)
    async with house.request(visitor) as (slow, _):
        always_win(house, visitor)
        if change == "flashes":
            assert slow.flashes()
        elif change == "touch":
            slow.touch()
    house.storer.before.clear()
    assert "conflict" not in house.kinds
    assert (await house.session_of(visitor)).value.note == "waiting"


@JUMPING
async def test_who_writes_while_others_always_win_gets_one() -> None:
    """DESIGN 6: the guard of the test above: the others do win."""
    house = House(on_conflict="raise")
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        slow = await house.store.get(visit.request)
        always_win(house, visitor)
        slow.value.items.append("slow")
        with pytest.raises(ConflictError):
            await house.store.save(slow, visit.response)


# held by the client


OPTIONS: list[dict[str, Any]] = [{}, {"replay_protection": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("follow", [1, 2, 5])
async def test_who_takes_flashes_with_a_token_that_was_followed_gets_no_conflict(
    options: dict[str, Any], follow: int
) -> None:
    """V5 (cr): replay protection or not; and its answer locks nobody out."""
    servers, clock = Servers(**options), MovableClock()
    store, visitor = servers.store(clock.now), Visitor()
    await do(store, visitor, lambda session: session.flash("hello"))
    async with visitor.copy().visit() as slow:
        session = await store.get(slow.request)
        for _ in range(follow):
            await do(store, visitor, count)
        assert [flash.message for flash in session.flashes()] == ["hello"]
        await store.save(session, slow.response)
    if options and follow > 1:
        assert slow.sent == [], "it would send a token that is a replay"
    visitor.keep(slow)
    async with visitor.visit() as visit:
        assert not (await store.get(visit.request)).is_new
