"""The session of a `dict[str, V]`: at run time it *is* the mapping it holds."""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from aiosessions._errors import KeyExistsError, NoKeyError
from aiosessions._session import Session

__all__ = ["MappingSession"]

V = TypeVar("V")


class _MappingFace(MutableMapping[str, V]):
    """The mapping methods, over `value`."""

    __slots__ = ()
    value: dict[str, V]

    def __getitem__(self, key: str) -> V:
        try:
            return self.value[key]
        except KeyError:
            raise NoKeyError(key) from None

    def __setitem__(self, key: str, value: V) -> None:
        self.value[key] = value

    def __delitem__(self, key: str) -> None:
        try:
            del self.value[key]
        except KeyError:
            raise NoKeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return key in self.value

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.value)

    def add(self, key: str, value: V) -> None:
        """Set a key that must not be there yet, or KeyExistsError."""
        if key in self.value:
            raise KeyExistsError(key)
        self.value[key] = value

    def clear(self, *, keep: Iterable[str] = ()) -> None:
        """Remove every key but those in *keep*."""
        kept = {key: self.value[key] for key in keep if key in self.value}
        self.value.clear()
        self.value.update(kept)


if TYPE_CHECKING:
    MappingSession = Session[dict[str, Any]]  # Any: V is the application's
else:

    class MappingSession(Session, _MappingFace):
        """A Session whose mapping face works."""

        __slots__ = ()
        __hash__ = Session.__hash__
        __eq__ = object.__eq__
