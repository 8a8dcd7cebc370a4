"""What a session is (State), what its handler asked for (Wishes), what it becomes (`advance`), and what ends."""

import struct
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from aiosessions._csrf import new_csrf_key
from aiosessions._flashes import PackedFlash
from aiosessions._lifetime import Lifetime, unpack_lifetime
from aiosessions._origin import Origin
from aiosessions._secrets import LAST, Count, Secret, Secrets, Time
from aiosessions.storers.storer import Record

_VERSIONS = 2**63
_ANCESTOR = struct.Struct(">Q")
_LINEAGE = 64 * _ANCESTOR.size  # bytes: the last 64 versions
_REMEMBERED_SECONDS = 30.0
"""Longer than a storer's time-out and a driver's own retries together."""


Standing: TypeAlias = Literal["fine", "dead", "unread"]
"""dead: its token was superseded or it ended elsewhere: neither stored nor sent, but for a login. unread: the storer
failed, so that nothing of it is overwritten."""


class Held(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the token of a session says that the client holds, and a record else.

    Args:
        created_at: when it was first sent.
        seen_at: last touch or write.
        generation: for replay protection.
        user_epoch: the user's, when the session became theirs.
        namespace_epoch: everybody's, when the session began or its user logged in.
    """

    created_at: Time
    seen_at: Time
    generation: Count = 0
    user_epoch: Count = 0
    namespace_epoch: Count = 0


class Meta(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The library's own compartment of a record. Fields are appended, never moved: versions read each other.

    Args:
        secrets: those that open the session, and those that did.
        updated_at: last write of the value.
        ends_at: the absolute deadline.
        authenticated_at: when the user was bound.
        csrf: key of the CSRF tokens of this epoch.
        label: free text for session lists.
        flashes: messages not yet taken.
        lifetime: what `set_user(lifetime=)` said, packed; None: the store's.
        spelling: which codec wrote the value, byte for byte (`CheckedCodec.spelling`); 0: not known.
        lineage: the last versions before this one, while writes follow one another quickly: a write whose answer got
            lost is known under later ones.
        held: of a session that the client holds, which has no record to say it.
    """

    secrets: Secrets = Secrets()
    updated_at: Time = 0.0
    ends_at: Time | None = None
    authenticated_at: Time | None = None
    csrf: bytes = b""
    label: str | None = None
    flashes: tuple[PackedFlash, ...] = ()
    lifetime: tuple[float | str | None, ...] | None = None
    spelling: Count = 0
    lineage: bytes = b""
    held: Held | None = None

    def __repr__(self) -> str:  # tracebacks may show local variables: no flashes, no keys
        return f"Meta({self.secrets!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # a Struct's own would show them
        return [("secrets", self.secrets)]

    @property
    def epoch(self) -> int:
        """How many explicit rotations there were."""
        return self.secrets.epoch

    def effective_lifetime(self, lifetime: Lifetime) -> Lifetime:
        """This session's own lifetime, or else the store's."""
        return lifetime if self.lifetime is None else unpack_lifetime(self.lifetime) or lifetime

    def pack(self) -> bytes:
        """What a record or a token keeps of it."""
        return _encode(self)

    @staticmethod
    def unpack(data: bytes) -> "Meta | None":
        """The compartment, or None for bytes this library did not write."""
        try:
            meta = _decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return meta if not meta.lineage or len(meta.lineage) % _ANCESTOR.size == 0 else None


class SentMeta(Meta, array_like=True, frozen=True, gc=False):
    """What is read is one, and what is written where the cookie is timed: others store no byte for it.

    Args:
        sent_at: when the newest secret was last sent; 0.0: not known, so that it is sent with the next use.
    """

    sent_at: Time = 0.0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SentMeta).decode
BLANK = Meta()
"""What a session that was never stored starts from."""


