"""What a StorageOverseer promises when requests meet: nothing is lost, nothing comes back."""

import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import anyio
import pytest
from msgspec import structs

from aiosessions import (
    ConfigError,
    ConflictError,
    CookieOptions,
    CookieTransport,
    Event,
    JWTSealer,
    Lifetime,
    MemoryStorer,
    Merge,
    NoSessionError,
    Record,
    ResponseStartedError,
    Session,
    StorageOverseer,
    StorerError,
    UnsupportedError,
    new_key,
    session_ended,
)
from aiosessions._secrets import Secrets
from aiosessions._state import Meta
from aiosessions.testing.suites_store import Visit, Visitor
from aiosessions.testing.suites_storer import MovableClock
from tests.facts import facts

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
GRACE = 30.0


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])
    tags: set[str] = field(default_factory=set[str])
    note: str = ""
    total: Annotated[int, Merge.ADD] = 0
    seal: Annotated[str, Merge.RAISE] = ""


class WatchedStorer(MemoryStorer):
    """A MemoryStorer that counts its calls, and fails or stops where a test says."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.calls: Counter[str] = Counter()
        self.failing: set[str] = set()
        self.before: dict[str, Callable[[], Any]] = {}
        self.found: dict[str, Record] = {}  # records as somebody else left them

    async def _note(self, call: str) -> None:
        self.calls[call] += 1
        if call in self.failing:
            raise StorerError("the backend is away") from ConnectionResetError("on purpose")
        meanwhile = self.before.pop(call, None)
        if meanwhile is not None:
            await meanwhile()

    async def read(self, key: str) -> Record | None:
        await self._note("read")
        return self.found.get(key) or await super().read(key)

    async def create(self, key: str, record: Record) -> bool:
        await self._note("create")
        return await super().create(key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        await self._note("replace")
        return await super().replace(key, record, version=version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        await self._note("touch")
        return await super().touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        await self._note("delete")
        return await super().delete(key, version=version)

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        return [(key, self.found.get(key, record)) for key, record in await super().list_by_owner(owner, prefix=prefix)]


class House:
    """A store, its storer, its clock and its events; and requests by hand."""

    def __init__(self, **options: Any) -> None:
        self.clock = MovableClock()
        self.storer = WatchedStorer(self.clock.now)
        self.events: list[Event] = []
        self.options: dict[str, Any] = {"on_event": facts(self.events), "clock": self.clock.now, **options}
        self.store: StorageOverseer[Cart] = StorageOverseer(Cart, self.storer, **self.options)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind not in ("loaded", "touched")]

    @asynccontextmanager
    async def request(self, visitor: Visitor) -> AsyncGenerator[tuple[Session[Cart], Visit]]:
        """A session whose changes are saved at the end; the visitor keeps what the response said."""
        async with visitor.visit() as visit:
            session = await self.store.get(visit.request)
            yield session, visit
            await self.store.save(session, visit.response)

    async def visitor(self, *, user: str | None = None) -> Visitor:
        """Somebody with a stored session."""
        visitor = Visitor()
        async with self.request(visitor) as (session, _):
            session.value.note = "first"
            if user is not None:
                session.set_user(user)
        self.storer.calls.clear()
        self.events.clear()
        return visitor

    async def session_of(self, visitor: Visitor) -> Session[Cart]:
        """What a visitor's token gives now."""
        async with visitor.visit() as visit:
            return await self.store.get(visit.request)


@pytest.fixture
def house() -> House:
    return House()


# round trips


async def test_a_session_costs_the_round_trips_it_must(house: House) -> None:
    """R1-R4, DESIGN 4: anonymous 0, read 1, write 2, login 2, touch 2."""
    visitor = Visitor()
    async with house.request(visitor):
        pass
    assert house.storer.calls == {}
    async with house.request(visitor) as (session, _):
        session.value.note = "a"
    assert house.storer.calls == {"create": 1}
    steps: list[tuple[Callable[[Session[Cart]], Any], dict[str, int]]] = [
        (lambda session: None, {"read": 1}),
        (lambda session: session.value.items.append("x"), {"read": 1, "replace": 1}),
        (lambda session: session.set_user("ann"), {"read": 1, "replace": 1}),
        (lambda session: session.flash("hi"), {"read": 1, "replace": 1}),
        (lambda session: session.touch(), {"read": 1, "touch": 1}),
        (lambda session: session.destroy(), {"read": 1, "delete": 1}),
    ]
    for change, calls in steps:
        house.storer.calls.clear()
        async with house.request(visitor) as (session, _):
            change(session)
        assert house.storer.calls == calls


