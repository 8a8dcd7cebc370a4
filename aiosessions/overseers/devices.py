"""The sessions of one user, or of all: listed, and ended by somebody else's hand (ASVS 5 7.4.2, 7.5.2)."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from aiosessions._errors import STRIPPED, DecodeError, NoSessionError, StorerError, UnsupportedError
from aiosessions._lifetime import moment
from aiosessions._place import Place
from aiosessions._state import State, is_time
from aiosessions._store import SessionInfo
from aiosessions._tokens import is_handle
from aiosessions.overseers.backend import ATTEMPTS, Backend
from aiosessions.storers.storer import Listable, Record, Storer, UserIndexed
from aiosessions.storers.together import PAGE, all_at_once, reader

KEY = re.compile(r"([A-Za-z0-9._/-]{0,64}):([A-Za-z][A-Za-z0-9_-]*):([A-Za-z0-9_-]{24})", re.ASCII)
"""Namespace, name and handle of a session. A storer may keep something else: what revocations remember."""


class Devices:
    """What a store's user index knows, and who walks through its keys.

    Args:
        backend: of the store.
        prefix: what the keys of its namespace begin with.
        decode: makes a value of its bytes; DecodeError.
    """

    __slots__ = ("_backend", "_decode", "_namespace", "_prefix", "_storer")

    def __init__(self, backend: Backend, prefix: str, decode: Callable[[bytes], Any]) -> None:  # Any: of any store
        self._backend = backend
        self._storer = backend.storer
        self._prefix = prefix
        self._decode = decode
        self._namespace = prefix[:-1]

    async def list(self, user_id: str) -> list[SessionInfo]:
        """Every live session of a user, newest use first."""
        found = await self._indexed().list_by_owner(user_id, prefix=self._prefix)
        infos = [info for key, record in found if (info := self._info(key, record)) is not None]
        return sorted(infos, key=lambda info: info.seen_at, reverse=True)

    async def all(self) -> AsyncGenerator[SessionInfo]:
        """Every live session of the namespace."""
        with STRIPPED:
            await self._backend.holder.ready()
            async with aclosing(pages_of(self._storer, self._namespace)) as pages:
                async for keys in pages:
                    for key, record in zip(keys, await self._records(keys), strict=True):
                        info = None if record is None else self._info(key, record)
                        if info is not None:
                            yield info

    async def end_all(self, user_id: str, *, keep: str | None) -> int:
        """End every session of a user, but that of the key *keep*; how many went."""
        return await self._indexed().delete_by_owner(user_id, prefix=self._prefix, keep=keep)

    async def end_everybody(self) -> int:
        """End every session of the namespace; how many went."""
        ended = 0
        async with aclosing(pages_of(self._storer, self._namespace)) as pages:
            async for keys in pages:
                ended += sum(await all_at_once(self._storer.delete, keys))
        return ended

    async def end(self, place: Place, handle: str, user_id: str) -> bool:
        """End one, if it is this user's."""
        key = place.key(handle)
        for _ in range(ATTEMPTS):  # once more when it was written in between: the version proves whose it was
            try:
                record = await self._storer.read(key)
            except DecodeError as error:
                raise StorerError(f"session {place.name!r} {handle} cannot be read and has not ended") from error
            if record is None or record.owner != user_id:
                return False
            if await self._storer.delete(key, version=record.version):
                return True
        raise StorerError(f"session {place.name!r} may not have ended: others kept writing it")

    async def opened(self, place: Place, handle: str, user_id: str | None) -> tuple[State, Any]:
        """One that is live and of this user (None: of nobody), and its value; NoSessionError for any other."""
        state, _ = await self._backend.read(place, handle) if is_handle(handle) else (None, False)
        if state is not None and state.owner == user_id:
            deadline = state.deadline(self._backend.lifetime)
            if deadline is None or self._backend.now() < deadline:
                try:
                    return state, self._decode(state.value)
                except DecodeError as error:
                    self._backend.report.unreadable(place.name, handle, user_id, error)

        whose = "there is no anonymous" if user_id is None else f"{user_id!r} has no"
        raise NoSessionError(f"{whose} session {place.name!r} of this handle")

    def _indexed(self) -> UserIndexed:
        if isinstance(self._storer, UserIndexed):
            return self._storer

        raise UnsupportedError(
            f"{type(self._storer).__name__} has no user index: MemoryStorer, DiskStorer, SQLiteStorer, RedisStorer and "
            "PostgresStorer have one"
        )

    async def _records(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """What is stored; None also for what does not open: one such record must not hide all the others."""
        try:
            return await reader(self._storer)(keys)
        except DecodeError:
            return await all_at_once(self._readable, keys)

    async def _readable(self, key: str) -> Record | None:
        try:
            return await self._storer.read(key)
        except DecodeError:
            return None

    def _info(self, key: str, record: Record) -> SessionInfo | None:
        _, name, handle = key.rsplit(":", 2)
        now = self._backend.now()
        state = State.of(record, handle, now=now)
        # the record's own deadline: it may be of a store with another lifetime
        ends_at = record.expires_at
        if state is None or (ends_at is not None and now >= ends_at):
            return None

        meta = state.meta
        info = SessionInfo(
            handle,
            name,
            meta.label,
            moment(state.created_at),
            moment(state.seen_at),
            None if ends_at is None or not is_time(ends_at) else moment(ends_at),
            None if meta.authenticated_at is None else moment(meta.authenticated_at),
            state.owner,
        )
        return info._with(lambda: self._decode(state.value))  # a partial would show the value to who shows variables


async def pages_of(storer: Storer, namespace: str | None) -> AsyncGenerator[Sequence[str]]:
    """The keys of every session of *namespace*; None: of all. One may come twice, from Redis.

    Raises:
        UnsupportedError: the storer cannot list them.
    """
    if not isinstance(storer, Listable):
        raise UnsupportedError(
            f"{type(storer).__name__} has no keys(): MemoryStorer, DiskStorer, SQLiteStorer, RedisStorer and "
            "PostgresStorer have"
        )

    page: list[str] = []
    keys = storer.keys()
    try:
        async for key in keys:
            match = KEY.fullmatch(key)
            if match is not None and namespace in (None, match[1]):
                page.append(key)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page
    finally:
        if isinstance(keys, AsyncGenerator):  # trio warns of one that is left behind
            await keys.aclose()
