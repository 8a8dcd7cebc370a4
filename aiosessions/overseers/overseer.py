"""What both overseers share: finding the session of a request, planning a save, telling the client."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar, overload

import anyio

from aiosessions._clock import Clock
from aiosessions._errors import STRIPPED, ConfigError, EncodeError, NoSessionError, SessionError, StorerError, strip
from aiosessions._events import Event, Reporter
from aiosessions._exchange import Exchange
from aiosessions._lifetime import Lifetime
from aiosessions._mapping_session import MappingSession, session_type
from aiosessions._meant import expect
from aiosessions._place import Place, Places
from aiosessions._reply import Reply, check_site_data
from aiosessions._request import response_view
from aiosessions._request_sessions import claimed, incoming
from aiosessions._session import Session
from aiosessions._state import NOTHING, Ending, State, Wishes
from aiosessions._store import Request, Response, Store, Untyped
from aiosessions._turn import Turn
from aiosessions._watched import leave, watch, watchable
from aiosessions.overseers.beside import Import
from aiosessions.overseers.changes import Changes, Plan, ending_of, gone
from aiosessions.overseers.importing import Home, Importing, Load
from aiosessions.overseers.sealed import Sealed
from aiosessions.sealers.sealer import Sealer
from aiosessions.storers.holding import Holder
from aiosessions.transports.cookies import default_transport
from aiosessions.transports.transport import Carried, Transport
from aiosessions.values.blank import Blank
from aiosessions.values.codecs import CheckedCodec

T = TypeVar("T")
V = TypeVar("V")
_ENDING_SECONDS = 5.0
"""How long a cancelled task may take to end one session."""


class Overseer(Store[T], ABC):
    """The part of a Store that does not care where the state is."""

    _loader: Load[T]

    def __init__(
        self,
        value_type: type[T],
        name: str,
        default: Callable[[], T] | None,
        codec: CheckedCodec[T],
        transport: Transport | None,
        sealer: Sealer | None,
        lifetime: Lifetime | None,
        namespace: str,
        on_event: Callable[[Event], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._transport: Transport = default_transport() if transport is None else transport
        if lifetime is not None and not isinstance(lifetime, Lifetime):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a checker
            raise ConfigError(f"lifetime={lifetime!r}: give a Lifetime")

        self.name = name
        self.lifetime: Lifetime = lifetime or Lifetime()
        self.now: Callable[[], float] = Clock(clock).now
        self._codec = codec
        self._changes = Changes(codec)
        self.fresh: Blank[T] = Blank(codec, value_type, default)
        self._value_type = value_type
        expect(value_type, self.fresh()[0])
        self._report = Reporter(on_event)
        self._sealed = Sealed(sealer, now=self.now, report=self._report)
        self._must_end = self._sealed.must_end
        self._holder = Holder(None, None, repr(self))
        kind = session_type(value_type)
        self._session_type: type[Session[T]] = watchable(kind)
        self.can_end: bool = True
        self.is_warned: bool = False
        self.is_mapping: bool = kind is MappingSession
        self.places: Places = Places(self, name, namespace, self._transport)
        self._importing: Importing[T] | None = None
        self.check_lifetime(self.lifetime)

    def _take_over(self, imports: Sequence[Import[T]], home: Home[T]) -> None:
        """See `imports=`."""
        self._importing = Importing(home, imports, self.places, self._codec, self._session_type, self.now, self._report)
        self._loader = self._importing.load

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {getattr(self._value_type, '__name__', self._value_type)}>"

    async def __aenter__(self) -> Self:
        """Open the storer and run its cleaner; a storer shared by several stores is opened by the first."""
        await self._holder.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the cleaner and close what was opened; may run in another task than `__aenter__` did."""
        await self._holder.close()

    def check_lifetime(self, lifetime: Lifetime) -> None:
        """See `Keeper.check_lifetime`."""
        if lifetime.absolute is None and self._must_end:
            raise ConfigError("lifetime: absolute=None never ends, and these tokens must: give absolute=timedelta(...)")

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
        place = self.places.own if name is None else self.places.of(name)
        view, sessions = incoming(request)
        while (found := sessions.found.get(place)) is not None:
            if isinstance(found, Session):
                return found
            await found.ended()  # it is being loaded

        loading = sessions.found[place] = Turn()
        try:
            carried = place.transport.read(view, place.name)
            if sessions.claims.setdefault(carried.where, place) is not place:
                raise claimed(carried)  # noqa: TRY301  # a call less for every request
            reply = sessions.reply
            session = await self._loader(place, carried, reply, touch=touch)
        except BaseException as error:
            strip(error)
            if sessions.found[place] is loading:
                del sessions.found[place]  # the next get tries again
            raise
        else:
            current = sessions.found[place]
            if isinstance(current, Session):
                return current  # new() was called while this one loaded
            if reply.is_started or not reply.is_managed:
                watch(session)
            sessions.found[place] = session
            return session
        finally:
            if loading.waiting is not None:
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
        if not session._state.handle and session.is_new:
            raise NoSessionError(f"no stored session {session.name!r} came with the request", reply=session._reply)

        return session

    @overload
    def new(self: Store[Untyped], request: Request, name: str | None = None) -> Session[Any]: ...
    @overload
    def new(self: Store[dict[str, V]], request: Request, name: str | None = None) -> MappingSession[V]: ...
    @overload
    def new(self, request: Request, name: str | None = None) -> Session[T]: ...
    def new(self, request: Request, name: str | None = None) -> Session[Any]:
        """See `Store.new`."""
        place = self.places.of(name)
        view, sessions = incoming(request)
        carried = place.transport.read(view, place.name)
        if sessions.claims.setdefault(carried.where, place) is not place:
            raise claimed(carried)
        before = sessions.found.get(place)
        unproven: tuple[Ending, ...] = (Ending(None, carried.token),) if carried.token else ()
        if self._importing is not None:
            unproven += self._importing.endings(place, carried)
        session = self._blank(place, carried, sessions.reply, ended=unproven)
        if isinstance(before, Session):
            session._replaces(before)
        if sessions.reply.is_started or not sessions.reply.is_managed:
            watch(session)
        sessions.found[place] = session
        return session

    async def save(self, session: Session[T], response: Response | None = None) -> None:
        """See `Store.save`."""
        reply = session._reply
        is_gone = reply.is_started if response is None else bool(getattr(response, "prepared", False))
        can_tell = not is_gone and (response is not None or reply.is_managed)
        if response is not None and not reply.is_awaited:
            reply.is_leaving = True
        with STRIPPED:
            async with self._alone(session):
                await self._save(session, can_tell=can_tell)
        if response is None:
            return

        if isinstance(response, Exchange):
            response._carry(reply, session._place)
        else:
            view = response_view(response.headers)
            reply.write_on(view, session._place)
            session._place.transport.vary(view, session.name)
        leave(session)

    async def _save(self, session: Session[T], *, can_tell: bool) -> None:
        session._gave_up(None)  # whoever asks tries again
        try:
            plan = self.plan(session, can_tell=can_tell)
            if plan is not None:
                await self._carry_out(plan)
        except SessionError:
            session._gave_up((self._encoded(session), (session._wishes or NOTHING).copy()))
            raise

    async def update(self, session: Session[T], change: Callable[[T], T | None]) -> T:
        """See `Store.update`."""
        with STRIPPED:
            async with self._alone(session):
                await self._update(session, change)
        return session.value

    @asynccontextmanager
    async def _alone(self, session: Session[T]) -> AsyncGenerator[None]:
        """In the session's turn. What was destroyed ends first, whatever becomes of the rest, or (meanwhile) last."""
        await session._turn.take()
        try:
            if session._ended:
                await self._end(session)
            yield
            if session._ended:
                await self._end(session)
        finally:
            session._turn.end()

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
        check_site_data(clear_site_data)
        session.destroy()
        if clear_site_data and session._standing == "fine":
            session._reply.clear(session._place, session._carried, clear_site_data)
        await self.save(session, response)

    def plan(self, session: Session[T], *, can_tell: bool) -> Plan[T] | None:
        """See `Keeper.plan`."""
        state, wishes, failed = session._state, session._wishes or NOTHING, session._failed
        if session._standing == "dead" and not wishes.is_login:
            return self._dropped(session)

        data = self._codec.encode(session.value) if failed is None else self._encoded(session)
        if failed is not None and data == failed[0] and wishes == failed[1]:
            return ending_of(session)  # whoever asked for this save knows that it failed
        changed = None
        if data != state.value or self._codec.hides(data):
            changed = self._codec.changed(state.value, session.value, data, spelling=state.meta.spelling)
        if changed is None and wishes is NOTHING and not self._is_due(session, can_tell=can_tell):
            return ending_of(session) if session._ended else None  # nearly every request ends here
        return self._planned(session, wishes, session.value, data, changed, can_tell=can_tell)

    def _encoded(self, session: Session[T]) -> bytes:
        """The value's bytes; none for one that has none."""
        try:
            return self._codec.encode(session.value)
        except EncodeError:
            return b""

    async def carry_out(self, plan: Plan[T]) -> None:
        """See `Keeper.carry_out`. Two saves of one session take turns."""
        session = plan.session
        turn = session._turn
        is_late = turn.is_taken
        if is_late:
            await turn.take()
        turn.is_taken = True
        try:
            if session._ended:
                await self._end(session)
            if is_late or session._state is not plan.state:  # somebody saved it meanwhile
                late = self.plan(session, can_tell=plan.can_tell)
                if late is None:
                    return
                plan = late
            await self._carry_out(plan)
            if session._ended:
                await self._end(session)
        finally:
            turn.is_taken = False
            if turn.waiting is not None:
                turn.end()

    async def confirm(self, session: Session[T]) -> None:
        """See `Keeper.confirm`: what the client holds has no newer one."""

    async def end(self, session: Session[T]) -> None:
        """See `Keeper.end`."""
        async with self._alone(session):
            pass

    def _planned(
        self, session: Session[T], wishes: Wishes, value: T, data: bytes, changed: bytes | None, *, can_tell: bool
    ) -> Plan[T] | None:
        """The first phase of a save, no I/O."""
        state, lives, is_changed = session._state, session._lives, changed is not None
        if wishes.origin is not None and wishes.is_import and not (is_changed or can_tell):
            return ending_of(session)  # the next request that can tell the client imports it
        is_write = is_changed or (
            wishes.is_write or self._is_due(session, can_tell=can_tell) if state.handle else wishes.is_content
        )
        if not is_write and not (wishes.is_touched and state.handle):
            return ending_of(session)
        if changed is None and not state.handle:
            changed = self._codec.settled(value, data)
        if wishes is not NOTHING:
            wishes = wishes.copy()
        return self._plan(Plan(session, state, lives, changed or data, wishes, is_changed, is_write, can_tell))

    def _dropped(self, session: Session[T]) -> Plan[T] | None:
        """A session whose token means nothing any more is not written, and its changes are not silent."""
        if self._changes.are_lost(session):
            self._drop(session, "superseded")
        return ending_of(session)

    async def _update(self, session: Session[T], change: Callable[[T], T | None]) -> None:
        """An update of what nobody else can have changed: a session that is not stored, or that the client holds."""
        if session._standing == "dead":
            raise gone(session)
        before = self._codec.encode(session.value)
        value = self._changes.made_by(change, before)
        data = self._codec.encode(value)
        wishes, can_tell = session._wishes or NOTHING, session._reply.is_managed and not session._reply.is_started
        changed = self._changes.changed(session._state, value, data)
        plan = self._planned(session, wishes, value, data, changed, can_tell=can_tell)
        if plan is not None:
            await self._carry_out(plan)
            if not session.handle:
                raise gone(session)
        session.value = self._changes.merger.adopted(session.value, before, session._state.value)

    def _drop(self, session: Session[T], reason: str) -> None:
        self._report.note("dropped", session.name, session.handle, session.user_id, reason=reason)
        session._died()

    # for the two of them

    def _is_due(self, session: Session[T], *, can_tell: bool) -> bool:  # noqa: ARG002
        """Whether the token itself needs a write: one that refers to what is stored may."""
        return False

    @abstractmethod
    def _plan(self, plan: Plan[T]) -> Plan[T] | None:
        """Raise what speaks against it; None: nothing is to be done after all."""

    @abstractmethod
    async def _carry_out(self, plan: Plan[T]) -> None:
        """The second phase of a save."""

    @abstractmethod
    async def _end_one(self, session: Session[T], ending: Ending) -> None:
        """End what is due; StorerError says that it may not have ended."""

    async def _end(self, session: Session[T]) -> None:
        """End what is due, also while the task is cancelled; a backend that hangs must not hold it for ever."""
        for ending in session._ended:
            if not ending.is_due:
                continue
            await self._holder.ready()
            with anyio.move_on_after(_ENDING_SECONDS, shield=True) as limit:
                if ending.origin is None:
                    await self._end_one(session, ending)
                else:
                    await ending.origin.end(is_wanted=ending.is_wanted)
            if limit.cancelled_caught:
                raise StorerError(f"session {session.name!r} may not have ended: the backend did not answer")
            session._has_ended(ending)

    def _blank(self, place: Place, carried: Carried, reply: Reply, **options: Any) -> Session[T]:  # Any: see Session
        value, data = self.fresh()
        return self._session_type(place, carried, reply, value, State.blank(data, self.now()), **options)
