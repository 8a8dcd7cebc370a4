"""From a token to the session that a storer keeps, or to why there is none."""

from typing import Any, Literal, NamedTuple

from aiosessions._errors import DecodeError, StorerError
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._state import Ending, Standing, State
from aiosessions._tokens import Token
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.sealed import Sealed
from aiosessions.overseers.sliding import Sliding
from aiosessions.transports.transport import Carried
from aiosessions.values.codecs import CheckedCodec

__all__ = ["Found", "Loading"]


class Found(NamedTuple):
    """A stored session that the token opens, or how the new session stands that takes its place.

    Args:
        state: as it is stored; None: there is none.
        value: decoded; of the store's type.
        presented: the digest of the secret that came.
        stale: the token, if it is to be sent again: it came sealed under an older key, or its cookie's time runs.
        standing: of a new session.
        ended: what it takes the place of.
    """

    state: State | None = None
    value: Any = None  # Any: a NamedTuple of one type for all stores
    presented: bytes = b""
    stale: Token | None = None
    standing: Standing = "fine"
    ended: tuple[Ending, ...] = ()

    def __repr__(self) -> str:  # tracebacks may show local variables: no value
        return f"Found({self.state!r})"


_ABSENT = Found()


class Loading:
    """Reads sessions of one store.

    Args:
        backend: of the store.
        codec: likewise.
        sealed: what the texts of clients mean.
        sliding: which of them are sent again.
        on_storer_error: see StorageOverseer.
        on_reuse: likewise.
    """

    def __init__(
        self,
        backend: Backend,
        codec: CheckedCodec[Any],
        sealed: Sealed,
        sliding: Sliding,
        on_storer_error: Literal["raise", "new"],
        on_reuse: Literal["ignore", "destroy"],
    ) -> None:
        self._backend = backend
        self._storer = backend.storer
        self._codec = codec
        self._sealed = sealed
        self._sliding = sliding
        self._report = backend.report
        self._on_storer_error = on_storer_error
        self._on_reuse = on_reuse

    async def load(self, place: Place, carried: Carried, reply: Reply, *, touch: bool) -> Found:
        """The session of the token that came; a bad one never raises.

        Raises:
            StorerError: the backend failed, and `on_storer_error` says so.
        """
        token = self._sealed.token(place, carried)
        if token is None:
            return _ABSENT

        unproven = (Ending(None, carried.token or ""),)  # what the token refers to may live
        try:
            if not self._backend.holder.is_open:
                await self._backend.holder.ready()
            record = await self._storer.read(place.prefix + token.handle)
        except StorerError as error:
            self._report("store_failed", place.name, token.handle, reason=type(error.__cause__).__name__)
            if self._on_storer_error == "raise":
                raise
            return Found(standing="unread", ended=unproven)

        state = None if record is None else State.of(record, token.handle, now=self._backend.now())
        if state is not None:
            return await self._opened(place, carried, reply, token, state, touch=touch)
        self._report("rejected", place.name, token.handle, reason="unknown" if record is None else "unreadable")
        return _ABSENT if record is None else Found(ended=unproven)

    async def _opened(
        self, place: Place, carried: Carried, reply: Reply, token: Token, state: State, *, touch: bool
    ) -> Found:
        """If the token's secret opens it, and it has not expired."""
        meta = state.meta
        lifetime = self._backend.lifetime if meta.lifetime is None else self._backend.lifetime_of(state)
        digest = place.digest(token.secret)
        now = state.read_at
        if not meta.secrets.opens(digest, grace=lifetime.grace.total_seconds(), now=now):
            return await self._refused(place, state, digest, grace=lifetime.grace.total_seconds())

        deadline = lifetime.deadline(state.seen_at, meta.ends_at)
        if deadline is not None and now >= deadline:
            self._report("expired", place.name, token.handle, state.owner)
            return _ABSENT

        try:
            value = self._codec.decode(state.value)
        except DecodeError as error:
            # written by another version: the record stays until the session that takes its place is stored
            self._report.unreadable(place.name, token.handle, state.owner, error)
            return Found(ended=(Ending(state),))

        is_timed = lifetime.is_timed and self._sliding.is_on
        is_due = is_timed and touch and self._sliding.is_due(state, digest)
        if (
            touch
            and now - state.seen_at >= lifetime.touch_window
            and not (is_due and self._sliding.may_wait(state, reply))
        ):
            seen = await self._backend.touch_while_read(place, state)
            if seen is None:
                return _ABSENT
            state = seen
        self._report("loaded", place.name, token.handle, state.owner)
        if not is_due and (self._sealed.reseals if is_timed else self._sealed.resealing):
            is_due = self._sealed.is_stale(carried.token)
        return Found(state, value, digest, token if is_due else None)

    async def _refused(self, place: Place, state: State, digest: bytes, *, grace: float) -> Found:
        """A wrong secret: forged, or one that was right before."""
        verdict = state.meta.secrets.verdict(digest, grace=grace, now=state.read_at)
        if verdict == "superseded":
            # an answer to this request must not overwrite the newer token that is on its way, or there already
            self._report("token_superseded", place.name, state.handle, state.owner)
            return Found(standing="dead")
        if verdict == "unknown":
            self._report("rejected", place.name, state.handle, reason="wrong secret")
            return _ABSENT

        self._report("token_reused", place.name, state.handle, state.owner)
        if self._on_reuse == "destroy" and await self._backend.storer.delete(place.key(state.handle)):
            self._report("destroyed", place.name, state.handle, state.owner, reason="token reused")
        return _ABSENT
