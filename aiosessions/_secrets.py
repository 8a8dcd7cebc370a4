"""Which secrets open a session and which did (DESIGN 5), as one value.

| a secret that came | what it was | what follows |
|---|---|---|
| opens | the newest, or one before it while a periodic rotation is under way | the session |
| superseded | ended by an explicit rotation, within `grace` | an empty session that is neither stored nor sent |
| reused | ended by a rotation that had been confirmed, after its `grace` | event `token_reused` |
| unknown | anything else | event `rejected` |
"""

from hmac import compare_digest
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from aiosessions._discreet import Discreet
from aiosessions._lifetime import Lifetime

LAST = 2.0**37
"""In the year 6325. Infinity and NaN are no times either, and a deadline that is NaN would never come."""
Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0, lt=LAST)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Verdict: TypeAlias = Literal["opens", "superseded", "reused", "unknown"]

_SHORT = 16
"""Bytes kept of a digest that opens nothing any more and is only recognised."""
_SUPERSEDED = 64
"""How many secrets that explicit rotations ended are remembered at most: more than any user's logins in a `grace`."""
_RETIRED = 4


class Secret(Discreet, array_like=True, frozen=True):
    """The digest of a secret that opens the session, or did.

    Args:
        digest: SHA-256, shortened once it is retired.
        issued_at: when it was made, or when it was retired.
        presented_at: when a request first brought it; 0.0 until then.
    """

    shown: ClassVar[tuple[str, ...]] = ("issued_at",)

    digest: bytes
    issued_at: Time
    presented_at: Time = 0.0


class Secrets(Discreet, array_like=True, frozen=True):
    """The secrets of one session. Never changed: a rotation makes another.

    Args:
        opening: those that open it, newest last; more than one only while a periodic rotation is under way.
        epoch: rises with every explicit rotation.
        superseded: those that explicit rotations ended, recognised for the grace time.
        retired: those that periodic rotations ended: one that comes back was copied.
    """

    shown: ClassVar[tuple[str, ...]] = ("epoch",)

    opening: tuple[Secret, ...] = ()
    epoch: Count = 0
    superseded: tuple[Secret, ...] = ()
    retired: tuple[Secret, ...] = ()

    # what a request's secret means

    def opens(self, digest: bytes, lifetime: Lifetime, *, now: float) -> bool:
        """Whether the secret of this digest opens the session; constant time."""
        opening = self.opening
        if len(opening) == 1:
            return compare_digest(opening[0].digest, digest)

        alive = opening[self._first_alive(lifetime, now) :]
        return any([compare_digest(secret.digest, digest) for secret in alive])  # noqa: C419  # all of them, always

    def verdict(self, digest: bytes, lifetime: Lifetime, *, now: float) -> Verdict:
        """What a secret is.

        Args:
            digest: of the secret that came.
            lifetime: the session's.
            now: unix seconds.
        """
        if self.opens(digest, lifetime, now=now):
            return "opens"

        short, grace = digest[:_SHORT], lifetime.grace.total_seconds()
        if any(compare_digest(each.digest, short) and now - each.issued_at < grace for each in self.superseded):
            return "superseded"
        if any(compare_digest(each.digest[:_SHORT], short) for each in (*self.retired, *self.opening)):
            return "reused"
        return "unknown"

    def is_newest(self, digest: bytes) -> bool:
        """Whether it is the secret that was made last: only that one is ever sent again."""
        return bool(self.opening) and self.opening[-1].digest == digest

    # what is to be done

    @property
    def are_confirmed(self) -> bool:
        """Whether no rotation is under way, and the one that opens has come."""
        opening = self.opening
        return not opening or (len(opening) == 1 and opening[0].presented_at > 0.0)

    def is_due(self, presented: bytes, lifetime: Lifetime, *, now: float) -> bool:
        """Whether a periodic rotation is due, or one got lost on its way to the client."""
        if lifetime.rotate is None or not self.opening:
            return False

        newest = self.opening[-1]
        age = now - newest.issued_at
        if newest.digest == presented:
            return age >= lifetime.rotate.total_seconds()
        return not newest.presented_at and age >= lifetime.grace.total_seconds()

    def is_unconfirmed(self, presented: bytes) -> bool:
        """Whether a secret of a periodic rotation came for the first time."""
        return len(self.opening) > 1 and any(
            each.digest == presented and not each.presented_at for each in self.opening[1:]
        )

    # what they become

    def replaced(self, digest: bytes | None, lifetime: Lifetime, *, now: float) -> "Secrets":
        """An explicit rotation: older secrets die at once, and the epoch rises.

        Args:
            digest: of the new secret; None: the client holds the session, and there is none.
            lifetime: the session's.
            now: unix seconds.
        """
        grace = lifetime.grace.total_seconds()
        ended = [Secret(each.digest[:_SHORT], now) for each in self.opening]
        recent = [each for each in self.superseded if now - each.issued_at < grace]
        opening = () if digest is None else (Secret(digest, now),)
        return Secrets(opening, self.epoch + 1, tuple([*recent, *ended][-_SUPERSEDED:]), self.retired)

    def is_full(self, lifetime: Lifetime, *, now: float) -> bool:
        """Whether an explicit rotation has to forget a secret that is still within its grace."""
        grace = lifetime.grace.total_seconds()
        recent = sum(now - each.issued_at < grace for each in self.superseded)
        return recent + len(self.opening) > _SUPERSEDED

    def followed(self, digest: bytes | None, lifetime: Lifetime, *, presented: bytes, now: float) -> "Secrets":
        """A periodic rotation, or the confirmation of one: the older secret dies `grace` after the newer one came.

        Args:
            digest: of a new secret; None: none was made.
            lifetime: the session's.
            presented: the digest of the secret that the request brought.
            now: unix seconds.
        """
        is_new = any(each.digest == presented and not each.presented_at for each in self.opening)
        if digest is None and not is_new and len(self.opening) < 2:
            return self

        opening = [
            Secret(each.digest, each.issued_at, now) if each.digest == presented and not each.presented_at else each
            for each in self.opening
        ]
        alive = Secrets(tuple(opening))._first_alive(lifetime, now)
        retired = [*self.retired, *(Secret(each.digest[:_SHORT], now) for each in opening[:alive])]
        opening = opening[alive:]
        if digest is not None:
            # of several that were sent and never seen again, the newest are the likeliest to arrive
            unseen = [each for each in opening if not each.presented_at and each.digest != presented]
            seen = [each for each in opening if each not in unseen]
            opening = [*seen, *unseen[-1:], Secret(digest, now)]
        return Secrets(tuple(opening), self.epoch, self.superseded, tuple(retired[-_RETIRED:]))

    def _first_alive(self, lifetime: Lifetime, now: float) -> int:
        """The index of the oldest that still opens: a newer one was presented `grace` ago, or never."""
        opening, grace = self.opening, lifetime.grace.total_seconds()
        for index in range(len(opening) - 1, 0, -1):
            if opening[index].presented_at and now - opening[index].presented_at >= grace:
                return index
        return 0
