"""Encrypted tokens."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest

from aiosessions import _base64url
from aiosessions._errors import EncodeError
from aiosessions.sealers import aesgcm
from aiosessions.sealers.aesgcm import XAES256GCM, AESGCMSealer
from aiosessions.sealers.keys import new_key
from aiosessions.sealers.ring import BoundKeys, KeyRing
from aiosessions.sealers.sealer import Claims
from aiosessions.testing.suites_sealer import SealerSuite

NOW = 1_800_000_000.0
CLAIMS = Claims(b"body", False, "id", NOW, NOW + 60, "ann", b"meta")


class TestAESGCMSealer(SealerSuite):
    def make_sealer(self, keys: Sequence[str]) -> AESGCMSealer:
        return AESGCMSealer(keys)

    def make_next_version(self, keys: Sequence[str]) -> AESGCMSealer:
        sealer = AESGCMSealer(keys)
        sealer._bound = BoundKeys(KeyRing(keys), aesgcm._Bound, version=2)
        return sealer


# https://c2sp.org/XAES-256-GCM, "Test vectors": in the first the top bit of L is 0, in the second it is 1.
VECTORS = [
    (b"\x01", b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
    (b"\x03", b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
]


@pytest.mark.parametrize(("byte", "associated", "sealed"), VECTORS)
def test_xaes_agrees_with_the_published_vectors(byte: bytes, associated: bytes, sealed: str) -> None:
    """F8: the construction is the specified one."""
    cipher, nonce = XAES256GCM(byte * 32), b"ABCDEFGHIJKLMNOPQRSTUVWX"

    assert cipher.encrypt(nonce, b"XAES-256-GCM", associated).hex() == sealed
    assert cipher.decrypt(nonce, bytes.fromhex(sealed), associated) == b"XAES-256-GCM"


def test_xaes_agrees_with_the_published_accumulated_vector() -> None:
    """F8: 10 000 pseudo-random keys, nonces, messages and data; the hash of all results is published."""
    rounds, position = 10_000, 0
    stream = hashlib.shake_128(b"").digest(rounds * (32 + 24 + 2 * 256))
    results = hashlib.shake_128()

    def take(size: int) -> bytes:
        nonlocal position
        position += size
        return stream[position - size : position]

    for _ in range(rounds):
        key, nonce = take(32), take(24)
        message = take(take(1)[0])
        associated = take(take(1)[0])
        sealed = XAES256GCM(key).encrypt(nonce, message, associated)
        assert XAES256GCM(key).decrypt(nonce, sealed, associated) == message
        results.update(sealed)

    assert results.hexdigest(32) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


def half_of(token: str) -> bytes:
    """The first half of a token's nonce, which stands behind version and key id."""
    return (_base64url.decode(token) or b"")[6:18]


def test_a_process_seals_under_one_first_half_for_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """F9: and never twice under one nonce; whatever it has sealed opens, in another process too."""
    monkeypatch.setattr(aesgcm, "_MESSAGES", 10)
    key = new_key()
    sealer = AESGCMSealer(key)
    tokens = [sealer.seal(CLAIMS, name="app") for _ in range(30)]
    halves = [half_of(token) for token in tokens]
    assert [halves.count(half) for half in dict.fromkeys(halves)] == [10, 10, 10]
    assert len({(_base64url.decode(token) or b"")[18:30] for token in tokens}) == 30
    for opening in (sealer, AESGCMSealer(key)):
        assert all(opening.open(token, name="app", now=NOW) == CLAIMS for token in tokens)


def test_each_key_and_each_name_has_a_first_half_of_its_own() -> None:
    """F8: what one gives away says nothing of another."""
    sealers = AESGCMSealer(new_key()), AESGCMSealer(new_key())
    assert len({half_of(sealer.seal(CLAIMS, name=name)) for sealer in sealers for name in ("app", "other")}) == 4