async def test_a_read_sends_a_touch_once_per_window(house: House) -> None:
    """R15."""
    visitor = await house.visitor()
    for seconds, touches in ((299, 0), (2, 1), (299, 0), (2, 1)):
        await house.clock.advance(seconds)
        house.storer.calls.clear()
        async with house.request(visitor) as (_, visit):
            pass
        assert house.storer.calls == ({"read": 1, "touch": 1} if touches else {"read": 1})
        assert visit.sent == []


async def test_what_has_no_tokens_shape_asks_no_backend(house: House) -> None:
    """R6, F1."""
    for text in ("", "x", "A" * 63, "A" * 65, "../" * 21 + "x", "A" * 63 + "=", "é" * 64):
        assert (await house.session_of(Visitor({"__Host-app": text}))).is_new
    assert house.storer.calls == {}


async def test_two_gets_at_once_load_once(house: House) -> None:
    """R5: the second waits for the first; a load that fails is tried again by the next."""
    visitor = await house.visitor()
    found: list[Session[Cart]] = []
    async with visitor.visit() as visit, anyio.create_task_group() as tasks:

        async def get() -> None:
            found.append(await house.store.get(visit.request))

        house.storer.before["read"] = anyio.lowlevel.checkpoint
        for _ in range(5):
            tasks.start_soon(get)
    assert house.storer.calls == {"read": 1}
    assert len({id(session) for session in found}) == 1


async def test_two_saves_at_once_write_once(house: House) -> None:
    """R14."""
    async with Visitor().visit() as visit:
        session = await house.store.get(visit.request)
        session.value.note = "a"
        house.storer.before["create"] = anyio.lowlevel.checkpoint
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(house.store.save, session, visit.response)
    assert house.storer.calls == {"create": 1}
    assert len(visit.sent) == 1


# nothing is lost


async def test_two_writers_of_different_things_both_survive(house: House) -> None:
    """F3: fields, lists that grew, sets, added numbers; R18: the slow one sends no cookie."""
    visitor = await house.visitor()
    async with house.request(visitor) as (slow, visit):
        slow.value.items.append("slow")
        slow.value.tags.add("slow")
        slow.value.total += 2
        async with house.request(visitor) as (quick, _):
            quick.value.items.append("quick")
            quick.value.tags.add("quick")
            quick.value.total += 3
            quick.value.note = "quick"
            quick.flash("quick")
        slow.flash("slow")
    assert visit.sent == []
    session = await house.session_of(visitor)
    assert session.value == Cart(["quick", "slow"], {"quick", "slow"}, "quick", 5)
    assert [flash.message for flash in session.flashes()] == ["quick", "slow"]


@pytest.mark.parametrize(
    ("on_conflict", "note", "items"),
    [("merge", "slow", ["quick"]), ("overwrite", "slow", []), ("raise", "quick", ["quick"])],
)
async def test_two_writers_of_one_field_follow_on_conflict(on_conflict: str, note: str, items: list[str]) -> None:
    """F3: never silent."""
    house = House(on_conflict=on_conflict)
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        slow = await house.store.get(visit.request)
        slow.value.note = "slow"
        async with house.request(visitor) as (quick, _):
            quick.value.note = "quick"
            quick.value.items.append("quick")
        if on_conflict == "raise":
            with pytest.raises(ConflictError, match="note"):
                await house.store.save(slow, visit.response)
        else:
            await house.store.save(slow, visit.response)
    assert visit.sent == []
    value = (await house.session_of(visitor)).value
    assert (value.note, value.items) == (note, items)
    if on_conflict == "merge":
        assert [event.fields for event in house.events if event.kind == "merged"] == [("note",)]


async def test_a_field_may_refuse_to_be_merged(house: House) -> None:
    """F3: Merge.RAISE."""
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        slow = await house.store.get(visit.request)
        slow.value.seal = "slow"
        async with house.request(visitor) as (quick, _):
            quick.value.seal = "quick"
        with pytest.raises(ConflictError, match="seal"):
            await house.store.save(slow, visit.response)
    assert (await house.session_of(visitor)).value.seal == "quick"


