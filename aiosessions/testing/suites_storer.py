"""What every storer promises, as pytest classes to inherit: one suite, and one more per capability.

A storer's tests inherit the suites it claims and give three fixtures, none of which may be shared between tests:

    class TestMyStorer(StorerSuite, CleanableSuite):
        @pytest.fixture
        async def storer(self, clock: Clock) -> AsyncIterator[MyStorer]:
            yield MyStorer(clock=clock.now)

        @pytest.fixture
        async def neighbour(self, storer: MyStorer, clock: Clock) -> AsyncIterator[MyStorer]:
            yield MyStorer(clock=clock.now, ...)      # the same backend under another prefix, table or folder

`storer` is empty, open, and ready. `clock` is there already: one that the tests move (hand it to the storer), or, with
`waits = True`, real time, for backends whose server keeps the clock. A backend whose stored times can be moved back
may override `clock` with a `Clock` of its own that does so in `advance`; after `advance` the suites ask only what is
alive, never what the times say. The tests are async and carry no mark: they run as your own do, under pytest-asyncio
with `asyncio_mode = "auto"`, or under anyio's plugin on every backend of the `anyio_backend` fixture, where your module
says `pytestmark = pytest.mark.anyio`.
"""

import json
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import ClassVar, Protocol, TypeVar

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace as changed

from aiosessions._errors import SessionTooLargeError
from aiosessions._tokens import new_version
from aiosessions.storers.storer import (
    Cleanable,
    Durable,
    Listable,
    Openable,
    ReadsTogether,
    Record,
    Storer,
    UserIndexed,
)

__all__ = [
    "CleanableSuite",
    "Clock",
    "ListableSuite",
    "MovableClock",
    "OpenableSuite",
    "StorerCase",
    "StorerSuite",
    "UserIndexedSuite",
    "WaitingClock",
    "collected",
    "race",
]

_T = TypeVar("_T")

DAY = 86_400.0

_VALUES = {
    "a document": b'{"cart":[1,2,3],"note":"h\xc3\xa9llo","deep":{"n":null,"t":true,"f":1.5}}',
    "an empty document": b"{}",
    "a large document": json.dumps({"text": "0123456789" * 10_000}).encode(),
    "nothing": b"",
    "NUL": b"\x00",
    "NULs inside": b"a\x00b\x00",
    "every byte": bytes(range(256)),
    "not UTF-8": b"\xff\xfe\x80",
    "line ends": b"\r\nEND\r\n",
    "100 kB": random.Random(2).randbytes(100_000),  # noqa: S311 - the same bytes in each run
}
_AWKWARD_DOCUMENTS = {
    "an escaped NUL": b'{"a":"\\u0000"}',
    "a lone surrogate": b'{"a":"\\ud800"}',
    "minus zero": b'{"a":-0.0}',
}
_AWKWARD_KEYS = (
    "app:plain",
    "",
    " ",
    "app:plain ",
    "APP:PLAIN",
    "/",
    "/etc/passwd",
    "..",
    "../../up",
    ".",
    "a/b",
    "a:b",
    "a\\b",
    "a\x00b",
    "\x00",
    "a\r\nb",
    "a%b_c",
    "a*b?c[d]",
    "{a}b",
    "é",
    "e\u0301",
    "💥" * 50,
    "k" * 250,
    "k" * 10_000,
    "k" * 9_999 + "l",
)
_AWKWARD_OWNERS = ("ann", "Ann", "ann ", "", "../ann", "a:b", "a%", "a_", "a*", "💥", "é", "e\u0301", "u" * 255)


class Clock(Protocol):
    """How a suite lets time pass.

    `limit` is the farthest that `advance` can go, in seconds; tests that need more are skipped.
    """

    limit: float

    def now(self) -> float:
        """Unix seconds: what goes into the records."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let at least so much time pass for the storer."""
        ...


class MovableClock:
    """A clock for storers that are given one: stands still until it is moved."""

    limit: float = math.inf

    def __init__(self, start: float = 1_800_000_000.25) -> None:
        self.time: float = start

    def now(self) -> float:
        return self.time

    async def advance(self, seconds: float) -> None:
        self.time += seconds


class WaitingClock:
    """Real time, for storers whose server keeps the clock."""

    limit: float = 10.0

    def now(self) -> float:
        return time.time()

    async def advance(self, seconds: float) -> None:
        await anyio.sleep(seconds + 0.05)


class _CleanableStorer(Storer, Cleanable, Protocol):
    pass


class _UserIndexedStorer(Storer, UserIndexed, Protocol):
    pass


class _ListableStorer(Storer, Listable, Protocol):
    pass


class _OpenableStorer(Storer, Openable, Protocol):
    pass


