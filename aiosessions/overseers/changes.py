"""What a save has to do, and what it makes of the value that is stored: a save merges into it, an update changes it."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from aiosessions._discreet import Discreet
from aiosessions._errors import EncodeError, NoSessionError
from aiosessions._session import Session
from aiosessions._state import NOTHING, State, Wishes
from aiosessions.values.codecs import CheckedCodec
from aiosessions.values.merge import Merger

T = TypeVar("T")
OnConflict: TypeAlias = Literal["merge", "raise", "overwrite"]


class Plan(msgspec.Struct, Generic[T], eq=False, gc=False):
    """What one save has to do, encoded and checked. Held by whoever saves, and carried out; never kept in a session.

    Args:
        session: whose.
        state: what the session was when this was planned.
        lives: likewise, how often it had been destroyed.
        data: the value, encoded.
        wishes: what else the handler asked for, as it was at that moment.
        is_changed: whether the value differs from the state's.
        is_write: whether there is more to do than a touch and what is to end.
        can_tell: whether a new token can still reach the client.
        sealed: of a session that the client holds: what it becomes, and the token that says so.
    """

    session: Session[T]
    state: State
    lives: int
    data: bytes
    wishes: Wishes
    is_changed: bool = False
    is_write: bool = False
    can_tell: bool = False
    sealed: object = None

    def __repr__(self) -> str:  # tracebacks may show local variables: no value
        return f"Plan(is_changed={self.is_changed}, is_write={self.is_write})"

    def __rich_repr__(self) -> list[tuple[str, bool]]:  # a Struct's own would show it
        return [("is_changed", self.is_changed), ("is_write", self.is_write)]


def ending_of(session: Session[T]) -> Plan[T] | None:
    """A plan that only ends what was destroyed; None if that is nothing either."""
    return Plan(session, session._state, session._lives, b"", NOTHING) if session._is_ending else None


def is_renewed(plan: Plan[Any]) -> bool:  # Any: of a session of any type
    """Whether a session that its client holds gets a new id: it begins, or it is rotated."""
    return not plan.state.handle or plan.wishes.rotations > 0


def gone(session: Session[Any]) -> NoSessionError:  # Any: a session of any type
    """What an update says that came too late."""
    return NoSessionError(
        f"session {session.name!r} is gone: a logout or login elsewhere ended it", reply=session._reply
    )


class Made(Discreet, frozen=True):
    """What a write makes of the value that is stored.

    Args:
        data: the value from now on, encoded.
        is_changed: whether that is another one.
        spelling: which codec wrote it; 0: not known.
        fields: those that a merge had to decide.
    """

    shown: ClassVar[tuple[str, ...]] = ("is_changed",)

    data: bytes
    is_changed: bool
    spelling: int = 0
    fields: tuple[str, ...] = ()


Make: TypeAlias = Callable[[State], Made]
"""Makes the value of a write, over a state; raises what says that it cannot."""


class Changes(Generic[T]):
    """What a store knows of its values: when two are equal, and how two writes become one.

    Args:
        codec: the store's.
        on_conflict: what happens to what two requests changed and no rule can settle.

    Raises:
        ConfigError: a Merge marker on a type that cannot follow it.
    """

    __slots__ = ("codec", "merger", "on_conflict")

    def __init__(self, codec: CheckedCodec[T], on_conflict: OnConflict = "merge") -> None:
        self.codec: CheckedCodec[T] = codec
        self.merger: Merger[T] = Merger(codec)
        self.on_conflict: OnConflict = on_conflict

    def changed(self, state: State, value: T, data: bytes) -> bytes | None:
        """See `CheckedCodec.changed`."""
        return self.codec.changed(state.value, value, data, spelling=state.meta.spelling)

    def are_lost(self, session: Session[T]) -> bool:
        """Whether a session that is not written has any."""
        try:
            data = self.codec.encode(session.value)
        except EncodeError:
            return True
        return session._wishes is not None or not self.codec.unchanged(session._state.value, session.value, data)

    def over(self, stored: State, data: bytes) -> Made:
        """*data* in the place of what is stored, with the fields of it that this version does not know."""
        if self._is_spelled(stored):
            return Made(data, is_changed=True, spelling=self.codec.spelling(data))
        whole = self.merger.carry_unknown(stored.value, data)
        return Made(whole, is_changed=True, spelling=self.codec.spelling(data) if whole is data else 0)

    def made_by(self, change: Callable[[T], T | None], data: bytes) -> T:
        """What an update's function makes of a value: another one, or the same, changed in place."""
        value = self.codec.decode(data)
        result = change(value)
        return value if result is None else result

    def saved(self, plan: Plan[T], theirs: State) -> Made:
        """Our value, over what others wrote since: what only they changed stays theirs."""
        loaded, ours = plan.state, plan.data
        if not theirs.handle:
            return Made(ours, is_changed=plan.is_changed, spelling=self.codec.spelling(ours))
        if not plan.is_changed:
            return Made(theirs.value, is_changed=False, spelling=theirs.meta.spelling)
        if theirs.value == loaded.value or self.on_conflict == "overwrite":
            return self.over(theirs, ours)

        are_spelled = self.codec.is_settled and self._is_spelled(loaded) and self._is_spelled(theirs)
        if not are_spelled:
            ours = self.over(loaded, ours).data
        merged = self.merger.merge(
            loaded.value, ours, theirs.value, on_conflict=self.on_conflict, are_spelled=are_spelled
        )
        spelling = self.codec.spelling(merged.data) if are_spelled else 0
        return Made(merged.data, is_changed=True, spelling=spelling, fields=merged.conflicts)

    def _is_spelled(self, state: State) -> bool:
        """Whether this codec wrote its value, byte for byte: then there is no field in it that it does not know."""
        known = state.meta.spelling
        return known != 0 and known == self.codec.spelling(state.value)


class Updated(Generic[T]):
    """What an update's function makes of the newest value.

    What the handler has changed and not saved is to be merged onto it: where that cannot be, it is found here, before
    anything is written.

    Attributes:
        base: what the session's value was when it was last in step with the store.

    Raises:
        EncodeError: the session's own value cannot be encoded.
    """

    __slots__ = ("_change", "_changes", "_loaded", "_pending", "base")

    def __init__(self, session: Session[T], change: Callable[[T], T | None], changes: Changes[T]) -> None:
        self._change = change
        self._changes = changes
        self._loaded = session._state
        self._pending: bytes | None = changes.codec.encode(session.value)
        self.base: bytes = self._loaded.value
        if changes.codec.unchanged(self._loaded.value, session.value, self._pending):
            self.base, self._pending = self._pending, None

    def __call__(self, theirs: State) -> Made:
        changes = self._changes
        value = changes.made_by(self._change, theirs.value)
        data = changes.codec.encode(value)
        made = Made(theirs.value, is_changed=False, spelling=theirs.meta.spelling)
        changed = changes.changed(theirs, value, data)
        if changed is not None:
            made = changes.over(theirs, changed)
        if self._pending is None:
            return made

        ours = changes.over(self._loaded, self._pending).data
        on_conflict: OnConflict = "raise" if changes.on_conflict == "raise" else "merge"
        merged = changes.merger.merge(self.base, ours, made.data, on_conflict=on_conflict)
        return replace(made, fields=merged.conflicts)
