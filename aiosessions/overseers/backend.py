"""A store's storer, and what everybody who asks it has to know."""

from collections.abc import Callable
from typing import NamedTuple

from aiosessions._events import Reporter
from aiosessions._lifetime import Lifetime
from aiosessions._place import Place
from aiosessions._state import State
from aiosessions.storers.holding import Holder
from aiosessions.storers.storer import Storer

__all__ = ["Backend"]


class Backend(NamedTuple):
    """The storer of one store.

    Args:
        storer: where records are.
        holder: opens it, if nobody has.
        lifetime: the store's.
        now: unix seconds.
        report: where events go.
    """

    storer: Storer
    holder: Holder
    lifetime: Lifetime
    now: Callable[[], float]
    report: Reporter

    async def read(self, place: Place, handle: str) -> tuple[State | None, bool]:
        """What is stored, and whether there is something that this version cannot read."""
        record = await self.storer.read(place.prefix + handle)
        if record is None:
            return None, False
        state = State.of(record, handle, now=self.now())
        return state, state is None

    def lifetime_of(self, state: State) -> Lifetime:
        """That of a session."""
        return state.meta.effective_lifetime(self.lifetime)
