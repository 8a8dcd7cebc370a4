"""A newer value in the objects that somebody holds of the older one."""

from typing import Any, TypeVar

from aiosessions.values.equality import fields_of

__all__ = ["grafted"]

T = TypeVar("T")


def grafted(held: T, new: T) -> T:
    """*new*, as far as it can be in the very objects of *held*.

    A handler that took `cart = session.value.cart` before a save goes on to change the cart that is saved next, also
    when that save brought in what others wrote. What cannot be changed in place (frozen, of another class) is replaced.
    """
    kind: Any = type(held)  # Any: many libraries' classes
    if kind is not type(new):
        return new

    ours: Any = held  # Any: told apart next
    theirs: Any = new  # Any: likewise
    if kind is list:
        same = 0
        while same < min(len(ours), len(theirs)) and ours[same] == theirs[same]:
            same += 1
        ours[same:] = theirs[same:]
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


def _with_fields(held: T, new: T) -> T:
    names = fields_of(new)
    try:
        for name in names:
            setattr(held, name, grafted(getattr(held, name), getattr(new, name)))
    except (AttributeError, TypeError, ValueError):  # frozen, or a validator that wants them all at once
        return new
    return held if names else new
