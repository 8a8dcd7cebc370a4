"""A newer value in the objects that somebody holds of the older one."""

from typing import Any, TypeVar

import msgspec

from aiosessions.values.equality import SCALARS, difference, fields_of

__all__ = ["grafted"]

T = TypeVar("T")


def grafted(held: T, new: T) -> T:
    """*new*, as far as it can be in the very objects of *held*.

    A handler that took `cart = session.value.cart` before a save goes on to change the cart that is saved next, also
    when that save brought in what others wrote. Items of a list that are in both stay the objects that they are. What
    cannot be changed in place (frozen, of another class) is replaced, and its parts are kept.
    """
    kind: Any = type(held)  # Any: many libraries' classes
    if kind is not type(new) or kind in SCALARS:
        return new

    ours: Any = held  # Any: told apart next
    theirs: Any = new  # Any: likewise
    if kind is list:
        ours[:] = _items(ours, theirs)
    elif kind is dict:
        items = [(key, grafted(ours[key], item) if key in ours else item) for key, item in theirs.items()]
        ours.clear()
        ours.update(items)
    elif kind is set:
        ours.clear()
        ours.update(theirs)
    else:
        return _with_fields(held, new)
    return held


def _items(ours: list[object], theirs: list[object]) -> list[object]:
    """*theirs*, with our own object for each item that we have too, in the same order; no other is ours for sure."""
    start, end = 0, 0
    shortest = min(len(ours), len(theirs))
    while start < shortest and _same(ours[start], theirs[start]):
        start += 1
    while end < shortest - start and _same(ours[-1 - end], theirs[-1 - end]):
        end += 1

    middle = theirs[start : len(theirs) - end]
    waiting = iter(ours[start : len(ours) - end])
    own = next(waiting, _NONE)
    for index, item in enumerate(middle):
        if own is not _NONE and _same(own, item):
            middle[index], own = own, next(waiting, _NONE)
    return ours[:start] + middle + ours[len(ours) - end :]


_NONE = object()


def _same(one: object, other: object) -> bool:
    """Whether it is the same for the codec too: equality may leave out fields, and True is 1."""
    return difference(one, other) is None


def _with_fields(held: T, new: T) -> T:
    names = fields_of(new)
    parts = [(name, grafted(getattr(held, name), getattr(new, name))) for name in names]
    try:
        for name, part in parts:
            if part is not getattr(held, name):  # what was changed in place needs no setting
                setattr(held, name, part)
    except (AttributeError, TypeError, ValueError):  # frozen, or a validator that wants them all at once
        return _with_parts(new, parts)
    return held if names else new


def _with_parts(new: T, parts: list[tuple[str, Any]]) -> T:
    """*new*, which nobody else has yet, with the parts that somebody may hold."""
    for name, part in parts:
        if isinstance(new, msgspec.Struct):
            msgspec.structs.force_setattr(new, name, part)
        else:
            object.__setattr__(new, name, part)
    return new
