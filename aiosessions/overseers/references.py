"""The text that a client holds for a stored session: the token, or what a sealer makes of it."""

from msgspec import structs

from aiosessions._errors import ConfigError, SessionTooLargeError, UnsupportedError
from aiosessions._events import Reporter
from aiosessions._lifetime import Lifetime
from aiosessions._place import Place
from aiosessions._request import RawHeaders
from aiosessions._state import State
from aiosessions._tokens import Token, new_handle, new_token, parse_token
from aiosessions.overseers.sealed import Sealed
from aiosessions.sealers.sealer import Claims
from aiosessions.transports.transport import Carried

__all__ = ["References"]


class References:
    """Tokens of one store, to text and back.

    Args:
        sealed: the store's sealer; None: the token travels as it is.
        report: where events go.
    """

    __slots__ = ("_report", "_sealed")

    def __init__(self, sealed: Sealed | None, report: Reporter) -> None:
        self._sealed = sealed
        self._report = report

    def prove(self, place: Place, now: float, lifetime: Lifetime) -> None:
        """The longest one fits the transport: later it would be found out when the headers leave.

        Raises:
            ConfigError: it does not.
        """
        state = State.blank(b"", now)
        absolute = 0.0 if lifetime.absolute is None else lifetime.absolute.total_seconds()
        meta = structs.replace(state.meta, ends_at=now + absolute)
        state = structs.replace(state, handle=new_handle(), owner="x" * 255, meta=meta)
        try:
            place.transport.write(RawHeaders([]), place.name, self.text(place, new_token(), state), Carried(""), None)
        except UnsupportedError:
            return  # it has public keys only: this store reads
        except SessionTooLargeError as error:
            raise ConfigError(
                f"sealer: its tokens do not fit the transport ({error}): give another, or more room"
            ) from None

    def text(self, place: Place, token: Token, state: State) -> str:
        """What the client gets; *state* is what is stored with it."""
        text = token.text()
        if self._sealed is None:
            return text
        claims = Claims(text.encode(), True, token.handle, state.seen_at, state.meta.ends_at, state.owner, b"")  # noqa: FBT003
        return self._sealed.seal(place, claims)

    def opened(self, place: Place, carried: Carried) -> Token | None:
        """The token that came, if it has a token's shape; no backend is asked for another."""
        text = carried.token
        if text is None:
            self._report("rejected", place.name, reason="duplicate" if carried.duplicate else "malformed")
            return None

        if self._sealed is not None:
            claims = self._sealed.open(place, text)
            if claims is None:
                return None
            if not claims.is_reference:
                self._report("rejected", place.name, reason="not sealed by us")
                return None
            text = claims.body.decode("latin-1")
        token = parse_token(text)
        if token is None:
            self._report("rejected", place.name, reason="malformed")
        return token

    def known(self, place: Place, text: str) -> Token | None:
        """The token of a text that came before, without an event."""
        if self._sealed is None:
            return parse_token(text)
        claims = self._sealed.peek(place, text)
        return parse_token(claims.body.decode("latin-1")) if claims is not None and claims.is_reference else None

    def stale(self, carried: Carried, token: Token) -> Token | None:
        """The token, if it came sealed under an older key."""
        return token if self._sealed is not None and self._sealed.is_stale(carried.token or "") else None

    @property
    def reseals(self) -> bool:
        """Whether such a token is replaced when it is read, and not at the next write."""
        return self._sealed is not None and self._sealed.reseals
