"""AiohttpCookie against cookies that aiohttp-session has set."""

import json
import os
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from aiohttp_session import AbstractStorage, Session
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.nacl_storage import NaClCookieStorage
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.secret import SecretBox

from aiosessions import ConfigError
from aiosessions.migration import AiohttpCookie
from aiosessions.overseers.importer import NotImportedError, Theirs
from tests.migration.peers import Data, aiohttp_cookie, value_of
from tests.migration.trees import JSON, json_trees

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")  # aiohttp-session's own

KEY = bytes(range(32))
TEXT = urlsafe_b64encode(KEY).decode()
DAY = timedelta(days=1)
MAKE: dict[str, Callable[[bytes], str]] = {
    "fernet": lambda plain: Fernet(TEXT).encrypt(plain).decode(),
    "nacl": lambda plain: b64encode(SecretBox(KEY).encrypt(plain)).decode(),
}
"""What only somebody with the key can make."""


@pytest.fixture(params=[EncryptedCookieStorage, NaClCookieStorage], ids=["fernet", "nacl"])
def storage_of(request: pytest.FixtureRequest) -> Callable[..., AbstractStorage]:
    made: Callable[..., AbstractStorage] = request.param
    return made


@pytest.fixture(params=list(MAKE))
def made(request: pytest.FixtureRequest) -> Callable[[bytes], str]:
    return MAKE[request.param]


def opened(cookie: str, *, now: float | None = None, **options: Any) -> Theirs:  # Any: the importer's own
    importer: AiohttpCookie[Data] = AiohttpCookie(KEY, **options)
    return importer.open(cookie, now=time.time() if now is None else now)


def refused(cookie: str, *, now: float | None = None, **options: Any) -> str:  # Any: likewise
    with pytest.raises(NotImportedError) as refusal:
        opened(cookie, now=now, **options)
    return refusal.value.reason


def assert_read_or_malformed(cookie: str, **options: Any) -> None:  # Any: likewise
    try:
        assert isinstance(opened(cookie, **options).data, dict)
    except NotImportedError:
        assert refused(cookie, **options) == "malformed"


class TestWhatTheyKeep:
    def test_each_kind_of_json_comes_as_they_read_it(self, storage_of: Callable[..., AbstractStorage]) -> None:
        data = {name: value for name, value in JSON.items() if name != "text"} | {"text": 'Zoë 東京 \U0001f600 " ; \\'}
        said = aiohttp_cookie(storage_of(KEY), data)
        assert said.startswith("AIOHTTP_SESSION=")
        assert opened(value_of(said)) == Theirs(data)

    @given(data=json_trees())
    def test_any_json_does(self, data: Data) -> None:
        session = Session(None, data=None, new=True)
        session.update(data)
        envelope = json.dumps(EncryptedCookieStorage(KEY)._get_session_data(session)).encode()
        for make in MAKE.values():
            assert opened(make(envelope)).data == data

    def test_some_come_in_quotes(self, storage_of: Callable[..., AbstractStorage]) -> None:
        """What has "=" or "/" in it; the store takes them away."""
        said = {length: aiohttp_cookie(storage_of(KEY), {"a": "x" * length}) for length in range(16)}
        assert any(each.startswith('AIOHTTP_SESSION="') for each in said.values())
        for length, each in said.items():
            assert opened(value_of(each)).data == {"a": "x" * length}


