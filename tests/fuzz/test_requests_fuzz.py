"""Mutated cookies, headers and records on their way through a store: nothing is accepted, and nothing is raised.

`--mutations` says how many; the seed is fixed, so that a failure comes again. That sealers refuse every mutated token
is test_sealers_fuzz.py's; here it is the lines around it, and what a backend gives back that somebody else changed.
"""

import json
import logging
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response

from aiosessions import (
    AESGCMSealer,
    Claims,
    CookieOptions,
    CookieOverseer,
    CookieTransport,
    HeaderTransport,
    HMACSealer,
    JWTSealer,
    Lifetime,
    MemoryStorer,
    Record,
    Sealer,
    Session,
    SessionError,
    StorageOverseer,
    new_key,
)

pytestmark = [pytest.mark.anyio, pytest.mark.fuzz]

NOW = 1_800_000_000.0
BYTES = b'ABCabc019-_=;;,. \t"~%\\:/$(){}[]\x00\r\n\x7f\x80\xc3\xa9\xff'
OURS = re.compile(r"(__Host-app(?:\.[0-9])?)=(.*)", re.ASCII | re.DOTALL)
Lines = list[bytes]
Sessions = StorageOverseer[Any] | CookieOverseer[Any]  # Any: each store's own type of values
ODD_TIMES = (math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324, -1.0, -0.0, 1e11, NOW * 1000, NOW * 1e9)
STRANGE: tuple[Any, ...] = (  # Any: everything that MessagePack can say
    *(None, True, -1, 2**31, 2**53, 2**63, 2**64 - 1, -(2**63), "", "a" * 300, "\x00", "é", "\r\nSet-Cookie: a=b"),
    *(b"", b"\xff", b"\x00" * 9, b"a" * 300, [], [[]], [None], {}, {"a": 1}, {1: 2}, [1, 2, 3]),
    msgspec.msgpack.Ext(5, b""),
    *ODD_TIMES,
)  # fmt: skip
VALUES: tuple[Any, ...] = (  # Any: everything that JSON can say, and a little more
    *(None, -1, 1e300, 2**70, 10**400, "", "x" * 300, "\ud800", [], {}, {"a": {"b": [1]}}, [{}], True, math.nan),
)  # fmt: skip
DOCUMENTS = (b"[" * 100_000, b'{"text":' * 5000 + b"1" + b"}" * 5000, b"", b"null", b"[]", b'"\xff"')
OWNERS = (None, "", "bob", "ann ", "a" * 300, "\x00", "é", "\r\nSet-Cookie: a=b", "\ud800")


@dataclass
class Item:
    product: str = "tea"
    quantity: int = 1


@dataclass
class Basket:
    items: list[Item] = field(default_factory=list[Item])
    notes: dict[str, float] = field(default_factory=dict[str, float])
    text: str = ""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Nothing here waits: one event loop is as good as another."""
    return "asyncio"


@pytest.fixture
def count(mutations: int) -> int:
    """A request takes as long as a dozen tokens: a run of the whole suite makes do with fewer."""
    return mutations if mutations >= 1_000_000 else mutations // 12


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What a store says of each mutation would fill the memory."""
    caplog.set_level(logging.CRITICAL, "aiosessions")


def request(header: str, lines: Iterable[bytes]) -> Request:
    headers = [(header.encode(), line) for line in lines]
    return Request({"type": "http", "scheme": "https", "headers": headers})


async def issued(store: Sessions, user_id: str | None, text: str) -> list[tuple[str, str]]:
    """A new session; the lines of the response that hold its token."""
    session = await store.get(request("cookie", []))
    session.value.text = text
    if user_id is not None:
        session.set_user(user_id, lifetime=Lifetime.remember_me())
        session.label = "Firefox"
        session.flash("Welcome.")
        session.csrf_token()
    response = Response()
    await store.save(session, response)
    return [(name, value) for name, value in tokens_in(response) if value]  # without what it removes


