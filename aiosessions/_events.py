"""What happened, for audit trails and metrics: one Event per fact, the log lines from the same place."""

import logging
import re
from collections.abc import Callable
from typing import Literal

import msgspec

from aiosessions._errors import DecodeError

logger = logging.getLogger("aiosessions")
_FIELD = re.compile(r"at `\$\.?([^`]*)`")

EventKind = Literal[
    "created",
    "imported",
    "loaded",
    "saved",
    "touched",
    "merged",
    "conflict",
    "dropped",
    "regenerated",
    "destroyed",
    "expired",
    "rejected",
    "token_superseded",
    "token_reused",
    "unreadable",
    "store_failed",
    "storer_call",
]

_LEVELS: dict[EventKind, int] = {
    "rejected": logging.INFO,
    "regenerated": logging.INFO,
    "destroyed": logging.INFO,
    "merged": logging.INFO,
    "dropped": logging.INFO,
    "conflict": logging.WARNING,
    "token_reused": logging.WARNING,
    "unreadable": logging.WARNING,
    "store_failed": logging.ERROR,
}


class Event(msgspec.Struct, frozen=True, gc=False):
    """One fact about one session; never holds a token or a value.

    Attributes:
        kind: what happened.
        name: the session's name.
        handle: its public reference, or "" where none is known.
        user_id: the user bound to it.
        reason: why, in a word or two: `unknown`, `wrong secret`, `malformed`, ...
        fields: those that a merge had to decide, or the one that no longer fits.
        operation: of a `storer_call`, which method: `read`, `create`, `replace`, `touch`, `delete`, ... Its *reason* is
            the class of the error that it raised, "" if it raised none. Such events are not logged.
        seconds: how long it took.
        size: bytes of value and meta that it read or wrote.
        storer: the class of the storer that it reached.
    """

    kind: EventKind
    name: str
    handle: str = ""
    user_id: str | None = None
    reason: str = ""
    fields: tuple[str, ...] = ()
    operation: str = ""
    seconds: float | None = None
    size: int | None = None
    storer: str = ""


class Reporter:
    """Hands events to the application's function and to the log `aiosessions`.

    Args:
        on_event: called in the request, so it must be cheap; what it raises is logged and swallowed.
    """

    __slots__ = ("_on_event",)

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        self._on_event = on_event

    def note(
        self,
        kind: EventKind,
        name: str,
        handle: str = "",
        user_id: str | None = None,
        reason: str = "",
        fields: tuple[str, ...] = (),
    ) -> None:
        """An event, for the application's function and the log."""
        level = _LEVELS.get(kind, logging.DEBUG)
        if logger.isEnabledFor(level):
            about = ", ".join(filter(None, (reason, *fields)))
            # %r and the bound: user text cannot forge or flood log lines (ASVS 5 16.4.1)
            line = (name, _on_one_line(handle) or "-", kind, user_id, _on_one_line(about))
            logger.log(level, "session %s %.80s %s user=%.80r %.200s", *line)

        if self._on_event is not None:
            self.tell(Event(kind, name, handle, user_id, reason, fields))

    def tell(self, event: Event) -> None:
        """Hand it to the application, if that listens; not to the log."""
        if self._on_event is None:
            return

        try:
            self._on_event(event)
        except Exception:  # the application's own function: a broken audit trail must not break the request
            logger.exception("on_event raised")

    def unreadable(self, name: str, handle: str, user_id: str | None, error: DecodeError) -> None:
        """Written by another version: it stays until what takes its place is stored."""
        logger.warning("session %s %s cannot be read: %s", name, _on_one_line(handle), error)
        field = _FIELD.search(str(error))
        self.note("unreadable", name, handle, user_id, fields=(field[1],) if field else ())


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
