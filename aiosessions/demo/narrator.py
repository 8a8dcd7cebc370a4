"""Tells, per request, what the library did: reads, writes, cookies and why."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from aiosessions import Event
from aiosessions.asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = ["NarratedApp", "Narrator", "Notes", "note_call", "note_event", "note_met", "note_seen"]

_READS = ("read", "list")
_WHY: Mapping[str, str] = {
    "created": "Something is worth keeping: a session is stored, and its cookie sent.",
    "saved": "Something changed: written over the version that was read.",
    "merged": "Both had changed one field: the later one stands, and it is told.",
    "conflict": "It lost a race and was refused.",
    "dropped": "A write that came too late: its session had ended or moved on. Nothing comes back to life.",
    "regenerated": "A new token under the same session: every older copy of the cookie is worthless.",
    "destroyed": "Ended on the server, not only in one browser.",
    "expired": "Its time was over.",
    "rejected": "A cookie that is no key to anything, or no longer: refused, and nothing made of it.",
    "token_superseded": "An old copy of the cookie: it shows nothing, and what it brings is not kept.",
    "token_reused": "A token that was replaced long ago came again: somebody has a copy.",
    "unreadable": "Written by another version: left alone until something new is stored.",
    "store_failed": "The storer failed.",
}
_LOST = "Another request had written meanwhile: both changes put together, and written."


@dataclass
class Notes:
    """What happened during one request."""

    method: str
    path: str
    who: str = ""
    """Who made it, where it was no browser."""
    status: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    cookies: list[str] = field(default_factory=list[str])
    events: list[Event] = field(default_factory=list[Event])
    seen: set[int] = field(default_factory=set[int])
    """The versions that it has read and written."""
    met: int = 0
    """How many writes met another version than those, or none."""

    @property
    def reads(self) -> int:
        return sum(self.calls[name] for name in _READS)

    @property
    def writes(self) -> int:
        return self.calls.total() - self.reads

    @property
    def is_merged(self) -> bool:
        """Whether others wrote first, and both changes were put together."""
        return bool(self.met) and not any(event.kind in ("dropped", "conflict") for event in self.events)

    def line(self) -> str:
        """One line for a terminal."""
        sent = ", ".join(self.cookies) or "nothing"
        facts = [f"{event.name} {event.kind}" + (f" ({event.reason})" if event.reason else "") for event in self.events]
        facts += ["put together with what others wrote"] * self.is_merged
        facts += [f"by {self.who}"] * bool(self.who)
        return (
            f"{self.method:4} {self.path:<14} {self.status or '-':<3}   read {self.reads}  wrote {self.writes}  "
            f"sent {sent:<18} {', '.join(facts) or '-'}"
        )

    def why(self) -> list[str]:
        """The same in sentences, for people."""
        told = [_LOST] * self.is_merged
        for event in self.events:
            if event.name == "prefs":
                told.append("The preferences travel in an encrypted cookie: the server keeps nothing.")
            elif event.kind == "saved" and self.method == "GET":
                told.append("A message is shown once: taken out of the session as the page leaves.")
            elif event.kind != "saved" or not self.is_merged:
                told.append(_WHY.get(event.kind, event.kind))
        if told:
            return list(dict.fromkeys(told))

        if self.reads:
            return ["Looked at and left alone: nothing to write, nothing to send."]
        return ["No cookie came and nothing was put in: nothing to do."]


class Narrator:
    """Remembers what the last requests did, and tells each to a function.

    What it remembers is of everybody who visits, so this is for demonstrations only.

    Args:
        tell: gets the notes of each request as its headers leave.
    """

    def __init__(self, tell: Callable[[Notes], None] = lambda _: None) -> None:
        self.recent: deque[Notes] = deque(maxlen=8)  # the newest first
        self._tell = tell

    @contextmanager
    def listening(self, method: str, path: str, who: str = "") -> Generator[Notes]:
        """What happens in this block, in this task and those it starts, is of this request."""
        notes = Notes(method, path, who)
        token = _current.set(notes)
        try:
            yield notes
        finally:
            _current.reset(token)

    def tell(self, notes: Notes, status: int = 0, cookies: Iterable[str] = ()) -> None:
        """The request is answered.

        Args:
            notes: what happened.
            status: of the answer; 0: it was no HTTP request.
            cookies: the values of its `Set-Cookie` headers.
        """
        notes.status = status
        for line in cookies:
            action = "clear" if "Max-Age=0" in line else "cookie"
            notes.cookies.append(f"{action} {line.partition('=')[0]}")
        self.recent.appendleft(notes)
        self._tell(notes)


_current: ContextVar[Notes | None] = ContextVar("notes", default=None)


def note_event(event: Event) -> None:
    """For `on_event=`."""
    notes = _current.get()
    if notes is not None and event.kind not in ("loaded", "touched", "storer_call"):
        notes.events.append(event)


def note_call(name: str) -> None:
    """A storer is called."""
    notes = _current.get()
    if notes is not None:
        notes.calls[name] += 1


def note_seen(version: int) -> None:
    """A request has read or written this version of a record."""
    notes = _current.get()
    if notes is not None:
        notes.seen.add(version)


def note_met(version: int, *, is_written: bool) -> None:
    """A write was put over this version, or was not, for there was another."""
    notes = _current.get()
    if notes is not None:
        notes.met += not is_written or version not in notes.seen


class NarratedApp:
    """An ASGI application whose requests are told.

    Args:
        app: the application.
        narrator: whom to.
    """

    def __init__(self, app: ASGIApp, narrator: Narrator) -> None:
        self._app = app
        self._narrator = narrator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                lines = (value.decode("latin-1") for name, value in message["headers"] if name.lower() == b"set-cookie")
                self._narrator.tell(notes, message["status"], lines)  # before the client knows: its next step may look
            await send(message)

        with self._narrator.listening(scope["method"], scope["path"]) as notes:
            await self._app(scope, receive, note)
