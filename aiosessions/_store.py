"""What handlers use: the Store Protocol, and what it takes from a framework."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self, TypeVar, overload

from aiosessions._errors import DecodeError
from aiosessions._mapping_session import MappingSession
from aiosessions._session import Session

T = TypeVar("T")
V = TypeVar("V")


class Request(Protocol):
    """A request, a websocket or a connection of aiohttp, Starlette, FastAPI, Quart or Litestar: pass it as it is.

    Where there is none, an `Exchange`.
    """

    @property
    def headers(self) -> Mapping[str, str] | Any: ...  # Any: type checkers do not see through aiohttp's descriptors


class Response(Protocol):
    """A response of aiohttp, Starlette, FastAPI or Quart, or an `Exchange`."""

    @property
    def headers(self) -> Mapping[str, str] | Any: ...  # Any: as above


class _Valued:
    """A value that is no field: `repr`, `asdict` and what a page makes of them leave it out."""

    __slots__ = ("_decode",)

    _decode: Callable[[], Any]  # Any: of the type of the store that listed it

    @property
    def value(self) -> Any:  # Any: as above
        """The session's value, decoded anew each time it is asked for; a change in it changes nothing.

        Raises:
            DecodeError: it is of another type than the values of the store that listed it, or no store did.
        """
        decode = getattr(self, "_decode", None)
        if decode is None:
            raise DecodeError("a SessionInfo that no store has listed, or a copy of one, has no value")
        return decode()

    def _with(self, decode: Callable[[], Any]) -> Self:  # Any: as above
        object.__setattr__(self, "_decode", decode)
        return self


@dataclass(frozen=True, slots=True)
class SessionInfo(_Valued):
    """One line of a "your devices" page (ASVS 5 7.5.2). Nothing in it is a credential; times are aware, UTC."""

    handle: str
    name: str
    label: str | None
    created_at: datetime
    seen_at: datetime
    expires_at: datetime | None
    authenticated_at: datetime | None
    user_id: str | None


class Untyped:
    """Stands for Any in a `Store[Any]`, whose sessions are of Any too: no value is one."""


class Store(Protocol[T]):
    """Gets and saves sessions of one type. Immutable; shared between tasks.

    The sessions of a `Store[dict[str, V]]` are mappings, `MappingSession[V]`. A store of one's own inherits from this.
    """

    @overload
    async def get(
        self: "Store[Untyped]", request: Request, name: str | None = None, *, touch: bool = True
    ) -> Session[Any]: ...
    @overload
    async def get(
        self: "Store[dict[str, V]]", request: Request, name: str | None = None, *, touch: bool = True
    ) -> MappingSession[V]: ...
    @overload
    async def get(self, request: Request, name: str | None = None, *, touch: bool = True) -> Session[T]: ...
    async def get(
        self, request: Request, name: str | None = None, *, touch: bool = True
    ) -> Session[Any]:  # Any: the overloads say of what
        """The session of this name: never None, and a bad cookie never raises.

        Absent, unknown, expired, forged, or written by another version: a new session; no id is adopted, nothing is
        sent. The same request and name give the same Session object, loaded once.

        Args:
            request: the framework's own request, websocket or connection; an `Exchange` where there is none.
            name: `[A-Za-z][A-Za-z0-9_-]{0,63}`; None: the store's own.
            touch: whether reading counts as use, at one write per touch window. One that fails is an Event only: the
                session was read.

        Raises:
            StorerError: the backend failed. A failure is never a silent logout.
            ValueError: *name* is outside the grammar.
            ConfigError: another store uses this cookie or header in this request, or *request* is of no known kind.
        """
        ...

    @overload
    async def require(self: "Store[Untyped]", request: Request, name: str | None = None) -> Session[Any]: ...
    @overload
    async def require(self: "Store[dict[str, V]]", request: Request, name: str | None = None) -> MappingSession[V]: ...
    @overload
    async def require(self, request: Request, name: str | None = None) -> Session[T]: ...
    async def require(self, request: Request, name: str | None = None) -> Session[Any]:  # Any: as above
        """A stored session, possibly anonymous.

        Raises:
            NoSessionError: none came with the request.
            StorerError, ValueError, ConfigError: as `get`.
        """
        ...

    @overload
    def new(self: "Store[Untyped]", request: Request, name: str | None = None) -> Session[Any]: ...
    @overload
    def new(self: "Store[dict[str, V]]", request: Request, name: str | None = None) -> MappingSession[V]: ...
    @overload
    def new(self, request: Request, name: str | None = None) -> Session[T]: ...
    def new(self, request: Request, name: str | None = None) -> Session[Any]:  # Any: as above
        """Start afresh: what the request's verified token referred to ends when the new session is stored or destroyed.

        That is, if it is still what this request knows: a login elsewhere meanwhile stays, and then the new session is
        not stored. Where the client holds the state it ends for every copy with `revocations` only. From now on `get()`
        of this name in this request returns this session.

        Raises:
            ValueError, ConfigError: as `get`.
        """
        ...

    async def save(self, session: Session[T], response: Response | None = None) -> None:
        """Write it if it changed, remove it if destroyed, and tell the client if it must know; idempotent.

        Under a middleware: writes now and leaves the token for the headers, so that errors can be caught here; one that
        was does not come back at the end of the request. A request may save as often as it likes: each save writes what
        changed since the last, and what others wrote is in `session.value` afterwards, in the same lists, dicts, sets
        and objects where they can be changed in place (items of a list that it did not begin with are others).

        Args:
            session: one that this store gave.
            response: needed without a middleware; of an `Exchange`, the same one.

        Raises:
            ConflictError: another request changed the same, and `on_conflict` or `Merge.RAISE` says so.
            EncodeError: the value cannot be encoded, or does not fit its type.
            ResponseStartedError: the client had to be told, and the headers have left, or nobody gave a response.
            SessionTooLargeError: it does not fit; what was stored is still there.
            StorerError: the backend failed: whether it wrote, or ended what was destroyed, is unknown; or the session
                `is_degraded`.
            UnsupportedError: the client has to be told, and the sealer has public keys only, or its time has passed.
        """
        ...

    async def update(self, session: Session[T], change: Callable[[T], T | None]) -> T:
        """Read, modify, write: *change* is run again on the newest value until it wins.

        What the handler changed in `session.value` and has not saved stays in it, over the result, for the next save.
        An update that raises has written nothing, unless it raises StorerError, and leaves `session.value` as it was. A
        session that is new, or that the client holds, is saved with it: then the client must still be told.

        Args:
            session: one that this store gave; its `value` is the result afterwards.
            change: changes the value in place or returns another; may be called several times, so no side effects. What
                it raises goes on.

        Returns:
            `session.value`.

        Raises:
            NoSessionError: the session is gone, a login or logout elsewhere made this token worthless, or it is new and
                *change* left it as it was.
            ConflictError: others kept winning for 5 seconds, or what the handler has not saved cannot stand beside it.
            EncodeError: the result, or the session's own value, cannot be encoded or does not fit its type.
            ResponseStartedError: the client had to be told, and cannot be: there is no middleware, or the headers have
                left.
            SessionTooLargeError: the result does not fit; what was stored is still there.
            StorerError: the backend failed; whether it wrote is unknown.
            UnsupportedError: as `save`.
        """
        ...
