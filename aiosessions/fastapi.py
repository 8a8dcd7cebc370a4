"""For FastAPI: a session as a dependency, `Annotated[Session[AppData], Depends(session_of(store))]`.

Of a store of `dict[str, V]`: `Annotated[MappingSession[V], Depends(session_of(store))]`.

What saves it is `SessionMiddleware` of `aiosessions.asgi`.
"""

# FastAPI reads the annotations of callables at run time: no `from __future__ import annotations` here.
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from fastapi import HTTPException, WebSocketException
from fastapi.requests import HTTPConnection

from aiosessions._mapping_session import MappingSession
from aiosessions._request_sessions import CHALLENGE
from aiosessions._session import Session
from aiosessions._store import Store, Untyped

__all__ = ["SessionOf", "session_of"]

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class SessionOf(Generic[T]):
    """What `session_of` returns. Two of equal arguments are equal, so `dependency_overrides` finds either."""

    store: Store[T]
    name: str | None = None
    user: bool = False

    @overload
    async def __call__(self: "SessionOf[Untyped]", connection: HTTPConnection) -> Session[Any]: ...
    @overload
    async def __call__(self: "SessionOf[dict[str, V]]", connection: HTTPConnection) -> MappingSession[V]: ...
    @overload
    async def __call__(self, connection: HTTPConnection) -> Session[T]: ...
    async def __call__(self, connection: HTTPConnection) -> Session[Any]:  # Any: the overloads say of what
        """The session of a request or a websocket.

        Raises:
            HTTPException: 401, where a user is asked for and none is bound.
            WebSocketException: likewise; a handshake is denied with 403.
        """
        session = await self.store.get(connection, self.name)
        if self.user and not session.is_authenticated:
            if connection.scope["type"] == "websocket":
                raise WebSocketException(1008, "Not authenticated")
            raise HTTPException(401, "Not authenticated", headers={"WWW-Authenticate": CHALLENGE})

        return session


def session_of(store: Store[T], name: str | None = None, *, user: bool = False) -> SessionOf[T]:
    """A dependency that gives a store's session, in handlers of requests and of websockets.

    Args:
        store: where it comes from.
        name: the session's name; None: the store's own.
        user: answer 401 unless a user is bound, a websocket 403.
    """
    return SessionOf(store, name, user)
