"""What is kept of a timed cookie, and which token is sent again: at a store, by hand."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOverseer,
    HMACSealer,
    JWTSealer,
    Lifetime,
    Record,
    Sealer,
    Session,
    StorageOverseer,
    new_key,
)
from aiosessions.asgi import Connection, SessionMiddleware
from aiosessions.testing.suites_store import Visit, Visitor
from aiosessions.testing.suites_storer import MovableClock, collected
from tests.sealers.jwt_keys import make, make_jwk, private, public
from tests.storers_with_faults import Scene, adding
from tests.test_storage_overseer import HOUR, Cart, House

pytestmark = pytest.mark.anyio

WEEK = timedelta(days=7)
TIMED = Lifetime(WEEK, timedelta(days=30), cookie=WEEK)
WINDOW = 300.0
FIELDS = 11
"""Of a meta, without the time of the last sending."""

SEALERS: dict[str, Callable[..., Sealer]] = {"aesgcm": AESGCMSealer, "hmac": HMACSealer, "jwt": JWTSealer}


def test_a_timed_cookie_is_sent_again_before_it_ends() -> None:
    """R15, F10: a touch window as long as the cookie would let it end first; the default one is shorter."""
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    with pytest.raises(ConfigError, match="shorter than cookie"):
        Lifetime(cookie=hour, touch=hour)
    assert Lifetime(cookie=minute).touch_window == 30
    assert Lifetime(None, cookie=minute).touch_window == 30
    assert Lifetime(cookie=hour).touch_window == WINDOW


def sent_to(visitor: Visitor) -> str:
    return visitor.cookies["__Host-app"]


async def look(house: House, visitor: Visitor, change: Callable[[Session[Cart]], object] = bool) -> list[str]:
    """One request; the tokens that its answer brings."""
    async with house.request(visitor) as (session, visit):
        change(session)
    return [line.partition(";")[0].partition("=")[2] for line in visit.tokens]


async def kept(house: House) -> tuple[str, Record]:
    """The one record."""
    (key,) = await collected(house.storer.keys())
    record = await house.storer.read(key)
    assert record is not None
    return key, record


async def rewrite(house: House, meta: bytes) -> None:
    """As another version left it."""
    key, record = await kept(house)
    other = msgspec.structs.replace(record, meta=meta, version=record.version + 1)
    assert await house.storer.replace(key, other, version=record.version)


def fields(record: Record) -> list[Any]:  # Any: of all types
    decoded: list[Any] = msgspec.msgpack.decode(record.meta)
    return decoded


async def no_message(*_: object) -> Any:  # Any: an ASGI message
    raise AssertionError("nothing is received or sent")


def write(session: Session[Cart]) -> None:
    session.value.note += "."


def touch(session: Session[Cart]) -> None:
    session.touch()


def write_and_touch(session: Session[Cart]) -> None:
    write(session)
    touch(session)


def clear_user(session: Session[Cart]) -> None:
    session.clear_user()


# what is kept


@pytest.mark.parametrize("cookie", ["browser", "persistent"])
async def test_who_has_no_timed_cookie_stores_no_byte_more(cookie: Any) -> None:
    """R15: neither when it is made, nor written, nor after a login that had one."""
    house = House(lifetime=Lifetime(WEEK, timedelta(days=30), cookie=cookie))
    visitor = await house.visitor()
    for _ in range(2):
        await look(house, visitor, write)
        assert len(fields((await kept(house))[1])) == FIELDS
    await look(house, visitor, lambda session: session.set_user("ann", lifetime=TIMED))
    assert len(fields((await kept(house))[1])) == FIELDS + 1
    await look(house, visitor, clear_user)
    assert len(fields((await kept(house))[1])) == FIELDS


async def test_a_record_that_does_not_say_it_is_sent_with_the_next_use() -> None:
    """V2, R15: one of a version without it: the cookie may be about to end."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    _, record = await kept(house)
    await rewrite(house, msgspec.msgpack.encode(fields(record)[:FIELDS]))
    assert await look(house, visitor) == [sent_to(visitor)]
    assert await look(house, visitor) == []
    assert fields((await kept(house))[1])[FIELDS] == house.clock.now()


async def test_a_clock_that_was_far_ahead_stops_nothing() -> None:
    """X5, R15: some server said that it was sent in a year."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    _, record = await kept(house)
    await rewrite(house, msgspec.msgpack.encode([*fields(record)[:FIELDS], house.clock.now() + 1e7]))
    assert await look(house, visitor) == [sent_to(visitor)]
    assert await look(house, visitor) == []


async def test_a_read_is_not_refused_for_the_bytes_that_it_keeps() -> None:
    """R15: the record is as large as it may be; it is touched then."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    _, record = await kept(house)
    await rewrite(house, msgspec.msgpack.encode(fields(record)[:FIELDS]))
    size = len(record.value) + len(record.meta) - 9
    options: dict[str, Any] = {**house.options, "max_size": size}
    house.store = StorageOverseer(Cart, house.storer, **options)
    await house.clock.advance(WINDOW)
    assert await look(house, visitor) == []
    assert house.kinds == ["store_failed"]
    assert (await kept(house))[1].seen_at == house.clock.now()


