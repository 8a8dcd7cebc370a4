"""What all importers have in common: options, errors, and what they need installed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any

import pytest
from redis.asyncio import Redis

import aiosessions.migration
from aiosessions import ConfigError
from aiosessions.migration import AiohttpCookie, AiohttpRedis, FlaskCookie, Importer, StarletteCookie, StarsessionsRedis
from aiosessions.overseers.importer import NotImportedError
from tests.migration.peers import Data
from tests.test_imports import fresh

SECRET = "very-secret-very-secret-very-sec"
PEERS = {"aiohttp", "aiohttp_session", "flask", "markupsafe", "quart", "starlette", "starsessions", "werkzeug"}

MAKE: dict[str, Callable[..., Importer[Any]]] = {  # Any: of any type
    "StarletteCookie": partial(StarletteCookie[Any], SECRET),
    "FlaskCookie": partial(FlaskCookie[Any], [SECRET, SECRET.encode()]),
    "AiohttpCookie": partial(AiohttpCookie[Any], SECRET.encode()),
    "StarsessionsRedis": partial(StarsessionsRedis[Any], Redis(password=SECRET)),
    "AiohttpRedis": partial(AiohttpRedis[Any], Redis(password=SECRET)),
}
WEEK = timedelta(days=7)
DEFAULTS: dict[str, tuple[str, timedelta | None]] = {
    "StarletteCookie": ("session", 2 * WEEK),
    "FlaskCookie": ("session", timedelta(days=31)),
    "AiohttpCookie": ("AIOHTTP_SESSION", None),
    "StarsessionsRedis": ("session", None),
    "AiohttpRedis": ("AIOHTTP_SESSION", None),
}


@pytest.fixture(params=list(MAKE))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def user_of(data: Data) -> str | None:
    return data.get("user")


def test_the_defaults_are_the_peer_s(kind: str) -> None:
    importer = MAKE[kind]()
    assert (importer.cookie, importer.max_age) == DEFAULTS[kind]
    assert (importer.options.path, importer.options.domain, importer.clear) == ("/", None, True)
    assert (importer.until, importer.to, importer.user) == (None, None, None)


def test_each_option_reaches_the_importer(kind: str) -> None:
    until = datetime(2027, 1, 31, tzinfo=UTC)
    importer = MAKE[kind](
        cookie="their",
        path="/shop",
        domain="example.org",
        max_age=WEEK,
        until=until,
        to=dict,
        user=user_of,
        clear=False,
    )
    assert (importer.cookie, importer.max_age) == ("their", WEEK)
    assert (importer.options.path, importer.options.domain, importer.clear) == ("/shop", "example.org", False)
    assert (importer.until, importer.to, importer.user) == (until, dict, user_of)


@pytest.mark.parametrize(
    "options",
    [
        {"cookie": ""},
        {"cookie": "a b"},
        {"path": "x"},
        {"domain": "?"},
        {"max_age": timedelta(0)},
        {"max_age": 5},
        {"until": datetime(2027, 1, 31)},  # noqa: DTZ001  # naive is what is refused
        {"to": 5},
        {"user": "user"},
    ],
    ids=str,
)
def test_an_option_that_cannot_work_is_refused_and_no_secret_shown(kind: str, options: dict[str, Any]) -> None:
    """V8: not in the message, and not in what a traceback captures of ours."""
    with pytest.raises(ConfigError, match=f"^{next(iter(options))}=") as refusal:
        MAKE[kind](**options)
    assert shown(refusal.tb) >= 2
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("secret", [[SECRET, ""], [SECRET, 5], (SECRET, None)], ids=["empty", "number", "none"])
def test_a_secret_that_cannot_work_is_refused_and_none_shown(secret: Any) -> None:
    for make in (StarletteCookie[Any], FlaskCookie[Any], AiohttpCookie[Any]):
        with pytest.raises(ConfigError) as refusal:
            make(secret)
        assert shown(refusal.tb) >= 1
        assert SECRET not in str(refusal.value)


def shown(trace: TracebackType | None) -> int:
    """How many frames of ours a traceback has; none of them shows a secret."""
    frames = 0
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_globals["__name__"].startswith("aiosessions."):
            frames += 1
            for name, value in frame.f_locals.items():
                assert SECRET not in f"{value!r} {value!s}", f"{frame.f_code.co_qualname}: {name}"
    return frames


def test_a_repr_shows_the_cookie_and_no_secret(kind: str) -> None:
    assert repr(MAKE[kind]()) == f"{kind}(cookie={DEFAULTS[kind][0]!r})"


@pytest.mark.parametrize("name", ["StarletteCookie", "FlaskCookie", "AiohttpCookie"])
def test_what_is_not_imported_says_why_and_no_more(name: str) -> None:
    with pytest.raises(NotImportedError) as refusal:
        MAKE[name]().open("user=ann", now=0)
    assert str(refusal.value) == "forged"


class TestImports:
    def test_every_name_is_there(self) -> None:
        assert [name for name in aiosessions.migration.__all__ if not hasattr(aiosessions.migration, name)] == []
        assert set(aiosessions.migration.__all__) <= set(dir(aiosessions.migration))
        assert {*MAKE, "Importer"} <= set(aiosessions.migration.__all__)
        with pytest.raises(AttributeError, match=r"'aiosessions\.migration' has no attribute 'DjangoCookie'"):
            aiosessions.migration.DjangoCookie  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018

    def test_a_plain_import_brings_none_of_it(self) -> None:
        program = "import aiosessions, json, sys; print(json.dumps(sorted(sys.modules)))"
        loaded = set(json.loads(fresh(program).stdout))
        assert not {name for name in loaded if name.startswith("aiosessions.migration")}
        assert not loaded & {*PEERS, "itsdangerous", "nacl", "redis", "cryptography.fernet"}

    def test_the_peers_need_not_be_installed(self) -> None:
        program = f"""
from redis.asyncio import Redis
from aiosessions.migration import *
made = [StarletteCookie("a"), FlaskCookie("a"), AiohttpCookie({SECRET.encode()!r})]
made += [StarsessionsRedis(Redis()), AiohttpRedis(Redis())]
print(len(made))
"""
        answer = fresh(program, without=PEERS)
        assert (answer.stdout, answer.stderr) == ("5\n", "")

    def test_cookies_of_fernet_need_no_pynacl(self) -> None:
        """A key that could be of NaCl is warned of: its cookies would count as forged."""
        program = f"""
from base64 import urlsafe_b64encode
from cryptography.fernet import Fernet
from aiosessions.migration import AiohttpCookie
key = {SECRET.encode()!r}
text = urlsafe_b64encode(key).decode()
token = Fernet(text).encrypt(b'{{"created": 1, "session": {{"a": 1}}}}').decode()
for given in (text, Fernet(text), key):
    print(AiohttpCookie(given).open(token, now=2).data)
"""
        answer = fresh(program, without={"nacl"})
        assert answer.stdout == "{'a': 1}\n" * 3
        warnings = answer.stderr.splitlines()
        assert len(warnings) == 1
        assert warnings[0].startswith("PyNaCl is missing")
        assert 'pip install "aiosessions[migration]"' in warnings[0]
        assert SECRET not in answer.stderr
