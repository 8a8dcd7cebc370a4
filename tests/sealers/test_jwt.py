"""JWTs: what they say, what is refused, and which keys they take."""

import base64
import json
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from joserfc import jwk
from msgspec.structs import replace

from aiosessions import CookieOverseer, MemoryStorer, StorageOverseer, Store
from aiosessions._errors import ConfigError, EncodeError, UnsupportedError
from aiosessions.sealers.jwt import JWTSealer
from aiosessions.sealers.keys import Key, new_key
from aiosessions.sealers.sealer import Claims, Sealer
from aiosessions.testing import Clock
from aiosessions.testing.suites_sealer import SealerSuite
from aiosessions.testing.suites_store import Visitor
from tests.sealers.jwt_keys import AUDIENCE, ISSUER, KINDS, NOW, PAIR, make, make_jwk, private, public

CLAIMS = Claims(b'{"cart":[1]}', False, "an-id", NOW, NOW + 60, "ann", b"meta")
PUBLIC_KINDS = ["ES256", "EdDSA", "RS256"]


class JWTSuite(SealerSuite):
    """SealerSuite for one kind of JWT."""

    kind = "HS256"
    never_expires = False
    resolution = 1.0

    def make_sealer(self, keys: Sequence[str]) -> JWTSealer:
        return make(self.kind, *keys)

    def make_next_version(self, keys: Sequence[str]) -> Sealer:
        return NextVersion(self.make_sealer(keys))

    def new_key(self) -> str:
        return private(make_jwk(self.kind))


class NextVersion:
    """A JWTSealer of the day when the private claim has another shape."""

    needs_json = True

    def __init__(self, sealer: JWTSealer) -> None:
        self._ring = sealer._ring
        self._sealer = sealer

    def seal(self, claims: Claims, *, name: str) -> str:
        members = self._members(self._sealer.seal(claims, name=name))
        members["aiosessions"]["v"] = 2
        return self._ring.sealing(claims.issued_at).seal(json.dumps(members).encode(), "aiosessions+jwt")

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        if self._members(token)["aiosessions"]["v"] != 2:
            return None
        return self._sealer.open(token, name=name, now=now)

    def _members(self, token: str) -> dict[str, Any]:  # Any: JSON
        payload = self._ring.open(token, ["aiosessions+jwt"])
        assert payload is not None
        members: dict[str, Any] = json.loads(payload)
        return members


class TestHS256(JWTSuite):
    def new_key(self) -> str:
        return new_key()


class TestHS512(JWTSuite):
    kind = "HS512"


class TestES256(JWTSuite):
    kind = "ES256"


class TestEdDSA(JWTSuite):
    kind = "EdDSA"


class TestRS256(JWTSuite):
    kind = "RS256"


class TestA256KW(JWTSuite):
    kind = "A256KW"


class TestECDHOnP256(JWTSuite):
    kind = "ECDH P-256"


class TestECDHOnX25519(JWTSuite):
    kind = "ECDH X25519"


def decoded(segment: str) -> Any:  # Any: JSON
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def test_the_token_says_what_the_standard_calls_it() -> None:
    """F11: registered names, the value as JSON, everything of ours in one private claim."""
    header, payload, _ = make("HS256", new_key()).seal(CLAIMS, name="shop:app").split(".")

    assert {**decoded(header), "kid": ""} == {"alg": "HS256", "typ": "aiosessions+jwt", "kid": ""}
    claims = decoded(payload)
    assert set(claims.pop("aiosessions")) == {"v", "meta", "nonce"}
    assert claims == {
        "aud": "shop:app",
        "iat": NOW,
        "exp": NOW + 60,
        "jti": "an-id",
        "sub": "ann",
        "session": {"cart": [1]},
    }


def test_a_reference_travels_as_sid_and_the_window_as_nbf_and_exp() -> None:
    """F11: claim `sid`; issuer and audience as configured."""
    window = {"valid_from": at(NOW - 5), "valid_until": at(NOW + 30)}
    sealer = make("HS256", new_key(), **PAIR, **window)
    token = sealer.seal(replace(CLAIMS, body=b"x" * 64, is_reference=True, user_id=None), name="app")

    claims = decoded(token.split(".")[1])
    assert claims["aiosessions"]["name"] == "app"
    del claims["aiosessions"]
    assert claims == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": NOW,
        "nbf": NOW - 5,
        "exp": NOW + 30,
        "jti": "an-id",
        "sid": "x" * 64,
    }


