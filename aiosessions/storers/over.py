"""A storer that stands over another, and can what that one can."""

from collections.abc import AsyncIterator
from typing import Any, cast

from aiosessions.storers.storer import (
    Cleanable,
    Durable,
    Listable,
    Openable,
    ReadsTogether,
    Storer,
    UserIndexed,
)

__all__ = ["Over", "innermost", "shape"]


class Over:
    """Who holds it holds the other, which is opened once and has one cleaner.

    Attributes:
        inner: the other.
    """

    inner: Storer


class _Durable(Over):
    """See `Durable`."""

    @property
    def durable(self) -> bool:
        return cast("Durable", self.inner).durable


class _Cleanable(Over):
    """See `Cleanable`."""

    async def clean(self) -> int:
        return await cast("Cleanable", self.inner).clean()


class _Listable(Over):
    """See `Listable`."""

    def keys(self) -> AsyncIterator[str]:
        return cast("Listable", self.inner).keys()


class _Openable(Over):
    """See `Openable`. The inner storer counts: it may have other users."""

    async def open(self) -> None:
        await cast("Openable", self.inner).open()

    async def aclose(self) -> None:
        await cast("Openable", self.inner).aclose()


def shape(
    storer: Over, name: str, *, indexed: type[Over], together: type[Over], listable: type[Over] = _Listable
) -> None:
    """Give *storer* what its inner storer can (`isinstance(storer, UserIndexed)` and its like), and no more.

    Args:
        storer: has its `inner`.
        name: of its class from now on.
        indexed: how it is `UserIndexed`.
        together: how it is `ReadsTogether`.
        listable: how it is `Listable`.
    """
    inner = storer.inner
    abilities = (
        (_Durable, isinstance(inner, Durable)),
        (_Cleanable, isinstance(inner, Cleanable)),
        (indexed, isinstance(inner, UserIndexed)),
        (together, isinstance(inner, ReadsTogether)),
        (listable, isinstance(inner, Listable)),
        (_Openable, isinstance(inner, Openable)),
    )
    # A class of its own, not `__getattr__`: from Python 3.12 on a Protocol's isinstance() looks without it.
    kind = type(storer)
    bases = kind, *(over for over, is_able in abilities if is_able)
    made: Any = type(name, bases, {"__module__": kind.__module__})  # Any: no annotation has a word for it
    storer.__class__ = made


def innermost(storer: Storer) -> Storer:
    """The one that stands over no other."""
    while isinstance(storer, Over):
        storer = storer.inner
    return storer