async def test_what_is_sent_again_is_a_touch_for_who_counts() -> None:
    """R15: the event says so."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    await house.clock.advance(WINDOW)
    assert await look(house, visitor) != []
    assert [event.kind for event in house.events] == ["touched", "loaded", "touched"]


async def test_a_client_that_hangs_up_has_used_it() -> None:
    """X1, R15: the headers never left, so that the touch is made up for."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    await house.clock.advance(WINDOW)

    async def page(scope: Any, _: Any, __: Any) -> None:  # Any: what ASGI hands around
        await house.store.get(Connection(scope))
        hung_up.cancel()
        await anyio.lowlevel.checkpoint()

    async with visitor.visit() as visit:
        with anyio.CancelScope() as hung_up:
            await SessionMiddleware(page)({**visit.request.scope, "method": "GET", "path": "/"}, no_message, no_message)
    assert hung_up.cancelled_caught
    assert house.storer.calls["replace"] == 0
    assert (await kept(house))[1].seen_at == house.clock.now()


# which token


@pytest.mark.parametrize("change", [bool, write, touch], ids=["read", "write", "touch"])
@pytest.mark.parametrize("kind", SEALERS)
async def test_a_sealed_token_is_sent_again_as_it_came(kind: str, change: Callable[[Session[Cart]], object]) -> None:
    """R15: its seal ends with the session, however often it is sent."""
    house = House(lifetime=TIMED, sealer=SEALERS[kind](new_key()))
    visitor = await house.visitor(user="ann")
    token = sent_to(visitor)
    for _ in range(9):
        await house.clock.advance(3 * 86_400)
        assert await look(house, visitor, change) == [token]
    await house.clock.advance(3 * 86_400 - 1)
    assert (await house.session_of(visitor)).user_id == "ann"


@pytest.mark.parametrize("change", [bool, write], ids=["read", "write"])
@pytest.mark.parametrize("reseal", [False, True])
@pytest.mark.parametrize("kind", SEALERS)
async def test_one_under_an_older_key_is_sealed_anew(
    kind: str, reseal: bool, change: Callable[[Session[Cart]], object]
) -> None:
    """R15, F7: and so goes over to the newest, at the latest when it is due."""
    old, new = new_key(), new_key()
    house = House(lifetime=TIMED, sealer=SEALERS[kind](old))
    visitor = await house.visitor(user="ann")
    options: dict[str, Any] = {**house.options, "sealer": SEALERS[kind]([new, old], reseal=reseal)}
    house.store = StorageOverseer(Cart, house.storer, **options)
    told = await look(house, visitor, change)
    assert len(told) == (1 if reseal or change is write else 0)
    await house.clock.advance(WINDOW)
    told += await look(house, visitor, change)
    options["sealer"] = SEALERS[kind](new)
    house.store = StorageOverseer(Cart, house.storer, **options)
    assert (await house.session_of(visitor)).user_id == "ann"


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
async def test_who_has_public_keys_only_sends_what_came(kind: str) -> None:
    """R15: that takes no sealing."""
    key = make_jwk(kind)
    house = House(lifetime=TIMED, sealer=make(kind, private(key)))
    visitor = await house.visitor(user="ann")
    options: dict[str, Any] = {**house.options, "sealer": make(kind, public(key))}
    house.store = StorageOverseer(Cart, house.storer, **options)
    await house.clock.advance(WINDOW)
    assert await look(house, visitor) == [sent_to(visitor)]


async def test_an_older_secret_is_not_sent_again() -> None:
    """R15, DESIGN 5: while a periodic rotation is under way both open, and only the newest is sent."""
    house = House(lifetime=Lifetime(WEEK, timedelta(days=30), cookie=WEEK, rotate=HOUR))
    visitor = await house.visitor(user="ann")
    old = visitor.copy()
    await house.clock.advance(3600)
    (newest,) = await look(house, visitor)
    assert newest != sent_to(old)
    await house.clock.advance(10)
    for change in (bool, write, touch, write_and_touch):
        assert await look(house, old.copy(), change) == []
    assert await look(house, visitor) == []
    await house.clock.advance(WINDOW)
    assert await look(house, visitor) == [newest]


