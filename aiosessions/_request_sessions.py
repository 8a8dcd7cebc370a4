"""The sessions of one request: found once, saved before the headers go.

Adapters know this file and `Store`, and nothing else of the core.
"""

from collections.abc import Iterator
from functools import singledispatch
from itertools import takewhile
from typing import Any

import anyio
import msgspec

from aiosessions._errors import (
    STRIPPED,
    ConfigError,
    ConflictError,
    NoSessionError,
    ReauthenticationError,
    SessionError,
    strip,
)
from aiosessions._events import logger
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._request import ASGIRequest
from aiosessions._session import Session
from aiosessions._turn import Turn
from aiosessions._views import RequestView, ResponseView
from aiosessions._watched import LATE, look
from aiosessions.transports.transport import Carried

SCOPE_KEY = "aiosessions"
CHALLENGE = "Session"
"""What `WWW-Authenticate` says: a 401 must have a challenge (RFC 9110 §11.6.1); there is no registered one for us."""


class RequestSessions(msgspec.Struct, eq=False):
    """Every session that was looked for during one request, by its place.

    Refers to sessions; no session refers to it: a cycle per request would cost a collection per request.

    Args:
        reply: what its response must carry.
        has_conflict: the handler lost a race: whatever the status, the answer counts like a 500.
        is_refused: what `refuses` left the handler of a socket: it is closed with 1008, whoever does it.
        found: a Turn stands where a session is being loaded.
        claims: which place has a cookie's or header's name.
        failed: the last save of this one failed.
        unended: may live on though destroyed: it was said, and is not tried again.
    """

    reply: Reply = msgspec.field(default_factory=Reply)
    has_conflict: bool = False
    is_refused: bool = False
    found: dict[Place, Session[Any] | Turn] = {}  # msgspec copies it
    claims: dict[str, Place] = {}  # likewise
    failed: Place | None = None
    unended: tuple[Place, ...] = ()

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
        self.reply.is_leaving = True
        plans: list[tuple[Place, Any]] = []  # Any: of stores of any types
        place = None
        try:
            for place, session in self.found.items():
                if isinstance(session, Session):
                    plan = place.keeper.plan(session, can_tell=can_tell)
                    if plan is not None:
                        plans.append((place, plan))
            for place, plan in plans:
                await place.keeper.carry_out(plan)
            for place, plan in plans[:-1]:  # the others took their time since
                if place in self.reply.words:
                    await place.keeper.confirm(plan.session)
        except BaseException as error:  # also what is no error of ours, and a cancellation
            self.failed = place
            strip(error)
            await self.abandon()
            raise

    async def abandon(self) -> None:
        """Forget every change but what was destroyed; that is carried out also while the request is cancelled."""
        if self.reply.is_touched:
            self._look()
        for session in list(self.found.values()):
            if isinstance(session, Session):
                session._abandon()
        await self.end()

    def must_end(self) -> bool:
        """Whether something was destroyed or changed after the headers, or a touch was left to them."""
        if self.reply.is_touched:
            return True
        for session in self.found.values():  # a generator costs two calls
            if isinstance(session, Session) and (session._ended or session._stale is not None):
                return True
        return False

    async def end(self) -> None:
        """End what was destroyed and has not ended yet, also while the request is cancelled; twice is fine.

        For when the application is through, however it came to be: what it destroyed after the headers, or before its
        client hung up, ends without a save. And a touch that a read had left to the headers is made up for.
        """
        for place, session in list(self.found.items()):
            if not isinstance(session, Session) or place in self.unended:
                continue
            if not session._ended and session._stale is None:
                continue
            try:
                with STRIPPED, anyio.CancelScope(shield=True):  # each end has a bound
                    await place.keeper.end(session)
            except Exception:  # noqa: BLE001  # logged: there is nobody to tell any more, and the others want their turn
                self.unended += (place,)
                logger.exception("session %s could not be destroyed", session.name)
                session._abandon()
        if self.reply.is_touched:
            self._look()

    def _look(self) -> None:
        for session in self.found.values():
            if isinstance(session, Session):
                look(session)

    def deliver(self, response: ResponseView) -> None:
        """Put the tokens and `Vary` on the response whose headers leave now."""
        reply = self.reply
        if reply.words:
            reply.write_on(response)
        for place in self.found:
            place.transport.vary(response, place.name)
            session = self.found[place]
            session.__class__ = LATE[type(session)]  # as `leave`, which would be a call
        reply.is_started = True

    def forget(self, session: Session[Any]) -> None:  # Any: of any store
        """Be as if nobody had looked for it."""
        del self.found[session._place]
        del self.claims[session._carried.where]

    def refuses(self, error: BaseException | None) -> bool:
        """Whether it says that one of these sessions is not what a page asks for: the answer is a 401.

        What `store.open` and its sessions raise is the application's.
        """
        return isinstance(error, (NoSessionError, ReauthenticationError)) and error.reply is self.reply

    def log(self, error: SessionError, request: str) -> None:
        """Write down that a save failed, in which *request*: its method and path, which may hold anything."""
        which = "a session" if self.failed is None else f"session {self.failed.name!r}"
        if isinstance(error, ConflictError):
            logger.info("%s was not saved in %.300r: %s", which, request, error)
        else:
            logger.error("%s was not saved in %.300r", which, request, exc_info=error)

    def must_tell(self) -> bool:
        """Whether a response has to carry something, whatever its status."""
        sessions = (entry for entry in self.found.values() if isinstance(entry, Session))
        return bool(self.reply.words) or any(session._is_ending for session in sessions)


def claimed(carried: Carried) -> ConfigError:
    """What two stores are told that use one cookie or header in one request."""
    return ConfigError(f"two stores use the {carried.where}: give one of them another name=")


def error_status(error: SessionError) -> int:
    """The status of the answer when a save failed: 409 for a lost race, else 500."""
    return 409 if isinstance(error, ConflictError) else 500


def kinds(error: Exception) -> Iterator[type]:
    """Its class and the bases for which a handler of the application takes it: all below Exception."""
    return takewhile(lambda kind: kind is not Exception, type(error).__mro__)


def sessions_of_request(scope: Any) -> RequestSessions:  # Any: each framework has a type of its own for scopes
    """The sessions on an ASGI scope, put there by whoever comes first."""
    sessions = scope.get(SCOPE_KEY)
    if sessions is None:
        sessions = scope[SCOPE_KEY] = RequestSessions(Reply(scope.get("scheme", "http")))
    found: RequestSessions = sessions
    return found


def incoming(request: Any) -> tuple[RequestView, RequestSessions]:  # Any: whatever a framework calls a request
    """A view of a request, and the sessions it carries."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        return ASGIRequest(scope), scope.get(SCOPE_KEY) or sessions_of_request(scope)

    return incoming_other(request)


@singledispatch
def incoming_other(request: object) -> tuple[RequestView, RequestSessions]:
    """As `incoming`, for requests without an ASGI scope; their adapter registers them."""
    raise ConfigError(
        f"{type(request).__module__}.{type(request).__qualname__} is no request this process knows: pass the "
        "framework's own request, and import its adapter (aiosessions.aiohttp for aiohttp), or pass an Exchange"
    )
