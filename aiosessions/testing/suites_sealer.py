"""What every sealer promises, as a pytest class to inherit.

A sealer's tests say how one is made of keys, newest first:

    class TestMySealer(SealerSuite):
        def make_sealer(self, keys: Sequence[str]) -> MySealer:
            return MySealer(keys)

Keys are made by `new_key()` of the suite; override it for other keys than 256 bits of base64url text.
"""

import string
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from aiosessions._errors import ConfigError, UnsupportedError
from aiosessions.sealers import keys as key_ring
from aiosessions.sealers.sealer import Claims, Expiring, Resealing, Sealer

__all__ = ["SealerSuite"]

_NOW = 1_800_000_000.0
_NAME = "shop:app"
_ALPHABET = string.ascii_letters + string.digits + "-_"
_COOKIE_OCTETS = frozenset(chr(code) for code in range(0x21, 0x7F)) - frozenset('",;\\')
_REFERENCE = (_ALPHABET * 2)[:64]

_CLAIMS = Claims(
    body=b'{"cart":[1,2,3],"note":"h\xc3\xa9llo"}',
    is_reference=False,
    session_id="Zm9vYmFyYmF6cXV1eHh5eg",
    issued_at=_NOW,
    expires_at=_NOW + 3600,
    user_id="ann",
    meta=b"\x00\xff meta",
)

_SHAPES = {
    "a document": _CLAIMS,
    "an empty document": replace(_CLAIMS, body=b"{}"),
    "a text": replace(_CLAIMS, body=b'"\\u0000 \xf0\x9f\x8d\xb0"'),
    "numbers as they are written": replace(_CLAIMS, body=b"[-0.0,1e400,12345678901234567890123456789,1.10]"),
    "a large document": replace(_CLAIMS, body=b"[" + b"1," * 50_000 + b"1]"),
    "a reference": replace(_CLAIMS, body=_REFERENCE.encode(), is_reference=True),
    "nobody": replace(_CLAIMS, user_id=None),
    "a user of another script": replace(_CLAIMS, user_id="Ж\x01 \U0001f370"),
    "no meta": replace(_CLAIMS, meta=b""),
    "every byte in meta": replace(_CLAIMS, meta=bytes(range(256))),
    "fractions of a second": replace(_CLAIMS, issued_at=_NOW + 0.25, expires_at=_NOW + 10.75),
}

_GARBAGE = {
    "nothing": "",
    "a dot": ".",
    "dots": "." * 1000,
    "a space": " ",
    "NUL": "\x00",
    "a line break": "\r\n",
    "zeros": "A" * 100,
    "three parts": "AAAAAAAA.AAAA.AAAA",
    "a path": "../../../etc/passwd",
    "JSON": '{"alg":"none"}',
    "another script": "Ж" * 64,
    "digits that are not ASCII": "\u0661" * 64,
    "a lone surrogate": "\ud800" * 64,
    "a megabyte": "A" * 1_000_000,
    "a megabyte of parts": "A." * 500_000,
    "an empty JWT": "e30.e30.",
}


