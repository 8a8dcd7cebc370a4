"""The sealer of a store, and what its tokens say."""

from collections.abc import Callable

from aiosessions._events import Reporter
from aiosessions._place import Place
from aiosessions.sealers.sealer import Claims, Expiring, Resealing, Sealer

__all__ = ["Sealed"]


class Sealed:
    """What an overseer asks of its sealer.

    Args:
        sealer: the store's.
        now: unix seconds.
        report: where events go.

    Attributes:
        must_end: whether its tokens have to end.
    """

    __slots__ = ("_now", "_report", "_reseals", "_sealer", "must_end")

    def __init__(self, sealer: Sealer, *, now: Callable[[], float], report: Reporter) -> None:
        self._sealer = sealer
        self._now = now
        self._report = report
        self._reseals = sealer if isinstance(sealer, Resealing) else None
        self.must_end: bool = isinstance(sealer, Expiring) and sealer.needs_expiry

    def seal(self, place: Place, claims: Claims) -> str:
        """A token."""
        return self._sealer.seal(claims, name=place.bound)

    def open(self, place: Place, text: str) -> Claims | None:
        """What a token says; None, and an event that says why, for one that counts for nothing."""
        claims = self.peek(place, text)
        if claims is not None:
            return claims

        was_good = self._sealer.open(text, name=place.bound, now=0.0)
        if was_good is None:
            self._report("rejected", place.name, reason="not sealed by us")
        else:
            self._report("expired", place.name, was_good.session_id, was_good.user_id)
        return None

    def peek(self, place: Place, text: str) -> Claims | None:
        """The same, without an event."""
        return self._sealer.open(text, name=place.bound, now=self._now())

    def is_stale(self, text: str) -> bool:
        """Whether a token that was opened would be sealed under another key today."""
        return self._reseals is not None and not self._reseals.is_current(text)

    @property
    def reseals(self) -> bool:
        """Whether such a token is replaced when it is read, and not at the next write."""
        return self._reseals is not None and self._reseals.reseal
