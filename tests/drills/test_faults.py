"""A visit from the first page to the logout, once for each backend call and each way in which that call can fail."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

import anyio
import anyio.lowlevel
import pytest

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    Lifetime,
    MemoryStorer,
    Record,
    Session,
    StorageOverseer,
    StorerError,
    new_key,
)
from aiosessions.asgi import Connection, SessionMiddleware
from aiosessions.testing import Browser
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock

pytestmark = pytest.mark.anyio

R = TypeVar("R")
NOT_DONE = ("error before", "cancelled before")
KINDS = (*NOT_DONE, "error after", "sent again", "time-out", "cancelled after")
COOKIE = "__Host-app"


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])


class FaultyStorer(MemoryStorer):
    """One of its calls fails.

    Attributes:
        calls: how many there were.
        fails_at: which of them fails; -1: none.
        kind: how. "error": with a StorerError; "sent again": the answer got lost, and the driver has sent it twice;
            "time-out": with a StorerError, and the server does it later; "cancelled": the request is.
        request: whom to cancel.
        has_failed: whether it did.
    """

    def __init__(self, clock: Callable[[], float], fails_at: int = -1, kind: str = "") -> None:
        super().__init__(clock=clock)
        self.calls = 0
        self.fails_at = fails_at
        self.kind = kind
        self.request = anyio.CancelScope()
        self.has_failed = False
        self._late: Callable[[], Awaitable[object]] | None = None

    async def read(self, key: str) -> Record | None:
        return await self._call(partial(super().read, key))

    async def create(self, key: str, record: Record) -> bool:
        return await self._call(partial(super().create, key, record))

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await self._call(partial(super().replace, key, record, version=version))

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        return await self._call(partial(super().touch, key, seen_at=seen_at, expires_at=expires_at))

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self._call(partial(super().delete, key, version=version))

    async def _call(self, do: Callable[[], Awaitable[R]]) -> R:
        late, self._late = self._late, None
        if late is not None:
            await late()
        self.calls += 1
        if self.calls - 1 != self.fails_at:
            return await do()

        self.has_failed = True
        if self.kind == "time-out":
            self._late = do
            raise StorerError("no answer") from TimeoutError()
        if not self.kind.endswith("before"):
            await do()
        if self.kind == "sent again":
            return await do()
        if self.kind.startswith("error"):
            raise StorerError("the connection is gone") from ConnectionResetError()
        self.request.cancel()
        await anyio.lowlevel.checkpoint()
        raise AssertionError("a cancelled request went on")


class Seen(NamedTuple):
    """What a token opens."""

    is_new: bool
    items: frozenset[str]
    user: str | None


class Visit:
    """One browser, one application, and what must be true.

    Attributes:
        items: what was confirmed to be in the cart.
        open_items: what may be there.
        user: who was confirmed to be logged in.
        is_stored: whether there was confirmed to be a session.
        dead: tokens that must open nothing any more.
    """

    STEPS = (
        *("add", "update", "flash", "log in", "add", "rotate", "take", "later", "add", "log out"),
        *("add", "log in", "log out"),
    )
    IDENTITY = ("log in", "rotate", "log out")

    def __init__(self, make_store: Callable[..., Any], fails_at: int = -1, kind: str = "") -> None:
        self.clock = MovableClock()
        self.storer = FaultyStorer(self.clock.now, fails_at, kind)
        self.store = make_store(self.storer, clock=self.clock.now)
        self.action = ""
        self.number = 0
        self.browser = Browser(SessionMiddleware(self._app), raise_app_exceptions=False, clock=self.clock.now)
        self.items: set[str] = set()
        self.open_items: set[str] = set()
        self.user: str | None = None
        self.is_stored = False
        self.dead: set[str] = set()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        session = await self.store.get(Connection(scope))
        await self._act(session)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def _act(self, session: Session[Cart]) -> None:
        item = f"item{self.number}"

        def add(cart: Cart) -> None:
            cart.items.append(item)

        match self.action:
            case "add":
                session.value.items.append(item)
            case "update":
                await self.store.update(session, add)
            case "flash":
                session.flash("hello")
            case "take":
                session.flashes()
            case "log in":
                session.set_user("ann")
            case "rotate":
                session.regenerate()
            case "log out":
                session.destroy()
            case _:
                pass

    @property
    def token(self) -> str:
        return self.browser.cookies.get(COOKIE) or ""

    async def run(self) -> None:
        for number, action in enumerate(self.STEPS):
            self.number, self.action = number, action
            if action == "later":
                await self.clock.advance(3600)  # the next read touches
            before, failed = self.token, self.storer.has_failed
            status = await self._request()
            if failed or not self.storer.has_failed:
                assert status == 200, f"{self.about}: the next request does not work"
            await self._check(before, is_done=status == 200)

    @property
    def about(self) -> str:
        return f"{self.storer.kind} at call {self.storer.fails_at}, step {self.number} ({self.action})"

    async def _request(self) -> int:
        with anyio.CancelScope() as self.storer.request:
            return (await self.browser.get("/")).status
        return 0

    async def _check(self, before: str, *, is_done: bool) -> None:
        seen = await self.look(self.token)
        if self.token not in ("", before):
            assert not seen.is_new, f"{self.about}: the cookie names a record that was not written"
        if is_done:
            self._do(before)
        elif self.action not in self.IDENTITY:
            self.open_items.add(f"item{self.number}")
        elif seen.is_new:
            # a logout is carried out also where the request is cancelled, and nobody hears the answer
            cleared = self.action == "log out" and (not self.token or "cancelled" in self.storer.kind)
            assert cleared or self.storer.kind not in NOT_DONE or not self.is_stored, f"{self.about}: it was not done"
            if cleared:
                self.dead.add(before)
            self._start_anew()
            await self.clock.advance(31)  # until then a request with the token of before is not taken for a new visitor
        else:
            assert seen.user in (self.user, "ann"), self.about
            self.user = seen.user

        assert seen.is_new or self.items <= seen.items <= self.items | self.open_items, f"{self.about}: {seen}"
        assert not self.is_stored or not seen.is_new, f"{self.about}: the session is lost"
        assert seen.user == self.user, f"{self.about}: {seen.user} is logged in"
        for token in self.dead - {""}:
            assert (await self.look(token)).is_new, f"{self.about}: a dead token opens a session"

    def _do(self, before: str) -> None:
        if self.action in ("add", "update"):
            self.items.add(f"item{self.number}")
        if self.action in ("add", "update", "flash", "log in"):
            self.is_stored = True
        if self.action in self.IDENTITY and self.token != before:
            self.dead.add(before)
        if self.action == "log in":
            self.user = "ann"
        if self.action == "log out":
            self._start_anew()

    def _start_anew(self) -> None:
        self.items, self.open_items, self.user, self.is_stored = set(), set(), None, False

    async def look(self, token: str) -> Seen:
        """What it opens, without a fault."""
        calls, self.storer.calls = self.storer.calls, -1000
        request = Connection(
            {"type": "http", "scheme": "https", "headers": [(b"cookie", f"{COOKIE}={token}".encode())]}
        )
        session = await self.store.get(request, touch=False)
        self.storer.calls = calls
        return Seen(session.is_new, frozenset(session.value.items), session.user_id)


def held_by_the_client(storer: FaultyStorer, **options: Any) -> CookieOverseer[Cart]:  # Any: of many types
    return CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=storer, **options)


STORES: dict[str, Callable[..., Any]] = {  # Any: overseers of both kinds
    "storage": partial(StorageOverseer, Cart),
    "rotating": partial(StorageOverseer, Cart, lifetime=Lifetime(rotate=timedelta(minutes=30))),
    "cookie": held_by_the_client,
    "replay": partial(held_by_the_client, replay_protection=True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make_store", STORES.values(), ids=STORES)
async def test_whichever_call_fails_the_contract_holds(make_store: Callable[..., Any], kind: str) -> None:
    """R8, R11, S13, S14, F4: no failure is swallowed, nothing confirmed is lost, nothing dead is alive."""
    whole = Visit(make_store)
    await whole.run()
    assert whole.storer.calls > 10
    for fails_at in range(whole.storer.calls):
        visit = Visit(make_store, fails_at, kind)
        await visit.run()
        assert visit.storer.has_failed


class OverwrittenStorer(MemoryStorer):
    """Loses the answer to one `replace`; the driver sends it again when somebody else has written over it."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        done = await super().replace(key, record, version=version)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is None:
            return done
        await meanwhile()
        return await super().replace(key, record, version=version)


