"""What operators ask on the command line, of real storers: users, sessions, clean, stats, check."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from msgspec.structs import replace

from aiosessions import Lifetime, MemoryStorer, Record, StorageOverseer, Storer
from aiosessions._tokens import new_version
from aiosessions.cli import main
from aiosessions.cli.probe import Finding, examine
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.sqlite import SQLiteStorer
from aiosessions.testing.suites_store import Visitor
from tests import servers_memcached, servers_sql
from tests.drills import backends
from tests.drills.backends import Backend, opened
from tests.servers import ValkeyServer, free_port, valkey
from tests.servers_sql import PostgresServer
from tests.test_imports import fresh

backend = backends.backend
postgres_server = servers_sql.postgres_server
memcached_server = servers_memcached.memcached_server

LISTING = ["disk", "sqlite", "valkey", "postgres"]
CLEANED = ["disk", "sqlite", "postgres"]
HANDLE = "h" * 24
ESCAPES = "\x1b[2J\x9b\u202e"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Cart:
    theme: str = ""


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # Any: what JSON holds
        return json.loads(self.out)


class Ask:
    """Runs commands for one storer.

    Args:
        url: the storer's.
        capsys: pytest's.
    """

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Said:
        self._capsys.readouterr()
        code = main([*arguments, "--store", self.url])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Said(code, out, err)

    def process(self, *arguments: str) -> Said:
        """The real entry point, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "aiosessions", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "AIOSESSIONS_STORE": self.url},
        )
        assert "Traceback" not in done.stderr
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def ask(backend: Backend, capsys: pytest.CaptureFixture[str]) -> Ask:
    return Ask(backend.url, capsys)


async def log_in(store: StorageOverseer[Cart], user: str | None, label: str | None = None) -> tuple[str, str]:
    """A session of this user, begun as browsers do; its handle and its token."""
    visitor = Visitor()
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        session.value = Cart("dark")
        if user is not None:
            session.set_user(user)
        session.label = label
        await store.save(session, visit.response)
    (token,) = visitor.tokens.values()
    return session.handle, token


class Seeded(NamedTuple):
    """Who is logged in, by handle."""

    ann: str
    ann_too: str
    ben: str
    nobody: str
    tokens: list[str]

    @property
    def handles(self) -> set[str]:
        return {self.ann, self.ann_too, self.ben, self.nobody}


def seed(url: str) -> Seeded:
    """Ann twice, in two namespaces and under two names; Ben, whose session soon ends; a visitor."""

    async def do() -> Seeded:
        async with opened(url) as storer:
            shop = StorageOverseer(Cart, storer, namespace="shop")
            admin = StorageOverseer(Cart, storer, name="admin")
            short = StorageOverseer(
                Cart, storer, namespace="shop", name="kiosk", lifetime=Lifetime(timedelta(minutes=9))
            )
            async with shop, admin, short:
                ann, ben = await log_in(shop, "ann", "Firefox on Linux"), await log_in(short, "ben")
                ann_too, nobody = await log_in(admin, "ann"), await log_in(shop, None)
            four = (ann, ann_too, ben, nobody)
            return Seeded(ann[0], ann_too[0], ben[0], nobody[0], [token for _, token in four])

    return anyio.run(do)


def a_record(value: bytes = b"{}", owner: str | None = None) -> Record:
    now = time.time()
    return Record(value, b"", owner, now, now, now + 600, new_version())


def plant(url: str, **records: Record) -> None:
    """Records under keys of their own; without any, what `open` makes."""

    async def do() -> None:
        async with opened(url) as storer:
            for key, record in records.items():
                assert await storer.create(key, record)

    anyio.run(do)


def handles(said: Said) -> set[str]:
    return {each["handle"] for each in said.document}


# who is logged in


