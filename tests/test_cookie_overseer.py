"""What a CookieOverseer promises with `revocations`, and what it says where it cannot promise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aiosessions import (
    AESGCMSealer,
    Claims,
    ConfigError,
    ConflictError,
    CookieOverseer,
    HMACSealer,
    JWTSealer,
    Lifetime,
    MemoryStorer,
    MessagePackCodec,
    Record,
    Session,
    StorerError,
    UnsupportedError,
    new_key,
)
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


@dataclass
class Cart:
    count: int = 0


class FailingStorer(MemoryStorer):
    """Away, when a test says so."""

    is_away = False
    reads = 0

    async def read(self, key: str) -> Record | None:
        self.reads += 1
        if self.is_away:
            raise StorerError("the backend is away") from ConnectionResetError("on purpose")
        return await super().read(key)

    async def read_together(self, keys: Sequence[str]) -> list[Record | None]:
        """One trip."""
        self.reads -= len(keys) - 1
        return await super().read_together(keys)


class Servers:
    """Several processes with one key and one revocation list, each with a clock of its own."""

    def __init__(self, **options: Any) -> None:
        self.storer = FailingStorer()
        self.sealer = AESGCMSealer(new_key())
        self.options = options

    def store(self, clock: Callable[[], float]) -> CookieOverseer[Cart]:
        return CookieOverseer(Cart, self.sealer, revocations=self.storer, clock=clock, **self.options)


async def do(store: CookieOverseer[Cart], visitor: Visitor, change: Callable[[Session[Cart]], Any]) -> None:
    """One request."""
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        change(session)
        await store.save(session, visit.response)


async def user_of(store: CookieOverseer[Cart], visitor: Visitor) -> str | None:
    """Whom the visitor's token names now."""
    async with visitor.visit() as visit:
        return (await store.get(visit.request)).user_id


def count(session: Session[Cart]) -> None:
    session.value.count += 1


@pytest.mark.parametrize("end", ["destroy", "set_user", "clear_user", "delete_user_sessions"])
async def test_every_copy_of_an_ended_session_is_refused(end: str) -> None:
    """F4, F14, ASVS 5 7.4.1: the logout drill, also in a process whose clock is an hour off."""
    servers, clock = Servers(lifetime=Lifetime(None, 10 * HOUR)), MovableClock()
    here, late = servers.store(clock.now), servers.store(lambda: clock.now() - 3600)
    visitor = Visitor()
    await do(here, visitor, count)
    copies = [visitor.copy()]
    await do(here, visitor, lambda session: session.set_user("ann"))
    for _ in range(3):
        copies.append(visitor.copy())
        await do(here, visitor, count)
    if end == "delete_user_sessions":
        await here.delete_user_sessions("ann")
        copies.append(visitor.copy())
    else:
        copies.append(visitor.copy())
        await do(here, visitor, lambda session: getattr(session, end)(*(["ann"] if end == "set_user" else [])))
    for hours in (0, 5, 9.9, 10.5, 11):
        clock.time = MovableClock().time + hours * 3600
        for store in (here, late):
            for copy in copies:
                async with copy.visit() as visit:
                    assert (await store.get(visit.request)).is_new


async def test_the_kept_session_outlives_the_logout_of_all_others() -> None:
    """ASVS 5 7.4.3: `keep=`; and who logs in afterwards is in."""
    servers, clock = Servers(), MovableClock()
    store = servers.store(clock.now)
    laptop, phone, stranger = Visitor(), Visitor(), Visitor()
    for visitor, user in ((laptop, "ann"), (phone, "ann"), (stranger, "bob")):
        await do(store, visitor, lambda session, user=user: session.set_user(user))  # type: ignore[misc]  # bound per turn
    async with laptop.visit() as visit:
        session = await store.get(visit.request)
        await store.delete_user_sessions("ann", keep=session)
        await store.save(session, visit.response)
    assert await user_of(store, laptop) == "ann"
    assert await user_of(store, phone) is None
    assert await user_of(store, stranger) == "bob"
    await do(store, phone, lambda session: session.set_user("ann"))
    assert await user_of(store, phone) == "ann"
    await store.delete_user_sessions("ann")
    assert await user_of(store, laptop) is None
    assert await user_of(store, phone) is None