@pytest.mark.parametrize("updates", [False, True], ids=["save", "update"])
@pytest.mark.parametrize("others", [1, 3])
async def test_a_write_is_known_under_those_of_others(updates: bool, others: int) -> None:
    """S6, F3: what the driver sent twice is there once, and the response says so."""
    storer, visitor = OverwrittenStorer(), Visitor()
    here, elsewhere = StorageOverseer(Cart, storer), StorageOverseer(Cart, storer)

    async def add(store: StorageOverseer[Cart], item: str, *, updates: bool) -> None:
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            if updates:
                await store.update(session, lambda cart: cart.items.append(item))
                assert item in session.value.items
            else:
                session.value.items.append(item)
            await store.save(session, visit.response)

    async def add_others() -> None:
        for number in range(others):
            await add(elsewhere, f"other{number}", updates=number % 2 == 0)

    await add(here, "first", updates=False)
    storer.meanwhile = add_others
    await add(here, "ours", updates=updates)
    async with visitor.visit() as visit:
        items = (await here.get(visit.request)).value.items
    assert sorted(items) == ["first", *(f"other{number}" for number in range(others)), "ours"]


async def test_an_update_that_cannot_know_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """S13, F3: when others have written too often since the answer got lost, it is not made twice: StorerError."""
    monkeypatch.setattr("aiosessions._state._LINEAGE", 16)  # two versions
    storer, visitor = OverwrittenStorer(), Visitor()
    here, elsewhere = StorageOverseer(Cart, storer), StorageOverseer(Cart, storer)

    async def add(store: StorageOverseer[Cart], item: str) -> None:
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.value.items.append(item)
            await store.save(session, visit.response)

    async def add_many_and_fail() -> None:
        for number in range(5):
            await add(elsewhere, f"other{number}")
        raise StorerError("the connection is gone") from ConnectionResetError()

    await add(here, "first")
    async with visitor.visit() as visit:
        session = await here.get(visit.request)
        storer.meanwhile = add_many_and_fail
        with pytest.raises(StorerError):
            await here.update(session, lambda cart: cart.items.append("ours"))
    async with visitor.visit() as visit:
        assert (await here.get(visit.request)).value.items.count("ours") == 1