def tokens_in(response: Response) -> list[tuple[str, str]]:
    """Names and values: cookies, or the header `session-app`."""
    lines = response.headers.getlist("set-cookie") + response.headers.getlist("session-app")
    pairs = [line.partition(";")[0].partition("=") for line in lines]
    return [(name, value) if equals else ("", name) for name, equals, value in pairs]


# What comes with a request


def edited(lines: Lines, chance: random.Random) -> Lines:
    """Some bytes others, more or fewer."""
    number = chance.randrange(len(lines))
    line = bytearray(lines[number])
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(line) + 1)
        line[place : place + chance.randint(0, 2)] = bytes(chance.choices(BYTES, k=chance.randint(0, 2)))
    return [*lines[:number], bytes(line), *lines[number + 1 :]]


def flipped(lines: Lines, chance: random.Random) -> Lines:
    """One bit."""
    number = chance.randrange(len(lines))
    line = bytearray(lines[number])
    if line:
        line[chance.randrange(len(line))] ^= 1 << chance.randrange(8)
    return [*lines[:number], bytes(line), *lines[number + 1 :]]


def reordered(lines: Lines, chance: random.Random) -> Lines:
    """The pairs of a cookie header in another order, left out, repeated, on several lines."""
    pairs = [pair for line in lines for pair in line.split(b"; ")]
    pairs = chance.choices(pairs, k=chance.randint(0, len(pairs) + 1)) if chance.random() < 0.5 else pairs
    chance.shuffle(pairs)
    cut = chance.randint(0, len(pairs))
    glue = chance.choice([b"; ", b";", b" ;\t", b", ", b";;"])
    return [glue.join(part) for part in (pairs[:cut], pairs[cut:])]


def dressed(lines: Lines, chance: random.Random) -> Lines:
    """Quoted, escaped, padded, in capitals, under a name that looks alike: what a laxer parser takes for the same."""
    line = b"; ".join(lines)
    start, end = sorted(chance.choices(range(len(line) + 1), k=2))
    part = line[start:end]
    others: Sequence[bytes] = (
        *(b'"' + part + b'"', b" " + part + b"\t", part + b"\x0b", b"\xc2\xa0" + part, part.swapcase()),
        *(b"%" + part.hex().encode(), part + b"=", part + b"." + part, part[::-1], part * 2, b"$Version=1; " + part),
    )
    return [line[:start] + chance.choice(others) + line[end:]]


def padded(lines: Lines, chance: random.Random) -> Lines:
    """White space that is none beside a separator: who strips more than space and tab takes it for ours."""
    line = b"; ".join(lines)
    place = chance.choice([0, *(found.end() for found in re.finditer(rb"[;=] ?|$", line))])
    return [line[:place] + bytes(chance.choices(b" \t\x0b\x0c\x1c\x1f\x85\xa0\r\n\x00", k=1)) + line[place:]]


def swollen(lines: Lines, chance: random.Random) -> Lines:
    """Very long, or very many."""
    number = chance.randrange(len(lines))
    start = chance.randrange(len(lines[number]) + 1)
    line = (
        lines[number][:start] + bytes(chance.choices(BYTES, k=1)) * chance.choice([100, 7000]) + lines[number][start:]
    )
    return [*lines[:number], line, *lines[number + 1 :]]


MUTATIONS = (edited, edited, flipped, flipped, reordered, dressed, padded, swollen)


def carried_in_cookies(lines: Lines) -> frozenset[tuple[str, str]] | None:
    """What RFC 6265bis §5.7 says that a browser which sends these lines has, under names of ours; None: forged."""
    pairs = [pair.strip(" \t") for line in lines for pair in line.decode("latin-1").split(";")]
    ours = [(found[1], found[2]) for found in map(OURS.match, pairs) if found]
    return frozenset(ours) if len({name for name, _ in ours}) == len(ours) else None


def carried_in_headers(lines: Lines) -> frozenset[tuple[str, str]] | None:
    return frozenset({("", lines[0].decode("latin-1").strip(" \t"))}) if len(lines) == 1 else None


