"""Keys, rings of them, and what may be seen of them."""

import base64
import copy
import math
import os
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiosessions import _base64url
from aiosessions._errors import ConfigError
from aiosessions.sealers.aesgcm import AESGCMSealer
from aiosessions.sealers.hmac import HMACSealer
from aiosessions.sealers.jwt import JWTSealer
from aiosessions.sealers.keys import Key, Keys, new_key
from aiosessions.sealers.ring import KeyRing
from aiosessions.sealers.sealer import Claims, Expiring, Resealing, Sealer

NOW = 1_800_000_000.0
CLAIMS = Claims(b"{}", False, "id", NOW, NOW + 60, "ann", b"meta")
SEALERS = [AESGCMSealer, HMACSealer]
RING_SEALER = AESGCMSealer | HMACSealer

Make = Callable[..., RING_SEALER]


@pytest.fixture(params=SEALERS)
def make(request: pytest.FixtureRequest) -> Make:
    sealer: Make = request.param
    return sealer


def test_a_new_key_has_256_bits_and_is_never_the_same() -> None:
    """F10: 43 characters of base64url, 32 bytes."""
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 43 and len(base64.urlsafe_b64decode(key + "=")) == 32 for key in keys)


SPELLINGS: dict[str, Callable[[bytes, str], Keys]] = {
    "text": lambda raw, text: text,
    "padded": lambda raw, text: text + "=",
    "white space around": lambda raw, text: f"  {text}\n",
    "bytes": lambda raw, text: raw,
    "a list": lambda raw, text: [raw],
    "a tuple of a Key": lambda raw, text: (Key(text),),
    "a Key": lambda raw, text: Key(raw),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_one_key_can_be_given_in_every_spelling(make: Make, spelling: Callable[[bytes, str], Keys]) -> None:
    """F7: they all mean the same 32 bytes."""
    raw = os.urandom(32)
    token = make(raw).seal(CLAIMS, name="app")

    assert make(spelling(raw, _base64url.encode(raw))).open(token, name="app", now=NOW) == CLAIMS


def test_a_text_may_hold_several_keys_newest_first(make: Make) -> None:
    """F7: as an environment variable holds them."""
    newer, older = new_key(), new_key()
    sealer = make(f"{newer}\n{older}  ")

    assert make(newer).open(sealer.seal(CLAIMS, name="app"), name="app", now=NOW) == CLAIMS
    assert sealer.open(make(older).seal(CLAIMS, name="app"), name="app", now=NOW) == CLAIMS


SECRET = "c2VjcmV0"
WEAK: dict[str, tuple[Any, str]] = {  # Any: wrong arguments of every type
    "nothing": ("", "empty"),
    "white space": (" \n", "empty"),
    "an empty list": ([], "empty"),
    "None": (None, "NoneType is no key"),
    "a number": (7, "int is no key"),
    "a list with None": ([new_key(), None], r"keys\[1\]: NoneType"),
    "31 bytes": (os.urandom(31), "31 bytes, and 32 is the least"),
    "a password": (SECRET, "6 bytes, and 32 is the least"),
    "no base64url": ("correct horse battery staple!", "not base64url"),
    "standard base64": ("+/" * 22, "not base64url"),
    "spare bits": ("A" * 42 + "B", "not base64url"),
    "zeros": (bytes(32), "repeats"),
    "one byte again and again": (b"a" * 64, "repeats"),
    "two bytes again and again": (b"ab" * 32, "repeats"),
    "the same twice": ((twice := new_key()) + " " + twice, "given already"),
    "the same in two spellings": ([twice, base64.urlsafe_b64decode(twice + "=")], r"keys\[1\] has been given already"),
    "PEM": ("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----", "JWTSealer"),
    "PEM in bytes": (b"-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----", "JWTSealer"),
    "a JWK": ({"kty": "oct", "k": new_key()}, "JWTSealer"),
    "a JWK as text": ('{"kty":"oct","k":"AAAA"}', "JWTSealer"),
    "a JWK that is cut": ('{"kty":"oct","k":', "no JSON"),
    "a JWK set of nothing": ({"keys": []}, "empty"),
    "a JWK set of texts": ({"keys": ["a"]}, "JWK set"),
    "a JWK of objects": ({"kty": object()}, "JWK"),
    "a mapping of numbers": ({1: 2}, "JWK"),
}


@pytest.mark.parametrize(("keys", "message"), WEAK.values(), ids=WEAK)
def test_a_weak_key_is_refused_with_the_fix_and_without_the_key(make: Make, keys: Any, message: str) -> None:
    """F10, V8: ConfigError that names the argument."""
    with pytest.raises(ConfigError, match=message) as caught:
        make(keys)
    assert "keys" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert twice not in str(caught.value)


@pytest.mark.parametrize(
    "secret",
    [
        b"short",
        "c2hvcnQ",
        bytes(32),
        "",
        7,
        pytest.param(f"{new_key()} {new_key()}", id="two keys"),
        "not/base64",
    ],
)
def test_a_key_of_its_own_is_checked_too(secret: Any) -> None:
    """F10: at construction."""
    with pytest.raises(ConfigError, match="secret"):
        Key(secret)


def test_two_keys_whose_ids_collide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """F10: a token must name one key."""
    first, second = Key(new_key()), Key(new_key())
    monkeypatch.setattr(second, "_id", first.id)
    with pytest.raises(ConfigError, match=r"keys\[1\] .*id of another"):
        KeyRing([first, second])


def test_a_random_key_that_begins_like_json_is_a_key(make: Make) -> None:
    """F10: one of 256 random keys begins with a brace."""
    key = b"{" + os.urandom(31)
    assert make(key).open(make([key]).seal(CLAIMS, name="app"), name="app", now=NOW) == CLAIMS


def test_a_key_that_is_not_active_yet_opens_and_does_not_seal(make: Make) -> None:
    """F7: a fleet learns it before the first token uses it."""
    old, start = new_key(), datetime.now(UTC) + timedelta(minutes=10)
    fresh = Key(new_key(), not_before=start)
    sealer, only_fresh, only_old = make([fresh, old]), make(Key(fresh.material())), make(old)
    before, after = _issued(start.timestamp() - 1), _issued(start.timestamp())

    assert only_old.open(sealer.seal(before, name="app"), name="app", now=NOW) == before
    assert only_fresh.open(sealer.seal(after, name="app"), name="app", now=NOW) == after
    assert sealer.open(only_fresh.seal(before, name="app"), name="app", now=NOW) == before

    token_old, token_fresh = only_old.seal(before, name="app"), only_fresh.seal(before, name="app")
    assert sealer.is_current(token_old)
    assert not sealer.is_current(token_fresh)
    assert not sealer.is_current(token_old, now=start.timestamp())
    assert sealer.is_current(token_fresh, now=start.timestamp())


def test_a_ring_without_an_active_key_is_refused(make: Make) -> None:
    """F10: at construction, not at the first login."""
    later = datetime.now(UTC) + timedelta(minutes=10)
    with pytest.raises(ConfigError, match="none is active yet"):
        make(Key(new_key(), not_before=later))


def test_a_clock_that_jumps_back_does_not_stop_the_sealer(make: Make) -> None:
    """X5: before every key's time, the one that is active the soonest seals."""
    first = Key(new_key(), not_before=datetime(2020, 1, 1, tzinfo=UTC))
    second = Key(new_key(), not_before=datetime(2021, 1, 1, tzinfo=UTC))
    claims = _issued(0.0)

    token = make([second, first]).seal(claims, name="app")
    assert make(Key(first.material())).open(token, name="app", now=NOW) == claims


@pytest.mark.parametrize("not_before", [datetime(2030, 1, 1), "2030-01-01", 7])  # noqa: DTZ001  naive on purpose
def test_a_naive_activation_time_is_refused(not_before: Any) -> None:
    """F10: nobody knows when that is."""
    with pytest.raises(ConfigError, match="not_before"):
        Key(new_key(), not_before=not_before)


def test_keys_can_be_exchanged_without_a_restart(make: Make) -> None:
    """F7: and a bad ring leaves the good one in use."""
    old, new = new_key(), new_key()
    sealer = make(old)
    token = sealer.seal(CLAIMS, name="app")
    assert sealer.is_current(token)

    sealer.reload([new, old])
    assert sealer.open(token, name="app", now=NOW) == CLAIMS
    assert not sealer.is_current(token)
    assert sealer.is_current(sealer.seal(CLAIMS, name="app"))

    with pytest.raises(ConfigError):
        sealer.reload("")
    assert sealer.open(token, name="app", now=NOW) == CLAIMS

    sealer.reload(new)
    assert sealer.open(token, name="app", now=NOW) is None


def test_reseal_is_an_option_that_overseers_can_read(make: Make) -> None:
    """F7: off by default."""
    assert make(new_key()).reseal is False
    assert make(new_key(), reseal=True).reseal is True


def test_a_sealer_says_what_it_can_by_its_type(make: Make) -> None:
    """F7, F8: a store asks what a token must have and which ones it replaces, and no sealer has to answer."""

    class Bare:
        needs_json = False

        def seal(self, claims: Claims, *, name: str) -> str:
            raise NotImplementedError

        def open(self, token: str, *, name: str, now: float) -> Claims | None:
            raise NotImplementedError

    def said(sealer: Sealer) -> list[bool]:
        return [isinstance(sealer, Expiring), isinstance(sealer, Resealing)]

    assert said(make(new_key())) == [False, True]
    assert said(JWTSealer(new_key())) == [True, True]
    assert said(Bare()) == [False, False]


def test_nothing_shows_a_key(make: Make) -> None:
    """V8: repr, vars, format, pickle, and what hangs on the sealer."""
    raw = os.urandom(32)
    key = Key(raw)
    sealer = make([key])
    sealer.seal(CLAIMS, name="app")

    shown = " ".join(
        [repr(key), str(key), f"{key}", repr([key]), repr(sealer), repr(KeyRing(key)), repr(sealer._bound)]
    )
    for secret in (raw.hex(), _base64url.encode(raw), repr(raw)):
        assert secret not in shown
    assert "Key(id=" in repr(sealer)
    for thing in (key, sealer):
        with pytest.raises(TypeError):
            vars(thing)
    for write_down in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            write_down(key)


@pytest.mark.parametrize("weak", ["{good} {short}", "{short}"])
def test_a_traceback_with_captured_locals_shows_no_key(make: Make, weak: str) -> None:
    """V8: error trackers record the locals of every frame."""
    raw = os.urandom(32)
    good, short = _base64url.encode(raw), _base64url.encode(os.urandom(20))

    def shown(error: BaseException) -> str:
        own_frame = error.__traceback__
        assert own_frame is not None
        error.__traceback__ = own_frame.tb_next  # this test's own locals
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())

    for construct in (make, KeyRing, Key):
        with pytest.raises(ConfigError) as caught:
            construct(weak.format(good=good, short=short))
        text = shown(caught.value)
        assert "ConfigError" in text
        assert good not in text
        assert short not in text
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    with pytest.raises(ConfigError, match="aware") as caught:
        Key(good, not_before=datetime(2030, 1, 1))  # noqa: DTZ001  naive: what is refused
    text = shown(caught.value)
    assert good not in text
    assert repr(raw) not in text


