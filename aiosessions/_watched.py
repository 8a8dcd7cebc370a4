"""Sessions that say it when they are thrown away unsaved: in Python's development mode."""

import warnings
from typing import Any

from aiosessions._errors import UnsavedSessionWarning
from aiosessions._session import Session

__all__ = ["watched"]


def watched(kind: type[Session[Any]]) -> type[Session[Any]]:  # Any: sessions of any type
    """The same kind of session, watched: a forgotten middleware must not be silent."""

    class Watched(kind):  # type: ignore[valid-type,misc]  # a class that is known at run time only
        __slots__ = ()

        def __del__(self) -> None:
            if self._place.keeper.is_unsaved(self):
                warnings.warn(
                    f"{self!r} was changed and never saved: is SessionMiddleware there?",
                    UnsavedSessionWarning,
                    stacklevel=2,
                    source=self,
                )

    return Watched
