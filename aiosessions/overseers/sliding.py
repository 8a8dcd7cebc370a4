"""A timed cookie slides: its token is sent again, once one touch window has passed since it was last sent (R15).

By a write with a version, which keeps when; and only as the headers leave, while the record names this secret as its
newest: an answer to an older token must not log out somebody who has logged in meanwhile (R18).
"""

from typing import Any

from msgspec.structs import asdict, replace

from aiosessions._errors import StorerError
from aiosessions._reply import Reply
from aiosessions._session import Session
from aiosessions._state import SentMeta, State, Wishes
from aiosessions._tokens import Token
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.sealed import Sealed


class Sliding:
    """Which tokens of one store are sent again. What a write asks is asked of sessions that slide (`Backend.slides`).

    Args:
        backend: of the store.
        sealed: what the texts of clients mean.
    """

    __slots__ = ("_backend", "_sealed")

    def __init__(self, backend: Backend, sealed: Sealed) -> None:
        self._backend = backend
        self._sealed = sealed

    def is_due(self, state: State, presented: bytes) -> bool:
        """Whether its secret is the newest, and was last sent a touch window ago, or by a clock that was far ahead."""
        if not (self._backend.slides(state) and state.meta.secrets.is_newest(presented)):
            return False
        return abs(self._backend.now() - _sent_at(state)) >= self._backend.lifetime_of(state).touch_window

    # as the headers leave

    def wants(self, session: Session[Any]) -> bool:  # Any: a session of any type
        """Whether one that was only read or touched is to be sent again, now."""
        state, wishes, presented = session._state, session._wishes, session._presented
        if not (session._reply.is_leaving and state.meta.secrets.is_newest(presented)):
            return False
        if wishes is not None and wishes.is_touched:
            return True
        return session._stale is not None and (self._reseals(session) or self.is_due(state, presented))

    def again(self, session: Session[Any], wishes: Wishes, over: State, state: State) -> str:  # Any: as above
        """The text that is sent again with a write; "": none.

        It is what came: its seal ends with the session. One under an older key is sealed anew.

        Args:
            session: whose.
            wishes: what else is done.
            over: what is stored now.
            state: what that becomes.
        """
        came = session._carried.token or ""
        if not (session._reply.is_leaving and over.meta.secrets.is_newest(session._presented)):
            return ""
        is_stale = self._sealed.is_stale(came)
        if not (is_stale or wishes.is_touched or self.is_due(over, session._presented)):
            return ""

        token = self._newest_of(session)
        if token is None:
            return ""
        return self._sealed.text(session._place, token, state) if is_stale else came

    async def is_outdated(self, session: Session[Any]) -> bool:  # Any: as above
        """Whether what was written to be sent again is the newest no more, or nobody can tell."""
        state = session._state
        if not (state.handle and self._backend.slides(state)) or self._newest_of(session) is None:
            return False
        try:
            newest = await self._backend.newest(session._place, state)
        except StorerError:
            return True
        return newest is None or not newest.meta.secrets.is_newest(session._presented)

    def _newest_of(self, session: Session[Any]) -> Token | None:  # Any: as above
        """The token that came; None: this very response brings a newer one."""
        token = self._sealed.known(session._place, session._carried.token or "")
        is_newest = token is not None and session._place.digest(token.secret) == session._presented
        return token if is_newest else None

    def sent(self, state: State, over: State, *, is_sent: bool) -> State:
        """The same, and it keeps when its token was sent: now, or before."""
        fields: dict[str, Any] = asdict(state.meta)  # Any: of all its types
        fields["sent_at"] = state.seen_at if is_sent else _sent_at(over)
        return replace(state, meta=SentMeta(**fields))

    def is_done(self, wishes: Wishes, before: State, state: State) -> bool:
        """Whether others have sent it since *before*, and nothing else was to be done."""
        if wishes.is_write or wishes.is_touched:
            return False
        is_settled = self._backend.lifetime_of(state).rotate is None and len(state.meta.secrets.opening) == 1
        return is_settled and _sent_at(state) != _sent_at(before)

    # what is left to the headers

    def may_wait(self, state: State, reply: Reply) -> bool:
        """Whether a read may leave its touch to the headers: a slow handler must not find that it has expired."""
        idle = self._backend.lifetime_of(state).idle
        return reply.is_awaited and (idle is None or state.read_at - state.seen_at < idle.total_seconds() / 2)

    def put_off(self, session: Session[Any], wishes: Wishes) -> None:  # Any: as above
        """What was saved before the headers leave is sent again when they do, if it is to be."""
        if session._reply.is_awaited and (wishes.is_touched or self.is_due(session._state, session._presented)):
            session.touch()

    def is_missed(self, session: Session[Any]) -> bool:
        """Whether a read left its touch to the headers, and those took none along."""
        state = session._state
        if not self.is_due(state, session._presented):
            return False
        return self._backend.now() - state.seen_at >= self._backend.lifetime_of(state).touch_window

    def _reseals(self, session: Session[Any]) -> bool:
        return self._sealed.reseals and self._sealed.is_stale(session._carried.token)


def _sent_at(state: State) -> float:
    return state.meta.sent_at if isinstance(state.meta, SentMeta) else 0.0