def test_the_claims_do_not_show_body_and_meta() -> None:
    """V8: the body may be the token itself; `rich` shows locals its own way."""
    claims = Claims(b"SECRET", True, "id", NOW, None, "ann", b"SECRET")
    for shown in (repr(claims), repr(claims.__rich_repr__())):
        assert "SECRET" not in shown
        assert "session_id" in shown
        assert "'id'" in shown


def test_hkdf_agrees_with_rfc_5869() -> None:
    """F8: appendix A.3 (no salt, no info), the first 32 bytes; one byte value is what the vector has."""
    key = Key(new_key())
    key._material = b"\x0b" * 22
    assert key.derive(b"").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


def test_a_key_says_when_it_starts_to_seal() -> None:
    """F7: unix seconds; always, if nothing was said."""
    assert Key(new_key()).not_before == -math.inf
    assert Key(new_key(), not_before=datetime(1970, 1, 2, tzinfo=UTC)).not_before == 86_400


@pytest.mark.parametrize("text", ["A", "AB", "AAB", "A=", "AA==", "A A", "A\n", "+/", "Ж", "A\x00AA", "\ud800"])
def test_base64url_has_one_spelling(text: str) -> None:
    """F6: spare bits, padding, white space and other alphabets are no text."""
    assert _base64url.decode(text) is None


@pytest.mark.parametrize("size", range(70))
def test_base64url_of_any_length_comes_back(size: int) -> None:
    """F6: without padding."""
    raw = os.urandom(size)
    text = _base64url.encode(raw)
    assert _base64url.decode(text) == raw
    assert text == base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _issued(at: float) -> Claims:
    return Claims(b"{}", False, "id", at, NOW + 60, "ann", b"meta")
