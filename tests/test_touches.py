"""Touches: they extend what may still be used, and failing ones degrade nobody."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis

from aiosessions import (
    CookieOverseer,
    Event,
    Lifetime,
    StorageOverseer,
    UnsupportedError,
)
from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock
from tests.conftest import ASYNCIO
from tests.facts import facts
from tests.sealers.jwt_keys import make, make_jwk, private, public
from tests.servers import NoServerError, valkey
from tests.test_storage_overseer import HOUR, Cart, House

pytestmark = pytest.mark.anyio

DAY = 86_400
ROTATIONS = ["set_user", "clear_user", "regenerate"]


# under an older epoch


@pytest.mark.parametrize("rotation", ROTATIONS)
async def test_who_came_with_an_older_token_keeps_nothing_alive(rotation: str) -> None:
    """X4, F14: not even by a touch: the session ends one idle time after its owner was last there."""
    house = House()
    visitor = await house.visitor(user="ann")
    async with visitor.copy().visit() as visit:
        slow = await house.store.get(visit.request)
        async with house.request(visitor) as (session, _):
            getattr(session, rotation)(*(["ann"] if rotation == "set_user" else []))
        await house.clock.advance(DAY - 3600)
        slow.touch()
        await house.store.save(slow, visit.response)
        assert visit.sent == []
    await house.clock.advance(3600)
    assert (await house.session_of(visitor)).is_new


@pytest.mark.parametrize("rotation", ROTATIONS)
async def test_a_socket_with_an_older_token_keeps_nothing_alive(rotation: str) -> None:
    """X4, F14, R12: however often it touches."""
    house = House()
    visitor = await house.visitor(user="ann")
    socket = await house.session_of(visitor)
    async with house.request(visitor) as (session, _):
        getattr(session, rotation)(*(["ann"] if rotation == "set_user" else []))
    for _ in range(3):
        await house.clock.advance(DAY / 3)
        socket.touch()
        await house.store.save(socket)
    assert (await house.session_of(visitor)).is_new


async def test_a_touch_under_the_same_epoch_extends() -> None:
    """X4: a write by another request is no new epoch."""
    house = House()
    visitor = await house.visitor(user="ann")
    async with visitor.visit() as visit:
        slow = await house.store.get(visit.request)
        async with house.request(visitor.copy()) as (session, _):
            session.value.note = "second"
        await house.clock.advance(DAY - 3600)
        slow.touch()
        await house.store.save(slow, visit.response)
    await house.clock.advance(DAY - 3600)
    assert (await house.session_of(visitor)).value.note == "second"


async def test_a_touch_follows_the_lifetime_of_the_login_meanwhile() -> None:
    """X4: never beyond what the session's own lifetime says now."""
    house = House(lifetime=Lifetime(timedelta(days=10)))
    visitor = await house.visitor()
    async with visitor.copy().visit() as visit:
        slow = await house.store.get(visit.request)
        async with house.request(visitor) as (session, _):
            session.set_user("ann", lifetime=Lifetime(HOUR))
        slow.touch()
        await house.store.save(slow, visit.response)
    await house.clock.advance(3600)
    assert (await house.session_of(visitor)).is_new


# that fail


@pytest.mark.parametrize("on_storer_error", ["raise", "new"])
async def test_a_touch_that_fails_degrades_nobody(on_storer_error: str) -> None:
    """R15: the session was read, so it is served, and an event says what failed."""
    house = House(on_storer_error=on_storer_error)
    visitor = await house.visitor(user="ann")
    await house.clock.advance(400)
    house.storer.failing = {"touch"}
    async with house.request(visitor) as (session, visit):
        assert (session.is_new, session.is_degraded) == (False, False)
        assert (session.user_id, session.value.note) == ("ann", "first")
    assert visit.sent == []
    assert house.kinds == ["store_failed"]
    assert "loaded" in [event.kind for event in house.events]