async def test_a_read_asks_once_and_a_failure_is_never_not_revoked() -> None:
    """DESIGN 7."""
    servers, clock = Servers(), MovableClock()
    store, visitor = servers.store(clock.now), Visitor()
    await do(store, visitor, lambda session: session.set_user("ann"))
    servers.storer.reads = 0
    assert await user_of(store, visitor) == "ann"
    assert servers.storer.reads == 1
    servers.storer.is_away = True
    with pytest.raises(StorerError):
        await user_of(store, visitor)


async def test_max_lag_is_how_late_another_process_may_notice() -> None:
    """Issue 4: cached for a stated time, and not in the process that revoked."""
    servers, clock = Servers(max_lag=timedelta(seconds=10)), MovableClock()
    here, there, visitor = servers.store(clock.now), servers.store(clock.now), Visitor()
    await do(here, visitor, lambda session: session.set_user("ann"))
    copy = visitor.copy()
    assert await user_of(there, copy) == "ann"
    await do(here, visitor, lambda session: session.destroy())
    assert await user_of(here, copy) is None
    servers.storer.reads = 0
    assert await user_of(there, copy) == "ann"
    assert servers.storer.reads == 0
    await clock.advance(10)
    assert await user_of(there, copy) is None


async def test_a_copy_older_than_the_last_two_is_a_replay() -> None:
    """DESIGN 7: the last two are accepted, so that an answer that got lost locks nobody out."""
    servers, clock = Servers(replay_protection=True), MovableClock()
    store, visitor = servers.store(clock.now), Visitor()
    copies: list[Visitor] = []
    for _ in range(4):
        await do(store, visitor, count)
        copies.append(visitor.copy())
    found: list[int] = []
    for copy in copies:
        async with copy.visit() as visit:
            found.append((await store.get(visit.request)).value.count)
    assert found == [0, 0, 3, 4]
    for _ in range(3):
        await do(store, copies[2].copy(), count)
    await do(store, copies[3], count)
    async with copies[2].visit() as visit:
        assert (await store.get(visit.request)).is_new


async def test_a_token_that_was_left_behind_meanwhile_cannot_write() -> None:
    """DESIGN 7: ConflictError; a touch is left out."""
    servers, clock = Servers(replay_protection=True), MovableClock()
    store, visitor = servers.store(clock.now), Visitor()
    await do(store, visitor, count)
    async with visitor.copy().visit() as visit:
        slow = await store.get(visit.request)
        for _ in range(2):
            await do(store, visitor, count)
        slow.touch()
        await store.save(slow, visit.response)
        assert visit.sent == []
        slow.value.count = 9
        with pytest.raises(ConflictError):
            await store.save(slow, visit.response)


async def test_a_user_with_many_logouts_has_a_ledger_that_forgets() -> None:
    """Denials are remembered until the token they deny has ended everywhere."""
    servers, clock = Servers(lifetime=Lifetime(HOUR, 2 * HOUR)), MovableClock()
    servers.storer = FailingStorer(clock=clock.now)
    store = servers.store(clock.now)
    for _ in range(30):
        visitor = Visitor()
        await do(store, visitor, lambda session: session.set_user("ann"))
        await do(store, visitor, lambda session: session.destroy())
        await clock.advance(86_400)
    keys = [key async for key in servers.storer.keys()]  # noqa: SIM118  # no dict
    sizes = [len(record.value) for key in keys if (record := await servers.storer.read(key))]
    assert max(sizes) < 200