@pytest.mark.parametrize("change", ["flash", "label", "touch", "flashes"])
async def test_who_did_not_change_the_value_never_conflicts(change: str) -> None:
    """DESIGN 6: reading, touching, labelling and taking flashes never raises ConflictError."""
    house = House(on_conflict="raise")
    visitor = await house.visitor()
    async with house.request(visitor) as (session, _):
        session.flash("waiting")
    async with house.request(visitor) as (slow, _):
        async with house.request(visitor) as (quick, _):
            quick.value.note = "quick"
        if change == "flash":
            slow.flash("slow")
        elif change == "label":
            slow.label = "Tab"
        elif change == "flashes":
            assert slow.flashes()
        else:
            slow.touch()
    session = await house.session_of(visitor)
    assert session.value.note == "quick"
    waiting = [flash.message for flash in session.flashes()]
    assert waiting == {"flash": ["waiting", "slow"], "flashes": []}.get(change, ["waiting"])
    assert session.label == ("Tab" if change == "label" else None)


async def test_both_of_two_parallel_requests_may_show_a_flash(house: House) -> None:
    """V5."""
    visitor = await house.visitor()
    async with house.request(visitor) as (session, _):
        session.flash("once")
    async with house.request(visitor) as (first, _), house.request(visitor) as (second, _):
        assert first.flashes() == second.flashes() != []
    assert (await house.session_of(visitor)).flashes() == []


async def test_what_is_marked_while_a_save_runs_waits_for_the_next(house: House) -> None:
    """Nothing is lost: a flash and a change made by another task during the write."""
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        session.value.items.append("before")
        session.flash("before")

        async def meanwhile() -> None:
            session.value.items.append("during")
            session.flash("during")

        house.storer.before["replace"] = meanwhile
        await house.store.save(session, visit.response)
        assert [flash.message for flash in (await house.session_of(visitor)).flashes()] == ["before"]
        await house.store.save(session, visit.response)
    after = await house.session_of(visitor)
    assert after.value.items == ["before", "during"]
    assert [flash.message for flash in after.flashes()] == ["before", "during"]


async def test_a_session_saved_over_a_merge_can_be_saved_again(house: House) -> None:
    """F3: the second save does not take back what the first one merged in."""
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        slow = await house.store.get(visit.request)
        async with house.request(visitor) as (quick, _):
            quick.value.items.append("quick")
        slow.value.tags.add("one")
        await house.store.save(slow, visit.response)
        slow.value.tags.add("two")
        await house.store.save(slow, visit.response)
    assert (await house.session_of(visitor)).value == Cart(["quick"], {"one", "two"}, "first")


# nothing comes back


@pytest.mark.parametrize("change", ["write", "flash", "regenerate", "clear_user", "touch", "label", "read"])
async def test_after_a_logout_nothing_in_flight_brings_it_back(house: House, change: str) -> None:
    """F4, R18: and no cookie is sent."""
    visitor = await house.visitor(user="ann")
    async with house.request(visitor) as (slow, visit):
        async with house.request(visitor.copy()) as (session, _):
            session.destroy()
        marked = {"write": lambda: slow.value.items.append("x"), "flash": lambda: slow.flash("x"), "read": lambda: None}
        if change == "label":
            slow.label = "x"
        else:
            marked.get(change, getattr(slow, change, lambda: None))()
    assert visit.sent == []
    assert (await house.session_of(visitor)).is_new
    assert ("dropped" in house.kinds) == (change != "read")
    assert [key async for key in house.storer.keys()] == []  # noqa: SIM118  # no dict


@pytest.mark.parametrize("rotation", ["set_user", "regenerate", "clear_user"])
@pytest.mark.parametrize("change", ["write", "regenerate", "destroy", "set_user"])
async def test_who_came_with_an_older_token_cannot_write(house: House, rotation: str, change: str) -> None:
    """F14, R8, R18: dropped, and nothing sent; only destroy() is carried out, and a login is a session of its own."""
    visitor = await house.visitor()
    old = visitor.copy()
    async with house.request(old) as (slow, visit):
        async with house.request(visitor) as (session, _):
            getattr(session, rotation)(*(["ann"] if rotation == "set_user" else []))
        if change == "write":
            slow.value.note = "slow"
        elif change == "set_user":
            slow.set_user("bob")
        else:
            getattr(slow, change)()
    winner = await house.session_of(visitor)
    if change == "destroy":
        assert winner.is_new
        assert old.tokens == {}
        return

    assert (winner.value.note, winner.user_id) == ("first", "ann" if rotation == "set_user" else None)
    if change == "set_user":
        own = await house.session_of(old)
        assert own.user_id == "bob"
        assert own.handle != winner.handle
    else:
        assert visit.sent == []
        assert "dropped" in house.kinds


