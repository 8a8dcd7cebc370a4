"""EncryptedStorer: what every storer promises, here over memory, and what it promises beside that."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import pytest
from msgspec.structs import replace as changed

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOverseer,
    DecodeError,
    DiskStorer,
    Durable,
    EncryptedStorer,
    Event,
    Key,
    MemoryStorer,
    NoSessionError,
    Openable,
    Record,
    SQLiteStorer,
    StorageOverseer,
    Storer,
    StorerError,
    UserIndexed,
    new_key,
)
from aiosessions._tokens import new_version
from aiosessions.storers import storer as protocols
from aiosessions.storers.holding import is_held
from aiosessions.storers.memcached import MemcachedStorer
from aiosessions.storers.postgres import PostgresStorer
from aiosessions.storers.redis import RedisStorer
from aiosessions.testing.suites_store import Visitor
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    MovableClock,
    StorerCase,
    StorerSuite,
    UserIndexedSuite,
)
from tests.facts import facts

pytestmark = pytest.mark.anyio

OLD, NEW = new_key(), new_key()


@asynccontextmanager
async def opened(storer: Storer) -> AsyncGenerator[Storer]:
    if not isinstance(storer, Openable):
        yield storer
        return

    await storer.open()
    try:
        yield storer
    finally:
        await storer.aclose()


# Every promise of a storer


class Encrypted(StorerCase):
    """Gives the suites an EncryptedStorer over the fixtures `inner` and `beside`."""

    @pytest.fixture(params=[False, True], ids=["owners", "hashed"])
    def hash_owners(self, request: pytest.FixtureRequest) -> bool:
        chosen: bool = request.param
        return chosen

    @pytest.fixture
    async def storer(self, inner: Storer, hash_owners: bool) -> AsyncIterator[Storer]:
        async with opened(EncryptedStorer(inner, [NEW, OLD], hash_owners=hash_owners)) as storer:
            yield storer

    @pytest.fixture
    async def neighbour(self, beside: Storer, hash_owners: bool) -> AsyncIterator[Storer]:
        async with opened(EncryptedStorer(beside, [NEW, OLD], hash_owners=hash_owners)) as storer:
            yield storer


class TestOverMemory(Encrypted, StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite):
    @pytest.fixture
    async def inner(self, clock: Clock) -> MemoryStorer:
        return MemoryStorer(clock=clock.now)

    @pytest.fixture
    async def beside(self, clock: Clock) -> MemoryStorer:
        return MemoryStorer(clock=clock.now)


# What it can


class Bare:
    """A storer that can what every storer can, and no more."""

    def __init__(self) -> None:
        inner = MemoryStorer()
        self.read, self.create, self.replace = inner.read, inner.create, inner.replace
        self.touch, self.delete = inner.touch, inner.delete


class Counted(MemoryStorer):
    """One with something to open, that may turn out to forget."""

    forgets = False

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    @property
    def durable(self) -> bool:
        return not self.forgets

    async def open(self) -> None:
        self.calls.append("open")

    async def aclose(self) -> None:
        self.calls.append("close")


CAPABILITIES = [
    each for each in vars(protocols).values() if isinstance(each, type) and getattr(each, "_is_runtime_protocol", False)
]
INNERS: dict[str, Callable[[], Storer]] = {
    "nothing": Bare,
    "memory": MemoryStorer,
    "memory that evicts": lambda: MemoryStorer(max_sessions=3),
    "disk": lambda: DiskStorer("unused"),
    "SQLite": lambda: SQLiteStorer("unused.db"),
    "Valkey": lambda: RedisStorer.from_url("valkey://localhost"),
    "PostgreSQL": lambda: PostgresStorer.from_url("postgresql://localhost/shop"),
    "memcached": lambda: MemcachedStorer.from_url("memcached://localhost"),
    "encrypted": lambda: EncryptedStorer(MemoryStorer(), NEW),
}


@pytest.mark.parametrize("make_inner", INNERS.values(), ids=INNERS)
def test_it_can_what_the_inner_storer_can(make_inner: Callable[[], Storer]) -> None:
    inner = make_inner()
    storer = EncryptedStorer(inner, NEW)
    assert len(CAPABILITIES) == 6
    for capability in CAPABILITIES:
        assert isinstance(storer, capability) is isinstance(inner, capability), capability
    if isinstance(inner, Durable):
        assert isinstance(storer, Durable)
        assert storer.durable is inner.durable
    assert isinstance(storer, EncryptedStorer)
    assert repr(storer) == f"<EncryptedStorer over {inner!r}>"


def test_it_is_as_durable_as_the_inner_storer_is_now() -> None:
    """F16: what a server is configured to is known once it is open."""
    inner = Counted()
    storer = EncryptedStorer(inner, NEW)
    assert isinstance(storer, Durable)
    assert storer.durable
    inner.forgets = True
    assert not storer.durable


def test_a_subclass_keeps_what_it_adds() -> None:
    class Named(EncryptedStorer):
        async def clean(self) -> int:
            return -1

    storer = Named(MemoryStorer(), NEW)
    assert type(storer).__name__ == "Named"
    assert isinstance(storer, UserIndexed)
    assert type(storer).clean is Named.clean


async def test_stores_over_it_and_over_the_inner_storer_open_that_one_once() -> None:
    """S16, X6: opened by the first, closed by the last, with one cleaner."""
    inner = Counted()
    storer = EncryptedStorer(inner, NEW)
    stores = [StorageOverseer(str, each, name=name) for each, name in ((storer, "a"), (inner, "b"), (storer, "c"))]
    async with stores[0]:
        assert is_held(inner)
        async with stores[1], stores[2]:
            assert inner.calls == ["open"]
        assert inner.calls == ["open"]
    assert inner.calls == ["open", "close"]
    assert not is_held(storer)


# What is stored, and what does not open


def a_record(value: bytes = b'{"n":1}', *, owner: str | None = "ann", now: float = 0.0) -> Record:
    now = now or time.time()
    return Record(value, b"meta", owner, now, now, now + 3600, new_version())


class Kept:
    """A storer over memory, and what that keeps.

    Args:
        keys: the ring.
    """

    def __init__(self, *keys: str | Key, hash_owners: bool = False) -> None:
        self.inner = MemoryStorer()
        self.hash_owners = hash_owners
        self.storer = self.under(*(keys or (NEW,)))

    def under(self, *keys: str | Key) -> Any:  # Any: an EncryptedStorer that is UserIndexed
        """Another process, with these keys."""
        return EncryptedStorer(self.inner, keys, hash_owners=self.hash_owners)

    async def sealed(self, key: str = "k") -> Record:
        record = await self.inner.read(key)
        assert record is not None
        return record

    async def put(self, key: str, record: Record) -> None:
        """What somebody does who can write to the backend."""
        await self.inner.delete(key)
        assert await self.inner.create(key, record)


async def test_value_and_meta_are_sealed_anew_by_each_write() -> None:
    """F9: equal ones differ, from each other and from write to write; times and version are what they were."""
    kept = Kept()
    record = changed(a_record(b"meta"), meta=b"meta")
    await kept.storer.create("k", record)
    first = await kept.sealed()
    await kept.storer.replace("k", record, version=record.version)
    await kept.storer.create("other", record)
    sealed = [first, await kept.sealed("other")]
    assert len({part for each in sealed for part in (each.value, each.meta)}) == 4
    for each in sealed:
        assert changed(each, value=b"meta", meta=b"meta") == record
        assert b"meta" not in each.value + each.meta


async def test_what_is_of_another_record_or_another_part_does_not_open() -> None:
    """F8: bound to the record's key, and to which of the two it is."""
    kept = Kept()
    await kept.storer.create("a", a_record())
    await kept.storer.create("b", a_record())
    a, b = await kept.sealed("a"), await kept.sealed("b")
    for moved in (
        b,
        changed(a, value=b.value),
        changed(a, meta=b.meta),
        changed(a, value=a.meta),
        changed(a, meta=a.value),
        changed(a, value=a.meta, meta=a.value),
    ):
        await kept.put("a", moved)
        with pytest.raises(DecodeError, match="it was changed, or is of another record or write"):
            await kept.storer.read("a")
    await kept.put("a", a)
    assert await kept.storer.read("a") is not None


