"""StarletteCookie and FlaskCookie against cookies that Starlette, Flask and Quart have set."""

import hashlib
import json
import time
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import TimestampSigner
from itsdangerous.encoding import base64_encode
from markupsafe import Markup
from starlette.datastructures import Secret

from aiosessions import ConfigError
from aiosessions.migration import FlaskCookie, Importer, StarletteCookie
from aiosessions.overseers.importer import NotImportedError, Theirs
from tests.migration.peers import Data, FlaskPeer, Peer, QuartPeer, StarlettePeer
from tests.migration.trees import JSON, TAGGED, json_trees, tagged_trees

SECRET = "sécret " * 3
DAY = 86_400.0
Case: TypeAlias = tuple[Callable[..., Peer], Callable[..., Importer[Data]], float]

CASES: list[Any] = [  # Any: pytest's parameter sets
    pytest.param((StarlettePeer, StarletteCookie, 14 * DAY), id="starlette"),
    pytest.param((FlaskPeer, FlaskCookie, 31 * DAY), id="flask"),
    pytest.param((QuartPeer, FlaskCookie, 31 * DAY), id="quart"),
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param
    return made


@pytest.fixture(params=CASES[1:])
def tagged_case(request: pytest.FixtureRequest) -> Case:
    """Those that Flask's format is of."""
    made: Case = request.param
    return made


def opened(importer: Importer[Data], cookie: str, *, now: float | None = None) -> Theirs:
    return importer.open(cookie, now=time.time() if now is None else now)


def data_of(importer: Importer[Data], cookie: str) -> Data:
    data = opened(importer, cookie).data
    assert data is not None
    return data


def refused(importer: Importer[Data], cookie: str, *, now: float | None = None) -> str:
    with pytest.raises(NotImportedError) as refusal:
        opened(importer, cookie, now=now)
    return refusal.value.reason


def assert_read_or_malformed(importer: Importer[Data], cookie: str) -> None:
    try:
        assert isinstance(opened(importer, cookie).data, dict)
    except NotImportedError:
        assert refused(importer, cookie) == "malformed"


def signed(secret: str, payload: bytes, *, flask: bool) -> str:
    """What only somebody with the secret can make, and their software does not."""
    salt, derivation = (b"cookie-session", "hmac") if flask else (None, None)
    signer = TimestampSigner(secret, salt=salt, key_derivation=derivation, digest_method=hashlib.sha1)
    return signer.sign(payload).decode()


class TestWhatTheyKeep:
    def test_each_kind_of_json_comes_as_they_read_it(self, case: Case) -> None:
        peer_of, importer_of, _ = case
        peer = peer_of(SECRET)
        cookie = peer.kept(JSON)
        assert data_of(importer_of(SECRET), cookie) == peer.read(cookie) == JSON

    @given(data=json_trees())
    def test_any_json_comes_as_starlette_reads_it(self, data: Data) -> None:
        peer = StarlettePeer(SECRET)
        assert data_of(StarletteCookie[Data](SECRET), peer.kept(data)) == data

    def test_what_is_tagged_comes_as_they_read_it(self, tagged_case: Case) -> None:
        peer_of, importer_of, _ = tagged_case
        peer = peer_of(SECRET)
        for name, value in TAGGED.items():
            cookie = peer.kept({name: value})
            theirs, ours = peer.read(cookie)[name], data_of(importer_of(SECRET), cookie)[name]
            assert ours == theirs
            assert type(ours) is (str if type(theirs) is Markup else type(theirs))
        cookie = peer.kept(TAGGED)
        assert data_of(importer_of(SECRET), cookie) == peer.read(cookie)

    @given(data=tagged_trees())
    def test_anything_comes_as_flask_reads_it(self, data: Data) -> None:
        peer = FlaskPeer(SECRET)
        cookie = peer.kept(data)
        expected = peer.read(cookie)
        expected.pop("_permanent", None)
        assert data_of(FlaskCookie[Data](SECRET), cookie) == expected

    def test_a_session_that_looks_like_a_tag_is_one(self, tagged_case: Case) -> None:
        peer_of, importer_of, _ = tagged_case
        assert data_of(importer_of(SECRET), peer_of(SECRET).kept({" t": [1]})) == {" t": [1]}

    def test_a_compressed_one_is_read(self, tagged_case: Case) -> None:
        peer_of, importer_of, _ = tagged_case
        data = {"many": ["the same"] * 5_000}
        cookie = peer_of(SECRET).kept(data)
        assert cookie.startswith(".")
        assert data_of(importer_of(SECRET), cookie) == data

    def test_their_own_keys_are_not_the_session_s(self, tagged_case: Case) -> None:
        peer_of, importer_of, _ = tagged_case
        cookie = peer_of(SECRET).kept({"a": 1, "_permanent": True}, ("message", "Hi"))
        assert data_of(importer_of(SECRET), cookie) == {"a": 1}

    def test_flashes_come_oldest_first(self, tagged_case: Case) -> None:
        peer_of, importer_of, _ = tagged_case
        cookie = peer_of(SECRET).kept({}, ("message", "Hello ✓"), ("error", "Bye"))
        theirs = opened(importer_of(SECRET), cookie)
        assert theirs.flashes == (("Hello ✓", "message"), ("Bye", "error"))
        assert theirs.data == {}

    def test_a_flash_that_is_no_text_reads_as_a_page_shows_it(self, tagged_case: Case) -> None:
        peer_of, importer_of, _ = tagged_case
        flashes: Any = [("message", Markup("<b>")), (None, {"a": 1})]  # Any: they take what is no text
        theirs = opened(importer_of(SECRET), peer_of(SECRET).kept({}, *flashes))
        assert theirs.flashes == (("<b>", "message"), ("{'a': 1}", "None"))
        assert type(theirs.flashes[0][0]) is str

    def test_an_empty_session_is_one(self) -> None:
        """They clear the cookie instead; older ones may have set it."""
        assert data_of(StarletteCookie[Data](SECRET), signed(SECRET, b64encode(b"{}"), flask=False)) == {}
        assert data_of(FlaskCookie[Data](SECRET), signed(SECRET, base64_encode(b"{}"), flask=True)) == {}


class TestSecrets:
    def test_each_of_a_list_opens(self, tagged_case: Case) -> None:
        """As with SECRET_KEY_FALLBACKS."""
        peer_of, importer_of, _ = tagged_case
        importer = importer_of(["new", b"old \xff", "older"])
        for secret in ("new", b"old \xff", "older"):
            assert data_of(importer, peer_of(secret).kept({"a": 1})) == {"a": 1}
        assert refused(importer, peer_of("other").kept({"a": 1})) == "forged"

    def test_one_that_flask_falls_back_to_opens_what_it_opens_there(self) -> None:
        cookie = FlaskPeer("old").kept({"a": 1})
        assert FlaskPeer("new", fallbacks=["old"]).read(cookie) == {"a": 1}
        assert data_of(FlaskCookie[Data](["new", "old"]), cookie) == {"a": 1}

    def test_starlette_s_secret_is_its_text(self) -> None:
        cookie = StarlettePeer(Secret(SECRET)).kept({"a": 1})
        assert data_of(StarletteCookie[Data](Secret(SECRET)), cookie) == {"a": 1}
        assert data_of(StarletteCookie[Data](SECRET), cookie) == {"a": 1}

    @pytest.mark.parametrize("secret", ["", b"bytes", None, 5, ["a"], Secret("")])
    def test_what_can_be_none_of_starlette_s_is_refused(self, secret: Any) -> None:
        with pytest.raises(ConfigError, match=r"^secret: "):
            StarletteCookie[Data](secret)

    @pytest.mark.parametrize("secret", ["", b"", [], ["a", ""], [b"", "a"], None, 5, ["a", 5]])
    def test_what_can_be_none_of_flask_s_is_refused(self, secret: Any) -> None:
        with pytest.raises(ConfigError, match=r"^secret: "):
            FlaskCookie[Data](secret)


class TestAge:
    def test_it_counts_from_the_signature(self, case: Case) -> None:
        peer_of, importer_of, max_age = case
        before = int(time.time())
        cookie = peer_of(SECRET).kept({"a": 1})
        after = int(time.time())
        ends_at = opened(importer_of(SECRET), cookie).ends_at
        assert ends_at is not None
        assert before + max_age <= ends_at <= after + max_age
        assert opened(importer_of(SECRET), cookie, now=ends_at - 1).data == {"a": 1}
        assert refused(importer_of(SECRET), cookie, now=ends_at) == "expired"
        assert refused(importer_of(SECRET), cookie, now=ends_at + 1000 * DAY) == "expired"

    def test_they_end_it_within_the_same_second(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        peer_of, importer_of, _ = case
        peer = peer_of(SECRET)
        cookie = peer.kept({"a": 1})
        ends_at = opened(importer_of(SECRET), cookie).ends_at
        assert ends_at is not None
        now = int(ends_at) - 1
        monkeypatch.setattr(TimestampSigner, "get_timestamp", property(lambda _: lambda: now))
        assert peer.read(cookie) == {"a": 1}
        now = int(ends_at) + 1
        assert peer.read(cookie) == {}

    def test_max_age_is_the_application_s(self, case: Case) -> None:
        peer_of, importer_of, _ = case
        cookie = peer_of(SECRET).kept({"a": 1})
        short = importer_of(SECRET, max_age=timedelta(minutes=1))
        now = time.time()
        assert opened(short, cookie, now=now + 50).data == {"a": 1}
        assert refused(short, cookie, now=now + 61) == "expired"

    def test_without_one_any_age_will_do(self, case: Case) -> None:
        peer_of, importer_of, _ = case
        cookie = peer_of(SECRET).kept({"a": 1})
        theirs = opened(importer_of(SECRET, max_age=None), cookie, now=time.time() + 10_000 * DAY)
        assert (theirs.data, theirs.ends_at) == ({"a": 1}, None)

    def test_a_signature_of_the_future_counts_for_nothing(self, case: Case) -> None:
        """But for a minute, which clocks may be apart."""
        peer_of, importer_of, _ = case
        cookie = peer_of(SECRET).kept({"a": 1})
        now = time.time()
        assert opened(importer_of(SECRET), cookie, now=now - 50).data == {"a": 1}
        assert refused(importer_of(SECRET), cookie, now=now - 70) == "expired"


class TestForged:
    def test_no_character_can_be_changed(self, case: Case) -> None:
        """The last one of the signature has bits to spare, which itsdangerous does not look at."""
        peer_of, importer_of, _ = case
        importer = importer_of(SECRET)
        cookie = peer_of(SECRET).kept({"user": "ann"})
        for place in range(len(cookie)):
            for other in {"A", "B", "w", "-", "=", ".", "\n", chr(ord(cookie[place]) ^ 1)} - {cookie[place]}:
                assert refused(importer, cookie[:place] + other + cookie[place + 1 :]) == "forged"

    def test_nothing_can_be_added_or_left_out(self, case: Case) -> None:
        peer_of, importer_of, _ = case
        importer = importer_of(SECRET)
        cookie = peer_of(SECRET).kept({"user": "ann"})
        changed = [cookie[:length] for length in range(len(cookie))]
        changed += [cookie[:place] + "!" + cookie[place:] for place in range(len(cookie) + 1)]
        changed += [
            cookie + cookie,
            cookie + "=",
            cookie + ".",
            "." + cookie,
            f'"{cookie}"',
            cookie + "é",
            "\ud800" + cookie,
        ]
        for text in changed:
            assert refused(importer, text) == "forged"

    def test_another_secret_or_another_kind_is_no_signature(self, case: Case) -> None:
        peer_of, importer_of, _ = case
        cookie = peer_of(SECRET).kept({"user": "ann"})
        assert refused(importer_of("another"), cookie) == "forged"
        other = FlaskCookie[Data] if importer_of is StarletteCookie else StarletteCookie[Data]
        assert refused(other(SECRET), cookie) == "forged"

    def test_what_no_cookie_can_be_is_not_looked_at(self, case: Case) -> None:
        _, importer_of, _ = case
        payload = b64encode(json.dumps({"a": "x" * 16_384}).encode())
        assert refused(importer_of(SECRET), signed(SECRET, payload, flask=importer_of is FlaskCookie)) == "forged"

    @settings(max_examples=300)
    @given(text=st.text() | st.text("AZaz09-_.=+/", max_size=100) | st.binary().map(lambda raw: raw.decode("latin-1")))
    def test_garbage_is_nothing_but_forged(self, text: str) -> None:
        assert refused(StarletteCookie[Data](SECRET), text) == "forged"
        assert refused(FlaskCookie[Data](SECRET), text) == "forged"


class TestMalformed:
    """Signed with their secret, by something else."""

    @pytest.mark.parametrize(
        "document", [b"", b"[]", b"1", b"null", b'"a"', b"{", b"\xff\xfe\xfd", b'{"a":' + b"9" * 5000]
    )
    def test_what_is_no_json_object(self, document: bytes) -> None:
        in_base64 = base64_encode(document)
        assert refused(StarletteCookie[Data](SECRET), signed(SECRET, b64encode(document), flask=False)) == "malformed"
        assert refused(FlaskCookie[Data](SECRET), signed(SECRET, in_base64, flask=True)) == "malformed"

    @pytest.mark.parametrize(
        "payload", [b"A", b"\xff", b".", b".AAAA", b"." + base64_encode(zlib.compress(b"{}")[:-1])]
    )
    def test_what_is_no_base64_or_does_not_decompress(self, payload: bytes) -> None:
        importer: Importer[Data] = FlaskCookie(SECRET)
        assert refused(importer, signed(SECRET, b"".join(payload.split(b"\xff")) or b"A", flask=True)) == "malformed"
        assert refused(StarletteCookie[Data](SECRET), signed(SECRET, b"A", flask=False)) == "malformed"

    @pytest.mark.parametrize("depth", [900, 1_500, 5_900])
    def test_what_is_nested_too_deep(self, depth: int) -> None:
        """How deep that is, is Python's to say."""
        document = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        assert_read_or_malformed(StarletteCookie(SECRET), signed(SECRET, b64encode(document), flask=False))
        packed = b"." + base64_encode(zlib.compress(b'{"a":' * 40_000 + b"1" + b"}" * 40_000))
        assert_read_or_malformed(FlaskCookie(SECRET), signed(SECRET, packed, flask=True))

    def test_a_bomb_does_not_go_off(self) -> None:
        """10 MB in 14 kB: a quarter of a megabyte of it is read."""
        bomb = zlib.compress(b'{"a":"' + b"x" * 10_000_000 + b'"}', 9)
        assert refused(FlaskCookie[Data](SECRET), signed(SECRET, b"." + base64_encode(bomb), flask=True)) == "malformed"
        almost = zlib.compress(b'{"a":"' + b"x" * 262_000 + b'"}')
        cookie = signed(SECRET, b"." + base64_encode(almost), flask=True)
        assert data_of(FlaskCookie[Data](SECRET), cookie) == {"a": "x" * 262_000}

    @pytest.mark.parametrize(
        "document",
        [
            {" t": [1]},
            {"a": {" t": 5}},
            {"a": {" b": "é"}},
            {"a": {" b": 5}},
            {"a": {" u": "no"}},
            {"a": {" u": 5}},
            {"a": {" u": None}},
            {"a": {" d": "yesterday"}},
            {"a": {" d": 5}},
            {"a": {" d": None}},
            {"a": {" di": 5}},
            {"a": {" di": {}}},
            {"_flashes": 5},
            {"_flashes": [5]},
            {"_flashes": ["abc"]},
            {"_flashes": [["a", "b", "c"]]},
        ],
    )
    def test_tags_and_flashes_that_flask_does_not_make(self, document: Data) -> None:
        payload = base64_encode(json.dumps(document))
        assert refused(FlaskCookie[Data](SECRET), signed(SECRET, payload, flask=True)) == "malformed"

    def test_a_time_that_is_none(self) -> None:
        """Of the year 285 billion."""
        signer = TimestampSigner(SECRET)
        signer.get_timestamp = lambda: 2**63  # type: ignore[method-assign]
        cookie = signer.sign(b64encode(b"{}")).decode()
        assert refused(StarletteCookie[Data](SECRET), cookie) == "malformed"

    @settings(max_examples=300)
    @given(document=st.binary() | json_trees().map(lambda tree: json.dumps(tree).encode()))
    def test_nothing_else_comes_out(self, document: bytes) -> None:
        packed = base64_encode(document), b"." + base64_encode(zlib.compress(document))
        cookies = [signed(SECRET, payload, flask=True) for payload in (*packed, b"." + packed[0])]
        for cookie in cookies:
            assert_read_or_malformed(FlaskCookie(SECRET), cookie)
        assert_read_or_malformed(StarletteCookie(SECRET), signed(SECRET, b64encode(document), flask=False))


def test_a_uuid_and_a_date_are_what_flask_has() -> None:
    """Not what they look like in JSON."""
    data = data_of(FlaskCookie[Data](SECRET), FlaskPeer(SECRET).kept(TAGGED))
    assert data["uuid"] == UUID("12345678-1234-5678-1234-567812345678")
    assert data["there"].utcoffset() == timedelta(0)
    assert data["there"].timestamp() == TAGGED["there"].timestamp()
