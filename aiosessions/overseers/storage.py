"""A Store that keeps the state in a Storer; the client holds a token that refers to it."""

import time
from collections.abc import Callable
from datetime import timedelta
from hmac import compare_digest
from typing import Any, Literal, TypeVar, overload
from weakref import WeakValueDictionary

from aiosessions._draft import SHORT
from aiosessions._errors import (
    ConfigError,
    DecodeError,
    NoSessionError,
    SessionTooLargeError,
    StorerError,
    UnsupportedError,
)
from aiosessions._events import Event, logger
from aiosessions._lifetime import Lifetime, moment
from aiosessions._mapping_session import MappingSession
from aiosessions._marks import Doomed, Exchange
from aiosessions._meta import Meta, meta_of
from aiosessions._request import RawHeaders
from aiosessions._session import Session
from aiosessions._store import SessionInfo, Store, Untyped
from aiosessions._tokens import Token, is_handle, new_handle, new_token, parse_token
from aiosessions.overseers.updating import UpdatingOverseer
from aiosessions.sealers.sealer import Claims, Sealer
from aiosessions.storers.storer import Record, Storer, UserIndexed
from aiosessions.transports.transport import Carried, Transport
from aiosessions.values.codecs import Codec

__all__ = ["StorageOverseer"]

T = TypeVar("T")
V = TypeVar("V")


