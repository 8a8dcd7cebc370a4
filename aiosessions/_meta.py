"""The library's own compartment of a record: what it must remember about a session beside its value."""

import struct
from typing import Annotated, Any, TypeAlias

import msgspec

from aiosessions._lifetime import Lifetime, unpack_lifetime
from aiosessions.storers.storer import Record

__all__ = [
    "BLANK",
    "Meta",
    "PackedFlash",
    "Secret",
    "decode_meta",
    "descended",
    "encode_meta",
    "is_ancestor",
    "is_time",
    "meta_of",
]

_LAST = 2.0**37
"""In the year 6325. Infinity and NaN are no times either, and a deadline that is NaN would never come."""
_VERSIONS = 2**63
_Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0, lt=_LAST)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
PackedFlash: TypeAlias = tuple[str, str, str, Any]  # Any: a flash's JSON data
"""id, message, category, data: the id lets two requests add and take at once."""

_ANCESTOR = struct.Struct(">QH")
"""A version, and the second at which it was written, modulo 2^16."""
_REMEMBERED_SECONDS = 30
"""Longer than a storer's time-out and a driver's own retries together."""
_REMEMBERED = 256


class Secret(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The digest of a secret that opens the session, or did.

    Args:
        digest: SHA-256, shortened once it is retired.
        issued_at: when it was made, or when it was retired.
        presented_at: when a request first brought it; 0.0 until then.
    """

    digest: bytes
    issued_at: _Time
    presented_at: _Time = 0.0


class Meta(msgspec.Struct, array_like=True, frozen=True):
    """Fields are appended, never moved, so that older and newer versions read each other.

    Args:
        secrets: those that open the session, newest last; more than one only while a periodic rotation is under way.
        epoch: rises with every explicit rotation.
        updated_at: last write of the value.
        ends_at: the absolute deadline.
        authenticated_at: when the user was bound.
        csrf: key of the CSRF tokens of this epoch.
        label: free text for session lists.
        flashes: messages not yet taken.
        lifetime: what `set_user(lifetime=)` said, packed; None: the store's.
        superseded: secrets that an explicit rotation ended, recognised for the grace time.
        retired: secrets that a periodic rotation ended: one that comes back was copied.
        created_at: for sessions the client holds, which have no record to say it.
        seen_at: likewise.
        generation: likewise, for replay protection.
        lineage: the versions before this one that are younger than a while: a write whose answer got lost is known
            under later ones.
        user_epoch: for sessions the client holds: the user's, when the session became theirs.
    """

    secrets: tuple[Secret, ...] = ()
    epoch: _Count = 0
    updated_at: _Time = 0.0
    ends_at: _Time | None = None
    authenticated_at: _Time | None = None
    csrf: bytes = b""
    label: str | None = None
    flashes: tuple[PackedFlash, ...] = ()
    lifetime: tuple[float | str | None, ...] | None = None
    superseded: tuple[Secret, ...] = ()
    retired: tuple[Secret, ...] = ()
    created_at: _Time = 0.0
    seen_at: _Time = 0.0
    generation: _Count = 0
    user_epoch: _Count = 0
    lineage: bytes = b""

    def __repr__(self) -> str:  # tracebacks may show local variables: no flashes, no keys
        return f"Meta(epoch={self.epoch})"

    def effective_lifetime(self, lifetime: Lifetime) -> Lifetime:
        """This session's own lifetime, or else the store's."""
        return lifetime if self.lifetime is None else unpack_lifetime(self.lifetime) or lifetime


BLANK = Meta()
"""What a session that was never stored starts from."""

encode_meta = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Meta).decode


def decode_meta(data: bytes) -> Meta | None:
    """The compartment, or None for bytes this library did not write."""
    try:
        meta = _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return None if len(meta.lineage) % _ANCESTOR.size else meta


def meta_of(record: Record | None) -> Meta | None:
    """The compartment of a record; None for none, or for one that this library did not write like this."""
    if record is None or not (
        0.0 <= record.created_at < _LAST and 0.0 <= record.seen_at < _LAST and 0 <= record.version < _VERSIONS
    ):
        return None
    return decode_meta(record.meta)


def is_time(seconds: float) -> bool:
    """Whether a clock may have said so, in unix seconds."""
    return 0.0 <= seconds < _LAST


def descended(lineage: bytes, version: int, written_at: float, *, now: float) -> bytes:
    """The lineage of what is written over a version.

    Empty unless others wrote a moment ago: a session that one request at a time writes carries nothing.

    Args:
        lineage: of the record that is written over.
        version: its version.
        written_at: when that was written, unix seconds.
        now: unix seconds.
    """
    if now - written_at >= _REMEMBERED_SECONDS:
        return b""

    second = int(now)
    young = max(0, len(lineage) - (_REMEMBERED - 1) * _ANCESTOR.size)
    while young < len(lineage):  # oldest first
        _, since = _ANCESTOR.unpack_from(lineage, young)
        if (second - since) % 0x1_0000 < _REMEMBERED_SECONDS:
            break
        young += _ANCESTOR.size
    return lineage[young:] + _ANCESTOR.pack(version, int(written_at) % 0x1_0000)


def is_ancestor(version: int, lineage: bytes) -> bool:
    """Whether a record of this lineage was written over *version*, directly or not."""
    return any(known == version for known, _ in _ANCESTOR.iter_unpack(lineage))