async def test_a_login_whose_record_is_gone_is_a_session_of_its_own(house: House) -> None:
    """R8, F4: a double click on login after a logout; the value of this request, nothing of the others'."""
    visitor = await house.visitor()
    async with house.request(visitor) as (slow, _):
        async with house.request(visitor.copy()) as (session, _):
            session.destroy()
        slow.set_user("ann")
        slow.flash("welcome")
    session = await house.session_of(visitor)
    assert (session.user_id, session.value.note) == ("ann", "first")
    assert [flash.message for flash in session.flashes()] == ["welcome"]


async def test_a_superseded_token_is_recognised_for_its_grace(house: House) -> None:
    """R18, DESIGN 5: a new, empty session that neither stores nor sends; never the value or the user."""
    visitor = await house.visitor()
    old = visitor.copy()
    async with house.request(visitor) as (session, _):
        session.set_user("ann")
    house.events.clear()
    async with house.request(old) as (session, visit):
        assert (session.is_new, session.user_id, session.value) == (True, None, Cart())
        session.value.note = "late"
        session.flash("late")
        session.destroy()
        session.value.note = "later"
    assert visit.sent == []
    assert house.kinds[0] == "token_superseded"
    async with house.request(old) as (session, visit):
        session.set_user("bob")
    assert len(visit.sent) == 1
    assert (await house.session_of(old)).user_id == "bob"
    assert (await house.session_of(visitor)).user_id == "ann"


async def test_after_the_grace_a_superseded_token_is_unknown(house: House) -> None:
    """DESIGN 5."""
    visitor = await house.visitor()
    old = visitor.copy()
    async with house.request(visitor) as (session, _):
        session.set_user("ann")
    await house.clock.advance(GRACE)
    house.events.clear()
    async with house.request(old) as (session, visit):
        session.value.note = "a session of its own"
    assert house.kinds == ["rejected", "created"]
    assert len(visit.sent) == 1
    assert (await house.session_of(visitor)).value.note == "first"


async def test_nothing_is_lost_when_the_write_of_a_login_fails(house: House) -> None:
    """R8, R11: no cookie names an unsaved secret, and the old one still works."""
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        session.set_user("ann")
        house.storer.failing = {"replace"}
        with pytest.raises(StorerError):
            await house.store.save(session, visit.response)
        assert visit.sent == []
    house.storer.failing = set()
    assert (await house.session_of(visitor)).value.note == "first"
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        session.set_user("ann")
        house.storer.failing = {"replace"}
        with pytest.raises(StorerError):
            await house.store.save(session, visit.response)
        house.storer.failing = set()
        await house.store.save(session, visit.response)
    assert (await house.session_of(visitor)).user_id == "ann"


async def test_a_planted_token_is_worthless_after_the_victims_login(house: House) -> None:
    """F1, R8: session fixation."""
    attacker = await house.visitor()
    victim = attacker.copy()
    async with house.request(victim) as (session, _):
        session.set_user("ann")
    await house.clock.advance(GRACE + 1)
    assert (await house.session_of(attacker)).is_new
    assert (await house.session_of(victim)).user_id == "ann"


# periodic rotation


@pytest.fixture
def rotating() -> House:
    return House(lifetime=Lifetime(rotate=HOUR))


async def test_a_secret_is_changed_now_and_then(rotating: House) -> None:
    """DESIGN 5: the old one dies `grace` after the new one was first presented, and then it is a stolen one."""
    visitor = await rotating.visitor(user="ann")
    first = visitor.copy()
    await rotating.clock.advance(3600)
    async with rotating.request(visitor) as (session, visit):
        epoch = session.csrf_token()
    assert len(visit.sent) == 1
    second = visitor.copy()
    assert first.tokens != second.tokens
    await rotating.clock.advance(10 * GRACE)
    assert not (await rotating.session_of(first)).is_new, "an answer that got lost locked somebody out"
    async with rotating.request(second) as (session, visit):
        assert session.check_csrf(epoch), "a periodic rotation is no new epoch"
        assert session.user_id == "ann"
    assert visit.sent == []
    assert not (await rotating.session_of(first)).is_new
    await rotating.clock.advance(GRACE)
    rotating.events.clear()
    assert (await rotating.session_of(first)).is_new
    assert rotating.kinds == ["token_reused"]
    assert (await rotating.session_of(second)).user_id == "ann"