class StorerCase:
    """What the suites share: what a subclass says about its storer, the clock, and how records are made.

    Attributes:
        waits: the backend keeps the clock: expiry is waited for, with lifetimes of `shortest` seconds.
        shortest: the shortest lifetime in seconds that the backend can keep.
        stores_json: a value that is a JSON document comes back as an equal one, not always as the same bytes (S2).
        durable: what is confirmed is kept; no eviction.
        max_value: the largest value in bytes that the backend takes, or None (S18).
        cancellations: how many calls S14 cancels.
    """

    waits: ClassVar[bool] = False
    shortest: ClassVar[float] = 0.5
    stores_json: ClassVar[bool] = False
    durable: ClassVar[bool] = True
    max_value: ClassVar[int | None] = None
    cancellations: ClassVar[int] = 100

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that the storer is to be given, or real time."""
        return WaitingClock() if self.waits else MovableClock()

    def record(
        self,
        clock: Clock,
        *,
        value: bytes = b'{"n":1}',
        meta: bytes = b"\x00meta\xff",
        owner: str | None = None,
        lives: float | None = 3600.0,
    ) -> Record:
        """A record of a new version that expires *lives* seconds from now."""
        now = clock.now()
        expires_at = None if lives is None else now + lives
        return Record(value, meta, owner, now, now, expires_at, new_version())

    def needs(self, clock: Clock, seconds: float) -> None:
        """Skip a test that this clock cannot carry so far."""
        if clock.limit < seconds:
            pytest.skip(f"would have to wait {seconds:.0f} s for a clock that the backend keeps")

    def same(self, got: Record | None, expected: Record, what: str) -> None:
        """Fail, naming each field that differs, unless *got* says what *expected* does."""
        if got is None:
            raise AssertionError(f"{what}: the record is absent")

        wrong = [
            f"{field} is {_short(getattr(got, field))}, not {_short(getattr(expected, field))}"
            for field in ("meta", "owner", "version")
            if getattr(got, field) != getattr(expected, field)
        ]
        if not self._same_value(got.value, expected.value):
            wrong.append(f"value is {_short(got.value)}, not {_short(expected.value)}")
        wrong += [
            f"{field} is {getattr(got, field)}, not {getattr(expected, field)}"
            for field in ("created_at", "seen_at", "expires_at")
            if not _same_time(getattr(got, field), getattr(expected, field))
        ]
        if wrong:
            raise AssertionError(f"{what}: " + "; ".join(wrong))

    def _same_value(self, got: bytes, expected: bytes) -> bool:
        if got == expected:
            return True
        if not self.stores_json:
            return False
        try:
            return bool(json.loads(got) == json.loads(expected))
        except ValueError:
            return False


class StorerSuite(StorerCase):
    """S1 to S9, S11, S12, S14, S17 and S18: what every storer promises."""

    # S1 reading

    async def test_an_unknown_key_reads_as_none_and_is_not_created(self, storer: Storer, clock: Clock) -> None:
        """S1: reading makes nothing."""
        assert await storer.read("k") is None, "read of an unknown key must be None"
        assert not await storer.touch("k", seen_at=clock.now(), expires_at=None), "read must not create the key"
        assert await storer.create("k", self.record(clock)), "read must leave the key free"

    async def test_it_says_whether_it_keeps_what_it_confirmed(self, storer: Storer) -> None:
        """F16: what must not be forgotten is given to no storer that may evict."""
        if isinstance(storer, Durable):
            assert storer.durable is self.durable, f"durable must be {self.durable}, as the suite is told"

    async def test_keys_that_are_read_together_say_what_each_says_alone(self, storer: Storer, clock: Clock) -> None:
        """S1, S9: in their order, of a storer that has `read_together`; one may come twice, others never were."""
        if not isinstance(storer, ReadsTogether):
            pytest.skip("this storer reads one key at a time")
        await storer.create("expired", self.record(clock, lives=self.shortest))
        await clock.advance(self.shortest)
        await race(100, lambda number: storer.create(f"k{number}", self.record(clock, owner=f"u{number}")))
        keys = ["k1", "absent", "k1", "expired", *(f"k{number}" for number in range(100)), "é/\x00"]
        together = list(await storer.read_together(keys))
        alone = [await storer.read(key) for key in keys]
        assert together == alone
        assert list(await storer.read_together([])) == []
        several = await race(20, lambda number: storer.read_together(keys[number : number + 2]))
        assert [list(pair) for pair in several] == [alone[number : number + 2] for number in range(20)]

    # S2 what goes in comes out

    @pytest.mark.parametrize("value", _VALUES.values(), ids=_VALUES)
    async def test_value_and_meta_come_back_as_they_were(self, storer: Storer, clock: Clock, value: bytes) -> None:
        """S2: through create and through replace."""
        first = self.record(clock, value=value, meta=value)
        assert await storer.create("k", first), "create of an absent key must return True"
        self.same(await storer.read("k"), first, "after create")

        second = self.record(clock, value=value[::-1], meta=value[::-1])
        assert await storer.replace("k", second, version=first.version), "replace at the right version must return True"
        self.same(await storer.read("k"), second, "after replace")

    @pytest.mark.parametrize("value", _AWKWARD_DOCUMENTS.values(), ids=_AWKWARD_DOCUMENTS)
    async def test_what_json_storage_cannot_keep_comes_back_as_bytes(
        self, storer: Storer, clock: Clock, value: bytes
    ) -> None:
        """S2: also where the storer keeps JSON as JSON."""
        await storer.create("k", self.record(clock, value=value))
        got = await storer.read("k")
        assert got is not None, "the record is absent"
        assert got.value == value, f"value is {got.value!r}, not {value!r}: such documents must come back byte for byte"

    @pytest.mark.parametrize("owner", [None, *_AWKWARD_OWNERS])
    async def test_the_owner_comes_back_as_it_was(self, storer: Storer, clock: Clock, owner: str | None) -> None:
        """S2: None and the empty text are two things."""
        record = self.record(clock, owner=owner)
        await storer.create("k", record)
        self.same(await storer.read("k"), record, "after create")

    async def test_versions_of_63_bits_are_kept(self, storer: Storer, clock: Clock) -> None:
        """S2: the largest version, the smallest, and a change between them."""
        largest = changed(self.record(clock), version=2**63 - 1)
        await storer.create("k", largest)
        self.same(await storer.read("k"), largest, "after create")
        smallest = changed(self.record(clock), version=0)
        assert not await storer.replace("k", smallest, version=2**63 - 2), "versions must be compared exactly"
        assert await storer.replace("k", smallest, version=2**63 - 1), "the largest version must be found"
        self.same(await storer.read("k"), smallest, "after replace")

    # S3 creating

    async def test_create_on_a_present_key_changes_nothing(self, storer: Storer, clock: Clock) -> None:
        """S3."""
        first = self.record(clock, value=b'{"n":1}')
        assert await storer.create("k", first) is True, "create of an absent key must return True"
        assert await storer.create("k", self.record(clock, value=b'{"n":2}')) is False, (
            "create of a present key must return False"
        )
        self.same(await storer.read("k"), first, "after a refused create")

    async def test_of_20_racing_creates_one_wins(self, storer: Storer, clock: Clock) -> None:
        """S3: and what is stored is the winner's."""
        records = [self.record(clock, value=b'{"n":%d}' % number) for number in range(20)]
        won = await race(20, lambda number: storer.create("k", records[number]))
        assert won.count(True) == 1, f"{won.count(True)} of 20 racing creates won: exactly one must"
        self.same(await storer.read("k"), records[won.index(True)], "after the race")

    async def test_create_takes_the_place_of_an_expired_record(self, storer: Storer, clock: Clock) -> None:
        """S3: an expired key counts as absent."""
        await storer.create("k", self.record(clock, lives=self.shortest))
        await clock.advance(self.shortest)
        second = self.record(clock, value=b'{"n":2}')
        assert await storer.create("k", second), "create over an expired record must return True"
        self.same(await storer.read("k"), second, "after create over an expired record")

    # S4 replacing makes nothing

    async def test_replace_of_an_absent_key_creates_nothing(self, storer: Storer, clock: Clock) -> None:
        """S4: never there, deleted a moment ago."""
        record = self.record(clock)
        assert await storer.replace("k", record, version=record.version + 1) is False, "replace must not create"
        assert await storer.replace("k", record, version=record.version) is False, "replace must not create"
        assert await storer.read("k") is None, "a refused replace must not create"

        await storer.create("k", record)
        await storer.delete("k")
        later = self.record(clock)
        assert await storer.replace("k", later, version=record.version) is False, (
            "replace of a record that was deleted must return False"
        )
        assert await storer.read("k") is None, "replace must not bring a deleted record back"

    async def test_replace_of_an_expired_record_creates_nothing(self, storer: Storer, clock: Clock) -> None:
        """S4: expired a moment ago."""
        record = self.record(clock, lives=self.shortest)
        await storer.create("k", record)
        await clock.advance(self.shortest)
        assert await storer.replace("k", self.record(clock), version=record.version) is False, (
            "replace of an expired record must return False"
        )
        assert await storer.read("k") is None, "replace must not bring an expired record back"

    # S5 replacing compares

    async def test_replace_at_the_right_version_changes_everything(self, storer: Storer, clock: Clock) -> None:
        """S5: value, meta, owner, times, version; also to a lifetime that is shorter, and to none."""
        first = self.record(clock, owner="ann", lives=7200.0)
        await storer.create("k", first)
        second = Record(b'{"n":2}', b"2", "bob", first.created_at, first.seen_at + 1, first.seen_at + 60, new_version())
        assert await storer.replace("k", second, version=first.version) is True, "replace must return True"
        self.same(await storer.read("k"), second, "after replace")
        third = Record(b'{"n":3}', b"", None, first.created_at, first.seen_at + 2, None, new_version())
        assert await storer.replace("k", third, version=second.version) is True, "replace must return True"
        self.same(await storer.read("k"), third, "after the second replace")

    async def test_replace_against_another_version_changes_nothing(self, storer: Storer, clock: Clock) -> None:
        """S5."""
        first = self.record(clock)
        await storer.create("k", first)
        stale = self.record(clock, value=b'{"n":2}')
        assert await storer.replace("k", stale, version=first.version ^ 1) is False, (
            "replace against another version must return False"
        )
        self.same(await storer.read("k"), first, "after a refused replace")

    async def test_of_20_racing_replaces_one_wins(self, storer: Storer, clock: Clock) -> None:
        """S5: and what is stored is the winner's."""
        first = self.record(clock)
        await storer.create("k", first)
        records = [self.record(clock, value=b'{"n":%d}' % number) for number in range(20)]
        won = await race(20, lambda number: storer.replace("k", records[number], version=first.version))
        assert won.count(True) == 1, f"{won.count(True)} of 20 racing replaces won: exactly one must"
        self.same(await storer.read("k"), records[won.index(True)], "after the race")

    async def test_increments_by_20_tasks_all_count(self, storer: Storer, clock: Clock) -> None:
        """S5: read, add one, replace, until it wins: the sum is exact."""
        await storer.create("k", self.record(clock, value=b"0"))

        async def increment(_: int) -> bool:
            while True:
                record = await storer.read("k")
                assert record is not None, "a record that is only replaced must never be absent"
                value = b"%d" % (int(record.value) + 1)
                if await storer.replace(
                    "k", changed(record, value=value, version=new_version()), version=record.version
                ):
                    return True
                await anyio.lowlevel.checkpoint()

        await race(20, increment)
        got = await storer.read("k")
        assert got is not None, "the record is absent"
        assert int(got.value) == 20, f"20 increments gave {got.value!r}"

    # S6 what is sent twice is applied once

    async def test_a_create_that_is_sent_again_is_applied_once(self, storer: Storer, clock: Clock) -> None:
        """S6: it returns True, and a touch that came between stays."""
        record = self.record(clock)
        await storer.create("k", record)
        later = changed(record, seen_at=record.seen_at + 5, expires_at=_add(record.expires_at, 5))
        await storer.touch("k", seen_at=later.seen_at, expires_at=later.expires_at)
        assert await storer.create("k", record) is True, "create that finds its own version must return True"
        self.same(await storer.read("k"), later, "after create was sent again")

    async def test_a_replace_that_is_sent_again_is_applied_once(self, storer: Storer, clock: Clock) -> None:
        """S6: it returns True, and a touch that came between stays."""
        first, second = self.record(clock), self.record(clock, value=b'{"n":2}')
        await storer.create("k", first)
        await storer.replace("k", second, version=first.version)
        later = changed(second, seen_at=second.seen_at + 5, expires_at=_add(second.expires_at, 5))
        await storer.touch("k", seen_at=later.seen_at, expires_at=later.expires_at)
        assert await storer.replace("k", second, version=first.version) is True, (
            "replace that finds the version it writes must return True"
        )
        self.same(await storer.read("k"), later, "after replace was sent again")

    async def test_a_write_that_is_sent_again_does_not_undo_a_later_one(self, storer: Storer, clock: Clock) -> None:
        """S6: a re-sent create or replace loses against what was written since."""
        first, second, third = self.record(clock), self.record(clock), self.record(clock, value=b'{"n":3}')
        await storer.create("k", first)
        await storer.replace("k", second, version=first.version)
        await storer.replace("k", third, version=second.version)
        assert await storer.create("k", first) is False, "the re-sent create must not win"
        assert await storer.replace("k", second, version=first.version) is False, "the re-sent replace must not win"
        self.same(await storer.read("k"), third, "after old writes were sent again")

    # S7 touching

    async def test_touch_moves_both_times_and_nothing_else(self, storer: Storer, clock: Clock) -> None:
        """S7: what it set is what the next read says."""
        record = self.record(clock, owner="ann", lives=60.0)
        await storer.create("k", record)
        later = changed(record, seen_at=record.seen_at + 7, expires_at=_add(record.expires_at, 9))
        assert await storer.touch("k", seen_at=later.seen_at, expires_at=later.expires_at) is True, (
            "touch of a live record must return True"
        )
        self.same(await storer.read("k"), later, "after touch")
        replaced = self.record(clock, value=b'{"n":2}')
        assert await storer.replace("k", replaced, version=record.version), "touch must not change the version"
        self.same(await storer.read("k"), replaced, "after replace")

    async def test_touch_never_moves_a_time_back(self, storer: Storer, clock: Clock) -> None:
        """S7: each of the two for itself."""
        record = self.record(clock, lives=60.0)
        await storer.create("k", record)
        assert await storer.touch("k", seen_at=record.seen_at - 5, expires_at=_add(record.expires_at, -5)), (
            "touch with earlier times must still return True"
        )
        self.same(await storer.read("k"), record, "after touch with earlier times")
        await storer.touch("k", seen_at=record.seen_at + 5, expires_at=_add(record.expires_at, -5))
        record = changed(record, seen_at=record.seen_at + 5)
        self.same(await storer.read("k"), record, "after touch with a later seen_at and an earlier expires_at")
        await storer.touch("k", seen_at=record.seen_at - 1, expires_at=_add(record.expires_at, 5))
        record = changed(record, expires_at=_add(record.expires_at, 5))
        self.same(await storer.read("k"), record, "after touch with an earlier seen_at and a later expires_at")

    async def test_a_touched_record_outlives_its_old_deadline(self, storer: Storer, clock: Clock) -> None:
        """S7, S9."""
        record = self.record(clock, lives=self.shortest)
        await storer.create("k", record)
        await storer.touch("k", seen_at=record.seen_at, expires_at=record.seen_at + 3600)
        await clock.advance(self.shortest)
        assert await storer.read("k") is not None, "a record that was touched must live until its new deadline"

    async def test_touch_with_no_deadline_makes_a_record_persist(self, storer: Storer, clock: Clock) -> None:
        """S7: None is later than any time, and stays so."""
        record = self.record(clock, lives=self.shortest)
        await storer.create("k", record)
        await storer.touch("k", seen_at=record.seen_at, expires_at=None)
        forever = changed(record, expires_at=None)
        self.same(await storer.read("k"), forever, "after touch with expires_at=None")
        await storer.touch("k", seen_at=record.seen_at, expires_at=record.seen_at + self.shortest)
        self.same(await storer.read("k"), forever, "after touch of a record without a deadline")
        await clock.advance(self.shortest)
        assert await storer.read("k") is not None, "a record without a deadline must persist"

    async def test_touch_of_what_is_absent_creates_nothing(self, storer: Storer, clock: Clock) -> None:
        """S7: never there, deleted, or expired."""
        later = clock.now() + 3600
        assert await storer.touch("k", seen_at=later, expires_at=later) is False, "touch of an absent key: False"
        await storer.create("k", self.record(clock))
        await storer.delete("k")
        assert await storer.touch("k", seen_at=later, expires_at=later) is False, "touch of a deleted key: False"
        await storer.create("k", self.record(clock, lives=self.shortest))
        await clock.advance(self.shortest)
        later = clock.now() + 3600
        assert await storer.touch("k", seen_at=later, expires_at=later) is False, "touch of an expired key: False"
        assert await storer.read("k") is None, "touch must create nothing"

    # S8 deleting

    async def test_delete_removes_that_key_only_and_says_whether_it_was_there(
        self, storer: Storer, clock: Clock
    ) -> None:
        """S8: twice is no error."""
        record = self.record(clock)
        await storer.create("k", record)
        await storer.create("kk", record)
        assert await storer.delete("k") is True, "delete of a present key must return True"
        assert await storer.read("k") is None, "a deleted record must be absent"
        assert await storer.delete("k") is False, "delete of an absent key must return False"
        self.same(await storer.read("kk"), record, "after delete of another key")

    async def test_delete_with_a_version_removes_only_that_version(self, storer: Storer, clock: Clock) -> None:
        """S8."""
        record = self.record(clock)
        await storer.create("k", record)
        assert await storer.delete("k", version=record.version ^ 1) is False, "delete of another version: False"
        self.same(await storer.read("k"), record, "after a refused delete")
        assert await storer.delete("k", version=record.version) is True, "delete of the right version: True"
        assert await storer.read("k") is None, "a deleted record must be absent"
        assert await storer.delete("k", version=record.version) is False, "delete of an absent key: False"

    async def test_of_20_racing_deletes_one_finds_it(self, storer: Storer, clock: Clock) -> None:
        """S8."""
        await storer.create("k", self.record(clock))
        found = await race(20, lambda _: storer.delete("k"))
        assert found.count(True) == 1, f"{found.count(True)} of 20 racing deletes found it: exactly one must"

    # S9 expiry

    async def test_a_record_is_gone_once_it_expires(self, storer: Storer, clock: Clock) -> None:
        """S9: for read and for delete, cleaned or not."""
        await storer.create("k", self.record(clock, lives=self.shortest))
        assert await storer.read("k") is not None, "a record must be there before it expires"
        await clock.advance(self.shortest)
        assert await storer.read("k") is None, "a record must never be returned at or after its expires_at"
        assert await storer.delete("k") is False, "delete of an expired record must return False"

    async def test_a_record_that_came_expired_is_never_returned(self, storer: Storer, clock: Clock) -> None:
        """S9: whatever the write says."""
        await storer.create("k", self.record(clock, lives=-5.0))
        assert await storer.read("k") is None, "a record that was created expired must not be returned"
        record = self.record(clock)
        assert await storer.create("k", record), "an expired record must not block create"
        await storer.replace("k", self.record(clock, lives=-5.0), version=record.version)
        assert await storer.read("k") is None, "a record that was replaced by an expired one must not be returned"

    async def test_long_lifetimes_are_lifetimes_and_no_dates(self, storer: Storer, clock: Clock) -> None:
        """S9: memcached reads more than 30 days as a date."""
        for days in (29, 30, 31, 399):
            record = self.record(clock, lives=days * DAY)
            await storer.create(f"k{days}", record)
            self.same(await storer.read(f"k{days}"), record, f"with a lifetime of {days} days")

    async def test_a_record_without_a_deadline_persists(self, storer: Storer, clock: Clock) -> None:
        """S9: and one of 400 days lives so long."""
        self.needs(clock, 1000 * DAY)
        await storer.create("forever", self.record(clock, lives=None))
        await storer.create("long", self.record(clock, lives=400 * DAY))
        await clock.advance(399 * DAY)
        assert await storer.read("long") is not None, "400 days are not over after 399"
        await clock.advance(601 * DAY)
        assert await storer.read("long") is None, "400 days are over after 1000"
        assert await storer.read("forever") is not None, "expires_at=None must persist"

    # S11 keys

    async def test_awkward_keys_are_keys_like_others_and_never_collide(self, storer: Storer, clock: Clock) -> None:
        """S11: slashes, dots, NUL, wildcards, 10 kB, unicode in two normal forms."""
        records = {key: self.record(clock, value=b'{"n":%d}' % n) for n, key in enumerate(_AWKWARD_KEYS)}
        for key, record in records.items():
            assert await storer.create(key, record), f"create under {_short(key)} must return True"
        for key, record in records.items():
            self.same(await storer.read(key), record, f"under {_short(key)}")
        for key, record in records.items():
            assert await storer.touch(key, seen_at=record.seen_at, expires_at=None), f"touch of {_short(key)}: True"
            assert await storer.replace(key, self.record(clock), version=record.version), f"replace of {_short(key)}"
            assert await storer.delete(key), f"delete of {_short(key)} must return True"
            assert await storer.read(key) is None, f"{_short(key)} is still there after delete"

    # S12 whole or not at all

    async def test_no_reader_sees_half_a_record(self, storer: Storer, clock: Clock) -> None:
        """S12: what is read while it is replaced is one of the two."""

        def numbered(number: int) -> Record:
            text = b'"%s"' % (b"%08d" % number * (1 + number % 2 * 2000))
            return self.record(clock, value=text, meta=b"%08d" % number)

        record = numbered(0)
        await storer.create("k", record)
        done = anyio.Event()

        async def read() -> None:
            while not done.is_set():
                got = await storer.read("k")
                assert got is not None, "a record that is only replaced must never be absent"
                number = int(got.meta)
                assert self._same_value(got.value, numbered(number).value), f"value and meta of write {number} differ"
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(read)
            for number in range(1, 41):
                after = numbered(number)
                assert await storer.replace("k", after, version=record.version), "replace must return True"
                record = after
                await anyio.lowlevel.checkpoint()
            done.set()

    # S14 cancellation

    async def test_cancelled_calls_leave_a_storer_that_answers_right(self, storer: Storer, clock: Clock) -> None:
        """S14: no later call gets another key's answer, waits for ever, or finds half a write."""
        chance = random.Random(14)  # noqa: S311 - the same choices in each run
        keys = [f"k{number}" for number in range(8)]

        def fresh(key: str) -> Record:
            return self.record(clock, value=json.dumps({"key": key}).encode(), meta=key.encode(), owner=key)

        async def use(key: str) -> None:
            record = await storer.read(key)
            if record is None:
                await storer.create(key, fresh(key))
                return

            assert record.meta == key.encode(), f"read({key!r}) answered with the record of {record.meta!r}"
            assert json.loads(record.value) == {"key": key}, f"the value of {key!r} is {record.value!r}"
            writes: list[Callable[[], Awaitable[bool]]] = [
                lambda: storer.replace(key, fresh(key), version=record.version),
                lambda: storer.touch(key, seen_at=clock.now(), expires_at=clock.now() + 7200),
                lambda: storer.delete(key, version=record.version),
            ]
            await chance.choice(writes)()

        for _ in range(self.cancellations):
            async with anyio.create_task_group() as group:
                for key in chance.sample(keys, 4):
                    group.start_soon(use, key)
                await anyio.sleep(chance.choice((0.0, 0.0, chance.random() / 500)))
                group.cancel_scope.cancel()

        with anyio.fail_after(30):
            for key in keys:
                await storer.delete(key)
                record = fresh(key)
                assert await storer.create(key, record), f"create of {key!r} after cancelled calls must return True"
                self.same(await storer.read(key), record, f"{key!r} after cancelled calls")

    # S17 neighbours

    async def test_two_storers_on_one_backend_never_see_each_other(
        self, storer: Storer, neighbour: Storer, clock: Clock
    ) -> None:
        """S17: with two prefixes, tables or folders."""
        ours, theirs = self.record(clock, value=b'{"n":1}'), self.record(clock, value=b'{"n":2}')
        await storer.create("k", ours)
        assert await neighbour.read("k") is None, "a key of another storer must be absent"
        assert await neighbour.replace("k", theirs, version=ours.version) is False, "replace must not reach over"
        assert await neighbour.touch("k", seen_at=ours.seen_at, expires_at=None) is False, "touch must not reach over"
        assert await neighbour.delete("k") is False, "delete must not reach over"
        assert await neighbour.create("k", theirs), "a key of another storer must not block create"
        self.same(await storer.read("k"), ours, "after a neighbour's writes")
        assert await storer.delete("k"), "delete must return True"
        self.same(await neighbour.read("k"), theirs, "after its neighbour's delete")

    # S18 size

    async def test_a_value_too_large_is_refused_and_the_old_record_stays(self, storer: Storer, clock: Clock) -> None:
        """S18."""
        if self.max_value is None:
            pytest.skip("this storer has no limit of its own")
        large = self.record(clock, value=b'"%s"' % (b"x" * self.max_value))
        with pytest.raises(SessionTooLargeError) as caught:
            await storer.create("k", large)
        assert caught.value.size > caught.value.limit > 0, "the error must name the size and the limit"
        assert await storer.read("k") is None, "a refused create must store nothing"

        small = self.record(clock)
        await storer.create("k", small)
        with pytest.raises(SessionTooLargeError):
            await storer.replace("k", large, version=small.version)
        self.same(await storer.read("k"), small, "after a replace that was too large")


