"""JSON Web Tokens that any other JWT library can verify."""

import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec

from aiosessions import _base64url
from aiosessions._errors import ConfigError, EncodeError, UnsupportedError
from aiosessions.sealers.keys import Key
from aiosessions.sealers.payload import body_of, reference_of, value_of
from aiosessions.sealers.sealer import Claims

if TYPE_CHECKING:
    from aiosessions.sealers.jose import JoseRing

__all__ = ["JWTKeys", "JWTSealer"]

JWTKeys = Key | bytes | str | Mapping[str, object] | Sequence[Key | bytes | str | Mapping[str, object]]
"""Secrets, PEM, JWKs or JWK sets (as text or mappings), newest first."""

_TYP = "aiosessions+jwt"
_NONCE = 12  # bytes
_FOREIGN_ID = re.compile(r"[\x21-\x7e]{1,255}")

_Date = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]  # whole seconds, up to the year 9999


class _Ours(msgspec.Struct, omit_defaults=True):
    """The private claim `aiosessions`: what no registered claim is for. Tokens of others need none."""

    v: Literal[1]
    name: str | msgspec.UnsetType = msgspec.UNSET
    meta: str = ""
    nonce: str = ""


class _Payload(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The claims we write and read (RFC 7519 §4.1); others are ignored."""

    iss: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | list[str]
    iat: _Date
    nbf: _Date | msgspec.UnsetType = msgspec.UNSET
    exp: _Date
    jti: str
    sub: str | msgspec.UnsetType = msgspec.UNSET
    session: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    sid: str | msgspec.UnsetType = msgspec.UNSET
    aiosessions: _Ours | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Payload).decode


class JWTSealer:
    """Writes claims as a JWT: signed (JWS), or with `encrypt=True` encrypted (JWE, `A256GCM`).

    Claims: `iss`, `aud`, `iat`, `nbf` (with *valid_from*), `exp`, `jti` = the session's constant id, `sub` = user id,
    `session` = the value as JSON or `sid` = the reference of a server-side session, and the private claim
    `aiosessions`, which holds the library's own state. Dates are whole seconds; `exp` is rounded up, and what
    `StorageOverseer` and `CookieOverseer` promise about the end of a session holds exactly all the same.

    `exp`, `iat` and `jti` are required. The header's `alg` is compared with the key's and decides nothing; `kid` is
    looked up among the keys given here and nowhere else; a header with `crit`, `jku`, `jwk`, `x5u`, `x5c`, `zip`,
    `cty`, or anything else unknown is refused, like a member name that occurs twice (RFC 8725 §3; ASVS 5 9.1.1-9.2.4).

    **Tokens of other software** have no claim `aiosessions`, and open under one session's name only: the one that is
    their only `aud`, where *audience* is the default; else *foreign_name*. Their `jti` is 1 to 255 visible ASCII
    characters, their `sub` 1 to 255 bytes without NUL. With *audience* `app` nothing opens that was made for a session
    `app` whose audience is the default, nor the other way round.

    With public keys only it verifies and does not write: `seal` raises UnsupportedError. With `encrypt=True` and a key
    pair, whoever has the *public* half can write sessions: do not publish it.

    Args:
        keys: secrets, PEM, JWKs or JWK sets, one or several, newest first; see `Key`. The first active one that can
            seals, all open. A JWK's own `kid` is kept; else it is the thumbprint (RFC 7638) or, of a secret, its id.
        issuer: `iss`. Required with key pairs, where several issuers may hold keys. Without it a token with an `iss` is
            refused.
        audience: `aud`. Required with key pairs. Default: the session's name, after `namespace:`.
        algorithm: HS256, HS384, HS512, ES256, EdDSA or RS256. With *encrypt* the key says which: A256KW for a secret,
            ECDH-ES+A256KW for a key pair.
        encrypt: nobody without the key can read the claims.
        not_issued_before: tokens issued before are refused: a cut-off, for example after a leak.
        valid_from: tokens are not valid before (`nbf`).
        valid_after: nor before the session is that old, from its start or its user's login; the later of both counts.
        valid_until: tokens are not valid from then on (`exp` is at most this).
        leeway: how far other issuers' clocks may be off, for `nbf` and `exp` of their tokens: their sessions begin so
            much sooner and last so much longer.
        foreign_name: which session's the tokens of other software are, after `namespace:`.
        accept_typ: values of the header's `typ` that are accepted besides `aiosessions+jwt`.
        reseal: also replace a token under an older key when it is read; else at the session's next write.

    Raises:
        ConfigError: a key is weak, unreadable or of another type than *algorithm* takes, none is active, or an argument
            is out of its range.
    """

    needs_json = True
    needs_expiry = True  # `exp` is required (RFC 8725 §3.10)

    __slots__ = (
        "_after",
        "_algorithm",
        "_audience",
        "_cut_off",
        "_encrypt",
        "_foreign_name",
        "_from",
        "_issuer",
        "_leeway",
        "_ring",
        "_types",
        "_until",
        "reseal",
    )

    _ring: "JoseRing"

    def __init__(
        self,
        keys: JWTKeys,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        algorithm: str = "HS256",
        encrypt: bool = False,
        not_issued_before: datetime | None = None,
        valid_from: datetime | None = None,
        valid_after: timedelta = timedelta(0),
        valid_until: datetime | None = None,
        leeway: timedelta = timedelta(seconds=30),
        foreign_name: str = "app",
        accept_typ: Sequence[str] = (),
        reseal: bool = False,
    ) -> None:
        try:
            self.reseal: bool = reseal
            self._algorithm = algorithm
            self._encrypt = encrypt
            self._issuer = None if issuer is None else _text("issuer", issuer)
            self._audience = None if audience is None else _text("audience", audience)
            self._cut_off = _moment("not_issued_before", not_issued_before, -math.inf)
            self._from = _moment("valid_from", valid_from, -math.inf)
            self._until = _moment("valid_until", valid_until, math.inf)
            if self._from >= self._until:
                raise ConfigError("valid_from is not before valid_until: no token would ever be valid")
            self._after = _seconds("valid_after", valid_after)
            self._leeway = _seconds("leeway", leeway)
            self._foreign_name = _text("foreign_name", foreign_name)
            self._types = frozenset([_TYP, *_types("accept_typ", accept_typ)])
            self.reload(keys)
        finally:
            del keys  # a traceback with captured locals must not show it

    def __repr__(self) -> str:
        return f"JWTSealer({getattr(self, '_ring', None)!r})"  # a traceback shows it half made

    def reload(self, keys: JWTKeys) -> None:
        """Use these keys from now on, without a restart. A bad key is a ConfigError, and the old ones stay in use."""
        from aiosessions.sealers.jose import JoseRing  # noqa: PLC0415  only now: see there

        try:
            ring = JoseRing(keys, algorithm=self._algorithm, encrypt=self._encrypt)
        finally:
            del keys  # a traceback with captured locals must not show it
        if ring.is_asymmetric and (self._issuer is None or self._audience is None):
            raise ConfigError("issuer and audience: with key pairs give both, a key may serve more than one purpose")
        if ring.all_wait(time.time()):
            raise ConfigError("keys: none is active yet: keep the key before it until its not_before has passed")
        self._ring = ring

    def is_current(self, token: str, *, now: float | None = None) -> bool:
        """Whether *token*, which `open` accepted, is under the key that seals now."""
        return self._ring.is_current(token, time.time() if now is None else now)

    def seal(self, claims: Claims, *, name: str) -> str:
        """The token.

        Raises:
            UnsupportedError: there are public keys only, `valid_until` has passed, or the claims never expire: a JWT
                has to.
            EncodeError: the body is not JSON, or a text in the claims has a lone surrogate.
        """
        key = self._ring.sealing(claims.issued_at)
        ends = min(math.inf if claims.expires_at is None else claims.expires_at, self._until)
        if ends == math.inf:
            raise UnsupportedError("a JWT has to expire: give the store's Lifetime an idle or an absolute timeout")
        if claims.issued_at >= self._until:
            raise UnsupportedError("valid_until has passed: this JWTSealer cannot write a token that is valid")

        starts = self._from
        if self._after and claims.began_at is not None:
            starts = max(starts, claims.began_at + self._after)
        payload = _Payload(
            iss=msgspec.UNSET if self._issuer is None else self._issuer,
            aud=name if self._audience is None else self._audience,
            iat=math.floor(claims.issued_at),
            nbf=msgspec.UNSET if starts == -math.inf else math.ceil(starts),
            exp=math.ceil(ends),
            jti=claims.session_id,
            sub=msgspec.UNSET if claims.user_id is None else claims.user_id,
            session=value_of(claims),
            sid=reference_of(claims),
            aiosessions=_Ours(
                v=1,
                name=msgspec.UNSET if self._audience is None else name,
                meta=_base64url.encode(claims.meta),
                nonce="" if self._encrypt else _base64url.encode(os.urandom(_NONCE)),
            ),
        )
        try:
            text = _encode(payload)
        except UnicodeEncodeError:
            raise EncodeError("the user id or session id is not valid Unicode: it has a lone surrogate") from None
        return key.seal(text, _TYP)

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        """The claims; None for a token that is forged, expired, for another audience or name, or under no key here."""
        text = self._ring.open(token, self._types)
        payload = None if text is None else _read(text)
        if payload is None or not self._is_for_us(payload, name):
            return None

        is_foreign = isinstance(payload.aiosessions, msgspec.UnsetType)
        expires_at = min(payload.exp + (self._leeway if is_foreign else 0.0), self._until)
        if now >= expires_at or not self._is_in_window(payload, now + self._leeway if is_foreign else now):
            return None

        body = body_of(payload.session, payload.sid)
        meta = _base64url.decode("" if isinstance(payload.aiosessions, msgspec.UnsetType) else payload.aiosessions.meta)
        if body is None or meta is None or (is_foreign and not _is_harmless(payload)):
            return None
        user_id = None if isinstance(payload.sub, msgspec.UnsetType) else payload.sub
        return Claims(*body, payload.jti, float(payload.iat), expires_at, user_id, meta)

    def _is_for_us(self, payload: _Payload, name: str) -> bool:
        if payload.iss != (msgspec.UNSET if self._issuer is None else self._issuer):
            return False

        audiences = [payload.aud] if isinstance(payload.aud, str) else payload.aud
        if (name if self._audience is None else self._audience) not in audiences:
            return False

        ours = payload.aiosessions
        if isinstance(ours, msgspec.UnsetType):
            return name == self._foreign_name or (self._audience is None and len(audiences) == 1)
        # with an audience of its own our token names the session too, and else it never does: neither is the other's
        return ours.name == (msgspec.UNSET if self._audience is None else name)

    def _is_in_window(self, payload: _Payload, now: float) -> bool:
        starts = self._from if isinstance(payload.nbf, msgspec.UnsetType) else max(payload.nbf, self._from)
        return payload.iat >= self._cut_off and now >= starts


def _is_harmless(payload: _Payload) -> bool:
    """Whether what another issuer wrote may stand in keys and logs, where ours cannot do harm (ASVS 5 16.4.1)."""
    if not _FOREIGN_ID.fullmatch(payload.jti):
        return False
    return isinstance(payload.sub, msgspec.UnsetType) or (
        1 <= len(payload.sub.encode()) <= 255 and "\0" not in payload.sub
    )


def _read(text: bytes) -> _Payload | None:
    """The claims of a verified token; None if they are not what they must be."""
    from aiosessions.sealers.jose import unique_members  # noqa: PLC0415  only now: see there

    try:
        json.loads(text.decode(), object_pairs_hook=unique_members, parse_int=len)  # a number's digits may be many
        return _decode(text)
    except (ValueError, RecursionError):
        return None


def _text(argument: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{argument}={value!r}: give a text that is not empty")
    return value


def _types(argument: str, value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{argument}={value!r}: give a sequence of texts, like ('JWT',)")
    return [_text(argument, typ).lower() for typ in cast("Sequence[object]", value)]


def _seconds(argument: str, value: object) -> float:
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise ConfigError(f"{argument}={value!r}: give a timedelta that is not negative")
    return value.total_seconds()


def _moment(argument: str, value: object, default: float) -> float:
    if value is None:
        return default
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigError(f"{argument}={value!r}: give an aware datetime: datetime(..., tzinfo=UTC)")
    return value.timestamp()