def test_dates_are_whole_seconds_and_no_token_ends_early() -> None:
    """F11: `iat` is rounded down, `exp` up."""
    sealer = make("HS256", new_key())
    token = sealer.seal(replace(CLAIMS, issued_at=NOW + 0.9, expires_at=NOW + 10.1), name="app")

    claims = decoded(token.split(".")[1])
    assert (claims["iat"], claims["exp"]) == (NOW, NOW + 11)
    assert isinstance(claims["exp"], int)
    assert sealer.open(token, name="app", now=NOW + 10.9) is not None


@pytest.mark.parametrize("kind", ["A256KW", "ECDH P-256", "ECDH X25519"])
def test_an_encrypted_token_shows_nothing(kind: str) -> None:
    """F5: five parts, and no claim in any of them."""
    claims = replace(CLAIMS, body=b'"SECRETSECRETSECRET"', user_id="SECRETSECRETSECRET")
    segments = make(kind, private(make_jwk(kind))).seal(claims, name="app").split(".")

    assert len(segments) == 5
    assert decoded(segments[0])["enc"] == "A256GCM"
    for segment in segments:
        assert b"SECRET" not in base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


class TestWhoIssuedItForWhom:
    """F11: `iss` and `aud`, and F8 where the audience is not the name."""

    key = new_key()

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ({}, {"issuer": ISSUER}),
            ({"issuer": ISSUER}, {}),
            ({"issuer": ISSUER}, {"issuer": ISSUER + "/"}),
            ({}, {"audience": AUDIENCE}),
            ({"audience": AUDIENCE}, {}),
            ({"audience": AUDIENCE}, {"audience": "https://other.example"}),
        ],
    )
    def test_a_token_of_another_issuer_or_audience_is_refused(self, ours: Any, theirs: Any) -> None:
        """F11."""
        token = make("HS256", self.key, **theirs).seal(CLAIMS, name="app")
        assert make("HS256", self.key, **theirs).open(token, name="app", now=NOW) is not None
        assert make("HS256", self.key, **ours).open(token, name="app", now=NOW) is None

    def test_two_sessions_of_one_audience_cannot_be_exchanged(self) -> None:
        """F8, R5: the name is in a claim of its own then."""
        sealer = make("HS256", self.key, audience=AUDIENCE)
        assert sealer.open(sealer.seal(CLAIMS, name="app"), name="admin", now=NOW) is None

    @pytest.mark.parametrize("options", [{}, {"issuer": ISSUER}, {"audience": AUDIENCE}])
    @pytest.mark.parametrize("kind", [*PUBLIC_KINDS, "ECDH P-256"])
    def test_key_pairs_need_both(self, kind: str, options: Any) -> None:
        """F11: at construction."""
        wanted = {"issuer": None, "audience": None, **options}
        with pytest.raises(ConfigError, match="issuer and audience"):
            make(kind, private(make_jwk(kind)), **wanted)