class StorageOverseer(UpdatingOverseer[T]):
    """Keeps sessions of one type in a backend.

    Args:
        value_type: T: a dataclass, TypedDict, msgspec.Struct, attrs class, pydantic model, `dict[str, V]`, `str`, ...
        storer: the backend; several stores may share it.
        name: the sessions' name, unless `get` names another.
        default: makes the value of a new session; None: `value_type()`.
        codec: None: checked JSON; pydantic for a pydantic model.
        transport: None: a cookie, `__Host-`, Secure, HttpOnly, SameSite=Lax (ASVS 5 3.3.1-3.3.4).
        sealer: wraps the token, in an encrypted cookie or in a JWT's `sid`.
        lifetime: None: 1 day idle, 30 days absolute.
        namespace: keeps applications apart that share a storer; at most 64 of letters, digits and `._/-`.
        on_conflict: what happens to a field that two requests changed and no rule can settle: "merge" takes the later
            write and reports it, "raise" is a ConflictError, "overwrite" writes the whole value.
        max_size: of value and meta, in bytes; None: no limit.
        clean_every: how often the storer's expired records are removed; None: never.
        on_event: called with every Event, in the request.
        on_storer_error: "raise" a StorerError, or go on with a "new" session that cannot be saved.
        on_reuse: a secret that a rotation retired came back: "ignore" it, or "destroy" the session.
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        for option, value, choices in (
            ("on_conflict", on_conflict, ("merge", "raise", "overwrite")),
            ("on_storer_error", on_storer_error, ("raise", "new")),
            ("on_reuse", on_reuse, ("ignore", "destroy")),
        ):
            if value not in choices:
                raise ConfigError(f"{option}={value!r}: give one of {choices}")
        if max_size is not None and max_size <= 0:
            raise ConfigError(f"max_size={max_size}: give a positive number of bytes, or None")
        if clean_every is not None and clean_every <= timedelta(0):
            raise ConfigError(f"clean_every={clean_every}: give a positive duration, or None")
        if not hasattr(storer, "replace"):
            raise ConfigError(f"storer={type(storer).__name__} is no Storer: it has no replace()")

        super().__init__(
            value_type,
            name=name,
            default=default,
            codec=codec,
            prefers_json=True,
            backend=storer,
            clean_every=clean_every,
            transport=transport,
            sealer=sealer,
            lifetime=lifetime,
            namespace=namespace,
            on_event=on_event,
            clock=clock,
        )
        self._storer = storer
        self._on_conflict = on_conflict
        self._max_size = max_size
        self._turns = WeakValueDictionary()
        self._on_storer_error = on_storer_error
        self._on_reuse = on_reuse
        if sealer is not None:
            self._prove_token(sealer)

    def _prove_token(self, sealer: Sealer) -> None:
        """The longest token fits the transport: later it would be found out when the headers leave."""
        now = self.now()
        ends_at = now if self.lifetime.absolute is None else now + self.lifetime.absolute.total_seconds()
        claims = Claims(new_token().text().encode(), True, new_handle(), now, ends_at, "x" * 255, b"")  # noqa: FBT003
        try:
            token = sealer.seal(claims, name=self._bound(self.name))
            self._transport.write(RawHeaders([]), self.name, token, Carried("", is_secure=True), None)
        except UnsupportedError:
            return  # it has public keys only: this store reads
        except SessionTooLargeError as error:
            raise ConfigError(
                f"sealer: its tokens do not fit the transport ({error}): give another, or more room"
            ) from None

    # reading

    async def _load(self, carried: Carried, name: str, exchange: Exchange, *, touch: bool) -> Session[T]:
        token = self._opened(carried, name)
        if token is None:
            return self._blank(carried, name, exchange)

        try:
            if not self._is_ready:
                await self._ready()
            return await self._find(token, carried, name, exchange, touch=touch)
        except StorerError as error:
            self._report("store_failed", name, token.handle, reason=type(error.__cause__).__name__)
            if self._on_storer_error == "raise":
                raise

            session = self._blank(carried, name, exchange)
            session._is_degraded = True
            return session

    def _opened(self, carried: Carried, name: str) -> Token | None:
        """The token that came, if it has a token's shape; no backend is asked for another."""
        text = carried.token
        if text is None:
            if carried.present:
                self._report("rejected", name, reason="duplicate" if carried.duplicate else "malformed")
            return None

        if self._sealer is not None:
            claims = self._sealer.open(text, name=self._bound(name), now=self.now())
            if claims is None or not claims.is_reference:
                self._report("rejected", name, reason="not sealed by us")
                return None
            text = claims.body.decode("latin-1")

        token = parse_token(text)
        if token is None:
            self._report("rejected", name, reason="malformed")
        return token

    async def _find(self, token: Token, carried: Carried, name: str, exchange: Exchange, *, touch: bool) -> Session[T]:
        key = self._key(name, token.handle)
        record = await self._storer.read(key)
        meta = meta_of(record)
        if record is None or meta is None:
            self._report("rejected", name, token.handle, reason="unknown" if record is None else "unreadable")
            return self._blank(carried, name, exchange)

        now = self.now()
        digest = self._digest_of(name, token)
        if not self._opens(meta, digest, now):
            return await self._refuse(token, record, meta, digest, carried, name, exchange)

        lifetime = meta.effective_lifetime(self.lifetime)
        deadline = lifetime.deadline(record.seen_at, meta.ends_at)
        if deadline is not None and now >= deadline:
            self._report("expired", name, token.handle, record.owner)
            return self._blank(carried, name, exchange)

        try:
            value = self._codec.decode(record.value)
        except DecodeError as error:
            # written by another version: the record stays until the session that takes its place is stored
            logger.warning("session %s %s cannot be read: %s", name, token.handle, error)
            session = self._blank(carried, name, exchange)
            session._replaced = Doomed(token.handle, record.owner, meta)
            return session

        session = self._session_type(self, name, carried, exchange, value, record.value, token.handle, record, meta)
        session._presented = digest
        if self._sealer is not None and not self._is_under_current_key(carried.token or ""):
            session._stale = token
        if touch and now - record.seen_at >= lifetime.touch_window() and not await self._touch(session):
            return self._blank(carried, name, exchange)

        self._report("loaded", name, token.handle, record.owner)
        return session

    async def _refuse(
        self, token: Token, record: Record, meta: Meta, digest: bytes, carried: Carried, name: str, exchange: Exchange
    ) -> Session[T]:
        """A wrong secret: forged, or one that was right before."""
        session = self._blank(carried, name, exchange)
        lifetime = meta.effective_lifetime(self.lifetime)
        short = digest[:SHORT]
        if any(
            compare_digest(secret.digest, short) and self.now() - secret.issued_at < lifetime.grace.total_seconds()
            for secret in meta.superseded
        ):
            # an answer to this request must not overwrite the newer token that is on its way, or there already
            session._is_inert = True
            self._report("token_superseded", name, token.handle, record.owner)
            return session

        was_right = any(compare_digest(secret.digest[:SHORT], short) for secret in (*meta.retired, *meta.secrets))
        if not was_right:
            self._report("rejected", name, token.handle, reason="wrong secret")
            return session

        self._report("token_reused", name, token.handle, record.owner)
        if self._on_reuse == "destroy" and await self._storer.delete(self._key(name, token.handle)):
            self._report("destroyed", name, token.handle, record.owner, reason="token reused")
        return session

    async def is_live(self, session: Session[T]) -> bool:
        """Whether a session that was loaded earlier still counts: stored, of the same epoch, not expired.

        Args:
            session: one that this store gave; its `expires_at` is the newest afterwards.

        Raises:
            StorerError: the backend failed.
        """
        if session._record is None:
            return False

        await self._ready()
        record = await self._storer.read(self._key(session.name, session.handle))
        meta = meta_of(record)
        if record is None or meta is None or meta.epoch != session._meta.epoch:
            return False

        session._seen_at = max(session._seen_at, record.seen_at)
        return not session.is_expired

    @overload
    async def open(self: Store[Untyped], handle: str, *, user_id: str, name: str | None = None) -> Session[Any]: ...
    @overload
    async def open(
        self: Store[dict[str, V]], handle: str, *, user_id: str, name: str | None = None
    ) -> MappingSession[V]: ...
    @overload
    async def open(self, handle: str, *, user_id: str, name: str | None = None) -> Session[T]: ...
    # Any: the overloads say of what
    async def open(self, handle: str, *, user_id: str, name: str | None = None) -> Session[Any]:
        """A stored session without a request, for jobs that act on it; it can set no token.

        Args:
            handle: from `SessionInfo` or `Session.handle`.
            user_id: whose it must be.
            name: the session's name; None: the store's own.

        Raises:
            NoSessionError: it is gone, or not theirs.
            StorerError: the backend failed.
        """
        name = self._checked(name)
        await self._ready()
        record = await self._storer.read(self._key(name, handle)) if is_handle(handle) else None
        meta = meta_of(record)
        if record is not None and meta is not None and record.owner == user_id:
            deadline = meta.effective_lifetime(self.lifetime).deadline(record.seen_at, meta.ends_at)
            if deadline is None or self.now() < deadline:
                value = self._codec.decode(record.value)
                return self._session_type(
                    self, name, Carried(""), Exchange(), value, record.value, handle, record, meta
                )

        raise NoSessionError(f"{user_id!r} has no session {name!r} of this handle")

    # the user's sessions

    async def user_sessions(self, user_id: str) -> list[SessionInfo]:
        """Every live session of a user, of all names in this namespace, newest use first (ASVS 5 7.5.2).

        Raises:
            UnsupportedError: the storer has no user index.
            StorerError: the backend failed.
        """
        found: list[SessionInfo] = []
        await self._ready()
        for key, record in await self._indexed().list_by_owner(user_id, prefix=f"{self._namespace}:"):
            meta = meta_of(record)
            if meta is None:
                continue
            deadline = meta.effective_lifetime(self.lifetime).deadline(record.seen_at, meta.ends_at)
            if deadline is not None and self.now() >= deadline:
                continue

            _, name, handle = key.rsplit(":", 2)
            found.append(
                SessionInfo(
                    handle,
                    name,
                    meta.label,
                    moment(record.created_at),
                    moment(record.seen_at),
                    None if deadline is None else moment(deadline),
                    None if meta.authenticated_at is None else moment(meta.authenticated_at),
                )
            )
        return sorted(found, key=lambda info: info.seen_at, reverse=True)

    async def delete_user_sessions(self, user_id: str, *, keep: Session[T] | None = None) -> int:
        """Log out all (other) devices, of all names in this namespace (ASVS 5 7.4.2, 7.4.3, 7.4.5).

        Args:
            user_id: whose.
            keep: the session that stays.

        Returns:
            How many went.

        Raises:
            UnsupportedError: the storer has no user index.
            StorerError: the backend failed.
        """
        await self._ready()
        kept = None if keep is None or not keep.handle else self._key(keep.name, keep.handle)
        count = await self._indexed().delete_by_owner(user_id, prefix=f"{self._namespace}:", keep=kept)
        self._report("destroyed", self.name, user_id=user_id, reason=f"{count} sessions of the user")
        return count

    async def delete(self, handle: str, *, user_id: str, name: str | None = None) -> bool:
        """End one session of this user by its public handle; False if it is not theirs, or gone (ASVS 5 7.5.2).

        Args:
            handle: from `SessionInfo` or `Session.handle`.
            user_id: whose it must be.
            name: the session's name; None: the store's own.

        Raises:
            StorerError: the backend failed.
        """
        if not is_handle(handle):
            return False

        name = self._checked(name)
        await self._ready()
        key = self._key(name, handle)
        record = await self._storer.read(key)
        # once more when it was written in between: the version proves whose it was when it went
        while record is not None and record.owner == user_id:
            if await self._storer.delete(key, version=record.version):
                self._report("destroyed", name, handle, user_id)
                return True
            record = await self._storer.read(key)
        return False

    def _indexed(self) -> UserIndexed:
        if isinstance(self._storer, UserIndexed):
            return self._storer

        raise UnsupportedError(
            f"{type(self._storer).__name__} has no user index: MemoryStorer, DiskStorer, RedisStorer and "
            "PostgresStorer have one"
        )
