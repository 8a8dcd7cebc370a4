"""How a StorageOverseer updates: read, modify, write, until it wins."""

from collections.abc import Callable
from typing import TypeVar

import anyio

from aiosessions._draft import next_meta
from aiosessions._errors import ConflictError, NoSessionError, StorerError
from aiosessions._marks import Marks
from aiosessions._meta import Meta, encode_meta
from aiosessions._session import Session
from aiosessions._tokens import new_version
from aiosessions.overseers.race import RACE_SECONDS, WritingOverseer, lineage, was_applied
from aiosessions.storers.storer import Record

__all__ = ["UpdatingOverseer", "changed"]

T = TypeVar("T")
_NOTHING = Marks()


class UpdatingOverseer(WritingOverseer[T]):
    """Changes a session's value on top of whatever is stored."""

    async def update(self, session: Session[T], change: Callable[[T], T | None]) -> T:
        """See `Store.update`."""
        if session._record is None:
            if session._is_inert:
                raise NoSessionError(f"session {session.name!r} is gone: a logout or login elsewhere ended it")
            session.value = changed(change, session.value)
            await self.save(session)
            return session.value

        deadline = anyio.current_time() + RACE_SECONDS
        await self._take_turn(session)
        try:
            async with self._turn(self._key(session.name, session.handle)):
                await self._update(session, change, deadline)
        finally:
            self._end_turn(session)
        return session.value

    async def _update(self, session: Session[T], change: Callable[[T], T | None], deadline: float) -> None:
        key = self._key(session.name, session.handle)
        base: Record | None = None  # what an earlier try was to be written over, and that try
        tried: Record | None = None
        doubt: StorerError | None = None  # whether it was written is not known
        attempt = 0
        while True:
            stored = await self._catch_up(session, key, attempt)
            if stored is None:
                self._drop(session, "gone")
                raise NoSessionError(f"session {session.name!r} is gone: a logout or login elsewhere ended it")

            value = self._codec.decode(stored.value)
            if tried is not None and was_applied(tried, session):  # its answer got lost, and others wrote over it
                self._adopt(session, value, stored.value)
                self._report("saved", session.name, session.handle, stored.owner)
                return
            if doubt is not None and base is not None and not was_applied(base, session):
                raise doubt  # others have written so often since that nobody can tell
            doubt = None
            if attempt and anyio.current_time() >= deadline:
                break

            value = changed(change, value)
            data = self._codec.encode(value)
            if self._codec.unchanged(stored.value, value, data):
                self._adopt(session, value, stored.value)
                return

            self._codec.check(value, data)
            base, (tried, meta) = stored, self._updated(session, stored, self._merger.carry_unknown(stored.value, data))
            try:
                is_done = await self._storer.replace(key, tried, version=base.version)
            except StorerError as error:
                doubt = error
                is_done = await self._storer.replace(key, tried, version=base.version)  # the version proves if it was
            if is_done:
                session._record, session._meta, session._seen_at = tried, meta, tried.seen_at
                self._adopt(session, value, data)
                self._report("saved", session.name, session.handle, stored.owner)
                return
            attempt += 1

        self._report("conflict", session.name, session.handle, session.user_id, reason="update")
        raise ConflictError(f"session {session.name!r}: others won for {RACE_SECONDS:.0f} seconds; try again")

    def _updated(self, session: Session[T], stored: Record, value: bytes) -> tuple[Record, Meta]:
        now = self.now()
        meta = next_meta(
            session._meta,
            _NOTHING,
            lifetime=self.lifetime,
            now=now,
            is_changed=True,
            is_new=False,
            lineage=lineage(session, now),
        )
        expires_at = meta.effective_lifetime(self.lifetime).deadline(now, meta.ends_at)
        record = Record(value, encode_meta(meta), stored.owner, stored.created_at, now, expires_at, new_version())
        self._check_size(session, record)
        return record, meta

    def _adopt(self, session: Session[T], value: T, data: bytes) -> None:
        """Take the stored value; what was pending in the session's own is merged onto it."""
        pending = self._codec.encode(session.value)
        if self._is_changed(session, pending):
            merged = self._merger.merge(session._base, pending, data, on_conflict=self._on_conflict)
            if merged.conflicts:
                self._report("merged", session.name, session.handle, session.user_id, fields=merged.conflicts)
            value = merged.value
        session.value, session._base = value, data


def changed(change: Callable[[T], T | None], value: T) -> T:
    """What an update's function makes of a value: another one, or the same, changed in place."""
    result = change(value)
    return value if result is None else result