class TestKeys:
    @pytest.mark.parametrize(
        "key", [KEY, bytearray(KEY), TEXT, Fernet(TEXT)], ids=["bytes", "bytearray", "str", "Fernet"]
    )
    def test_each_kind_that_their_storage_takes_is_taken(self, key: Any) -> None:
        cookie = value_of(aiohttp_cookie(EncryptedCookieStorage(key), {"a": 1}))
        importer: AiohttpCookie[Data] = AiohttpCookie(key)
        assert importer.open(cookie, now=time.time()).data == {"a": 1}

    @pytest.mark.parametrize("key", [KEY, bytearray(KEY)], ids=["bytes", "bytearray"])
    def test_bytes_open_both(self, key: bytes | bytearray) -> None:
        importer: AiohttpCookie[Data] = AiohttpCookie(key)
        for make in MAKE.values():
            assert importer.open(make(b'{"created": 1, "session": {"a": 1}}'), now=2).data == {"a": 1}

    def test_a_text_is_fernet_s(self) -> None:
        """NaClCookieStorage takes bytes only."""
        with pytest.raises(TypeError):
            NaClCookieStorage(cast("Any", TEXT))
        importer: AiohttpCookie[Data] = AiohttpCookie(TEXT)
        with pytest.raises(NotImportedError, match="forged"):
            importer.open(MAKE["nacl"](b'{"created": 1, "session": {}}'), now=2)

    @pytest.mark.parametrize(
        "key",
        [
            b"",
            b"x" * 31,
            b"x" * 33,
            TEXT.encode(),
            "",
            "short",
            urlsafe_b64encode(b"x" * 33).decode(),
            "é",
            None,
        ],
    )
    def test_what_can_be_none_is_refused(self, key: Any) -> None:
        with pytest.raises(ConfigError, match=r"^key: "):
            AiohttpCookie[Data](key)

    def test_another_is_none(self, storage_of: Callable[..., AbstractStorage]) -> None:
        assert refused(value_of(aiohttp_cookie(storage_of(os.urandom(32)), {"a": 1}))) == "forged"


class TestWhichOfTheTwo:
    def test_a_nonce_that_begins_like_fernet_is_nacl_all_the_same(self) -> None:
        """And whose text is of both alphabets."""
        plain = b'{"created":1,"session":{"a":1}}'
        nonces = (b"\x80" + number.to_bytes(23, "big") for number in range(10_000))
        texts = (b64encode(SecretBox(KEY).encrypt(plain, nonce)).decode() for nonce in nonces)
        assert opened(next(text for text in texts if "+" not in text and "/" not in text)).data == {"a": 1}

    def test_an_expired_one_of_fernet_is_not_tried_as_another(self) -> None:
        cookie = MAKE["fernet"](b'{"created": 1, "session": {"a": 1}}')
        assert refused(cookie, now=time.time() + 100, max_age=timedelta(seconds=50)) == "expired"


class TestAge:
    def test_it_is_of_any_age_without_one(self, storage_of: Callable[..., AbstractStorage]) -> None:
        cookie = value_of(aiohttp_cookie(storage_of(KEY), {"a": 1}))
        assert opened(cookie, now=time.time() + 1e9) == Theirs({"a": 1}, None)

    def test_it_is_measured(self, storage_of: Callable[..., AbstractStorage]) -> None:
        before = int(time.time())
        cookie = value_of(aiohttp_cookie(storage_of(KEY, max_age=86_400), {"a": 1}))
        ends_at = opened(cookie, max_age=DAY).ends_at
        assert ends_at is not None
        assert before + 86_400 <= ends_at <= time.time() + 86_400
        assert opened(cookie, max_age=DAY, now=ends_at - 1).data == {"a": 1}
        assert refused(cookie, max_age=DAY, now=ends_at) == "expired"

    def test_the_earlier_of_signature_and_created_counts(self) -> None:
        """As theirs reads it: `session.changed()` signs anew what was created long ago."""
        now = int(time.time())
        document = b'{"created": %d, "session": {"a": 1}}'
        at = {age: Fernet(TEXT).encrypt_at_time(document % (now - age), now).decode() for age in (100, 200)}
        assert opened(at[100], now=now, max_age=timedelta(seconds=150)).ends_at == now + 50
        assert refused(at[200], now=now, max_age=timedelta(seconds=150)) == "expired"
        late = Fernet(TEXT).encrypt_at_time(document % now, now - 200).decode()
        assert refused(late, now=now, max_age=timedelta(seconds=150)) == "expired"

    def test_one_of_the_future_counts_for_nothing(self, storage_of: Callable[..., AbstractStorage]) -> None:
        cookie = value_of(aiohttp_cookie(storage_of(KEY), {"a": 1}))
        assert opened(cookie, max_age=DAY, now=time.time() - 50).data == {"a": 1}
        assert refused(cookie, max_age=DAY, now=time.time() - 70) == "expired"

    @pytest.mark.parametrize("created", ["null", '"1"', "true", "[]", "1" + "0" * 400])
    def test_a_created_that_is_no_time(self, made: Callable[[bytes], str], created: str) -> None:
        cookie = made(b'{"created": %s, "session": {"a": 1}}' % created.encode())
        assert opened(cookie).data == {"a": 1}
        assert refused(cookie, max_age=DAY) == "malformed"

    @pytest.mark.parametrize("created", ["NaN", "Infinity", "-Infinity", "1e999", "-5", "0"])
    def test_a_created_that_is_never(self, made: Callable[[bytes], str], created: str) -> None:
        assert refused(made(b'{"created": %s, "session": {}}' % created.encode()), max_age=DAY) == "expired"


