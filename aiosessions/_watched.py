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
            try:
                is_unsaved = self._standing == "fine" and self._place.keeper.plan(self, can_tell=True) is not None
            except SessionError:
                is_unsaved = True
            if is_unsaved:
                what = f"{self!r} was changed and never saved: is SessionMiddleware there?"
                warnings.warn(what, UnsavedSessionWarning, stacklevel=2, source=self)

    return Watched
