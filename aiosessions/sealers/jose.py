"""The keys of a JWTSealer, and what joserfc does with them.

It is imported when the first JWTSealer is made: joserfc takes longer to import than all the rest of this package.
"""

import json
import warnings
from collections.abc import Collection
from typing import Final, Literal, cast

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from joserfc import jwe, jwk, jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwa import JWSAlgModel

from aiosessions import _base64url
from aiosessions._errors import ConfigError, UnsupportedError
from aiosessions.sealers.keys import Key, read_keys

__all__ = ["JoseKey", "JoseRing", "unique_members"]

_SIGNING: Final = {"HS256": "oct", "HS384": "oct", "HS512": "oct", "ES256": "EC", "EdDSA": "OKP", "RS256": "RSA"}
_ENCRYPTING: Final = {"oct": "A256KW", "EC": "ECDH-ES+A256KW", "OKP": "ECDH-ES+A256KW"}
_ENC: Final = "A256GCM"
_TYPES: Final[dict[str, type[jwk.OctKey | jwk.ECKey | jwk.OKPKey | jwk.RSAKey]]] = {
    "oct": jwk.OctKey,
    "EC": jwk.ECKey,
    "OKP": jwk.OKPKey,
    "RSA": jwk.RSAKey,
}
_ABOUT: Final = frozenset(["alg", "use", "key_ops", "kid", "ext"])
_SECRET_SIZES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes: RFC 7518 §3.2
_CURVES: Final = {"ES256": {"P-256"}, "EdDSA": {"Ed25519"}, "ECDH-ES+A256KW": {"P-256", "P-384", "P-521", "X25519"}}
_RSA_BITS: Final = 2048  # RFC 7518 §3.3
_HEADER_LIMIT: Final = 1024  # characters; ours take a hundred, with an ephemeral key three hundred
_TOKEN_LIMIT: Final = 1 << 20  # characters; servers allow a header of 8 to 64 kB


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """The members a header may have: no `crit`, `jku`, `jwk`, `x5u`, `x5c`, `zip`, `b64`, and no `cty` (nested JWT)."""

    alg: str
    typ: str
    kid: str | None = None
    enc: str | None = None
    epk: dict[str, str] | None = None
    apu: str | None = None
    apv: str | None = None
    x5t: str | None = None  # a certificate's thumbprint, which some issuers add: nothing is done with it
    x5t_s256: str | None = msgspec.field(default=None, name="x5t#S256")


class _JWSRegistry(jws.JWSRegistry):
    """Our sizes, and one algorithm without joserfc's warning that EdDSA has a newer name (RFC 9864)."""

    max_header_length = _HEADER_LIMIT
    max_payload_length = _TOKEN_LIMIT

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm])
        self._only = {name: model for name, model in self.algorithms.items() if name == algorithm}

    def get_alg(self, name: str) -> JWSAlgModel:
        return self._only[name]


class _JWERegistry(jwe.JWERegistry):
    """Our sizes."""

    max_protected_header_length = _HEADER_LIMIT
    max_ciphertext_length = _TOKEN_LIMIT


class JoseKey:
    """One key with its one algorithm.

    Args:
        key: what joserfc made of it.
        algorithm: what it is for; a token's `alg` is compared with it and decides nothing.
        kid: what its tokens say, and by what they find it.
        not_before: when it starts to seal, in unix seconds.
    """

    __slots__ = ("_jwe", "_jws", "_key", "algorithm", "can_seal", "kid", "not_before")

    def __init__(self, key: jwk.Key, algorithm: str, kid: str, not_before: float) -> None:
        self._key = key
        self._jws: _JWSRegistry = _JWSRegistry(algorithm)
        self._jwe: _JWERegistry = _JWERegistry(algorithms=[algorithm, _ENC])
        self.algorithm: str = algorithm
        self.kid: str = kid
        self.not_before: float = not_before
        self.can_seal: bool = key.is_private

    def __repr__(self) -> str:
        return f"JoseKey(kid={self.kid!r}, algorithm={self.algorithm!r})"

    @property
    def encrypts(self) -> bool:
        """Whether its tokens are JWEs."""
        return self.algorithm not in _SIGNING

    def seal(self, payload: bytes, typ: str) -> str:
        """A token with this payload."""
        if self.encrypts:
            header = {"alg": self.algorithm, "enc": _ENC, "typ": typ, "kid": self.kid}
            return jwe.encrypt_compact(header, payload, self._key, registry=self._jwe)
        header = {"alg": self.algorithm, "typ": typ, "kid": self.kid}
        return jws.serialize_compact(header, payload, self._key, registry=self._jws)

    def open(self, token: str, header: _Header) -> bytes | None:
        """The payload, if this key signed or encrypted the token; *header* is the token's own."""
        if header.alg != self.algorithm or header.enc != (_ENC if self.encrypts else None):
            return None  # joserfc is told the same, and reads the header again
        try:
            if self.encrypts:
                return jwe.decrypt_compact(token, self._key, registry=self._jwe).plaintext
            return jws.deserialize_compact(token, self._key, registry=self._jws).payload
        except Exception:  # noqa: BLE001  the token is an attacker's, and joserfc promises no list of what it raises
            return None


