"""A Store that keeps the state in a Storer; the client holds a token that refers to it."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeVar, overload

from aiosessions._errors import (
    STRIPPED,
    ConfigError,
    ResponseStartedError,
    StorerError,
    UnsupportedError,
)
from aiosessions._events import Event
from aiosessions._given import check_choice
from aiosessions._lifetime import Lifetime
from aiosessions._mapping_session import MappingSession
from aiosessions._reply import Reply
from aiosessions._session import Session
from aiosessions._state import NOTHING, Ending
from aiosessions._store import SessionInfo, Store, Untyped
from aiosessions._tokens import is_handle
from aiosessions._watched import watch
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.beside import Import
from aiosessions.overseers.changes import Changes, Plan, Updated, ending_of, gone
from aiosessions.overseers.devices import Devices
from aiosessions.overseers.imports_stored import StoredImports
from aiosessions.overseers.loading import Loading
from aiosessions.overseers.overseer import Overseer
from aiosessions.overseers.proof import prove
from aiosessions.overseers.race import META_BYTES, Race
from aiosessions.overseers.sliding import Sliding
from aiosessions.overseers.writing import Writing
from aiosessions.sealers.sealer import Sealer, check_sealer
from aiosessions.storers.holding import Holder, check_storer
from aiosessions.storers.storer import Storer
from aiosessions.transports.headers import HeaderTransport
from aiosessions.transports.transport import Carried, Transport
from aiosessions.values.codecs import Codec, codec_for

__all__ = ["StorageOverseer"]

T = TypeVar("T")
V = TypeVar("V")


class _Opened(Reply):
    """There is no response."""

    advice: ClassVar[str] = "`await store.save(session)`"


class StorageOverseer(Overseer[T]):
    """Keeps sessions of one type in a backend.

    Args:
        value_type: T: a dataclass, TypedDict, msgspec.Struct, attrs class, pydantic model, `dict[str, V]`, `str`, ...
        storer: the backend; several stores may share it.
        name: the sessions' name, unless `get` names another.
        default: makes the value of a new session; None: `value_type()`.
        codec: None: checked JSON; pydantic for a pydantic model.
        transport: None: a cookie, `__Host-`, Secure, HttpOnly, SameSite=Lax (ASVS 5 3.3.1-3.3.4).
        sealer: wraps the token, in an encrypted cookie or in a JWT's `sid`.
        lifetime: None: 1 day idle, 30 days absolute. Its `rotate` changes the secret of a session now and then.
        namespace: keeps applications apart that share a storer; at most 64 of letters, digits and `._/-`.
        on_conflict: what happens to a field that two requests changed and no rule can settle: "merge" takes the later
            write and reports it, "raise" is a ConflictError, "overwrite" writes the whole value.
        max_size: of value and meta, in bytes; None: no limit.
        clean_every: how often the storer's expired records are removed; None: never.
        on_event: called with every Event, in the request; what counts and measures them is
            `aiosessions.telemetry.OpenTelemetry`.
        on_storer_error: `get` cannot read: "raise" a StorerError, or go on with a "new" session that cannot be saved.
        on_reuse: a secret that a rotation retired came back: "ignore" it, or "destroy" the session.
        imports: what clients bring from before a switch, where no token of ours came: importers and an `Alias` of
            `aiosessions.migration`, asked in their order.
        clock: unix seconds.

    Raises:
        ConfigError: an argument cannot work; the message names it and the fix.
    """

    def __init__(
        self,
        value_type: type[T],
        storer: Storer,
        *,
        name: str = "app",
        default: Callable[[], T] | None = None,
        codec: Codec[T] | None = None,
        transport: Transport | None = None,
        sealer: Sealer | None = None,
        lifetime: Lifetime | None = None,
        namespace: str = "",
        on_conflict: Literal["merge", "raise", "overwrite"] = "merge",
        max_size: int | None = 262_144,
        clean_every: timedelta | None = timedelta(hours=1),
        on_event: Callable[[Event], None] | None = None,
        on_storer_error: Literal["raise", "new"] = "raise",
        on_reuse: Literal["ignore", "destroy"] = "ignore",
        imports: Sequence[Import[T]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_choice("on_conflict", on_conflict, ("merge", "raise", "overwrite"))
        check_choice("on_storer_error", on_storer_error, ("raise", "new"))
        check_choice("on_reuse", on_reuse, ("ignore", "destroy"))
        if max_size is not None and max_size <= 0:
            raise ConfigError(f"max_size={max_size}: give a positive number of bytes, or None")
        if clean_every is not None and clean_every <= timedelta(0):
            raise ConfigError(f"clean_every={clean_every}: give a positive duration, or None")
        check_storer("storer", storer)
        if sealer is not None:
            check_sealer(sealer)

        checked = codec_for(value_type, json=True, codec=codec)
        super().__init__(value_type, name, default, checked, transport, sealer, lifetime, namespace, on_event, clock)
        self._changes = Changes(checked, on_conflict)
        self._holder = Holder(storer, clean_every, repr(self))
        if on_event is not None:
            from aiosessions.overseers.timed import TimedStorer  # noqa: PLC0415  # nobody else needs it

            storer = TimedStorer(storer, self._report.tell, name)
        has_max_age = not isinstance(self._transport, HeaderTransport)
        known = self._sealed.known
        self._backend = Backend(storer, self._holder, self.lifetime, self.now, self._report, known, has_max_age)
        self._devices = Devices(self._backend, f"{namespace}:", checked.decode)
        self._sliding = Sliding(self._backend, self._sealed)
        self._race = Race(self._backend, self._sealed, self._sliding, self._changes, max_size)
        self._writing = Writing(self._backend, self._race, self._sliding, self._changes, self._drop)
        self._loading = Loading(
            self._backend,
            checked,
            self._sealed,
            self._sliding,
            self._session_type,
            self._blank,
            on_storer_error,
            on_reuse,
        )
        self._loader = self._loading.load
        if imports:
            home = StoredImports(
                self._backend, self._loading, checked, namespace, self._session_type, self._blank, on_storer_error
            )
            self._take_over(imports, home)
        if sealer is not None:
            prove(self._sealed, self.places.own, self.lifetime)

    # reading

    async def is_live(self, session: Session[T]) -> bool:
        """Whether a session that was loaded earlier still counts: stored, of the same epoch, not expired.

        Args:
            session: one that this store gave; its `expires_at` is the newest afterwards. A new one does not count.

        Raises:
            StorerError: the backend failed.
        """
        if not session.handle:
            return False

        with STRIPPED:
            await self._holder.ready()
            newest = await self._backend.newest(session._place, session._state)
        if newest is None:
            return False

        session._seen(newest.seen_at)
        return not session.is_expired

    @overload
    async def open(
        self: Store[Untyped], handle: str, *, user_id: str | None, name: str | None = None
    ) -> Session[Any]: ...
    @overload
    async def open(
        self: Store[dict[str, V]], handle: str, *, user_id: str | None, name: str | None = None
    ) -> MappingSession[V]: ...
    @overload
    async def open(self, handle: str, *, user_id: str | None, name: str | None = None) -> Session[T]: ...
    # Any: the overloads say of what
    async def open(self, handle: str, *, user_id: str | None, name: str | None = None) -> Session[Any]:
        """A stored session without a request, for jobs that act on it; only an `Exchange` can tell a new token of it.

        Args:
            handle: from `SessionInfo` or `Session.handle`.
            user_id: whose it must be; None: nobody's. An anonymous session opens for whoever knows the handle, which
                is no credential: never take it from a visitor.
            name: the session's name; None: the store's own.

        Raises:
            NoSessionError: it is gone, somebody else's, or (with an Event `unreadable`) was written by another version.
            StorerError: the backend failed.
            ValueError: *name* is outside the grammar.
        """
        place = self.places.of(name)
        with STRIPPED:
            await self._holder.ready()
            state, value = await self._devices.opened(place, handle, user_id)
        session = self._session_type(place, Carried(""), _Opened(), value, state)
        watch(session)
        return session

    # writing

    def _is_due(self, session: Session[T], *, can_tell: bool) -> bool:
        """Whether the secrets need a write: a periodic rotation, its confirmation, a newer key, or a timed cookie."""
        meta, presented = session._state.meta, session._presented
        secrets = meta.secrets
        lifetime = self.lifetime if meta.lifetime is None else meta.effective_lifetime(self.lifetime)
        if lifetime.is_timed and self._backend.has_max_age:
            if can_tell and self._sliding.wants(session):
                return True
        elif can_tell and session._stale is not None and self._sealed.reseals and secrets.is_newest(presented):
            return True

        if lifetime.rotate is None and len(secrets.opening) <= 1:
            return False
        return secrets.is_unconfirmed(presented) or (can_tell and secrets.is_due(presented, lifetime, now=self.now()))

    def _plan(self, plan: Plan[T]) -> Plan[T] | None:
        if not plan.is_write:
            return plan

        session, state, wishes = plan.session, plan.state, plan.wishes
        if session._standing == "unread":
            raise StorerError(f"session {session.name!r} could not be read, so it is not overwritten")
        if (not state.handle or wishes.rotations or wishes.origin is not None) and not plan.can_tell:
            raise ResponseStartedError(
                f"session {session.name!r} has a new token, and the headers have left, or nobody sends any: save it "
                "before, or give the response or Exchange"
            )
        limit, is_due = self._race.limit, not plan.is_changed and not wishes.is_write
        if is_due and self._backend.slides(state):
            return plan  # what speaks against it stops no read
        is_large = limit is not None and (wishes.added or state.meta.flashes or len(plan.data) + META_BYTES > limit)
        try:
            if is_large or is_due:
                self._race.check(plan)  # before anything of this request is written
        except UnsupportedError:
            if is_due:  # there are public keys only: this store reads
                return ending_of(session)
            raise
        return plan

    async def _carry_out(self, plan: Plan[T]) -> None:
        session = plan.session
        if not self._holder.is_open:
            await self._holder.ready()
        if not plan.is_write:
            if plan.wishes.is_touched:
                seen = await self._backend.touch(session._place, plan.state)
                if seen is None:
                    self._drop(session, "gone")
                elif session._lives == plan.lives:
                    session._settled(plan, seen)
                    if self._backend.slides(seen):
                        self._sliding.put_off(session, plan.wishes)
            return
        if session._ended and not plan.wishes.is_login and await self._backend.has_heir(session._place, session._ended):
            self._drop(session, "superseded")
            return

        if plan.is_changed or plan.wishes.is_write or not self._backend.slides(plan.state):
            await self._writing.put(plan)
        else:
            await self._writing.send_again(plan)

    async def confirm(self, session: Session[T]) -> None:
        """See `Keeper.confirm`."""
        if await self._sliding.is_outdated(session):
            session._reply.words.pop(session._place, None)

    async def end(self, session: Session[T]) -> None:
        """See `Keeper.end`."""
        await super().end(session)
        if session._stale is not None and self._sliding.is_missed(session):
            await self._backend.touch_late(session._place, session._state)
            session._seen(self.now())  # tried once

    async def _end_one(self, session: Session[T], ending: Ending) -> None:
        await self._backend.end(session._place, ending)

    async def _update(self, session: Session[T], change: Callable[[T], T | None]) -> None:
        if not session.handle or (session._wishes is not None and session._wishes.origin is not None):
            await super()._update(session, change)
            return

        await self._holder.ready()
        updated = Updated(session, change, self._changes)
        plan = Plan(session, session._state, session._lives, updated.base, NOTHING, is_changed=True)
        if not await self._writing.put(plan, updated):
            raise gone(session)

    # the sessions of a user, and of all

    async def user_sessions(self, user_id: str) -> list[SessionInfo]:
        """Every live session of a user, of all names in this namespace, newest use first (ASVS 5 7.5.2).

        Raises:
            UnsupportedError: the storer has no user index.
            StorerError: the backend failed.
        """
        with STRIPPED:
            await self._holder.ready()
            return await self._devices.list(user_id)

    async def delete_user_sessions(self, user_id: str, *, keep: Session[T] | None = None) -> int:
        """Log out all (other) devices, of all names in this namespace (ASVS 5 7.4.2, 7.4.3, 7.4.5).

        Args:
            user_id: whose.
            keep: the session that stays.

        Returns:
            How many went.

        Raises:
            UnsupportedError: the storer has no user index.
            StorerError: the backend failed: some may not have ended.
        """
        kept = None if keep is None or not keep.handle else keep._place.key(keep.handle)
        with STRIPPED:
            await self._holder.ready()
            count = await self._devices.end_all(user_id, keep=kept)
        self._report.note("destroyed", self.name, user_id=user_id, reason=f"{count} sessions of the user")
        return count

    def sessions(self) -> AsyncGenerator[SessionInfo]:
        """Every live session, of all names in this namespace, in no order, read by the hundred.

        One that lives all the while comes at least once, in Redis rarely twice; one that is made meanwhile may come. On
        trio, whoever leaves early says so: `async with aclosing(store.sessions()) as infos`.

        Raises:
            UnsupportedError: the storer has no `keys()`.
            StorerError: the backend failed.
        """
        return self._devices.all()

    async def delete_all(self) -> int:
        """Log out everybody, of all names in this namespace: for the night of a breach.

        Every session that was stored before the call ends, and what requests that run meanwhile write to it is dropped.
        One that is made while this runs, a login under way too, is a new session, and may stay: call it once more when
        the way in is closed.

        Returns:
            How many went.

        Raises:
            UnsupportedError: the storer has no `keys()`.
            StorerError: the backend failed: some may not have ended.
        """
        with STRIPPED:
            await self._holder.ready()
            count = await self._devices.end_everybody()
        self._report.note("destroyed", self.name, reason=f"all {count} sessions")
        return count

    async def delete(self, handle: str, *, user_id: str, name: str | None = None) -> bool:
        """End one session of this user by its public handle; False if it is not theirs, or gone (ASVS 5 7.5.2).

        Args:
            handle: from `SessionInfo` or `Session.handle`.
            user_id: whose it must be.
            name: the session's name; None: the store's own.

        Raises:
            StorerError: the backend failed: the session may not have ended.
            ValueError: *name* is outside the grammar.
        """
        if not is_handle(handle):
            return False

        place = self.places.of(name)
        with STRIPPED:
            await self._holder.ready()
            is_ended = await self._devices.end(place, handle, user_id)
        if is_ended:
            self._report.note("destroyed", place.name, handle, user_id)
        return is_ended
