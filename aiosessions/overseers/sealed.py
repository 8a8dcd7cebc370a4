"""The text that a client holds: what a sealer makes of a session or of its token, or the token as it is."""

from collections.abc import Callable

from aiosessions._events import Reporter
from aiosessions._place import Place
from aiosessions._state import State
from aiosessions._tokens import Token, parse_token
from aiosessions.sealers.sealer import Claims, Expiring, Resealing, Sealer
from aiosessions.transports.transport import Carried


class Sealed:
    """What an overseer asks of its sealer.

    Args:
        sealer: the store's; None: tokens travel as they are.
        now: unix seconds.
        report: where events go.

    Attributes:
        must_end: whether its tokens have to end.
        resealing: the sealer, if it knows which tokens are under an older key.
        reseals: whether a token under an older key is replaced when it is read, and not at the next write.
    """

    __slots__ = ("_now", "_report", "_sealer", "must_end", "resealing", "reseals")

    def __init__(self, sealer: Sealer | None, *, now: Callable[[], float], report: Reporter) -> None:
        self._sealer = sealer
        self._now = now
        self._report = report
        self.resealing: Resealing | None = None
        if sealer is not None and isinstance(sealer, Resealing):
            self.resealing = sealer
        self.must_end: bool = sealer is not None and isinstance(sealer, Expiring) and sealer.needs_expiry
        self.reseals: bool = self.resealing is not None and self.resealing.reseal

    def seal(self, place: Place, claims: Claims) -> str:
        """A token."""
        assert self._sealer is not None
        return self._sealer.seal(claims, name=place.bound)

    def open(self, place: Place, text: str) -> Claims | None:
        """What a token says; None, and an event that says why, for one that counts for nothing."""
        claims = self.peek(place, text)
        if claims is not None or self._sealer is None:
            return claims

        was_good = self._sealer.open(text, name=place.bound, now=0.0)
        if was_good is None:
            self._report.note("rejected", place.name, reason="not sealed by us")
        else:
            self._report.note("expired", place.name, was_good.session_id, was_good.user_id)
        return None

    def peek(self, place: Place, text: str) -> Claims | None:
        """The same, without an event."""
        return None if self._sealer is None else self._sealer.open(text, name=place.bound, now=self._now())

    def is_stale(self, text: str | None) -> bool:
        """Whether a token that was opened would be sealed under another key today."""
        return self.resealing is not None and text is not None and not self.resealing.is_current(text)

    # of a session that is stored

    def text(self, place: Place, token: Token, state: State) -> str:
        """What the client gets; *state* is what is stored with it."""
        text = token.text()
        if self._sealer is None:
            return text
        ends_at, began_at = state.meta.ends_at, state.began_at
        claims = Claims(text.encode(), True, token.handle, state.seen_at, ends_at, state.owner, b"", began_at)  # noqa: FBT003
        return self.seal(place, claims)

    def token(self, place: Place, carried: Carried) -> Token | None:
        """The token that came, if it has a token's shape; no backend is asked for another."""
        text = carried.token
        if text is None:
            self._report.note("rejected", place.name, reason="duplicate" if carried.duplicate else "malformed")
            return None

        if self._sealer is not None:
            claims = self.open(place, text)
            if claims is None:
                return None
            if not claims.is_reference:
                self._report.note("rejected", place.name, reason="not sealed by us")
                return None
            text = claims.body.decode("latin-1")
        token = parse_token(text)
        if token is None:
            self._report.note("rejected", place.name, reason="malformed")
        return token

    def known(self, place: Place, text: str) -> Token | None:
        """The token of a text that came before, without an event."""
        if self._sealer is None:
            return parse_token(text)
        claims = self.peek(place, text)
        return parse_token(claims.body.decode("latin-1")) if claims is not None and claims.is_reference else None
