"""Somebody has a copy of everything that a backend keeps: not one token in it is good for anything.

Of a session in an EncryptedStorer it shows nothing at all.
"""

import gc
import re
import socket
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio
import asyncpg
import pytest

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    EncryptedStorer,
    Lifetime,
    Sealer,
    Session,
    StorageOverseer,
    Storer,
    new_key,
)
from aiosessions._tokens import TokenDigest, parse_token
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import MovableClock, collected
from tests.drills.backends import BACKENDS, Backend, opened
from tests.servers import ValkeyServer, valkey
from tests.servers_memcached import MemcachedServer
from tests.servers_sql import PostgresServer

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
_ALPHABET = rb"[A-Za-z0-9_-]"
_SECRET = 40  # characters


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])


@dataclass
class Issued:
    """Every token that clients were given, and the digests of those that open a session now."""

    tokens: set[str] = field(default_factory=set[str])
    digests: set[bytes] = field(default_factory=set[bytes])


async def visits(store: StorageOverseer[Cart], clock: MovableClock, issued: Issued) -> Visitor:
    """A browser that does all there is to do, and has a session at the end."""
    visitor = Visitor()

    async def visit(act: Callable[[Session[Cart]], object], seconds: float = 0.0) -> Session[Cart]:
        await clock.advance(seconds)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            act(session)
            await store.save(session, visit.response)
        issued.tokens |= set(visitor.tokens.values())
        return session

    await visit(lambda session: session.value.items.append("a"))
    await visit(lambda session: session.set_user("ann"))
    await visit(lambda session: session.regenerate())
    for seconds in (3600.0, 1.0, 40.0, 3600.0):  # a rotation, its confirmation, the old one's end, another rotation
        await visit(lambda session: session.value.items.append("b"), seconds)
    await visit(lambda session: session.flash(session.csrf_token()))
    session = await visit(lambda session: None)
    assert session.user_id == "ann"
    issued.digests |= {secret.digest for secret in session._state.meta.secrets.opening}
    return visitor