async def test_what_two_writes_left_does_not_mix_and_a_whole_record_can_be_put_back() -> None:
    """F8: bound to the version, which a touch leaves as it is. The second is what docs/storage.md says of it."""
    kept = Kept()
    record, later = a_record(), a_record(b'{"n":2}')
    await kept.storer.create("k", record)
    await kept.storer.touch("k", seen_at=record.seen_at + 1, expires_at=None)
    before = await kept.sealed()
    await kept.storer.replace("k", later, version=record.version)
    after = await kept.sealed()
    for mixed in (changed(after, value=before.value), changed(after, meta=before.meta)):
        await kept.put("k", mixed)
        with pytest.raises(DecodeError, match="it was changed"):
            await kept.storer.read("k")
    await kept.put("k", before)
    assert await kept.storer.read("k") == changed(record, seen_at=record.seen_at + 1, expires_at=None)


async def test_no_byte_can_be_changed_and_none_cut_off() -> None:
    """F6: and what is no sealed record at all is a DecodeError like any other."""
    kept = Kept()
    await kept.storer.create("k", a_record())
    whole = await kept.sealed()
    for part in ("value", "meta"):
        data: bytes = getattr(whole, part)
        wrong = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
        wrong += [data[:size] for size in range(len(data))] + [data + b"\0", b"\xff" * 100]
        for each in wrong:
            await kept.put("k", changed(whole, **{part: each}))
            with pytest.raises(DecodeError) as caught:
                await kept.storer.read("k")
            assert caught.value.__cause__ is None


