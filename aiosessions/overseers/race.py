"""The one loop that puts a write over whatever is stored, never over somebody else's."""

import random
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple
from weakref import WeakValueDictionary

import anyio

from aiosessions._errors import ConflictError, SessionTooLargeError, StorerError, UnsupportedError
from aiosessions._lifetime import Lifetime
from aiosessions._place import Place
from aiosessions._state import Meta, State, Wishes, advance
from aiosessions._tokens import Token, new_secret, new_token, new_version
from aiosessions.overseers.backend import Backend
from aiosessions.storers.storer import Record

__all__ = ["META_BYTES", "RACE_SECONDS", "Made", "Race", "Won"]

RACE_SECONDS = 5.0
"""How long a write is tried again while others win."""
META_BYTES = 4096
"""More than a meta without flashes ever takes."""


class Made(NamedTuple):
    """What a write makes of the value that is stored.

    Args:
        data: the value from now on, encoded.
        is_changed: whether that is another one.
        spelling: which codec wrote it; 0: not known.
        fields: those that a merge had to decide.
        is_merged: whether it is more than the session's own value.
    """

    data: bytes
    is_changed: bool
    spelling: int = 0
    fields: tuple[str, ...] = ()
    is_merged: bool = False

    def __repr__(self) -> str:  # tracebacks may show local variables: no value
        return f"Made(is_changed={self.is_changed})"


class Won(NamedTuple):
    """The write that stands.

    Args:
        state: what is stored now.
        made: what it made of the value; None: an earlier try of ours had been applied, and others wrote over it.
        digest: of the new secret; None: none was made, or others have ended it already.
        sealed: the token that the client gets; "" where it keeps its own.
        is_created: whether there was nothing before.
        forgot: whether a secret had to be forgotten that its grace still covers.
    """

    state: State
    made: Made | None
    digest: bytes | None
    sealed: str
    is_created: bool
    forgot: bool = False

    def __repr__(self) -> str:  # tracebacks may show local variables: no token
        return f"Won({self.state!r})"


class Bid(NamedTuple):
    """What is to be written, whatever is stored.

    Args:
        place: where.
        wishes: what else the handler asked for.
        value_over: makes the value, over a state; raises what says that it cannot.
        seal: makes the text that the client gets of a token, once it is known what is stored with it.
        presented: the digest of the secret that the request brought.
        can_tell: whether a new token can still reach the client.
        stale: the newest token, sealed under an older key: sent again with the write, if it is still the newest.
        is_update: a write that failed is tried once more, so that one lost answer does no harm; and what changes
            nothing is not written.
    """

    place: Place
    wishes: Wishes
    value_over: Callable[[State], Made]
    seal: Callable[[Token, State], str]
    presented: bytes
    can_tell: bool
    stale: Token | None = None
    is_update: bool = False

    def __repr__(self) -> str:  # tracebacks may show local variables
        return f"Bid({self.place!r})"


