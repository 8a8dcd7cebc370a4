"""Keys of every kind that a JWTSealer takes."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from typing import Any

from joserfc import jwk

from aiosessions.sealers.jwt import JWTSealer

NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://issuer.example", "https://shop.example"

PAIR: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE}  # Any: keyword arguments

KINDS: dict[str, dict[str, Any]] = {  # Any: keyword arguments of different types
    "HS256": {},
    "HS384": {"algorithm": "HS384"},
    "HS512": {"algorithm": "HS512"},
    "ES256": {"algorithm": "ES256", **PAIR},
    "EdDSA": {"algorithm": "EdDSA", **PAIR},
    "RS256": {"algorithm": "RS256", **PAIR},
    "A256KW": {"encrypt": True},
    "ECDH P-256": {"encrypt": True, **PAIR},
    "ECDH X25519": {"encrypt": True, **PAIR},
}


@cache
def _rsa_keys() -> Iterator[jwk.RSAKey]:
    """Four of them, again and again: one takes up to half a second to make, and no test needs five."""
    return cycle([jwk.RSAKey.generate_key(2048) for _ in range(4)])


def make_jwk(kind: str) -> jwk.Key:
    """A private key for this kind of token, another than the last."""
    if kind in ("HS256", "HS384", "HS512", "A256KW"):
        return jwk.OctKey.generate_key({"HS384": 384, "HS512": 512}.get(kind, 256))
    if kind in ("EdDSA", "ECDH X25519"):
        return jwk.OKPKey.generate_key("Ed25519" if kind == "EdDSA" else "X25519")
    return next(_rsa_keys()) if kind == "RS256" else jwk.ECKey.generate_key("P-256")


def private(key: jwk.Key) -> str:
    """The key as a sealer takes it: a JWK in JSON."""
    return json.dumps(key.as_dict(private=True))


def public(key: jwk.Key) -> str:
    """Its public half."""
    return json.dumps(key.as_dict(private=False))


def make(kind: str, *keys: Any, **options: Any) -> JWTSealer:  # Any: keys in any form, options of any type
    """A sealer for this kind of token."""
    return JWTSealer(list(keys), **{**KINDS[kind], **options})