async def test_plain_text_does_not_open() -> None:
    """Whether all of it is, or a part."""
    kept = Kept()
    plain = a_record()
    await kept.storer.create("k", plain)
    sealed = await kept.sealed()
    for each in (plain, changed(sealed, value=plain.value), changed(sealed, meta=plain.meta)):
        await kept.put("k", each)
        with pytest.raises(DecodeError, match="its key is not in the ring"):
            await kept.storer.read("k")


async def test_what_a_later_version_sealed_does_not_open() -> None:
    kept = Kept()
    await kept.storer.create("k", a_record())
    bound = kept.storer._seals._keys.sealing("", time.time())
    of = b"%d:k" % (await kept.sealed()).version
    for meta in (b"", b"\xc1", b"\x92\xc4\x01\xff\xc4\x00"):
        await kept.put("k", changed(await kept.sealed(), meta=bound.seal(b"m" + of, meta)))
        with pytest.raises(DecodeError, match="of another version"):
            await kept.storer.read("k")


@pytest.mark.parametrize("hash_owners", [False, True])
async def test_who_writes_to_the_backend_makes_nobody_somebody_else(hash_owners: bool) -> None:
    """The owner that counts is the sealed one."""
    kept = Kept(hash_owners=hash_owners)
    await kept.storer.create("k", a_record(owner="mallory"))
    await kept.storer.create("bob's", a_record(owner="bob"))
    bob = (await kept.sealed("bob's")).owner
    await kept.put("k", changed(await kept.sealed(), owner=bob))
    assert (await kept.storer.read("k")).owner == "mallory"
    assert [key for key, _ in await kept.storer.list_by_owner("bob")] == ["bob's"]


@pytest.mark.parametrize("hash_owners", [False, True])
async def test_a_list_leaves_out_what_does_not_open_and_delete_by_owner_ends_it(hash_owners: bool) -> None:
    kept = Kept(hash_owners=hash_owners)
    for key in ("a", "b", "c"):
        await kept.storer.create(key, a_record())
    await kept.put("b", changed(await kept.sealed("b"), value=b"{}"))
    assert {key for key, _ in await kept.storer.list_by_owner("ann")} == {"a", "c"}
    assert await kept.storer.delete_by_owner("ann", keep="c") == 2
    assert await kept.inner.read("b") is None


SAMPLE_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
SAMPLE = Record(b'{"n":1}', b"\x00\xffmeta", "\u0416\x01", 1.7e9, 1.7e9, 4_102_444_800.0, 7)
SEALED = Record(
    bytes.fromhex(
        "4157784c64447436d27732da67bc325bd8cc1d404df74a6e6edc71f23b689f6c9dac3c3c45d2f613531ac61dbd7b876743e15c94ce48d4"
    ),
    bytes.fromhex(
        "4157784c64447436d27732da67bc325bd8cc1d4060abc850405a572946f098949aeb00d6558aaa575b172a25cf0232b254b758be5efab3a25c30aedc0e16"
    ),
    "HYwnCFCIAuZz6-MN_taCFk_DAYIAHdyJQIakeqMzVmY",
    1.7e9,
    1.7e9,
    4_102_444_800.0,
    7,
)


async def test_what_was_sealed_once_opens_for_ever() -> None:
    """As the samples of storers and sealers: never changed, only added to."""
    kept = Kept(SAMPLE_KEY, hash_owners=True)
    await kept.put("app:é\0", SEALED)
    assert await kept.storer.read("app:é\0") == SAMPLE
    assert await kept.storer.list_by_owner("\u0416\x01") == [("app:é\0", SAMPLE)]


# Keys


