"""What a sealer is: it makes claims safe to hand to the client."""

from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Claims", "Sealer"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are unix seconds, UTC. Its `repr` shows neither the body nor the meta.

    Args:
        body: the codec's bytes, or the 64-character reference of a StorageOverseer.
        is_reference: which of the two; `sid` or `session` in a JWT.
        session_id: constant over re-issue: what a revocation names.
        issued_at: when it was sealed.
        expires_at: when it stops being valid; None: never.
        user_id: the user bound to the session.
        meta: the library's own compartment; opaque to a sealer.
    """

    body: bytes = field(repr=False)
    is_reference: bool
    session_id: str
    issued_at: float
    expires_at: float | None
    user_id: str | None
    meta: bytes = field(repr=False)


class Sealer(Protocol):
    """Encrypts, signs, or writes a JWT.

    *name* is what the token is bound to: the session's name, after `namespace:` where the store has one.

    A sealer with an attribute `reseal` that is true and a method `is_current(token) -> bool` has its tokens under an
    old key replaced when they are read; the others' are replaced at the session's next write.
    """

    @property
    def needs_json(self) -> bool:
        """Whether the body must be a JSON document (a JWT's must)."""
        ...

    def seal(self, claims: Claims, *, name: str) -> str:
        """The token: characters that may stand in a cookie and a header (RFC 6265 cookie-octet)."""
        ...

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        """The claims; None for a token that is forged, expired, or of another name. Raises nothing."""
        ...