def views(dump: bytes) -> Iterator[bytes]:
    """The bytes as they are, and what hexadecimal and base64 text in them says."""
    yield dump
    for run in re.findall(rb"(?:[0-9a-fA-F]{2}){32,}", dump):
        yield bytes.fromhex(run.decode())
    text = dump.translate(bytes.maketrans(b"+/", b"-_"))
    for run in re.findall(_ALPHABET + rb"{43,}", text):
        for start in range(4):
            whole = run[start : start + (len(run) - start) // 4 * 4]
            yield urlsafe_b64decode(whole)
            rest = run[start:]
            yield urlsafe_b64decode(rest + b"A" * (-len(rest) % 4))


def usable(dump: bytes, issued: Issued) -> int:
    """How many of the strings in it that are as long as a secret open a session, whatever handle they are put to."""
    digest = TokenDigest("shop", "app").of
    runs = {run for view in views(dump) for run in re.findall(_ALPHABET + rb"{40,}", view)}
    secrets = {run[at : at + _SECRET].decode() for run in runs for at in range(len(run) - _SECRET + 1)}
    return sum(digest(secret) in issued.digests for secret in secrets)


async def check(storer: Storer, copy: Callable[[], Awaitable[bytes]]) -> None:
    """Visit, copy, and try what the copy has."""
    issued, clock = Issued(), MovableClock()
    lifetime = Lifetime(10 * HOUR, 20 * HOUR, rotate=HOUR, grace=timedelta(seconds=30))

    def make_store(sealer: Sealer | None) -> StorageOverseer[Cart]:
        options: dict[str, Any] = {"clock": clock.now, "clean_every": None, "namespace": "shop"}  # Any: of many types
        return StorageOverseer(Cart, storer, lifetime=lifetime, sealer=sealer, **options)

    async with make_store(AESGCMSealer(new_key())) as sealed, make_store(None) as store:
        await visits(sealed, clock, issued)
        visitor = await visits(store, clock, issued)
        dump = await copy()
        # at the front door, with whatever looks like a token
        for run in set(re.findall(_ALPHABET + rb"{64,}", dump)):
            for at in range(len(run) - 63):
                async with Visitor({"__Host-app": run[at : at + 64].decode()}).visit() as visit:
                    assert (await store.get(visit.request)).is_new

    assert len(issued.tokens) >= 8
    assert usable(dump, issued) == 0
    for text in issued.tokens:
        assert text.encode() not in dump

    # the search is in the right place, and finds what there is to find
    (live,) = visitor.tokens.values()
    token = parse_token(live)
    assert token is not None
    assert any(digest in view for view in views(dump) for digest in issued.digests), "this is no copy of the sessions"
    secret = token.secret.encode()
    for planted in (live.encode(), secret, secret.hex().encode(), b"x" + live.encode()):
        assert usable(dump + b"\0" + planted, issued)


# a session in an EncryptedStorer

SAID = {"value": "geheim-4711", "label": "Netscape-4711", "flash": "Willkommen-4711", "owner": "anneliese-4711"}


def shown(dump: bytes) -> set[str]:
    """What of it can be read in a copy."""
    seen = list(views(dump))
    return {part for part, text in SAID.items() if any(text.encode() in view for view in seen)}


async def check_encrypted(inner: Storer, copy: Callable[[], Awaitable[bytes]]) -> None:
    """Say something in a session, write it again, log in, and look for it in the copy."""
    for storer, may_show in (
        (EncryptedStorer(inner, new_key(), hash_owners=True), set[str]()),
        (EncryptedStorer(inner, new_key()), {"owner"}),
        (inner, set(SAID)),  # the search is in the right place, and finds what there is to find
    ):
        visitor = Visitor()
        async with StorageOverseer(Cart, storer, clean_every=None) as store:
            for _ in range(2):
                async with visitor.visit() as visit:
                    session = await store.get(visit.request)
                    session.value.items.append(SAID["value"])
                    session.label = SAID["label"]
                    session.flash(SAID["flash"])
                    session.set_user(SAID["owner"])
                    await store.save(session, visit.response)
            async with visitor.visit() as visit:
                session = await store.get(visit.request)
                assert session.value.items == [SAID["value"]] * 2
                assert (session.label, session.user_id) == (SAID["label"], SAID["owner"])
            assert shown(await copy()) == may_show


# how each backend is copied


def everything_in(thing: object) -> bytes:
    """Every string that an object leads to."""
    found: dict[int, object] = {}
    waiting = [thing]
    while waiting:
        each = waiting.pop()
        if id(each) in found or isinstance(each, type) or callable(each):
            continue
        found[id(each)] = each
        waiting += gc.get_referents(each)
    texts = [
        each.encode() if isinstance(each, str) else each for each in found.values() if isinstance(each, str | bytes)
    ]
    return b"\0".join(texts)


def everything_under(folder: Path) -> bytes:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\0".join([part for path in files for part in (path.name.encode(), path.read_bytes())])


def everything_at(server: MemcachedServer) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        answers = connection.makefile("rb")
        connection.sendall(b"lru_crawler metadump all\r\n")
        keys = [unquote_to_bytes(line.split()[0].removeprefix(b"key=")) for line in iter(answers.readline, b"END\r\n")]
        dump = b""
        for key in keys:
            connection.sendall(b"get " + key + b"\r\n")
            for line in iter(answers.readline, b"END\r\n"):
                dump += line
                if line.startswith(b"VALUE "):
                    dump += answers.read(int(line.split()[3]))
        return dump


async def everything_of(server: PostgresServer, table: str) -> bytes:
    """A dump by its own tool, and the file of the table."""
    tool = server._binaries / "pg_dump"
    text = (await anyio.run_process([str(tool), "-t", table, server.url])).stdout
    connection = await asyncpg.connect(server.url)
    await connection.execute("CHECKPOINT")
    path: str = await connection.fetchval("SELECT pg_relation_filepath($1)", table)
    await connection.close()
    heap: bytes = (server._data / path).read_bytes()
    return text + heap


Check = Callable[[Storer, Callable[[], Awaitable[bytes]]], Awaitable[None]]
CHECKS = pytest.mark.parametrize("check", [check, check_encrypted])


@CHECKS
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "valkey"], indirect=True)
async def test_a_dump_holds_no_usable_token_and_nothing_that_is_encrypted(
    backend: Backend, check: Check, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """F5."""
    async with opened(backend.url) as storer:

        async def copy() -> bytes:
            match backend.name:
                case "memory":
                    return everything_in(storer)
                case "disk" | "sqlite":
                    return everything_under(tmp_path)
                case "memcached":
                    return everything_at(request.getfixturevalue("memcached_server"))
                case _:
                    table = backend.url.partition("table=")[2].partition("&")[0]
                    return await everything_of(request.getfixturevalue("postgres_server"), table)

        await check(storer, copy)


@CHECKS
async def test_neither_an_aof_nor_an_rdb_holds_a_usable_token(valkey_server: ValkeyServer, check: Check) -> None:
    """F5: with all that was there before, because an AOF forgets nothing."""
    with valkey(appendonly="yes", appendfsync="always", rdbcompression="no") as server:

        async def copy() -> bytes:
            server.ask("SAVE")
            return everything_under(server.folder)

        async with opened(f"redis://127.0.0.1:{server.port}?prefix=d:") as storer:
            await check(storer, copy)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "memcached"], indirect=True)
async def test_a_ledger_holds_nothing_of_a_token(backend: Backend) -> None:
    """F5: what a storer remembers of sessions that the client holds."""
    async with AsyncExitStack() as stack:
        storer = await stack.enter_async_context(opened(backend.url))
        store = CookieOverseer(Cart, AESGCMSealer(new_key()), revocations=storer, replay_protection=True)
        await stack.enter_async_context(store)
        visitor, tokens = Visitor(), list[str]()
        acts: list[Callable[[Session[Cart]], Any]] = [  # Any: what a call gives is not looked at
            lambda session: session.value.items.append("a"),
            lambda session: session.set_user("ann"),
            lambda session: session.value.items.append("b"),
            lambda session: session.destroy(),
        ]
        for act in acts:
            async with visitor.visit() as visit:
                session = await store.get(visit.request)
                act(session)
                await store.save(session, visit.response)
            tokens += visitor.tokens.values()
        assert len(tokens) == 3
        kept = await everything_kept(storer)
        assert kept
        for token in tokens:
            for at in range(8, len(token) - 16):  # the first eight characters name the key
                assert token[at : at + 16].encode() not in kept


async def everything_kept(storer: Any) -> bytes:  # Any: a storer that is Listable
    parts: list[bytes] = []
    for key in await collected(storer.keys()):
        record = await storer.read(key)
        parts += [key.encode(), record.value, record.meta]
    return b"\0".join(parts)
