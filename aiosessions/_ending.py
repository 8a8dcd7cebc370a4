"""What a request ends, and how a session stands."""

from typing import Literal, NamedTuple, TypeAlias

from aiosessions._state import State

__all__ = ["Ending", "Standing"]

Standing: TypeAlias = Literal["fine", "dead", "unread"]
"""dead: its token was superseded or it ended elsewhere: neither stored nor sent, but for a login. unread: the storer
failed, so that nothing of it is overwritten."""


class Ending(NamedTuple):
    """A stored session that is to end.

    Args:
        state: as it was loaded; None: a *token* that is still to be proven refers to it.
        token: as it came; "" where the state is known.
        is_due: now, else when what takes its place is stored.
        is_wanted: the handler asked for it: where it cannot be known to have ended, that is an error.
        is_anyhow: whatever became of it since; else only at the epoch that was loaded.
    """

    state: State | None
    token: str = ""
    is_due: bool = False
    is_wanted: bool = False
    is_anyhow: bool = False

    def __repr__(self) -> str:  # tracebacks may show local variables: no token
        return f"Ending({self.state!r}, is_due={self.is_due})"