class State(msgspec.Struct, frozen=True, gc=False):
    """One version of a session, whole, as a request last saw it. Never changed: a write makes another.

    Args:
        handle: its public reference; "" until it is stored.
        value: what the codec made of the value.
        owner: the user id.
        created_at: when it was first stored, unix seconds.
        seen_at: last touch or write, unix seconds.
        version: of the record; 0 where the client holds the session.
        meta: the library's own compartment.
        read_at: when this request saw it, unix seconds: then the token that came was good.
    """

    handle: str
    value: bytes
    owner: str | None
    created_at: float
    seen_at: float
    version: int
    meta: Meta
    read_at: float

    def __repr__(self) -> str:  # tracebacks may show local variables: no value
        return f"State(handle={self.handle!r}, version={self.version}, {self.meta!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # as above
        return [("handle", self.handle), ("version", self.version), ("meta", self.meta)]

    @staticmethod
    def blank(value: bytes, now: float, meta: Meta = BLANK) -> "State":
        """That of a session which is not stored."""
        return State("", value, None, now, now, 0, meta, now)

    @staticmethod
    def of(record: Record, handle: str, *, now: float) -> "State | None":
        """The state that a record holds; None for one that this library did not write like this."""
        meta, created_at, seen_at, version = Meta.unpack(record.meta), record.created_at, record.seen_at, record.version
        if meta is None or not (0.0 <= created_at < LAST and 0.0 <= seen_at < LAST and 0 <= version < _VERSIONS):
            return None
        return State(handle, record.value, record.owner, created_at, seen_at, version, meta, now)

    def record(self, lifetime: Lifetime) -> Record:
        """What a storer keeps of it; *lifetime* is the store's."""
        meta = self.meta
        own = lifetime if meta.lifetime is None else meta.effective_lifetime(lifetime)
        expires_at = own.deadline(self.seen_at, meta.ends_at)
        return Record(self.value, meta.pack(), self.owner, self.created_at, self.seen_at, expires_at, self.version)

    @property
    def as_held(self) -> Held:
        """What its token says, if the client holds it."""
        return self.meta.held or Held(self.created_at, self.seen_at)

    @property
    def began_at(self) -> float:
        """When it was first stored, or its user logged in since; unix seconds."""
        return max(self.as_held.created_at, self.meta.authenticated_at or 0.0)

    def deadline(self, lifetime: Lifetime) -> float | None:
        """When it ends, unix seconds; *lifetime* is the store's; None: never."""
        meta = self.meta
        own = lifetime if meta.lifetime is None else meta.effective_lifetime(lifetime)
        return own.deadline(self.seen_at, meta.ends_at)

    def descends_from(self, version: int) -> bool:
        """Whether it is this version, or was written over it, directly or not."""
        if self.version == version:
            return True
        return any(known == version for (known,) in _ANCESTOR.iter_unpack(self.meta.lineage))

    def seen(self, seen_at: float) -> "State":
        """The same, seen later."""
        return msgspec.structs.replace(self, seen_at=seen_at)


class Wishes(msgspec.Struct):
    """What a handler asked for, to be done at save.

    Args:
        rotations: how many new secrets.
        is_touched: whether it is to be seen now.
        user: whom to bind, and since when; (None, ...) unbinds.
        lifetime: of this session instead of the store's.
        label: the next one.
        csrf: the next key; b"": none was needed.
        added: flashes.
        taken: the ids of flashes that were shown.
        emptied: the stored flashes and label go too.
        origin: where it is imported from, until it is stored as ours.
    """

    rotations: int = 0
    is_touched: bool = False
    user: tuple[str | None, float] | None = None
    lifetime: Lifetime | None = None
    label: tuple[str | None] | None = None
    csrf: bytes = b""
    added: list[PackedFlash] = []  # msgspec copies it
    taken: set[str] = set()  # likewise
    emptied: bool = False
    origin: Origin | None = None

    def __repr__(self) -> str:  # tracebacks may show local variables: no flashes, no keys
        return f"Wishes(rotations={self.rotations})"

    def __rich_repr__(self) -> list[tuple[str, int]]:  # a Struct's own would show them
        return [("rotations", self.rotations)]

    @property
    def is_login(self) -> bool:
        return self.user is not None and self.user[0] is not None

    @property
    def is_content(self) -> bool:
        """Whether a session that is not stored yet is worth storing for this."""
        return bool(self.label or self.csrf or self.added or self.is_login or self.origin)

    @property
    def is_write(self) -> bool:
        """Whether there is more to do than a touch."""
        return bool(self.rotations or self.taken or self.emptied) or self.is_content

    @property
    def is_import(self) -> bool:
        """Whether nothing is asked for but to be stored as ours, which can wait."""
        return self.origin is not None and not msgspec.structs.replace(self, origin=None).is_write

    @property
    def is_claim(self) -> bool:
        """Whether something is asked for that may conflict: whoever only took flashes wants nothing of anybody."""
        return bool(self.rotations or self.emptied) or self.is_content

    def copy(self) -> "Wishes":
        """What a save carries out, while the handler may go on."""
        return msgspec.structs.replace(self, added=list(self.added), taken=set(self.taken))

    def without(self, done: "Wishes") -> "Wishes | None":
        """What was asked for since the copy *done* was made; None: nothing."""
        rest = self.copy()
        rest.added = [flash for flash in self.added if flash not in done.added]
        rest.taken = self.taken - done.taken
        rest.rotations = self.rotations - done.rotations
        rest.emptied = self.emptied and not done.emptied
        rest.is_touched = False
        rest.origin = None
        for name in ("user", "lifetime", "label"):
            if getattr(self, name) is getattr(done, name):
                setattr(rest, name, None)
        if self.csrf == done.csrf:
            rest.csrf = b""
        return rest if rest.is_write else None