class CleanableSuite(StorerCase):
    """S10: what a storer with expired records to remove promises."""

    crowd: ClassVar[int] = 400
    """How many records to clean without holding up the event loop."""

    @pytest.fixture
    async def cleanable(self, storer: _CleanableStorer) -> _CleanableStorer:
        """The storer under test, which must have `clean`."""
        assert isinstance(storer, Cleanable), f"{type(storer).__name__} has no clean()"
        return storer

    async def test_clean_removes_what_expired_a_minute_ago_and_counts_it(
        self, cleanable: _CleanableStorer, clock: Clock
    ) -> None:
        """S10: and nothing that is alive, or expired a moment ago."""
        self.needs(clock, 90.0)
        assert await cleanable.clean() == 0, "clean of an empty storer must return 0"
        for number in range(3):
            await cleanable.create(f"old{number}", self.record(clock, owner="ann", lives=self.shortest))
        await cleanable.create("recent", self.record(clock, lives=self.shortest + 30))
        await cleanable.create("live", self.record(clock, lives=3600.0))
        await cleanable.create("forever", self.record(clock, lives=None))

        await clock.advance(self.shortest + 30)
        assert await cleanable.clean() == 0, "what expired less than a minute ago must stay"
        await clock.advance(40)
        assert await cleanable.clean() == 3, "clean must remove what expired more than a minute ago, and count it"
        assert await cleanable.clean() == 0, "a second clean must find nothing"
        await clock.advance(30)
        assert await cleanable.clean() == 1, "clean must remove what has expired for a minute by now"
        assert await cleanable.read("live") is not None, "clean must leave live records"
        assert await cleanable.read("forever") is not None, "clean must leave records without a deadline"

    async def test_clean_leaves_what_was_touched_or_replaced(self, cleanable: _CleanableStorer, clock: Clock) -> None:
        """S10: the deadline that counts is the one that is stored now."""
        self.needs(clock, 90.0)
        touched, replaced, persisting = (self.record(clock, lives=5.0) for _ in range(3))
        await cleanable.create("touched", touched)
        await cleanable.create("replaced", replaced)
        await cleanable.create("persisting", persisting)
        await cleanable.touch("touched", seen_at=clock.now(), expires_at=clock.now() + 3600)
        await cleanable.touch("persisting", seen_at=clock.now(), expires_at=None)
        await cleanable.replace("replaced", self.record(clock), version=replaced.version)
        await clock.advance(90)
        assert await cleanable.clean() == 0, "what was touched or replaced must stay"
        for key in ("touched", "replaced", "persisting"):
            assert await cleanable.read(key) is not None, f"the {key} record must stay"

    async def test_clean_takes_what_a_replace_made_shorter(self, cleanable: _CleanableStorer, clock: Clock) -> None:
        """S10."""
        self.needs(clock, 90.0)
        record = self.record(clock, lives=3600.0)
        await cleanable.create("k", record)
        await cleanable.replace("k", self.record(clock, lives=5.0), version=record.version)
        await clock.advance(90)
        assert await cleanable.clean() == 1, "the deadline that a replace brought forward counts"

    async def test_clean_never_takes_a_record_that_was_made_meanwhile(
        self, cleanable: _CleanableStorer, clock: Clock
    ) -> None:
        """S10: expiry is checked again under the lock or statement that deletes."""
        self.needs(clock, 90.0)
        await race(self.crowd, lambda number: cleanable.create(f"k{number}", self.record(clock, lives=5.0)))
        await clock.advance(90)
        async with anyio.create_task_group() as group:
            group.start_soon(cleanable.clean)
            for number in reversed(range(self.crowd)):
                assert await cleanable.create(f"k{number}", self.record(clock)), "an expired key must be free"
                await anyio.lowlevel.checkpoint()
        missing = [number for number in range(self.crowd) if await cleanable.read(f"k{number}") is None]
        assert not missing, f"clean removed {len(missing)} records that were made while it ran"

    async def test_two_cleans_at_once_remove_each_record_once(self, cleanable: _CleanableStorer, clock: Clock) -> None:
        """S10: what one takes the other does not count."""
        self.needs(clock, 90.0)
        for number in range(50):
            await cleanable.create(f"k{number}", self.record(clock, lives=5.0))
        await clock.advance(90)
        counts: list[int] = []

        async def clean() -> None:
            counts.append(await cleanable.clean())

        async with anyio.create_task_group() as group:
            group.start_soon(clean)
            group.start_soon(clean)
        assert sum(counts) == 50, f"two cleans of 50 records counted {counts}"

    async def test_clean_yields_to_the_event_loop(self, cleanable: _CleanableStorer, clock: Clock) -> None:
        """S10: other tasks run while a crowd is removed."""
        self.needs(clock, 90.0)
        await race(self.crowd, lambda number: cleanable.create(f"k{number}", self.record(clock, lives=5.0)))
        await clock.advance(90)
        turns = others = removed = 0

        async def run() -> None:
            nonlocal turns
            while True:
                turns += 1
                # turn by turn beside a quick storer; then one that works in threads gets the interpreter too
                await anyio.sleep(0.001 if turns > 1_000 else 0)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            before = turns
            removed = await cleanable.clean()
            others = turns - before
            group.cancel_scope.cancel()
        assert others > 0, "no other task ran while clean was at work"
        assert removed == self.crowd, f"clean removed {removed} of {self.crowd}"

    async def test_clean_stays_with_its_own(
        self, cleanable: _CleanableStorer, neighbour: _CleanableStorer, clock: Clock
    ) -> None:
        """S10, S17."""
        self.needs(clock, 90.0)
        await cleanable.create("k", self.record(clock, lives=5.0))
        await clock.advance(90)
        assert await neighbour.clean() == 0, "clean must not take a neighbour's records"
        assert await cleanable.clean() == 1, "clean must find its own"


