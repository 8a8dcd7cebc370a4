"""Sessions that were changed and that nobody saved say so in the log: one error per store and process.

Where nobody will save, a session is watched from the beginning: its end looks whether anything is left in it. Where a
middleware saves, that is too early before the headers, and after them too much for every request: a session is late
then, and watched from when somebody touches it again. A session changes its class for this, since a property in the
place of `value` would cost every request.
"""

import sys
import warnings
from typing import TYPE_CHECKING, Any

from aiosessions._errors import SessionError, UnsavedSessionWarning
from aiosessions._events import logger
from aiosessions._turn import Turn

if TYPE_CHECKING:
    from aiosessions._session import Session

# Any, here and below: sessions of any type
LATE: dict[type[Any], type[Any]] = {Turn: Turn}
"""What a session becomes as its headers leave, by its class; a Turn stands where one is being loaded."""
_WATCHED: dict[type[Any], type[Any]] = {}


def watchable(kind: "type[Session[Any]]") -> "type[Session[Any]]":
    """The same kind of session, which can be watched from now on."""
    if kind not in LATE:
        watched, late = _kinds(kind)
        LATE.update(dict.fromkeys((kind, watched, late), late))
        _WATCHED.update(dict.fromkeys((kind, watched, late), watched))
    return kind


def _kinds(kind: "type[Session[Any]]") -> "tuple[type[Session[Any]], type[Session[Any]]]":
    class Watched(kind):  # type: ignore[valid-type,misc]  # a class that is known at run time only
        __slots__ = ()

        def __del__(self) -> None:
            _tell(self)

    class Late(kind):  # type: ignore[valid-type,misc]  # as above
        __slots__ = ()

        @property
        def value(self) -> Any:
            return _touched(self).value

        @value.setter
        def value(self, value: Any) -> None:
            _touched(self).value = value

        def _wish(self) -> Any:
            return _touched(self)._wish()

    for each in (Watched, Late):
        each.__name__, each.__qualname__, each.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Watched, Late


def watch(session: "Session[Any]") -> None:
    """Nobody saves it, or its headers have left: it must not be forgotten silently."""
    reply = session._reply
    if reply.is_managed:
        leave(session)
    else:
        session.__class__ = _WATCHED[type(session)]


def leave(session: "Session[Any]") -> None:
    """Whatever it has to say has been saved: only who touches it again may forget that."""
    session.__class__ = LATE[type(session)]


def look(session: "Session[Any]") -> None:
    """The application is through: say what it changed too late, once."""
    if type(session) is _WATCHED[type(session)] and not session._ended:  # else it is ended next, or was logged
        _tell(session)
        leave(session)


def _touched(session: "Session[Any]") -> "Session[Any]":
    session._reply.is_touched = True
    session.__class__ = _WATCHED[type(session)]
    return session


def _tell(session: "Session[Any]") -> None:
    keeper, reply = session._place.keeper, session._reply
    if (keeper.is_warned and not sys.flags.dev_mode) or not _is_unsaved(session):
        return

    if reply.is_managed:
        what = (
            "changed after the response had started: use `await store.update(...)`; log in and out, and change what "
            "the client holds, before it"
        )
    else:
        what = f"changed and never saved: {reply.advice}"
    message = f"session {session.name!r} was {what}"
    if not keeper.is_warned:
        keeper.is_warned = True
        logger.error(message)
    if sys.flags.dev_mode:
        warnings.warn(message, UnsavedSessionWarning, stacklevel=2, source=session)


def _is_unsaved(session: "Session[Any]") -> bool:
    """What was dropped is not: its token was superseded, the answer was a 500, or a save has failed."""
    keeper, wishes = session._place.keeper, session._wishes
    if session._standing == "dead" and not (wishes and wishes.is_login):
        return False
    if session._is_ending or (not keeper.can_end and session._reply.owes(session._place)):
        return True
    try:
        plan = keeper.plan(session, can_tell=False)
    except SessionError:
        return True  # there is something, and it cannot be saved now
    return plan is not None and bool(plan.is_changed or plan.wishes.is_write)
