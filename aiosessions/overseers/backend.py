"""The storer of a store: how its sessions are read, touched and ended."""

from collections.abc import Callable

import msgspec

from aiosessions._errors import DecodeError, StorerError
from aiosessions._events import Reporter
from aiosessions._lifetime import Lifetime
from aiosessions._place import Place
from aiosessions._state import Ending, State
from aiosessions._tokens import Token
from aiosessions.storers.holding import Holder
from aiosessions.storers.storer import Storer

ATTEMPTS = 50
"""How often a session that others keep writing is tried to end."""
_PROVEN_SECONDS = 1.0
"""How long after a session was read a touch may lean on that: a socket's may come a day later."""


class Backend(msgspec.Struct, frozen=True, eq=False):
    """The storer of one store. No session is ended on the strength of its handle alone.

    Args:
        storer: where records are.
        holder: opens it, if nobody has.
        lifetime: the store's.
        now: unix seconds.
        report: where events go.
        opened: the token that a text from a client stands for, if it is one.
        has_max_age: whether a token may have a Max-Age where it travels; in a header it has none.
    """

    storer: Storer
    holder: Holder
    lifetime: Lifetime
    now: Callable[[], float]
    report: Reporter
    opened: Callable[[Place, str], Token | None]
    has_max_age: bool

    def lifetime_of(self, state: State) -> Lifetime:
        """That of a session."""
        return state.meta.effective_lifetime(self.lifetime)

    def slides(self, state: State) -> bool:
        """Whether the cookie of a session is timed: see `Sliding`."""
        return self.has_max_age and self.lifetime_of(state).is_timed

    async def read(self, place: Place, handle: str) -> tuple[State | None, bool]:
        """What is stored, and whether there is something that this version cannot read."""
        try:
            record = await self.storer.read(place.prefix + handle)
        except DecodeError as error:
            self.report.unreadable(place.name, handle, None, error)
            return None, True
        if record is None:
            return None, False
        state = State.of(record, handle, now=self.now())
        return state, state is None

    async def newest(self, place: Place, loaded: State) -> State | None:
        """What is stored now; None if our token means nothing any more."""
        state, _ = await self.read(place, loaded.handle)
        return state if state is not None and state.meta.epoch == loaded.meta.epoch else None

    # touching

    async def touch_while_read(self, place: Place, state: State) -> State | None:
        """The same, seen now; None if it is gone. One that fails degrades nobody: the session was read."""
        try:
            return await self._touch(place, state)
        except StorerError as error:
            self.report.note("store_failed", place.name, state.handle, reason=type(error.__cause__).__name__)
            return state

    async def touch(self, place: Place, state: State) -> State | None:
        """An explicit touch, under the epoch that was loaded and the lifetime that holds now; None: it is gone."""
        newest: State | None = state
        if self.now() - state.read_at > _PROVEN_SECONDS:
            newest = await self.newest(place, state)
        seen = None if newest is None else await self._touch(place, newest)
        return None if seen is None else state.seen(seen.seen_at)

    async def touch_late(self, place: Place, state: State) -> State | None:
        """As `touch`, of what was only read: one that fails degrades nobody; None then too."""
        try:
            return await self.touch(place, state)
        except StorerError as error:
            self.report.note("store_failed", place.name, state.handle, reason=type(error.__cause__).__name__)
            return None

    async def _touch(self, place: Place, state: State) -> State | None:
        now = self.now()
        expires_at = self.lifetime_of(state).deadline(now, state.meta.ends_at)
        if not await self.storer.touch(place.key(state.handle), seen_at=now, expires_at=expires_at):
            return None
        self.report.note("touched", place.name, state.handle)
        return state.seen(now)

    # ending

    async def end(self, place: Place, ending: Ending) -> None:
        """End it, if it is still what it was.

        Raises:
            StorerError: it may not have ended.
        """
        state = ending.state
        if ending.is_anyhow and state is not None:
            await self.storer.delete(place.key(state.handle))
            self.report.note("destroyed", place.name, state.handle, state.owner)
            return

        for _ in range(ATTEMPTS):  # once more when it was written in between
            found, _ = await self._look(place, ending)
            if found is None:
                return
            if await self.storer.delete(place.key(found.handle), version=found.version):
                reason = "" if ending.is_wanted else "replaced"
                self.report.note("destroyed", place.name, found.handle, found.owner, reason=reason)
                return
        raise StorerError(f"session {place.name!r} may not have ended: others kept writing it")

    async def has_heir(self, place: Place, endings: tuple[Ending, ...]) -> bool:
        """Whether somebody has rotated what a new session takes the place of: a login must not be overwritten."""
        for ending in endings:
            if (await self._look(place, ending))[1]:
                return True
        return False

    async def _look(self, place: Place, ending: Ending) -> tuple[State | None, bool]:
        """What is stored now, if it is at the epoch that was loaded; and whether it is at another."""
        loaded = ending.state
        token = None if loaded is not None else self.opened(place, ending.token)
        if loaded is None and token is None:
            return None, False

        handle = loaded.handle if loaded is not None else token.handle if token is not None else ""
        state, is_unreadable = await self.read(place, handle)
        if state is None:
            if is_unreadable and ending.is_wanted:
                raise StorerError(
                    f"session {place.name!r} {handle} was written by another version and may not have ended"
                )
            return None, False

        if token is None:
            is_same = loaded is not None and state.meta.epoch == loaded.meta.epoch
            return (state, False) if is_same else (None, True)
        verdict = state.meta.secrets.verdict(place.digest(token.secret), self.lifetime_of(state), now=state.read_at)
        return (state if verdict == "opens" else None), verdict == "superseded"
