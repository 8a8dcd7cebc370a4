"""The storer suites themselves: they find what is wrong, and say what it is."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from msgspec.structs import replace as changed

from aiosessions._errors import SessionTooLargeError
from aiosessions.storers.memory import MemoryStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    ListableSuite,
    MovableClock,
    StorerSuite,
    UserIndexedSuite,
    WaitingClock,
)

pytestmark = pytest.mark.anyio


class Overwriting(MemoryStorer):
    async def create(self, key: str, record: Record) -> bool:
        await self.delete(key)
        return await super().create(key, record)


class Upserting(MemoryStorer):
    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await super().replace(key, record, version=version) or await super().create(key, record)


class Trusting(MemoryStorer):
    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        found = await self.read(key)
        return await super().replace(key, record, version=found.version if found else version)


class Hoarding(MemoryStorer):
    """Never notices that a record has expired."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        start = clock()
        super().__init__(clock=lambda: start)


class Forgetful(MemoryStorer):
    async def read(self, key: str) -> Record | None:
        record = await super().read(key)
        return record and changed(record, meta=b"", owner="nobody")


class Coarse(MemoryStorer):
    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        return await super().touch(key, seen_at=seen_at // 60 * 60, expires_at=expires_at)


class Amnesiac(MemoryStorer):
    async def read(self, key: str) -> Record | None:
        return None


class Decoding(MemoryStorer):
    """Keeps JSON as JSON and, where that cannot be, the bytes; or leaves even that out."""

    keeps_bytes = True

    async def create(self, key: str, record: Record) -> bool:
        return await super().create(key, changed(record, value=self._stored(record.value)))

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        return await super().replace(key, changed(record, value=self._stored(record.value)), version=version)

    def _stored(self, value: bytes) -> bytes:
        if self.keeps_bytes and any(text in value for text in (b"\\u0000", b"\\ud800", b"-0.0")):
            return value
        try:
            return json.dumps(json.loads(value)).encode().replace(b"-0.0", b"0.0")
        except ValueError:
            return value


class Lossy(Decoding):
    keeps_bytes = False


class Listing(MemoryStorer):
    """Finds each record of an owner twice, and every key."""

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        return await super().list_by_owner(owner, prefix=prefix) * 2

    async def keys(self) -> AsyncIterator[str]:
        for key in tuple(self._records):
            yield key


class Hasty(MemoryStorer):
    async def clean(self) -> int:
        return len([key for key in tuple(self._records) if await self.read(key) is None])


class Bounded(MemoryStorer):
    """Takes values up to 1000 bytes, as memcached takes up to 1 MB."""

    limit = 1000

    async def create(self, key: str, record: Record) -> bool:
        self._check(key, record)
        return await super().create(key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        self._check(key, record)
        return await super().replace(key, record, version=version)

    def _check(self, key: str, record: Record) -> None:
        if len(record.value) > self.limit:
            raise SessionTooLargeError(key, size=len(record.value), limit=self.limit)


class JSONSuite(StorerSuite):
    stores_json = True


class BoundedSuite(StorerSuite):
    max_value = Bounded.limit


class EvictingSuite(StorerSuite):
    durable = False


class WaitingSuite(StorerSuite):
    waits = True
    shortest = 0.02


@pytest.mark.parametrize(
    ("flawed", "test", "complaint"),
    [
        (
            Overwriting,
            StorerSuite().test_create_on_a_present_key_changes_nothing,
            "create of a present key must return",
        ),
        (Overwriting, StorerSuite().test_of_20_racing_creates_one_wins, "20 of 20 racing creates won"),
        (
            Overwriting,
            StorerSuite().test_a_create_that_is_sent_again_is_applied_once,
            "seen_at is .*, not .*expires_at",
        ),
        (Upserting, StorerSuite().test_replace_of_an_absent_key_creates_nothing, "replace must not create"),
        (Trusting, StorerSuite().test_replace_against_another_version_changes_nothing, "another version must return"),
        (Trusting, StorerSuite().test_of_20_racing_replaces_one_wins, "20 of 20 racing replaces won"),
        (Hoarding, StorerSuite().test_a_record_is_gone_once_it_expires, "never be returned at or after its expires_at"),
        (Hoarding, ListableSuite().test_the_live_keys_are_listed, "should not be there .'expired'"),
        (
            Forgetful,
            StorerSuite().test_touch_moves_both_times_and_nothing_else,
            "meta is b'', not .*; owner is 'nobody'",
        ),
        (Coarse, StorerSuite().test_touch_moves_both_times_and_nothing_else, "after touch: seen_at is"),
        (Amnesiac, StorerSuite().test_versions_of_63_bits_are_kept, "after create: the record is absent"),
        (
            Lossy,
            partial(JSONSuite().test_what_json_storage_cannot_keep_comes_back_as_bytes, value=b'{"a":-0.0}'),
            "byte for byte",
        ),
        (
            Decoding,
            partial(StorerSuite().test_value_and_meta_come_back_as_they_were, value=b'{"a":1}'),
            "value is .*, not",
        ),
        (Listing, UserIndexedSuite().test_an_owner_changed_by_replace_moves, "gave a key twice"),
        (Hasty, CleanableSuite().test_clean_removes_what_expired_a_minute_ago_and_counts_it, "a minute ago must stay"),
        (Hasty, CleanableSuite().test_clean_yields_to_the_event_loop, "no other task ran"),
    ],
)
async def test_a_flaw_is_found_and_named(
    flawed: Callable[..., MemoryStorer], test: Callable[..., Awaitable[None]], complaint: str
) -> None:
    clock = MovableClock()
    storer = flawed(clock=clock.now)
    with pytest.raises(AssertionError, match=complaint):
        await test(storer, clock)


@pytest.mark.parametrize("value", [b'{"a":1, "b":[ ]}', b'{"a":"\\u0000"}', b"\xff", b""])
async def test_a_storer_that_keeps_json_as_json_may_say_so(value: bytes) -> None:
    """S2: then an equal document will do, and what is no document comes back byte for byte."""
    clock = MovableClock()
    await JSONSuite().test_value_and_meta_come_back_as_they_were(Decoding(clock=clock.now), clock, value)
    await JSONSuite().test_what_json_storage_cannot_keep_comes_back_as_bytes(
        Decoding(clock=clock.now), clock, b'{"a":-0.0}'
    )


async def test_a_storer_that_evicts_must_say_so_to_the_suite() -> None:
    """F16: and one that says more than its suite is told is found."""
    with pytest.raises(AssertionError, match="durable must be True"):
        await StorerSuite().test_it_says_whether_it_keeps_what_it_confirmed(MemoryStorer(max_sessions=10))
    with pytest.raises(AssertionError, match="durable must be False"):
        await EvictingSuite().test_it_says_whether_it_keeps_what_it_confirmed(MemoryStorer())


async def test_a_storer_with_a_limit_must_keep_to_it() -> None:
    """S18."""
    clock = MovableClock()
    await BoundedSuite().test_a_value_too_large_is_refused_and_the_old_record_stays(Bounded(clock=clock.now), clock)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        await BoundedSuite().test_a_value_too_large_is_refused_and_the_old_record_stays(
            MemoryStorer(clock=clock.now), clock
        )


async def test_a_backend_that_keeps_the_clock_is_waited_for() -> None:
    """S9: and what would take too long is skipped, with the reason."""
    clock = WaitingClock()
    suite = WaitingSuite()
    storer = MemoryStorer(clock=time.time)
    await suite.test_a_record_is_gone_once_it_expires(storer, clock)
    with pytest.raises(pytest.skip.Exception, match="would have to wait"):
        await suite.test_a_record_without_a_deadline_persists(storer, clock)


async def test_long_values_are_cut_in_what_a_failure_says() -> None:
    """V8: a test's output is read by people."""
    clock = MovableClock()
    suite = StorerSuite()
    record = suite.record(clock, value=b"x" * 1000)
    with pytest.raises(AssertionError, match=r"\(1003 characters\)") as caught:
        suite.same(record, changed(record, value=b"y" * 1000), "here")
    assert len(str(caught.value)) < 300
