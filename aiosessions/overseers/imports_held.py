"""Imports into what clients hold: with revocations the mark of a token says what was made of it."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from aiosessions._errors import StorerError
from aiosessions._events import Reporter
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._session import Session
from aiosessions._state import Ending, Meta, State, Wishes
from aiosessions.overseers.loading import Blank
from aiosessions.overseers.origins import Foreign, Marks, Renamed
from aiosessions.storers.storer import Storer
from aiosessions.transports.transport import Carried

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, str | None, bytes]).decode


class _Load(Protocol[T]):
    """How a store loads a session, from its token or from its state."""

    async def __call__(
        self,
        place: Place,
        carried: Carried,
        reply: Reply,
        *,
        touch: bool,
        state: State | None = ...,
        ended: tuple[Ending, ...] = ...,
        wishes: Wishes | None = ...,
    ) -> Session[T]: ...


class HeldImports(Generic[T]):
    """See `Home`.

    Args:
        load: of the store.
        opened: what the token of a place says.
        deny: ends a session for every copy of its token.
        storer: of the revocations; None: there are none.
        ready: opens it.
        blank: makes a new session.
        namespace: of the store.
        now: unix seconds.
        report: where events go.
    """

    def __init__(
        self,
        load: _Load[T],
        opened: Callable[[Place, Carried], State | None],
        deny: Callable[[Place, Ending], Awaitable[object]],
        storer: Storer | None,
        ready: Callable[[], Awaitable[None]],
        blank: Blank[T],
        namespace: str,
        now: Callable[[], float],
        report: Reporter,
    ) -> None:
        self._load = load
        self._opened = opened
        self._deny = deny
        self._ready = ready
        self.marks: Marks | None = None if storer is None else Marks(storer, namespace, now)
        self._blank = blank
        self._now = now
        self._report = report

    async def load(self, place: Place, carried: Carried, reply: Reply, *, touch: bool) -> Session[T]:
        """See `Home.load`."""
        return await self._load(place, carried, reply, touch=touch)

    # what other software left

    def pack(self, made: State) -> bytes:
        """See `Remembering.pack`."""
        what: tuple[Any, ...] = (made.value, made.owner, made.meta.pack())
        return _encode(what)

    def unpack(self, handle: str, made: bytes) -> State | None:
        """See `Remembering.unpack`."""
        try:
            value, owner, packed = _decode(made)
        except msgspec.MsgspecError:
            return None
        meta = Meta.unpack(packed)
        if meta is None or meta.held is None:
            return None
        return State(handle, value, owner, meta.held.created_at, meta.held.seen_at, 0, meta, self._now())

    async def undo(self, place: Place, handle: str, made: State | None) -> None:  # noqa: ARG002  # the mark says it
        """See `Remembering.undo`."""
        if made is not None:
            await self._deny(place, Ending(made, is_wanted=True, is_anyhow=True))

    async def again(
        self, place: Place, carried: Carried, reply: Reply, origin: Foreign, *, touch: bool
    ) -> Session[T] | None:
        """See `Home.again`."""
        if self.marks is None:
            return None
        await self._ready()
        made = await self.marks.read(origin.handle)
        if made is None:
            return None
        state = self.unpack(origin.handle, made)
        if state is None:
            self._report.note("rejected", place.name, origin.handle, reason="imported before")
            return self._blank(place, carried, reply)
        origin.standing = "others"
        return await self._load(place, carried, reply, touch=touch, state=state, ended=(Ending(None, origin=origin),))

    def unread(
        self, place: Place, carried: Carried, reply: Reply, error: StorerError, ended: tuple[Ending, ...]
    ) -> Session[T]:
        """See `Home.unread`."""
        del place, carried, reply, ended
        raise error

    # what was ours under an older name

    async def renamed(
        self, place: Place, carried: Carried, reply: Reply, older: Place, theirs: Carried
    ) -> Session[T] | None:
        """See `Home.renamed`. Without revocations the id stays: nothing can end it."""
        state = self._opened(older, theirs)
        if state is None:
            return None
        wishes = Wishes(origin=Renamed(older, Ending(state), self._deny))
        found = await self._load(place, carried, reply, touch=False, state=state, wishes=wishes)
        return found if found.handle else None

    def unproven(self, older: Place, token: str) -> Renamed:
        """See `Home.unproven`."""
        return Renamed(older, Ending(None, token), self._deny)