def stored(**options: Any) -> Sessions:
    return StorageOverseer(Basket, MemoryStorer(clock=lambda: NOW), clock=lambda: NOW, **options)


def sealed(**options: Any) -> Sessions:
    return CookieOverseer(Basket, AESGCMSealer(new_key()), clock=lambda: NOW, **options)


CHUNKS = CookieTransport(CookieOptions(max_bytes=6144))
STORES: dict[str, Callable[[], Sessions]] = {
    "reference in a cookie": stored,
    "sealed reference in a cookie": lambda: stored(sealer=AESGCMSealer(new_key())),
    "reference in a header": lambda: stored(transport=HeaderTransport()),
    "value in a cookie": sealed,
    "value in chunks": lambda: sealed(transport=CHUNKS),
    "value in a header": lambda: sealed(transport=HeaderTransport()),
}


@pytest.mark.parametrize("kind", STORES)
async def test_mutated_cookies_and_headers_are_new_sessions(kind: str, count: int) -> None:
    """R6, F1, F13: only the very token that was issued opens a session, its own; a read sends nothing."""
    chance, store = random.Random(0), STORES[kind]()
    header = "session-app" if "header" in kind else "cookie"
    carried = carried_in_headers if "header" in kind else carried_in_cookies
    texts = {"ann": "a" * 3600 if "chunks" in kind else "of ann", "bob": "b" * 3600 if "chunks" in kind else "of bob"}
    theirs = {user: await issued(store, user, text) for user, text in texts.items()}
    owners = {frozenset(pairs): user for user, pairs in theirs.items()}
    lines = [
        [value.encode() if not name else b"; ".join((b"lang=en", f"{name}={value}".encode()))]
        for pairs in theirs.values()
        for name, value in pairs[:1]
    ]
    if "chunks" in kind:
        lines = [[b"; ".join(f"{name}={value}".encode() for name, value in pairs)] for pairs in theirs.values()]
    both = [b"; ".join(line for (line,) in lines)] if header == "cookie" else [line for (line,) in lines]
    opened = 0

    for number in range(count // len(STORES)):
        start = chance.choice([*lines, *lines, both])
        mutant = chance.choice(MUTATIONS)(start, chance)
        if mutant and chance.random() < 0.2:
            mutant = chance.choice(MUTATIONS)(mutant, chance)
        asked = request(header, mutant)
        session = await store.get(asked)
        pairs = carried(mutant)
        owner = None if pairs is None else owners.get(pairs)
        assert session.user_id == owner, f"mutation {number}: {mutant!r}"
        assert session.is_new == (owner is None)
        assert session.value.text == ("" if owner is None else texts[owner])
        opened += owner is not None
        if number % 8 == 0:
            response = Response()
            await store.save(session, response)
            assert tokens_in(response) == [], f"mutation {number}: {mutant!r}"
    assert opened, "no mutation was harmless: are the lines those of a session?"


# What comes from a backend


class AlteredStorer(MemoryStorer):
    """Gives one record as somebody else left it."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: NOW)
        self.found: Record | None = None

    async def read(self, key: str) -> Record | None:
        return self.found or await super().read(key)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        if self.found is None:
            return await super().replace(key, record, version=version)
        if self.found.version != version:
            return False
        self.found = None
        await self.delete(key)
        return await self.create(key, record)

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        found = await super().list_by_owner(owner, prefix=prefix)
        return found if self.found is None else [(key, self.found) for key, _ in found]


def changed_bytes(data: bytes, chance: random.Random) -> bytes:
    (line,) = chance.choice((edited, flipped))([data], chance)
    return line


def changed_value(data: bytes, chance: random.Random) -> bytes:
    """A document with members of other types, unknown, missing or too deep; or no document."""
    kind = chance.random()
    if kind < 0.5:
        return changed_bytes(data, chance)
    if kind < 0.55:
        return chance.choice(DOCUMENTS)
    document = json.loads(data)
    where = chance.choice([document, document["items"][0]])
    where[chance.choice(["text", "items", "notes", "product", "quantity", "other", "é\x00"])] = chance.choice(VALUES)
    return json.dumps(document).encode()


def changed_meta(data: bytes, chance: random.Random) -> bytes:
    """The compartment with members of other types, of absurd size, missing or too many; or other bytes."""
    if chance.random() < 0.4:
        return changed_bytes(data, chance)
    members: list[object] = msgspec.msgpack.decode(data)
    where = members
    while True:
        place = chance.randrange(len(where))
        if isinstance(where[place], list) and where[place] and chance.random() < 0.7:
            where = cast("list[object]", where[place])
            continue
        how = chance.random()
        if how < 0.8:
            where[place] = chance.choice(STRANGE)
        elif how < 0.9:
            del where[place:]
        else:
            where.insert(place, chance.choice((where[place], chance.choice(STRANGE))))
        return msgspec.msgpack.encode(members)


FIELDS = ("value", "value", "meta", "meta", "meta", "owner", "created_at", "seen_at", "expires_at")


def changed_record(record: Record, chance: random.Random) -> Record:
    """One field other, now and then two."""
    for name in dict.fromkeys(chance.choices(FIELDS, k=1 + (chance.random() < 0.2))):
        match name:
            case "value":
                record = msgspec.structs.replace(record, value=changed_value(record.value, chance))
            case "meta":
                record = msgspec.structs.replace(record, meta=changed_meta(record.meta, chance))
            case "owner":
                record = msgspec.structs.replace(record, owner=chance.choice(OWNERS))
            case "created_at":
                record = msgspec.structs.replace(record, created_at=chance.choice(ODD_TIMES))
            case "seen_at":
                record = msgspec.structs.replace(record, seen_at=chance.choice(ODD_TIMES))
            case _:
                record = msgspec.structs.replace(record, expires_at=chance.choice((None, *ODD_TIMES)))
    if chance.random() < 0.1:
        record = msgspec.structs.replace(record, version=chance.choice([0, -1, 2**63, 2**64, 2**80]))
    return record


def look(session: Session[Basket]) -> None:
    """At everything that a session shows."""
    moments = [session.created_at, session.updated_at, session.seen_at, session.expires_at, session.authenticated_at]
    assert all(moment is None or moment.tzinfo is not None for moment in moments)
    assert not session.is_expired
    session.flashes(peek=True)
    assert isinstance(session.label, str | None)
    assert f"{session!r}".isprintable()
    session.check_csrf("AAAA")
    if session.is_authenticated:
        session.require_fresh(timedelta(days=4000))


def buy(value: Basket) -> None:
    value.items.append(Item("cake"))


async def act(store: Sessions, session: Session[Basket], what: str) -> None:
    """What a handler may do."""
    match what:
        case "change":
            buy(session.value)
        case "update":
            await store.update(session, buy)
        case "login":
            session.set_user("eve")
        case "clear_user":
            session.clear_user()
        case "regenerate":
            session.regenerate()
        case "destroy":
            session.destroy()
        case "flash":
            session.flashes()
            session.flash("again")
        case "csrf":
            assert session.check_csrf(session.csrf_token())
        case "label":
            session.label = "another"
        case _:
            session.touch()


ACTS = ("change", "change", "update", "login", "clear_user", "regenerate", "destroy", "flash", "csrf", "label", "touch")


@pytest.mark.parametrize(
    "options",
    [{}, {"sealer": HMACSealer(new_key())}, {"lifetime": Lifetime(rotate=timedelta(seconds=1))}],
    ids=["plain", "sealed", "rotating"],
)
async def test_mutated_records_raise_nothing_but_our_own(options: dict[str, Any], count: int) -> None:
    """F13, V2: the session, a new one or an error of ours; its user is the record's or nobody."""
    chance, storer = random.Random(0), AlteredStorer()
    store = StorageOverseer(Basket, storer, clock=lambda: NOW, on_storer_error="raise", **options)
    ((name, token),) = await issued(store, "ann", "of ann")
    ((key, original),) = await storer.list_by_owner("ann")
    whole = msgspec.structs.replace(
        original, value=msgspec.json.encode(Basket([Item()], {"a": 1.5}, "of ann")), version=1
    )
    lines = [f"{name}={token}".encode()]
    known = 0

    for number in range(count // 3):
        storer.found = None
        await storer.delete(key)
        await storer.create(key, original)
        found = changed_record(whole, chance)
        what = chance.choice(ACTS)
        is_late = chance.random() < 0.1
        storer.found = whole if is_late else found
        try:
            session = await store.get(request("cookie", lines))
            if is_late:  # somebody changes it while the request runs
                storer.found, found = msgspec.structs.replace(found, version=2), whole
            assert (session.user_id, session.handle) == ((None, "") if session.is_new else (found.owner, key[-24:]))
            known += not session.is_new
            look(session)
            if number % 4 == 0:
                assert all(info.handle == key[-24:] for info in await store.user_sessions("ann"))
            await act(store, session, what)
            await store.save(session, Response())
        except SessionError:
            continue
        except Exception as error:
            raise AssertionError(f"mutation {number}, {what}: {found!r}") from error
    assert known > count // 12, "hardly a record was read"


MEMBERS = ("body", "body", "meta", "meta", "meta", "user_id", "issued_at", "expires_at", "session_id")


def changed_claims(claims: Claims, chance: random.Random) -> Claims:
    """One field other, now and then two."""
    for name in dict.fromkeys(chance.choices(MEMBERS, k=1 + (chance.random() < 0.2))):
        match name:
            case "body":
                claims = structs.replace(claims, body=changed_value(claims.body, chance))
            case "meta":
                claims = structs.replace(
                    claims, meta=changed_meta(claims.meta or b"\x90", chance) if chance.random() < 0.8 else b""
                )
            case "user_id":
                claims = structs.replace(claims, user_id=chance.choice(OWNERS))
            case "session_id":
                claims = structs.replace(claims, session_id=chance.choice(["", "a" * 300, "\x00", "é", "\r\n", "a:b"]))
            case "expires_at":
                claims = structs.replace(claims, expires_at=chance.choice([*ODD_TIMES, None, NOW + 60]))
            case _:
                claims = structs.replace(claims, issued_at=chance.choice([*ODD_TIMES, NOW - 1]))
    return claims


@pytest.mark.parametrize("sealer", [HMACSealer(new_key()), JWTSealer(new_key())], ids=["HMAC", "JWT"])
async def test_strange_claims_under_the_right_key_raise_nothing_but_our_own(sealer: Sealer, count: int) -> None:
    """F13: what other software, or another version of this one, sealed under a shared key."""
    chance = random.Random(0)
    store = CookieOverseer(Basket, sealer, clock=lambda: NOW)
    ((name, token),) = await issued(store, "ann", "of ann")
    original = sealer.open(token, name="app", now=NOW)
    assert original is not None
    whole = structs.replace(original, body=msgspec.json.encode(Basket([Item()], {"a": 1.5}, "of ann")))
    known = 0

    for number in range(count // 2):
        claims = changed_claims(whole, chance)
        what = chance.choice(ACTS)
        try:
            token = sealer.seal(claims, name="app")
        except (SessionError, ValueError, OverflowError):
            continue  # no software could say so either
        try:
            session = await store.get(request("cookie", [f"{name}={token}".encode()]))
            assert (session.user_id, session.handle) == (
                (None, "") if session.is_new else (claims.user_id, claims.session_id)
            )
            known += not session.is_new
            look(session)
            await act(store, session, what)
            await store.save(session, Response())
        except SessionError:
            continue
        except Exception as error:
            raise AssertionError(f"mutation {number}, {what}: {claims!r} {claims.body!r} {claims.meta!r}") from error
    assert known > count // 12, "hardly a token was read"
