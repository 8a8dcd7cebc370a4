"""A Store that keeps the state with the client, sealed, by default in a cookie."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from aiosessions._errors import (
    STRIPPED,
    ConfigError,
    DecodeError,
    ResponseStartedError,
    UnsupportedError,
)
from aiosessions._events import Event, EventKind
from aiosessions._lifetime import Lifetime
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._request import RawHeaders
from aiosessions._session import Session
from aiosessions._state import Ending, Held, State, Wishes, advance
from aiosessions._tokens import new_handle
from aiosessions.overseers.beside import Import
from aiosessions.overseers.changes import Plan, ending_of, is_renewed
from aiosessions.overseers.claims import state_of
from aiosessions.overseers.following import Following, Issued
from aiosessions.overseers.imports_held import HeldImports
from aiosessions.overseers.overseer import Overseer
from aiosessions.overseers.revocations import Revocations
from aiosessions.sealers.sealer import Claims, Sealer, check_sealer
from aiosessions.storers.holding import Holder, check_storer
from aiosessions.storers.storer import Storer
from aiosessions.transports.transport import Carried, Transport
from aiosessions.values.codecs import Codec, codec_for

__all__ = ["CookieOverseer"]

T = TypeVar("T")
_SURE_TO_FIT = 400
"""A token of more characters is tried on a scratch response first: every transport carries this many."""


class CookieOverseer(Overseer[T]):
    """Keeps sessions of one type with the client: no backend, and what that means for a logout.

    An old copy of the token stays valid until it expires, whatever happened since; of two parallel responses the one
    the browser processes last stays.

    Args:
        value_type: T: a dataclass, TypedDict, msgspec.Struct, attrs class, pydantic model, `dict[str, V]`, `str`, ...
        sealer: encrypts or signs.
        name: the sessions' name, unless `get` names another.
        default: makes the value of a new session; None: `value_type()`.
        codec: None: MessagePack where nobody else can read it, else JSON; pydantic for a pydantic model.
        transport: None: a cookie, `__Host-`, Secure, HttpOnly, SameSite=Lax (ASVS 5 3.3.1-3.3.4).
        lifetime: None: 1 day idle, 30 days absolute. Without `rotate`; with *revocations*, and in a JWT, with an
            absolute timeout.
        namespace: keeps applications apart that share a key; at most 64 of letters, digits and `._/-`.
        revocations: a durable storer that remembers what has ended, at one trip per `get`, or two for users with many
            logouts, and one as a session begins: with it a logout, a rotation, `delete_user_sessions` and `delete_all`
            hold for every copy of a token. A backend that fails is a StorerError; a Redis that may evict is a
            ConfigError once it is open.
        replay_protection: each token is followed by a next: a copy that is older than the last two is refused. Needs
            *revocations*, and another round trip.
        max_lag: how old a cached answer of *revocations* may be; 0: it is always asked.
        on_event: called with every Event, in the request.
        imports: what clients bring from before a switch, where no token of ours came: importers and an `Alias` of
            `aiosessions.migration`, asked in their order. Without *revocations* nothing remembers what was imported: an
            older token counts again whenever it comes, logout or not.
        clock: unix seconds.

    Raises:
        ConfigError: an argument cannot work; the message names it and the fix.
    """

    def __init__(
        self,
        value_type: type[T],
        sealer: Sealer,
        *,
        name: str = "app",
        default: Callable[[], T] | None = None,
        codec: Codec[T] | None = None,
        transport: Transport | None = None,
        lifetime: Lifetime | None = None,
        namespace: str = "",
        revocations: Storer | None = None,
        replay_protection: bool = False,
        max_lag: timedelta = timedelta(0),
        on_event: Callable[[Event], None] | None = None,
        imports: Sequence[Import[T]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._revocations: Revocations | None = None
        self._following: Following[T] | None = None
        check_sealer(sealer)
        if codec is not None and sealer.needs_json and not codec.is_json:
            raise ConfigError(f"codec={type(codec).__name__} is not JSON, which {type(sealer).__name__} needs")

        checked = codec_for(value_type, json=sealer.needs_json, codec=codec)
        super().__init__(value_type, name, default, checked, transport, sealer, lifetime, namespace, on_event, clock)
        self._replay_protection = replay_protection
        self.can_end: bool = revocations is not None
        if revocations is not None:
            check_storer("revocations", revocations)
            self._must_end = True
            self._holder = Holder(revocations, timedelta(hours=1), repr(self))
            if on_event is not None:
                from aiosessions.overseers.timed import TimedStorer  # noqa: PLC0415  # nobody else needs it

                revocations = TimedStorer(revocations, self._report.tell, name)
            self._revocations = Revocations(revocations, namespace=namespace, now=self.now, max_lag=max_lag)
            self._holder.check = self._revocations.check
            self._following = Following(
                self._revocations,
                self._holder,
                self._deny,
                self._made,
                self._drop,
                self._report,
                replay_protection=replay_protection,
            )
        elif replay_protection:
            raise ConfigError("replay_protection=True needs revocations=, a durable storer that counts")
        self.check_lifetime(self.lifetime)
        self._loader = self._load
        if imports:
            home = HeldImports(
                self._load,
                self._opened,
                self._deny,
                revocations,
                self._holder.ready,
                self._blank,
                namespace,
                self.now,
                self._report,
            )
            self._take_over(imports, home)

    def check_lifetime(self, lifetime: Lifetime) -> None:
        """See `Keeper.check_lifetime`."""
        if lifetime.rotate is not None:
            raise ConfigError(
                "lifetime: rotate= is for sessions that a storer keeps; what the client holds is sealed anew with each "
                "write: leave it out"
            )
        super().check_lifetime(lifetime)

    # reading

    async def _load(
        self,
        place: Place,
        carried: Carried,
        reply: Reply,
        *,
        touch: bool,
        state: State | None = None,
        ended: tuple[Ending, ...] = (),
        wishes: Wishes | None = None,
    ) -> Session[T]:
        state = state or self._opened(place, carried)
        if state is None:
            return self._blank(place, carried, reply)

        now = self.now()
        lifetime = state.meta.effective_lifetime(self.lifetime)
        deadline = lifetime.deadline(state.seen_at, state.meta.ends_at)
        if deadline is not None and now >= deadline:
            self._report.note("expired", place.name, state.handle, state.owner)
            return self._blank(place, carried, reply)
        if self._following is not None and not await self._following.is_current(place, state):
            return self._blank(place, carried, reply)

        try:
            value = self._codec.decode(state.value)
        except DecodeError as error:
            self._report.unreadable(place.name, state.handle, state.owner, error)
            return self._blank(place, carried, reply, ended=(Ending(state),))

        session = self._session_type(place, carried, reply, value, state, ended=ended, wishes=wishes)
        is_old = touch and now - state.seen_at >= lifetime.touch_window
        if is_old or (self._sealed.reseals and self._sealed.is_stale(carried.token)):
            session.touch()
        self._report.note("loaded", place.name, state.handle, state.owner)
        return session

    def _opened(self, place: Place, carried: Carried) -> State | None:
        """What the token that came says, if it is one of ours."""
        if carried.token is None:
            if carried.present:
                self._report.note("rejected", place.name, reason="duplicate" if carried.duplicate else "malformed")
            return None

        claims = self._sealed.open(place, carried.token)
        if claims is None:
            return None
        state = self._state_of(claims)
        if state is None:
            self._report.note("rejected", place.name, reason="not sealed by us")
        return state

    def _state_of(self, claims: Claims) -> State | None:
        return state_of(claims, now=self.now(), lifetime=self.lifetime, must_end=self._revocations is not None)

    def _known(self, place: Place, text: str) -> State | None:
        """What a token that came before says, without an event."""
        claims = self._sealed.peek(place, text)
        return None if claims is None else self._state_of(claims)

    async def is_live(self, session: Session[T]) -> bool:
        """Whether a session that was loaded earlier still counts: not expired, and nothing ended it.

        Args:
            session: one that this store gave. A new one does not count; without `revocations` only time ends one.

        Raises:
            StorerError: the backend of `revocations` failed.
        """
        state = session._state
        if not state.handle or session.is_expired:
            return False
        if self._revocations is None:
            return True

        with STRIPPED:
            await self._holder.ready()
            return await self._revocations.allows(state.handle, state.owner, state.as_held)

    # writing

    def _plan(self, plan: Plan[T]) -> Plan[T] | None:
        session = plan.session
        if not plan.can_tell:
            if not plan.is_write:  # a read that was late for the touch window is touched by the next request
                return ending_of(session)
            raise ResponseStartedError(
                f"session {session.name!r} is kept by the client, and the headers have left, or nobody sends any: save "
                "it before, or give the response or Exchange"
            )
        try:
            plan.sealed = self._made(plan)
        except UnsupportedError:
            if plan.is_write:
                raise
            return ending_of(session)  # it has public keys only: this store reads
        return plan

    def _made(self, plan: Plan[T], *, epochs: tuple[int, int] | None = None) -> Issued:
        """What the session becomes, and the token that says so."""
        before, wishes, place, now = plan.state, plan.wishes, plan.session._place, self.now()
        is_new = not before.handle
        made = self._changes.saved(plan, before)
        # one that moves is fresh too, where its older id can be ended
        is_fresh = is_renewed(plan) or (wishes.origin is not None and self._following is not None)
        handle = new_handle() if is_fresh else before.handle
        if is_new and wishes.origin is not None and not wishes.rotations:
            handle = wishes.origin.handle
        held = before.as_held
        state = advance(
            before,
            wishes,
            made.data,
            lifetime=self.lifetime,
            now=now,
            handle=handle,
            is_changed=made.is_changed,
            spelling=made.spelling,
            held=Held(
                now if is_new else before.created_at,
                now,
                (0 if is_fresh else held.generation) + self._replay_protection,
                *(epochs or (held.user_epoch, held.namespace_epoch)),
            ),
        )
        meta = state.meta
        expires_at = state.deadline(self.lifetime)
        claims = Claims(made.data, False, handle, now, expires_at, state.owner, meta.pack(), state.began_at)  # noqa: FBT003
        token = self._sealed.seal(place, claims)
        max_age = meta.effective_lifetime(self.lifetime).max_age(now, meta.ends_at)
        if len(token) > _SURE_TO_FIT:
            place.transport.write(RawHeaders([]), place.name, token, plan.session._carried, max_age)
        return Issued(state, token, max_age)

    async def _carry_out(self, plan: Plan[T]) -> None:
        session, place, sealed = plan.session, plan.session._place, plan.sealed
        if not isinstance(sealed, Issued):
            return
        if self._following is not None:
            sealed = await self._following.follow(plan, sealed)
            if sealed is None:
                return
        elif plan.wishes.origin is not None:
            await plan.wishes.origin.claim(sealed.state)  # which nothing remembers

        state = sealed.state
        kind: EventKind = "regenerated" if plan.wishes.rotations else "saved"
        if not plan.state.handle:
            kind = "created"
        if plan.wishes.origin is not None and plan.wishes.origin.standing == "ours":
            kind = "imported"
        self._report.note(kind, place.name, state.handle, state.owner)
        session._settled(plan, state, sealed.token, sealed.max_age)

    async def _end_one(self, session: Session[T], ending: Ending) -> None:
        await self._deny(session._place, ending)

    async def _deny(self, place: Place, ending: Ending) -> bool:
        """End it for every copy of its token, where there are revocations; False if somebody else had."""
        state = ending.state or self._known(place, ending.token)
        if state is None:
            return True

        is_ours = self._following is None or await self._following.end(state, is_anyhow=ending.is_anyhow)
        self._report.note(
            "destroyed", place.name, state.handle, state.owner, reason="" if ending.is_wanted else "replaced"
        )
        return is_ours

    async def delete_user_sessions(self, user_id: str, *, keep: Session[T] | None = None) -> None:
        """Log out all (other) devices (ASVS 5 7.4.2, 7.4.3, 7.4.5).

        Args:
            user_id: whose.
            keep: the session that stays: saving it sends a token that is still good.

        Raises:
            UnsupportedError: without `revocations` nobody knows which tokens are out there.
            ConflictError: others kept writing the user's ledger; try again.
            StorerError: the backend failed: they may not have ended.
        """
        if self._following is None:
            raise UnsupportedError("delete_user_sessions needs revocations=, a durable storer that remembers")

        with STRIPPED:
            await self._following.end_user(user_id, keep, now=self.now())
        self._report.note("destroyed", self.name, user_id=user_id, reason="all sessions of the user")

    async def delete_all(self) -> int:
        """Log out everybody, of all names in this namespace, anonymous sessions too: for the night of a breach.

        No token counts any more that was sent before, nor one that a request sends whose session began, or logged in,
        before; nor, from now on, any that other software issued: it knows no epoch.

        Returns:
            0: nobody knows how many there were.

        Raises:
            UnsupportedError, ConflictError, StorerError: as `delete_user_sessions`.
        """
        if self._revocations is None:
            raise UnsupportedError("delete_all needs revocations=, a durable storer that remembers")

        with STRIPPED:
            await self._holder.ready()
            await self._revocations.end_everybody()
        self._report.note("destroyed", self.name, reason="all sessions")
        return 0
