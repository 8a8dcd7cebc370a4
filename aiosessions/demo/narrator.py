"""Tells, per request, what the library did: reads, writes, cookies and why."""

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from aiosessions import DiskStorer, Event, Record
from aiosessions.asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = ["NarratedApp", "NarratedStorer", "Notes", "note_event"]


@dataclass
class Notes:
    """What happened during one request."""

    method: str
    path: str
    status: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    cookies: list[str] = field(default_factory=list[str])
    events: list[str] = field(default_factory=list[str])

    @property
    def reads(self) -> int:
        return self.calls["read"] + self.calls["list"]

    @property
    def writes(self) -> int:
        return self.calls.total() - self.reads

    def line(self) -> str:
        """One line for a terminal."""
        sent = ", ".join(self.cookies) or "nothing"
        why = ", ".join(self.events) or "-"
        return (
            f"{self.method:4} {self.path:<14} {self.status}   read {self.reads}  wrote {self.writes}  "
            f"sent {sent:<18} {why}"
        )


_current: ContextVar[Notes | None] = ContextVar("notes", default=None)


def note_event(event: Event) -> None:
    """For `on_event=`."""
    notes = _current.get()
    if notes is not None and event.kind not in ("loaded", "touched"):
        notes.events.append(f"{event.name} {event.kind}" + (f" ({event.reason})" if event.reason else ""))


def _note_call(name: str) -> None:
    notes = _current.get()
    if notes is not None:
        notes.calls[name] += 1


class NarratedStorer(DiskStorer):
    """A DiskStorer whose calls are counted."""

    async def read(self, key: str) -> Record | None:
        """See `Storer.read`."""
        _note_call("read")
        return await super().read(key)

    async def create(self, key: str, record: Record) -> bool:
        """See `Storer.create`."""
        _note_call("create")
        return await super().create(key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        """See `Storer.replace`."""
        _note_call("replace")
        return await super().replace(key, record, version=version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        """See `Storer.touch`."""
        _note_call("touch")
        return await super().touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        """See `Storer.delete`."""
        _note_call("delete")
        return await super().delete(key, version=version)

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        """See `UserIndexed.list_by_owner`."""
        _note_call("list")
        return await super().list_by_owner(owner, prefix=prefix)

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        """See `UserIndexed.delete_by_owner`."""
        _note_call("delete_by_owner")
        return await super().delete_by_owner(owner, prefix=prefix, keep=keep)


class NarratedApp:
    """An application whose requests are told to a function, each when it is over.

    Args:
        app: the application.
        tell: gets the notes of each request.
    """

    def __init__(self, app: ASGIApp, tell: Callable[[Notes], None]) -> None:
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        notes = Notes(scope["method"], scope["path"])

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                notes.status = message["status"]
                lines = [value.decode("latin-1") for name, value in message["headers"] if name == b"set-cookie"]
                for line in lines:
                    action = "clear" if "Max-Age=0" in line else "cookie"
                    notes.cookies.append(f"{action} {line.partition('=')[0]}")
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._tell(notes)  # before the client has the answer: its next step may look
            await send(message)

        token = _current.set(notes)
        try:
            await self._app(scope, receive, note)
        finally:
            _current.reset(token)
