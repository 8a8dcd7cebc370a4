"""The backend's side: a Record, and the Protocols a storer may satisfy.

The docstrings are the contract; `aiosessions.testing.suites` holds every sentence of it to account.
"""

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from aiosessions._discreet import Discreet

__all__ = ["Cleanable", "Durable", "Listable", "Openable", "ReadsTogether", "Record", "Storer", "UserIndexed"]


class Record(Discreet, frozen=True):
    """One session as a storer keeps it. Its `repr` shows neither value nor meta.

    Times are unix seconds, UTC, as floats.

    Attributes:
        value: what the codec made of the session's value.
        meta: the library's own compartment; opaque to a storer.
        owner: the user id, for the user index.
        created_at: when the session was first stored.
        seen_at: the last touch or write.
        expires_at: when the storer may forget it; None: never.
        version: 63 random bits, made anew for each write: equal means unchanged.
    """

    shown: ClassVar[tuple[str, ...]] = ("owner", "created_at", "seen_at", "expires_at", "version")

    value: bytes
    meta: bytes
    owner: str | None
    created_at: float
    seen_at: float
    expires_at: float | None
    version: int

    def is_live(self, now: float) -> bool:
        """Whether it has not expired by *now*, in unix seconds (S9)."""
        return self.expires_at is None or self.expires_at > now

    def touched(self, seen_at: float, expires_at: float | None) -> "Record":
        """The same with both times later, never earlier: what `touch` leaves behind (S7)."""
        later = None if self.expires_at is None or expires_at is None else max(self.expires_at, expires_at)
        seen_at = max(self.seen_at, seen_at)
        return Record(self.value, self.meta, self.owner, self.created_at, seen_at, later, self.version)


class Storer(Protocol):
    """Keeps Records under keys.

    There is no upsert: a request that is still running cannot bring back a session that was destroyed meanwhile.
    Every failure of the backend is a `StorerError` with the driver's error as `__cause__`; from a write it means that
    the outcome is unknown. A `create` or `replace` that finds the very version it is writing reports success: the
    driver re-sent it after a lost answer, and it is applied once.
    """

    async def read(self, key: str) -> Record | None:
        """The record, or None if it is absent or has expired (cleaned or not). Creates nothing.

        Raises:
            DecodeError: there is one, and it does not open: see `EncryptedStorer`.
        """
        ...

    async def create(self, key: str, record: Record) -> bool:
        """Store it only if the key is absent or expired; False, and nothing changed, if it is present."""
        ...

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        """Store it only if the key is present, live and still at *version*; else False, and nothing changed."""
        ...

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        """Move both times later, never earlier; value, meta and version stay. False if absent or expired."""
        ...

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        """Remove exactly that key (with *version*: only at that version) and say whether it was there, live."""
        ...


@runtime_checkable
class Durable(Protocol):
    """A storer that says whether it keeps what it confirmed."""

    @property
    def durable(self) -> bool:
        """Whether a confirmed record stays until it expires: no eviction, nothing that a restart of a server empties.

        Before `open` it may say what the storer can promise, from then on it says what its backend, as it is set up,
        does. What has to be kept asks again once the storer is open.
        """
        ...


@runtime_checkable
class Cleanable(Protocol):
    """A storer whose expired records need removing."""

    async def clean(self) -> int:
        """Remove what expired more than a minute ago, in batches, yielding to the event loop; how many went.

        Expiry is checked again under the lock or statement that deletes. Costs what expired, not what is stored.
        """
        ...


@runtime_checkable
class UserIndexed(Protocol):
    """A storer that knows whose sessions it keeps."""

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        """The live records of *owner* under keys that start with *prefix*; stale index entries heal."""
        ...

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        """Remove every record of *owner* confirmed before the call, but the key *keep*; how many went."""
        ...


@runtime_checkable
class Listable(Protocol):
    """A storer that can walk through its keys."""

    def keys(self) -> AsyncIterator[str]:
        """The live keys of this storer, in pages, each at least once while it lives."""
        ...


@runtime_checkable
class ReadsTogether(Protocol):
    """A storer that reads several keys at the price of one. Of others they are read one by one, all at once."""

    async def read_together(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """What `read` says of each of *keys*, in their order; in one trip, if they are a hundred at most."""
        ...


@runtime_checkable
class Openable(Protocol):
    """A storer with something to connect, create or load first. Both are idempotent and counted."""

    async def open(self) -> None:
        """Connect, create the schema, load scripts; or raise StorerError or ConfigError that says what is wrong."""
        ...

    async def aclose(self) -> None:
        """Undo one `open`; the last one closes what this storer opened itself, and nothing else."""
        ...