class JoseRing:
    """The keys of a JWTSealer, newest first: the first active one that can seals, all open.

    Args:
        keys: what the sealer was given.
        algorithm: what it was given.
        encrypt: whether tokens are encrypted.

    Raises:
        ConfigError: a key is weak, unreadable, of another type than the algorithm wants, or comes twice.
    """

    __slots__ = ("_by_kid", "_keys")

    def __init__(self, keys: object, *, algorithm: str, encrypt: bool) -> None:
        self._keys: list[JoseKey] = []
        ring = _ring(keys, algorithm, encrypt=encrypt)
        del keys  # a traceback with captured locals shows what is left here
        if isinstance(ring, str):
            raise ConfigError(ring)

        self._keys = ring
        self._by_kid = {key.kid: key for key in ring}

    def __repr__(self) -> str:
        return f"JoseRing({self._keys!r})"

    @property
    def is_asymmetric(self) -> bool:
        """Whether others may hold a half of one of the keys."""
        return any(not key.algorithm.startswith(("HS", "A256")) for key in self._keys)

    def all_wait(self, now: float) -> bool:
        """Whether no key is active yet at *now*, unix seconds."""
        return all(key.not_before > now for key in self._keys)

    def sealing(self, now: float) -> JoseKey:
        """The key that seals at *now*, unix seconds. Raises UnsupportedError if there are public keys only."""
        able = [key for key in self._keys if key.can_seal]
        if not able:
            raise UnsupportedError(
                "this JWTSealer has public keys only: it verifies tokens and cannot write any. Give it a private key, "
                "or leave the session as it is"
            )
        for key in able:
            if key.not_before <= now:
                return key
        return min(able, key=lambda key: key.not_before)

    def is_current(self, token: str, now: float) -> bool:
        """Whether *token* names the key which seals at *now*; with public keys only each token is as good as can be."""
        if not any(key.can_seal for key in self._keys):
            return True
        header = _header(token)
        return header is not None and header.kid == self.sealing(now).kid

    def open(self, token: str, types: Collection[str]) -> bytes | None:
        """The payload of a token whose `typ` is one of *types* (in lower case) and which a key of the ring made."""
        segments = token.split(".", 5)
        if len(token) > _TOKEN_LIMIT or len(segments) not in (3, 5):
            return None
        if any(_base64url.decode(segment) is None for segment in segments):
            return None

        header = _header(token)
        if header is None or header.typ.lower() not in types:
            return None

        if header.kid is None:
            candidates = self._keys  # another issuer's, which shares the key and not the name we gave it
        else:
            named = self._by_kid.get(header.kid)
            candidates = [] if named is None else [named]
        payloads = (key.open(token, header) for key in candidates)
        return next((payload for payload in payloads if payload is not None), None)


def unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """For json.loads(object_pairs_hook=...): a name that occurs twice is a ValueError (RFC 7519 §4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name occurs twice")
    return members


def _header(token: str) -> _Header | None:
    segment = token.partition(".")[0]
    raw = _base64url.decode(segment) if len(segment) <= _HEADER_LIMIT else None
    if raw is None:
        return None
    try:
        return msgspec.convert(json.loads(raw.decode(), object_pairs_hook=unique_members), _Header)
    except (ValueError, RecursionError):
        return None


def _ring(keys: object, algorithm: str, *, encrypt: bool) -> list[JoseKey] | str:
    """The keys, or what is wrong with them. It raises nothing, since its locals hold secrets."""
    known = [*_SIGNING, *_ENCRYPTING.values()] if encrypt else list(_SIGNING)
    if algorithm not in known or (encrypt and algorithm in _SIGNING and algorithm != "HS256"):
        offered = "leave it out" if encrypt else f"give one of {', '.join(_SIGNING)}"
        return f"algorithm={algorithm!r}{' with encrypt=True' if encrypt else ''}: {offered}"

    ring = read_keys(keys)
    if isinstance(ring, str):
        return ring
    found: dict[str, JoseKey] = {}
    for index, key in enumerate(ring):
        read = _read(key, algorithm, encrypt=encrypt)
        if isinstance(read, str):
            return f"keys[{index}]: {read}"
        if read.kid in found:
            return f"keys[{index}] has the kid of a key before it: remove one of them, or give their JWKs other kids"
        found[read.kid] = read
    return list(found.values())


def _read(key: Key, algorithm: str, *, encrypt: bool) -> JoseKey | str:
    """One key for joserfc, or what is wrong with it."""
    members: dict[str, object] = {}
    if not key.is_document:
        loaded = _load(key.material(), ["oct"])
    elif key.material().startswith(b"{"):
        members = msgspec.json.decode(key.material(), type=dict[str, object])
        loaded = _load(members, [str(members.get("kty"))])
    else:
        loaded = _load(key.material(), ["EC", "OKP", "RSA"])
    if isinstance(loaded, str):
        return loaded

    kind = loaded.key_type
    if encrypt:
        wanted = _ENCRYPTING.get(kind, "another key")
        if algorithm not in ("HS256", wanted) or kind not in _ENCRYPTING:
            return f"a key of type {kind} cannot encrypt here: give an EC, X25519 or secret key"
        algorithm = wanted
    elif _SIGNING[algorithm] != kind:
        fitting = " or ".join(name for name, type_ in _SIGNING.items() if type_ == kind)
        return f"a key of type {kind}, and algorithm={algorithm!r} takes {_SIGNING[algorithm]}: try {fitting}"

    problem = _unfit(loaded, algorithm, members)
    if problem is not None:
        return problem

    kid = members.get("kid")
    if kid is None:
        kid = _base64url.encode(Key(loaded.raw_value).id) if isinstance(loaded, jwk.OctKey) else loaded.thumbprint()
    if not isinstance(kid, str) or not 0 < len(kid) <= 200:
        return "the kid of a JWK is a text of 1 to 200 characters"
    return JoseKey(loaded, algorithm, kid, key.not_before)


def _load(source: bytes | dict[str, object], kinds: list[str]) -> jwk.Key | str:
    """What joserfc makes of a secret, PEM or JWK; or what is wrong with it."""
    if isinstance(source, bytes):
        value: bytes | jwk.DictKey = source
    else:
        # What a JWK says of its use is checked by `_unfit`; joserfc would check it anew for each token.
        value = cast("jwk.DictKey", {name: member for name, member in source.items() if name not in _ABOUT})
    for kind in kinds:
        if kind not in _TYPES:
            return f"a key of type {kind!r}: give oct, EC, OKP or RSA"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # what joserfc warns of, `_unfit` refuses
                key = _TYPES[kind].import_key(value)
            key.thumbprint()  # a JWK is only taken apart when it is used
        except (JoseError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
            continue
        return key
    return "not readable as a key: give a JWK, or PEM of an EC, Ed25519, X25519 or RSA key without a password"


def _unfit(key: jwk.Key, algorithm: str, members: dict[str, object]) -> str | None:
    """Why this key cannot serve this algorithm; None if it can."""
    use: Literal["sig", "enc"] = "sig" if algorithm in _SIGNING else "enc"
    if members.get("alg", algorithm) != algorithm:
        return f"its JWK says that it is for another algorithm than {algorithm}"
    if members.get("use", use) != use:
        return f"its JWK says that it is not for {'signing' if use == 'sig' else 'encrypting'}"
    if isinstance(key, jwk.OctKey):
        problem = read_keys(key.raw_value)
        if isinstance(problem, str):
            return problem
        if len(key.raw_value) < _SECRET_SIZES.get(algorithm, 32):
            return f"{len(key.raw_value)} bytes, and {algorithm} needs {_SECRET_SIZES[algorithm]} (RFC 7518 §3.2)"
        if algorithm == "A256KW" and len(key.raw_value) != 32:
            return f"{len(key.raw_value)} bytes, and A256KW takes exactly 32"
        return None
    if isinstance(key, jwk.RSAKey):
        native: RSAPrivateKey | RSAPublicKey = key.raw_value
        return None if native.key_size >= _RSA_BITS else f"{native.key_size} bits, and RSA needs {_RSA_BITS}"
    if key.curve_name not in _CURVES[algorithm]:
        return f"a key on {key.curve_name}, and {algorithm} takes {' or '.join(sorted(_CURVES[algorithm]))}"
    if use == "enc" and not key.is_private:
        return "a public key, which could encrypt and not read: give the private one"
    return None
