"""The writing half of a StorageOverseer: create, replace, merge, and who may not write any more."""

import random
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import Literal, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import anyio
from msgspec.structs import replace

from aiosessions._draft import Draft, first_alive, next_meta, next_secrets, wants_confirmation, wants_rotation
from aiosessions._errors import (
    ConflictError,
    ResponseStartedError,
    SessionTooLargeError,
    StorerError,
)
from aiosessions._marks import Marks, Outgoing
from aiosessions._meta import BLANK, Meta, descended, encode_meta, is_ancestor, meta_of
from aiosessions._session import Session
from aiosessions._tokens import Token, digest_of, new_token, new_version, parse_token
from aiosessions.overseers.overseer import Overseer
from aiosessions.sealers.sealer import Claims
from aiosessions.storers.storer import Record, Storer

__all__ = ["RACE_SECONDS", "WritingOverseer", "lineage", "was_applied"]

T = TypeVar("T")
_NOTHING = Marks()
RACE_SECONDS = 5.0
"""How long a write is tried again while others win."""


class WritingOverseer(Overseer[T]):
    """Writes sessions to a storer, never over somebody else's write."""

    _storer: Storer
    _on_conflict: Literal["merge", "raise", "overwrite"]
    _max_size: int | None
    _turns: WeakValueDictionary[tuple[int, str], anyio.Lock]

    def _key(self, name: str, handle: str) -> str:
        return f"{self._namespace}:{name}:{handle}"

    def _digest_of(self, name: str, token: Token) -> bytes:
        return digest_of(self._namespace, name)(token.secret)

    def _opens(self, meta: Meta, digest: bytes, now: float) -> bool:
        secrets = meta.secrets
        if len(secrets) == 1:
            return compare_digest(secrets[0].digest, digest)

        grace = meta.effective_lifetime(self.lifetime).grace.total_seconds()
        alive = secrets[first_alive(secrets, grace=grace, now=now) :]
        return any([compare_digest(secret.digest, digest) for secret in alive])  # noqa: C419  # all of them, always

    # the first phase: no I/O

    def _prepare(self, session: Session[T], *, can_tell: bool) -> None:
        session._draft = None
        marks = session._marks or _NOTHING
        if session._is_inert and not marks.is_login:
            if session._marks is not None or self._is_changed(session, self._codec.encode(session.value)):
                self._drop(session, "superseded")
            return

        data = self._codec.encode(session.value)
        is_changed = self._is_changed(session, data)
        is_new = session._record is None
        if not (
            is_changed
            or (marks.is_content if is_new else marks.is_write or self._must_move(session, can_tell=can_tell))
        ):
            if marks.is_touched and not is_new:
                session._draft = Draft(data, is_changed=False, marks=marks.copy(), is_touch=True), None
            return

        if session._is_degraded:
            raise StorerError(f"session {session.name!r} could not be read, so it is not overwritten")
        if (is_new or marks.rotations) and not can_tell:
            raise ResponseStartedError(
                f"session {session.name!r} has a new token, and the headers have left: save it before, or give the "
                "response"
            )
        if is_changed:
            self._codec.check(session.value, data)
        draft = Draft(data, is_changed, marks if marks is _NOTHING else marks.copy(), can_tell=can_tell)
        # what does not fit is found before anything is written
        session._draft = draft, self._compose(session, draft, None)

    def _must_move(self, session: Session[T], *, can_tell: bool) -> bool:
        """Whether the secrets of a periodic rotation need a write."""
        meta, presented = session._meta, session._presented
        if can_tell and session._stale is not None and getattr(self._sealer, "reseal", False):
            return True

        lifetime = meta.effective_lifetime(self.lifetime)
        if len(meta.secrets) == 1 and lifetime.rotate is None:
            return False

        return wants_confirmation(meta, presented) or (
            can_tell and wants_rotation(meta, presented, lifetime, now=self.now())
        )

    def _compose(self, session: Session[T], draft: Draft, token: Token | None) -> "_Composed":
        """What to write over what is stored, as far as this request knows."""
        stored, marks = session._record, draft.marks
        now = self.now()
        meta = next_meta(
            session._meta,
            marks,
            lifetime=self.lifetime,
            now=now,
            is_changed=draft.is_changed,
            is_new=stored is None,
            lineage=lineage(session, now),
        )
        lifetime = meta.effective_lifetime(self.lifetime)
        self._check_ends(lifetime)
        meta = next_secrets(
            meta,
            None if token is None else self._digest_of(session.name, token),
            presented=session._presented,
            grace=lifetime.grace.total_seconds(),
            now=now,
            is_explicit=stored is None or bool(marks.rotations),
        )
        owner = marks.user[0] if marks.user else None if stored is None else stored.owner
        value, fields = self._value(session, draft)
        record = Record(
            value,
            encode_meta(meta),
            owner,
            now if stored is None else stored.created_at,
            now,
            lifetime.deadline(now, meta.ends_at),
            new_version(),
        )
        self._check_size(session, record)
        return _Composed(record, meta, fields, stored)

    def _check_size(self, session: Session[T], record: Record) -> None:
        size = len(record.value) + len(record.meta)
        if self._max_size is not None and size > self._max_size:
            raise SessionTooLargeError(session.name, size=size, limit=self._max_size)

    def _value(self, session: Session[T], draft: Draft) -> tuple[bytes, tuple[str, ...]]:
        """Our value, over what others wrote since: what only they changed stays theirs."""
        stored = session._record
        if stored is None:
            return draft.value, ()
        if not draft.is_changed:
            return stored.value, ()
        if stored.value == session._base or self._on_conflict == "overwrite":
            return self._merger.carry_unknown(stored.value, draft.value), ()

        ours = self._merger.carry_unknown(session._base, draft.value)
        merged = self._merger.merge(session._base, ours, stored.value, on_conflict=self._on_conflict)
        return merged.data, merged.conflicts

    # the second phase

    async def _commit(self, session: Session[T]) -> None:
        if session._doomed or session._draft is not None:
            await self._ready()
        while session._doomed:
            doomed = session._doomed[0]
            await self._storer.delete(self._key(session.name, doomed.handle))
            session._doomed = session._doomed[1:]
            self._report("destroyed", session.name, doomed.handle, doomed.owner)

        if session._draft is None:
            return
        draft: Draft
        composed: _Composed | None
        draft, composed = session._draft
        session._draft = None
        if draft.is_touch:
            if await self._touch(session):
                self._settle(session, draft)
            else:
                self._drop(session, "gone")
        elif session._record is None:
            await self._create(session, draft)
        else:
            await self._replace(session, draft, composed)

    async def _touch(self, session: Session[T]) -> bool:
        now = self.now()
        expires_at = session._meta.effective_lifetime(self.lifetime).deadline(now, session._meta.ends_at)
        if not await self._storer.touch(self._key(session.name, session.handle), seen_at=now, expires_at=expires_at):
            return False

        session._seen_at = now
        self._report("touched", session.name, session.handle)
        return True

    async def _create(self, session: Session[T], draft: Draft) -> None:
        for _ in range(3):  # 128 random bits are taken once in the life of the universe; a broken backend may say so
            token = new_token()
            record, meta, *_ = self._compose(session, draft, token)
            if await self._storer.create(self._key(session.name, token.handle), record):
                session._handle = token.handle
                session._is_inert = False
                self._confirm(session, draft, record, meta, token)
                self._report("created", session.name, token.handle, record.owner)
                await self._end_replaced(session)
                return

        raise StorerError(f"session {session.name!r}: the backend says that three new random keys are taken")

    async def _end_replaced(self, session: Session[T]) -> None:
        """What this session takes the place of goes, if the request proved the right to it."""
        replaced, session._replaced = session._replaced, None
        handle = replaced.handle if replaced else ""
        text, session._unverified = session._unverified, ""
        if text and self._sealer is not None:
            claims = self._sealer.open(text, name=self._bound(session.name), now=self.now())
            text = claims.body.decode("latin-1") if claims and claims.is_reference else ""
        token = parse_token(text)
        if token is not None:
            record = await self._storer.read(self._key(session.name, token.handle))
            meta = meta_of(record)
            if meta is not None and self._opens(meta, self._digest_of(session.name, token), self.now()):
                handle = token.handle
        if handle and await self._storer.delete(self._key(session.name, handle)):
            self._report("destroyed", session.name, handle, reason="replaced")

    async def _replace(self, session: Session[T], draft: Draft, composed: "_Composed | None") -> None:
        stored = session._record
        if stored is None:
            await self._lose(session, draft)
            return

        key = self._key(session.name, session.handle)
        token = self._next_token(session, draft)
        if token is not None or composed is None or composed.over is not stored:
            composed = self._compose(session, draft, token)
        record, meta, fields, _ = composed
        if not await self._storer.replace(key, record, version=stored.version):
            async with self._turn(key):
                await self._replace_newest(session, draft, record, token)
            return

        self._confirm(session, draft, record, meta, token)
        self._report_saved(session, token, fields)

    async def _replace_newest(self, session: Session[T], draft: Draft, record: Record, token: Token | None) -> None:
        """Somebody was faster than *record*: merge, and try again until it wins."""
        key = self._key(session.name, session.handle)
        deadline = anyio.current_time() + RACE_SECONDS
        attempt = 0
        while True:
            attempt += 1
            stored = await self._catch_up(session, key, attempt)
            if stored is None:
                await self._lose(session, draft)
                return
            if was_applied(record, session):  # the driver sent it twice, and others wrote over it in between
                if token and not self._opens(session._meta, self._digest_of(session.name, token), self.now()):
                    token = None
                self._confirm(session, draft, stored, session._meta, token)
                self._report_saved(session, token)
                return
            if anyio.current_time() >= deadline:
                self._report("conflict", session.name, session.handle, session.user_id, reason="too many writers")
                raise ConflictError(f"session {session.name!r}: others won for {RACE_SECONDS:.0f} seconds; try again")

            token = self._next_token(session, draft)
            record, meta, fields, _ = self._compose(session, draft, token)
            if await self._storer.replace(key, record, version=stored.version):
                self._confirm(session, draft, record, meta, token)
                self._report_saved(session, token, fields)
                return

    def _report_saved(self, session: Session[T], token: Token | None, fields: tuple[str, ...] = ()) -> None:
        self._report("regenerated" if token else "saved", session.name, session.handle, session.user_id)
        if fields:
            self._report("merged", session.name, session.handle, session.user_id, fields=fields)

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncGenerator[None]:
        """Those in this process who race for one session go one by one; a courtesy, and so not waited for for ever.

        Of many who try at once one wins, and the others have worked for nothing. With turns, a writer has only those of
        other processes against it.
        """
        place = threading.get_ident(), key  # each thread has an event loop of its own, and a lock belongs to one
        lock = self._turns.get(place)
        if lock is None:
            lock = self._turns[place] = anyio.Lock(fast_acquire=True)
        with anyio.move_on_after(RACE_SECONDS / 2) as waiting:
            await lock.acquire()
        try:
            yield
        finally:
            if not waiting.cancelled_caught:
                lock.release()

    async def _catch_up(self, session: Session[T], key: str, attempt: int) -> Record | None:
        """Take what is stored now as what we write over; None if our token means nothing any more."""
        if attempt:
            await anyio.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.1)))  # noqa: S311  # jitter, no secret
        record = await self._storer.read(key)
        meta = meta_of(record)
        if record is None or meta is None or meta.epoch != session._meta.epoch:
            return None

        session._record, session._meta = record, meta
        return record

    def _next_token(self, session: Session[T], draft: Draft) -> Token | None:
        """The same handle with a new secret, when one is due."""
        if not draft.marks.rotations:
            meta = session._meta
            lifetime = meta.effective_lifetime(self.lifetime)
            if not draft.can_tell or not wants_rotation(meta, session._presented, lifetime, now=self.now()):
                return None

        return Token(session.handle, new_token().secret)

    async def _lose(self, session: Session[T], draft: Draft) -> None:
        """The record is gone, or of another epoch: it stays as it is. Only a login goes on, as a session of its own."""
        if not draft.marks.is_login:
            self._drop(session, "gone")
            return

        session._record = None
        session._meta = replace(BLANK, flashes=session._meta.flashes, label=session._meta.label)
        await self._create(session, draft)

    def _drop(self, session: Session[T], reason: str) -> None:
        self._report("dropped", session.name, session.handle, session.user_id, reason=reason)
        session._is_inert = True
        session._record = None
        session._marks = None

    def _confirm(self, session: Session[T], draft: Draft, record: Record, meta: Meta, token: Token | None) -> None:
        """The write is confirmed: from here on changes are counted anew."""
        session._record, session._meta, session._seen_at = record, meta, record.seen_at
        self._settle(session, draft)
        if token is not None:
            session._presented = self._digest_of(session.name, token)
        elif draft.can_tell:
            token = session._stale  # the write is confirmed, so nobody has logged in meanwhile
        if token is None:
            return

        session._stale = None
        text = token.text()
        now = record.seen_at
        if self._sealer is not None:
            claims = Claims(text.encode(), True, token.handle, now, meta.ends_at, record.owner, b"")  # noqa: FBT003
            text = self._sealer.seal(claims, name=self._bound(session.name))
        max_age = self._max_age(meta.effective_lifetime(self.lifetime), now, meta.ends_at)
        session._outgoing = Outgoing(text, max_age)


class _Composed(NamedTuple):
    """A record and its meta, the fields that a merge decided, and the stored record that it is written over."""

    record: Record
    meta: Meta
    fields: tuple[str, ...]
    over: Record | None


def lineage(session: Session[T], now: float) -> bytes:
    """That of what is written over the stored record."""
    stored = session._record
    return b"" if stored is None else descended(session._meta.lineage, stored.version, stored.seen_at, now=now)


def was_applied(record: Record, session: Session[T]) -> bool:
    """Whether the stored record is this one, or was written over it."""
    stored = session._record
    if stored is None:
        return False

    return stored.version == record.version or is_ancestor(record.version, session._meta.lineage)
