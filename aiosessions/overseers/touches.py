"""Extending a session's idle time."""

from aiosessions._errors import StorerError
from aiosessions._place import Place
from aiosessions._state import State
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.race import Race

__all__ = ["Touches"]

_PROVEN_SECONDS = 1.0
"""How long after a session was read a touch may lean on that: a socket's may come a day later."""


class Touches:
    """Touches sessions of one store; *race* knows the newest state of one."""

    __slots__ = ("_backend", "_race")

    def __init__(self, backend: Backend, race: Race) -> None:
        self._backend = backend
        self._race = race

    async def while_read(self, place: Place, state: State) -> State | None:
        """The same, seen now; None if it is gone. One that fails degrades nobody: the session was read."""
        try:
            return await self._touch(place, state)
        except StorerError as error:
            self._backend.report("store_failed", place.name, state.handle, reason=type(error.__cause__).__name__)
            return state

    async def on_request(self, place: Place, state: State) -> State | None:
        """An explicit touch, under the epoch that was loaded and the lifetime that holds now; None: it is gone."""
        newest: State | None = state
        if self._backend.now() - state.read_at > _PROVEN_SECONDS:
            newest = await self._race.newest(place, state)
        seen = None if newest is None else await self._touch(place, newest)
        return None if seen is None else state.seen(seen.seen_at)

    async def _touch(self, place: Place, state: State) -> State | None:
        now = self._backend.now()
        expires_at = self._backend.lifetime_of(state).deadline(now, state.meta.ends_at)
        if not await self._backend.storer.touch(place.key(state.handle), seen_at=now, expires_at=expires_at):
            return None
        self._backend.report("touched", place.name, state.handle)
        return state.seen(now)
