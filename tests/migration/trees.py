"""What applications keep in sessions."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from markupsafe import Markup

__all__ = ["JSON", "TAGGED", "json_trees", "tagged_trees"]

JSON: dict[str, Any] = {  # Any: whatever JSON may hold
    "user": "ann",
    "text": 'Zoë 東京 \U0001f600 \\ " ; , \r\n\x00 \ud800',
    "ünï ; =": "",
    "": None,
    "number": -7,
    "big": 2**80,
    "float": 1.5e-300,
    "yes": True,
    "no": False,
    "list": [1, [2, [{"deep": []}]], "x"],
    "map": {"a": {"b": {}}, "0": 0},
}
TAGGED: dict[str, Any] = {
    "tuple": (1, ("two", [3, ()]), {"a": (4,)}),
    "bytes": b"\x00\xff raw",
    "markup": Markup("<b>bold</b>"),
    "uuid": UUID("12345678-1234-5678-1234-567812345678"),
    "now": datetime(2026, 2, 28, 23, 59, 58, tzinfo=UTC),
    "there": datetime(2026, 2, 28, 23, 59, 58, tzinfo=timezone(timedelta(hours=9))),
    "like a tag": {" t": [1, 2]},
    "like an escaped tag": {" t__": [1, 2]},
    "like an escape": {" di": {" di": 1}},
    "tags in a tag": {" b": {" u": b"in"}},
    "more than one": {" t": 1, " b": 2},
}
_text = st.text(max_size=8)
_plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text
_tagged = (
    _plain
    | st.binary(max_size=8)
    | st.uuids()
    | st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds are naive
)
_keys = _text | st.sampled_from([" t", " b", " m", " u", " d", " di", " t__", " di__"])


def json_trees() -> st.SearchStrategy[dict[str, Any]]:
    """Sessions of JSON."""
    tree = st.recursive(_plain, lambda each: st.lists(each, max_size=3) | st.dictionaries(_text, each, max_size=3))
    return st.dictionaries(_text, tree, min_size=1, max_size=4)


def tagged_trees() -> st.SearchStrategy[dict[str, Any]]:
    """Sessions of what Flask keeps, some of them with keys that look like its tags."""
    tree = st.recursive(
        _tagged,
        lambda each: (
            st.lists(each, max_size=3)
            | st.lists(each, max_size=3).map(tuple)
            | st.dictionaries(_keys, each, max_size=3)
        ),
    )
    return st.dictionaries(_keys, tree, min_size=1, max_size=4)
