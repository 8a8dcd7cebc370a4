"""A session that is taken for its value says what was meant; type checkers refuse it as before."""

from collections.abc import AsyncGenerator, Callable, Container, Iterable, Sized
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from aiosessions import MemoryStorer, Session, StorageOverseer
from aiosessions.testing.suites_store import Visitor

pytestmark = pytest.mark.anyio


@dataclass
class Shop:
    cart: list[int] = field(default_factory=list[int])
    items: int = 0

    @property
    def total(self) -> int:
        return len(self.cart)


class Struct(msgspec.Struct):
    cart: list[int] = []


class Model(pydantic.BaseModel):
    cart: list[int] = []


@attrs.define
class Attributes:
    cart: list[int] = attrs.field(factory=list[int])


class Typed(TypedDict, total=False):
    basket: list[int]


Opened = Callable[[Any], Any]


@pytest.fixture
async def opened() -> AsyncGenerator[Opened]:
    """A new session of a type; Any: the mistakes are what a checker would refuse."""
    names = (f"session{number}" for number in count())
    async with Visitor().visit() as visit:
        yield lambda kind: StorageOverseer(kind, MemoryStorer(), name=next(names)).new(visit.request)


@pytest.mark.parametrize("kind", [Shop, Struct, Model, Attributes])
async def test_a_field_of_the_value_is_named(opened: Opened, kind: type[object]) -> None:
    """V6: read, assigned, or as a key."""
    session = opened(kind)
    message = r"^'Session' object has no attribute 'cart': did you mean session\.value\.cart\?$"
    with pytest.raises(AttributeError, match=message):
        _ = session.cart
    with pytest.raises(AttributeError, match=message):
        session.cart = []
    with pytest.raises(
        TypeError, match=r"^'Session' object is not subscriptable: did you mean session\.value\.cart\?$"
    ):
        _ = session["cart"]
    assert not hasattr(session, "cart")
    assert getattr(session, "cart", None) is None


async def test_a_key_of_the_value_is_named(opened: Opened) -> None:
    """V6: of a TypedDict; also one that was added later."""
    session = opened(Typed)
    with pytest.raises(AttributeError, match=r"^'Session' object has no attribute 'basket'$"):
        _ = session.basket
    session.value["basket"] = [1]
    with pytest.raises(AttributeError, match=r": did you mean session\.value\['basket'\]\?$"):
        _ = session.basket
    with pytest.raises(TypeError, match=r": did you mean session\.value\['basket'\]\?$"):
        _ = session["basket"]
    with pytest.raises(AttributeError, match=r": did you mean session\.value\.items\?$"):
        _ = session.items


async def test_what_the_value_s_class_has_is_named(opened: Opened) -> None:
    """V6: a property, a method."""
    with pytest.raises(AttributeError, match=r": did you mean session\.value\.total\?$"):
        _ = opened(Shop).total


async def test_what_the_value_has_not_is_an_ordinary_mistake(opened: Opened) -> None:
    """V6: also where the values of another store have it."""
    opened(Shop)
    session = opened(str)
    for name in ("cart", "total", "nothing"):
        with pytest.raises(AttributeError, match=rf"^'Session' object has no attribute '{name}'$"):
            getattr(session, name)
        with pytest.raises(TypeError, match=r"^'Session' object is not subscriptable$"):
            _ = session[name]
    with pytest.raises(TypeError, match=r"^'Session' object is not subscriptable$"):
        _ = session[0]
    with pytest.raises(AttributeError, match=r"^type object 'Session' has no attribute 'cart'$"):
        _ = Session.cart  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]  # the mistake


async def test_a_typed_session_is_no_container(opened: Opened) -> None:
    """V6: it is true, and has neither length nor items: Python does not count through it."""
    session = opened(Shop)
    assert session
    mistakes: list[Callable[[], object]] = [
        lambda: len(session),
        lambda: list(session),
        lambda: "cart" in session,
        lambda: iter(session),
        lambda: reversed(session),
        lambda: dict(session),
    ]
    for mistake in mistakes:
        with pytest.raises(TypeError):
            mistake()
    assert not isinstance(session, (Iterable, Container, Sized))


async def test_a_mapping_session_is_its_value(opened: Opened) -> None:
    """V6: whatever the values of other stores have."""
    opened(Shop)
    session = opened(dict[str, int])
    assert type(session).__name__ == "MappingSession"
    session["cart"] = 1
    assert list(session.items()) == [("cart", 1)]
    with pytest.raises(AttributeError, match=r"^'MappingSession' object has no attribute 'cart'$"):
        _ = session.cart
