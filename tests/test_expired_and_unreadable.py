"""Sessions that have expired and records that nobody can read: said as what they are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    Event,
    HMACSealer,
    JWTSealer,
    Lifetime,
    MemoryStorer,
    NoSessionError,
    Sealer,
    StorageOverseer,
    Store,
    new_key,
)
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock
from tests.facts import facts
from tests.test_storage_overseer import HOUR, Cart

pytestmark = pytest.mark.anyio

SEALERS: dict[str, Callable[[str], Sealer]] = {"aesgcm": AESGCMSealer, "hmac": HMACSealer, "jwt": JWTSealer}
SECRET = "a value that nobody may log"


@dataclass
class Other:
    """What a `Cart` cannot be read as."""

    note: int = 0


class Shop:
    """A store of either kind, its clock and its events.

    Args:
        sealer: of its tokens; None: a StorageOverseer's plain ones.
        is_stored: by a StorageOverseer.
    """

    def __init__(self, sealer: Sealer | None, *, is_stored: bool, **options: Any) -> None:
        self.clock = MovableClock()
        self.storer = MemoryStorer(clock=self.clock.now)
        self.events: list[Event] = []
        self._sealer = sealer
        self._is_stored = is_stored
        self._options: dict[str, Any] = {"clock": self.clock.now, "on_event": facts(self.events), **options}
        self.store: Store[Cart] = self.store_of(Cart)

    def store_of(self, value_type: type[Any]) -> Any:  # Any: a store of this type
        if self._is_stored:
            return StorageOverseer(value_type, self.storer, sealer=self._sealer, **self._options)

        assert self._sealer is not None
        return CookieOverseer(value_type, self._sealer, **self._options)

    async def visitor(self) -> Visitor:
        """Somebody who has logged in."""
        visitor = Visitor()
        async with visitor.visit() as visit:
            session = await self.store.get(visit.request)
            session.value.note = SECRET
            session.set_user("ann")
            await self.store.save(session, visit.response)
        self.events.clear()
        return visitor

    async def look(self, visitor: Visitor, store: Store[Any] | None = None) -> list[Event]:
        """What is reported of a request that finds a new session, and sends nothing."""
        store = store or self.store
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert (session.is_new, session.user_id) == (True, None)
            await store.save(session, visit.response)
            assert visit.sent == []
        return self.events


@pytest.fixture(params=SEALERS)
def sealer(request: pytest.FixtureRequest) -> Sealer:
    return SEALERS[request.param](new_key())


# expired


@pytest.mark.parametrize("seconds", [3600.0, 3600.5, 3601.0, 86_400.0, 40 * 86_400.0])
async def test_a_token_whose_idle_time_is_over_is_expired(sealer: Sealer, seconds: float) -> None:
    """X1, F6: `expired` and not `rejected`: metrics tell users who went away from forgeries."""
    shop = Shop(sealer, is_stored=False, lifetime=Lifetime(HOUR, 100 * HOUR))
    visitor = await shop.visitor()
    await shop.clock.advance(seconds)
    assert [event.kind for event in await shop.look(visitor)] == ["expired"]


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("seconds", [10_801.0, 86_400.0])
async def test_a_token_whose_absolute_time_is_over_is_expired(sealer: Sealer, is_stored: bool, seconds: float) -> None:
    """X2, F6: likewise, and also where the sealer wraps the token of a StorageOverseer."""
    shop = Shop(sealer, is_stored=is_stored, lifetime=Lifetime(None, 3 * HOUR))
    visitor = await shop.visitor()
    await shop.clock.advance(seconds)
    assert [event.kind for event in await shop.look(visitor)] == ["expired"]


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_forged_token_that_would_have_expired_is_rejected(sealer: Sealer, is_stored: bool) -> None:
    """F6: nobody believes what it says about its end."""
    shop = Shop(sealer, is_stored=is_stored, lifetime=Lifetime(None, 3 * HOUR))
    visitor = await shop.visitor()
    await shop.clock.advance(86_400)
    ((name, token),) = visitor.tokens.items()
    forged = [token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"), token[: len(token) // 2]]
    for text in forged:
        shop.events.clear()
        assert [event.kind for event in await shop.look(Visitor({name: text}))] == ["rejected"]


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_token_of_another_name_that_expired_is_rejected(sealer: Sealer, is_stored: bool) -> None:
    """F8, R5."""
    shop = Shop(sealer, is_stored=is_stored, lifetime=Lifetime(None, 3 * HOUR))
    visitor = await shop.visitor()
    await shop.clock.advance(86_400)
    (token,) = visitor.tokens.values()
    async with Visitor({"__Host-other": token}).visit() as visit:
        assert (await shop.store.get(visit.request, "other")).is_new
    assert [event.kind for event in shop.events] == ["rejected"]


# unreadable


KINDS = [("plain", True), *((name, is_stored) for name in SEALERS for is_stored in (True, False))]


@pytest.mark.parametrize(("name", "is_stored"), KINDS)
async def test_a_record_that_no_longer_fits_is_an_event(name: str, is_stored: bool) -> None:
    """V2, V8: `unreadable`, with the field: a bad deployment shows in metrics; never with the value."""
    shop = Shop(SEALERS[name](new_key()) if name in SEALERS else None, is_stored=is_stored)
    visitor = await shop.visitor()
    events = await shop.look(visitor, shop.store_of(Other))
    assert [event.kind for event in events] == ["unreadable"]
    (event,) = events
    assert "note" in event.fields or "note" in event.reason
    assert (event.name, event.user_id) == ("app", "ann")
    assert event.handle
    assert SECRET not in repr(event)
    events.clear()
    async with visitor.visit() as visit:
        assert (await shop.store.get(visit.request)).value.note == SECRET, "the record is kept"
    assert [event.kind for event in events] == ["loaded"]


async def test_a_job_cannot_open_a_record_that_it_cannot_read() -> None:
    """V2, V8: NoSessionError, as for one that is gone: not an error of the codec; and an event says why."""
    shop = Shop(None, is_stored=True)
    visitor = await shop.visitor()
    async with visitor.visit() as visit:
        handle = (await shop.store.get(visit.request)).handle
    shop.events.clear()
    other: StorageOverseer[Other] = shop.store_of(Other)
    with pytest.raises(NoSessionError) as caught:
        await other.open(handle, user_id="ann")
    assert SECRET not in str(caught.value)
    assert [event.kind for event in shop.events] == ["unreadable"]
    assert len(await other.user_sessions("ann")) == 1, "the record is kept"
    assert await other.delete(handle, user_id="ann")


@pytest.mark.parametrize("token", [None, 0, b"bytes", ["list"]], ids=str)
async def test_what_is_no_text_is_no_csrf_token(token: Any) -> None:
    """V8, ASVS 5 3.5.1: a form without the field gives None: False, and no error."""
    shop = Shop(None, is_stored=True)
    visitor = await shop.visitor()
    async with visitor.visit() as visit:
        session = await shop.store.get(visit.request)
        assert not session.check_csrf(token)
        assert session.check_csrf(session.csrf_token())
    async with Visitor().visit() as visit:
        assert not (await shop.store.get(visit.request)).check_csrf(token)
