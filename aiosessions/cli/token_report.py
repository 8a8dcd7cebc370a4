"""What a token says to somebody who only holds it: for `aiosessions inspect`. Never a secret."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from aiosessions import _base64url
from aiosessions._tokens import parse_token
from aiosessions.sealers.sealer import Claims

__all__ = ["TokenReport", "claims_rows", "read"]

_KEY_ID_START = 1  # after the format version
_PREFIX = 8  # characters: format version and key id
_LEAST_ENCRYPTED = 8 + 54  # characters: the prefix, a nonce and the tag of nothing
_UNREAD = ("claims", "encrypted: only a server with the key can read more")
_DATES = {"iat": "issued", "nbf": "valid from", "exp": "expires"}
_TEXTS = {"iss": "issuer", "aud": "audience", "jti": "session id", "sub": "user id"}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_OWN = {"aiosessions", "meta", "nonce"}  # the library's state: opaque, and with parts that are no reader's business


@dataclass(frozen=True, slots=True)
class TokenReport:
    """A token's kind and what stands in it, unverified.

    Args:
        kind: in words.
        sealer: who could verify it; None for a reference, which only its store can.
        rows: label and text, safe for a terminal.
        is_encrypted: whether only a key makes it readable.
    """

    kind: str
    sealer: Literal["aesgcm", "hmac", "jwt"] | None
    rows: tuple[tuple[str, str], ...]
    is_encrypted: bool = False


def read(token: str, *, now: float) -> TokenReport | None:
    """What *token* is and says; None if it has the shape of none of ours.

    Args:
        token: as it stands in the cookie or header.
        now: for ages; unix seconds.
    """
    reference = parse_token(token)
    if reference is not None:
        rows = (("handle", reference.handle), ("secret", "not shown"), ("age", "not in the token: its store knows it"))
        return TokenReport("reference of a session that a StorageOverseer keeps", None, rows)

    first, *rest = token.split(".")
    if len(rest) in (2, 4) and (header := _json_object(first)) is not None:
        if len(rest) == 4:
            return TokenReport("JWT, encrypted", "jwt", (*_header_rows(header), _UNREAD), is_encrypted=True)
        return TokenReport("JWT, signed", "jwt", (*_header_rows(header), *_payload_rows(rest[0], now)))

    prefix = _base64url.decode(first[:_PREFIX])
    if prefix is None or prefix[:_KEY_ID_START] != b"\x01":
        return None
    key = ("key id", _base64url.encode(prefix[_KEY_ID_START:]))
    if len(rest) == 2 and len(first) == _PREFIX:
        return TokenReport("signed, readable (HMACSealer)", "hmac", (key, *_payload_rows(rest[0], now)))
    if not rest and len(token) > _LEAST_ENCRYPTED and _base64url.decode(token[_PREFIX:]) is not None:
        return TokenReport("encrypted (AESGCMSealer)", "aesgcm", (key, _UNREAD), is_encrypted=True)
    return None


def claims_rows(claims: Claims, *, now: float) -> Iterator[tuple[str, str]]:
    """What a sealer found in a token that it verified.

    Args:
        claims: what `Sealer.open` gave.
        now: for ages; unix seconds.
    """
    yield "issued", _moment(claims.issued_at, now)
    yield "expires", "never" if claims.expires_at is None else _moment(claims.expires_at, now)
    yield "session id", _text(claims.session_id)
    if claims.user_id is not None:
        yield "user id", _text(claims.user_id)
    if claims.is_reference:
        yield "reference", _reference(claims.body.decode("ascii", "replace"))
    else:
        yield "value", f"{len(claims.body)} bytes"


def _header_rows(header: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    yield "key id", _text(header["kid"]) if "kid" in header else "none"
    for name in ("alg", "enc", "typ"):
        if name in header:
            yield name, _text(header[name])


def _payload_rows(text: str, now: float) -> Iterator[tuple[str, str]]:
    payload = _json_object(text)
    if payload is None:
        yield "claims", "unreadable"
        return

    for name, label in _DATES.items():
        if name in payload:
            yield label, _moment(payload[name], now)
    for name, label in _TEXTS.items():
        if name in payload:
            yield label, _text(payload[name])
    if "sid" in payload:
        yield "reference", _reference(payload["sid"])
    if "session" in payload:
        yield "value", _text(payload["session"])
    others = payload.keys() - _DATES.keys() - _TEXTS.keys() - _OWN - {"sid", "session"}
    if others:
        yield "other claims", ", ".join(_text(name) for name in sorted(others))


def _json_object(text: str) -> dict[str, object] | None:
    try:
        return msgspec.json.decode(_base64url.decode(text) or b"", type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _reference(sid: object) -> str:
    token = parse_token(sid) if isinstance(sid, str) else None
    return "unreadable" if token is None else f"handle {token.handle}; its secret is not shown"


def _moment(value: object, now: float) -> str:
    if not isinstance(value, int | float):
        return f"unreadable: {_text(value)}"
    try:
        moment = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return f"out of range: {_text(value)}"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({_distance(now - value)})"


def _distance(seconds: float) -> str:
    size, unit = next((size, unit) for size, unit in _UNITS if abs(seconds) >= size or size == 1)
    count = f"{int(abs(seconds) / size)} {unit}"
    return f"{count} ago" if seconds >= 0 else f"in {count}"


def _text(value: object) -> str:
    """JSON in ASCII: what came from a client cannot move a terminal's cursor."""
    return json.dumps(value)