class TestTimes:
    """F11, X5: the window, the leeway, the cut-off."""

    key = new_key()

    def test_a_cut_off_ends_what_was_issued_before(self) -> None:
        """F11: `iat` before `not_issued_before`."""
        token = make("HS256", self.key).seal(CLAIMS, name="app")
        assert make("HS256", self.key, not_issued_before=at(NOW)).open(token, name="app", now=NOW) is not None
        assert make("HS256", self.key, not_issued_before=at(NOW + 1)).open(token, name="app", now=NOW) is None

    def test_a_token_is_not_valid_before_its_window(self) -> None:
        """F11: `nbf`; leeway is for the tokens of other issuers."""
        sealer = make("HS256", self.key, valid_from=at(NOW + 100))
        token = sealer.seal(replace(CLAIMS, expires_at=NOW + 900), name="app")
        for other in (sealer, make("HS256", self.key)):
            assert other.open(token, name="app", now=NOW + 99) is None
            assert other.open(token, name="app", now=NOW + 100) is not None

    @pytest.mark.parametrize(("valid_from", "starts"), [(None, NOW + 60), (NOW + 10, NOW + 60), (NOW + 90, NOW + 90)])
    def test_a_token_is_valid_from_an_age_of_its_session_on(self, valid_from: float | None, starts: float) -> None:
        """F11: `nbf` counts from the start or the login, not from a later issue; with `valid_from` the later counts."""
        window: Any = {} if valid_from is None else {"valid_from": at(valid_from)}  # Any: options of the sealer
        sealer = make("HS256", self.key, valid_after=timedelta(seconds=60), **window)
        claims = replace(CLAIMS, expires_at=NOW + 900, began_at=NOW)
        for issued_at in (NOW, NOW + 30, NOW + 200):
            token = sealer.seal(replace(claims, issued_at=issued_at), name="app")
            assert sealer.open(token, name="app", now=starts - 1) is None
            assert sealer.open(token, name="app", now=starts) is not None

    def test_no_token_outlives_the_window(self) -> None:
        """F11: neither ours nor one that was sealed before the window was set."""
        token = make("HS256", self.key).seal(replace(CLAIMS, expires_at=NOW + 900), name="app")
        sealer = make("HS256", self.key, valid_until=at(NOW + 60))
        assert sealer.open(token, name="app", now=NOW + 59) is not None
        assert sealer.open(token, name="app", now=NOW + 60) is None

        claims = replace(CLAIMS, expires_at=None)
        opened = sealer.open(sealer.seal(claims, name="app"), name="app", now=NOW)
        assert opened is not None
        assert opened.expires_at == NOW + 60

    def test_nothing_is_sealed_that_could_not_be_opened(self) -> None:
        """F8: an error now, and not a lost session on the next request."""
        with pytest.raises(UnsupportedError, match="valid_until has passed"):
            make("HS256", self.key, valid_until=at(NOW)).seal(CLAIMS, name="app")
        with pytest.raises(UnsupportedError, match="has to expire"):
            make("HS256", self.key).seal(replace(CLAIMS, expires_at=None), name="app")


class TestVerifyOnly:
    """A service that may read and not write."""

    @pytest.mark.parametrize("kind", PUBLIC_KINDS)
    def test_public_keys_open_and_do_not_seal(self, kind: str) -> None:
        """F1: UnsupportedError before anything is sent."""
        pair = make_jwk(kind)
        token = make(kind, private(pair)).seal(CLAIMS, name="app")
        reader = make(kind, public(pair))

        assert reader.open(token, name="app", now=NOW) == CLAIMS
        assert reader.is_current(token)
        with pytest.raises(UnsupportedError, match="public keys only"):
            reader.seal(CLAIMS, name="app")

    def test_a_private_key_behind_a_public_one_seals(self) -> None:
        """F7: the newest key that can."""
        theirs, ours = make_jwk("ES256"), make_jwk("ES256")
        sealer = make("ES256", public(theirs), private(ours))
        token = sealer.seal(CLAIMS, name="app")

        assert make("ES256", public(ours)).open(token, name="app", now=NOW) == CLAIMS
        assert sealer.is_current(token)
        assert not sealer.is_current(make("ES256", private(theirs)).seal(CLAIMS, name="app"))
        assert not sealer.is_current("nonsense")

    def test_a_public_key_cannot_read_what_is_encrypted(self) -> None:
        """F10: ConfigError."""
        with pytest.raises(ConfigError, match="give the private one"):
            make("ECDH P-256", public(make_jwk("ECDH P-256")))