class UserIndexedSuite(StorerCase):
    """S15: what a storer that knows whose sessions it keeps promises."""

    @pytest.fixture
    async def indexed(self, storer: _UserIndexedStorer) -> _UserIndexedStorer:
        """The storer under test, which must have a user index."""
        assert isinstance(storer, UserIndexed), f"{type(storer).__name__} has no user index"
        return storer

    async def listed(self, storer: UserIndexed, owner: str, prefix: str = "") -> list[str]:
        """The keys that `list_by_owner` gives, sorted; a key that comes twice fails."""
        keys = sorted(key for key, _ in await storer.list_by_owner(owner, prefix=prefix))
        assert len(set(keys)) == len(keys), f"list_by_owner gave a key twice: {keys}"
        return keys

    async def test_the_live_records_of_an_owner_are_listed(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: exactly those, each as read() would give it."""
        assert await indexed.list_by_owner("ann") == [], "an unknown owner has no records"
        records = {f"app:{number}": self.record(clock, owner="ann", value=b'{"n":%d}' % number) for number in range(5)}
        for key, record in records.items():
            await indexed.create(key, record)
        await indexed.create("app:bob", self.record(clock, owner="bob"))
        await indexed.create("app:nobody", self.record(clock, owner=None))
        listed = dict(await indexed.list_by_owner("ann"))
        assert sorted(listed) == sorted(records), f"list_by_owner gave {sorted(listed)}"
        for key, record in records.items():
            self.same(listed[key], record, f"{key} in the list")
        same_keys(await self.listed(indexed, "bob"), {"app:bob"}, "the list of bob")

    async def test_what_ended_is_not_listed(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: deleted or expired; and what came back is."""
        await indexed.create("deleted", self.record(clock, owner="ann"))
        await indexed.create("expired", self.record(clock, owner="ann", lives=self.shortest))
        await indexed.create("live", self.record(clock, owner="ann"))
        await indexed.delete("deleted")
        await clock.advance(self.shortest)
        assert await self.listed(indexed, "ann") == ["live"], "what is deleted or expired must not be listed"
        await indexed.create("deleted", self.record(clock, owner="ann"))
        await indexed.create("expired", self.record(clock, owner="bob"))
        same_keys(await self.listed(indexed, "ann"), {"deleted", "live"}, "the list of ann")
        assert await self.listed(indexed, "bob") == ["expired"], "a new record under an old key has its own owner"

    async def test_a_touched_record_stays_listed(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: beyond its first deadline, with the times that it has now."""
        record = self.record(clock, owner="ann", lives=self.shortest)
        await indexed.create("k", record)
        later = changed(record, seen_at=record.seen_at + 1, expires_at=record.seen_at + 3600)
        await indexed.touch("k", seen_at=later.seen_at, expires_at=later.expires_at)
        self.same(dict(await indexed.list_by_owner("ann")).get("k"), later, "a touched record in the list")
        await clock.advance(self.shortest)
        assert await self.listed(indexed, "ann") == ["k"], "a touched record must stay listed"

    async def test_an_owner_changed_by_replace_moves(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: from nobody, to another, back to nobody."""
        record = self.record(clock)
        await indexed.create("k", record)
        for owner in ("ann", "bob", "ann", None):
            after = self.record(clock, owner=owner)
            await indexed.replace("k", after, version=record.version)
            record = after
            for name in ("ann", "bob"):
                expected = ["k"] if name == owner else []
                assert await self.listed(indexed, name) == expected, f"{name}'s list is wrong after a move to {owner!r}"

    async def test_a_refused_write_leaves_the_index_alone(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: create on a present key, replace at another version, replace of an absent key."""
        record = self.record(clock, owner="ann")
        await indexed.create("k", record)
        await indexed.create("k", self.record(clock, owner="bob"))
        await indexed.replace("k", self.record(clock, owner="bob"), version=record.version ^ 1)
        await indexed.replace("absent", self.record(clock, owner="bob"), version=1)
        assert await self.listed(indexed, "ann") == ["k"], "a refused write must not move the owner"
        assert await self.listed(indexed, "bob") == [], "a refused write must not be listed"
        assert await indexed.delete_by_owner("bob") == 0, "a refused write gives delete_by_owner nothing to delete"
        self.same(await indexed.read("k"), record, "after delete_by_owner of a refused owner")

    @pytest.mark.parametrize("prefix", ["app:", "a%p:", "a_p:", "a*p:", "a?p:", "[a]p:", "a\\p:", "é:", "{a}:"])
    async def test_a_prefix_is_taken_literally(self, indexed: _UserIndexedStorer, clock: Clock, prefix: str) -> None:
        """S15: wildcards of any pattern language are characters like others."""
        for key in (prefix + "1", prefix + "2", "abp:1", "axxp:1", "ap:", prefix[:-1], "x" + prefix):
            await indexed.create(key, self.record(clock, owner="ann"))
        same_keys(await self.listed(indexed, "ann", prefix), {prefix + "1", prefix + "2"}, f"with prefix={prefix!r}")
        assert await indexed.delete_by_owner("ann", prefix=prefix) == 2, "only what starts with the prefix may go"
        assert len(await self.listed(indexed, "ann")) == 5, "what does not start with the prefix must stay"

    async def test_delete_by_owner_ends_all_but_one(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: it counts what went, and touches nobody else's."""
        for number in range(4):
            await indexed.create(f"app:{number}", self.record(clock, owner="ann"))
        await indexed.create("app:bob", self.record(clock, owner="bob"))
        assert await indexed.delete_by_owner("ann", keep="app:2") == 3, "delete_by_owner must count what went"
        assert await self.listed(indexed, "ann") == ["app:2"], "the key to keep must stay, the others go"
        assert await indexed.delete_by_owner("ann", keep="app:2") == 0, "where there is no other none goes"
        for number in range(4):
            assert (await indexed.read(f"app:{number}") is not None) is (number == 2), f"app:{number} is wrong"
        assert await indexed.delete_by_owner("ann", keep="app:bob") == 1, "keep of another's key keeps nothing"
        assert await indexed.delete_by_owner("ann") == 0, "a second delete_by_owner finds nothing"
        assert await indexed.read("app:bob") is not None, "another owner's record must stay"

    async def test_delete_by_owner_counts_the_living(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15."""
        await indexed.create("expired", self.record(clock, owner="ann", lives=self.shortest))
        await indexed.create("live", self.record(clock, owner="ann"))
        await clock.advance(self.shortest)
        assert await indexed.delete_by_owner("ann") == 1, "what has expired is not counted"

    async def test_delete_by_owner_leaves_what_moved_away(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: the owner that counts is the record's."""
        record = self.record(clock, owner="ann")
        await indexed.create("k", record)
        await indexed.replace("k", self.record(clock, owner="bob"), version=record.version)
        assert await indexed.delete_by_owner("ann") == 0, "a record that moved to another owner must stay"
        same_keys(await self.listed(indexed, "bob"), {"k"}, "the list of bob")

    async def test_owners_never_mix(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15, S11: wildcards, separators, normal forms, 255 bytes."""
        for number, owner in enumerate(_AWKWARD_OWNERS):
            await indexed.create(f"k{number}", self.record(clock, owner=owner))
        for number, owner in enumerate(_AWKWARD_OWNERS):
            assert await self.listed(indexed, owner) == [f"k{number}"], f"the list of {_short(owner)} is wrong"
        for owner in _AWKWARD_OWNERS:
            assert await indexed.delete_by_owner(owner) == 1, f"delete_by_owner({_short(owner)}) must end one"

    async def test_a_record_under_constant_writes_is_in_every_list(
        self, indexed: _UserIndexedStorer, clock: Clock
    ) -> None:
        """S15: no live session is ever in no index."""
        done = anyio.Event()
        record = self.record(clock, owner="ann")
        await indexed.create("k", record)

        async def look() -> None:
            while not done.is_set():
                assert await self.listed(indexed, "ann") == ["k"], "a live record was missing from its owner's list"
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(look)
            for number in range(40):
                if number % 4 == 3:
                    await indexed.touch("k", seen_at=clock.now() + number, expires_at=clock.now() + 7200 + number)
                else:
                    after = self.record(clock, owner="ann")
                    assert await indexed.replace("k", after, version=record.version), "replace must return True"
                    record = after
                await anyio.lowlevel.checkpoint()
            done.set()

    async def test_racing_logins_and_logouts_leave_index_and_records_agreeing(
        self, indexed: _UserIndexedStorer, clock: Clock
    ) -> None:
        """S15: after any mix of writes each live record is in its owner's list and in no other."""
        chance = random.Random(15)  # noqa: S311 - the same choices in each run
        keys = [f"k{number}" for number in range(6)]

        async def use(number: int) -> bool:
            for _ in range(6):
                key, owner = chance.choice(keys), chance.choice(("ann", "bob", None))
                record = await indexed.read(key)
                if record is None:
                    await indexed.create(key, self.record(clock, owner=owner))
                elif number % 5 == 0:
                    await indexed.delete(key)
                elif number % 7 == 0:
                    await indexed.delete_by_owner("ann", keep=key)
                else:
                    await indexed.replace(key, self.record(clock, owner=owner), version=record.version)
            return True

        await race(20, use)
        records = {key: await indexed.read(key) for key in keys}
        for owner in ("ann", "bob"):
            expected = [key for key, record in records.items() if record is not None and record.owner == owner]
            assert await self.listed(indexed, owner) == expected, f"the list of {owner} and the records disagree"

    async def test_every_record_confirmed_before_delete_by_owner_ends(
        self, indexed: _UserIndexedStorer, clock: Clock
    ) -> None:
        """S15: also while the same user logs in elsewhere."""
        confirmed: list[str] = []
        alive_after: list[str] = []
        stop = anyio.Event()

        async def log_in(number: int) -> None:
            turn = 0
            while not stop.is_set() and turn < 200:
                key = f"k{number}.{turn}"
                await indexed.create(key, self.record(clock, owner="ann"))
                confirmed.append(key)
                turn += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(log_in, number)
            while len(confirmed) < 20:
                await anyio.lowlevel.checkpoint()
            before = list(confirmed)
            await indexed.delete_by_owner("ann")
            alive_after = [key for key in before if await indexed.read(key) is not None]
            stop.set()
        assert not alive_after, f"confirmed before delete_by_owner and alive after it: {alive_after}"

    async def test_a_user_may_have_many_sessions(self, indexed: _UserIndexedStorer, clock: Clock) -> None:
        """S15: lists and deletes by the hundred."""
        await race(300, lambda number: indexed.create(f"k{number}", self.record(clock, owner="ann")))
        same_keys(await self.listed(indexed, "ann"), {f"k{number}" for number in range(300)}, "the list of 300")
        assert await indexed.delete_by_owner("ann", keep="k7") == 299, "all of 300 but one must go"
        same_keys(await self.listed(indexed, "ann"), {"k7"}, "the list after delete_by_owner")

    async def test_a_neighbours_users_are_not_ours(
        self, indexed: _UserIndexedStorer, neighbour: _UserIndexedStorer, clock: Clock
    ) -> None:
        """S15, S17."""
        await indexed.create("k", self.record(clock, owner="ann"))
        assert await self.listed(neighbour, "ann") == [], "a neighbour's records must not be listed"
        assert await neighbour.delete_by_owner("ann") == 0, "a neighbour's records must not be deleted"
        same_keys(await self.listed(indexed, "ann"), {"k"}, "our list beside a neighbour's")


class ListableSuite(StorerCase):
    """S19: what a storer that can walk through its keys promises."""

    @pytest.fixture
    async def listable(self, storer: _ListableStorer) -> _ListableStorer:
        """The storer under test, which must have `keys`."""
        assert isinstance(storer, Listable), f"{type(storer).__name__} has no keys()"
        return storer

    async def test_the_live_keys_are_listed(self, listable: _ListableStorer, clock: Clock) -> None:
        """S19: none that was deleted or has expired."""
        assert await collected(listable.keys()) == set(), "an empty storer has no keys"
        await listable.create("live", self.record(clock, owner="ann"))
        await listable.create("forever", self.record(clock, lives=None))
        await listable.create("deleted", self.record(clock, owner="ann"))
        await listable.create("expired", self.record(clock, owner="ann", lives=self.shortest))
        await listable.delete("deleted")
        await clock.advance(self.shortest)
        same_keys(await collected(listable.keys()), {"live", "forever"}, "keys()")

    async def test_awkward_keys_are_listed_as_they_are(self, listable: _ListableStorer, clock: Clock) -> None:
        """S19, S11."""
        for key in _AWKWARD_KEYS:
            await listable.create(key, self.record(clock))
        same_keys(await collected(listable.keys()), _AWKWARD_KEYS, "keys()")

    async def test_a_crowd_is_listed_in_full(self, listable: _ListableStorer, clock: Clock) -> None:
        """S19: over several pages."""
        await race(300, lambda number: listable.create(f"k{number}", self.record(clock)))
        same_keys(await collected(listable.keys()), {f"k{number}" for number in range(300)}, "keys()")

    async def test_keys_that_live_all_along_are_listed_whatever_comes_and_goes(
        self, listable: _ListableStorer, clock: Clock
    ) -> None:
        """S19: writes between two pages neither break the walk nor hide a key."""
        await race(150, lambda number: listable.create(f"stays{number}", self.record(clock)))
        await race(150, lambda number: listable.create(f"goes{number}", self.record(clock)))
        seen: set[str] = set()
        turn = 0
        async for key in listable.keys():
            seen.add(key)
            if turn < 150:
                await listable.delete(f"goes{turn}")
                await listable.create(f"comes{turn}", self.record(clock))
            turn += 1
        missing = {f"stays{number}" for number in range(150)} - seen
        assert not missing, f"{len(missing)} keys that lived all along were not listed"

    async def test_a_walk_may_be_left_early(self, listable: _ListableStorer, clock: Clock) -> None:
        """S19: it holds nothing that later calls would wait for."""
        await race(20, lambda number: listable.create(f"k{number}", self.record(clock)))
        walk = listable.keys()
        first = await anext(walk)
        close = getattr(walk, "aclose", None)
        if close is not None:
            await close()
        assert await listable.delete(first), "a key that was listed must be there"
        left = {f"k{number}" for number in range(20)} - {first}
        same_keys(await collected(listable.keys()), left, "keys() after a walk that was left early")

    async def test_a_walk_that_deletes_what_it_finds_leaves_nothing(
        self, listable: _ListableStorer, clock: Clock
    ) -> None:
        """S19: a thousand, while others come."""

        async def create_fifty(number: int) -> None:
            for key in range(50 * number, 50 * number + 50):
                await listable.create(f"k{key}", self.record(clock))

        await race(20, create_fifty)
        turn = 0
        async for key in listable.keys():
            await listable.delete(key)
            if turn % 10 == 0 and turn < 500:
                await listable.create(f"new{turn}", self.record(clock))
            turn += 1
        left = {key for key in await collected(listable.keys()) if key.startswith("k")}
        assert not left, f"{len(left)} keys that lived before the walk were not listed"

    async def test_a_neighbours_keys_are_not_ours(
        self, listable: _ListableStorer, neighbour: _ListableStorer, clock: Clock
    ) -> None:
        """S19, S17."""
        await listable.create("ours", self.record(clock))
        await neighbour.create("theirs", self.record(clock))
        same_keys(await collected(listable.keys()), {"ours"}, "keys() beside a neighbour")
        same_keys(await collected(neighbour.keys()), {"theirs"}, "the neighbour's keys()")


class OpenableSuite(StorerCase):
    """S16: what a storer with something to open promises. The fixture has opened it once."""

    @pytest.fixture
    async def openable(self, storer: _OpenableStorer) -> _OpenableStorer:
        """The storer under test, which must have `open` and `aclose`."""
        assert isinstance(storer, Openable), f"{type(storer).__name__} has no open() and aclose()"
        return storer

    async def test_the_last_of_several_closes(self, openable: _OpenableStorer, clock: Clock) -> None:
        """S16: open and aclose are counted."""
        record = self.record(clock)
        await openable.create("k", record)
        await openable.open()
        await openable.open()
        await openable.aclose()
        self.same(await openable.read("k"), record, "after one of three closed")
        await openable.aclose()
        self.same(await openable.read("k"), record, "after two of three closed")

    async def test_it_opens_again_and_closing_too_often_is_no_error(
        self, openable: _OpenableStorer, clock: Clock
    ) -> None:
        """S16: what was confirmed is there again, and one open is enough."""
        record = self.record(clock)
        await openable.create("k", record)
        for _ in range(3):
            await openable.aclose()
        await openable.open()
        if self.durable:
            self.same(await openable.read("k"), record, "after it was closed and opened again")
        assert await openable.create("another", record), "a storer that was opened again must work"

    async def test_many_may_open_it_at_once(self, openable: _OpenableStorer, clock: Clock) -> None:
        """S16."""

        async def open_and_close(number: int) -> bool:
            await openable.open()
            made = await openable.create(f"k{number}", self.record(clock))
            await openable.aclose()
            return made

        assert await race(20, open_and_close) == [True] * 20, "each of 20 that opened it must be able to write"
        assert await openable.read("k7") is not None, "the first who opened it has not closed it yet"


async def race(number: int, action: Callable[[int], Awaitable[_T]]) -> list[_T]:
    """Start *number* tasks, let them go at the same moment, and give their results in order."""
    ready, results = anyio.Event(), dict[int, _T]()

    async def run(index: int) -> None:
        await ready.wait()
        results[index] = await action(index)

    async with anyio.create_task_group() as group:
        for index in range(number):
            group.start_soon(run, index)
        await anyio.lowlevel.checkpoint()
        ready.set()
    return [results[index] for index in range(number)]


async def collected(keys: AsyncIterator[str]) -> set[str]:
    """All that a walk gives."""
    return {key async for key in keys}


def same_keys(got: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Fail, naming what is missing and what is there too much, unless both are the same keys."""
    missing, surplus = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    if missing or surplus:
        raise AssertionError(f"{what}: missing {_short(missing)}, and should not be there {_short(surplus)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _add(time: float | None, seconds: float) -> float | None:
    return None if time is None else time + seconds


def _same_time(got: float | None, expected: float | None) -> bool:
    if got is None or expected is None:
        return got is expected
    return abs(got - expected) < 0.002