async def test_a_rotation_that_got_lost_is_tried_again(rotating: House) -> None:
    """DESIGN 5."""
    visitor = await rotating.visitor()
    for _ in range(6):
        await rotating.clock.advance(3600)
        async with rotating.request(visitor.copy()) as (_, visit):
            pass
        assert len(visit.sent) == 1
        async with rotating.request(visitor.copy()) as (_, visit):
            pass
        assert visit.sent == [], "rotated again before the first answer could arrive"
    assert not (await rotating.session_of(visitor)).is_new


async def test_parallel_requests_rotate_once(rotating: House) -> None:
    """DESIGN 5: and what each of them changed survives."""
    visitor = await rotating.visitor()
    await rotating.clock.advance(3600)
    async with visitor.visit() as one, visitor.visit() as two:
        first, second = await rotating.store.get(one.request), await rotating.store.get(two.request)
        first.value.items.append("one")
        second.value.items.append("two")
        await rotating.store.save(first, one.response)
        await rotating.store.save(second, two.response)
    assert (len(one.sent), len(two.sent)) == (1, 0)
    assert (await rotating.session_of(visitor)).value.items == ["one", "two"]


@pytest.mark.parametrize("on_reuse", ["ignore", "destroy"])
async def test_a_stolen_token_that_comes_back_is_noticed(on_reuse: str) -> None:
    """DESIGN 5: token_reused and `on_reuse`."""
    house = House(lifetime=Lifetime(rotate=HOUR), on_reuse=on_reuse)
    visitor = await house.visitor()
    thief = visitor.copy()
    await house.clock.advance(3600)
    for _ in range(2):
        async with house.request(visitor):
            pass
    await house.clock.advance(GRACE)
    async with house.request(visitor) as (session, _):
        session.value.note = "the old secret is retired by this write"
    assert (await house.session_of(thief)).is_new
    assert "token_reused" in house.kinds
    assert (await house.session_of(visitor)).is_new == (on_reuse == "destroy")


async def test_after_the_headers_have_gone_no_secret_is_changed(rotating: House) -> None:
    """R12: a socket goes on with the token it came with."""
    visitor = await rotating.visitor()
    await rotating.clock.advance(3600)
    async with visitor.visit() as visit:
        session = await rotating.store.get(visit.request)
        session.value.note = "from a socket"
        await rotating.store.save(session)
    assert (await rotating.session_of(visitor)).value.note == "from a socket"
    async with visitor.visit() as visit:
        session = await rotating.store.get(visit.request)
        session.regenerate()
        with pytest.raises(ResponseStartedError):
            await rotating.store.save(session)


# update


async def test_updates_that_meet_are_all_applied(house: House) -> None:
    """F3: 50 tasks at once."""
    visitor = await house.visitor()

    async def add(number: int) -> None:
        async with visitor.visit() as visit:
            session = await house.store.get(visit.request)

            def change(cart: Cart) -> None:
                cart.items.append(str(number))

            await house.store.update(session, change)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(add, number)
    assert sorted((await house.session_of(visitor)).value.items, key=int) == [str(number) for number in range(50)]


async def test_what_was_pending_is_merged_onto_an_update(house: House) -> None:
    """DESIGN 6."""
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        session.value.tags.add("pending")
        async with house.request(visitor) as (other, _):
            other.value.items.append("theirs")
        result = await house.store.update(session, lambda cart: cart.items.append("ours"))
        assert result == session.value == Cart(["theirs", "ours"], {"pending"}, "first")
        await house.store.save(session, visit.response)
    assert (await house.session_of(visitor)).value == result


@pytest.mark.parametrize("end", ["destroy", "regenerate"])
async def test_update_of_a_session_that_is_gone(house: House, end: str) -> None:
    """F14, F4: NoSessionError, and nothing is written."""
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        async with house.request(visitor.copy()) as (other, _):
            getattr(other, end)()
        for _ in range(2):
            with pytest.raises(NoSessionError):
                await house.store.update(session, lambda cart: cart.items.append("x"))
        await house.store.save(session, visit.response)
        assert visit.sent == []