class TestKeys:
    """Keys in all their forms."""

    @pytest.mark.parametrize("kind", list(KINDS))
    def test_a_jwk_may_be_text_bytes_mapping_or_set(self, kind: str) -> None:
        """F7: they all mean one key, and are found by one kid."""
        key = make_jwk(kind)
        token = make(kind, private(key)).seal(CLAIMS, name="app")
        document: dict[str, Any] = key.as_dict(private=True)  # Any: a JWK
        stranger = make_jwk(kind).as_dict(private=True)

        for form in (
            private(key).encode(),
            document,
            {"keys": [stranger, document]},
            json.dumps({"keys": [stranger, document]}),
            Key(private(key)),
            {**document, "use": "enc" if KINDS[kind].get("encrypt") else "sig", "ext": True},
        ):
            assert make(kind, form).open(token, name="app", now=NOW) == CLAIMS

    @pytest.mark.parametrize("kind", [*PUBLIC_KINDS, "ECDH P-256", "ECDH X25519"])
    def test_pem_is_a_key(self, kind: str) -> None:
        """F7: text and bytes; several in one text, newest first."""
        newer, older = make_jwk(kind), make_jwk(kind)
        assert isinstance(newer, jwk.ECKey | jwk.OKPKey | jwk.RSAKey)
        assert isinstance(older, jwk.ECKey | jwk.OKPKey | jwk.RSAKey)
        token = make(kind, private(older)).seal(CLAIMS, name="app")

        assert make(kind, older.as_pem(private=True)).open(token, name="app", now=NOW) == CLAIMS
        both = make(kind, f"{newer.as_pem(private=True).decode()}\n{older.as_pem(private=True).decode()}")
        assert both.open(token, name="app", now=NOW) == CLAIMS
        assert make(kind, private(newer)).open(both.seal(CLAIMS, name="app"), name="app", now=NOW) == CLAIMS

    def test_a_jwk_keeps_its_own_kid(self) -> None:
        """F7: verifiers find it in the set they were given."""
        document = {**make_jwk("ES256").as_dict(private=True), "kid": "2026-01"}
        sealer = make("ES256", document)
        token = sealer.seal(CLAIMS, name="app")

        assert decoded(token.split(".")[0])["kid"] == "2026-01"
        assert sealer.open(token, name="app", now=NOW) == CLAIMS

    def test_a_key_that_is_not_active_yet_opens_and_does_not_seal(self) -> None:
        """F7: a fleet learns it before the first token uses it."""
        old, fresh, start = new_key(), new_key(), datetime.now(UTC) + timedelta(minutes=10)
        sealer = JWTSealer([Key(fresh, not_before=start), old])
        before, after = at_time(start.timestamp() - 1), at_time(start.timestamp() + 1)

        assert make("HS256", old).open(sealer.seal(before, name="app"), name="app", now=NOW) is not None
        assert make("HS256", fresh).open(sealer.seal(after, name="app"), name="app", now=NOW) is not None
        assert sealer.open(make("HS256", fresh).seal(before, name="app"), name="app", now=NOW) is not None
        early = make("HS256", old).seal(before, name="app")
        assert sealer.is_current(early)
        assert not sealer.is_current(early, now=start.timestamp())

        with pytest.raises(ConfigError, match="none is active yet"):
            JWTSealer(Key(new_key(), not_before=start))

    def test_a_clock_that_jumps_back_does_not_stop_the_sealer(self) -> None:
        """X5: before every key's time, the one that is active the soonest seals."""
        first = Key(new_key(), not_before=datetime(2020, 1, 1, tzinfo=UTC))
        second = Key(new_key(), not_before=datetime(2021, 1, 1, tzinfo=UTC))
        token = JWTSealer([second, first]).seal(at_time(1.0), name="app")
        assert make("HS256", Key(first.material())).open(token, name="app", now=NOW) is not None

    def test_keys_can_be_exchanged_without_a_restart(self) -> None:
        """F7: and a bad ring leaves the good one in use."""
        old, new = new_key(), new_key()
        sealer = make("HS256", old, reseal=True)
        token = sealer.seal(CLAIMS, name="app")
        assert sealer.reseal is True
        assert sealer.is_current(token)

        sealer.reload([new, old])
        assert sealer.open(token, name="app", now=NOW) == CLAIMS
        assert not sealer.is_current(token)

        with pytest.raises(ConfigError):
            sealer.reload("")
        assert sealer.open(token, name="app", now=NOW) == CLAIMS

    REFUSED: ClassVar[dict[str, tuple[str, Callable[[], Any], str]]] = {  # Any: wrong keys of every kind
        "nothing": ("HS256", list, "empty"),
        "a short secret": ("HS256", lambda: b"x" * 31, "31 bytes"),
        "a weak JWK": ("HS256", lambda: {"kty": "oct", "k": "A" * 43}, "repeats"),
        "an empty JWK": ("HS256", lambda: {"kty": "oct", "k": ""}, "not readable"),
        "32 bytes for HS384": ("HS384", new_key, "needs 48"),
        "32 bytes for HS512": ("HS512", new_key, "needs 64"),
        "33 bytes for A256KW": ("A256KW", lambda: bytes(range(33)), "exactly 32"),
        "a public key as an HMAC secret": ("HS256", lambda: public(make_jwk("RS256")), "type RSA"),
        "the same in PEM": ("HS256", lambda: pem(make_jwk("RS256")), "type RSA"),
        "a secret for a key pair": ("ES256", new_key, "type oct"),
        "EC for RS256": ("RS256", lambda: private(make_jwk("ES256")), "try ES256"),
        "P-384 for ES256": ("ES256", lambda: jwk.ECKey.generate_key("P-384").as_dict(private=True), "P-384"),
        "X25519 for EdDSA": ("EdDSA", lambda: jwk.OKPKey.generate_key("X25519").as_dict(private=True), "X25519"),
        "Ed448 for EdDSA": ("EdDSA", lambda: jwk.OKPKey.generate_key("Ed448").as_dict(private=True), "Ed448"),
        "Ed25519 to encrypt": ("ECDH P-256", lambda: private(make_jwk("EdDSA")), "Ed25519"),
        "RSA to encrypt": ("ECDH P-256", lambda: private(make_jwk("RS256")), "cannot encrypt"),
        "secp256k1": ("ECDH P-256", lambda: jwk.ECKey.generate_key("secp256k1").as_dict(private=True), "secp256k1"),
        "RSA of 1024 bits": ("RS256", lambda: pem(small_rsa(), private=True), "1024 bits"),
        "PEM that is cut": ("ES256", lambda: pem(make_jwk("ES256"))[:80] + "\n-----END PUBLIC KEY-----", "readable"),
        "PEM without an end": ("ES256", lambda: pem(make_jwk("ES256"))[:80], "empty"),
        "another kty": ("ES256", lambda: {"kty": "AKP", "pub": "AAAA"}, "AKP"),
        "no kty": ("ES256", lambda: {"crv": "P-256"}, "None"),
        "a JWK without its members": ("ES256", lambda: {"kty": "EC", "crv": "P-256"}, "not readable"),
        "a JWK of numbers": ("ES256", lambda: {"kty": "EC", "crv": "P-256", "x": 1, "y": 2}, "not readable"),
        "a JWK for another algorithm": ("ES256", lambda: jwk_with("ES256", alg="ES384"), "another algorithm"),
        "a JWK for encryption": ("ES256", lambda: jwk_with("ES256", use="enc"), "not for signing"),
        "a JWK for signatures": ("ECDH P-256", lambda: jwk_with("ECDH P-256", use="sig"), "not for encrypting"),
        "a kid that is no text": ("ES256", lambda: jwk_with("ES256", kid=7), "kid of a JWK"),
        "an endless kid": ("ES256", lambda: jwk_with("ES256", kid="k" * 201), "kid of a JWK"),
        "one kid twice": ("ES256", lambda: [jwk_with("ES256", kid="k"), jwk_with("ES256", kid="k")], "kid of a key"),
        "a certificate": ("ES256", lambda: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "readable"),
    }

    @pytest.mark.parametrize(("kind", "keys", "message"), REFUSED.values(), ids=REFUSED)
    def test_a_key_that_does_not_fit_is_refused(self, kind: str, keys: Callable[[], Any], message: str) -> None:
        """F10, F11: at construction, naming the argument and the fix."""
        with pytest.raises(ConfigError, match=message) as caught:
            JWTSealer(keys(), **KINDS[kind])
        assert "keys" in str(caught.value)

    def test_pem_with_a_password_is_refused(self) -> None:
        """F10: it cannot be read, and says so."""
        text = jwk.ECKey.generate_key("P-256").as_pem(private=True, password="password").decode()
        with pytest.raises(ConfigError, match="without a password"):
            make("ES256", text)

    def test_nothing_shows_a_key(self) -> None:
        """V8: repr, and tracebacks with captured locals."""
        good, short = new_key(), base64.urlsafe_b64encode(bytes(range(20))).decode().rstrip("=")
        assert good not in repr(JWTSealer(good))
        with pytest.raises(TypeError):
            vars(JWTSealer(good))

        with pytest.raises(ConfigError) as caught:
            JWTSealer(f"{good} {short}")
        error: BaseException = caught.value
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert "JWTSealer(None)" in text
        assert good not in text
        assert short not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"issuer": ""}, "issuer"),
        ({"issuer": 7}, "issuer"),
        ({"audience": ""}, "audience"),
        ({"audience": ["a"]}, "audience"),
        ({"algorithm": "none"}, "algorithm='none'"),
        ({"algorithm": "HS1"}, "give one of HS256"),
        ({"algorithm": "ES256", "encrypt": True}, "leave it out"),
        ({"algorithm": "ECDH-ES+A256KW", "encrypt": True}, "cannot encrypt here"),
        ({"algorithm": "A256KW"}, "give one of"),
        ({"not_issued_before": datetime(2026, 1, 1)}, "not_issued_before"),  # noqa: DTZ001  naive on purpose
        ({"valid_from": 7}, "valid_from"),
        ({"valid_until": "2026"}, "valid_until"),
        ({"valid_from": datetime(2026, 1, 2, tzinfo=UTC), "valid_until": datetime(2026, 1, 1, tzinfo=UTC)}, "before"),
        ({"leeway": timedelta(seconds=-1)}, "leeway"),
        ({"leeway": 30}, "leeway"),
        ({"valid_after": timedelta(seconds=-1)}, "valid_after"),
        ({"valid_after": 60}, "valid_after"),
        ({"accept_typ": "JWT"}, "accept_typ"),
        ({"accept_typ": [""]}, "accept_typ"),
        ({"accept_typ": None}, "accept_typ"),
    ],
)
def test_a_wrong_argument_is_refused_at_construction(options: Any, message: str) -> None:
    """F10: ConfigError that names it."""
    with pytest.raises(ConfigError, match=message):
        JWTSealer(new_key(), **options)


