"""A Store that keeps the state with the client, sealed, by default in a cookie."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from aiosessions._draft import Draft, next_meta
from aiosessions._errors import (
    ConfigError,
    ConflictError,
    DecodeError,
    ResponseStartedError,
    StorerError,
    UnsupportedError,
)
from aiosessions._events import Event, EventKind, logger
from aiosessions._lifetime import MAX_AGE_LIMIT, Lifetime
from aiosessions._marks import Doomed, Exchange, Marks, Outgoing
from aiosessions._meta import Meta, decode_meta, encode_meta, is_time
from aiosessions._request import RawHeaders
from aiosessions._session import Session
from aiosessions._tokens import new_handle
from aiosessions.overseers.overseer import Overseer
from aiosessions.overseers.revocations import Revocations
from aiosessions.overseers.updating import changed
from aiosessions.sealers.sealer import Claims, Sealer
from aiosessions.storers.storer import Record, Storer
from aiosessions.transports.transport import Carried, Transport
from aiosessions.values.codecs import Codec

__all__ = ["CookieOverseer"]

T = TypeVar("T")
_NOTHING = Marks()
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
        lifetime: None: 1 day idle, 30 days absolute.
        namespace: keeps applications apart that share a key; at most 64 of letters, digits and `._/-`.
        revocations: a durable storer that remembers what has ended, at one read per `get`: with it a logout, a rotation
            and `delete_user_sessions` hold for every copy of a token. A backend that fails is a StorerError.
        replay_protection: each token is followed by a next: a copy that is older than the last two is refused. Needs
            *revocations*, and another round trip.
        max_lag: how old a cached answer of *revocations* may be; 0: it is always asked.
        on_event: called with every Event, in the request.
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not hasattr(sealer, "seal"):
            raise ConfigError(f"sealer={type(sealer).__name__} is no Sealer: give AESGCMSealer(keys)")
        if codec is not None and sealer.needs_json and not codec.is_json:
            raise ConfigError(f"codec={type(codec).__name__} is not JSON, which {type(sealer).__name__} needs")

        super().__init__(
            value_type,
            name=name,
            default=default,
            codec=codec,
            prefers_json=sealer.needs_json,
            backend=revocations,
            clean_every=timedelta(hours=1),
            transport=transport,
            sealer=sealer,
            lifetime=lifetime,
            namespace=namespace,
            on_event=on_event,
            clock=clock,
        )
        self._seals = sealer
        self._revocations: Revocations | None = None
        self._must_end = self._must_end or revocations is not None
        self._replay_protection = replay_protection
        if revocations is not None:
            self._revocations = Revocations(revocations, namespace=namespace, now=self.now, max_lag=max_lag)
        elif replay_protection:
            raise ConfigError("replay_protection=True needs revocations=, a durable storer that counts")
        self._check_ends(self.lifetime)

    # reading

    async def _load(self, carried: Carried, name: str, exchange: Exchange, *, touch: bool) -> Session[T]:
        if carried.token is None:
            if carried.present:
                self._report("rejected", name, reason="duplicate" if carried.duplicate else "malformed")
            return self._blank(carried, name, exchange)

        now = self.now()
        claims = self._seals.open(carried.token, name=self._bound(name), now=now)
        meta = None if claims is None else _meta_of(claims)
        if claims is None or claims.is_reference or meta is None:
            self._report("rejected", name, reason="not sealed by us")
            return self._blank(carried, name, exchange)

        lifetime = meta.effective_lifetime(self.lifetime)
        deadline = lifetime.deadline(meta.seen_at, meta.ends_at)
        if deadline is not None and now >= deadline:
            self._report("expired", name, claims.session_id, claims.user_id)
            return self._blank(carried, name, exchange)

        if not await self._is_current(claims, meta, name):
            return self._blank(carried, name, exchange)

        try:
            value = self._codec.decode(claims.body)
        except DecodeError as error:
            logger.warning("session %s %s cannot be read: %s", name, claims.session_id, error)
            return self._blank(carried, name, exchange)

        record = Record(claims.body, claims.meta, claims.user_id, meta.created_at, meta.seen_at, deadline, 0)
        session = self._session_type(self, name, carried, exchange, value, claims.body, claims.session_id, record, meta)
        is_stale = getattr(self._seals, "reseal", False) and not self._is_under_current_key(carried.token)
        if is_stale or (touch and now - meta.seen_at >= lifetime.touch_window()):
            session.touch()
        self._report("loaded", name, claims.session_id, claims.user_id)
        return session

    async def _is_current(self, claims: Claims, meta: Meta, name: str) -> bool:
        """Whether nothing ended this token before its time."""
        if self._revocations is None:
            return True

        allowed, newest = True, meta.generation
        try:
            await self._ready()
            if self._replay_protection:
                newest = await self._revocations.generation(claims.session_id)
            allowed = await self._revocations.allows(claims.session_id, claims.user_id, meta.user_epoch)
        except StorerError as error:
            self._report("store_failed", name, claims.session_id, reason=type(error.__cause__).__name__)
            raise

        if not allowed:
            self._report("rejected", name, claims.session_id, claims.user_id, reason="revoked")
            return False
        if meta.generation < newest - 1:
            self._report("token_reused", name, claims.session_id, claims.user_id)
            return False
        return True

    async def is_live(self, session: Session[T]) -> bool:
        """Whether a session that was loaded earlier still counts: not expired, and nothing ended it.

        Args:
            session: one that this store gave.

        Raises:
            StorerError: the backend of `revocations` failed.
        """
        if session._record is None or session.is_expired:
            return False
        if self._revocations is None:
            return True

        await self._ready()
        return await self._revocations.allows(session.handle, session._record.owner, session._meta.user_epoch)

    # writing

    def _prepare(self, session: Session[T], *, can_tell: bool) -> None:
        session._draft = None
        if session._is_inert:
            return

        marks = session._marks or _NOTHING
        data = self._codec.encode(session.value)
        is_changed = self._is_changed(session, data)
        is_new = session._record is None
        is_write = is_changed or (marks.is_content if is_new else marks.is_write)
        if not is_write and (is_new or not marks.is_touched):
            return
        if not can_tell:
            if is_write:
                raise ResponseStartedError(
                    f"session {session.name!r} is kept by the client, and the headers have left: save it before, or "
                    "give the response"
                )
            return  # a read that was late for the touch window is touched by the next request
        if is_changed:
            self._codec.check(session.value, data)
            if session._record is not None:
                data = self._merger.carry_unknown(session._record.value, data)
        session._draft = self._sealed(session, Draft(data, is_changed, marks if marks is _NOTHING else marks.copy()))

    def _sealed(self, session: Session[T], draft: Draft, *, user_epoch: int | None = None) -> "_Sealed":
        marks, stored, now = draft.marks, session._record, self.now()
        is_new = stored is None
        meta = next_meta(
            session._meta, marks, lifetime=self.lifetime, now=now, is_changed=draft.is_changed, is_new=is_new
        )
        meta = replace(
            meta,
            created_at=now if stored is None else stored.created_at,
            seen_at=now,
            generation=(0 if is_new or marks.rotations else meta.generation) + self._replay_protection,
            user_epoch=meta.user_epoch if user_epoch is None else user_epoch,
        )
        lifetime = meta.effective_lifetime(self.lifetime)
        self._check_ends(lifetime)
        expires_at = lifetime.deadline(now, meta.ends_at)
        owner = marks.user[0] if marks.user else None if stored is None else stored.owner
        body = draft.value if draft.is_changed or stored is None else stored.value
        record = Record(body, encode_meta(meta), owner, meta.created_at, now, expires_at, 0)
        handle = new_handle() if is_new or marks.rotations else session.handle
        claims = Claims(body, False, handle, now, expires_at, owner, record.meta)  # noqa: FBT003
        token = self._seals.seal(claims, name=self._bound(session.name))
        outgoing = Outgoing(token, self._max_age(lifetime, now, meta.ends_at))
        if len(token) > _SURE_TO_FIT:
            self._transport.write(RawHeaders([]), session.name, token, session._carried, outgoing.max_age)
        return _Sealed(draft, record, meta, handle, outgoing)

    async def _commit(self, session: Session[T]) -> None:
        for doomed in session._doomed:
            await self._deny(doomed, session.name)
            session._doomed = session._doomed[1:]
        sealed: _Sealed | None = session._draft
        session._draft = None
        if sealed is None:
            return

        stored, marks = session._record, sealed.draft.marks
        if self._revocations is not None:
            sealed = await self._follow(session, sealed, self._revocations)
            if sealed is None:
                return
        if stored is not None and marks.rotations:
            await self._deny(Doomed(session.handle, stored.owner, session._meta), session.name, ends=False)
        kind: EventKind = "created" if stored is None else "regenerated" if marks.rotations else "saved"
        session._record, session._meta, session._seen_at = sealed.record, sealed.meta, sealed.record.seen_at
        session._handle, session._outgoing = sealed.handle, sealed.outgoing
        self._settle(session, sealed.draft)
        self._report(kind, session.name, sealed.handle, sealed.record.owner)
        if kind == "created":
            await self._end_replaced(session)

    async def _follow(self, session: Session[T], sealed: "_Sealed", revocations: Revocations) -> "_Sealed | None":
        """Give the token its place in the ledgers, before anybody has it; None: a touch that came too late."""
        await self._ready()
        marks, until = sealed.draft.marks, sealed.meta.ends_at or 0.0
        if marks.user is not None:
            owner = sealed.record.owner
            epoch = 0 if owner is None else await revocations.epoch(owner, until)
            sealed = self._sealed(session, sealed.draft, user_epoch=epoch)
        if not self._replay_protection:
            return sealed
        if await revocations.advance(sealed.handle, sealed.meta.generation - 1, until):
            return sealed
        if not sealed.draft.is_changed and not marks.is_write:
            return None

        self._report(
            "conflict", session.name, session.handle, sealed.record.owner, reason="not one of the last two tokens"
        )
        raise ConflictError(f"session {session.name!r}: this token has been followed by another; try again")

    async def _deny(self, doomed: Doomed, name: str, *, ends: bool = True) -> None:
        if self._revocations is not None:
            await self._ready()
            await self._revocations.deny(doomed.handle, doomed.owner, doomed.meta.ends_at or 0.0)
        if ends:
            self._report("destroyed", name, doomed.handle, doomed.owner)

    async def _end_replaced(self, session: Session[T]) -> None:
        """What this session takes the place of ends, if the request proved the right to it."""
        replaced, session._replaced = session._replaced, None
        text, session._unverified = session._unverified, ""
        claims = self._seals.open(text, name=self._bound(session.name), now=self.now()) if text else None
        meta = None if claims is None else _meta_of(claims)
        if claims is not None and meta is not None and not claims.is_reference:
            replaced = Doomed(claims.session_id, claims.user_id, meta)
        if replaced is not None:
            await self._deny(replaced, session.name)

    async def delete_user_sessions(self, user_id: str, *, keep: Session[T] | None = None) -> None:
        """Log out all (other) devices (ASVS 5 7.4.2, 7.4.3, 7.4.5).

        Args:
            user_id: whose.
            keep: the session that stays: saving it sends a token that is still good.

        Raises:
            UnsupportedError: without `revocations` nobody knows which tokens are out there.
            StorerError: the backend failed.
        """
        if self._revocations is None:
            raise UnsupportedError("delete_user_sessions needs revocations=, a durable storer that remembers")

        await self._ready()
        longest = self.now() + MAX_AGE_LIMIT.total_seconds()  # remember-me logins may outlive the store's own lifetime
        epoch = await self._revocations.raise_epoch(user_id, longest)
        if keep is not None and keep.user_id == user_id:
            keep._meta = replace(keep._meta, user_epoch=epoch)
            keep.touch()
        self._report("destroyed", self.name, user_id=user_id, reason="all sessions of the user")

    async def update(self, session: Session[T], change: Callable[[T], T | None]) -> T:
        """See `Store.update`. The client's copy is the only one, so *change* runs once, on what this request has."""
        session.value = changed(change, session.value)
        await self.save(session)
        return session.value


class _Sealed(NamedTuple):
    """What `prepare` made: it is all there is to write, and the response takes it along."""

    draft: Draft
    record: Record
    meta: Meta
    handle: str
    outgoing: Outgoing


def _meta_of(claims: Claims) -> Meta | None:
    """What the token says beside the value; a JWT that other software issued under a shared key says its times only."""
    if claims.meta:
        return decode_meta(claims.meta)

    since, until = claims.issued_at, claims.expires_at
    if not is_time(since) or not (until is None or is_time(until)):
        return None
    user_since = None if claims.user_id is None else since
    return Meta(updated_at=since, ends_at=until, authenticated_at=user_since, created_at=since, seen_at=since)
