"""The sessions of one user: listed, and ended by somebody else's hand (ASVS 5 7.4.2, 7.5.2)."""

from aiosessions._errors import DecodeError, StorerError, UnsupportedError
from aiosessions._lifetime import moment
from aiosessions._place import Place
from aiosessions._state import State, is_time
from aiosessions._store import SessionInfo
from aiosessions.overseers.backend import ATTEMPTS, Backend
from aiosessions.storers.storer import UserIndexed

__all__ = ["Devices"]


class Devices:
    """What a store's user index knows.

    Args:
        backend: of the store.
        prefix: what the keys of its namespace begin with.
    """

    __slots__ = ("_backend", "_prefix", "_storer")

    def __init__(self, backend: Backend, prefix: str) -> None:
        self._backend = backend
        self._storer = backend.storer
        self._prefix = prefix

    async def list(self, user_id: str) -> list[SessionInfo]:
        """Every live session of a user, newest use first."""
        now = self._backend.now()
        found: list[SessionInfo] = []
        for key, record in await self._indexed().list_by_owner(user_id, prefix=self._prefix):
            _, name, handle = key.rsplit(":", 2)
            state = State.of(record, handle, now=now)
            # the record's own deadline: it may be of a store with another lifetime
            ends_at = record.expires_at
            if state is not None and (ends_at is None or now < ends_at):
                found.append(_info(name, state, None if ends_at is None or not is_time(ends_at) else ends_at))
        return sorted(found, key=lambda info: info.seen_at, reverse=True)

    async def end_all(self, user_id: str, *, keep: str | None) -> int:
        """End every session of a user, but that of the key *keep*; how many went."""
        return await self._indexed().delete_by_owner(user_id, prefix=self._prefix, keep=keep)

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

    def _indexed(self) -> UserIndexed:
        if isinstance(self._storer, UserIndexed):
            return self._storer

        raise UnsupportedError(
            f"{type(self._storer).__name__} has no user index: MemoryStorer, DiskStorer, SQLiteStorer, RedisStorer and "
            "PostgresStorer have one"
        )


def _info(name: str, state: State, expires_at: float | None) -> SessionInfo:
    meta = state.meta
    return SessionInfo(
        state.handle,
        name,
        meta.label,
        moment(state.created_at),
        moment(state.seen_at),
        None if expires_at is None else moment(expires_at),
        None if meta.authenticated_at is None else moment(meta.authenticated_at),
    )