def test_a_user_id_that_is_not_unicode_is_an_encode_error() -> None:
    """V9: and the error does not show it."""
    with pytest.raises(EncodeError, match="lone surrogate") as caught:
        make("HS256", new_key()).seal(replace(CLAIMS, user_id="ann\ud800"), name="app")
    assert caught.value.__suppress_context__


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def at_time(seconds: float) -> Claims:
    return replace(CLAIMS, issued_at=seconds)


def jwk_with(kind: str, **members: Any) -> dict[str, Any]:  # Any: a JWK's members, wrong ones too
    return {**make_jwk(kind).as_dict(private=True), **members}


def pem(key: Any, *, private: bool = False) -> str:  # Any: one of joserfc's three kinds of key pair
    text: bytes = key.as_pem(private=private)
    return text.decode()


def small_rsa() -> jwk.RSAKey:
    with pytest.warns(UserWarning, match="2048"):
        return jwk.RSAKey.generate_key(1024)


@pytest.mark.anyio
@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_login_begins_the_wait_anew(is_stored: bool) -> None:
    """F11: a token that is not valid yet opens nothing; whether a value or a reference is in it."""
    clock, visitor = Clock(NOW), Visitor()
    sealer = JWTSealer(new_key(), valid_after=timedelta(seconds=60))
    store: Store[dict[str, int]] = CookieOverseer(dict[str, int], sealer, clock=clock)
    if is_stored:
        store = StorageOverseer(dict[str, int], MemoryStorer(clock=clock), sealer=sealer, clock=clock)

    async def is_new(user_id: str | None = None) -> bool:
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            was_new = session.is_new
            if user_id is not None:
                session.set_user(user_id)
                await store.save(session, visit.response)
            return was_new

    assert await is_new("ann")
    for user_id in ("bob", None):
        clock.advance(59)
        assert await is_new()
        clock.advance(1)
        assert not await is_new(user_id)
