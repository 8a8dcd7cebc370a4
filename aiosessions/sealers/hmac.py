"""Signed tokens that front-end code may read and only the server can write."""

import hmac
import os

import msgspec

from aiosessions import _base64url
from aiosessions._errors import EncodeError
from aiosessions.sealers.keys import Key
from aiosessions.sealers.payload import body_of, reference_of, value_of
from aiosessions.sealers.ring import BoundKeys, KeyRing, RingSealer
from aiosessions.sealers.sealer import Claims

__all__ = ["HMACSealer"]

_VERSION = 1
_NONCE = 12  # bytes


class _Payload(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What stands in a token, in this order."""

    session: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    sid: str | msgspec.UnsetType = msgspec.UNSET
    jti: str
    iat: float
    exp: float | None = None
    sub: str | None = None
    meta: str = ""
    nonce: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Payload).decode


class HMACSealer(RingSealer["_Bound"]):
    """Signs claims with HMAC-SHA256, bound to key, name, format version and expiry. **Anybody can read them.**

    It is for values that front-end code shows, in a cookie without HttpOnly. A token is `key.payload.signature`: eight
    characters of format version and key id, then base64url of JSON, then base64url of 32 bytes. In a browser:

        const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
        const { session } = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), c => c.charCodeAt(0))));

    The members are called as in a JWT: `session` (the value) or `sid` (the reference of a server-side session), `jti`
    (session id), `iat`, `exp` (unix seconds), `sub` (user id), and two of our own: `meta` (opaque) and `nonce`, which
    keeps two tokens of one value apart. The front end must check `exp` itself, and believe nothing it did not get from
    the server: it has no key.

    The value must be JSON (`needs_json`): a program in another language is to read it.

    Args:
        keys: one or several, newest first; see `Key`. The first active one seals, all open.
        reseal: also replace a token under an older key when it is read; else at the session's next write.

    Raises:
        ConfigError: a key is weak, or none is active.
    """

    needs_json = True

    __slots__ = ()

    @staticmethod
    def _bind(ring: KeyRing) -> "BoundKeys[_Bound]":
        return BoundKeys(ring, _Bound, version=_VERSION)

    def seal(self, claims: Claims, *, name: str) -> str:
        """The token. Raises EncodeError for a body that is not JSON, or a text with a lone surrogate in the claims."""
        bound = self._bound.sealing(name, claims.issued_at)
        payload = _Payload(
            session=value_of(claims),
            sid=reference_of(claims),
            jti=claims.session_id,
            iat=claims.issued_at,
            exp=claims.expires_at,
            sub=claims.user_id,
            meta=_base64url.encode(claims.meta),
            nonce=_base64url.encode(os.urandom(_NONCE)),
        )
        try:
            text = _base64url.encode(_encode(payload))
        except UnicodeEncodeError:
            raise EncodeError("the user id or session id is not valid Unicode: it has a lone surrogate") from None
        return f"{bound.prefix}.{text}.{bound.sign(text)}"

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        """The claims; None for a token that is forged, expired, of another name, or under no key of the ring."""
        bound = self._bound.opening(name, token)
        if bound is None or not token.isascii():
            return None

        prefix, *rest = token.split(".", 3)
        if len(rest) != 2 or prefix != bound.prefix:
            return None

        text, signature = rest
        if not hmac.compare_digest(bound.sign(text), signature):
            return None

        try:
            payload = _decode(_base64url.decode(text) or b"")
        except (msgspec.MsgspecError, RecursionError):
            return None  # signed by our key, and not written by this code: a later version's, perhaps
        if payload.exp is not None and now >= payload.exp:
            return None

        body = body_of(payload.session, payload.sid)
        meta = _base64url.decode(payload.meta)
        if body is None or meta is None:
            return None
        return Claims(*body, payload.jti, payload.iat, payload.exp, payload.sub, meta)


class _Bound:
    """What one key is for one name."""

    __slots__ = ("_start", "prefix")

    def __init__(self, key: Key, prefix: str, name: str) -> None:
        # The prefix has a fixed length and the name comes last: no two pairs give the same bytes.
        info = prefix.encode("ascii") + name.encode("utf-8", "surrogatepass")
        self._start = hmac.new(key.derive(b"aiosessions HMAC-SHA256\x00" + info), digestmod="sha256")
        self.prefix = prefix

    def sign(self, text: str) -> str:
        """The signature of *text*, which is ASCII. Key and name are in the derived key."""
        mac = self._start.copy()
        mac.update(text.encode("ascii"))
        return _base64url.encode(mac.digest())
