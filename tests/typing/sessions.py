"""A session's value has its type, and only the session of a mapping reads like one."""

from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_type

from aiosessions import Flash, MappingSession, Session


@dataclass
class AppData:
    cart: list[int] = field(default_factory=list[int])
    theme: str = "light"


def fields_have_their_types(session: Session[AppData]) -> None:
    assert_type(session.value, AppData)
    assert_type(session.value.cart, list[int])
    assert_type(session.handle, str)
    assert_type(session.created_at, datetime)
    assert_type(session.expires_at, datetime | None)
    assert_type(session.user_id, str | None)
    assert_type(session.require_user(), str)
    assert_type(session.require_fresh(timedelta(minutes=5)), str)
    assert_type(session.flashes("error", peek=True), list[Flash])
    session.value = AppData(cart=[1])
    session.value.cart.append(42)
    session.label = "Firefox on Linux"
    session.flash("Saved", "success", {"items": [1, 2]})


def a_wrong_field_is_refused(session: Session[AppData]) -> None:
    session.value.basket = [1]  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    session.theme = "dark"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def a_wrong_type_is_refused(session: Session[AppData]) -> None:
    session.value = {"cart": []}  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    session.value.cart.append("apple")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.value.theme = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    session.set_user(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.flash("Saved", data=session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_the_library_says_is_not_to_be_assigned(session: Session[AppData], now: datetime) -> None:
    session.is_new = False  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    session.user_id = "ann"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    session.created_at = now  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def a_session_of_a_mapping_reads_like_it(session: MappingSession[int]) -> None:
    """V6: type checkers agree."""
    assert_type(session["pages"], int)
    session["pages"] = 1
    del session["pages"]
    assert_type("pages" in session, bool)
    assert_type(len(session), int)
    assert_type(iter(session), Iterator[str])
    assert_type(reversed(session), Iterator[str])
    assert_type(session.get("pages"), int | None)
    assert_type(session.get("pages", 0), int)
    assert_type(session.get("pages", ""), int | str)
    assert_type(session.setdefault("pages", 0), int)
    assert_type(session.pop("pages"), int)
    assert_type(session.pop("pages", None), int | None)
    assert_type(session.popitem(), tuple[str, int])
    assert_type(session.keys(), KeysView[str])
    assert_type(session.values(), ValuesView[int])
    assert_type(session.items(), ItemsView[str, int])
    session.add("pages", 2)
    session.update({"pages": 3})
    session.update([("pages", 3)], visits=4)
    session.clear(keep=("pages",))
    session.clear()


def a_session_of_a_mapping_is_a_session_and_a_mapping(session: MappingSession[int]) -> None:
    """V6."""
    mapping: MutableMapping[str, int] = session
    plain: Session[dict[str, int]] = session
    assert_type(session.value, dict[str, int])
    assert_type(session.copy(), dict[str, int])
    assert_type(session | {"pages": 1}, dict[str, int])
    assert_type(session | session, dict[str, int])
    assert_type(session | {"lang": "cy"}, dict[str, int | str])
    assert_type({"pages": 1} | session, dict[str, int])
    assert_type(session == {"pages": 1}, bool)
    assert_type({session: 1}, dict[MappingSession[int], int])
    session |= {"pages": 2}
    session |= [("pages", 3)]
    assert_type(session, MappingSession[int])
    session.set_user("ann")
    del mapping, plain


def a_mapping_s_values_have_their_type(session: MappingSession[int]) -> None:
    session["pages"] = "many"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    session[1] = 1  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    session.add("pages", "many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session |= {"pages": "many"}  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    session.value = {"pages": "many"}  # type: ignore[dict-item]  # pyright: ignore[reportAttributeAccessIssue]


def a_session_of_anything_else_does_not(session: Session[AppData]) -> None:
    """V6: only for `dict[str, V]`."""
    session["cart"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    session["cart"] = [1]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    del session["cart"]  # type: ignore[attr-defined]  # pyright: ignore[reportIndexIssue]
    assert "cart" in session  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
    session.clear()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    session.add("cart", [1])  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    len(session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    iter(session)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def nor_does_one_of_another_kind_of_mapping(session: Session[dict[int, str]]) -> None:
    session[1]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