async def test_a_login_brings_its_own_token_and_no_older_one() -> None:
    """R8, R15: however often the request that made it saves and touches."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor()
    await house.clock.advance(WINDOW)
    async with house.request(visitor.copy()) as (session, visit):
        session.set_user("ann")
        await house.store.save(session, visit.response)
        session.touch()
        await house.store.save(session, visit.response)
        session.value.note = "more"
    visitor.keep(visit)
    assert len(visit.tokens) == 1
    assert (await house.session_of(visitor)).user_id == "ann"


async def test_a_login_s_own_lifetime_slides_and_ends_with_it() -> None:
    """V7, R15."""
    house = House()
    visitor = await house.visitor()
    (token,) = await look(house, visitor, lambda session: session.set_user("ann", lifetime=TIMED))
    for _ in range(3):
        await house.clock.advance(3 * 86_400)
        assert await look(house, visitor) == [token]
    await look(house, visitor, clear_user)
    await house.clock.advance(WINDOW)
    assert await look(house, visitor) == []


async def test_a_write_sends_it_whatever_get_was_told() -> None:
    """R15: touch=False is about reads."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    await house.clock.advance(WINDOW)
    for change, count in ((bool, 0), (write, 1)):
        async with visitor.visit() as visit:
            session = await house.store.get(visit.request, touch=False)
            change(session)
            await house.store.save(session, visit.response)
        assert len(visit.tokens) == count


async def test_a_token_that_the_client_holds_slides_as_well() -> None:
    """R15, X3: sealed anew with each touch."""
    clock, visitor = MovableClock(), Visitor()
    store = CookieOverseer(Cart, AESGCMSealer(new_key()), lifetime=TIMED, clock=clock.now)

    async def visit_by(user: str | None) -> Visit:
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            if user is not None:
                session.set_user(user)
            await store.save(session, visit.response)
        return visit

    await visit_by("ann")
    for _ in range(9):
        await clock.advance(3 * 86_400)
        (line,) = (await visit_by(None)).sent
        assert "Max-Age=604800;" in line


# races


async def test_a_race_that_is_lost_is_none_for_a_reader() -> None:
    """R15, F3: others wrote meanwhile; what they wrote stays, and the token is still the newest."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    await house.clock.advance(WINDOW)
    other = visitor.copy()

    async def meanwhile() -> None:
        async with house.request(other) as (session, _):
            await house.store.update(session, lambda cart: cart.items.append("milk"))

    elsewhere = StorageOverseer(Cart, house.storer, **house.options)
    async with visitor.visit() as visit:
        session = await elsewhere.get(visit.request)
        house.storer.before["replace"] = meanwhile
        await elsewhere.save(session, visit.response)
    assert (await house.session_of(visitor)).value.items == ["milk"]


async def test_what_another_has_just_sent_is_not_written_once_more() -> None:
    """R15: a page and its pictures come at once: one write."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor(user="ann")
    await house.clock.advance(WINDOW)
    visits: list[Visit] = []
    seen: list[Session[Cart]] = []
    for _ in range(3):
        async with visitor.copy().visit() as visit:
            seen.append(await house.store.get(visit.request))
            visits.append(visit)
    house.storer.calls.clear()
    for session, visit in zip(seen, visits, strict=True):
        await house.store.save(session, visit.response)
    assert [len(visit.tokens) for visit in visits] == [1, 0, 0]
    _, record = await kept(house)
    assert record.version == seen[0]._state.version, "the others wrote nothing"


@pytest.mark.parametrize("change", [bool, write], ids=["read", "write"])
async def test_a_login_that_came_between_is_not_undone(change: Callable[[Session[Cart]], object]) -> None:
    """R18: the write finds another epoch; that is no error, and nothing is sent."""
    house = House(lifetime=TIMED)
    visitor = await house.visitor()
    await house.clock.advance(WINDOW)
    slow = visitor.copy()

    async def log_in() -> None:
        await look(house, visitor, lambda session: session.set_user("ann"))

    elsewhere = StorageOverseer(Cart, house.storer, **house.options)
    async with slow.visit() as visit:
        session = await elsewhere.get(visit.request)
        change(session)
        house.storer.before["replace"] = log_in
        await elsewhere.save(session, visit.response)
    assert visit.sent == []
    assert (await house.session_of(visitor)).user_id == "ann"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_was_written_with_others_does_not_outrun_a_login() -> None:
    """R18: a line of one process: its turn to go on comes after the login's."""
    scene = Scene("stored", lifetime=TIMED)
    visitor = await scene.visitor()
    await scene.clock.advance(WINDOW)
    sent: dict[str, list[str]] = {}

    async def ask(name: str, act: Callable[[Session[Any]], Any]) -> None:
        async with visitor.copy().visit() as visit:
            session = await scene.store.get(visit.request)
            await act(session)
            if act is not update:
                await scene.store.save(session, visit.response)
        sent[name] = visit.tokens

    async def update(session: Session[Any]) -> None:
        await scene.store.update(session, adding("tea"))

    async def log_in(session: Session[Any]) -> None:
        session.set_user("ann")

    async def read(_: Session[Any]) -> None:
        pass

    async with anyio.create_task_group() as tasks:
        gate = scene.storer.stop_at("replace")
        for name, act in (("first", update), ("second", update), ("login", log_in), ("reader", read)):
            tasks.start_soon(ask, name, act)
            await anyio.wait_all_tasks_blocked()
        gate.open()
    assert list(sent)[-1] == "reader", "else this shows nothing"
    assert len(sent["login"]) == 1
    assert sent["reader"] == []
