"""The session of a `dict[str, V]`: it *is* the mapping it holds."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self, TypeVar, get_args, get_origin, overload

from aiosessions._errors import KeyExistsError, NoKeyError
from aiosessions._session import Session

V = TypeVar("V")
D = TypeVar("D")


class MappingSession(MutableMapping[str, V], Session[dict[str, V]]):
    """A Session that reads and changes like its `value`; what a store of `dict[str, V]` gives.

    It equals every mapping of the same items, another session's too, and so it has no hash. An empty one is false. A
    missing key is a NoKeyError, which is a KeyError. Its `str()` is that of its dict, values and all; its `repr()`
    shows none. Into a JSON response goes `session.value`.
    """

    __slots__ = ()

    __hash__ = None  # type: ignore[assignment]  # as a dict's

    def __str__(self) -> str:
        return str(self.value)

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

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.value)

    @overload
    def __or__(self, other: Mapping[str, V], /) -> dict[str, V]: ...
    @overload
    def __or__(self, other: Mapping[str, D], /) -> dict[str, V | D]: ...
    def __or__(self, other: object, /) -> dict[str, Any]:  # Any: the overloads say of what
        return {**self.value, **other} if isinstance(other, Mapping) else NotImplemented

    @overload
    def __ror__(self, other: Mapping[str, V], /) -> dict[str, V]: ...
    @overload
    def __ror__(self, other: Mapping[str, D], /) -> dict[str, V | D]: ...
    def __ror__(self, other: object, /) -> dict[str, Any]:  # Any: as above
        return {**other, **self.value} if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Mapping[str, V] | Iterable[tuple[str, V]], /) -> Self:  # type: ignore[misc]  # like dict's: `|` makes another, `|=` changes this one
        self.value.update(other)
        return self

    def copy(self) -> dict[str, V]:
        """The items in a plain dict, which no store saves; `|` gives one too."""
        return self.value.copy()

    def add(self, key: str, value: V) -> None:
        """Set a key that must not be there yet.

        Raises:
            KeyExistsError: it is.
        """
        if key in self.value:
            raise KeyExistsError(key)

        self.value[key] = value

    def popitem(self) -> tuple[str, V]:
        """Remove and give the item that was added last.

        Raises:
            NoKeyError: there is none.
        """
        try:
            return self.value.popitem()
        except KeyError:
            raise NoKeyError("the session is empty") from None

    def clear(self, *, keep: Iterable[str] | None = None) -> None:
        """Remove every key, and unbind the user: see `clear_user`.

        Args:
            keep: remove every key but these, and leave the user bound. To empty the session only, without a logout:
                `session.value.clear()`.
        """
        names = tuple(keep or ())
        kept = {key: self.value[key] for key in names if key in self.value}
        self.value.clear()
        self.value.update(kept)
        if not names and self.is_authenticated:
            self.clear_user()


def session_type(value_type: Any) -> type[Session[Any]]:  # Any: whatever a store may be of
    """The class of a store's sessions: MappingSession for `dict[str, V]` and a bare `dict`, and for nothing else."""
    is_mapping = value_type is dict or (get_origin(value_type) is dict and get_args(value_type)[0] is str)
    return MappingSession if is_mapping else Session