@pytest.mark.parametrize("backend", LISTING, indirect=True)
def test_sessions_are_listed_of_all_namespaces_or_of_one(ask: Ask) -> None:
    plant(ask.url)
    assert ask("sessions", "list") == (0, "", "there is no live session\n")
    assert ask("sessions", "list", "--json") == (0, "[]\n", "there is no live session\n")
    seeded = seed(ask.url)
    assert handles(ask("sessions", "list", "--json")) == seeded.handles
    assert handles(ask("sessions", "list", "--json", "--namespace", "")) == {seeded.ann_too}
    assert handles(ask("sessions", "list", "--json", "--namespace", "shop")) == seeded.handles - {seeded.ann_too}
    assert ask("sessions", "list", "--json", "--namespace", "sho").out == "[]\n"

    code, table, err = ask("sessions", "list")
    assert (code, err) == (0, "")
    head, *lines = table.splitlines()
    assert head.split() == ["handle", "namespace", "name", "user", "label", "seen", "ends"]
    assert {line.split()[0] for line in lines} == seeded.handles
    (anns,) = (line for line in lines if line.startswith(seeded.ann))
    assert re.fullmatch(rf"{re.escape(seeded.ann)} +shop +app +ann +Firefox on Linux( +20\S+ \S+ UTC){{2}} *", anns)
    assert "dark" not in table
    assert ask("sessions", "list", "--value").out.replace(": ", ":").count('{"theme":"dark"}') == 4


@pytest.mark.parametrize("backend", LISTING, indirect=True)
def test_a_user_s_sessions_are_shown_and_ended(ask: Ask) -> None:
    seeded = seed(ask.url)
    for command in (("users", "show", "eve"), ("users", "end", "eve"), ("users", "end", "ben", "--namespace", "")):
        assert ask(*command) == (1, "", "this user has no live session\n")
    assert ask("users", "show", "eve", "--json").out == "[]\n"
    assert ask("users", "end", "eve", "--json").document == {"ended": 0}

    assert handles(ask("users", "show", "ann", "--json")) == {seeded.ann, seeded.ann_too}
    assert handles(ask("users", "show", "ann", "--json", "--namespace", "shop")) == {seeded.ann}
    assert seeded.ann_too in ask("users", "show", "ann").out
    assert ask("users", "end", "ann", "--namespace", "shop") == (0, "1 ended\n", "")
    assert handles(ask("sessions", "list", "--json")) == seeded.handles - {seeded.ann}
    assert ask("users", "end", "ann", "--json") == (0, '{"ended": 1}\n', "")
    assert handles(ask("sessions", "list", "--json")) == {seeded.ben, seeded.nobody}


@pytest.mark.parametrize("backend", LISTING, indirect=True)
def test_a_session_is_shown_and_ended_by_its_handle_under_whatever_name(ask: Ask) -> None:
    seeded = seed(ask.url)
    for command in (("show", HANDLE), ("end", HANDLE), ("show", seeded.ann, "--namespace", "")):
        assert ask("sessions", *command) == (1, "", "there is no live session of this handle\n")

    (shown,) = ask("sessions", "show", seeded.ben, "--json").document
    times = {name: datetime.fromisoformat(shown.pop(f"{name}_at")) for name in ("created", "seen", "authenticated")}
    ends = datetime.fromisoformat(shown.pop("expires_at"))
    assert shown == {"handle": seeded.ben, "namespace": "shop", "name": "kiosk", "user": "ben", "label": None,
                     "size": 16 if shown["size"] == 16 else 17}  # fmt: skip
    assert len(set(times.values())) == 1
    assert ends - times["seen"] == timedelta(minutes=9)
    rows = dict(
        line.split(maxsplit=1)
        for line in ask("sessions", "show", seeded.ann_too).out.splitlines()
        if " " in line.strip()
    )
    assert rows["handle"].strip() == seeded.ann_too
    assert rows["user"].strip() == "ann"
    assert "value" not in rows

    assert ask("sessions", "end", seeded.ann_too) == (0, "1 ended\n", "")
    assert ask("sessions", "end", seeded.ann_too, "--json").document == {"ended": 0}
    assert ask("sessions", "end", seeded.nobody, "--json").document == {"ended": 1}
    assert handles(ask("sessions", "list", "--json")) == {seeded.ann, seeded.ben}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_handle_may_begin_as_options_do_and_be_where_somebody_copied_it(ask: Ask) -> None:
    odd = ["-" * 24, "--json-is-no-option-here", "-h" + "a" * 22, "--help" + "-" * 18, "--value" + "x" * 17]
    assert {len(handle) for handle in odd} == {24}
    for handle in odd:
        plant(ask.url, **{f"shop:app:{handle}": a_record(), f":admin:{handle}": a_record()})
        assert len(ask("sessions", "show", handle, "--json").document) == 2
        assert ask("sessions", "end", "--namespace", "shop", handle).out == "1 ended\n"
        assert ask("sessions", "end", "--", handle).code == 2, "what follows is taken for an option's value"
        assert ask("sessions", "end", handle).out == "1 ended\n"
    plant(ask.url, **{f"shop:app:{HANDLE}": a_record(owner="-ann")})
    assert handles(ask("users", "show", "-ann", "--json")) == {HANDLE}


