"""A clock that is wrong for a moment: it ends nobody's session, and revives none."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aiosessions import AESGCMSealer, CookieOverseer, Event, Lifetime, MemoryStorer, StorageOverseer, Store, new_key
from aiosessions.testing.suites_store import Visitor
from tests.facts import facts
from tests.test_storage_overseer import HOUR, Cart

pytestmark = pytest.mark.anyio

DAY = 86_400.0


class ServerClock:
    """An application server's clock; a storer has one of its own.

    Attributes:
        time: unix seconds.
        ahead: how many of the next readings are wrong, and by how many seconds.
    """

    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        self.ahead: tuple[int, float] = (0, 0.0)

    def __call__(self) -> float:
        readings, seconds = self.ahead
        if readings:
            self.ahead = readings - 1, seconds
            return self.time + seconds
        return self.time

    def right(self) -> float:
        """What the storer's clock says."""
        return self.time


class Server:
    """A store on a server with such a clock; requests by hand."""

    def __init__(self, make: Callable[..., Store[Cart]], lifetime: Lifetime) -> None:
        self.clock = ServerClock()
        self.events: list[Event] = []
        self.storer = MemoryStorer(clock=self.clock.right)
        self.store = make(self.storer, lifetime=lifetime, clock=self.clock, on_event=facts(self.events))

    async def request(self, visitor: Visitor, user: str = "") -> str | None:
        """Whom the visitor's token names; with *user*, after a login."""
        async with visitor.visit() as visit:
            session = await self.store.get(visit.request)
            if user:
                session.set_user(user)
            await self.store.save(session, visit.response)
        return session.user_id

    async def visitor(self) -> Visitor:
        visitor = Visitor()
        await self.request(visitor, "ann")
        return visitor


def stored(storer: MemoryStorer, **options: Any) -> Store[Cart]:  # Any: of any types
    return StorageOverseer(Cart, storer, **options)


def held_by_the_client(_: MemoryStorer, **options: Any) -> Store[Cart]:  # Any: likewise
    return CookieOverseer(Cart, AESGCMSealer(new_key()), **options)


def revocable(storer: MemoryStorer, **options: Any) -> Store[Cart]:  # Any: likewise
    return CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=storer, **options)


KINDS: list[Callable[..., Store[Cart]]] = [stored, held_by_the_client, revocable]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Server:
    return Server(request.param, Lifetime(HOUR, timedelta(days=10)))


@pytest.mark.parametrize("readings", [1, 1_000], ids=["one reading", "a few requests"])
@pytest.mark.parametrize("seconds", [40 * DAY, 400 * DAY, 20 * 365 * DAY])
async def test_a_clock_that_was_far_ahead_for_a_moment_ends_nobodys_session(
    server: Server, readings: int, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """X5: a step that no clock makes is not kept until the next restart, and is logged."""
    visitor = await server.visitor()
    server.clock.time += 60
    server.clock.ahead = (readings, seconds)
    for _ in range(3):
        await server.request(Visitor())
        await server.request(Visitor(), "bob")
    server.clock.ahead = (0, 0.0)
    server.clock.time += 60
    assert await server.request(visitor) == "ann"
    warnings = [
        record for record in caplog.records if record.levelno >= logging.WARNING and record.name == "aiosessions"
    ]
    assert any("clock" in record.getMessage() for record in warnings)


async def test_such_a_moment_is_logged_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """X5: however many requests fall into it."""
    await server.visitor()
    server.clock.ahead = (1_000, 40 * DAY)
    for _ in range(20):
        await server.request(Visitor(), "bob")
    assert len([record for record in caplog.records if "clock" in record.getMessage()]) == 1


async def test_after_such_a_moment_lifetimes_end_as_before(server: Server) -> None:
    """X5, X1: and a clock that jumps back still revives nothing."""
    visitor = await server.visitor()
    server.clock.ahead = (1, 40 * DAY)
    await server.request(Visitor(), "bob")
    server.clock.time += 3599
    copy = visitor.copy()
    assert await server.request(visitor) == "ann"
    server.clock.time += 1
    assert await server.request(copy) == ("ann" if isinstance(server.store, StorageOverseer) else None)
    server.clock.time += 3600
    for back in (0.0, 600.0, 7200.0):
        server.clock.time -= back
        assert await server.request(visitor) is None
        assert await server.request(copy) is None


async def test_a_clock_that_goes_ahead_by_hours_and_back_revives_nothing(server: Server) -> None:
    """X5: such steps clocks make: what was once seen expired stays so."""
    visitor = await server.visitor()
    server.clock.time += 3 * 3600
    assert await server.request(visitor) is None
    server.clock.time -= 3 * 3600
    assert await server.request(visitor) is None


async def test_a_server_that_slept_for_weeks_goes_on(server: Server) -> None:
    """X5, X1: the step is no mistake: what was there has expired, and who logs in is in."""
    visitor = await server.visitor()
    server.clock.time += 60 * DAY
    assert await server.request(visitor) is None
    for _ in range(3):
        await server.request(visitor, "bob")
        server.clock.time += 3000
        assert await server.request(visitor) == "bob"
    server.clock.time += 3600
    assert await server.request(visitor) is None
