"""Encryption at rest: what a backend keeps of a session nobody can read, or change, without the keys."""

import hmac
from collections.abc import Sequence
from typing import cast

import msgspec

from aiosessions import _base64url
from aiosessions._errors import DecodeError
from aiosessions.sealers.aesgcm import XAES256GCM
from aiosessions.sealers.keys import Key, Keys
from aiosessions.sealers.ring import BoundKeys, KeyRing
from aiosessions.storers.holding import check_storer
from aiosessions.storers.over import Over, shape
from aiosessions.storers.storer import ReadsTogether, Record, Storer, UserIndexed
from aiosessions.storers.text import decoded, encoded

__all__ = ["EncryptedStorer"]

_VERSION = 1
_PREFIX = 8  # bytes
_NONCE = 24  # likewise
_VALUE, _META = b"v", b"m"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes | None, bytes]).decode


class _Bound:
    """What one key of the ring is for records, and for the names of owners."""

    __slots__ = ("_cipher", "_owners", "_prefix")

    def __init__(self, key: Key, prefix: str, name: str) -> None:
        self._prefix = prefix.encode("ascii")
        purpose = b"aiosessions EncryptedStorer\x00" + self._prefix + name.encode()
        self._cipher = XAES256GCM(key.derive(purpose + b"records"))
        self._owners = key.derive(purpose + b"owners")

    def seal(self, what: bytes, message: bytes) -> bytes:
        return self._prefix + self._cipher.seal(message, self._prefix + what)

    def open(self, what: bytes, sealed: bytes) -> bytes | None:
        start = _PREFIX + _NONCE
        return self._cipher.decrypt(sealed[_PREFIX:start], sealed[start:], self._prefix + what)

    def hashed(self, owner: str) -> str:
        return _base64url.encode(hmac.digest(self._owners, encoded(owner), "sha256"))


class _Seals:
    """Makes of a record what the inner storer sees, and back."""

    __slots__ = ("_keys", "_with_hash")

    def __init__(self, ring: KeyRing, *, with_hash: bool) -> None:
        self._keys = BoundKeys(ring, _Bound, version=_VERSION)
        self._with_hash = with_hash

    def sealed(self, key: str, record: Record) -> Record:
        """It under the key that seals when it is written."""
        bound = self._keys.sealing("", record.seen_at)
        of, owner = _of(key, record), record.owner
        meta = _encode((None if owner is None else encoded(owner), record.meta))
        return Record(
            bound.seal(_VALUE + of, record.value),
            bound.seal(_META + of, meta),
            bound.hashed(owner) if self._with_hash and owner is not None else owner,
            record.created_at,
            record.seen_at,
            record.expires_at,
            record.version,
        )

    def opened(self, key: str, record: Record) -> Record:
        """What `sealed` was given. The owner is the one in meta, whatever else the record says.

        Raises:
            DecodeError: it does not open.
        """
        of = _of(key, record)
        value, meta = self._open(_VALUE + of, record.value), self._open(_META + of, record.meta)
        try:
            owner, meta = _decode(meta)
            name = None if owner is None else decoded(owner)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # sealed by our key, and not written by this code
            raise DecodeError("the record is of another version") from None
        return Record(value, meta, name, record.created_at, record.seen_at, record.expires_at, record.version)

    def _open(self, what: bytes, sealed: bytes) -> bytes:
        bound = self._keys.opening("", sealed[:_PREFIX].decode("latin-1"))
        message = None if bound is None else bound.open(what, sealed)
        if message is None:
            why = "its key is not in the ring" if bound is None else "it was changed, or is of another record or write"
            raise DecodeError(f"the record does not open: {why}")
        return message

    def owners(self, owner: str) -> list[str]:
        """What the inner storer may know *owner* by.

        The key that seals comes last: a record that is sealed again meanwhile is where it was, or where it will be.
        """
        return [bound.hashed(owner) for bound in reversed(self._keys.every(""))] if self._with_hash else [owner]


def _of(key: str, record: Record) -> bytes:
    # The key comes last, after a number that the colon ends: no two pairs give the same bytes.
    return b"%d:%b" % (record.version, encoded(key))


class _Over(Over):
    _seals: _Seals


class _OverUserIndexed(_Over):
    """See `UserIndexed`."""

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        """What does not open is left out: one such record must not hide all the others."""
        found: dict[str, Record] = {}
        for asked in self._seals.owners(owner):
            for key, sealed in await cast("UserIndexed", self.inner).list_by_owner(asked, prefix=prefix):
                try:
                    record = self._seals.opened(key, sealed)
                except DecodeError:
                    continue
                if record.owner == owner:
                    found[key] = record
        return list(found.items())

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        count = 0
        for asked in self._seals.owners(owner):
            count += await cast("UserIndexed", self.inner).delete_by_owner(asked, prefix=prefix, keep=keep)
        return count


class _OverReadsTogether(_Over):
    """See `ReadsTogether`."""

    async def read_together(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """Raises DecodeError if one of them does not open."""
        records = await cast("ReadsTogether", self.inner).read_together(keys)
        found = zip(keys, records, strict=True)
        return [None if record is None else self._seals.opened(key, record) for key, record in found]


class EncryptedStorer(_Over):
    """Seals value and meta of each record before another storer gets it, and opens what it gives back.

    It can what the inner storer can (`isinstance(storer, UserIndexed)` and its like), and no more. Versions, races,
    touches and expiry are the inner storer's, which sees keys, times, versions and sizes as they are.

    A sealed part is

        format version and key id (8 characters) | nonce (24 bytes) | XAES-256-GCM of it, and its tag (16)

    under a key of its own by HKDF-SHA256 from the ring's key (see `AESGCMSealer`). The first part, which of the two it
    is, and the record's key and version are the associated data: what two writes left does not mix. The owner is sealed
    in meta: who can write to the backend cannot make a session somebody else's. What can be done is to put a whole
    record back as it was before: that opens, as times are not sealed, because `touch` moves them.

    Each write seals under the newest active key. A record that does not open (changed, moved, stored in clear, its key
    gone from the ring) is a DecodeError, for a store a session that it cannot read: the client gets a new one. Lists
    leave it out, and `delete_by_owner` ends it.

    Args:
        inner: where the records go.
        keys: one or several, newest first; see `Key`. The first active one seals, all open.
        hash_owners: the inner storer gets an HMAC of each owner instead. Lists and deletes ask once for every key of
            the ring, so that a key's removal takes what is under it out of them, and so does a change of this option.

    Raises:
        ConfigError: *inner* is no storer, a key is weak, or none is active.
    """

    def __init__(self, inner: Storer, keys: Keys, *, hash_owners: bool = False) -> None:
        self.inner: Storer = inner
        try:
            self._seals = _Seals(KeyRing(keys), with_hash=hash_owners)
        finally:
            del keys  # a traceback with captured locals must not show it
        check_storer("inner", inner)
        shape(self, type(self).__name__, indexed=_OverUserIndexed, together=_OverReadsTogether)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.inner!r}>"

    async def read(self, key: str) -> Record | None:
        """See `Storer`. Raises DecodeError for a record that does not open."""
        record = await self.inner.read(key)
        return None if record is None else self._seals.opened(key, record)

    async def create(self, key: str, record: Record) -> bool:
        return await self.inner.create(key, self._seals.sealed(key, record))

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await self.inner.replace(key, self._seals.sealed(key, record), version=version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        return await self.inner.touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self.inner.delete(key, version=version)
