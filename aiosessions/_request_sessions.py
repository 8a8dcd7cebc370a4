"""The sessions of one request: found once, saved before the headers go.

Adapters know this file and `Store`, and nothing else of the core.
"""

from functools import singledispatch
from typing import Any, Protocol

import anyio

from aiosessions._errors import ConfigError, ConflictError, SessionError
from aiosessions._events import logger
from aiosessions._marks import Exchange
from aiosessions._request import ASGIRequest, RequestView, ResponseView
from aiosessions._session import Session

__all__ = [
    "SCOPE_KEY",
    "Loading",
    "RequestSessions",
    "Saver",
    "error_status",
    "incoming",
    "incoming_other",
    "sessions_of_request",
]

SCOPE_KEY = "aiosessions"


class Saver(Protocol):
    """What saving a request's sessions asks of the store that opened each."""

    def prepare(self, session: Session[Any], *, can_tell: bool = True) -> None:
        """Encode and check; write nothing. Unless it *can_tell* the client, there can be no new token."""
        ...

    async def commit(self, session: Session[Any]) -> None:
        """Write what `prepare` found to be written."""
        ...

    def discard(self, session: Session[Any]) -> None:
        """Forget every change but a destroy."""
        ...

    def deliver(self, session: Session[Any], response: ResponseView) -> None:
        """Tell the client."""
        ...

    def vary(self, name: str, response: ResponseView) -> None:
        """The response depends on the session's token."""
        ...


class Loading:
    """Stands where a session will: a second `get` waits for the first."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None  # made by the first who waits: most loads have no audience

    async def wait(self) -> None:
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def done(self) -> None:
        if self._event is not None:
            self._event.set()


class RequestSessions:
    """Every session that was looked for during one request, by store and name.

    Refers to sessions; no session refers to it: a cycle per request would cost a collection per request.
    """

    __slots__ = ("_claims", "_found", "exchange", "has_conflict")

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.has_conflict = False  # the handler lost a race: whatever the status, the answer counts like a 500
        self._found: dict[tuple[Saver, str], Session[Any] | Loading] = {}
        self._claims: dict[str, Saver] = {}

    def find(self, store: Saver, name: str) -> Session[Any] | Loading | None:
        """What this request has for the name."""
        return self._found.get((store, name))

    def put(self, store: Saver, name: str, entry: Session[Any] | Loading) -> None:
        """From now on `find` gives *entry*."""
        self._found[(store, name)] = entry

    def forget(self, store: Saver, name: str) -> None:
        """A load failed: the next `get` tries again."""
        del self._found[(store, name)]

    def claim(self, where: str, store: Saver) -> None:
        """Reserve a cookie's or header's name for one store.

        Raises:
            ConfigError: another store uses it in this request.
        """
        if self._claims.setdefault(where, store) is not store:
            raise ConfigError(f"two stores use the {where}: give one of them another name=")

    def __bool__(self) -> bool:
        return bool(self._found)

    def _sessions(self) -> list[tuple[Saver, Session[Any]]]:
        return [(store, entry) for (store, _), entry in self._found.items() if isinstance(entry, Session)]

    async def save(self, status: int) -> None:
        """Save before a response of this status: below 500 everything, else what was destroyed.

        All sessions are encoded and checked before the first is written.

        Raises:
            SessionError: a save failed. What was destroyed is gone all the same; answer with `error_status`, and
                `deliver` tells the client of the sessions that were written.
        """
        if status >= 500 or self.has_conflict:
            await self._abandon()
            return

        can_tell = not self.exchange.is_started
        try:
            opened = self._sessions()
            for store, session in opened:
                store.prepare(session, can_tell=can_tell)
            for store, session in opened:
                await store.commit(session)
        except SessionError:
            await self._abandon()
            raise

    async def _abandon(self) -> None:
        for store, session in self._sessions():
            store.discard(session)
            try:
                await store.commit(session)
            except SessionError:  # the answer is an error already, and the other sessions want their turn
                logger.exception("session %s could not be destroyed", session.name)

    def deliver(self, response: ResponseView) -> None:
        """Put the tokens and `Vary` on the response whose headers leave now."""
        for (store, name), entry in self._found.items():
            if isinstance(entry, Session):
                store.deliver(entry, response)
            store.vary(name, response)
        self.exchange.is_started = True

    def must_tell(self) -> bool:
        """Whether a response has to carry something, whatever its status."""
        return any(session._outgoing is not None or session._doomed for _, session in self._sessions())


def error_status(error: SessionError) -> int:
    """The status of the answer when a save failed: 409 for a lost race, else 500."""
    return 409 if isinstance(error, ConflictError) else 500


def sessions_of_request(scope: Any) -> RequestSessions:  # Any: each framework has a type of its own for scopes
    """The sessions on an ASGI scope, put there by whoever comes first."""
    sessions = scope.get(SCOPE_KEY)
    if sessions is None:
        sessions = scope[SCOPE_KEY] = RequestSessions()
    found: RequestSessions = sessions
    return found


def incoming(request: Any) -> tuple[RequestView, RequestSessions]:  # Any: whatever a framework calls a request
    """A view of a request, and the sessions it carries."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        return ASGIRequest(scope), sessions_of_request(scope)

    return incoming_other(request)


@singledispatch
def incoming_other(request: object) -> tuple[RequestView, RequestSessions]:
    """As `incoming`, for requests without an ASGI scope; their adapter registers them."""
    raise ConfigError(
        f"{type(request).__module__}.{type(request).__qualname__} is no request this process knows: pass the "
        "framework's own request, and import its adapter (aiosessions.aiohttp for aiohttp)"
    )