NOTHING = Wishes()


class Ending(NamedTuple):
    """A stored session that is to end.

    Args:
        state: as it was loaded; None: a *token* that is still to be proven refers to it.
        token: as it came; "" where the state is known.
        is_due: now, else when what takes its place is stored.
        is_wanted: the handler asked for it: where it cannot be known to have ended, that is an error.
        is_anyhow: whatever became of it since; else only at the epoch that was loaded.
        origin: what it was imported from ends, and nothing else.
    """

    state: State | None
    token: str = ""
    is_due: bool = False
    is_wanted: bool = False
    is_anyhow: bool = False
    origin: Origin | None = None

    def __repr__(self) -> str:  # tracebacks may show local variables: no token
        return f"Ending({self.state!r}, is_due={self.is_due})"


def advance(
    state: State,
    wishes: Wishes,
    value: bytes,
    *,
    lifetime: Lifetime,
    now: float,
    handle: str,
    is_changed: bool,
    version: int = 0,
    spelling: int = 0,
    digest: bytes | None = None,
    presented: bytes = b"",
    held: Held | None = None,
) -> State:
    """What *state* becomes. Pure, so that a write which lost a race is made again over what won.

    Args:
        state: what is stored now, by whomever; one without a handle is not stored.
        wishes: what the handler asked for.
        value: the value's bytes from now on.
        lifetime: the store's.
        now: unix seconds.
        handle: the session's from now on.
        is_changed: whether the value was changed.
        version: of the record that is written.
        spelling: which codec wrote *value*; 0: not known.
        digest: of a new secret; None: none was made.
        presented: the digest of the secret that the request brought.
        held: what its token says, if the client holds it.
    """
    meta = state.meta
    is_new = not state.handle
    ends_at, authenticated_at, own = meta.ends_at, meta.authenticated_at, meta.lifetime
    if is_new:
        ends_at = None if lifetime.absolute is None else now + lifetime.absolute.total_seconds()
    if wishes.user is not None:
        user_id, since = wishes.user
        chosen = wishes.lifetime or lifetime
        restart = None if chosen.absolute is None else since + chosen.absolute.total_seconds()
        own = None if wishes.lifetime is None else wishes.lifetime.pack()
        if user_id is not None:
            ends_at, authenticated_at = restart, since
        else:  # a longer lifetime ends with the login it came from
            authenticated_at = None
            ends_at = min((end for end in (ends_at, restart) if end is not None), default=None)

    secrets = meta.secrets
    if is_new:
        # a login that is imported at once ends what the older token opens
        secrets = Secrets(() if digest is None else (Secret(digest, now),), wishes.rotations)
    elif wishes.rotations or digest is not None or not secrets.are_confirmed:
        effective = lifetime if own is None else unpack_lifetime(own) or lifetime
        if wishes.rotations:
            secrets = secrets.replaced(digest, effective, now=now)
        else:
            secrets = secrets.followed(digest, effective, presented=presented, now=now)

    flashes, label = ((), None) if wishes.emptied else (meta.flashes, meta.label)
    if wishes.taken:
        flashes = tuple(flash for flash in flashes if flash[0] not in wishes.taken)
    if wishes.added:
        flashes = (*flashes, *wishes.added)
    if wishes.label:
        label = wishes.label[0]
    csrf = wishes.csrf or (new_csrf_key() if is_new or wishes.rotations else meta.csrf)
    created_at = now if is_new else state.created_at
    updated_at = now if is_changed or is_new else meta.updated_at
    following = Meta(
        secrets,
        updated_at,
        ends_at,
        authenticated_at,
        csrf,
        label,
        flashes,
        own,
        spelling,
        _lineage(state, version) if state.version and now - state.seen_at < _REMEMBERED_SECONDS else b"",
        held,
    )
    owner = wishes.user[0] if wishes.user else state.owner
    return State(handle, value, owner, created_at, now, version, following, now)


def _lineage(state: State, version: int) -> bytes:
    """The versions that *version* descends from; several who write together write one."""
    if version == state.version:
        return state.meta.lineage
    return (state.meta.lineage + _ANCESTOR.pack(state.version))[-_LINEAGE:]


def is_time(seconds: float) -> bool:
    """Whether a clock may have said so, in unix seconds."""
    return 0.0 <= seconds < LAST
