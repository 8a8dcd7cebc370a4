"""What one save has to do."""

from typing import Any, Generic, TypeVar

from aiosessions._errors import NoSessionError
from aiosessions._session import Session
from aiosessions._state import NOTHING, State, Wishes

__all__ = ["Plan", "ending_of", "gone"]

T = TypeVar("T")


class Plan(Generic[T]):
    """What one save has to do, encoded and checked. Held by whoever saves, and carried out; never kept in a session.

    Attributes:
        session: whose.
        state: what the session was when this was planned.
        lives: likewise, how often it had been destroyed.
        data: the value, encoded.
        is_changed: whether it differs from the state's.
        is_write: whether there is more to do than a touch and what is to end.
        wishes: what else the handler asked for, as it was at that moment.
        can_tell: whether a new token can still reach the client.
        sealed: of a session that the client holds: what it becomes, and the token that says so.
    """

    __slots__ = ("can_tell", "data", "is_changed", "is_write", "lives", "sealed", "session", "state", "wishes")

    def __init__(
        self, session: Session[T], data: bytes, wishes: Wishes, *, is_changed: bool, is_write: bool, can_tell: bool
    ) -> None:
        self.session: Session[T] = session
        self.state: State = session._state
        self.lives: int = session._lives
        self.data: bytes = data
        self.is_changed: bool = is_changed
        self.is_write: bool = is_write
        self.wishes: Wishes = wishes if wishes is NOTHING else wishes.copy()
        self.can_tell: bool = can_tell
        self.sealed: object = None

    def __repr__(self) -> str:  # tracebacks may show local variables: no value
        return f"Plan(is_changed={self.is_changed}, is_write={self.is_write})"


def ending_of(session: Session[T]) -> Plan[T] | None:
    """A plan that only ends what was destroyed; None if that is nothing either."""
    if not session._is_ending:
        return None
    return Plan(session, b"", NOTHING, is_changed=False, is_write=False, can_tell=False)


def gone(session: Session[Any]) -> NoSessionError:  # Any: a session of any type
    """What an update says that came too late."""
    return NoSessionError(
        f"session {session.name!r} is gone: a logout or login elsewhere ended it", reply=session._reply
    )
