"""Signed tokens that front-end code reads."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence

import pytest

from aiosessions._errors import EncodeError
from aiosessions.sealers import hmac as sealing
from aiosessions.sealers.aesgcm import AESGCMSealer
from aiosessions.sealers.hmac import HMACSealer
from aiosessions.sealers.keys import Key, new_key
from aiosessions.sealers.ring import BoundKeys, KeyRing
from aiosessions.sealers.sealer import Claims
from aiosessions.testing.suites_sealer import SealerSuite

NOW = 1_800_000_000.0
CLAIMS = Claims(b'{"theme":"dark"}', False, "id", NOW, NOW + 60, "ann", b"meta")


class TestHMACSealer(SealerSuite):
    def make_sealer(self, keys: Sequence[str]) -> HMACSealer:
        return HMACSealer(keys)

    def make_next_version(self, keys: Sequence[str]) -> HMACSealer:
        sealer = HMACSealer(keys)
        sealer._bound = BoundKeys(KeyRing(keys), sealing._Bound, version=2)
        return sealer


def test_front_end_code_can_read_the_value() -> None:
    """F8: the documented format, read with nothing but base64 and JSON."""
    _, payload, _ = HMACSealer(new_key()).seal(CLAIMS, name="app").split(".")
    members = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))

    assert members["session"] == {"theme": "dark"}
    assert (members["jti"], members["sub"], members["iat"], members["exp"]) == ("id", "ann", NOW, NOW + 60)


def test_the_signature_is_hmac_sha256_of_the_payload() -> None:
    """F6: under a key that is derived for version, key and name."""
    key = Key(new_key())
    prefix, payload, signature = HMACSealer(key).seal(CLAIMS, name="app").split(".")

    derived = key.derive(b"aiosessions HMAC-SHA256\x00" + prefix.encode() + b"app")
    expected = hmac.new(derived, payload.encode(), hashlib.sha256).digest()
    assert signature == base64.urlsafe_b64encode(expected).decode().rstrip("=")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{}1", b'1,"sub":"admin"', b'{}},{"a":{}', b"NaN", b"\x80", b'"\xff"', b"'a'", b"[" * 100_000],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_not_json_cannot_be_sealed(body: bytes) -> None:
    """V9: it would add members of its own, or nobody could read it."""
    claims = Claims(body, False, "id", NOW, None, None, b"")
    with pytest.raises(EncodeError, match="JSON codec") as caught:
        HMACSealer(new_key()).seal(claims, name="app")
    assert caught.value.__suppress_context__


def test_a_user_id_that_is_not_unicode_is_an_encode_error() -> None:
    """V9: and the error does not show it."""
    claims = Claims(b"{}", False, "id", NOW, None, "ann\ud800", b"")
    with pytest.raises(EncodeError, match="lone surrogate") as caught:
        HMACSealer(new_key()).seal(claims, name="app")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"{", b'{"jti":"a","iat":1,"nonce":""}', b'{"jti":1,"iat":1,"nonce":"","sid":"a"}', b"\xff"],
)
def test_a_signed_payload_of_another_shape_is_refused(payload: bytes) -> None:
    """F6, F13: also where somebody who has the key made it."""
    key = new_key()
    sealer = HMACSealer(key)
    bound = sealer._bound.sealing("app", NOW)
    text = base64.urlsafe_b64encode(payload).decode().rstrip("=")

    assert sealer.open(f"{bound.prefix}.{text}.{bound.sign(text)}", name="app", now=NOW) is None
    assert sealer.open(f"{bound.prefix}.{text}=.{bound.sign(text + '=')}", name="app", now=NOW) is None


def test_a_token_of_one_sealer_is_worthless_for_another_with_the_same_key() -> None:
    """F8: each purpose derives a key of its own."""
    key = new_key()
    signed, encrypted = HMACSealer(key), AESGCMSealer(key)

    assert encrypted.open(signed.seal(CLAIMS, name="app"), name="app", now=NOW) is None
    assert signed.open(encrypted.seal(CLAIMS, name="app"), name="app", now=NOW) is None
