"""What a sealer is: it makes claims safe to hand to the client."""

from typing import ClassVar, Protocol, runtime_checkable

from aiosessions._discreet import Discreet
from aiosessions._given import check_part

__all__ = ["Claims", "Expiring", "Resealing", "Sealer", "check_sealer"]


class Claims(Discreet, frozen=True):
    """What a token says. Times are unix seconds, UTC. Its `repr` shows neither the body nor the meta.

    Attributes:
        body: the codec's bytes, or the 64-character reference of a StorageOverseer.
        is_reference: which of the two; `sid` or `session` in a JWT.
        session_id: constant over re-issue: what a revocation names.
        issued_at: when it was sealed.
        expires_at: when it stops being valid; None: never.
        user_id: the user bound to the session.
        meta: the library's own compartment; opaque to a sealer.
        began_at: when the session began, or its user logged in since; None in what `open` returns: no token says it.
    """

    shown: ClassVar[tuple[str, ...]] = ("is_reference", "session_id", "issued_at", "expires_at", "user_id")

    body: bytes
    is_reference: bool
    session_id: str
    issued_at: float
    expires_at: float | None
    user_id: str | None
    meta: bytes
    began_at: float | None = None


def check_sealer(sealer: object) -> None:
    """Raise ConfigError for what is no sealer."""
    check_part("sealer", sealer, ("seal", "open"), "give a sealer, as AESGCMSealer(keys)")


class Sealer(Protocol):
    """Encrypts, signs, or writes a JWT.

    *name* is what the token is bound to: the session's name, after `namespace:` where the store has one.

    A sealer may also be `Expiring`, or `Resealing`: a store asks it (`isinstance`) when it is made. One that is neither
    seals what never ends, and its tokens under an older key are replaced at the session's next write.
    """

    @property
    def needs_json(self) -> bool:
        """Whether the body must be a JSON document (a JWT's must)."""
        ...

    def seal(self, claims: Claims, *, name: str) -> str:
        """The token: characters that may stand in a cookie and a header (RFC 6265 cookie-octet).

        Raises:
            UnsupportedError: this sealer cannot write a token: it has public keys only, or its time has passed.
            EncodeError: the claims have no form in its tokens.
        """
        ...

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        """The claims; None for a token that is forged, expired, or of another name. Raises nothing."""
        ...


@runtime_checkable
class Expiring(Protocol):
    """A sealer that knows whether its tokens must end: a JWT's must (RFC 8725 §3.10)."""

    @property
    def needs_expiry(self) -> bool:
        """Whether claims without `expires_at` are refused; a store then wants a Lifetime with an absolute timeout."""
        ...


@runtime_checkable
class Resealing(Protocol):
    """A sealer that knows which of its tokens are under an older key."""

    @property
    def reseal(self) -> bool:
        """Whether such a token is replaced when it is read; else it is at the session's next write."""
        ...

    def is_current(self, token: str) -> bool:
        """Whether *token*, which `open` accepted, is under the key that seals now."""
        ...