async def test_an_old_key_opens_and_the_next_write_seals_under_the_newest() -> None:
    """F7: but no touch does."""
    kept = Kept(OLD)
    record = a_record()
    await kept.storer.create("k", record)

    both = kept.under(NEW, OLD)
    assert await both.read("k") == record
    await both.touch("k", seen_at=record.seen_at + 1, expires_at=None)
    with pytest.raises(DecodeError, match="its key is not in the ring"):
        await kept.under(NEW).read("k")

    later = a_record(b'{"n":2}')
    assert await both.replace("k", later, version=record.version)
    assert await kept.under(NEW).read("k") == later
    with pytest.raises(DecodeError):
        await kept.storer.read("k")


async def test_a_key_seals_from_its_time_on_and_opens_before() -> None:
    """What a fleet that learns a key server by server needs; the time is that of the write."""
    now = time.time()
    soon = Key(NEW, not_before=datetime.fromtimestamp(now, UTC) + timedelta(hours=1))
    kept = Kept(soon, OLD, hash_owners=True)
    before, after = a_record(now=now), a_record(now=now + 3700)
    await kept.storer.create("before", before)
    await kept.storer.create("after", after)
    assert await kept.under(OLD).read("before") == before
    assert await kept.under(NEW).read("after") == after
    assert dict(await kept.storer.list_by_owner("ann")) == {"before": before, "after": after}


async def test_hashed_owners_are_found_under_every_key() -> None:
    """And not under one that is gone."""
    kept = Kept(OLD, hash_owners=True)
    await kept.storer.create("old", a_record())
    both = kept.under(NEW, OLD)
    await both.create("new", a_record())
    await both.create("nobody's", a_record(owner=None))
    owners = [(await kept.sealed(key)).owner for key in ("old", "new", "nobody's")]
    assert owners[2] is None
    assert len({"ann", *owners}) == 4
    assert {key for key, _ in await both.list_by_owner("ann")} == {"old", "new"}
    assert [key for key, _ in await kept.under(NEW).list_by_owner("ann")] == ["new"]
    assert await both.delete_by_owner("ann", keep="old") == 1
    assert await both.delete_by_owner("ann") == 1
    assert await kept.inner.read("nobody's") is not None


class Meanwhile(MemoryStorer):
    """Somebody else writes after the first question about an owner."""

    async def write(self) -> object: ...

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        found = await super().list_by_owner(owner, prefix=prefix)
        await self.write()
        return found

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        count = await super().delete_by_owner(owner, prefix=prefix, keep=keep)
        await self.write()
        return count