class TestForged:
    def test_no_character_can_be_changed(self, storage_of: Callable[..., AbstractStorage]) -> None:
        """Nor spelled another way, which both their decoders would read."""
        cookie = value_of(aiohttp_cookie(storage_of(KEY), {"user": "ann"}))
        for place in range(len(cookie)):
            for other in {"A", "B", "w", "-", "+", "/", "_", "=", chr(ord(cookie[place]) ^ 1)} - {cookie[place]}:
                assert refused(cookie[:place] + other + cookie[place + 1 :]) == "forged"

    def test_no_byte_can_be_changed(self, made: Callable[[bytes], str]) -> None:
        cookie = made(b'{"created": 1, "session": {}}')
        last, encode = (b"-_", urlsafe_b64encode) if made is MAKE["fernet"] else (b"+/", b64encode)
        raw = bytearray(b64decode(cookie, last))
        for place in range(len(raw)):
            raw[place] ^= 1
            assert refused(encode(raw).decode()) == "forged"
            raw[place] ^= 1

    def test_nothing_can_be_added_or_left_out(self, storage_of: Callable[..., AbstractStorage]) -> None:
        cookie = value_of(aiohttp_cookie(storage_of(KEY), {"user": "ann"}))
        changed = [cookie[:length] for length in range(len(cookie))]
        changed += [cookie[:place] + "!" + cookie[place:] for place in range(len(cookie) + 1)]
        changed += [
            cookie + cookie,
            cookie + "=",
            cookie + "A",
            f'"{cookie}"',
            cookie + "é",
            cookie + "\n",
            cookie + "\ud800",
        ]
        for text in changed:
            assert refused(text) == "forged"

    def test_what_no_cookie_can_be_is_not_looked_at(self, made: Callable[[bytes], str]) -> None:
        assert refused(made(b'{"created": 1, "session": {"a": "%s"}}' % (b"x" * 16_384))) == "forged"

    @settings(max_examples=300)
    @given(
        text=st.text()
        | st.binary(max_size=200).map(lambda raw: b64encode(raw).decode())
        | st.binary().map(lambda raw: urlsafe_b64encode(b"\x80" + raw).decode())
    )
    def test_garbage_is_nothing_but_forged(self, text: str) -> None:
        assert refused(text) == "forged"


class TestMalformed:
    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b"[]",
            b"null",
            b"{}",
            b"{",
            b"\xff",
            b'{"created": 1}',
            b'{"created": 1, "session": []}',
            b'{"session": null}',
        ],
    )
    def test_what_aiohttp_session_does_not_make(self, made: Callable[[bytes], str], document: bytes) -> None:
        assert refused(made(document)) == "malformed"

    def test_what_is_nested_too_deep(self, made: Callable[[bytes], str]) -> None:
        """How deep that is, is Python's to say."""
        assert_read_or_malformed(made(b'{"created":1,"session":{"a":' + b"[" * 2_500 + b"]" * 2_500 + b"}}"))

    @given(document=st.binary() | json_trees().map(lambda tree: json.dumps(tree).encode()))
    def test_nothing_else_comes_out(self, document: bytes) -> None:
        for make in MAKE.values():
            assert_read_or_malformed(make(document))
            assert_read_or_malformed(make(document), max_age=DAY)
