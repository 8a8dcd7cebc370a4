"""What a write makes of the value that is stored: a save merges into it, an update runs its function on it."""

from collections.abc import Callable
from typing import Generic, Literal, TypeAlias, TypeVar

from aiosessions._session import Session
from aiosessions._state import State
from aiosessions.overseers.plan import Plan
from aiosessions.overseers.race import Made
from aiosessions.values.codecs import CheckedCodec
from aiosessions.values.merge import Merger

__all__ = ["Changes", "OnConflict", "Updated", "saved"]

T = TypeVar("T")
OnConflict: TypeAlias = Literal["merge", "raise", "overwrite"]


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

    def differs(self, state: State, value: T, data: bytes) -> bool:
        """Whether *value*, encoded as *data*, is another one than the state's."""
        if data == state.value and not self.codec.hides(data):
            return False
        return not self.codec.unchanged(state.value, value, data, spelling=state.meta.spelling)

    def over(self, stored: State, data: bytes) -> Made:
        """*data* in the place of what is stored, with the fields of it that this version does not know."""
        known = stored.meta.spelling
        if known and known == self.codec.spelling(stored.value):  # it has none
            return Made(data, is_changed=True, spelling=self.codec.spelling(data))
        whole = self.merger.carry_unknown(stored.value, data)
        return Made(whole, is_changed=True, spelling=self.codec.spelling(data) if whole is data else 0)

    def made_by(self, change: Callable[[T], T | None], data: bytes) -> T:
        """What an update's function makes of a value: another one, or the same, changed in place."""
        value = self.codec.decode(data)
        result = change(value)
        return value if result is None else result


def saved(plan: Plan[T], changes: Changes[T], theirs: State) -> Made:
    """Our value, over what others wrote since: what only they changed stays theirs."""
    loaded, ours = plan.state, plan.data
    if not theirs.handle:
        return Made(ours, is_changed=plan.is_changed, spelling=changes.codec.spelling(ours))
    if not plan.is_changed:
        return Made(theirs.value, is_changed=False, spelling=theirs.meta.spelling)
    if theirs.value == loaded.value or changes.on_conflict == "overwrite":
        return changes.over(theirs, ours)

    ours = changes.over(loaded, ours).data
    merged = changes.merger.merge(loaded.value, ours, theirs.value, on_conflict=changes.on_conflict)
    return Made(merged.data, is_changed=True, fields=merged.conflicts, is_merged=True)


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
        if not changes.differs(self._loaded, session.value, self._pending):
            self.base, self._pending = self._pending, None

    def __call__(self, theirs: State) -> Made:
        changes = self._changes
        value = changes.made_by(self._change, theirs.value)
        data = changes.codec.encode(value)
        made = Made(theirs.value, is_changed=False, spelling=theirs.meta.spelling, is_merged=True)
        if changes.differs(theirs, value, data):
            changes.codec.check(value, data)
            made = changes.over(theirs, data)._replace(is_merged=True)
        if self._pending is None:
            return made

        ours = changes.over(self._loaded, self._pending).data
        on_conflict: OnConflict = "raise" if changes.on_conflict == "raise" else "merge"
        merged = changes.merger.merge(self.base, ours, made.data, on_conflict=on_conflict)
        return made._replace(fields=merged.conflicts)
