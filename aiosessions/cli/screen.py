"""What an operator's command prints: a table for people, one JSON document for programs, and messages beside it."""

import json
import sys
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from io import TextIOWrapper

from aiosessions._lifetime import moment
from aiosessions._state import is_time
from aiosessions.cli.stored import Stored

try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text
except ImportError as _error:
    raise ImportError('this command needs rich: pip install "aiosessions[cli]"') from _error

__all__ = ["Screen", "as_json", "is_terminal", "printable", "rows_of"]

_NEVER_CUT = 10_000  # columns where no terminal says how many there are
_HANDLE = 24
_COLUMNS = ("handle", "namespace", "name", "user", "label", "seen", "ends")


class Screen:
    """Where a command's answer goes.

    Args:
        is_json: the answer is one JSON document on standard output, and nothing else is.
    """

    def __init__(self, *, is_json: bool) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a label may have what the terminal's encoding has not
        self._is_json = is_json
        is_wide = not is_terminal(sys.stdout)
        self._indent = None if is_wide else 2
        self._console = Console(highlight=False, width=_NEVER_CUT if is_wide else None)

    def say(self, message: str) -> None:
        """A message to whoever reads along; never part of the answer."""
        print(printable(message), file=sys.stderr)

    def answer(self, document: object, sentence: str = "") -> None:
        """The JSON document, or the sentence that says the same."""
        if self._is_json:
            print(json.dumps(document, indent=self._indent, allow_nan=False))
        elif sentence:
            print(printable(sentence))

    def sessions(self, listed: Sequence[Stored], *, with_value: bool = False) -> None:
        """A line for each."""
        if self._is_json:
            self.answer([as_json(stored, with_value=with_value) for stored in listed])
            return
        lines = [rows_of(stored, with_value=with_value) for stored in listed]
        columns = (*_COLUMNS, "value") if with_value else _COLUMNS
        self.table(columns, [[line[column] for column in columns] for line in lines])

    def table(self, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
        """Nothing in it is cut; on a narrow terminal its cells are folded, but handles."""
        table = Table(box=None, pad_edge=False)
        for column in columns:
            if column == "handle":
                table.add_column(column, no_wrap=True, min_width=_HANDLE)
            else:
                table.add_column(column, overflow="fold")
        for line in lines:
            table.add_row(*(Text(printable(cell)) for cell in line))
        self._console.print(table)

    def rows(self, rows: dict[str, str]) -> None:
        """A label and a text on each line."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for label, text in rows.items():
            table.add_row(label, Text(printable(text)))
        self._console.print(table)

    def progress(self, what: str) -> Progress:
        """A bar while *what* goes on, on a terminal only; nobody knows how much there is to do."""
        console = Console(stderr=True)
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not is_terminal(sys.stderr),
        )
        bar.add_task(what, total=None)
        return bar


def is_terminal(stream: object) -> bool:
    """Whether a person sits at it; a stream that was closed before we began is None."""
    return bool(getattr(stream, "isatty", bool)())


def printable(text: str) -> str:
    """The text, with everything escaped that could move a cursor, colour a line or turn its direction."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode("ascii") for each in text
    )


def rows_of(stored: Stored, *, with_value: bool) -> dict[str, str]:
    """A session in words."""
    record, meta = stored.record, stored.meta
    rows = {
        "handle": stored.handle,
        "namespace": stored.namespace,
        "name": stored.name,
        "user": "" if record.owner is None else record.owner,
        "label": meta.label or "",
        "created": _in_words(record.created_at),
        "seen": _in_words(record.seen_at),
        "ends": "never" if record.expires_at is None else _in_words(record.expires_at),
        "login": "" if meta.authenticated_at is None else _in_words(meta.authenticated_at),
        "size": f"{len(record.value)} bytes",
    }
    if with_value:
        rows["value"] = record.value.decode("utf-8", "backslashreplace")
    return rows


def as_json(stored: Stored, *, with_value: bool) -> dict[str, object]:
    """A session as a JSON object. A value that is no JSON comes as `value_base64`."""
    record, meta = stored.record, stored.meta
    shown: dict[str, object] = {
        "handle": stored.handle,
        "namespace": stored.namespace,
        "name": stored.name,
        "user": record.owner,
        "label": meta.label,
        "created_at": _iso(record.created_at),
        "seen_at": _iso(record.seen_at),
        "expires_at": _iso(record.expires_at),
        "authenticated_at": _iso(meta.authenticated_at),
        "size": len(record.value),
    }
    if with_value:
        try:
            shown["value"] = json.loads(record.value)
            json.dumps(shown["value"], allow_nan=False)
        except (ValueError, RecursionError):
            shown.pop("value", None)
            shown["value_base64"] = b64encode(record.value).decode("ascii")
    return shown


def _in_words(seconds: float) -> str:
    when = _moment(seconds)
    return "unreadable" if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def _iso(seconds: float | None) -> str | None:
    when = None if seconds is None else _moment(seconds)
    return None if when is None else when.isoformat(timespec="seconds")


def _moment(seconds: float) -> datetime | None:
    """None for what no clock has said."""
    return moment(seconds) if is_time(seconds) else None