@pytest.mark.parametrize("backend", ["disk"], indirect=True)
def test_what_is_no_session_and_what_another_version_wrote(ask: Ask) -> None:
    """Nothing else of a storer is listed; a session whose compartment nobody can read is one all the same."""
    odd = replace(a_record(), meta=b"\xff", created_at=-1.0)
    keys = {"shop:~all:": a_record(), "other": a_record(owner="ann"), f"shop:app:{HANDLE}x": a_record()}
    plant(ask.url, **keys, **{f"shop:app:{HANDLE}": odd})
    assert ask("users", "show", "ann").code == 1
    assert handles(ask("sessions", "list", "--json")) == {HANDLE}
    assert ask("sessions", "show", HANDLE, "--json").document[0]["created_at"] is None
    assert "unreadable" in ask("sessions", "show", HANDLE).out
    assert ask("sessions", "end", HANDLE).code == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_more_than_a_page(ask: Ask) -> None:
    keys = {f"shop:app:{number:024}": a_record(owner=f"user{number % 7}") for number in range(230)}
    plant(ask.url, **keys)
    listed = ask("sessions", "list", "--json").document
    assert len(listed) == len({each["handle"] for each in listed}) == 230
    assert ask("stats", "--json").document["per_user"]["user0"] == 33


# what is shown


