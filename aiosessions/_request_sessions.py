"""The sessions of one request: found once, saved before the headers go.

Adapters know this file and `Store`, and nothing else of the core.
"""

from collections.abc import Iterator
from functools import singledispatch
from typing import Any, Protocol

import anyio

from aiosessions._errors import STRIPPED, ConfigError, ConflictError, SessionError
from aiosessions._events import logger
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._request import ASGIRequest, RequestView, ResponseView
from aiosessions._session import Session
from aiosessions._turn import Turn

__all__ = [
    "SCOPE_KEY",
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

    def plan(self, session: Session[Any], *, can_tell: bool) -> Any:  # Any: the store's own Plan, or None
        """What a save has to do, encoded and checked; None: nothing. Without *can_tell* there can be no new token."""
        ...

    async def carry_out(self, plan: Any) -> None:  # Any: what `plan` gave
        """Do it."""
        ...

    async def end(self, session: Session[Any]) -> None:
        """End what was destroyed, and nothing else."""
        ...


class RequestSessions:
    """Every session that was looked for during one request, by its place.

    Refers to sessions; no session refers to it: a cycle per request would cost a collection per request.

    Args:
        scheme: of the request.
    """

    __slots__ = ("_claims", "_found", "_unended", "has_conflict", "reply")

    def __init__(self, scheme: str = "https") -> None:
        self.reply = Reply(scheme)
        self.has_conflict = False  # the handler lost a race: whatever the status, the answer counts like a 500
        self._found: dict[Place, Session[Any] | Turn] = {}
        self._claims: dict[str, Place] = {}
        self._unended: tuple[Place, ...] = ()  # may live on though destroyed: it was said, and is not tried again

    def find(self, place: Place) -> Session[Any] | Turn | None:
        """What this request has for a place; a Turn stands where a session is being loaded."""
        return self._found.get(place)

    def put(self, place: Place, entry: Session[Any] | Turn) -> None:
        """From now on `find` gives *entry*."""
        self._found[place] = entry

    def forget(self, place: Place) -> None:
        """A load failed: the next `get` tries again."""
        del self._found[place]

    def claim(self, where: str, place: Place) -> None:
        """Reserve a cookie's or header's name for one place.

        Raises:
            ConfigError: another store uses it in this request.
        """
        if self._claims.setdefault(where, place) is not place:
            raise ConfigError(f"two stores use the {where}: give one of them another name=")

    def __bool__(self) -> bool:
        return bool(self._found)

    def _sessions(self) -> Iterator[tuple[Saver, Session[Any]]]:
        for place, entry in list(self._found.items()):
            if isinstance(entry, Session):
                yield place.keeper, entry

    async def save(self, status: int) -> None:
        """Save before a response of this status: below 500 everything, else what was destroyed.

        All sessions are encoded and checked before the first is written.

        Raises:
            SessionError: a save failed. What was destroyed is gone all the same; answer with `error_status`, and
                `deliver` tells the client of the sessions that were written.
        """
        if status >= 500 or self.has_conflict:
            await self.abandon()
            return

        can_tell = not self.reply.is_started
        try:
            with STRIPPED:
                plans = [(store, store.plan(session, can_tell=can_tell)) for store, session in self._sessions()]
                for store, plan in plans:
                    if plan is not None:
                        await store.carry_out(plan)
        except SessionError:
            await self.abandon()
            raise

    async def abandon(self) -> None:
        """Forget every change but what was destroyed; that is carried out also while the request is cancelled."""
        for _, session in self._sessions():
            session._abandon()
        await self.end()

    async def end(self) -> None:
        """End what was destroyed and has not ended yet, also while the request is cancelled; twice is fine.

        For when the application is through, however it came to be: what it destroyed after the headers, or before its
        client hung up, ends without a save.
        """
        for place, session in list(self._found.items()):
            if not isinstance(session, Session) or not session._is_ending or place in self._unended:
                continue
            try:
                with STRIPPED, anyio.CancelScope(shield=True):  # each end has a bound
                    await place.keeper.end(session)
            except SessionError:  # there is nobody to tell any more, and the others want their turn
                self._unended += (place,)
                logger.exception("session %s could not be destroyed", session.name)

    def deliver(self, response: ResponseView) -> None:
        """Put the tokens and `Vary` on the response whose headers leave now."""
        reply = self.reply
        if reply.has_word():
            reply.write_on(response)
        for place in self._found:
            place.transport.vary(response, place.name)
        reply.is_started = True

    def must_tell(self) -> bool:
        """Whether a response has to carry something, whatever its status."""
        return self.reply.has_word() or any(session._is_ending for _, session in self._sessions())


def error_status(error: SessionError) -> int:
    """The status of the answer when a save failed: 409 for a lost race, else 500."""
    return 409 if isinstance(error, ConflictError) else 500


def sessions_of_request(scope: Any) -> RequestSessions:  # Any: each framework has a type of its own for scopes
    """The sessions on an ASGI scope, put there by whoever comes first."""
    sessions = scope.get(SCOPE_KEY)
    if sessions is None:
        sessions = scope[SCOPE_KEY] = RequestSessions(scope.get("scheme", "http"))
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