def test_what_cannot_work_is_refused_at_construction() -> None:
    """F10, DESIGN 7."""
    sealer = AESGCMSealer(new_key())
    wrong: list[dict[str, Any]] = [
        {"revocations": MemoryStorer(max_sessions=10)},
        {"revocations": MemoryStorer(), "lifetime": Lifetime(HOUR, None)},
        {"replay_protection": True},
        {"revocations": MemoryStorer(), "max_lag": timedelta(-1)},
    ]
    for options in wrong:
        with pytest.raises(ConfigError):
            CookieOverseer(Cart, sealer, **options)
    with pytest.raises(ConfigError, match="absolute"):
        CookieOverseer(Cart, JWTSealer(new_key()), lifetime=Lifetime(HOUR, None))
    with pytest.raises(ConfigError, match="JSON"):
        CookieOverseer(Cart, JWTSealer(new_key()), codec=MessagePackCodec(Cart))
    with pytest.raises(ConfigError, match="Sealer"):
        CookieOverseer(Cart, cast("Any", "a key"))


async def test_without_revocations_nobody_can_log_out_all_devices() -> None:
    """DESIGN 7: UnsupportedError says what is needed."""
    with pytest.raises(UnsupportedError, match="revocations="):
        await CookieOverseer(Cart, AESGCMSealer(new_key())).delete_user_sessions("ann")


@pytest.mark.parametrize("reseal", [False, True])
async def test_keys_rotate_and_nobody_is_logged_out(reseal: bool) -> None:
    """F7: old tokens open; the next write, or with `reseal` the next read, uses the new key."""
    clock, visitor = MovableClock(), Visitor()
    old, new = new_key(), new_key()

    def store(*keys: str) -> CookieOverseer[Cart]:
        return CookieOverseer(Cart, AESGCMSealer(keys, reseal=reseal), clock=clock.now)

    await do(store(old), visitor, count)
    before = visitor.tokens
    await do(store(new, old), visitor, lambda session: None)
    assert (visitor.tokens != before) == reseal
    await do(store(new, old), visitor, count)
    async with visitor.visit() as visit:
        assert (await store(new).get(visit.request)).value.count == 2
    async with visitor.visit() as visit:
        assert (await store(old).get(visit.request)).is_new


@pytest.mark.parametrize("times", [(1e300, None), (math.nan, None), (-1.0, None), (1_800_000_000.0, 1e300)], ids=str)
async def test_a_foreign_token_with_times_that_no_clock_says_is_a_new_session(
    times: tuple[float, float | None],
) -> None:
    """F13, V4: its session would live for ever, or raise in the handler that looks at it."""
    sealer = HMACSealer(new_key())
    store = CookieOverseer(Cart, sealer, clock=lambda: 1_800_000_000.0)
    token = sealer.seal(Claims(b'{"count":7}', False, "an-id", *times, "ann", b""), name="app")
    async with Visitor({"__Host-app": token}).visit() as visit:
        session = await store.get(visit.request)
    assert (session.is_new, session.user_id, session.value.count) == (True, None, 0)


async def test_who_has_public_keys_only_reads_and_cannot_write() -> None:
    """A service that only verifies: UnsupportedError before the answer, and nothing is cleared."""
    private = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public = private.public_key().public_bytes(encoding, form).decode()
    secret = private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    clock, visitor = MovableClock(), Visitor()

    def store(key: str) -> CookieOverseer[Cart]:
        sealer = JWTSealer(key, algorithm="ES256", issuer="shop", audience="app")
        return CookieOverseer(Cart, sealer, clock=clock.now)

    await do(store(secret), visitor, count)
    async with visitor.visit() as visit:
        reader = store(public)
        session = await reader.get(visit.request)
        assert session.value.count == 1
        await reader.save(session, visit.response)
        session.value.count = 2
        with pytest.raises(UnsupportedError):
            await reader.save(session, visit.response)
        assert visit.sent == []