@pytest.mark.parametrize("backend", ["disk"], indirect=True)
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"a":[1,null]}', {"value": {"a": [1, None]}}),
        (f'"{ESCAPES}"'.encode(), {"value_base64": "IhtbMkrCm+KAriI="}),  # a raw ESC is no JSON
        ('"\\u001b\x9b\u202e"'.encode(), {"value": "\x1b\x9b\u202e"}),
        (b"\x81\xa1k\x1b", {"value_base64": "gaFrGw=="}),
        (b"[" * 100_000, {"value_base64": None}),
        (b"1e999", {"value_base64": "MWU5OTk="}),
        (b"NaN", {"value_base64": "TmFO"}),
        (b"9" * 5000, {"value_base64": None}),
    ],
)
def test_a_value_is_shown_when_asked_for_with_control_characters_escaped(
    ask: Ask, value: bytes, shown: dict[str, object]
) -> None:
    plant(ask.url, **{f":app:{HANDLE}": a_record(value)})
    without = ask("sessions", "show", HANDLE, "--json")
    assert "value" not in without.document[0]
    for said in (ask("sessions", "show", HANDLE, "--value"), ask("sessions", "list", "--value")):
        assert said.code == 0
        assert not any(each in said.out for each in ESCAPES if not each.isprintable())
        assert all(each.isprintable() or each == "\n" for each in said.out)
    said = ask("sessions", "show", HANDLE, "--value", "--json")
    assert said.out.isascii()
    (document,) = said.document
    for name, expected in shown.items():
        assert name in document
        assert expected is None or document[name] == expected
    assert ("value" in document) != ("value_base64" in document)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_users_chose_is_shown_as_it_is_but_moves_no_cursor(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def do() -> None:
        async with opened(ask.url) as storer, StorageOverseer(Cart, storer) as store:
            await log_in(store, f"[red]zoë{ESCAPES}", ":smile: [b]x[/b]\n[link=https://example.org]y")

    anyio.run(do)
    for command in (("sessions", "list"), ("stats",), ("users", "show", f"[red]zoë{ESCAPES}")):
        out = ask(*command).out
        assert r"[red]zoë\x1b[2J\x9b\u202e" in out
        assert all(each.isprintable() or each == "\n" for each in out)
    assert r":smile: [b]x[/b]\n[link=https://example.org]y" in ask("sessions", "list").out
    # where the terminal knows no such letters
    done = subprocess.run(
        [sys.executable, "-m", "aiosessions", "sessions", "list"],
        capture_output=True,
        check=True,
        env={**os.environ, "AIOSESSIONS_STORE": ask.url, "PYTHONIOENCODING": "ascii"},
    )
    assert b"zo\\xeb" in done.stdout


@pytest.mark.parametrize("backend", ["disk"], indirect=True)
def test_a_token_is_never_shown_also_where_it_is_given_for_something_else(ask: Ask) -> None:
    seeded = seed(ask.url)
    token = seeded.tokens[0]
    said = [
        *(ask("sessions", "show", seeded.ann, *options) for options in ((), ("--value",), ("--value", "--json"))),
        *(ask(*command, *options) for command in (("sessions", "list"), ("stats",)) for options in ((), ("--json",))),
        ask("users", "show", "ann"),
        ask("sessions", "show", token),
        ask("sessions", "end", "-" + token[1:]),
        ask("sessions", "show", seeded.ann, token),
        ask("sessions", token),
        ask("users", "show", token),
        ask("users", "end", "ann", token),
        ask("stats", token),
        ask("clean", token),
        ask("check", token),
        ask("sessions", "end", seeded.ann),
    ]
    assert [each.code for each in said] == [0] * 8 + [2, 2, 2, 2, 1, 2, 2, 2, 2, 0]
    for each in said:
        for secret in seeded.tokens:
            assert not any(secret[start : start + 8] in each.out + each.err for start in range(24, 57))


# clean, stats, check


def leave_expired(backend: Backend) -> None:
    """Two sessions that expired some minutes ago, and one that lives."""
    ago = time.time() - 900

    async def do() -> None:
        old: Storer
        async with opened(backend.url) as storer:
            assert await storer.create(f":app:{HANDLE}", a_record())
            old = storer
            if backend.name == "disk":
                old = DiskStorer(backend.url.partition(":")[2], clock=lambda: ago)
            if backend.name == "sqlite":
                old = SQLiteStorer(backend.url.partition(":")[2], clock=lambda: ago)
            for letter in "ab":
                assert await old.create(
                    f":app:{letter * 24}", Record(b"{}", b"", None, ago, ago, ago + 60, new_version())
                )
            if isinstance(old, PostgresStorer):  # whose server has the clock
                table = old._layout.table
                past = "forget_at = now() - interval '1 h', clean_at = now() - interval '1 h'"
                await old._server.fetch(f"UPDATE {table} SET {past} WHERE key <> ':app:{HANDLE}'")
            elif isinstance(old, SQLiteStorer):
                await old.aclose()

    anyio.run(do)


@pytest.mark.parametrize("backend", CLEANED, indirect=True)
def test_clean_removes_what_has_expired(backend: Backend, ask: Ask) -> None:
    leave_expired(backend)
    assert ask("clean") == (0, "2 expired sessions removed\n", "")
    assert ask("clean", "--json") == (0, '{"removed": 0}\n', "")
    assert handles(ask("sessions", "list", "--json")) == {HANDLE}


@pytest.mark.parametrize("backend", LISTING, indirect=True)
def test_stats_count_who_is_there(ask: Ask) -> None:
    plant(ask.url)
    empty = ask("stats", "--json").document
    assert (empty["live"], empty["oldest"], empty["per_user"]) == (0, None, {})
    assert ask("stats").code == 0
    seeded = seed(ask.url)
    counted = ask("stats", "--json").document
    oldest = counted.pop("oldest")
    assert oldest["handle"] == seeded.ann
    assert sorted((each["namespace"], each["name"], each["live"]) for each in counted.pop("names")) == [
        ("", "admin", 1),
        ("shop", "app", 2),
        ("shop", "kiosk", 1),
    ]
    assert counted == {"live": 4, "anonymous": 1, "users": 2, "per_user": {"ann": 2, "ben": 1},
                       "ending_within_the_hour": 1}  # fmt: skip
    assert ask("stats", "--namespace", "shop", "--json").document["per_user"] == {"ann": 1, "ben": 1}
    rows = [re.split(r" {2,}", line.strip()) for line in ask("stats").out.splitlines()]
    for row in (["live", "4"], ["anonymous", "1"], ["users", "2"], ["ending within the hour", "1"], ["ann", "2"]):
        assert row in rows
    assert any(row[0] == "oldest" and row[1].endswith(seeded.ann) for row in rows)


@pytest.mark.parametrize("backend", [*LISTING, "memcached"], indirect=True)
def test_check_of_a_storer_that_is_well(backend: Backend, ask: Ask) -> None:
    plant(ask.url)
    said = ask("check", "--json")
    assert said.code == 0, said
    findings = {each["what"]: each["said"] for each in said.document["findings"]}
    clocks = {"clock"} & findings.keys()
    assert findings.keys() - clocks == {"storer", "open", "probe", "round trip", "eviction"}
    assert said.document["problems"] == 0
    assert re.fullmatch(r"\d+\.\d\d ms; \d+\.\d\d ms at most", findings["round trip"])
    assert findings["eviction"].startswith("none" if backend.name != "memcached" else "this storer may forget")
    assert bool(clocks) == (backend.name in {"valkey", "postgres"})
    assert not clocks or re.search(r" [+-]0\.\d{3} s from", findings["clock"])
    assert ask("check").out.count("\nok ") == len(findings)
    if backend.name != "memcached":
        assert ask("sessions", "list").err == "there is no live session\n"


@pytest.mark.parametrize(
    ("options", "told", "problem"),
    [
        ({"maxmemory": "50mb", "maxmemory_policy": "allkeys-lru"}, (), "maxmemory-policy allkeys-lru"),
        ({}, ("ACL", "SETUSER", "default", "-info"), "INFO is forbidden"),
        ({}, ("ACL", "SETUSER", "default", "-zscan"), r"'zscan'.*sessions need the ACL"),
        ({"cluster_enabled": "yes"}, (), "RedisCluster"),
    ],
)
def test_check_finds_a_server_that_is_set_up_wrong(
    options: dict[str, str], told: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cluster_enabled" in options:  # else the bus has the port 10,000 above, which may be none
        options = {**options, "cluster_port": str(free_port())}
    with valkey(**options) as server:
        if told:
            server.ask(*told)
        code, out, err = Ask(f"redis://127.0.0.1:{server.port}", capsys)("check")
    assert (code, err) == (1, "")
    assert len(re.findall("(?m)^PROBLEM", out)) == 1
    assert re.search(f"(?m)^PROBLEM.*{problem}", out)


def test_check_finds_a_replica(valkey_server: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    with valkey(replicaof=f"{valkey_server.host} {valkey_server.port}") as replica:
        said = Ask(f"redis://127.0.0.1:{replica.port}", capsys)("check", "--json")
    assert (said.code, said.document["problems"]) == (1, 1)
    assert "primary" in said.out


def test_check_finds_rights_that_are_missing(
    postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def tell(sql: str) -> None:
        async with opened(postgres_server.url + "&table=owned") as storer:
            assert isinstance(storer, PostgresStorer)

            async def execute(connection: Any) -> None:  # Any: asyncpg's
                await connection.execute(sql)

            await storer._server.call(execute)

    anyio.run(tell, "CREATE ROLE reader LOGIN")
    try:
        said = Ask(postgres_server.url.replace("postgres@", "reader@") + "&table=owned", capsys)("check")
        anyio.run(tell, "ALTER ROLE reader SET default_transaction_read_only = on")
        read_only = Ask(postgres_server.url.replace("postgres@", "reader@") + "&table=owned", capsys)("check")
    finally:
        anyio.run(tell, "DROP ROLE reader; DROP TABLE owned")
    assert (said.code, read_only.code) == (1, 1)
    assert "GRANT" in said.out
    assert "read-only" in read_only.out


@pytest.mark.parametrize("backend", ["disk", "sqlite"], indirect=True)
def test_check_finds_files_that_are_open_to_others_and_links(backend: Backend, ask: Ask, tmp_path: Path) -> None:
    plant(ask.url)
    path = Path(backend.url.partition(":")[2])
    mode = path.stat().st_mode
    path.chmod(mode | 0o044)
    said = ask("check")
    assert said.code == 1
    assert re.search(r"(?m)^PROBLEM +open +.*open to", said.out)
    path.chmod(mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert Ask(f"{backend.name}:{link}", ask._capsys)("check").code == 1
    assert Ask(f"{backend.name}:{link}", ask._capsys)("stats").code == 2


class Forgetful(MemoryStorer):
    """Confirms a deletion and does not delete."""

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self.read(key) is not None


class Stale(MemoryStorer):
    """Takes whatever version."""

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        found = await self.read(key)
        return found is not None and await super().replace(key, record, version=found.version)


async def examined(storer: Storer, clock: Callable[[], float] = time.time) -> dict[str, Finding]:
    return {finding.what: finding async for finding in examine(storer, clock=clock)}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Forgetful, Stale])
async def test_check_finds_a_storer_that_does_not_keep_its_word(kind: type[MemoryStorer]) -> None:
    assert (await examined(kind()))["probe"].is_problem
    assert not (await examined(MemoryStorer()))["probe"].is_problem


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["valkey", "postgres"], indirect=True)
async def test_check_finds_a_clock_that_is_wrong(backend: Backend) -> None:
    async with opened(backend.url) as storer:
        for seconds in (-90, 90):
            found = (await examined(storer, lambda seconds=seconds: time.time() + seconds))["clock"]  # type: ignore[misc]  # bound per turn
            assert found.is_problem
            assert f"{-seconds:+d}." in found.said or f"{-seconds + (1 if seconds > 0 else -1):+d}." in found.said
            assert "NTP" in found.said
        assert not (await examined(storer))["clock"].is_problem


# exit codes


COMMANDS = [
    ("users", "show", "ann"),
    ("users", "end", "ann"),
    ("sessions", "list"),
    ("sessions", "show", HANDLE),
    ("sessions", "end", HANDLE),
    ("stats",),
    ("clean",),
    ("check",),
]


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
@pytest.mark.parametrize("backend", ["memcached"], indirect=True)
def test_a_capability_that_the_storer_lacks_is_named(ask: Ask, command: tuple[str, ...]) -> None:
    code, out, err = ask(*command, "--json")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"aiosessions {command[0]}: MemcachedStorer .*\n", err)


@pytest.mark.parametrize("backend", ["valkey"], indirect=True)
def test_redis_cleans_up_by_itself(ask: Ask) -> None:
    code, out, err = ask("clean")
    assert (code, out) == (2, "")
    assert err == "aiosessions clean: RedisStorer has nothing to clean: its server removes what has expired\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:{port}", "postgresql://ann:hunter2@127.0.0.1:{port}/x"])
