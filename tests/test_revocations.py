"""Revocations of sessions that the client holds: they last as long as the token, and cost what they must."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, cast

import anyio.lowlevel
import pytest
from redis.asyncio import Redis

from aiosessions import (
    AESGCMSealer,
    Claims,
    ConfigError,
    CookieOverseer,
    Event,
    HMACSealer,
    JWTSealer,
    Lifetime,
    MemoryStorer,
    Record,
    Sealer,
    Session,
    Storer,
    StorerError,
    new_key,
)
from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock
from tests.conftest import ASYNCIO
from tests.facts import facts
from tests.test_cookie_overseer import Cart, count, do, user_of
from tests.test_samples import HELD, held

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
DAY = 86_400.0

End = Callable[[CookieOverseer[Cart], Visitor], Any]


class MeasuredStorer:
    """A durable storer that counts the bytes and the trips which reading costs."""

    durable = True

    def __init__(self, storer: Storer) -> None:
        self._storer = storer
        self.read_bytes = 0
        self.reads = 0

    async def read(self, key: str) -> Record | None:
        record = await self._storer.read(key)
        self.reads += 1
        if record is not None:
            self.read_bytes += len(record.value) + len(record.meta)
        return record

    async def read_together(self, keys: Sequence[str]) -> list[Record | None]:
        """One trip."""
        self.reads -= len(keys) - 1
        return [await self.read(key) for key in keys]

    async def create(self, key: str, record: Record) -> bool:
        return await self._storer.create(key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await self._storer.replace(key, record, version=version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        return await self._storer.touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self._storer.delete(key, version=version)


# tokens without an end


async def destroy(store: CookieOverseer[Cart], visitor: Visitor) -> None:
    await do(store, visitor, lambda session: session.destroy())


async def regenerate(store: CookieOverseer[Cart], visitor: Visitor) -> None:
    await do(store, visitor, lambda session: session.regenerate())


async def log_in_anew(store: CookieOverseer[Cart], visitor: Visitor) -> None:
    await do(store, visitor, lambda session: session.set_user("ann"))


async def start_afresh(store: CookieOverseer[Cart], visitor: Visitor) -> None:
    async with visitor.visit() as visit:
        session = store.new(visit.request)
        session.value.count = 7
        await store.save(session, visit.response)


async def delete_all(store: CookieOverseer[Cart], _: Visitor) -> None:
    await store.delete_user_sessions("ann")


async def is_in(store: CookieOverseer[Cart], visitor: Visitor) -> bool:
    async with visitor.visit() as visit:
        return not (await store.get(visit.request)).is_new


OF_ONE: list[End] = [destroy, regenerate, log_in_anew, start_afresh]
OF_A_USER: list[End] = [*OF_ONE, delete_all]


@pytest.mark.parametrize(("user", "end"), [(None, end) for end in OF_ONE] + [("ann", end) for end in OF_A_USER])
@pytest.mark.parametrize("idle", [HOUR, None])
async def test_a_token_without_an_end_can_be_revoked(end: End, user: str | None, idle: timedelta | None) -> None:
    """F4, F14, F16: one of before there were revocations: it is denied as long as it could be accepted."""
    sealer, clock, visitor = AESGCMSealer(new_key()), MovableClock(), Visitor()
    before = CookieOverseer(Cart, sealer, lifetime=Lifetime(idle, None), clock=clock.now)
    await do(before, visitor, lambda session: session.set_user(user) if user else count(session))
    copy = visitor.copy()
    storer = MemoryStorer(clock=clock.now)
    store = CookieOverseer(Cart, sealer, revocations=storer, lifetime=Lifetime(idle, 10 * HOUR), clock=clock.now)
    await end(store, visitor)
    for days in (0.0, 0.02, 1.0, 30.0, 402.0, 4000.0):
        clock.time = MovableClock().time + days * DAY
        await storer.clean()
        assert not await is_in(store, copy), f"back after {days} days"


@pytest.mark.parametrize("end", OF_A_USER)
@pytest.mark.parametrize(("make", "body"), [(AESGCMSealer, b"\x81\xa5count\x07"), (HMACSealer, b'{"count":7}')])
async def test_a_foreign_token_without_an_end_can_be_revoked(
    end: End, make: Callable[..., Sealer], body: bytes
) -> None:
    """F4, F16: what other software issued under a shared key."""
    sealer, clock = make(new_key()), MovableClock()
    storer = MemoryStorer(clock=clock.now)
    store = CookieOverseer(Cart, sealer, revocations=storer, lifetime=Lifetime(None, 10 * HOUR), clock=clock.now)
    token = sealer.seal(Claims(body, False, "an-id", clock.now(), None, "ann", b""), name="app")
    visitor = Visitor({"__Host-app": token})
    copy = visitor.copy()
    await end(store, visitor)
    for days in (0.0, 1.0, 402.0, 4000.0):
        clock.time = MovableClock().time + days * DAY
        await storer.clean()
        assert not await is_in(store, copy), f"back after {days} days"


@pytest.mark.parametrize("end", OF_A_USER)
async def test_a_foreign_jwt_that_ends_late_can_be_revoked(end: End) -> None:
    """F4, F16: `exp` may be decades away, much later than any lifetime of ours."""
    sealer, clock = JWTSealer(new_key()), MovableClock()
    storer = MemoryStorer(clock=clock.now)
    store = CookieOverseer(Cart, sealer, revocations=storer, lifetime=Lifetime(None, 10 * HOUR), clock=clock.now)
    expires_at = clock.now() + 30 * 365 * DAY
    token = sealer.seal(Claims(b'{"count":7}', False, "an-id", clock.now(), expires_at, "ann", b""), name="app")
    visitor = Visitor({"__Host-app": token})
    copy = visitor.copy()
    await end(store, visitor)
    for days in (0.0, 1.0, 402.0, 4000.0):
        clock.time = MovableClock().time + days * DAY
        await storer.clean()
        assert not await is_in(store, copy), f"back after {days} days"


async def test_a_replay_of_a_token_without_an_end_is_noticed() -> None:
    """F16: its generations are counted as long as it could be accepted."""
    sealer, clock, visitor = AESGCMSealer(new_key()), MovableClock(), Visitor()
    await do(CookieOverseer(Cart, sealer, lifetime=Lifetime(None, None), clock=clock.now), visitor, count)
    first = visitor.copy()
    storer = MemoryStorer(clock=clock.now)
    store = CookieOverseer(
        Cart,
        sealer,
        revocations=storer,
        replay_protection=True,
        lifetime=Lifetime(None, 10 * HOUR),
        clock=clock.now,
    )
    for _ in range(4):
        await do(store, visitor, count)
    for days in (0.0, 1.0, 402.0):
        clock.time = MovableClock().time + days * DAY
        await storer.clean()
        assert not await is_in(store, first), f"back after {days} days"


async def test_a_login_cannot_ask_for_a_session_without_an_end() -> None:
    """F10, F16: with revocations: a ConfigError before anything is sent."""
    store = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=MemoryStorer())
    async with Visitor().visit() as visit:
        session = await store.get(visit.request)
        with pytest.raises(ConfigError, match="absolute"):  # noqa: PT012  # whichever of the two says so
            session.set_user("ann", lifetime=Lifetime(HOUR, None))
            await store.save(session, visit.response)
        assert visit.sent == []


# what a request reads


MOST = 2_000
"""Bytes that one request may read of what was revoked, however much that is."""


async def assert_reads_are_bounded(storer: Storer, ends: int) -> None:
    """One user ends so many sessions; each request reads little, and the tokens stay ended: 1 000 of them are tried."""
    measured, clock = MeasuredStorer(storer), MovableClock()
    store = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=measured, clock=clock.now)
    visitor = Visitor()
    await do(store, visitor, lambda session: session.set_user("ann"))
    copies: list[Visitor] = []
    for number in range(ends):
        copies.append(visitor.copy())
        await do(store, visitor, lambda session: session.set_user("ann"))
        if number % 100 == 0:
            measured.read_bytes = 0
            assert await user_of(store, visitor) == "ann"
            assert measured.read_bytes < MOST, f"of {number} ended sessions"
    measured.read_bytes, measured.reads = 0, 0
    assert await user_of(store, visitor) == "ann"
    assert measured.read_bytes < MOST
    assert measured.reads <= 2
    for copy in copies[:: ends // 1_000]:
        assert await user_of(store, copy) is None
    await destroy(store, visitor)
    for copy in (copies[0], copies[-1], visitor):
        assert await user_of(store, copy) is None


@pytest.mark.parametrize("anyio_backend", [ASYNCIO])
async def test_a_request_reads_little_after_a_thousand_logouts(redis_client: Redis, redis_prefix: str) -> None:
    """F16: with the session of a user who logs in and out all day."""
    await assert_reads_are_bounded(RedisStorer(redis_client, prefix=redis_prefix, clock=MovableClock().now), 1_000)


@pytest.mark.parametrize("anyio_backend", [ASYNCIO])
async def test_a_request_reads_little_after_ten_thousand_logouts() -> None:
    """F16."""
    await assert_reads_are_bounded(MemoryStorer(clock=MovableClock().now), 10_000)


async def test_what_has_ended_everywhere_is_forgotten() -> None:
    """F16: a denial goes once the token that it denies could not be accepted any more."""
    clock = MovableClock()
    storer = MemoryStorer(clock=clock.now)
    store = CookieOverseer(
        Cart, AESGCMSealer(new_key()), revocations=storer, lifetime=Lifetime(HOUR, 2 * HOUR), clock=clock.now
    )
    stored: list[tuple[int, int]] = []

    def log_in(session: Session[Cart]) -> None:
        session.set_user("ann")

    for _ in range(30):
        visitor = Visitor()
        for _ in range(5):
            await do(store, visitor, log_in)
        await destroy(store, visitor)
        await clock.advance(DAY)
        await storer.clean()
        records = [await storer.read(key) async for key in storer.keys()]  # noqa: SIM118  # no dict
        stored.append((len(records), sum(len(record.value) for record in records if record is not None)))
    assert max(stored) == max(stored[:3])


# the epoch of all


async def test_a_token_of_before_there_was_an_epoch_of_all_lives_until_it_is_raised() -> None:
    """F4, F16: one that version 0.1.0 has sent says none, which is 0."""
    for is_raised in (False, True):
        store = await held()
        if is_raised:
            await store.delete_all()
        async with Visitor({"__Host-app": HELD}).visit() as visit:
            assert (await store.get(visit.request)).is_new == is_raised


async def test_the_epoch_of_all_is_never_forgotten() -> None:
    """F16: a number that began anew would let in those of the old one."""
    clock = MovableClock()
    storer, sealer = MemoryStorer(clock=clock.now), AESGCMSealer(new_key())
    lifetime = Lifetime(None, timedelta(days=399))
    store = CookieOverseer(Cart, sealer, revocations=storer, lifetime=lifetime, clock=clock.now)
    for _ in range(3):
        await store.delete_all()
    await clock.advance(390 * DAY)
    visitor = Visitor()
    await do(store, visitor, count)
    await clock.advance(390 * DAY)
    await storer.clean()
    assert await is_in(store, visitor)
    await store.delete_all()
    assert not await is_in(store, visitor)


async def test_a_login_takes_the_epochs_of_who_logs_in() -> None:
    """F4: not those of whoever was there before: else it would outlive the first logouts."""
    store, visitor = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=MemoryStorer()), Visitor()
    for _ in range(5):
        await store.delete_user_sessions("bob")
    for user in ("bob", "ann"):
        await do(store, visitor, lambda session, user=user: session.set_user(user))  # type: ignore[misc]  # bound per turn
    assert await user_of(store, visitor) == "ann"
    await store.delete_user_sessions("ann")
    assert not await is_in(store, visitor)


async def test_a_logout_does_not_lift_a_session_over_the_epoch_of_all() -> None:
    """F4: `clear_user` and what is written later go on under the epoch that the session began with."""
    store, visitor = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=MemoryStorer()), Visitor()
    await store.delete_all()
    await do(store, visitor, lambda session: session.set_user("ann"))
    await do(store, visitor, lambda session: session.clear_user())
    assert await is_in(store, visitor), "nobody has ended it"
    await do(store, visitor, count)
    assert await is_in(store, visitor), "nor by writing it"
    await store.delete_all()
    assert not await is_in(store, visitor)


async def test_a_socket_is_told_that_everybody_was_logged_out() -> None:
    """ASVS 5 7.4.1."""
    store, visitor = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=MemoryStorer()), Visitor()
    await do(store, visitor, count)
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        assert await store.is_live(session)
        await store.delete_all()
        assert not await store.is_live(session)


@pytest.mark.parametrize("is_here", [True, False])
async def test_max_lag_counts_for_the_epoch_of_all(is_here: bool) -> None:
    """A process may notice late, by so much; the one that raised it does not."""
    sealer, storer, clock, visitor = AESGCMSealer(new_key()), MemoryStorer(), MovableClock(), Visitor()
    options: dict[str, Any] = {"revocations": storer, "max_lag": timedelta(seconds=10), "clock": clock.now}
    here, there = CookieOverseer(Cart, sealer, **options), CookieOverseer(Cart, sealer, **options)
    await do(here, visitor, count)
    assert await is_in(here, visitor)
    assert await is_in(there, visitor)
    await here.delete_all()
    assert await is_in(here if is_here else there, visitor) is not is_here
    await clock.advance(10)
    assert not await is_in(here if is_here else there, visitor)


async def test_an_event_says_that_everybody_was_logged_out() -> None:
    """V8: no count, for nobody knows it."""
    events: list[Event] = []
    store = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=MemoryStorer(), on_event=facts(events))
    assert await store.delete_all() == 0
    assert [(event.kind, event.name, event.reason) for event in events] == [("destroyed", "app", "all sessions")]


async def test_a_storer_that_reads_one_key_at_a_time_is_asked_for_both_at_once() -> None:
    """DESIGN 7: and where one of them cannot be read, it is a StorerError and not a group of them."""

    class Slow(MeasuredStorer):
        read_together = cast("Any", None)  # not there: Protocols ask for a method

        def __init__(self) -> None:
            super().__init__(MemoryStorer())
            self.reading = self.most = 0
            self.failing = ""

        async def read(self, key: str) -> Record | None:
            self.reading += 1
            self.most = max(self.most, self.reading)
            await anyio.lowlevel.checkpoint()
            self.reading -= 1
            if self.failing and self.failing in key:
                raise StorerError("away")
            return await super().read(key)

    storer, visitor = Slow(), Visitor()
    store = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=storer)
    await do(store, visitor, lambda session: session.set_user("ann"))
    storer.most = 0
    assert await is_in(store, visitor)
    assert storer.most == 2
    for storer.failing in ("~user", "~all"):
        with pytest.raises(StorerError, match="away"):
            await is_in(store, visitor)
