"""Sessions that say it when they are thrown away unsaved: in Python's development mode."""

import warnings
from typing import Any

from aiosessions._errors import SessionError, UnsavedSessionWarning
from aiosessions._session import Session

__all__ = ["watched"]


def watched(kind: type[Session[Any]]) -> type[Session[Any]]:  # Any: sessions of any type
    """The same kind of session, watched: a forgotten middleware must not be silent."""

    class Watched(kind):  # type: ignore[valid-type,misc]  # a class that is known at run time only
        __slots__ = ()

        def __del__(self) -> None:
            if self._standing == "fine" and _is_unsaved(self):
                warnings.warn(
                    f"{self!r} was changed and never saved: is SessionMiddleware there?",
                    UnsavedSessionWarning,
                    stacklevel=2,
                    source=self,
                )

    return Watched


def _is_unsaved(session: Session[Any]) -> bool:  # Any: as above
    """Whether something is lost when the session goes away."""
    try:
        return session._place.keeper.plan(session, can_tell=True) is not None
    except SessionError:
        return True
