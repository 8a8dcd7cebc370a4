"""Extending a session's idle time."""

from collections.abc import Callable

from aiosessions._errors import StorerError
from aiosessions._events import Reporter
from aiosessions._lifetime import Lifetime
from aiosessions._place import Place
from aiosessions._state import State
from aiosessions.overseers.race import Race
from aiosessions.storers.storer import Storer

__all__ = ["Touches"]

_PROVEN_SECONDS = 1.0
"""How long after a session was read a touch may lean on that: a socket's may come a day later."""


class Touches:
    """Touches sessions of one store.

    Args:
        storer: the backend.
        race: what knows the newest state.
        lifetime: the store's.
        now: unix seconds.
        report: where events go.
    """

    __slots__ = ("_lifetime", "_now", "_race", "_report", "_storer")

    def __init__(
        self, storer: Storer, race: Race, *, lifetime: Lifetime, now: Callable[[], float], report: Reporter
    ) -> None:
        self._storer = storer
        self._race = race
        self._lifetime = lifetime
        self._now = now
        self._report = report

    async def while_read(self, place: Place, state: State) -> State | None:
        """The same, seen now; None if it is gone. One that fails degrades nobody: the session was read."""
        try:
            return await self._touch(place, state)
        except StorerError as error:
            self._report("store_failed", place.name, state.handle, reason=type(error.__cause__).__name__)
            return state

    async def on_request(self, place: Place, state: State) -> State | None:
        """An explicit touch, under the epoch that was loaded and the lifetime that holds now; None: it is gone."""
        newest: State | None = state
        if self._now() - state.read_at > _PROVEN_SECONDS:
            newest = await self._race.newest(place, state)
        seen = None if newest is None else await self._touch(place, newest)
        return None if seen is None else state.seen(seen.seen_at)

    async def _touch(self, place: Place, state: State) -> State | None:
        now = self._now()
        expires_at = state.meta.effective_lifetime(self._lifetime).deadline(now, state.meta.ends_at)
        if not await self._storer.touch(place.key(state.handle), seen_at=now, expires_at=expires_at):
            return None
        self._report("touched", place.name, state.handle)
        return state.seen(now)
