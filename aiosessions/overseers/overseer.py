"""What both overseers share: finding the session of a request, proving its type, telling the client."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Generic, Self, TypeVar, cast, get_origin

import anyio

from aiosessions._draft import Draft
from aiosessions._errors import ConfigError, EncodeError, NoSessionError, SessionError
from aiosessions._events import Event, Reporter, logger
from aiosessions._lifetime import MAX_AGE_LIMIT, Lifetime
from aiosessions._mapping_session import MappingSession
from aiosessions._marks import Doomed, Exchange, Outgoing
from aiosessions._request import ResponseView, response_view
from aiosessions._request_sessions import Loading, incoming
from aiosessions._session import Session
from aiosessions._store import Request, Response
from aiosessions.sealers.sealer import Sealer
from aiosessions.storers.holding import hold, is_held, release
from aiosessions.storers.storer import Openable, Storer
from aiosessions.transports.cookies import default_transport
from aiosessions.transports.transport import Carried, Transport, check_name
from aiosessions.values.blank import Blank
from aiosessions.values.codecs import CheckedCodec, Codec, codec_for
from aiosessions.values.merge import Merger

__all__ = ["Overseer", "changed"]

T = TypeVar("T")
_MAX_AGE = int(MAX_AGE_LIMIT.total_seconds())
_SITE_DATA = frozenset(("cache", "clientHints", "cookies", "executionContexts", "storage", "*"))
_NAMESPACE = re.compile(r"[A-Za-z0-9._/-]{0,64}", re.ASCII)


class Overseer(ABC, Generic[T]):
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
        self._namespace = namespace
        self._sealer = sealer
        self._codec: CheckedCodec[T] = codec_for(value_type, json=prefers_json, codec=codec)
        self._merger = Merger(self._codec)
        self._value_type = value_type
        self._report = Reporter(on_event)
        self._clock = clock
        self._latest = 0.0
        self._backend = backend
        self._clean_every = clean_every
        self._is_ready = backend is None
        self._session_type: type[Session[T]] = Session
        if value_type is dict or get_origin(value_type) is dict:
            self._session_type = cast("type[Session[T]]", MappingSession)
        self._must_end: bool = getattr(sealer, "needs_expiry", False)
        self._check_ends(self.lifetime)
        self.fresh = Blank(self._codec, value_type, default)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {getattr(self._value_type, '__name__', self._value_type)}>"

    # opening and closing

    async def __aenter__(self) -> Self:
        """Open the storer and run its cleaner; a storer shared by several stores is opened by the first."""
        if self._backend is not None:
            await hold(self._backend, clean_every=self._clean_every)
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
        self._is_ready = True

    # what sessions ask (see Keeper)

    def now(self) -> float:
        """The injected clock, but a clock that jumps back revives nothing; unix seconds."""
        now = self._clock()
        if now > self._latest:  # noqa: PLR1730  # max() takes twice as long, and every request asks
            self._latest = now
        return self._latest

    def is_unsaved(self, session: Session[T]) -> bool:
        """Whether something would be lost if the session went away now."""
        if session._is_inert or session._is_degraded:
            return False
        try:
            is_changed = self._is_changed(session, self._codec.encode(session.value))
        except EncodeError:
            return True
        return is_changed or bool(session._doomed) or bool(session._marks and session._marks.is_write)

    def _is_changed(self, session: Session[T], data: bytes) -> bool:
        if data == session._base and not self._codec.hides(data):
            return False
        return not self._codec.unchanged(session._base, session.value, data)

    # what handlers use (see Store)

    async def get(self, request: Request, name: str | None = None, *, touch: bool = True) -> Session[T]:
        """See `Store.get`."""
        name = self._checked(name)
        view, sessions = incoming(request)
        while (found := sessions.find(self, name)) is not None:
            if isinstance(found, Session):
                return found
            await found.wait()

        loading = Loading()
        sessions.put(self, name, loading)
        try:
            carried = self._transport.read(view, name)
            sessions.claim(carried.where, self)
            session = await self._load(carried, name, sessions.exchange, touch=touch)
        except BaseException:
            if sessions.find(self, name) is loading:
                sessions.forget(self, name)
            raise
        else:
            current = sessions.find(self, name)
            if isinstance(current, Session):
                return current  # new() was called while this one loaded
            sessions.put(self, name, session)
            return session
        finally:
            loading.done()

    async def require(self, request: Request, name: str | None = None) -> Session[T]:
        """See `Store.require`."""
        session = await self.get(request, name)
        if session._record is None:
            raise NoSessionError(f"no stored session {session.name!r} came with the request")

        return session

    def new(self, request: Request, name: str | None = None) -> Session[T]:
        """See `Store.new`."""
        name = self._checked(name)
        view, sessions = incoming(request)
        carried = self._transport.read(view, name)
        sessions.claim(carried.where, self)
        before = sessions.find(self, name)
        session = self._blank(carried, name, sessions.exchange)
        if isinstance(before, Session):
            session._doomed = before._doomed
            if before._record is not None:
                session._replaced = Doomed(before._handle, before._record.owner, before._meta)
            session._unverified = before._unverified
            session._outgoing = before._outgoing
            session._is_sent = before._is_sent
            before._is_inert = True
        else:
            session._unverified = carried.token or ""
        sessions.put(self, name, session)
        return session

    async def save(self, session: Session[T], response: Response | None = None) -> None:
        """See `Store.save`."""
        exchange = session._exchange
        is_gone = exchange.is_started if response is None else bool(getattr(response, "prepared", False))
        can_tell = not is_gone and (response is not None or exchange.is_managed)
        self.prepare(session, can_tell=can_tell)
        await self.commit(session, can_tell=can_tell)
        if response is not None:
            view = response_view(response.headers)
            self.deliver(session, view)
            self.vary(session.name, view)

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
            StorerError: the backend failed.
        """
        if not _SITE_DATA.issuperset(clear_site_data):
            raise ValueError(f"clear_site_data={clear_site_data!r}: give some of {sorted(_SITE_DATA)}")

        session.destroy()
        if session._outgoing is not None:
            session._outgoing = Outgoing(site_data=tuple(clear_site_data))
        await self.save(session, response)

    # what the sessions of a request ask (see Saver)

    def prepare(self, session: Session[T], *, can_tell: bool = True) -> None:
        """Encode and check; the outcome waits in the session until `commit`."""
        try:
            self._prepare(session, can_tell=can_tell)
        except SessionError as error:
            problem = error.with_traceback(None)  # the frames of the traceback hold the value and the token
        else:
            return
        try:
            raise problem
        finally:
            del problem

    async def commit(self, session: Session[T], *, can_tell: bool = True) -> None:
        """Carry out what was prepared; two saves of one session take turns."""
        if session._is_busy:
            await self._take_turn(session)
            self.prepare(session, can_tell=can_tell)
        elif session._draft is None and not session._doomed:
            return
        session._is_busy = True
        try:
            await self._commit(session)
        finally:
            self._end_turn(session)

    def discard(self, session: Session[T]) -> None:
        """Forget every change but a destroy."""
        session._marks = None
        session._draft = None
        session._is_inert = True

    def deliver(self, session: Session[T], response: ResponseView) -> None:
        """Tell the client what it must know."""
        outgoing = session._outgoing
        if outgoing is None:
            return

        session._outgoing = None
        if outgoing.token is not None:
            self._transport.write(response, session.name, outgoing.token, session._carried, outgoing.max_age)
            session._is_sent = True
            return

        if session._carried.present or session._is_sent:
            self._transport.clear(response, session.name, session._carried)
        if outgoing.site_data:
            response.replace("Clear-Site-Data", [", ".join(f'"{kind}"' for kind in outgoing.site_data)])

    def vary(self, name: str, response: ResponseView) -> None:
        """The response depends on the session's token."""
        self._transport.vary(response, name)

    # for the two of them

    @abstractmethod
    async def _load(self, carried: Carried, name: str, exchange: Exchange, *, touch: bool) -> Session[T]: ...

    @abstractmethod
    def _prepare(self, session: Session[T], *, can_tell: bool) -> None: ...

    @abstractmethod
    async def _commit(self, session: Session[T]) -> None: ...

    @staticmethod
    def _settle(session: Session[T], draft: Draft) -> None:
        """The draft is carried out: from here on changes are counted anew."""
        if draft.is_changed:
            session._base = draft.value
        if session._marks is not None:
            session._marks = session._marks.without(draft.marks)

    async def _take_turn(self, session: Session[T]) -> bool:
        waited = False
        while session._is_busy:
            waited = True
            if session._is_busy is True:
                session._is_busy = anyio.Event()
            await session._is_busy.wait()
        session._is_busy = True
        return waited

    def _end_turn(self, session: Session[T]) -> None:
        waiting = session._is_busy
        session._is_busy = False
        if waiting is not True:
            waiting.set()

    def _check_ends(self, lifetime: Lifetime) -> None:
        if self._must_end and lifetime.absolute is None:
            raise ConfigError("lifetime: absolute=None never ends, and these tokens must: give absolute=timedelta(...)")

    def _is_under_current_key(self, token: str) -> bool:
        """Whether a token that the sealer opened need not be sealed again."""
        is_current: Callable[[str], bool] | None = getattr(self._sealer, "is_current", None)
        return is_current is None or is_current(token)

    def _checked(self, name: str | None) -> str:
        if name is None or name == self.name:
            return self.name
        try:
            check_name(self._transport, name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return name

    def _bound(self, name: str) -> str:
        """What a sealed token is bound to."""
        return f"{self._namespace}:{name}" if self._namespace else name

    def _blank(self, carried: Carried, name: str, exchange: Exchange) -> Session[T]:
        value, base = self.fresh()
        return self._session_type(self, name, carried, exchange, value, base)

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
