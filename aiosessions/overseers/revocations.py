"""What a durable storer remembers about sessions that the client holds: which have ended, and for whom all have.

One ledger per user, one per anonymous session, and one for all: whether a token still counts is one trip. The ledger of
a user with many logouts is bounded; what no longer fits is remembered under a key per session, at a second trip. An
epoch, a user's or everybody's, is a number that is raised, not a time: no clock has to be right for a logout to hold.
"""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256

import anyio
import msgspec

from aiosessions._errors import ConfigError, ConflictError, DecodeError, StorerError
from aiosessions._lifetime import MAX_AGE_LIMIT
from aiosessions._state import Held, State
from aiosessions._tokens import new_version
from aiosessions.storers.storer import Durable, Record, Storer
from aiosessions.storers.together import reader

_SLACK = 86_400.0
"""Seconds that a denial outlives the token it denies: another process may have a wrong clock."""
_ATTEMPTS = 50
_OF_ANY_EPOCH = Held(0.0, 0.0, user_epoch=2**53, namespace_epoch=2**53)
_CACHED = 10_000
_MOST = 16
"""How many ended sessions of one user stand in one ledger."""


class Denial(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One session that is ended.

    Args:
        until: when it may be forgotten, unix seconds.
        successor: the id of the session that a rotation made of it; "": none.
        owner: the digest of the successor's user; b"": it has none.
    """

    until: float
    successor: str = ""
    owner: bytes = b""


class Ledger(msgspec.Struct, array_like=True, frozen=True):
    """What one key says.

    Args:
        epoch: sessions of the user, or of everybody, under a lower one are ended.
        denied: what is ended, by session id.
        generation: of one session, for replay protection.
        spilled: until when some of the user's ended sessions are remembered under keys of their own; 0.0: none is.
    """

    epoch: int = 0
    denied: dict[str, Denial] = {}  # msgspec copies it
    generation: int = 0
    spilled: float = 0.0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ledger).decode
_EMPTY = Ledger()


class Revocations:
    """The ledgers of one store.

    Args:
        storer: durable: a denial that is forgotten is a session that comes back.
        namespace: the store's.
        now: unix seconds.
        max_lag: how old a cached answer may be; 0: always asked.

    Raises:
        ConfigError: the storer is not durable, or *max_lag* is negative.
    """

    def __init__(self, storer: Storer, *, namespace: str, now: Callable[[], float], max_lag: timedelta) -> None:
        if max_lag < timedelta(0):
            raise ConfigError(f"max_lag={max_lag}: give 0 or more")

        self._storer = storer
        self._read_together = reader(storer)
        self._everybody = f"{namespace}:~all:"
        self._namespace = namespace
        self._now = now
        self._max_lag = max_lag.total_seconds()
        self._cache: dict[str, tuple[Ledger, float]] = {}
        self.check()

    def check(self) -> None:
        """Raise ConfigError for a storer that may forget; what it is configured to is known once it is open."""
        storer = self._storer
        if not isinstance(storer, Durable) or not storer.durable:
            raise ConfigError(
                f"revocations={storer!r} may forget, and a forgotten logout is none: give a durable storer"
            )

    async def allows(self, session_id: str, user_id: str | None, held: Held) -> bool:
        """Whether a session has not been ended.

        Args:
            session_id: what the token says.
            user_id: likewise.
            held: likewise.

        Raises:
            StorerError: the backend failed, which is never "not revoked".
        """
        ledger, of_all = await self._known(self._key(_digest(user_id), session_id), self._everybody)
        if held.namespace_epoch < of_all.epoch or held.user_epoch < ledger.epoch or session_id in ledger.denied:
            return False
        if ledger.spilled <= self._now():
            return True
        (own,) = await self._known(self._key(b"", session_id))
        return session_id not in own.denied

    async def epochs(self, user_id: str | None, until: float) -> tuple[int, int]:
        """The user's epoch and everybody's, for a session that lasts *until* then (unix seconds)."""
        if user_id is None:
            return 0, (await self._read(self._everybody))[0].epoch
        key = self._key(_digest(user_id))
        (ledger, record), (of_all, _) = await self._read_all(key, self._everybody)
        if record is not None:
            await self._storer.touch(key, seen_at=self._now(), expires_at=until + _SLACK)
        return ledger.epoch, of_all.epoch

    async def deny(
        self, session_id: str, user_id: str | None, held: Held, until: float, successor: State | None = None
    ) -> bool:
        """End one session: compare and set.

        Args:
            session_id: what the token says.
            user_id: likewise.
            held: likewise.
            until: when the token would have ended, unix seconds.
            successor: what a rotation made of it.

        Returns:
            Whether it was this call that ended it; False: somebody else had.
        """
        denial = Denial(until + _SLACK)
        if successor is not None:
            denial = Denial(until + _SLACK, successor.handle, _digest(successor.owner))
        return await self._deny(self._key(_digest(user_id), session_id), session_id, held, denial) is denial

    async def end(self, session_id: str, user_id: str | None, held: Held, until: float) -> None:
        """End a session and what rotations have made of it meanwhile: a logout holds whatever the order (F4)."""
        owner = _digest(user_id)
        for _ in range(_ATTEMPTS):
            denial = Denial(until + _SLACK)
            found = await self._deny(self._key(owner, session_id), session_id, held, denial)
            if not found.successor:
                return
            session_id, owner = found.successor, found.owner
            held, until = _OF_ANY_EPOCH, self._now() + MAX_AGE_LIMIT.total_seconds()
        raise StorerError("others kept rotating the session, and it may not have ended")

    async def _deny(self, key: str, session_id: str, held: Held, denial: Denial) -> Denial:
        """*denial*, or the one that was there."""
        found = denial

        async def denied(ledger: Ledger, of_all: Ledger) -> Ledger | None:
            nonlocal found
            known = ledger.denied.get(session_id)
            if known is None and ledger.spilled > self._now():
                own, _ = await self._read(self._key(b"", session_id))
                known = own.denied.get(session_id)
            if known is not None or held.user_epoch < ledger.epoch or held.namespace_epoch < of_all.epoch:
                found = known or Denial(denial.until)
                return None
            found = denial
            ledger = await self._with_room(ledger)
            return msgspec.structs.replace(ledger, denied={**ledger.denied, session_id: denial})

        await self._change(key, denial.until, denied)
        return found

    async def raise_epoch(self, user_id: str, until: float) -> int:
        """End every session of a user; the epoch of those that follow."""
        ledger = await self._change(self._key(_digest(user_id)), until + _SLACK, _raised)
        return 0 if ledger is None else ledger.epoch

    async def end_everybody(self) -> None:
        """End every session there is. What says so is never forgotten: an epoch that began anew would revive some."""
        await self._change(self._everybody, None, _raised)

    async def generation(self, session_id: str) -> int:
        """The newest generation of a session's token."""
        ledger, _ = await self._read(self._generation_key(session_id))
        return ledger.generation

    async def advance(self, session_id: str, generation: int, until: float) -> bool:
        """Compare and set: the token of *generation* may be followed by the next.

        It may be so more than once: an answer that got lost must not lock its client out. False once the next has been
        followed itself.
        """
        key = self._generation_key(session_id)
        ledger, record = await self._read(key)
        if ledger.generation == generation:
            followed = msgspec.structs.replace(ledger, generation=generation + 1)
            if await self._write(key, followed, until + _SLACK, record):
                return True
            ledger, _ = await self._read(key)
        return ledger.generation == generation + 1

    def _key(self, owner: bytes, session_id: str = "") -> str:
        """That of a user's ledger, or of a session that has no user or no room there."""
        # "~" begins no session's name: these keys are no session's
        return f"{self._namespace}:~user:{owner.hex()}" if owner else f"{self._namespace}:~ended:{session_id}"

    def _generation_key(self, session_id: str) -> str:
        return f"{self._namespace}:~generation:{session_id}"

    async def _known(self, *keys: str) -> list[Ledger]:
        """As `_read_all`, from the cache where that may be as old."""
        if self._max_lag:
            found, now = [self._cache.get(key) for key in keys], self._now()
            known = [ledger for ledger, read_at in filter(None, found) if now - read_at < self._max_lag]
            if len(known) == len(keys):
                return known
        return [ledger for ledger, _ in await self._read_all(*keys)]

    async def _read_all(self, *keys: str) -> list[tuple[Ledger, Record | None]]:
        """Several, in one trip."""
        try:
            records = await self._read_together(keys)
        except DecodeError as error:  # see EncryptedStorer
            raise StorerError(f"a revocation ledger of {', '.join(keys)} cannot be read") from error
        return [self._understood(key, record) for key, record in zip(keys, records, strict=True)]

    async def _read(self, key: str) -> tuple[Ledger, Record | None]:
        return (await self._read_all(key))[0]

    def _understood(self, key: str, record: Record | None) -> tuple[Ledger, Record | None]:
        try:
            ledger = _EMPTY if record is None else _decode(record.value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StorerError(f"the revocation ledger {key} cannot be read") from error
        self._remember(key, ledger)
        return ledger, record

    async def _with_room(self, ledger: Ledger) -> Ledger:
        """A ledger with room for one more: what a request reads is bounded, however often a user logs out.

        The older half moves to keys of their own first, so that at no moment one of them is in neither place.
        """
        if len(ledger.denied) < _MOST:
            return ledger

        ended = sorted(ledger.denied.items(), key=lambda item: item[1].until)
        for session_id, denial in ended[_MOST // 2 :]:
            own = Ledger(denied={session_id: denial})
            await self._write(self._key(b"", session_id), own, denial.until, None)
        spilled = max(ledger.spilled, ended[-1][1].until)
        return msgspec.structs.replace(ledger, denied=dict(ended[: _MOST // 2]), spilled=spilled)

    async def _change(
        self, key: str, expires_at: float | None, change: Callable[[Ledger, Ledger], Awaitable[Ledger | None]]
    ) -> Ledger | None:
        """Read it and that of all, change, write, until it wins; None: *change* found nothing to do."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await anyio.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.1)))  # noqa: S311  # jitter, no secret
            (ledger, record), (of_all, _) = await self._read_all(key, self._everybody)
            now = self._now()
            kept = {session_id: denial for session_id, denial in ledger.denied.items() if denial.until > now}
            following = await change(msgspec.structs.replace(ledger, denied=kept), of_all)
            if following is None or await self._write(key, following, expires_at, record):
                return following

        raise ConflictError("others kept writing the revocation ledger; try again")

    async def _write(self, key: str, ledger: Ledger, expires_at: float | None, record: Record | None) -> bool:
        now = self._now()
        if record is None:
            new = Record(_encode(ledger), b"", None, now, now, expires_at, new_version())
            done = await self._storer.create(key, new)
        else:
            expires_at = None if expires_at is None else max(expires_at, record.expires_at or expires_at)
            new = Record(_encode(ledger), b"", None, record.created_at, now, expires_at, new_version())
            done = await self._storer.replace(key, new, version=record.version)
        if done:
            self._remember(key, ledger)
        return done

    def _remember(self, key: str, ledger: Ledger) -> None:
        if not self._max_lag:
            return
        self._cache.pop(key, None)
        if len(self._cache) >= _CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = (ledger, self._now())


async def _raised(ledger: Ledger, _: Ledger) -> Ledger:
    return msgspec.structs.replace(ledger, epoch=ledger.epoch + 1, denied={}, spilled=0.0)


def _digest(user_id: str | None) -> bytes:
    return b"" if user_id is None else sha256(user_id.encode()).digest()