class Race:
    """Writes sessions of one store.

    Args:
        backend: of the store.
        limit: of value and meta, in bytes; None: none.
    """

    __slots__ = ("_backend", "_turns", "limit")

    def __init__(self, backend: Backend, limit: int | None) -> None:
        self._backend = backend
        self.limit: int | None = limit
        self._turns: WeakValueDictionary[tuple[int, str], anyio.Lock] = WeakValueDictionary()

    async def write(self, bid: Bid, over: State) -> Won | None:
        """Put it over *over*, or else over the newest, until it wins.

        Args:
            bid: what to write.
            over: what this request read; without a handle: nothing is stored.

        Returns:
            The write that stands; None: the session is gone or of another epoch, and stays as it is.

        Raises:
            ConflictError: *value_over* says so, or others won for five seconds.
            StorerError: the backend failed; whether it wrote is unknown.
        """
        if over.handle:
            won, tried = await self._try(bid, over)
            if won is not None:
                return won
            newest = await self.newest(bid.place, over)
            if newest is not None and newest.descends_from(tried.won.state.version):
                return self._applied(tried.won, newest)  # looked for at once: later too many may have followed
            if newest is not None:
                async with self._turn(bid.place.key(over.handle)):
                    won = await self._catch_up(bid, over, tried)
            if won is not None or not bid.wishes.is_login:
                return won
            # a login whose record is gone is a session of its own; it takes along what this request saw of it
            over = State.blank(over.value, self._backend.now(), Meta(label=over.meta.label, flashes=over.meta.flashes))

        for _ in range(3):  # 144 random bits are taken once in the life of the universe; a broken backend may say so
            won, _ = await self._try(bid, over)
            if won is not None:
                return won
        raise StorerError(f"session {bid.place.name!r}: the backend says that three new random keys are taken")

    def check(self, bid: Bid, over: State) -> None:
        """Raise whatever speaks against the write as far as this request knows; asks no backend."""
        self._compose(bid, over, bid.value_over(over))

    async def _catch_up(self, bid: Bid, over: State, tried: "_Try") -> Won | None:
        """Somebody was faster: make it over the newest, and try again until it wins."""
        deadline = anyio.current_time() + RACE_SECONDS
        attempt = 0
        while True:
            attempt += 1
            await anyio.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.1)))  # noqa: S311  # jitter, no secret
            newest = await self.newest(bid.place, over)
            if newest is None:
                return None
            if newest.descends_from(tried.won.state.version):  # its answer got lost, and others wrote over it
                return self._applied(tried.won, newest)
            if tried.doubt is not None and not newest.descends_from(tried.base.version):
                raise tried.doubt  # others have written so often since that nobody can tell
            if anyio.current_time() >= deadline:
                raise ConflictError(f"session {bid.place.name!r}: others won for {RACE_SECONDS:.0f} seconds; try again")

            won, tried = await self._try(bid, newest)
            if won is not None:
                return won

    async def newest(self, place: Place, loaded: State) -> State | None:
        """What is stored now; None if our token means nothing any more."""
        state, _ = await self._backend.read(place, loaded.handle)
        return state if state is not None and state.meta.epoch == loaded.meta.epoch else None

    async def _try(self, bid: Bid, over: State) -> tuple[Won | None, "_Try"]:
        """One write, over one state: composed and sealed before anything is sent."""
        made = bid.value_over(over)
        if bid.is_update and not made.is_changed:
            won = Won(over, made, None, "", is_created=False)
            return won, _Try(won, over)

        try:
            won, record = self._compose(bid, over, made)
        except UnsupportedError:  # no token can be sealed, and none has to be: the session keeps the one that it has
            if not over.handle or bid.wishes.rotations:
                raise
            won, record = self._compose(bid._replace(can_tell=False), over, made)
        key = bid.place.prefix + won.state.handle
        if won.is_created:
            is_done = await self._backend.storer.create(key, record)
            return (won if is_done else None), _Try(won, over)

        doubt: StorerError | None = None
        try:
            is_done = await self._backend.storer.replace(key, record, version=over.version)
        except StorerError as error:
            if not bid.is_update:
                raise
            doubt = error
            is_done = await self._backend.storer.replace(
                key, record, version=over.version
            )  # the version proves if it was
        return (won if is_done else None), _Try(won, over, doubt)

    def _compose(self, bid: Bid, over: State, made: Made) -> tuple[Won, Record]:
        now, place = self._backend.now(), bid.place
        meta = over.meta
        lifetime = self._backend.lifetime if meta.lifetime is None else self._backend.lifetime_of(over)
        token = None
        if bid.wishes.rotations or lifetime.rotate is not None or not over.handle:
            token = self._next_token(bid, over, lifetime, now)
        digest = None if token is None else place.digest(token.secret)
        state = advance(
            over,
            bid.wishes,
            made.data,
            lifetime=self._backend.lifetime,
            now=now,
            handle=over.handle if token is None else token.handle,
            is_changed=made.is_changed,
            version=new_version(),
            spelling=made.spelling,
            digest=digest,
            presented=bid.presented,
        )
        record = state.record(self._backend.lifetime)
        size = len(record.value) + len(record.meta)
        if self.limit is not None and size > self.limit:
            raise SessionTooLargeError(place.name, size=size, limit=self.limit, fix="raise max_size, or keep less")
        if token is None and bid.stale and bid.can_tell and over.meta.secrets.is_newest(bid.presented):
            token = bid.stale
        sealed = "" if token is None else bid.seal(token, state)
        won = Won(state, made, digest, sealed, not over.handle)
        if bid.wishes.rotations:
            grace = self._backend.lifetime_of(state).grace.total_seconds()
            won = won._replace(forgot=over.meta.secrets.is_full(grace=grace, now=now))
        return won, record

    @staticmethod
    def _next_token(bid: Bid, over: State, lifetime: Lifetime, now: float) -> Token | None:
        """A new one, or the same handle with a new secret, when one is due."""
        if not over.handle:
            return new_token()
        if bid.wishes.rotations or (bid.can_tell and over.meta.secrets.is_due(bid.presented, lifetime, now=now)):
            return Token(over.handle, new_secret())
        return None

    def _applied(self, won: Won, newest: State) -> Won:
        """An earlier try stands, under the writes of others; its secret may have been ended by them."""
        digest, sealed = won.digest, won.sealed
        if digest is not None:
            grace = self._backend.lifetime_of(newest).grace.total_seconds()
            if not newest.meta.secrets.opens(digest, grace=grace, now=self._backend.now()):
                digest, sealed = None, ""
        return Won(newest, None, digest, sealed, is_created=False)

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncGenerator[None]:
        """Those in this process who race for one session go one by one; a courtesy, and so not waited for for ever.

        Of many who try at once one wins, and the others have worked for nothing. With turns, a writer has only those of
        other processes against it.
        """
        where = threading.get_ident(), key  # each thread has an event loop of its own, and a lock belongs to one
        lock = self._turns.get(where)
        if lock is None:
            lock = self._turns[where] = anyio.Lock(fast_acquire=True)
        with anyio.move_on_after(RACE_SECONDS / 2) as waiting:
            await lock.acquire()
        try:
            yield
        finally:
            if not waiting.cancelled_caught:
                lock.release()


class _Try(NamedTuple):
    """A write that did not win, or whose answer got lost.

    Args:
        won: what it would have been.
        base: what it was to be written over.
        doubt: whether it was written is not known.
    """

    won: Won
    base: State
    doubt: StorerError | None = None