@pytest.mark.parametrize("on_storer_error", ["raise", "new"])
async def test_who_could_not_be_touched_can_be_written(on_storer_error: str) -> None:
    """R15, R4: the write extends the session as well."""
    house = House(on_storer_error=on_storer_error)
    visitor = await house.visitor(user="ann")
    await house.clock.advance(DAY - 3600)
    house.storer.failing = {"touch"}
    async with house.request(visitor) as (session, _):
        session.value.note = "second"
    await house.clock.advance(DAY - 3600)
    house.storer.failing = set()
    session = await house.session_of(visitor)
    assert (session.user_id, session.value.note) == ("ann", "second")


async def test_a_touch_that_failed_is_tried_again_by_the_next_read() -> None:
    """R15, X1."""
    house = House()
    visitor = await house.visitor(user="ann")
    await house.clock.advance(DAY - 3600)
    house.storer.failing = {"touch"}
    await house.session_of(visitor)
    house.storer.failing = set()
    await house.session_of(visitor)
    await house.clock.advance(DAY - 3600)
    assert (await house.session_of(visitor)).user_id == "ann"


async def test_a_session_that_went_before_its_touch_is_a_new_one() -> None:
    """F4: a touch that finds nothing is no failure: somebody has logged out."""
    house = House()
    visitor = await house.visitor(user="ann")
    await house.clock.advance(400)

    async def log_out() -> None:
        async with house.request(visitor.copy()) as (other, _):
            other.destroy()

    house.storer.before["touch"] = log_out
    async with house.request(visitor) as (session, _):
        assert (session.is_new, session.user_id) == (True, None)


@pytest.mark.parametrize("anyio_backend", [ASYNCIO])
@pytest.mark.parametrize("on_storer_error", ["raise", "new"])
async def test_a_redis_at_its_memory_limit_still_serves_reads(
    on_storer_error: Any, no_server: Callable[[str], NoReturn]
) -> None:
    """R15, S13: it refuses every write, and lets a touch go on, which takes no more room."""
    try:
        with valkey() as server:
            async with Redis(host=server.host, port=server.port) as client:
                clock, events, visitor = MovableClock(), list[Event](), Visitor()
                store = StorageOverseer(
                    Cart,
                    RedisStorer(client, clock=clock.now),
                    on_storer_error=on_storer_error,
                    on_event=facts(events),
                    clock=clock.now,
                )
                async with visitor.visit() as visit:
                    session = await store.get(visit.request)
                    session.set_user("ann")
                    await store.save(session, visit.response)
                server.ask("CONFIG", "SET", "maxmemory", 1)
                for _ in range(3):
                    await clock.advance(400)
                    events.clear()
                    async with visitor.visit() as visit:
                        session = await store.get(visit.request)
                        assert (session.user_id, session.is_degraded) == ("ann", False)
                        await store.save(session, visit.response)
                    assert sorted(event.kind for event in events) == ["loaded", "touched"]
    except NoServerError as error:
        no_server(str(error))


# by who has public keys only


@pytest.mark.parametrize("reseal", [False, True])
@pytest.mark.parametrize("kind", ["ES256", "EdDSA", "RS256"])
async def test_who_has_public_keys_only_reads_at_any_time(kind: str, reseal: bool) -> None:
    """R2, R15: also once the touch window has passed: the one who can seal extends, and nobody else."""
    key, clock, visitor = make_jwk(kind), MovableClock(), Visitor()
    writer = CookieOverseer(Cart, make(kind, private(key)), clock=clock.now)
    reader = CookieOverseer(Cart, make(kind, public(key), reseal=reseal), clock=clock.now)
    async with visitor.visit() as visit:
        session = await writer.get(visit.request)
        session.set_user("ann")
        session.value.note = "first"
        await writer.save(session, visit.response)
    for seconds in (0, 301, 3600, DAY / 2):
        await clock.advance(seconds)
        async with visitor.visit() as visit:
            session = await reader.get(visit.request)
            assert (session.user_id, session.value.note) == ("ann", "first")
            await reader.save(session, visit.response)
            assert visit.sent == []
    async with visitor.visit() as visit:
        session = await reader.get(visit.request)
        session.value.note = "second"
        with pytest.raises(UnsupportedError):
            await reader.save(session, visit.response)
        assert visit.sent == []
    async with visitor.visit() as visit:
        session = await writer.get(visit.request)
        await writer.save(session, visit.response)
        assert len(visit.sent) == 1, "the writer extends it"