async def test_an_update_that_never_wins_gives_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN 6: bounded, then ConflictError."""
    monkeypatch.setattr("aiosessions.overseers.race.RACE_SECONDS", 0.05)
    visitor = await house.visitor()

    async def interfere() -> None:
        house.storer.before.clear()
        async with house.request(visitor) as (other, _):
            other.value.total += 1
        house.storer.before["replace"] = interfere

    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        house.storer.before["replace"] = interfere
        with pytest.raises(ConflictError):
            await house.store.update(session, lambda cart: cart.items.append("x"))


async def test_an_update_whose_answer_got_lost_is_applied_once(house: House) -> None:
    """S6, F3."""
    visitor = await house.visitor()
    replace = house.storer.replace
    lost = iter([True])

    async def lossy(key: str, record: Record, *, version: int) -> bool:
        done = await replace(key, record, version=version)
        if next(lost, False):
            raise StorerError("no answer") from TimeoutError()
        return done

    house.storer.replace = lossy  # type: ignore[method-assign]  # a wire that loses one answer
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        await house.store.update(session, lambda cart: cart.items.append("x"))
    assert (await house.session_of(visitor)).value.items == ["x"]


async def test_an_update_is_recognised_under_the_writes_of_others(house: House) -> None:
    """S6, F3: the answer got lost, others wrote over it, and the driver's second try says False."""
    visitor = await house.visitor()
    replace = house.storer.replace
    lost = iter([True])

    async def lossy(key: str, record: Record, *, version: int) -> bool:
        done = await replace(key, record, version=version)
        if next(lost, False):
            async with house.request(visitor) as (other, _):
                other.value.note = "theirs"
            return await replace(key, record, version=version)
        return done

    house.storer.replace = lossy  # type: ignore[method-assign]  # a wire that loses one answer
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        result = await house.store.update(session, lambda cart: cart.items.append("x"))
    assert (result.items, result.note) == (["x"], "theirs")
    assert (await house.session_of(visitor)).value.items == ["x"]


# the user's devices


async def test_a_user_sees_and_ends_sessions(house: House) -> None:
    """SECURITY: ASVS 5 7.5.2, 7.4.3, 7.4.5."""
    laptop, phone = await house.visitor(user="ann"), await house.visitor(user="ann")
    stranger = await house.visitor(user="bob")
    async with house.request(laptop) as (session, _):
        session.label = "Laptop"
    other = StorageOverseer(Cart, house.storer, namespace="other", clock=house.clock.now)
    async with Visitor().visit() as visit:
        elsewhere = await other.get(visit.request)
        elsewhere.set_user("ann")
        await other.save(elsewhere, visit.response)
    infos = await house.store.user_sessions("ann")
    assert sorted(info.label or "" for info in infos) == ["", "Laptop"]
    assert {info.name for info in infos} == {"app"}
    handle = (await house.session_of(phone)).handle
    assert not await house.store.delete(handle, user_id="bob"), "somebody else's session was ended"
    assert not await house.store.delete("../" * 7 + "A", user_id="ann")
    assert await house.store.delete(handle, user_id="ann")
    assert not await house.store.delete(handle, user_id="ann")
    assert (await house.session_of(phone)).is_new
    phone = await house.visitor(user="ann")
    async with house.request(laptop) as (session, _):
        assert await house.store.delete_user_sessions("ann", keep=session) == 1
    assert (await house.session_of(phone)).is_new
    assert (await house.session_of(laptop)).user_id == "ann"
    assert await house.store.delete_user_sessions("ann") == 1
    assert (await house.session_of(laptop)).is_new
    assert (await house.session_of(stranger)).user_id == "bob"
    assert len(await other.user_sessions("ann")) == 1


async def test_a_user_with_expired_sessions_sees_the_live_ones(house: House) -> None:
    """S9, X1: the overseer's own deadline counts, also where the storer has not noticed yet."""
    await house.visitor(user="ann")
    await house.clock.advance(86_400 * 2)
    await house.visitor(user="ann")
    assert len(await house.store.user_sessions("ann")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": math.nan},
        {"seen_at": math.nan},
        {"seen_at": math.inf},
        {"seen_at": -1.0},
        {"created_at": 1e300},
        {"version": -1},
        {"version": 2**63},
        {"meta": {"ends_at": math.nan}},
        {"meta": {"updated_at": math.inf}},
        {"meta": {"secrets": Secrets(epoch=2**64 - 1)}},
        {"meta": {"lineage": bytes(9)}},
    ],
    ids=str,
)
async def test_a_record_that_this_library_did_not_write_so_is_a_new_session(
    house: House, change: dict[str, Any]
) -> None:
    """F13: a time that no clock says would live for ever, or raise in the handler that looks at it."""
    visitor = await house.visitor(user="ann")
    ((key, record),) = await house.storer.list_by_owner("ann")
    meta = Meta.unpack(record.meta)
    assert meta is not None
    if "meta" in change:
        change = {"meta": structs.replace(meta, **change["meta"]).pack()}
    house.storer.found[key] = structs.replace(record, **change)
    assert (await house.session_of(visitor)).is_new
    assert house.kinds == ["rejected"]
    assert house.events[-1].reason == "unreadable"
    assert await house.store.user_sessions("ann") == []


