"""A storer that fails and stops where a test says, and stores of every kind on it, for requests made by hand."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    Event,
    MemoryStorer,
    Merge,
    Record,
    Sealer,
    Session,
    SessionError,
    StorageOverseer,
    Store,
    StorerError,
    new_key,
)
from aiosessions.asgi import Connection, SessionMiddleware
from aiosessions.testing.suites_store import Visit, Visitor
from aiosessions.testing.suites_storer import MovableClock
from tests.facts import facts

__all__ = ["ALL", "ENDING", "REVOKING", "Cart", "FaultyStorer", "Gate", "Handler", "Scene", "adding", "noting"]

Handler = Callable[[Connection], Awaitable[None]]

REVOKING = ("revocable", "guarded")
"""Kinds of stores whose client-held sessions can be ended."""
ENDING = ("stored", *REVOKING)
"""Kinds of stores that can end a session."""
ALL = (*ENDING, "held")


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])
    tags: set[str] = field(default_factory=set[str])
    note: str = ""
    total: Annotated[int, Merge.ADD] = 0
    seal: Annotated[str, Merge.RAISE] = ""


def adding(item: str) -> Callable[[Cart], None]:
    """What an update does: append."""
    return lambda cart: cart.items.append(item)


def noting(text: str) -> Callable[[Cart], None]:
    """What an update does: set the note."""
    return lambda cart: setattr(cart, "note", text)


class Gate:
    """Where a task stops until the test says go.

    Attributes:
        reached: somebody stands before it, or will never come.
    """

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self._opened = anyio.Event()

    async def passed(self) -> None:
        self.reached.set()
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()


class FaultyStorer(MemoryStorer):
    """A MemoryStorer that counts its calls, and fails or stops where a test says.

    Attributes:
        calls: how often each method was called.
        asked: the keys of all calls.
        failing: the methods that raise, before they do anything.
        error: what they raise: a StorerError, or what a driver raised and nobody mapped.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.calls: Counter[str] = Counter()
        self.asked: set[str] = set()
        self.failing: set[str] = set()
        self.error: type[Exception] = StorerError
        self._gates: list[tuple[frozenset[str], Gate]] = []

    def stop_at(self, *calls: str) -> Gate:
        """The next who makes one of these calls stops before it; those who come after go through."""
        gate = Gate()
        self._gates.append((frozenset(calls), gate))
        return gate

    async def _note(self, call: str, key: str) -> None:
        self.calls[call] += 1
        self.asked.add(key)
        if call in self.failing:
            raise self.error("the backend is away") from ConnectionResetError("on purpose")
        for entry in self._gates:
            if call in entry[0]:
                self._gates.remove(entry)
                await entry[1].passed()
                return

    async def read(self, key: str) -> Record | None:
        await self._note("read", key)
        return await super().read(key)

    async def create(self, key: str, record: Record) -> bool:
        await self._note("create", key)
        return await super().create(key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        await self._note("replace", key)
        return await super().replace(key, record, version=version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        await self._note("touch", key)
        return await super().touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        await self._note("delete", key)
        return await super().delete(key, version=version)

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        await self._note("list_by_owner", owner)
        return await super().list_by_owner(owner, prefix=prefix)

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        await self._note("delete_by_owner", owner)
        return await super().delete_by_owner(owner, prefix=prefix, keep=keep)


class Scene:
    """A store of one kind, its storer, its clock and its events; and requests, by hand or through the middleware.

    Args:
        kind: "stored" is a StorageOverseer, "held" a CookieOverseer, "revocable" one with revocations, "guarded" one
            with replay protection too.
        value_type: of the store.
        options: of the store.
    """

    def __init__(
        self,
        kind: str = "stored",
        value_type: Any = Cart,  # Any: a type
        **options: Any,  # Any: each option has a type of its own
    ) -> None:
        self.kind = kind
        self.clock = MovableClock()
        self.storer = FaultyStorer(self.clock.now)
        self.events: list[Event] = []
        self.sealer: Sealer = AESGCMSealer(new_key())
        self.store = self.another(value_type, **options)

    def another(self, value_type: Any, **options: Any) -> Any:  # Any: an overseer of either kind, of any type
        """A store on the same backend, with the same keys: another process, or another version of the application."""
        options = {"on_event": facts(self.events), "clock": self.clock.now, **options}
        match self.kind:
            case "stored":
                return StorageOverseer(value_type, self.storer, **options)
            case "revocable":
                return CookieOverseer(value_type, self.sealer, revocations=self.storer, **options)
            case "guarded":
                options["replay_protection"] = True
                return CookieOverseer(value_type, self.sealer, revocations=self.storer, **options)
            case _:
                return CookieOverseer(value_type, self.sealer, **options)

    @property
    def kinds(self) -> list[str]:
        """What happened, but for reads."""
        return [event.kind for event in self.events if event.kind not in ("loaded", "touched")]

    @asynccontextmanager
    async def request(
        self, visitor: Visitor, store: Any = None
    ) -> AsyncGenerator[tuple[Session[Any], Visit]]:  # Any: of the store's type
        """A session whose changes are saved at the end; the visitor keeps what the response said."""
        store = store or self.store
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            yield session, visit
            await store.save(session, visit.response)

    async def visitor(self, *, user: str | None = None, store: Any = None) -> Visitor:  # Any: see another()
        """Somebody with a stored session."""
        visitor = Visitor()
        async with self.request(visitor, store) as (session, _):
            if hasattr(session.value, "note"):
                session.value.note = "first"
            else:
                session.flash("first")
            if user is not None:
                session.set_user(user)
        self.storer.calls.clear()
        self.events.clear()
        return visitor

    async def end(self, visitor: Visitor, how: str = "destroy") -> None:
        """Log out, in one request that is confirmed: "destroy" this session, or all of ann's."""
        if how == "delete_user_sessions":
            await self.store.delete_user_sessions("ann")
            return
        async with self.request(visitor) as (session, _):
            assert not session.is_new
            session.destroy()

    async def session_of(self, visitor: Visitor, store: Any = None) -> Session[Any]:  # Any: see another()
        """What a visitor's token gives now."""
        async with visitor.copy().visit() as visit:
            session: Session[Any] = await (store or self.store).get(visit.request)
            return session

    async def is_alive(self, visitor: Visitor, store: Any = None) -> bool:  # Any: see another()
        """Whether a visitor's token opens a session."""
        return not (await self.session_of(visitor, store)).is_new

    async def stored(self) -> list[str]:
        """The keys of all live records."""
        return [key async for key in self.storer.keys()]  # noqa: SIM118  # no dict

    async def serve(
        self,
        visitor: Visitor,
        handler: Handler,
        *,
        on_error: Callable[[SessionError], object] = lambda _: None,
        refresh: Sequence[Store[Any]] = (),  # Any: of any types
    ) -> int:
        """One request through the ASGI middleware, answered with 200 unless a save fails.

        Args:
            visitor: keeps what the response said.
            handler: what it raises goes on.
            on_error: what the application does with an error of the save, which it sees when it sends.
            refresh: of the middleware.

        Returns:
            The status.
        """
        statuses: list[int] = []

        async def page(scope: Any, receive: Any, send: Any) -> None:  # Any: what ASGI hands around
            await handler(Connection(scope))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            except SessionError as error:
                on_error(error)
                raise
            await send({"type": "http.response.body", "body": b""})

        async with visitor.visit() as visit:

            async def send(message: Any) -> None:  # Any: as above
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    for name, value in message["headers"]:
                        visit.response.headers.add(name.decode(), value.decode())

            try:
                await SessionMiddleware(page, refresh=refresh)(visit.request.scope, anyio.sleep_forever, send)
            finally:
                visitor.keep(visit)
        return statuses[0]
