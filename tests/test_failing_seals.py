"""A token is sealed before anything is written: who cannot be told of a new secret keeps the old one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiosessions import (
    AESGCMSealer,
    Claims,
    Lifetime,
    Session,
    StorageOverseer,
    UnsupportedError,
    new_key,
)
from aiosessions.testing.suites_store import Visitor
from tests.sealers.jwt_keys import make, make_jwk, private, public
from tests.test_storage_overseer import GRACE, HOUR, Cart, House

pytestmark = pytest.mark.anyio

ROTATIONS = ["set_user", "clear_user", "regenerate"]


class StoppableSealer(AESGCMSealer):
    """One whose keys are elsewhere, and away when a test says so."""

    is_away = False

    def seal(self, claims: Claims, *, name: str) -> str:
        if self.is_away:
            raise UnsupportedError("the service that has the keys does not answer")
        return super().seal(claims, name=name)


class Verifier:
    """A store that seals, and one beside it that has the public key only."""

    def __init__(self, **options: Any) -> None:
        key = make_jwk("ES256")
        self.house = House(sealer=make("ES256", private(key)), **options)
        options = {**self.house.options, "sealer": make("ES256", public(key))}
        self.reader: StorageOverseer[Cart] = StorageOverseer(Cart, self.house.storer, **options)

    async def keys(self) -> list[str]:
        return [key async for key in self.house.storer.keys()]  # noqa: SIM118  # no dict


@pytest.fixture
def verifier() -> Verifier:
    return Verifier()


def rotate(session: Session[Cart], rotation: str) -> None:
    getattr(session, rotation)(*(["bob"] if rotation == "set_user" else []))


async def refused(store: StorageOverseer[Cart], visitor: Visitor, change: Callable[[Session[Cart]], Any]) -> None:
    """A request that cannot be saved, and whose answer tells nothing."""
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        change(session)
        with pytest.raises(UnsupportedError):
            await store.save(session, visit.response)
        assert visit.sent == []


@pytest.mark.parametrize("rotation", ROTATIONS)
async def test_after_a_rotation_that_could_not_be_sealed_the_old_secret_works(
    verifier: Verifier, rotation: str
) -> None:
    """R8, R11: with public keys only."""
    house = verifier.house
    visitor = await house.visitor(user="ann")
    await refused(verifier.reader, visitor, lambda session: rotate(session, rotation))
    assert house.storer.calls == {"read": 1}
    for _ in range(2):
        session = await house.session_of(visitor)
        assert (session.user_id, session.value.note) == ("ann", "first")
        await house.clock.advance(GRACE)


@pytest.mark.parametrize("change", ["set_user", "write", "flash"])
async def test_a_session_whose_token_cannot_be_sealed_is_not_stored(verifier: Verifier, change: str) -> None:
    """R11: each failed login would leave a ghost."""
    changes: dict[str, Callable[[Session[Cart]], Any]] = {
        "set_user": lambda session: session.set_user("ann"),
        "write": lambda session: session.value.items.append("egg"),
        "flash": lambda session: session.flash("hello"),
    }
    for _ in range(3):
        await refused(verifier.reader, Visitor(), changes[change])
    assert await verifier.keys() == []
    assert await verifier.house.store.user_sessions("ann") == []


async def test_new_ends_nothing_when_its_token_cannot_be_sealed(verifier: Verifier) -> None:
    """F15, R11: what it was to take the place of lives on."""
    visitor = await verifier.house.visitor(user="ann")
    async with visitor.visit() as visit:
        session = verifier.reader.new(visit.request)
        session.value.note = "new"
        with pytest.raises(UnsupportedError):
            await verifier.reader.save(session, visit.response)
        assert visit.sent == []
    assert (await verifier.house.session_of(visitor)).user_id == "ann"
    assert len(await verifier.keys()) == 1


async def test_a_login_that_lost_its_record_and_cannot_be_sealed_is_not_stored(verifier: Verifier) -> None:
    """R8, R11: it would have become a session of its own."""
    visitor = await verifier.house.visitor()
    async with visitor.visit() as visit:
        session = await verifier.reader.get(visit.request)
        async with verifier.house.request(visitor.copy()) as (other, _):
            other.destroy()
        session.set_user("ann")
        with pytest.raises(UnsupportedError):
            await verifier.reader.save(session, visit.response)
    assert await verifier.keys() == []


async def test_who_has_public_keys_only_reads_also_when_a_rotation_is_due() -> None:
    """R2, R11: a read is answered, and the one who can seal rotates later."""
    verifier = Verifier(lifetime=Lifetime(rotate=HOUR))
    visitor = await verifier.house.visitor(user="ann")
    await verifier.house.clock.advance(2 * 3600)
    for _ in range(2):
        async with visitor.visit() as visit:
            session = await verifier.reader.get(visit.request)
            assert session.user_id == "ann"
            await verifier.reader.save(session, visit.response)
            assert visit.sent == []
    async with verifier.house.request(visitor) as (_, visit):
        pass
    assert len(visit.sent) == 1


async def test_after_valid_until_no_login_leaves_a_ghost() -> None:
    """R11, F11: such a sealer writes no token that is valid."""
    clock = House().clock
    until = datetime.fromtimestamp(clock.now(), UTC) + timedelta(hours=2)
    house = House(sealer=make("HS256", private(make_jwk("HS256")), valid_until=until))
    visitor = await house.visitor(user="ann")
    await house.clock.advance(2 * 3600 - 1)
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        assert session.user_id == "ann"
        handle = session.handle
        session.set_user("ann")
        await house.clock.advance(2)
        with pytest.raises(UnsupportedError):
            await house.store.save(session, visit.response)
        assert visit.sent == []
    for _ in range(3):
        await refused(house.store, Visitor(), lambda session: session.set_user("ann"))
    assert [info.handle for info in await house.store.user_sessions("ann")] == [handle]


@pytest.mark.parametrize("rotation", ROTATIONS)
async def test_a_rotation_can_be_saved_again_once_it_can_be_sealed(rotation: str) -> None:
    """R8, R11: as after a backend that failed; nothing is lost in between."""
    sealer = StoppableSealer(new_key())
    house = House(sealer=sealer)
    visitor = await house.visitor(user="ann")
    old = visitor.copy()
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        rotate(session, rotation)
        session.value.note = "second"
        sealer.is_away = True
        with pytest.raises(UnsupportedError):
            await house.store.save(session, visit.response)
        assert visit.sent == []
        assert (await house.session_of(old)).value.note == "first"
        sealer.is_away = False
        await house.store.save(session, visit.response)
        assert len(visit.sent) == 1
    session = await house.session_of(visitor)
    assert session.value.note == "second"
    assert session.user_id == {"set_user": "bob", "clear_user": None}.get(rotation, "ann")
    assert (await house.session_of(old)).is_new


async def test_a_merge_that_could_not_be_sealed_changes_nothing() -> None:
    """F3, R11: also where the first try lost a race, and the seal of the second fails."""
    sealer = StoppableSealer(new_key())
    house = House(sealer=sealer)
    visitor = await house.visitor(user="ann")
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)

        async def meanwhile() -> None:
            async with house.request(visitor) as (other, _):
                other.value.items.append("theirs")
            sealer.is_away = True

        house.storer.before["replace"] = meanwhile
        session.regenerate()
        try:
            await house.store.save(session, visit.response)
        except UnsupportedError:
            assert visit.sent == []
    sealer.is_away = False
    session = await house.session_of(visitor)
    assert (session.user_id, session.value.items) == ("ann", ["theirs"])
