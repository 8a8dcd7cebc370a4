"""What both overseers share: finding the session of a request, planning a save, telling the client."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload
from weakref import WeakValueDictionary

import anyio

from aiosessions._clock import Clock
from aiosessions._ending import Ending
from aiosessions._errors import (
    STRIPPED,
    ConfigError,
    ConflictError,
    DecodeError,
    EncodeError,
    NoSessionError,
    SessionError,
    StorerError,
)
from aiosessions._events import Event, Reporter, logger
from aiosessions._lifetime import MAX_AGE_LIMIT, Lifetime
from aiosessions._mapping_session import MappingSession, session_type
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._request import response_view
from aiosessions._request_sessions import incoming
from aiosessions._session import Session
from aiosessions._state import NOTHING, State, Wishes
from aiosessions._store import Request, Response, Store, Untyped
from aiosessions._turn import Turn
from aiosessions.sealers.sealer import Claims, Sealer
from aiosessions.storers.holding import hold, is_held, release
from aiosessions.storers.storer import Openable, Storer
from aiosessions.transports.cookies import default_transport
from aiosessions.transports.transport import Carried, Transport, check_name
from aiosessions.values.codecs import CheckedCodec, Codec, codec_for
from aiosessions.values.merge import Merger

__all__ = ["Overseer", "Plan", "changed", "gone"]

T = TypeVar("T")
V = TypeVar("V")
_ENDING_SECONDS = 5.0
"""How long a cancelled task may take to end one session."""
_MAX_AGE = int(MAX_AGE_LIMIT.total_seconds())
_SITE_DATA = frozenset(("cache", "clientHints", "cookies", "executionContexts", "storage", "*"))
_FIELD = re.compile(r"at `\$\.?([^`]*)`")
_NAMESPACE = re.compile(r"[A-Za-z0-9._/-]{0,64}", re.ASCII)


class Plan(Generic[T]):
    """What one save has to do, encoded and checked. Held by whoever saves, and carried out; never kept in a session.

    Attributes:
        session: whose.
        state: what the session was when this was planned.
        lives: likewise, how often it had been destroyed.
        data: the value, encoded.
        is_changed: whether it differs from the state's.
        is_write: whether there is more to do than a touch and what is to end.
        wishes: what else the handler asked for, as it was at that moment.
        can_tell: whether a new token can still reach the client.
        sealed: of a session that the client holds: what it becomes, and the token that says so.
    """

    __slots__ = ("can_tell", "data", "is_changed", "is_write", "lives", "sealed", "session", "state", "wishes")

    def __init__(
        self, session: Session[T], data: bytes, wishes: Wishes, *, is_changed: bool, is_write: bool, can_tell: bool
    ) -> None:
        self.session = session
        self.state = session._state
        self.lives = session._lives
        self.data = data
        self.is_changed = is_changed
        self.is_write = is_write
        self.wishes = wishes if wishes is NOTHING else wishes.copy()
        self.can_tell = can_tell
        self.sealed: object = None

    def __repr__(self) -> str:  # tracebacks may show local variables: no value
        return f"Plan(is_changed={self.is_changed}, is_write={self.is_write})"


class Overseer(Store[T], ABC):
    """The part of a Store that does not care where the state is."""

    def __init__(
        self,
        value_type: type[T],
        *,
        name: str,
        default: Callable[[], T] | None,
        codec: Codec[T] | None,
        prefers_json: bool,
        backend: Storer | None,
        clean_every: timedelta | None,
        transport: Transport | None,
        sealer: Sealer | None,
        lifetime: Lifetime | None,
        namespace: str,
        on_event: Callable[[Event], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._transport: Transport = default_transport() if transport is None else transport
        check_name(self._transport, name)
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigError(f"namespace={namespace!r}: use at most 64 letters, digits, '.', '_', '-' and '/'")
        if lifetime is not None and not isinstance(lifetime, Lifetime):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a checker
            raise ConfigError(f"lifetime={lifetime!r}: give a Lifetime")

        self.name = name
        self.lifetime: Lifetime = lifetime or Lifetime()
        self.now = Clock(clock)
        self._namespace = namespace
        self._sealer = sealer
        self._codec: CheckedCodec[T] = codec_for(value_type, json=prefers_json, codec=codec)
        self._merger = Merger(self._codec)
        self._default = default
        self._value_type = value_type
        self._report = Reporter(on_event)
        self._backend = backend
        self._clean_every = clean_every
        self._is_ready = backend is None
        self._session_type: type[Session[T]] = session_type(value_type)
        self._reseals: bool = getattr(sealer, "reseal", False)
        self._own_place = Place(self, name, namespace, self._transport)
        self._places: WeakValueDictionary[str, Place] = WeakValueDictionary()  # of other names, while they are in use
        self.check_lifetime(self.lifetime)
        self._prove()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {getattr(self._value_type, '__name__', self._value_type)}>"

    def _prove(self) -> None:
        kind = getattr(self._value_type, "__name__", str(self._value_type))
        try:
            value = (self._default or self._value_type)()
        except TypeError:
            if self._default is not None:
                raise
            raise ConfigError(f"{kind} cannot be made without arguments: give default=") from None
        try:
            self._codec.decode(self._codec.encode(value))
        except (EncodeError, DecodeError) as error:
            raise ConfigError(f"a new {kind} cannot be stored: {error}: change the type, or give default=") from None

    # opening and closing

    async def __aenter__(self) -> Self:
        """Open the storer and run its cleaner; a storer shared by several stores is opened by the first."""
        if self._backend is not None:
            await hold(self._backend, clean_every=self._clean_every)
            self._check_backend()
        self._is_ready = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the cleaner and close what was opened; may run in another task than `__aenter__` did."""
        self._is_ready = False
        if self._backend is not None:
            await release(self._backend)

    async def _ready(self) -> None:
        """A store that nobody opened opens itself, and says so once."""
        if self._is_ready:
            return

        if self._backend is not None and not is_held(self._backend):
            if isinstance(self._backend, Openable):
                await self._backend.open()
            logger.warning(
                "%r was not opened, so expired sessions are not swept: give it to SessionMiddleware(stores=[...]) or "
                "use `async with store`",
                self,
            )
        self._check_backend()
        self._is_ready = True

    def _check_backend(self) -> None:
        """What can only be known of a backend that is open."""

    # what sessions ask (see Keeper)

    def fresh(self) -> tuple[T, bytes]:
        """A new value, and its bytes. Through the codec, so that a mutable default is never shared."""
        data = self._codec.encode((self._default or self._value_type)())
        return self._codec.decode(data), data

    @abstractmethod
    def check_lifetime(self, lifetime: Lifetime) -> None:
        """Raise ConfigError for one that this store cannot keep."""

    def is_unsaved(self, session: Session[T]) -> bool:
        """Whether something would be lost if the session went away now."""
        if session._standing != "fine":
            return False
        try:
            return self.plan(session, can_tell=True) is not None
        except SessionError:
            return True

    # what handlers use (see Store); Any: the overloads say of what

    @overload
    async def get(
        self: Store[Untyped], request: Request, name: str | None = None, *, touch: bool = True
    ) -> Session[Any]: ...
    @overload
    async def get(
        self: Store[dict[str, V]], request: Request, name: str | None = None, *, touch: bool = True
    ) -> MappingSession[V]: ...
    @overload
    async def get(self, request: Request, name: str | None = None, *, touch: bool = True) -> Session[T]: ...
    async def get(self, request: Request, name: str | None = None, *, touch: bool = True) -> Session[Any]:
        """See `Store.get`."""
        place = self._own_place if name is None else self._place(name)
        view, sessions = incoming(request)
        while (found := sessions.find(place)) is not None:
            if isinstance(found, Session):
                return found
            await found.take()  # it is being loaded
            found.end()

        loading = Turn()
        loading.is_taken = True
        sessions.put(place, loading)
        try:
            carried = self._transport.read(view, place.name)
            sessions.claim(carried.where, place)
            with STRIPPED:
                session = await self._load(place, carried, sessions.reply, touch=touch)
        except BaseException:
            if sessions.find(place) is loading:
                sessions.forget(place)
            raise
        else:
            current = sessions.find(place)
            if isinstance(current, Session):
                return current  # new() was called while this one loaded
            sessions.put(place, session)
            return session
        finally:
            loading.end()

    @overload
    async def require(self: Store[Untyped], request: Request, name: str | None = None) -> Session[Any]: ...
    @overload
    async def require(self: Store[dict[str, V]], request: Request, name: str | None = None) -> MappingSession[V]: ...
    @overload
    async def require(self, request: Request, name: str | None = None) -> Session[T]: ...
    async def require(self, request: Request, name: str | None = None) -> Session[Any]:
        """See `Store.require`."""
        session = await self.get(request, name)
        if not session._state.handle:
            raise NoSessionError(f"no stored session {session.name!r} came with the request")

        return session

    @overload
    def new(self: Store[Untyped], request: Request, name: str | None = None) -> Session[Any]: ...
    @overload
    def new(self: Store[dict[str, V]], request: Request, name: str | None = None) -> MappingSession[V]: ...
    @overload
    def new(self, request: Request, name: str | None = None) -> Session[T]: ...
    def new(self, request: Request, name: str | None = None) -> Session[Any]:
        """See `Store.new`."""
        place = self._place(name)
        view, sessions = incoming(request)
        carried = self._transport.read(view, place.name)
        sessions.claim(carried.where, place)
        before = sessions.find(place)
        unproven = (Ending(None, carried.token),) if carried.token else ()
        session = self._blank(place, carried, sessions.reply, ended=unproven)
        if isinstance(before, Session):
            session._replaces(before)
        sessions.put(place, session)
        return session

    async def save(self, session: Session[T], response: Response | None = None) -> None:
        """See `Store.save`."""
        reply = session._reply
        is_gone = reply.is_started if response is None else bool(getattr(response, "prepared", False))
        can_tell = not is_gone and (response is not None or reply.is_managed)
        turn = session._own_turn()
        await turn.take()
        try:
            with STRIPPED:
                await self._save(session, can_tell=can_tell)
        finally:
            turn.end()
        if response is not None:
            view = response_view(response.headers)
            reply.write_on(view, session._place)
            self._transport.vary(view, session.name)

    async def _save(self, session: Session[T], *, can_tell: bool) -> None:
        if session._is_ending:  # whatever becomes of the rest
            await self._end(session)
        plan = None
        try:
            plan = self._planned(session, can_tell=can_tell)
            if plan is not None:
                await self._carry_out(plan)
        except SessionError:
            session._gave_up(b"" if plan is None else plan.data)
            raise
        if session._is_ending:
            await self._end(session)

    async def destroy(
        self, session: Session[T], response: Response | None = None, *, clear_site_data: Sequence[str] = ()
    ) -> None:
        """`session.destroy()` and save.

        Args:
            session: one that this store gave.
            response: needed without a middleware.
            clear_site_data: what else the browser forgets: "cache", "storage", ... (ASVS 5 14.3.1); sent as
                `Clear-Site-Data`.

        Raises:
            ValueError: a word that `Clear-Site-Data` does not know.
            StorerError: the backend failed: the session may not have ended.
        """
        if not _SITE_DATA.issuperset(clear_site_data):
            raise ValueError(f"clear_site_data={clear_site_data!r}: give some of {sorted(_SITE_DATA)}")

        session.destroy()
        if clear_site_data and session._standing == "fine":
            session._reply.clear(session._place, session._carried, clear_site_data)
        await self.save(session, response)

    # what the sessions of a request ask (see Saver)

    def plan(self, session: Session[T], *, can_tell: bool) -> Plan[T] | None:
        """See `Saver.plan`. What an explicit save could not save is left out: its caller knows."""
        failed = session._failed
        if failed is None:
            return self._planned(session, can_tell=can_tell)

        try:
            plan = self._planned(session, can_tell=can_tell)
        except SessionError:
            plan = None
        if plan is None or (plan.data == failed[0] and plan.wishes.asks_the_same(failed[1])):
            return self._only_ending(session)
        return plan

    async def carry_out(self, plan: Plan[T]) -> None:
        """See `Saver.carry_out`. Two saves of one session take turns."""
        session = plan.session
        turn = session._own_turn()
        is_late = turn.is_taken
        await turn.take()
        try:
            if session._is_ending:
                await self._end(session)
            if is_late or session._state is not plan.state:  # somebody saved it meanwhile
                late = self.plan(session, can_tell=plan.can_tell)
                if late is None:
                    return
                plan = late
            await self._carry_out(plan)
            if session._is_ending:
                await self._end(session)
        finally:
            turn.end()

    async def end(self, session: Session[T]) -> None:
        """See `Saver.end`."""
        turn = session._own_turn()
        await turn.take()
        try:
            await self._end(session)
        finally:
            turn.end()

    def _planned(self, session: Session[T], *, can_tell: bool) -> Plan[T] | None:
        """The first phase of a save: encode and check, no I/O."""
        state, wishes = session._state, session._wishes or NOTHING
        if session._standing == "dead" and not wishes.is_login:
            return self._dropped(session)

        data = self._codec.encode(session.value)
        is_changed = self._differs(state.value, session.value, data)
        is_new = not state.handle
        if is_changed or (wishes.is_content if is_new else wishes.is_write or self._is_due(session, can_tell=can_tell)):
            self._check_write(session, wishes, is_changed=is_changed, can_tell=can_tell)
            if is_changed:
                self._codec.check(session.value, data)
            return self._plan(Plan(session, data, wishes, is_changed=is_changed, is_write=True, can_tell=can_tell))
        if wishes.is_touched and not is_new:
            return self._plan(Plan(session, data, wishes, is_changed=False, is_write=False, can_tell=can_tell))
        return self._only_ending(session)

    def _differs(self, base: bytes, value: T, data: bytes) -> bool:
        """Whether *value*, encoded as *data*, is another one than *base*."""
        if data != base and not self._codec.unchanged(base, value, data):
            return True
        if b"null" in data and self._codec.is_json:
            self._codec.check(value, data)  # JSON writes NaN as it writes None
        return False

    def _dropped(self, session: Session[T]) -> Plan[T] | None:
        """A session whose token means nothing any more is not written, and its changes are not silent."""
        try:
            data = self._codec.encode(session.value)
            is_lost = session._wishes is not None or self._differs(session._state.value, session.value, data)
        except EncodeError:
            is_lost = True
        if is_lost:
            self._drop(session, "superseded")
        return self._only_ending(session)

    def _adopt(self, session: Session[T], before: bytes, now: bytes) -> None:
        """Take what is stored *now* into the value; what its handler changed since *before* is kept.

        It was written already, so nothing here may raise: what cannot be merged stays as it is.
        """
        try:
            ours = self._codec.encode(session.value)
            if ours == before:
                session.value = self._codec.decode(now)
            else:
                session.value = self._merger.merge(before, ours, now).value
        except (EncodeError, DecodeError, ConflictError):
            return

    async def _update_own(self, session: Session[T], change: Callable[[T], T | None]) -> None:
        """An update of what nobody else can have changed: a session that is not stored, or that the client holds."""
        before = self._codec.encode(session.value)
        value = changed(change, self._codec.decode(before))
        data = self._codec.encode(value)
        wishes, can_tell = session._wishes or NOTHING, session._reply.is_managed and not session._reply.is_started
        is_changed = self._differs(session._state.value, value, data)
        if not is_changed and not wishes.is_write:
            return

        self._check_write(session, wishes, is_changed=is_changed, can_tell=can_tell)
        if is_changed:
            self._codec.check(value, data)
        plan = self._plan(Plan(session, data, wishes, is_changed=is_changed, is_write=True, can_tell=can_tell))
        if plan is not None:
            await self._carry_out(plan)
        if session._standing == "dead":
            raise gone(session)
        self._adopt(session, before, session._state.value)

    def _unreadable(self, place: Place, handle: str, owner: str | None, error: DecodeError) -> None:
        """Written by another version: it stays until what takes its place is stored."""
        logger.warning("session %s %s cannot be read: %s", place.name, handle, error)
        field = _FIELD.search(str(error))
        self._report("unreadable", place.name, handle, owner, fields=(field[1],) if field else ())

    def _is_stale(self, token: str) -> bool:
        """Whether a token that the sealer opened would be sealed under another key today."""
        is_current: Callable[[str], bool] | None = getattr(self._sealer, "is_current", None)
        return is_current is not None and not is_current(token)

    def _drop(self, session: Session[T], reason: str) -> None:
        self._report("dropped", session.name, session.handle, session.user_id, reason=reason)
        session._died()

    @staticmethod
    def _only_ending(session: Session[T]) -> Plan[T] | None:
        if not session._is_ending:
            return None
        return Plan(session, b"", NOTHING, is_changed=False, is_write=False, can_tell=False)

    # for the two of them

    @abstractmethod
    async def _load(self, place: Place, carried: Carried, reply: Reply, *, touch: bool) -> Session[T]: ...

    @abstractmethod
    def _is_due(self, session: Session[T], *, can_tell: bool) -> bool:
        """Whether the token itself needs a write."""

    @abstractmethod
    def _check_write(self, session: Session[T], wishes: Wishes, *, is_changed: bool, can_tell: bool) -> None:
        """Raise what speaks against a write before anything is checked."""

    @abstractmethod
    def _plan(self, plan: Plan[T]) -> Plan[T] | None:
        """Last checks; None: nothing is to be done after all."""

    @abstractmethod
    async def _carry_out(self, plan: Plan[T]) -> None:
        """The second phase of a save."""

    @abstractmethod
    async def _end_one(self, session: Session[T], ending: Ending) -> None:
        """End what is due; StorerError says that it may not have ended."""

    async def _end(self, session: Session[T]) -> None:
        """End what is due, also while the task is cancelled; a backend that hangs must not hold it for ever."""
        await self._ready()
        for ending in session._ended:
            if not ending.is_due:
                continue
            with anyio.move_on_after(_ENDING_SECONDS, shield=True) as limit:
                await self._end_one(session, ending)
            if limit.cancelled_caught:
                raise StorerError(f"session {session.name!r} may not have ended: the backend did not answer")
            session._has_ended(ending)

    def _open(self, sealer: Sealer, text: str, place: Place) -> Claims | None:
        """What a sealed token says; None, and an event that says why, for one that counts for nothing."""
        claims = sealer.open(text, name=place.bound, now=self.now())
        if claims is None:
            was_good = sealer.open(text, name=place.bound, now=0.0)
            if was_good is None:
                self._report("rejected", place.name, reason="not sealed by us")
            else:
                self._report("expired", place.name, was_good.session_id, was_good.user_id)
        return claims

    def _place(self, name: str | None) -> Place:
        if name is None or name == self.name:
            return self._own_place
        place = self._places.get(name)
        if place is not None:
            return place

        try:
            check_name(self._transport, name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        place = self._places[name] = Place(self, name, self._namespace, self._transport)
        return place

    def _blank(self, place: Place, carried: Carried, reply: Reply, **options: Any) -> Session[T]:  # Any: see Session
        value, data = self.fresh()
        return self._session_type(place, carried, reply, value, State.blank(data, self.now()), **options)

    def _max_age(self, lifetime: Lifetime, now: float, ends_at: float | None) -> int | None:
        """The cookie's Max-Age in whole seconds: a persistent cookie never ends before its record does."""
        if lifetime.cookie == "browser" or (lifetime.cookie == "persistent" and ends_at is None):
            return None

        seconds = lifetime.cookie.total_seconds() if isinstance(lifetime.cookie, timedelta) else (ends_at or now) - now
        return min(max(math.ceil(seconds), 1), _MAX_AGE)


def changed(change: Callable[[T], T | None], value: T) -> T:
    """What an update's function makes of a value: another one, or the same, changed in place."""
    result = change(value)
    return value if result is None else result


def gone(session: Session[Any]) -> NoSessionError:  # Any: a session of any type
    """What an update says that came too late."""
    return NoSessionError(f"session {session.name!r} is gone: a logout or login elsewhere ended it")
