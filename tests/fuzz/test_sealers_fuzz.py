"""Mutated tokens: nothing is accepted, and nothing is raised.

`--mutations` says how many per sealer; the seed is fixed, so that a failure comes again.
"""

import base64
import json
import random
from collections.abc import Callable

import pytest

from aiosessions.sealers.aesgcm import AESGCMSealer
from aiosessions.sealers.hmac import HMACSealer
from aiosessions.sealers.keys import new_key
from aiosessions.sealers.sealer import Claims, Sealer
from tests.sealers.jwt_keys import make, make_jwk, private

pytestmark = pytest.mark.fuzz

NOW = 1_800_000_000.0
NAMES = ["app", "shop:app"]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
STRANGE = ALPHABET + '.=+/~ "{}[],:\\\n\x00\x7fЖ\u0661\ud800\U0001f370'


def jwt(kind: str) -> Callable[[], Sealer]:
    return lambda: make(kind, private(make_jwk(kind)), private(make_jwk(kind)))


JWT_KINDS = ["HS256", "ES256", "EdDSA", "RS256", "A256KW", "ECDH P-256"]

# How each is made, and by how much its mutations are divided: the kinds of JWT share them.
SEALERS: dict[str, tuple[Callable[[], Sealer], int]] = {
    "AESGCMSealer": (lambda: AESGCMSealer([new_key(), new_key()]), 1),
    "HMACSealer": (lambda: HMACSealer([new_key(), new_key()]), 1),
    **{f"JWTSealer {kind}": (jwt(kind), len(JWT_KINDS)) for kind in JWT_KINDS},
}


def changed(token: str, chance: random.Random) -> str:
    """One to three characters others, more or fewer."""
    characters = list(token)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(characters) + 1)
        characters[place : place + chance.randint(0, 2)] = chance.choices(STRANGE, k=chance.randint(0, 2))
    return "".join(characters)


def flipped(token: str, chance: random.Random) -> str:
    """One bit of what one part stands for."""
    parts = token.split(".")
    index = chance.randrange(len(parts))
    raw = bytearray(base64.urlsafe_b64decode(parts[index] + "=" * (-len(parts[index]) % 4)))
    if raw:
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    parts[index] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return ".".join(parts)


def spliced(token: str, chance: random.Random) -> str:
    """Parts repeated, left out, in another order; or cut anywhere and put together again."""
    if chance.random() < 0.5:
        parts = token.split(".")
        return ".".join(chance.choices(parts, k=chance.randint(1, len(parts) + 1)))
    start, end = sorted(chance.choices(range(len(token) + 1), k=2))
    return token[:end] + token[start:]


def rewritten(token: str, chance: random.Random) -> str:
    """JSON in a part, with a member more, less, or other."""
    parts = token.split(".")
    index = chance.randrange(len(parts))
    try:
        members = json.loads(base64.urlsafe_b64decode(parts[index] + "=" * (-len(parts[index]) % 4)))
    except ValueError:
        return changed(token, chance)
    name = chance.choice([*members, "alg", "kid", "epk", "crit", "exp", "session"])
    members[name] = chance.choice([None, 1, -1.5, "none", "HS256", [], {}, {"kty": "EC"}, "A" * 50, True])
    if chance.random() < 0.3:
        del members[name]
    parts[index] = base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")
    return ".".join(parts)


MUTATIONS = [changed, flipped, spliced, rewritten]


@pytest.mark.parametrize(("make_sealer", "share"), SEALERS.values(), ids=SEALERS)
def test_mutated_tokens_are_refused_and_nothing_is_raised(
    make_sealer: Callable[[], Sealer], share: int, mutations: int
) -> None:
    """F6, F13."""
    chance, sealer = random.Random(0), make_sealer()
    bodies = [b'{"cart":[1,2,3]}', b'"a"', b"{}"]
    tokens = [
        sealer.seal(Claims(body, False, "an-id", NOW, NOW + 60, "ann", b"meta"), name=name)
        for body in bodies
        for name in NAMES
    ]
    assert all(any(sealer.open(token, name=name, now=NOW) for name in NAMES) for token in tokens)

    for number in range(mutations // share):
        token = chance.choice(tokens)
        mutant = chance.choice(MUTATIONS)(token, chance)
        if chance.random() < 0.1:
            mutant = chance.choice(MUTATIONS[:1])(mutant, chance)
        if mutant in tokens:
            continue
        for name in NAMES:
            opened = sealer.open(mutant, name=name, now=NOW)
            assert opened is None, f"mutation {number} was accepted: {mutant!r}, made of {token!r}"