async def test_a_storer_without_an_index_says_who_has_one() -> None:
    """UnsupportedError."""

    class Plain:
        """Only what Storer asks for."""

        async def read(self, key: str) -> Record | None: ...
        async def create(self, key: str, record: Record) -> bool: ...  # type: ignore[empty-body]  # never called
        async def replace(self, key: str, record: Record, *, version: int) -> bool: ...  # type: ignore[empty-body]  # as above
        async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool: ...  # type: ignore[empty-body]  # as above
        async def delete(self, key: str, *, version: int | None = None) -> bool: ...  # type: ignore[empty-body]  # as above

    store: StorageOverseer[Cart] = StorageOverseer(Cart, Plain())
    with pytest.raises(UnsupportedError, match="PostgresStorer"):
        await store.user_sessions("ann")


# sockets and jobs


@pytest.mark.parametrize("end", ["destroy", "regenerate", "delete_user_sessions", "expire"])
async def test_a_socket_is_told_that_its_session_ended(house: House, end: str) -> None:
    """R12, ASVS 5 7.4.1: destroyed, rotated away, ended by the user, expired; not by a mere write."""
    visitor = await house.visitor(user="ann")
    socket = await house.session_of(visitor)
    async with house.request(visitor) as (session, _):
        session.value.note = "a write elsewhere ends nothing"
    assert await house.store.is_live(socket)
    if end == "expire":
        await house.clock.advance(86_400)
    elif end == "delete_user_sessions":
        await house.store.delete_user_sessions("ann")
    else:
        async with house.request(visitor) as (session, _):
            getattr(session, end)()
    with anyio.fail_after(5):
        await session_ended(house.store, socket, poll=timedelta(milliseconds=1))


async def test_a_socket_waits_while_its_session_lives(house: House) -> None:
    """R12: and use elsewhere keeps it alive."""
    visitor = await house.visitor()
    socket = await house.session_of(visitor)
    for _ in range(3):
        await house.clock.advance(80_000)
        await house.session_of(visitor)
    with anyio.move_on_after(0.01) as scope:
        await session_ended(house.store, socket, poll=timedelta(milliseconds=1))
    assert scope.cancelled_caught
    with pytest.raises(ConfigError, match="poll"):
        await session_ended(house.store, socket, poll=timedelta(0))


async def test_a_job_acts_on_a_session_without_a_request(house: House) -> None:
    """`open`: by handle and user; such a session can set no token."""
    visitor = await house.visitor(user="ann")
    handle = (await house.session_of(visitor)).handle
    job = await house.store.open(handle, user_id="ann")
    job.value.items.append("from a job")
    job.flash("done")
    await house.store.save(job)
    await house.store.update(job, lambda cart: cart.items.append("again"))
    session = await house.session_of(visitor)
    assert session.value.items == ["from a job", "again"]
    assert [flash.message for flash in session.flashes()] == ["done"]
    job.regenerate()
    with pytest.raises(ResponseStartedError):
        await house.store.save(job)
    for wrong, user in ((handle, "bob"), ("A" * 22, "ann"), ("../x", "ann")):
        with pytest.raises(NoSessionError):
            await house.store.open(wrong, user_id=user)
    await house.clock.advance(86_400)
    with pytest.raises(NoSessionError):
        await house.store.open(handle, user_id="ann")


# failures


async def test_a_failing_backend_is_never_a_silent_logout(house: House) -> None:
    """Store.get: StorerError with its cause; then the same store works."""
    visitor = await house.visitor()
    house.storer.failing = {"read"}
    async with visitor.visit() as visit:
        with pytest.raises(StorerError) as caught:
            await house.store.get(visit.request)
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        house.storer.failing = set()
        assert not (await house.store.get(visit.request)).is_new
    assert house.kinds == ["store_failed"]


