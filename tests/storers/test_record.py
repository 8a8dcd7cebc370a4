"""Record, and what a storer says of itself."""

import gc

import pytest
from msgspec.structs import replace as changed

from aiosessions import DiskStorer, Durable, MemoryStorer, Record, SQLiteStorer

RECORD = Record(b"secret value", b"secret meta", "ann", 1.5, 2.5, 3.5, 7)


def test_a_record_shows_neither_value_nor_meta() -> None:
    """V8: in a traceback's local variables, whichever tool prints them."""
    shown = f"{RECORD!r} {RECORD.__rich_repr__()}"
    assert "secret" not in shown
    assert repr(RECORD) == "Record(owner='ann', created_at=1.5, seen_at=2.5, expires_at=3.5, version=7)"


def test_a_record_is_a_value() -> None:
    """S2: equal to one that says the same, never changed, and nothing for the garbage collector to walk."""
    assert changed(RECORD, version=8) == Record(b"secret value", b"secret meta", "ann", 1.5, 2.5, 3.5, version=8)
    assert not gc.is_tracked(RECORD)
    with pytest.raises(AttributeError):
        RECORD.version = 9  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue] - the test


@pytest.mark.parametrize(("now", "is_live"), [(3.4, True), (3.5, False), (3.6, False)])
def test_a_record_lives_until_it_expires(now: float, is_live: bool) -> None:
    """S9: not at its expires_at; None persists."""
    assert RECORD.is_live(now) is is_live
    assert changed(RECORD, expires_at=None).is_live(now)


@pytest.mark.parametrize(
    ("seen_at", "expires_at", "times"),
    [
        (4.0, 5.0, (4.0, 5.0)),
        (1.0, 2.0, (2.5, 3.5)),
        (4.0, None, (4.0, None)),
    ],
)
def test_a_touched_record_has_later_times_and_nothing_else(
    seen_at: float, expires_at: float | None, times: tuple[float, float | None]
) -> None:
    """S7: later, never earlier, and for ever stays so."""
    touched = RECORD.touched(seen_at, expires_at)
    assert touched == changed(RECORD, seen_at=times[0], expires_at=times[1])
    assert touched.touched(0.0, None).touched(0.0, 9.0).expires_at is None


def test_a_storer_that_does_not_say_whether_it_is_durable_is_not_known_to_be() -> None:
    """F16: found by isinstance."""
    assert isinstance(MemoryStorer(), Durable)
    assert isinstance(DiskStorer("unused"), Durable)
    assert isinstance(SQLiteStorer("unused"), Durable)
    assert not isinstance(object(), Durable)
