"""A storer of any kind, whose calls are counted for the narrator."""

from aiosessions import Record, Storer
from aiosessions.demo.narrator import note_call, note_met, note_seen
from aiosessions.storers.storer import Cleanable, Openable, UserIndexed

__all__ = ["narrated"]


def narrated(storer: Storer) -> Storer:
    """*storer*, counted; it can list a user's sessions if *storer* can."""
    return _Indexed(storer, storer) if isinstance(storer, UserIndexed) else _Narrated(storer)


class _Narrated:
    """See `Storer`, `Cleanable` and `Openable`."""

    def __init__(self, storer: Storer) -> None:
        self._storer = storer

    async def read(self, key: str) -> Record | None:
        note_call("read")
        record = await self._storer.read(key)
        if record is not None:
            note_seen(record.version)
        return record

    async def create(self, key: str, record: Record) -> bool:
        note_call("create")
        note_seen(record.version)
        return await self._storer.create(key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        note_call("replace")
        is_written = await self._storer.replace(key, record, version=version)
        note_met(version, is_written=is_written)
        note_seen(record.version)
        return is_written

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        note_call("touch")
        return await self._storer.touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        note_call("delete")
        return await self._storer.delete(key, version=version)

    async def clean(self) -> int:
        return await self._storer.clean() if isinstance(self._storer, Cleanable) else 0

    async def open(self) -> None:
        if isinstance(self._storer, Openable):
            await self._storer.open()

    async def aclose(self) -> None:
        if isinstance(self._storer, Openable):
            await self._storer.aclose()


class _Indexed(_Narrated):
    """See `UserIndexed`."""

    def __init__(self, storer: Storer, index: UserIndexed) -> None:
        super().__init__(storer)
        self._index = index

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        note_call("list")
        return await self._index.list_by_owner(owner, prefix=prefix)

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        note_call("delete_by_owner")
        return await self._index.delete_by_owner(owner, prefix=prefix, keep=keep)