class SealerSuite:
    """The promises of a Sealer (CONTRACT F6 to F9)."""

    never_expires: ClassVar[bool] = True
    """Whether claims without `expires_at` can be sealed."""

    resolution: ClassVar[float] = 0.0
    """By how much, in seconds, times may come back rounded: never to an earlier expiry."""

    def make_sealer(self, keys: Sequence[Any]) -> Sealer:  # Any: what `new_key` makes
        """A sealer with these keys, newest first."""
        raise NotImplementedError(f"{type(self).__name__} has to say how its sealer is made: make_sealer(self, keys)")

    def make_next_version(self, keys: Sequence[Any]) -> Sealer | None:  # Any: what `new_key` makes
        """The same as the next version of the token format would be; None: not tested."""
        del keys
        return None

    def new_key(self) -> Any:  # Any: what this sealer takes as a key
        """A new key."""
        return key_ring.new_key()

    @pytest.fixture
    def key(self) -> Any:  # Any: what `new_key` makes
        return self.new_key()

    @pytest.fixture
    def sealer(self, key: Any) -> Sealer:  # Any: what `new_key` makes
        return self.make_sealer([key])

    @pytest.fixture
    def token(self, sealer: Sealer) -> str:
        return sealer.seal(_CLAIMS, name=_NAME)

    @pytest.mark.parametrize("claims", _SHAPES.values(), ids=_SHAPES)
    def test_what_is_sealed_comes_back(self, sealer: Sealer, claims: Claims) -> None:
        """F6: the claims, byte for byte; the times as exact as the format is."""
        opened = sealer.open(sealer.seal(claims, name=_NAME), name=_NAME, now=_NOW)

        assert opened is not None, "open() refuses what seal() of the same sealer made"
        assert opened.expires_at is not None, "the token lost its expiry"
        assert claims.expires_at is not None
        assert 0 <= opened.expires_at - claims.expires_at <= self.resolution, "the expiry was rounded by too much"
        assert 0 <= claims.issued_at - opened.issued_at <= self.resolution, "the time of issue was rounded by too much"
        exact = replace(opened, issued_at=claims.issued_at, expires_at=claims.expires_at)
        for field in ("body", "is_reference", "session_id", "user_id", "meta"):
            assert getattr(exact, field) == getattr(claims, field), f"{field} did not come back as it was sealed"

    def test_a_token_that_never_expires_is_one_or_is_refused_at_once(self, sealer: Sealer) -> None:
        """F8: no expiry is no expiry, or an error of ours; never a guess."""
        claims = replace(_CLAIMS, expires_at=None)
        if not self.never_expires:
            with pytest.raises((UnsupportedError, ConfigError)):
                sealer.seal(claims, name=_NAME)
            assert isinstance(sealer, Expiring), "no store can know: say `needs_expiry = True`"
            assert sealer.needs_expiry, "it says that it seals what never ends"
            return

        opened = sealer.open(sealer.seal(claims, name=_NAME), name=_NAME, now=_NOW * 2)
        assert opened == claims, "claims without expiry did not come back"

    def test_a_token_can_stand_in_a_cookie_and_a_header(self, token: str) -> None:
        """F12: cookie-octets only (RFC 6265 §4.1.1)."""
        assert set(token) <= _COOKIE_OCTETS, f"not cookie-octets: {sorted(set(token) - _COOKIE_OCTETS)}"

    def test_a_changed_character_is_refused(self, sealer: Sealer, token: str) -> None:
        """F6: each character of the token, changed by its lowest bit, by more, and to one that is in no alphabet."""
        for index, character in enumerate(token):
            place = _ALPHABET.find(character)
            for other in (_ALPHABET[place ^ 1], _ALPHABET[place ^ 16 if place >= 0 else 0], "=", "+", "Ж"):
                forged = token[:index] + other + token[index + 1 :]
                opened = sealer.open(forged, name=_NAME, now=_NOW)
                assert opened is None, f"accepted with character {index} of {len(token)} changed to {other!r}"

    def test_a_token_with_a_character_put_in_is_refused(self, sealer: Sealer, token: str) -> None:
        """F6: anywhere."""
        for index in range(len(token) + 1):
            forged = f"{token[:index]}A{token[index:]}"
            assert sealer.open(forged, name=_NAME, now=_NOW) is None, f"accepted with a character put in at {index}"

    def test_a_token_cut_short_is_refused(self, sealer: Sealer, token: str) -> None:
        """F6: each prefix, each suffix, and each token with one character left out."""
        for index in range(len(token)):
            assert sealer.open(token[:index], name=_NAME, now=_NOW) is None, f"accepted, cut to {index} characters"
            assert sealer.open(token[index + 1 :], name=_NAME, now=_NOW) is None, f"accepted without its first {index}"
            left_out = token[:index] + token[index + 1 :]
            assert sealer.open(left_out, name=_NAME, now=_NOW) is None, f"accepted without character {index}"

    @pytest.mark.parametrize("more", ["A", "=", "==", ".", ".A", " ", "\n", "\x00", "AAAA", "Ж"])
    def test_a_token_with_more_is_refused(self, sealer: Sealer, token: str, more: str) -> None:
        """F6: a token has one spelling."""
        assert sealer.open(token + more, name=_NAME, now=_NOW) is None, f"accepted with {more!r} behind"
        assert sealer.open(more + token, name=_NAME, now=_NOW) is None, f"accepted with {more!r} in front"

    @pytest.mark.parametrize("text", _GARBAGE.values(), ids=_GARBAGE)
    def test_what_is_no_token_is_refused_without_an_error(self, sealer: Sealer, text: str) -> None:
        """F1, R6: anything a client may send."""
        assert sealer.open(text, name=_NAME, now=_NOW) is None

    @pytest.mark.parametrize(
        "name", ["shop:App", "shop:ap", "shop:appp", "shop:", "app", "shoq:app", ":app", "shop", ""]
    )
    def test_a_token_is_worthless_under_another_name_or_namespace(self, sealer: Sealer, token: str, name: str) -> None:
        """F8, R5."""
        assert sealer.open(token, name=name, now=_NOW) is None, f"sealed for {_NAME!r} and accepted for {name!r}"

    def test_a_token_is_worthless_under_another_key(self, token: str) -> None:
        """F1: what no key of the ring made."""
        assert self.make_sealer([self.new_key()]).open(token, name=_NAME, now=_NOW) is None

    def test_a_token_of_another_format_version_is_refused(self, key: Any, sealer: Sealer, token: str) -> None:
        """F8: in both directions."""
        following = self.make_next_version([key])
        if following is None:
            pytest.skip("this sealer does not say what its next version would be: make_next_version(self, keys)")
        assert sealer.open(following.seal(_CLAIMS, name=_NAME), name=_NAME, now=_NOW) is None
        assert following.open(token, name=_NAME, now=_NOW) is None

    def test_a_token_ends_at_its_expiry(self, sealer: Sealer, token: str) -> None:
        """F8: it is valid before that moment, and neither at it nor after it."""
        assert _CLAIMS.expires_at is not None
        assert sealer.open(token, name=_NAME, now=_CLAIMS.expires_at - 0.001) is not None, "refused before its expiry"
        for late in (0.0, 0.001, 1.0, 1e6):
            opened = sealer.open(token, name=_NAME, now=_CLAIMS.expires_at + late)
            assert opened is None, f"accepted {late} s after its expiry"

    def test_equal_claims_seal_to_different_tokens(self, sealer: Sealer) -> None:
        """F9: nobody can tell that two sessions hold the same."""
        tokens = {sealer.seal(_CLAIMS, name=_NAME) for _ in range(100)}
        assert len(tokens) == 100, f"100 equal claims gave {len(tokens)} tokens"

    def test_a_new_key_seals_and_the_old_one_still_opens(self, key: Any, token: str) -> None:
        """F7: rotation logs nobody out."""
        newer = self.new_key()
        both, only_new = self.make_sealer([newer, key]), self.make_sealer([newer])

        assert both.open(token, name=_NAME, now=_NOW) is not None, "a token under the older key of the ring was refused"
        fresh = both.seal(_CLAIMS, name=_NAME)
        assert only_new.open(fresh, name=_NAME, now=_NOW) is not None, "the first key of the ring did not seal"
        assert self.make_sealer([key]).open(fresh, name=_NAME, now=_NOW) is None, (
            "an old key opens what a new one sealed"
        )

    def test_a_resealing_sealer_knows_which_tokens_are_under_an_older_key(
        self, key: Any, sealer: Sealer, token: str
    ) -> None:
        """F7: a store replaces those, when it is to."""
        if not isinstance(sealer, Resealing):
            pytest.skip("this sealer does not say which of its tokens are under an older key: Resealing")
        assert sealer.is_current(token), "a token under the only key is taken for an old one"

        both = self.make_sealer([self.new_key(), key])
        assert isinstance(both, Resealing)
        assert not both.is_current(token), "a token under the older key is taken for a new one"
        assert both.is_current(both.seal(_CLAIMS, name=_NAME)), "its own newest token is taken for an old one"

    def test_a_removed_key_opens_nothing(self, token: str) -> None:
        """F7: its tokens are just new sessions."""
        assert self.make_sealer([self.new_key(), self.new_key()]).open(token, name=_NAME, now=_NOW) is None

    def test_a_sealer_does_not_show_its_keys(self, key: Any, sealer: Sealer) -> None:
        """V8: reprs end up in logs."""
        assert str(key) not in repr(sealer), "repr() shows the key"
