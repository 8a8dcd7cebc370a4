"""What the readable tokens share: the value stands in their payload as JSON, byte for byte."""

import msgspec

from aiosessions._errors import EncodeError
from aiosessions.sealers.sealer import Claims

__all__ = ["body_of", "reference_of", "value_of"]


def value_of(claims: Claims) -> msgspec.Raw | msgspec.UnsetType:
    """The member `session`: the body as a JSON value, which the encoder copies as it is.

    It is checked first, since a body like `1,"sub":"admin"` would otherwise add members of its own.
    """
    if claims.is_reference:
        return msgspec.UNSET
    try:
        claims.body.decode()
        return msgspec.json.decode(claims.body, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise EncodeError("the body is not JSON: give the store a JSON codec, this sealer's tokens are read") from None


def reference_of(claims: Claims) -> str | msgspec.UnsetType:
    """The member `sid`: the reference of a server-side session."""
    return claims.body.decode("ascii", "replace") if claims.is_reference else msgspec.UNSET


def body_of(session: msgspec.Raw | msgspec.UnsetType, sid: str | msgspec.UnsetType) -> tuple[bytes, bool] | None:
    """Body and `is_reference` of a payload; None unless it has exactly one of the two members."""
    if isinstance(session, msgspec.UnsetType):
        return None if isinstance(sid, msgspec.UnsetType) else (sid.encode("utf-8", "replace"), True)
    return (bytes(session), False) if isinstance(sid, msgspec.UnsetType) else None
