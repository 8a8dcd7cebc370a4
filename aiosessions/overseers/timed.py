"""The storer of a store whose events somebody listens to: each call of it is one, with the time that it took."""

from collections.abc import AsyncGenerator, Callable, Sequence
from time import perf_counter
from typing import Self, cast

from aiosessions._events import Event
from aiosessions.storers.over import Over, innermost, shape
from aiosessions.storers.storer import Listable, ReadsTogether, Record, Storer, UserIndexed


class _Call:
    """One call, which is told as it ends, also by an error or when its request is cancelled.

    Args:
        storer: what is called.
        operation: how.
        key: of the one session that it is about; "": it is about several.

    Attributes:
        begun: when, in the seconds of `perf_counter`.
        size: of what it read or wrote, in bytes.
    """

    __slots__ = ("_key", "_operation", "_storer", "begun", "size")

    def __init__(self, storer: "_Timed", operation: str, key: str = "") -> None:
        self._storer = storer
        self._operation = operation
        self._key = key
        self.size: int | None = None
        self.begun: float = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        seconds, storer = perf_counter() - self.begun, self._storer
        name, _, handle = self._key.partition(":")[2].partition(":")
        if not name or name[0] == "~":  # what revocations remember is no session
            name, handle = storer.name, ""
        reason = ""
        if error is not None and not isinstance(error, GeneratorExit):  # who walks through keys may leave early
            reason = type(error.__cause__ or error).__name__
        storer.tell(
            Event(
                "storer_call",
                name,
                handle,
                reason=reason,
                operation=self._operation,
                seconds=seconds,
                size=self.size,
                storer=storer.kind,
            )
        )

    def has(self, *records: Record | None) -> None:
        """It read or wrote them."""
        sizes = [len(record.value) + len(record.meta) for record in records if record is not None]
        self.size = sum(sizes) if sizes else None


class _Timed(Over):
    tell: Callable[[Event], None]
    name: str
    kind: str


class _TimedUserIndexed(_Timed):
    """See `UserIndexed`."""

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        with _Call(self, "list_by_owner") as call:
            found = await cast("UserIndexed", self.inner).list_by_owner(owner, prefix=prefix)
            call.has(*(record for _, record in found))
        return found

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        with _Call(self, "delete_by_owner"):
            return await cast("UserIndexed", self.inner).delete_by_owner(owner, prefix=prefix, keep=keep)


class _TimedReadsTogether(_Timed):
    """See `ReadsTogether`."""

    async def read_together(self, keys: Sequence[str]) -> Sequence[Record | None]:
        with _Call(self, "read_together") as call:
            records = await cast("ReadsTogether", self.inner).read_together(keys)
            call.has(*records)
        return records


class _TimedListable(_Timed):
    """See `Listable`."""

    async def keys(self) -> AsyncGenerator[str]:
        """One call for the whole walk; what is done between two keys takes no time of it."""
        keys = cast("Listable", self.inner).keys()
        try:
            with _Call(self, "keys") as call:
                while (key := await anext(keys, None)) is not None:
                    left = perf_counter()
                    try:
                        yield key
                    finally:
                        call.begun += perf_counter() - left
        finally:
            if isinstance(keys, AsyncGenerator):  # trio warns of one that is left behind
                await keys.aclose()


class TimedStorer(_Timed):
    """Tells of each call: one `storer_call`.

    It can what the inner storer can, and no more; its class has that one's name, and its `repr` is that one's, so that
    messages say what the store was given. Opening, closing and the cleaner's rounds are the inner storer's own.

    Args:
        inner: what is called.
        tell: hears of it; raises nothing.
        name: of the sessions that a call is about which has none in its key.
    """

    def __init__(self, inner: Storer, tell: Callable[[Event], None], name: str) -> None:
        self.inner: Storer = inner
        self.tell: Callable[[Event], None] = tell
        self.name: str = name
        self.kind: str = type(innermost(inner)).__name__
        shape(
            self,
            type(inner).__name__,
            indexed=_TimedUserIndexed,
            together=_TimedReadsTogether,
            listable=_TimedListable,
        )

    def __repr__(self) -> str:
        return repr(self.inner)

    async def read(self, key: str) -> Record | None:
        with _Call(self, "read", key) as call:
            record = await self.inner.read(key)
            call.has(record)
        return record

    async def create(self, key: str, record: Record) -> bool:
        with _Call(self, "create", key) as call:
            is_done = await self.inner.create(key, record)
            call.has(record if is_done else None)
        return is_done

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        with _Call(self, "replace", key) as call:
            is_done = await self.inner.replace(key, record, version=version)
            call.has(record if is_done else None)
        return is_done

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        with _Call(self, "touch", key):
            return await self.inner.touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        with _Call(self, "delete", key):
            return await self.inner.delete(key, version=version)
