"""How stored sessions end: those that a handler destroyed, and those that a new session took the place of."""

from collections.abc import Callable
from typing import Any

from aiosessions._errors import StorerError
from aiosessions._place import Place
from aiosessions._session import Session
from aiosessions._state import Ending, State
from aiosessions._tokens import Token
from aiosessions.overseers.backend import Backend

__all__ = ["Endings"]

_ATTEMPTS = 50


class Endings:
    """Ends sessions of one store, never on the strength of a handle alone.

    Args:
        backend: of the store.
        opened: the token that a text from a client stands for, if it is one.
    """

    __slots__ = ("_backend", "_opened")

    def __init__(self, backend: Backend, opened: Callable[[Place, str], Token | None]) -> None:
        self._backend = backend
        self._opened = opened

    async def end(self, place: Place, ending: Ending) -> None:
        """End it, if it is still what it was.

        Raises:
            StorerError: it may not have ended.
        """
        state = ending.state
        if ending.is_anyhow and state is not None:
            await self._backend.storer.delete(place.key(state.handle))
            self._backend.report("destroyed", place.name, state.handle, state.owner)
            return

        for _ in range(_ATTEMPTS):  # once more when it was written in between
            found, _ = await self._look(place, ending)
            if found is None:
                return
            if await self._backend.storer.delete(place.key(found.handle), version=found.version):
                reason = "" if ending.is_wanted else "replaced"
                self._backend.report("destroyed", place.name, found.handle, found.owner, reason=reason)
                return
        raise StorerError(f"session {place.name!r} may not have ended: others kept writing it")

    async def has_heir(self, session: Session[Any]) -> bool:  # Any: a session of any type
        """Whether somebody has rotated what a new session takes the place of: a login must not be overwritten."""
        for ending in session._ended:
            if (await self._look(session._place, ending))[1]:
                return True
        return False

    async def _look(self, place: Place, ending: Ending) -> tuple[State | None, bool]:
        """What is stored now, if it is at the epoch that was loaded; and whether it is at another."""
        loaded = ending.state
        token = None if loaded is not None else self._opened(place, ending.token)
        if loaded is None and token is None:
            return None, False

        handle = loaded.handle if loaded is not None else token.handle if token is not None else ""
        state, is_unreadable = await self._backend.read(place, handle)
        if state is None:
            if is_unreadable and ending.is_wanted:
                raise StorerError(
                    f"session {place.name!r} {handle} was written by another version and may not have ended"
                )
            return None, False

        if token is None:
            is_same = loaded is not None and state.meta.epoch == loaded.meta.epoch
            return (state, False) if is_same else (None, True)
        grace = self._backend.lifetime_of(state).grace.total_seconds()
        verdict = state.meta.secrets.verdict(place.digest(token.secret), grace=grace, now=state.read_at)
        return (state if verdict == "opens" else None), verdict == "superseded"