def test_a_backend_that_is_away_is_three_and_one_line(
    url: str, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = Ask(url.format(port=free_port()), capsys)(*command, "--json")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stats", "--store", "memory:"), "its own process"),
        (("stats", "--store", "disk:nowhere/at all"), "is not there"),
        (("clean", "--store", "sqlite:nowhere.db"), "is not there"),
        (("check", "--store", "sqlite:nowhere.db"), "is not there"),
        (("stats", "--store", "nosuch:x"), "no storer for nosuch"),
        (("stats", "--store", "redis://:hunter2@h/?nosuch=1"), "unknown option nosuch"),
        (("stats", "--store", "redis://:hunter2@h:port"), "malformed"),
        (("stats", "redis://:hunter2@h"), "Missing option"),
        (("stats", "redis://:hunter2@h", "--store", "redis://h"), "too many"),
        (("stats",), "AIOSESSIONS_STORE"),
        (("stats", "--store"), "--store"),
        (("sessions",), "show"),
        (("sessions", "redis://:hunter2@h"), "no such command"),
        (("sessions", "list", "--jsno", "--store", "redis://h"), "option that there is not"),
        (("sessions", "show", "--store", "redis://h"), "HANDLE"),
        (("sessions", "show", "short", "--store", "redis://h"), "24 characters"),
        (("users", "end", "ann", "--namespace", "shop:app", "--store", "redis://h"), "a namespace is"),
        (("clean", "--namespace", "shop", "--store", "redis://h"), "option that there is not"),
    ],
)
def test_wrong_arguments_are_two(
    arguments: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing is made for a path that was mistyped."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "hunter2" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_answer_that_cannot_be_written_is_one_line(ask: Ask) -> None:
    seed(ask.url)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "aiosessions", "sessions", "list", "--store", ask.url],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert re.fullmatch(r"aiosessions sessions: .*No space left on device\n", done.stderr)


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_is_named(missing: str) -> None:
    answer = fresh("from aiosessions.cli import main; raise SystemExit(main(['stats']))", without={missing})
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert 'pip install "aiosessions[cli]"' in answer.stderr


