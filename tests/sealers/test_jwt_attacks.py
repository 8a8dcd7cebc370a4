"""Tokens that others have got past JWT libraries, and what foreign issuers may and may not write.

Most are signed with the right key: what is refused is what they say.
"""

import base64
import hashlib
import hmac
import json
import zlib
from typing import Any, ClassVar

import pytest
from joserfc import jwe, jwk

from aiosessions.sealers.jose import _Header
from aiosessions.sealers.jwt import JWTSealer
from aiosessions.sealers.sealer import Claims
from tests.sealers.jwt_keys import AUDIENCE, ISSUER, KINDS, NOW, PAIR, make, make_jwk, private, public

SECRET = bytes(range(100, 132))
HEADER = {"alg": "HS256", "typ": "aiosessions+jwt"}
MEMBERS: dict[str, Any] = {  # Any: JSON
    "aud": "app",
    "iat": int(NOW),
    "exp": int(NOW) + 60,
    "jti": "an-id",
    "sub": "ann",
    "session": {"cart": [1]},
}
LEEWAY = 30
OPENED = Claims(b'{"cart": [1]}', False, "an-id", NOW, NOW + 60 + LEEWAY, "ann", b"")


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(header: Any, payload: Any, secret: bytes = SECRET) -> str:  # Any: bytes, or what becomes JSON
    """HS256, with nothing but the standard library."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = ".".join(b64(part) for part in parts)
    return f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}"


def opened(token: str, **options: Any) -> Claims | None:  # Any: a sealer's options
    return JWTSealer(SECRET, **options).open(token, name="app", now=NOW)


def test_a_foreign_token_with_these_claims_is_accepted() -> None:
    """F11: or the refusals below would mean nothing."""
    assert opened(signed(HEADER, MEMBERS)) == OPENED
    assert opened(signed({**HEADER, "x5t": "AAAA", "x5t#S256": "AAAA"}, {**MEMBERS, "scope": "a", "n": 1.5})) == OPENED


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", " none", "HS256 ", "hs256", "HS384", "HS512", "dir"]
)
@pytest.mark.parametrize("signature", ["", "AAAA", None])
def test_another_algorithm_is_refused(alg: str, signature: str | None) -> None:
    """F11: `none` in all its spellings, and our own under another name."""
    token = signed({**HEADER, "alg": alg}, MEMBERS)
    assert opened(token if signature is None else token.rpartition(".")[0] + "." + signature) is None


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret(kind: str) -> None:
    """F11: HS256 with the public key as its secret, in every form that the public key is published in."""
    pair = make_jwk(kind)
    assert isinstance(pair, jwk.ECKey | jwk.OKPKey | jwk.RSAKey)
    sealer = make(kind, private(pair))
    members = {**MEMBERS, "iss": ISSUER, "aud": AUDIENCE}
    forms = [
        pair.as_pem(),
        pair.as_pem().strip(),
        pair.as_der(),
        public(pair).encode(),
        sealer.seal(OPENED, name="app").encode(),
    ]
    for secret in forms:
        for alg in ("HS256", kind):
            for kid in ({}, {"kid": pair.thumbprint()}):
                token = signed({**HEADER, "alg": alg, **kid}, members, secret)
                assert sealer.open(token, name="app", now=NOW) is None


@pytest.mark.parametrize(
    "member",
    [
        {"crit": []},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"jku": "https://attacker.example/keys"},
        {"jwk": {"kty": "oct", "k": b64(SECRET)}},
        {"x5u": "https://attacker.example/cert"},
        {"x5c": ["AAAA"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"epk": {"kty": "EC"}},
        {"enc": "A256GCM"},
        {"p2c": 1},
        {"unknown": 1},
        {"typ": "JWT"},
        {"typ": "aiosessions"},
        {"typ": None},
        {"typ": 1},
        {"kid": "../../etc/passwd"},
        {"kid": "' OR 1=1 --"},
        {"kid": ""},
        {"kid": 1},
        {"kid": None, "alg": None},
        {"alg": ["HS256"]},
        {"pad": "x" * 2000},
        {"pad": "x" * 1_000_000},
    ],
    ids=lambda member: str(member)[:40],
)
def test_a_header_that_says_more_or_otherwise_is_refused(member: dict[str, Any]) -> None:
    """F11: members that choose keys or methods, other types, other kids, and a megabyte."""
    assert opened(signed({**HEADER, **member}, MEMBERS)) is None


def test_a_token_of_another_type_can_be_allowed() -> None:
    """F11: `accept_typ`, in any case (RFC 7515 §4.1.9), and no other then."""
    token = signed({**HEADER, "typ": "at+JWT"}, MEMBERS)
    assert opened(token) is None
    assert opened(token, accept_typ=["JWT"]) is None
    assert opened(token, accept_typ=["JWT", "AT+jwt"]) == OPENED
    assert opened(signed({"alg": "HS256"}, MEMBERS), accept_typ=["JWT"]) is None


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{}",
        b"[]",
        b'"HS256"',
        b'{"alg":"HS256"',
        b'{"alg":"none","alg":"HS256","typ":"aiosessions+jwt"}',
        b'{"alg":"HS256","typ":"JWT","typ":"aiosessions+jwt"}',
        b'{"alg":"HS256","typ":"aiosessions+jwt","\xff":1}',
        b'\xef\xbb\xbf{"alg":"HS256","typ":"aiosessions+jwt"}',
        b'{"alg":"HS256","typ":"aiosessions+jwt"}{}',
        b"[" * 700,
    ],
)
def test_a_header_that_is_not_one_json_object_is_refused(header: bytes) -> None:
    """F11: also one that names a member twice, or is no UTF-8."""
    assert opened(signed(header, MEMBERS)) is None


NO_DATES: list[Any] = [NOW + 0.5, str(int(NOW)), None, True, -1, [], 10**40]  # Any: wrong values of every type

WRONG_CLAIMS: list[dict[str, Any]] = [  # Any: wrong values of every type
    *({missing: ...} for missing in ("aud", "iat", "exp", "jti", "session")),
    {"sid": "x" * 64},
    {"iss": ISSUER},
    {"aud": "App"},
    {"aud": []},
    {"aud": ["other"]},
    {"aud": ["app", 1]},
    {"aud": {"app": 1}},
    {"exp": int(NOW) - 30},
    {"nbf": int(NOW) + 31},
    *({name: value} for name in ("iat", "exp", "nbf") for value in NO_DATES),
    {"exp": 1e300},
    {"exp": "9" * 5000},
    {"jti": 1},
    {"jti": None},
    {"sub": 1},
    {"sub": None},
    {"sub": ["ann"]},
    {"session": ..., "sid": 1},
    {"aiosessions": None},
    {"aiosessions": "v1"},
    {"aiosessions": {}},
    {"aiosessions": {"v": 2}},
    {"aiosessions": {"v": "1"}},
    {"aiosessions": {"v": 1, "name": "admin"}},
    {"aiosessions": {"v": 1, "name": "app"}},
    {"aiosessions": {"v": 1, "meta": "a"}},
    {"aiosessions": {"v": 1, "meta": 1}},
]


@pytest.mark.parametrize("wrong", WRONG_CLAIMS, ids=lambda wrong: str(wrong)[:60])
def test_claims_that_are_missing_or_wrong_are_refused(wrong: dict[str, Any]) -> None:
    """F11: required ones, those for others, times outside the leeway, and values of another type."""
    members = {name: value for name, value in {**MEMBERS, **wrong}.items() if value is not ...}
    assert opened(signed(HEADER, members)) is None


@pytest.mark.parametrize(
    "right",
    [
        {"aud": ["other", "app"]},
        {"exp": int(NOW) - 29},
        {"nbf": int(NOW) + 30},
        {"aiosessions": {"v": 1}},
    ],
    ids=str,
)
def test_claims_within_the_rules_are_accepted(right: dict[str, Any]) -> None:
    """F11: the other side of each of those borders."""
    assert opened(signed(HEADER, {**MEMBERS, **right})) is not None


def test_leeway_is_for_the_clocks_of_others() -> None:
    """X5: a token of our own ends when it says."""
    late = {**MEMBERS, "exp": int(NOW) - 1}
    assert opened(signed(HEADER, late)) is not None
    assert opened(signed(HEADER, {**late, "aiosessions": {"v": 1}})) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"aud":"app","aud":"app","iat":1,"exp":9999999999,"jti":"a","session":1}',
        b'{"aud":"app","iat":1,"exp":1,"exp":9999999999,"jti":"a","session":1}',
        b'{"aud":"app","iat":1,"exp":9999999999,"jti":"a","session":{"a":1,"a":2}}',
        b'{"aud":"app","iat":1,"exp":9999999999,"jti":"a","session":"\xff"}',
        b'{"aud":"app","iat":1,"exp":9999999999,"jti":"a","session":NaN}',
        b'{"aud":"app","iat":1,"exp":9999999999,"jti":"a","session":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
    ids=lambda payload: repr(payload[:50]),
)
def test_a_payload_that_is_not_one_plain_json_object_is_refused(payload: bytes) -> None:
    """F11, F13: duplicate members, other encodings, and nesting without end."""
    assert opened(signed(HEADER, payload)) is None


def test_numbers_of_any_length_do_no_harm() -> None:
    """F13: the value is not ours to read; Python refuses to convert so many digits."""
    body = b"9" * 10_000
    token = signed(HEADER, b'{"aud":"app","iat":1,"exp":9999999999,"jti":"a","session":' + body + b"}")
    claims = opened(token)
    assert claims is not None
    assert claims.body == body


def test_a_nested_token_is_refused() -> None:
    """F11: neither one that says so nor one that is just there."""
    inner = signed(HEADER, MEMBERS)
    assert opened(signed({**HEADER, "cty": "JWT"}, inner.encode())) is None
    assert opened(signed(HEADER, inner.encode())) is None
    key = jwk.OctKey.import_key(SECRET)
    outer = {"alg": "A256KW", "enc": "A256GCM", "typ": "aiosessions+jwt"}
    assert opened(jwe.encrypt_compact({**outer, "cty": "JWT"}, inner, key), encrypt=True) is None
    assert opened(jwe.encrypt_compact(outer, inner, key), encrypt=True) is None


class TestEncrypted:
    """The same for JWE."""

    header: ClassVar = {"alg": "A256KW", "enc": "A256GCM", "typ": "aiosessions+jwt"}
    key = jwk.OctKey.import_key(SECRET)

    def encrypted(self, header: dict[str, Any], payload: Any = MEMBERS, key: Any = None) -> str:  # Any: JSON, a key
        registry = jwe.JWERegistry(algorithms=[header["alg"], header["enc"], "DEF"], strict_check_header=False)
        return jwe.encrypt_compact(header, json.dumps(payload), key or self.key, registry=registry)

    def test_a_foreign_token_is_accepted(self) -> None:
        """F11: or the refusals below would mean nothing."""
        assert opened(self.encrypted(self.header), encrypt=True) == OPENED

    @pytest.mark.parametrize(
        "member",
        [
            {"alg": "dir"},
            {"alg": "A256GCMKW"},
            {"enc": "A256CBC-HS512"},
            {"enc": "A128GCM"},
            {"zip": "DEF"},
            {"typ": "JWT"},
            {"kid": "other"},
            {"jku": "https://attacker.example/keys"},
        ],
        ids=str,
    )
    def test_another_method_is_refused(self, member: dict[str, Any]) -> None:
        """F11: the key's algorithm and A256GCM, and nothing compressed."""
        assert opened(self.encrypted({**self.header, **member}), encrypt=True) is None

    def test_a_decompression_bomb_is_refused_unopened(self) -> None:
        """F13: 10 MB of zeros in some kilobytes."""
        token = self.encrypted({**self.header, "zip": "DEF"}, "0" * 10_000_000)
        assert len(token) < 20_000
        assert opened(token, encrypt=True) is None
        assert opened(signed({**HEADER, "zip": "DEF"}, zlib.compress(bytes(10_000_000)))) is None

    def test_signed_and_encrypted_tokens_cannot_be_exchanged(self) -> None:
        """F11: neither for the other, also with the same secret."""
        assert opened(self.encrypted(self.header)) is None
        assert opened(signed(HEADER, MEMBERS), encrypt=True) is None
        assert opened(signed(HEADER, MEMBERS) + ".AAAA.AAAA", encrypt=True) is None

    def test_a_shortened_tag_is_refused(self) -> None:
        """F6: GCM with a tag of four bytes is guessed in hours."""
        head, wrapped, nonce, text, tag = self.encrypted(self.header).split(".")
        assert len(tag) == 22
        for size in (0, 6, 11, 16, 20):
            assert opened(".".join([head, wrapped, nonce, text, tag[:size]]), encrypt=True) is None

    @pytest.mark.parametrize("kind", ["ECDH P-256", "ECDH X25519"])
    @pytest.mark.parametrize(
        "epk",
        [
            None,
            1,
            [],
            {},
            {"kty": "EC"},
            {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
            {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
            {"kty": "EC", "crv": "P-521", "x": "A" * 88, "y": "A" * 88},
            {"kty": "EC", "crv": ["P-256"], "x": "A" * 43, "y": "A" * 43},
            {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
            {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43},
            {"kty": "OKP", "crv": "X448", "x": "A" * 75},
            {"kty": "oct", "k": "A" * 43},
            {"kty": "RSA", "n": "AAAA", "e": "AQAB"},
        ],
        ids=lambda epk: str(epk)[:40],
    )
    def test_a_false_ephemeral_key_is_refused(self, kind: str, epk: Any) -> None:
        """F11: points off the curve, of other curves, of small order, and what is no point at all."""
        sealer = make(kind, private(make_jwk(kind)))
        head, *rest = sealer.seal(OPENED, name="app").split(".")
        header = {**json.loads(base64.urlsafe_b64decode(head + "==")), "epk": epk}
        assert sealer.open(".".join([b64(json.dumps(header).encode()), *rest]), name="app", now=NOW) is None


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_part_has_one_spelling(kind: str) -> None:
    """F6: padding, spare bits, other alphabets and white space in any part."""
    sealer = make(kind, private(make_jwk(kind)))
    parts = sealer.seal(OPENED, name="app").split(".")
    for index, part in enumerate(parts):
        for other in (part + "=", part + "==", part + "\n", " " + part, part + "AAAA", part[:-1], ""):
            token = ".".join([*parts[:index], other, *parts[index + 1 :]])
            assert sealer.open(token, name="app", now=NOW) is None, (index, other[-8:])


class TestPublishedVectors:
    """RFC 7515, appendix A: tokens that others made, through the very code that opens ours."""

    payload = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
    hs256 = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    hs256_key: ClassVar = {
        "kty": "oct",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    }
    es256 = (
        "eyJhbGciOiJFUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    es256_key: ClassVar = {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
    }

    def test_hs256(self) -> None:
        """F11: RFC 7515 A.1. The token is old and has no `jti`: its signature is good, and it is refused."""
        sealer = JWTSealer(self.hs256_key, issuer="joe", accept_typ=["JWT"])
        assert sealer._ring.open(self.hs256, ["jwt"]) == self.payload
        assert sealer.open(self.hs256, name="app", now=1300819000.0) is None
        assert sealer._ring.open(self.hs256[:-1] + "A", ["jwt"]) is None

    def test_es256(self) -> None:
        """F11: RFC 7515 A.3. It has no `typ`, without which we open nothing: the key itself verifies it."""
        ring = JWTSealer(self.es256_key, algorithm="ES256", **PAIR)._ring
        assert ring.open(self.es256, ["jwt"]) is None
        header = _Header(alg="ES256", typ="")
        assert ring._keys[0].open(self.es256, header) == self.payload
        assert ring._keys[0].open(self.es256[:-3] + "AAQ", header) is None

    def test_the_thumbprint_is_the_kid(self) -> None:
        """F7: RFC 7638 §3.1."""
        key = {
            "kty": "RSA",
            "n": (
                "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc"
                "_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ"
                "R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bF"
                "TWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
            ),
            "e": "AQAB",
        }
        ring = JWTSealer(key, algorithm="RS256", **PAIR)._ring
        assert [key.kid for key in ring._keys] == ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"]

    def test_another_method_of_encryption(self) -> None:
        """F11: RFC 7516 A.3, whose A128KW and A128CBC-HS256 are not ours."""
        token = (
            "eyJhbGciOiJBMTI4S1ciLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0."
            "6KB707dM9YTIgHtLvtgWQ8mKwboJW3of9locizkDTHzBC2IlrT1oOQ."
            "AxY8DCtDaGlsbGljb3RoZQ."
            "KDlTtXchhZTGufMYmOYGS4HffxPSUrfmqCHXaI9wOGY."
            "U0m_YmjN04DJvceFICbCVQ"
        )
        sealer = JWTSealer(SECRET, encrypt=True)
        assert sealer.open(token, name="app", now=NOW) is None


def test_our_hmac_helper_is_what_the_rfc_calls_hs256() -> None:
    """F11: the attacks above are signed rightly."""
    key = base64.urlsafe_b64decode(TestPublishedVectors.hs256_key["k"] + "==")
    head, payload, signature = TestPublishedVectors.hs256.split(".")
    assert b64(hmac.new(key, f"{head}.{payload}".encode(), hashlib.sha256).digest()) == signature
