"""`aiosessions` on the command line."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import jwt as pyjwt
import pytest

import aiosessions
from aiosessions import AESGCMSealer, HMACSealer, JWTSealer, Key, Sealer, _base64url
from aiosessions._tokens import Token, new_token
from aiosessions.cli import main
from aiosessions.sealers.sealer import Claims
from tests.test_imports import FOREIGN, fresh

KEYS = aiosessions.new_key()
SEALERS: dict[str, Callable[[], Sealer]] = {
    "AES-GCM": lambda: AESGCMSealer(KEYS),
    "HMAC": lambda: HMACSealer(KEYS),
    "JWT": lambda: JWTSealer(KEYS),
    "encrypted JWT": lambda: JWTSealer(KEYS, encrypt=True),
}
READABLE = {"HMAC", "JWT"}


def claims(body: bytes = b'{"theme":"dark"}', *, is_reference: bool = False) -> Claims:
    now = time.time()
    day = timedelta(days=1).total_seconds()
    return Claims(body, is_reference, "the-session", now - 90 * 60, now + day, "ann\x1b[2J", b"private state")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_KEYS", KEYS)


def test_without_arguments_it_prints_its_help() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "aiosessions"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert answer.stdout.startswith("usage: aiosessions")
    for command in ("demo", "new-key", "inspect", "schema", "users", "sessions", "clean", "stats", "check", "audit"):
        assert f"\n    {command} " in answer.stdout


@pytest.mark.parametrize("given", [["--store", "redis://:hunter2@h", "stats"], ["--store=redis://:hunter2@h", "stats"]])
def test_an_option_before_the_command_is_not_repeated(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It may hold a password."""
    assert main(given) == 2
    said = capsys.readouterr()
    assert said.err.startswith("aiosessions --store: options come after the command")
    assert "hunter2" not in said.out + said.err


def test_a_new_key_makes_a_sealer_and_is_new_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-key"]) == 0
    assert main(["new-key"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    AESGCMSealer([first, second])


@pytest.mark.parametrize("arguments", ["['new-key']", "['inspect', 'x' * 64]", "['schema']"])
def test_keys_inspection_and_schema_need_no_extra(arguments: str) -> None:
    answer = fresh(f"from aiosessions.cli import main; raise SystemExit(main({arguments}))", without=FOREIGN)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout


def test_a_command_whose_extra_is_missing_says_so_in_one_line() -> None:
    answer = fresh("from aiosessions.cli import main; raise SystemExit(main(['demo']))", without={"starlette"})
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "aiosessions[demo]" in answer.stderr


def test_any_other_import_error_is_not_taken_for_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiosessions.storers._postgres_schema", None)
    with pytest.raises(ImportError, match="_postgres_schema"):
        main(["schema"])


def test_the_schema_is_that_of_the_table_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--table", "shop_sessions"]) == 0
    assert "shop_sessions" in capsys.readouterr().out


def test_a_table_name_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--table", "a; DROP TABLE b"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("first", ["A", "-"])
def test_a_reference_shows_its_handle_and_no_secret(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    token = new_token()
    token = Token(first + token.handle[1:], token.secret)
    assert main(["inspect", token.text()]) == 0
    said = capsys.readouterr().out
    assert token.handle in said
    assert "NOT VERIFIED" in said
    assert not shares_a_secret(said, token.text())


@pytest.mark.parametrize("kind", SEALERS)
def test_a_sealed_token_shows_kind_and_key_id_and_that_nothing_was_verified(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", SEALERS[kind]().seal(claims(), name="app")]) == 0
    said = capsys.readouterr().out
    assert "key id" in said
    assert "NOT VERIFIED" in said
    assert "private state" not in said
    assert ("dark" in said) == (kind in READABLE)
    assert ("1 h ago" in said) == (kind in READABLE)
    assert "\x1b" not in said


@pytest.mark.parametrize("kind", sorted(READABLE))
def test_a_reference_inside_a_readable_token_shows_its_handle_and_no_secret(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = new_token()
    sealed = SEALERS[kind]().seal(claims(token.text().encode(), is_reference=True), name="app")
    assert main(["inspect", sealed, "--keys", "SESSION_KEYS"]) == 0
    said = capsys.readouterr().out
    assert said.count(token.handle) == 2
    assert not shares_a_secret(said, token.text())


@pytest.mark.parametrize("kind", SEALERS)
def test_with_its_keys_and_name_a_token_is_verified(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", SEALERS[kind]().seal(claims(), name="app"), "--keys", "SESSION_KEYS"]) == 0
    said = capsys.readouterr().out
    assert "NOT VERIFIED" not in said
    assert "1 h ago" in said.partition("VERIFIED with the keys in SESSION_KEYS")[2]
    assert KEYS not in said


@pytest.mark.parametrize("kind", SEALERS)
def test_under_another_name_or_key_it_is_refused(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = SEALERS[kind]().seal(claims(), name="app")
    assert main(["inspect", sealed, "--keys", "SESSION_KEYS", "--name", "admin"]) == 1
    monkeypatch.setenv("SESSION_KEYS", aiosessions.new_key())
    assert main(["inspect", sealed, "--keys", "SESSION_KEYS"]) == 1
    assert capsys.readouterr().out.count("REFUSED") == 2


def test_a_token_of_other_software_is_verified_for_the_session_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    now = int(time.time())
    members = {"aud": "shop", "iat": now, "exp": now + 600, "jti": "the-id", "session": {"theme": "dark"}}
    token = pyjwt.encode(members, Key(KEYS).material(), algorithm="HS256", headers={"typ": "aiosessions+jwt"})
    command = ["inspect", token, "--keys", "SESSION_KEYS", "--name", "admin"]
    assert main([*command, "--audience", "shop"]) == 0
    assert '"the-id"' in capsys.readouterr().out.partition("VERIFIED")[2]
    assert main(command) == 1


def test_a_token_can_come_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = new_token()
    monkeypatch.setattr(sys, "stdin", io.StringIO(token.text() + "\n"))
    assert main(["inspect", "-"]) == 0
    assert token.handle in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "x", "a.b.c", "é" * 64, "AA" * 40, "." * 4, "AQIDBAUG.e30.x.y", "AQIDBAUG" + "=" * 80]
)
def test_what_is_no_token_is_said_to_be_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--", text]) == 1
    assert capsys.readouterr().out.startswith("no token")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"iat":"monday"}', "unreadable"),
        (b'{"iat":1e300}', "out of range"),
        (b'{"sid":"short"}', "unreadable"),
        (b"[1]", "unreadable"),
        (b'{"exp":9e9,"secret":"hunter2"}', "other claims"),
    ],
)
def test_a_payload_that_is_odd_is_shown_as_far_as_it_can_be(
    payload: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", f"{_base64url.encode(bytes([1, 2, 3, 4, 5, 6]))}.{_base64url.encode(payload)}.x"]) == 0
    output = capsys.readouterr().out
    assert said in output
    assert "hunter2" not in output


def test_a_variable_that_is_not_set_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    sealed = SEALERS["HMAC"]().seal(claims(), name="app")
    assert main(["inspect", sealed, "--keys", "NO_SUCH_VARIABLE"]) == 2
    assert "NO_SUCH_VARIABLE" in capsys.readouterr().err


def shares_a_secret(said: str, token: str) -> bool:
    """Whether any eight characters of the token's secret half stand in what was said."""
    return any(token[start : start + 8] in said for start in range(22, 57))