# the real entry point


@pytest.mark.parametrize(("backend", "command"), [
    ("valkey", ("users", "show", "ann")),
    ("postgres", ("users", "end", "ann")),
    ("disk", ("sessions", "list")),
    ("sqlite", ("sessions", "show", "{}")),
    ("postgres", ("sessions", "end", "{}")),
    ("sqlite", ("clean",)),
    ("postgres", ("stats",)),
    ("valkey", ("check",)),
], indirect=["backend"])  # fmt: skip
def test_each_command_in_a_process_of_its_own(ask: Ask, command: tuple[str, ...]) -> None:
    """The storer from AIOSESSIONS_STORE, one JSON document, nothing on standard error."""
    handle = seed(ask.url).ben
    code, out, err = ask.process(*(each.format(handle) for each in command), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)


class Terminal:
    """A person at a terminal of 80 columns, who gives one answer."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, *arguments: str, answer: str | None = None) -> tuple[int, str]:
        """Exit code, and all that is seen."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "aiosessions", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "AIOSESSIONS_STORE": self._url, "COLUMNS": "80", "TERM": "xterm"},
        )
        os.close(slave)
        seen = ""
        while True:
            try:
                read = os.read(master, 4096).decode()
            except OSError:  # it has ended
                break
            if not read:
                break
            seen += read
            if answer is not None and "[y/N]" in seen:
                os.write(master, f"{answer}\n".encode())
                answer = None
        os.close(master)
        return process.wait(30), seen


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_end_asks_on_a_terminal_and_says_what_would_end(ask: Ask) -> None:
    seeded, at_terminal = seed(ask.url), Terminal(ask.url)
    code, seen = at_terminal("users", "end", "ann", answer="\x04")  # Ctrl-D
    assert code == 1
    assert seeded.ann in seen
    assert "End these 2 sessions? [y/N]" in seen
    code, seen = at_terminal("sessions", "end", seeded.ben, answer="n")
    assert (code, "End this session? [y/N]" in seen, "ended" in seen) == (1, True, False)
    assert handles(ask("sessions", "list", "--json")) == seeded.handles
    code, seen = at_terminal("users", "end", "ann", answer="y")
    assert (code, "2 ended" in seen) == (0, True)
    assert handles(ask("sessions", "list", "--json")) == {seeded.ben, seeded.nobody}


@pytest.mark.parametrize("backend", ["disk"], indirect=True)
def test_on_a_terminal_handles_are_whole_and_a_bar_is_seen(ask: Ask) -> None:
    seeded, at_terminal = seed(ask.url), Terminal(ask.url)
    _, seen = at_terminal("sessions", "list")
    assert all(handle in seen for handle in seeded.handles)
    assert "removing what has expired" in at_terminal("clean")[1]