async def test_a_page_may_go_on_without_its_session() -> None:
    """on_storer_error="new": such a session is degraded and saving it raises instead of overwriting anything."""
    house = House(on_storer_error="new")
    visitor = await house.visitor()
    house.storer.failing = {"read"}
    async with visitor.visit() as visit:
        session = await house.store.get(visit.request)
        assert session.is_degraded
        await house.store.save(session, visit.response)
        house.storer.failing = set()
        session.value.note = "overwritten"
        with pytest.raises(StorerError):
            await house.store.save(session, visit.response)
        assert visit.sent == []
    assert (await house.session_of(visitor)).value.note == "first"


async def test_an_event_function_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Its exceptions are logged and swallowed."""

    def broken(event: Event) -> None:
        raise RuntimeError(event.kind)

    house = House(on_event=broken)
    async with house.request(Visitor()) as (session, _):
        session.value.note = "a"
    assert "on_event raised" in caplog.text


async def test_log_lines_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    """F12, V8: user text is escaped and bounded, tokens do not appear."""
    caplog.set_level("DEBUG", logger="aiosessions")
    house = House()
    visitor = Visitor()
    async with house.request(visitor) as (session, _):
        session.set_user("ann\nCRITICAL forged" + "x" * 200)
        session.label = "label\nforged"
    assert "\nCRITICAL" not in caplog.text
    assert not any(token in caplog.text for token in visitor.tokens.values())


async def test_cancellation_anywhere_leaves_the_session_usable(house: House) -> None:
    """S14 for the store: a cancelled load or save is tried again by the next."""
    visitor = await house.visitor()
    async with visitor.visit() as visit:
        for call in ("read", "replace"):
            house.storer.before[call] = anyio.sleep_forever
            with anyio.move_on_after(0.01) as scope:
                session = await house.store.get(visit.request)
                session.value.note = "changed"
                await house.store.save(session, visit.response)
            assert scope.cancelled_caught
        session = await house.store.get(visit.request)
        await house.store.save(session, visit.response)
    assert (await house.session_of(visitor)).value.note == "changed"


# opening


async def test_a_store_that_nobody_opened_says_so_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """DESIGN 3."""
    for _ in range(3):
        await house.visitor()
    assert [record.message for record in caplog.records if "not swept" in record.message] == [caplog.records[0].message]


async def test_an_opened_store_is_quiet(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """DESIGN 3: also for a second store on a storer that another one holds open."""
    second = StorageOverseer(Cart, house.storer, name="second")
    async with house.store:
        await house.visitor()
        async with Visitor().visit() as visit:
            session = await second.get(visit.request)
            session.value.note = "a"
            await second.save(session, visit.response)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("on_conflict", "ours"),
        ("on_storer_error", "ignore"),
        ("on_reuse", "log"),
        ("max_size", 0),
        ("clean_every", timedelta(0)),
        ("lifetime", timedelta(1)),
        ("name", "a b"),
        ("namespace", "a:b"),
    ],
)
def test_a_wrong_argument_is_named(option: str, value: object) -> None:
    """F10."""
    with pytest.raises(ConfigError, match=option):
        House(**{option: value})


def test_a_token_that_cannot_travel_is_found_out_at_construction() -> None:
    """R11: not when the headers leave."""
    narrow = CookieTransport(CookieOptions(max_bytes=512))
    House(transport=narrow)
    with pytest.raises(ConfigError, match="sealer"):
        House(transport=narrow, sealer=JWTSealer(new_key(), issuer="x" * 300))


@pytest.mark.parametrize(
    "options",
    [
        {"idle": timedelta(0)},
        {"idle": timedelta(-1)},
        {"absolute": timedelta(days=401)},
        {"idle": 3600},
        {"cookie": "forever"},
        {"cookie": timedelta(milliseconds=5)},
        {"cookie": "persistent", "absolute": None},
        {"idle": HOUR, "touch": HOUR},
        {"grace": timedelta(-1)},
        {"rotate": timedelta(0)},
    ],
)
def test_a_lifetime_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    """F10."""
    with pytest.raises(ConfigError):
        Lifetime(**options)


def test_the_presets_are_what_nist_asks() -> None:
    """SECURITY: NIST SP 800-63B-4."""
    assert (Lifetime.nist_aal2().idle, Lifetime.nist_aal2().absolute) == (HOUR, 24 * HOUR)
    assert (Lifetime.nist_aal3().idle, Lifetime.nist_aal3().absolute) == (HOUR / 4, 12 * HOUR)
    assert Lifetime.remember_me().cookie == "persistent"
