"""A sealer's keys change while sessions change their secrets: only the newest secret is ever sent."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOverseer,
    HMACSealer,
    JWTSealer,
    Lifetime,
    Sealer,
    StorageOverseer,
    new_key,
)
from aiosessions.testing.suites_store import Visitor
from tests.test_storage_overseer import GRACE, HOUR, Cart, House

pytestmark = pytest.mark.anyio

MakeSealer = Callable[..., Sealer]

SEALERS: dict[str, MakeSealer] = {"aesgcm": AESGCMSealer, "hmac": HMACSealer, "jwt": JWTSealer}


class Rotation:
    """A visitor with a token under an old key, an hour later, and a store that seals under a new one."""

    def __init__(self, make: MakeSealer, *, reseal: bool) -> None:
        old, new = new_key(), new_key()
        self.house = House(lifetime=Lifetime(rotate=HOUR), sealer=make(old))
        self.newest = make(new)
        options: dict[str, Any] = {**self.house.options, "sealer": make([new, old], reseal=reseal)}
        self.store: StorageOverseer[Cart] = StorageOverseer(Cart, self.house.storer, **options)

    async def visitor(self) -> Visitor:
        visitor = await self.house.visitor(user="ann")
        self.house.store = self.store
        await self.house.clock.advance(3600)
        return visitor

    async def is_logged_in(self, visitor: Visitor) -> bool:
        return (await self.house.session_of(visitor)).user_id == "ann"


@pytest.fixture(params=SEALERS)
def make(request: pytest.FixtureRequest) -> MakeSealer:
    return SEALERS[request.param]


@pytest.mark.parametrize(("reseal", "change"), [(False, "write"), (True, "write"), (True, "read")])
@pytest.mark.parametrize("loaded", ["before the rotation", "after the rotation"])
async def test_a_slow_answer_under_the_old_key_locks_nobody_out(
    make: MakeSealer, reseal: bool, change: str, loaded: str
) -> None:
    """F7, R18: it came with a secret that has been followed by another, and sends it to nobody."""
    rotation = Rotation(make, reseal=reseal)
    house, visitor = rotation.house, await rotation.visitor()
    old = visitor.copy()

    async def rotate() -> None:
        async with house.request(visitor) as (_, quick):
            pass
        assert len(quick.sent) == 1
        async with house.request(visitor):
            pass  # the new secret arrived, and has been presented

    if loaded == "after the rotation":
        await rotate()
    async with old.visit() as slow:
        session = await rotation.store.get(slow.request)
        if loaded == "before the rotation":
            await rotate()
        if change == "write":
            session.value.note = "slow"
        await rotation.store.save(session, slow.response)
    visitor.keep(slow)
    async with house.request(visitor) as (session, _):
        assert session.value.note == ("slow" if change == "write" else "first")
    for _ in range(3):
        await house.clock.advance(GRACE)
        assert await rotation.is_logged_in(visitor), "the newest secret was overwritten by one that is dead"
    assert slow.sent == []


@pytest.mark.parametrize("is_due", [False, True])
async def test_the_newest_secret_is_sent_under_the_new_key(make: MakeSealer, is_due: bool) -> None:
    """F7: who alone writes goes over to the new key, rotation or not."""
    rotation = Rotation(make, reseal=False)
    house, visitor = rotation.house, await rotation.visitor()
    if not is_due:
        await house.clock.advance(-3600)
    async with house.request(visitor) as (session, visit):
        session.value.total += 1
    assert len(visit.sent) == 1
    options: dict[str, Any] = {**house.options, "sealer": rotation.newest}
    house.store = StorageOverseer(Cart, house.storer, **options)
    for _ in range(3):
        assert await rotation.is_logged_in(visitor)
        await house.clock.advance(GRACE)


ROTATING = Lifetime(rotate=HOUR)


@pytest.mark.parametrize("options", [{}, {"revocations": True}, {"revocations": True, "replay_protection": True}])
def test_a_token_that_carries_the_state_has_no_secret_to_rotate(make: MakeSealer, options: dict[str, Any]) -> None:
    """F10, R8: a ConfigError at construction that names the argument and the fix, not a promise that nobody keeps."""
    if "revocations" in options:
        options = {**options, "revocations": House().storer}
    with pytest.raises(ConfigError, match=r"rotate.*: .*\w"):
        CookieOverseer(Cart, make(new_key()), lifetime=ROTATING, **options)


async def test_a_login_cannot_ask_for_such_a_rotation_either(make: MakeSealer) -> None:
    """F10, V7: `set_user(lifetime=)`: a ConfigError before anything is sent."""
    store = CookieOverseer(Cart, make(new_key()))
    async with Visitor().visit() as visit:
        session = await store.get(visit.request)
        with pytest.raises(ConfigError, match=r"rotate.*: .*\w"):  # noqa: PT012  # whichever of the two says so
            session.set_user("ann", lifetime=Lifetime(timedelta(days=1), rotate=HOUR))
            await store.save(session, visit.response)
        assert visit.sent == []
