"""From a token to the session that a storer keeps, or to the new one that takes its place."""

from typing import Generic, Literal, Protocol, TypeVar

from aiosessions._errors import DecodeError, StorerError
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._session import Session
from aiosessions._state import Ending, Standing, State
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.sealed import Sealed
from aiosessions.overseers.sliding import Sliding
from aiosessions.transports.transport import Carried
from aiosessions.values.codecs import CheckedCodec

T = TypeVar("T")


class Blank(Protocol[T]):
    """Makes a new session."""

    def __call__(
        self,
        place: Place,
        carried: Carried,
        reply: Reply,
        *,
        standing: Standing = ...,
        ended: tuple[Ending, ...] = ...,
    ) -> Session[T]: ...


class Loading(Generic[T]):
    """Reads sessions of one store.

    Args:
        backend: of the store.
        codec: likewise.
        sealed: what the texts of clients mean.
        sliding: which of them are sent again.
        make: the store's kind of session.
        blank: makes a new one.
        on_storer_error: see StorageOverseer.
        on_reuse: likewise.
    """

    def __init__(
        self,
        backend: Backend,
        codec: CheckedCodec[T],
        sealed: Sealed,
        sliding: Sliding,
        make: type[Session[T]],
        blank: Blank[T],
        on_storer_error: Literal["raise", "new"],
        on_reuse: Literal["ignore", "destroy"],
    ) -> None:
        self._backend = backend
        self._storer = backend.storer
        self._codec = codec
        self._sealed = sealed
        self._sliding = sliding
        self._make = make
        self._blank = blank
        self._report = backend.report
        self._on_storer_error = on_storer_error
        self._on_reuse = on_reuse

    async def load(  # noqa: C901, PLR0912  # guard after guard, in one coroutine: every request passes here
        self, place: Place, carried: Carried, reply: Reply, *, touch: bool
    ) -> Session[T]:
        """The session of the token that came; a bad one never raises.

        Raises:
            StorerError: the backend failed, and `on_storer_error` says so.
        """
        token = self._sealed.token(place, carried) if carried.present else None
        if token is None:
            return self._blank(place, carried, reply)

        try:
            if not self._backend.holder.is_open:
                await self._backend.holder.ready()
            record = await self._storer.read(place.prefix + token.handle)
        except StorerError as error:
            self._report.note("store_failed", place.name, token.handle, reason=type(error.__cause__).__name__)
            if self._on_storer_error == "raise":
                raise
            return self._blank(place, carried, reply, standing="unread", ended=_unproven(carried))
        except DecodeError as error:  # it does not open: see EncryptedStorer
            self._report.unreadable(place.name, token.handle, None, error)
            return self._blank(place, carried, reply, ended=_unproven(carried))

        if record is None:
            self._report.note("rejected", place.name, token.handle, reason="unknown")
            return self._blank(place, carried, reply)
        now = self._backend.now()
        state = State.of(record, token.handle, now=now)
        if state is None:
            self._report.note("rejected", place.name, token.handle, reason="unreadable")
            return self._blank(place, carried, reply, ended=_unproven(carried))

        meta = state.meta
        lifetime = self._backend.lifetime if meta.lifetime is None else self._backend.lifetime_of(state)
        digest = place.digest(token.secret)
        if not meta.secrets.opens(digest, lifetime, now=now):
            standing = await self._refused(place, state, digest)
            return self._blank(place, carried, reply, standing=standing)

        deadline = lifetime.deadline(state.seen_at, meta.ends_at)
        if deadline is not None and now >= deadline:
            self._report.note("expired", place.name, token.handle, state.owner)
            return self._blank(place, carried, reply)

        try:
            value = self._codec.decode(state.value)
        except DecodeError as error:
            # written by another version: the record stays until the session that takes its place is stored
            self._report.unreadable(place.name, token.handle, state.owner, error)
            return self._blank(place, carried, reply, ended=(Ending(state),))

        is_timed = lifetime.is_timed and self._backend.has_max_age
        is_due = is_timed and touch and self._sliding.is_due(state, digest)
        if (
            touch
            and now - state.seen_at >= lifetime.touch_window
            and not (is_due and self._sliding.may_wait(state, reply))
        ):
            seen = await self._backend.touch_while_read(place, state)
            if seen is None:
                return self._blank(place, carried, reply)
            state = seen
        self._report.note("loaded", place.name, token.handle, state.owner)
        if not is_due and (self._sealed.reseals if is_timed else self._sealed.resealing):
            is_due = self._sealed.is_stale(carried.token)
        stale = token if is_due else None
        return self._make(place, carried, reply, value, state, digest, stale)

    async def _refused(self, place: Place, state: State, digest: bytes) -> Standing:
        """How the new session stands after a wrong secret: forged, or one that was right before."""
        verdict = state.meta.secrets.verdict(digest, self._backend.lifetime_of(state), now=state.read_at)
        if verdict == "superseded":
            # an answer to this request must not overwrite the newer token that is on its way, or there already
            self._report.note("token_superseded", place.name, state.handle, state.owner)
            return "dead"
        if verdict == "unknown":
            self._report.note("rejected", place.name, state.handle, reason="wrong secret")
            return "fine"

        self._report.note("token_reused", place.name, state.handle, state.owner)
        if self._on_reuse == "destroy" and await self._backend.storer.delete(place.key(state.handle)):
            self._report.note("destroyed", place.name, state.handle, state.owner, reason="token reused")
        return "fine"


def _unproven(carried: Carried) -> tuple[Ending, ...]:
    """What the token refers to may live."""
    return (Ending(None, carried.token or ""),)
