"""Whoever takes a session for its value is told what was meant: `session.cart`, or `session["cart"]`.

Type checkers see nothing of this. A `__getattr__` would cost every request (before Python 3.12 a class that has one
gives up its fast attributes), so each name that a store's values have is an attribute here, which raises.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any


class Meant:
    """The part of a session that is there for mistakes."""

    __slots__ = ()

    if not TYPE_CHECKING:
        __iter__ = None  # with a `__getitem__` alone Python would count through it, and so it would for `in`

        def __getitem__(self, key: object) -> object:
            raise TypeError(f"{type(self).__name__!r} object is not subscriptable{_hint(self, key)}")


class _Name:
    """An attribute that values have, and sessions have not."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, session: object, kind: type) -> object:
        whose = f"type object {kind.__name__!r}" if session is None else f"{kind.__name__!r} object"
        hint = "" if session is None or isinstance(session, Mapping) else _hint(session, self._name)
        raise AttributeError(f"{whose} has no attribute {self._name!r}{hint}")

    def __set__(self, session: object, value: object) -> None:
        self.__get__(session, type(session))


def expect(value_type: Any, value: object) -> None:  # Any: whatever a store may be of
    """A store has values like this one: what may be looked for in their session."""
    for name in {*dir(value), *getattr(value_type, "__annotations__", ())}:
        if not name.startswith("_") and name not in vars(Meant):
            setattr(Meant, name, _Name(name))


def _hint(session: Any, name: object) -> str:
    value = session.value
    if issubclass(type(value), Mapping) and name in value:  # an isinstance would teach checkers half a type
        return f": did you mean session.value[{name!r}]?"
    if isinstance(name, str) and hasattr(value, name):
        return f": did you mean session.value.{name}?"
    return ""