FORKING = """
import os
from aiosessions import AESGCMSealer
from aiosessions.sealers.sealer import Claims
sealer = AESGCMSealer("MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY")
seal = lambda: sealer.seal(Claims(b"body", False, "id", 1.0, None, None, b""), name="app")
tokens = [seal(), seal()]
child = os.fork()
if child == 0:
    print(seal(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(*tokens, seal())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")
def test_a_child_process_seals_under_another_first_half() -> None:
    """F9: which its parent goes on with."""
    run = subprocess.run([sys.executable, "-c", FORKING], check=True, capture_output=True, text=True)
    childs, *parents = map(half_of, run.stdout.split())
    assert len(parents) == 3
    assert len(set(parents)) == 1
    assert childs not in parents


def test_forgeries_displace_nothing_and_what_opened_is_kept_within_bounds() -> None:
    """F6, F13: a cipher is kept for what its key has sealed, and for nothing else."""
    cipher, forged = XAES256GCM(bytes(range(32))), XAES256GCM(bytes(32))
    for seed in range(300):
        nonce = seed.to_bytes(24, "little")
        assert cipher.decrypt(nonce, forged.encrypt(nonce, b"m", b""), b"") is None
    assert cipher._opened == {}

    for seed in range(300):
        nonce = seed.to_bytes(24, "little")
        for _ in range(2):
            assert cipher.decrypt(nonce, cipher.encrypt(nonce, b"m", b""), b"") == b"m"
    assert len(cipher._opened) == 128


def test_a_nonce_of_another_length_opens_nothing() -> None:
    """F6: neither half a nonce nor none."""
    cipher = XAES256GCM(bytes(range(32)))
    for size in (0, 12, 23, 25):
        assert cipher.decrypt(bytes(size), bytes(64), b"") is None


def test_the_claims_cannot_be_read_in_the_token() -> None:
    """F5: neither the value nor the user nor the session id."""
    claims = Claims(b"SECRETBODY" * 3, False, "SECRETID" * 3, NOW, None, "SECRETUSER" * 3, b"SECRETMETA" * 3)
    raw = _base64url.decode(AESGCMSealer(new_key()).seal(claims, name="app"))

    assert raw is not None
    assert b"SECRET" not in raw


def test_a_user_id_that_is_not_unicode_is_an_encode_error() -> None:
    """V9: and the error does not show it."""
    claims = Claims(b"", False, "id", NOW, None, "ann\ud800", b"")
    with pytest.raises(EncodeError, match="lone surrogate") as caught:
        AESGCMSealer(new_key()).seal(claims, name="app")
    assert "ann" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_threads_can_share_a_sealer() -> None:
    """F9: no token of one thread disturbs another's."""
    sealer, wrong = AESGCMSealer(new_key()), list[str]()

    def work(name: str) -> None:
        for _ in range(500):
            token = sealer.seal(CLAIMS, name=name)
            if sealer.open(token, name=name, now=NOW) != CLAIMS:
                wrong.append(token)

    threads = [threading.Thread(target=work, args=(f"app{index % 2}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_names_without_end_do_not_fill_the_memory() -> None:
    """F8: what is derived for a name is kept for some hundred names, and each token still opens."""
    sealer = AESGCMSealer(new_key())
    tokens = {name: sealer.seal(CLAIMS, name=name) for name in (f"app{index}" for index in range(1000))}

    assert sealer._bound._of.cache_info().currsize <= 256
    assert all(sealer.open(token, name=name, now=NOW) == CLAIMS for name, token in tokens.items())


@pytest.mark.parametrize("message", [b"", b"\x90", b"\xc1", b"\x97\x01\x01\x01\x01\x01\x01\x01", b"\xff" * 20])
def test_a_sealed_message_of_another_shape_is_refused(message: bytes) -> None:
    """F6, F13: also where somebody who has the key made it."""
    sealer = AESGCMSealer(new_key())
    bound, nonce = sealer._bound.sealing("app", NOW), bytes(24)
    sealed = nonce + bound.cipher.encrypt(nonce, message, bound.associated)

    assert sealer.open(bound.prefix + _base64url.encode(sealed), name="app", now=NOW) is None
