"""The line of those who write one session in one event loop, where they need not race."""

from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import msgspec

from aiosessions._discreet import Discreet
from aiosessions._errors import StorerError
from aiosessions._state import State
from aiosessions._turn import Turn

if TYPE_CHECKING:
    from aiosessions.overseers.changes import Made, Make, Plan

COURTESY_SECONDS = 1.0
"""How long one waits for those before it, who may hang: then it races with them."""
_MOST = 32
"""How many are written together: merging them holds the event loop."""


class Won(Discreet, frozen=True):
    """The write that stands.

    Args:
        state: what is stored now.
        made: what it made of the value.
        digest: of the new secret; None: none was made, or others have ended it already.
        sealed: the token that the client gets; "" where it keeps its own.
        forgot: whether a secret had to be forgotten that its grace still covers.
    """

    shown: ClassVar[tuple[str, ...]] = ("state",)

    state: State
    made: "Made"
    digest: bytes | None = None
    sealed: str = ""
    forgot: bool = False


class Trip(msgspec.Struct, eq=False):
    """One write on its way to the storer, for one or several.

    Args:
        base: the version that it is written over.
        version: what is written.
        doubt: why it is not known whether it was.
    """

    base: int
    version: int
    doubt: StorerError | None = None


class Bid(msgspec.Struct, eq=False):
    """One write that stands in a line.

    Args:
        key: of the record.
        over: what the request read.
        plan: what to write, of a session of any type.
        update: see `Race.write`.
        tried: the trips it was on, and what it would have been.
        until: when others have won for too long, in the event loop's seconds; 0.0: none has yet.
        is_open: it is not known yet what becomes of it.
        won: what has; None: its session is gone.
        error: why it does not stand, or nobody knows.
    """

    key: str
    over: State
    plan: "Plan[Any]"
    update: "Make | None"
    tried: list[tuple[Trip, Won]] = []  # msgspec copies it
    until: float = 0.0
    is_open: bool = True
    won: Won | None = None
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """It does not."""
        self.error, self.is_open = error, False


class Line(msgspec.Struct, eq=False):
    """A line.

    Args:
        newest: what is stored, as far as the one knows who wrote it last; None: to be read.
        turn: of whoever writes.
        waiting: who came meanwhile.
    """

    newest: State | None
    turn: Turn = msgspec.field(default_factory=Turn)
    waiting: list[Bid] = []  # as above

    def batch_of(self, bid: Bid) -> list[Bid]:
        """Who is written together with this one: a rotation nobody, for what came before it must not outlive it."""
        if bid.plan.wishes.rotations:
            return [bid]
        others = [other for other in self.waiting if not other.plan.wishes.rotations][: _MOST - 1]
        self.waiting = [other for other in self.waiting if other not in others]
        return [bid, *others]

    async def waited(self, bid: Bid) -> bool:
        """Until it has the turn, or another has written it too; False: neither, for too long."""
        self.waiting.append(bid)
        try:
            with anyio.move_on_after(COURTESY_SECONDS):
                while self.turn.is_taken and bid.is_open:
                    await self.turn.ended()
            while self.turn.is_taken and bid.is_open and bid not in self.waiting:  # its write is under way
                await self.turn.ended()
        finally:
            if bid in self.waiting:
                self.waiting.remove(bid)
        return not (bid.is_open and self.turn.is_taken)