@pytest.mark.parametrize("is_list", [True, False])
async def test_a_record_that_is_sealed_again_meanwhile_is_found_once(
    is_list: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S15: no live session is ever in no index, and every one confirmed before ends."""
    inner = Meanwhile()
    record = a_record()
    await EncryptedStorer(inner, OLD, hash_owners=True).create("k", record)
    storer: Any = EncryptedStorer(inner, [NEW, OLD], hash_owners=True)  # Any: it is UserIndexed
    monkeypatch.setattr(inner, "write", lambda: storer.replace("k", a_record(), version=record.version))
    if is_list:
        assert [key for key, _ in await storer.list_by_owner("ann")] == ["k"]
    else:
        assert await storer.delete_by_owner("ann") == 1
        assert await storer.read("k") is None


@pytest.mark.parametrize("keys", ["short", [], [new_key()[:20]]])
def test_what_cannot_seal_is_refused(keys: Any) -> None:
    with pytest.raises(ConfigError, match="keys"):
        EncryptedStorer(MemoryStorer(), keys)


def frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


@pytest.mark.parametrize("inner", [MemoryStorer, object(), None])
def test_what_is_no_storer_is_refused_and_no_frame_shows_a_key(inner: Any) -> None:
    """V8: tracebacks may show local variables."""
    with pytest.raises(ConfigError, match="inner") as caught:
        EncryptedStorer(inner, NEW)
    for trace in list(frames(caught.tb))[1:]:  # the first is this test's own
        assert NEW not in repr(trace.tb_frame.f_locals)


# A store over it


class Shop:
    """A store over memory, its events, and somebody who has logged in.

    Args:
        keys: the ring.
    """

    def __init__(self, *keys: str) -> None:
        self.clock = MovableClock(time.time())
        self.inner = MemoryStorer(clock=self.clock.now)
        self.events: list[Event] = []
        self.visitor = Visitor()
        self.store = self.under(*keys)

    def under(self, *keys: str) -> StorageOverseer[dict[str, int]]:
        """After a restart with these keys."""
        storer = EncryptedStorer(self.inner, keys)
        return StorageOverseer(dict[str, int], storer, clock=self.clock.now, on_event=facts(self.events))

    async def log_in(self, store: StorageOverseer[dict[str, int]], visitor: Visitor) -> str:
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session["n"] = 1
            session.set_user("ann")
            session.label = "Firefox"
            await store.save(session, visit.response)
        self.events.clear()
        return session.handle


async def test_a_session_whose_key_is_gone_is_a_new_one_and_its_record_stays() -> None:
    """V2, F7: as one that was written by another version; nothing is sent, and nothing raises."""
    shop = Shop(OLD)
    handle = await shop.log_in(shop.store, shop.visitor)
    store = shop.under(NEW)
    async with store:
        async with shop.visitor.visit() as visit:
            session = await store.get(visit.request)
            assert (session.is_new, session.user_id) == (True, None)
            await store.save(session, visit.response)
            assert visit.sent == []
        assert [(event.kind, event.handle, event.user_id) for event in shop.events] == [("unreadable", handle, None)]

        async with shop.visitor.visit() as visit:
            session = await store.get(visit.request)
            session["n"] = 2
            await store.save(session, visit.response)
            assert len(visit.sent) == 1
        async with shop.visitor.visit() as visit:
            assert await store.get(visit.request) == {"n": 2}
    assert await shop.inner.read(f":app:{handle}") is not None, "nobody has proven a right to it"


async def test_a_session_whose_key_is_gone_ends_with_all_of_the_user() -> None:
    """ASVS 5 7.4.2: also where nobody can read it any more; one by one StorerError says that it has not ended."""
    shop = Shop(OLD)
    handle = await shop.log_in(shop.store, shop.visitor)
    store, other = shop.under(NEW), Visitor()
    async with store:
        theirs = await shop.log_in(store, other)
        assert [info.handle for info in await store.user_sessions("ann")] == [theirs]
        assert [info.handle async for info in store.sessions()] == [theirs]
        with pytest.raises(NoSessionError):
            await store.open(handle, user_id="ann")
        with pytest.raises(StorerError, match="cannot be read"):
            await store.delete(handle, user_id="ann")
        assert await store.delete_user_sessions("ann") == 2
        assert [info.handle async for info in store.sessions()] == []
    assert await shop.inner.read(f":app:{handle}") is None


async def test_everybody_ends_also_whose_key_is_gone() -> None:
    """ASVS 5 7.4.3."""
    shop = Shop(OLD)
    await shop.log_in(shop.store, shop.visitor)
    async with shop.under(NEW) as store:
        assert await store.delete_all() == 1


async def test_a_session_whose_key_goes_between_read_and_write_is_not_written_over() -> None:
    """F14: it is dropped, as one of another epoch is."""
    shop = Shop(NEW)
    handle = await shop.log_in(shop.store, shop.visitor)
    async with shop.store, shop.visitor.visit() as visit:
        session = await shop.store.get(visit.request)
        session["n"] = 2
        record = await shop.inner.read(f":app:{handle}")
        assert record is not None
        await shop.inner.replace(f":app:{handle}", changed(record, meta=b"", version=1), version=record.version)
        await shop.store.save(session, visit.response)
        assert visit.sent == []
    assert [event.kind for event in shop.events] == ["loaded", "unreadable", "dropped"]


async def test_a_logout_of_a_session_whose_key_is_gone_says_that_it_may_live() -> None:
    """F14: whoever adds the key again would find it."""
    shop = Shop(OLD)
    await shop.log_in(shop.store, shop.visitor)
    store = shop.under(NEW)
    async with store, shop.visitor.visit() as visit:
        session = await store.get(visit.request)
        session.destroy()
        with pytest.raises(StorerError, match="may not have ended"):
            await store.save(session, visit.response)


async def test_a_revocation_that_does_not_open_is_never_none() -> None:
    """F16: a StorerError, as of a backend that fails."""
    inner, sealer, visitor = MemoryStorer(), AESGCMSealer(new_key()), Visitor()

    def under(key: str) -> CookieOverseer[dict[str, int]]:
        return CookieOverseer(dict[str, int], sealer, revocations=EncryptedStorer(inner, key))

    async with under(OLD) as store, visitor.visit() as visit:
        session = await store.get(visit.request)
        session.set_user("ann")
        await store.save(session, visit.response)
        await store.delete_user_sessions("ann")
    async with under(NEW) as store, visitor.visit() as visit:
        with pytest.raises(StorerError, match="ledger"):
            await store.get(visit.request)
