"""The list of a user's sessions, where stores of one storer give them different lifetimes; and what a line holds."""

from copy import copy
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import pytest

from aiosessions import DecodeError, Lifetime, MemoryStorer, SessionInfo, StorageOverseer
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock
from tests.test_storage_overseer import HOUR, Cart

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)

SHORT = Lifetime(HOUR, 3 * HOUR)
LONG = Lifetime(30 * DAY, 90 * DAY)
ENDLESS = Lifetime(None, None)


class Devices:
    """A user who has logged in at stores that share a storer and a namespace.

    Args:
        lifetimes: of each store, by its name.
    """

    def __init__(self, **lifetimes: Lifetime) -> None:
        self.clock = MovableClock()
        self.storer = MemoryStorer(clock=self.clock.now)
        self.stores: dict[str, StorageOverseer[Cart]] = {
            name: StorageOverseer(Cart, self.storer, name=name, lifetime=lifetime, clock=self.clock.now)
            for name, lifetime in lifetimes.items()
        }
        self.visitors = {name: Visitor() for name in lifetimes}

    async def log_in(self, name: str, **options: Any) -> None:
        async with self.visitors[name].visit() as visit:
            session = await self.stores[name].get(visit.request)
            session.set_user("ann", **options)
            await self.stores[name].save(session, visit.response)

    async def ends_at(self, name: str) -> datetime | None:
        """When the session itself says that it ends; a look that touches nothing."""
        async with self.visitors[name].visit() as visit:
            session = await self.stores[name].get(visit.request, touch=False)
            assert session.user_id == "ann"
            return session.expires_at

    async def listed(self, by: str) -> dict[str, datetime | None]:
        """What a store says: the ends of the sessions, by their names."""
        return {info.name: info.expires_at for info in await self.stores[by].user_sessions("ann")}


@pytest.fixture
def devices() -> Devices:
    return Devices(short=SHORT, long=LONG, endless=ENDLESS)


@pytest.mark.parametrize("by", ["short", "long", "endless"])
async def test_every_store_lists_the_same_sessions_with_the_same_ends(devices: Devices, by: str) -> None:
    """X1, X2, ASVS 5 7.5.2: the deadlines are those of the record, whoever reads it."""
    for name in devices.stores:
        await devices.log_in(name)
    await devices.clock.advance(600)
    ends = {name: await devices.ends_at(name) for name in devices.stores}
    assert await devices.listed(by) == ends
    assert ends["endless"] is None


@pytest.mark.parametrize("by", ["short", "long", "endless"])
async def test_a_live_session_of_another_store_is_not_hidden(devices: Devices, by: str) -> None:
    """X1, S15: however long ago it was used by this store's measure; and one that has expired is."""
    for name in devices.stores:
        await devices.log_in(name)
    for hours, live in ((2, {"long", "endless"}), (24 * 20, {"long", "endless"}), (24 * 20, {"endless"})):
        await devices.clock.advance(hours * 3600)
        assert set(await devices.listed(by)) == live


@pytest.mark.parametrize("by", ["short", "long", "endless"])
async def test_a_touch_moves_the_end_that_every_store_says(devices: Devices, by: str) -> None:
    """X4, X1: the idle time of the store that the session belongs to, up to its absolute deadline."""
    await devices.log_in("short")
    for _ in range(4):
        await devices.clock.advance(2500)
        async with devices.visitors["short"].visit() as visit:
            assert not (await devices.stores["short"].get(visit.request)).is_new
        assert await devices.listed(by) == {"short": await devices.ends_at("short")}
    await devices.clock.advance(800)
    assert await devices.listed(by) == {}


@pytest.mark.parametrize("by", ["short", "long"])
async def test_a_lifetime_of_its_own_is_listed_by_all(devices: Devices, by: str) -> None:
    """V7: "remember me" at one store, and a login for a minute at the other."""
    await devices.log_in("short", lifetime=Lifetime.remember_me())
    await devices.log_in("long", lifetime=Lifetime(timedelta(minutes=1)))
    assert await devices.listed(by) == {name: await devices.ends_at(name) for name in ("short", "long")}
    await devices.clock.advance(60)
    assert await devices.listed(by) == {"short": await devices.ends_at("short")}


# what is in a line


@pytest.mark.parametrize("how", ["user_sessions", "sessions"])
async def test_a_line_says_whose_it_is_and_holds_the_value_out_of_sight(devices: Devices, how: str) -> None:
    """V8: in no `repr`, no `asdict` and no copy; a value of one's own, each time."""
    async with devices.visitors["long"].visit() as visit:
        session = await devices.stores["long"].get(visit.request)
        session.value.items.append("geheim-4711")
        session.set_user("ann")
        await devices.stores["long"].save(session, visit.response)
    await devices.log_in("short")

    async def lines(store: StorageOverseer[Any]) -> dict[str, SessionInfo]:
        infos = (
            await store.user_sessions("ann") if how == "user_sessions" else [each async for each in store.sessions()]
        )
        return {info.name: info for info in infos}

    info = (await lines(devices.stores["short"]))["long"]
    assert info.user_id == "ann"
    assert info.value == Cart(["geheim-4711"])
    info.value.items.clear()
    assert info.value.items == ["geheim-4711"]
    assert "geheim" not in f"{info!r} {info} {asdict(info)}"
    with pytest.raises(DecodeError):
        _ = copy(info).value

    other = StorageOverseer(dict[str, int], devices.storer, clock=devices.clock.now)
    with pytest.raises(DecodeError, match="dict"):
        _ = (await lines(other))["long"].value


async def test_a_line_of_what_has_ended_is_not_shown_whatever_the_storer_s_clock_says() -> None:
    """X1, S9: it may be a server's, which is late."""
    clock, visitor = MovableClock(), Visitor()
    store = StorageOverseer(Cart, MemoryStorer(clock=lambda: 0.0), lifetime=SHORT, clock=clock.now)
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        session.set_user("ann")
        await store.save(session, visit.response)
    assert len([info async for info in store.sessions()]) == len(await store.user_sessions("ann")) == 1
    await clock.advance(3600)
    assert [info async for info in store.sessions()] == await store.user_sessions("ann") == []
