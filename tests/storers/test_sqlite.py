"""SQLiteStorer: the storer suites, and what one file and several processes add to them."""

# ruff: noqa: ASYNC240  (files of a test, quickly looked at)

import asyncio
import gc
import json
import os
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace as changed

from aiosessions import ConfigError, Record, SQLiteStorer, StorerError
from aiosessions._tokens import new_version
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    MovableClock,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
    collected,
    race,
)
from tests import racers
from tests.conftest import ASYNCIO
from tests.storers.killed import check, in_processes, numbered, prepare

pytestmark = pytest.mark.anyio


class TestSQLiteStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def storer(self, tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStorer]:
        storer = SQLiteStorer(tmp_path / "sessions.db", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStorer]:
        storer = SQLiteStorer(tmp_path / "neighbour.db", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()


def record(clock: Clock, *, value: bytes = b"value", owner: str | None = None, lives: float | None = 3600.0) -> Record:
    now = clock.now()
    return Record(value, b"meta", owner, now, now, None if lives is None else now + lives, new_version())


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def storer(path: Path, clock: MovableClock) -> AsyncIterator[SQLiteStorer]:
    storer = SQLiteStorer(path, clock=clock.now)
    yield storer
    await storer.aclose()


@contextmanager
def locked(path: Path) -> Generator[None]:
    """As another process would hold it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("aiosessions ")}


def have_ended(working: set[threading.Thread]) -> bool:
    """Whether they have, or are about to."""
    for thread in working:
        thread.join(5)
    return not any(thread.is_alive() for thread in working)


def commits(path: Path) -> int:
    """How many transactions the log has: the last page of each says how large the file then is."""
    log = Path(f"{path}-wal").read_bytes()
    page_size = int.from_bytes(log[8:12])
    salt = log[16:24]
    frames = [log[at : at + 24] for at in range(32, len(log), 24 + page_size)]
    return sum(struct.unpack(">4xI", frame[:8])[0] != 0 for frame in frames if frame[8:16] == salt)


def all_calls(storer: SQLiteStorer, clock: Clock) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "read": lambda: storer.read("k"),
        "create": lambda: storer.create("k", record(clock, owner="ann")),
        "replace": lambda: storer.replace("k", record(clock), version=1),
        "touch": lambda: storer.touch("k", seen_at=clock.now(), expires_at=None),
        "delete": lambda: storer.delete("k"),
        "clean": storer.clean,
        "list_by_owner": lambda: storer.list_by_owner("ann"),
        "delete_by_owner": lambda: storer.delete_by_owner("ann"),
        "keys": lambda: collected(storer.keys()),
    }


CALLS = list(all_calls(SQLiteStorer("unused"), MovableClock()))
WRITES = [name for name in CALLS if name not in ("read", "list_by_owner", "keys")]


# The file is S11


async def test_the_files_are_closed_to_others(storer: SQLiteStorer, path: Path, clock: MovableClock) -> None:
    """S11: the database, its log and its index, whatever the umask."""
    before = os.umask(0)
    try:
        await storer.create("../../k", record(clock))
        modes = {file.name: file.stat().st_mode for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["sessions.db", "sessions.db-wal", "sessions.db-shm"], stat.S_IFREG | 0o600)


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    path.with_name("other.db").write_text("")
    path.symlink_to(path.with_name("other.db"))


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _open_to_a_group(path: Path) -> None:
    path.touch()
    path.chmod(0o640)


def _of_another(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    path.touch(0o600)
    os.chown(path, 12345, -1)


def _no_database(path: Path) -> None:
    path.touch(0o600)
    path.write_text("dear diary, " * 1000)


def _of_something_else(path: Path) -> None:
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")


def _of_a_later_version(path: Path) -> None:
    asyncio.run(_opened_once(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def _that_forgets(path: Path) -> None:
    asyncio.run(_opened_once(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON sessions BEGIN DELETE FROM sessions; END")


async def _opened_once(path: Path) -> None:
    storer = SQLiteStorer(path)
    await storer.open()
    await storer.aclose()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_folder, "is a folder"),
        (_link, "is a link"),
        (_dangling_link, "is a link"),
        (_pipe, "is no file"),
        (_open_to_a_group, "chmod 600"),
        (_of_another, "belongs to another user"),
        (_no_database, "is no SQLite database"),
        (_of_something_else, "something else"),
        (_of_a_later_version, "another version"),
        (_that_forgets, "does not keep"),
    ],
)
def test_a_file_that_is_unfit_is_refused(path: Path, make: Callable[[Path], None], reason: str) -> None:
    """S11, S13: by open, and by the first call where nobody opened it; it is named, and stays as it is."""
    make(path)
    before = path.read_bytes() if path.is_file() else b""

    async def check() -> None:
        storer = SQLiteStorer(path)
        for call in (storer.open, lambda: storer.create("k", numbered(0))):
            with pytest.raises(ConfigError, match=reason) as caught:
                await call()
            assert str(path) in str(caught.value)
            assert not isinstance(caught.value.__cause__, ConfigError)
        await storer.aclose()

    asyncio.run(check())
    assert before == (path.read_bytes() if path.is_file() else b"")
    assert have_ended(threads())


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("absent/sessions.db", "make the folder"),
        ("file/sessions.db", "cannot be made"),
        ("/sys/sessions.db", "cannot be made"),
    ],
)
async def test_a_place_where_no_file_can_be_made_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    """S13: no folder, below a file, and where the system lets nobody write."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=reason):
        await SQLiteStorer(tmp_path / place).open()


READ_ONLY = """
import asyncio, os, sys
from aiosessions import ConfigError, SQLiteStorer
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    asyncio.run(SQLiteStorer(sys.argv[1]).open())
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(("file", "folder"), [(0o400, 0o700), (0o600, 0o500)], ids=["the file", "its folder"])
def test_what_is_read_only_is_refused_by_open(tmp_path: Path, file: int, folder: int) -> None:
    """S13: also a file that could be written, in a folder where SQLite cannot keep its log."""
    path = tmp_path / "var" / "sessions.db"
    path.parent.mkdir()
    asyncio.run(_opened_once(path))
    path.chmod(file)
    path.parent.chmod(folder)
    owner = os.geteuid()
    if owner == 0:  # whom no mode stops
        for parent in (path, path.parent):
            os.chown(parent, 65534, 65534)
        for parent in (tmp_path, *tmp_path.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    path.parent.chmod(0o700)
    assert f"{path} cannot be written" in done.stdout


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", ["", ":memory:", "/tmp/:memory:", "file:sessions.db?mode=memory"])
def test_a_path_of_no_file_is_refused(place: str) -> None:
    """F10: what is only in memory would be empty for the next connection."""
    with pytest.raises(ConfigError, match="path="):
        SQLiteStorer(place)
    with pytest.raises(ConfigError, match="timeout="):
        SQLiteStorer("sessions.db", timeout=timedelta(0))


def test_its_repr_shows_the_file_and_nothing_that_is_in_it(path: Path) -> None:
    """V8."""
    assert repr(SQLiteStorer(path)) == f"<SQLiteStorer of {path}>"


async def test_values_can_be_queried(storer: SQLiteStorer, path: Path, clock: MovableClock) -> None:
    """S2: JSON is text; what is none comes back all the same, and so do awkward keys and owners."""
    await storer.create("app:1", record(clock, value=b'{"cart":["caf\xc3\xa9"]}', owner="ann"))
    await storer.create("app:2", record(clock, value=b"\xff\0", owner="\0\ud800"))
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT key, json_extract(value, '$.cart[0]') FROM sessions WHERE owner = 'ann'"
        assert connection.execute(query).fetchall() == [("app:1", "caf\xe9")]
    ((key, found),) = await storer.list_by_owner("\0\ud800")
    assert (key, found.value) == ("app:2", b"\xff\0")


# What was confirmed is S12


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_killing_a_writer_40_times_tears_and_loses_nothing(path: Path) -> None:
    """S12: each record is whole and no older than what was confirmed, and the others are as they were."""

    async def with_a_storer(work: Callable[[SQLiteStorer], Awaitable[None]]) -> None:
        storer = SQLiteStorer(path)
        await work(storer)
        await storer.aclose()

    asyncio.run(with_a_storer(prepare))
    confirmed = in_processes("sqlite_processes", path, "kill", "40")
    assert len(confirmed) == 40
    asyncio.run(with_a_storer(partial(check, lines=confirmed)))
    assert is_sound(path)


def test_who_is_forked_while_it_is_in_use_goes_on_with_a_connection_of_its_own(path: Path) -> None:
    """S12, S14: what any of four processes saw confirmed is there, though one closed what the others came from."""
    confirmed = {key for line in in_processes("sqlite_processes", path, "fork", "3") for key in json.loads(line)}
    assert len(confirmed) == 7 * 30

    async def check() -> None:
        storer = SQLiteStorer(path)
        assert await collected(storer.keys()) == confirmed
        await storer.aclose()

    asyncio.run(check())
    assert is_sound(path)


async def test_of_four_processes_one_wins(path: Path) -> None:
    """S3, S5: each of 40 races."""
    storer = SQLiteStorer(path)
    for number in range(racers.ROUNDS):
        await storer.create(f"replaced{number}", racers.starting_record(number))
    created, replaced = await anyio.to_thread.run_sync(racers.winners_of_four_processes, f"sqlite:{path}")
    assert created == replaced == [1] * racers.ROUNDS
    await storer.aclose()


async def test_the_writes_of_a_tick_are_one_transaction(storer: SQLiteStorer, path: Path, clock: MovableClock) -> None:
    """S5: each with its own answer; those who come one after the other have one each."""
    await storer.open()
    await storer.create("present", record(clock))
    before = commits(path)
    for number in range(5):
        await storer.create(f"alone{number}", record(clock))
    assert commits(path) - before == 5

    made: dict[int, bool] = {}

    async def create(number: int) -> None:
        made[number] = await storer.create("present" if number % 50 == 0 else f"k{number}", record(clock))

    async with anyio.create_task_group() as group:
        with locked(path):  # the thread has taken what came first, and tries it again
            for number in range(100):
                group.start_soon(create, number)
            await anyio.wait_all_tasks_blocked()
    assert sorted(number for number in made if not made[number]) == [0, 50]
    assert commits(path) - before - 5 <= 2


async def test_a_write_that_cannot_be_made_fails_alone(storer: SQLiteStorer, clock: MovableClock) -> None:
    """S13: those that share its transaction are confirmed."""
    answers: dict[int, object] = {}

    async def create(number: int) -> None:
        version = 2**70 if number == 7 else number
        try:
            answers[number] = await storer.create(f"k{number}", changed(record(clock), version=version))
        except StorerError as error:
            answers[number] = error.__cause__

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(create, number)
    assert isinstance(answers.pop(7), OverflowError)
    assert list(answers.values()) == [True] * 19
    assert await collected(storer.keys()) == {f"k{number}" for number in answers}


# Time, failures and cancellation


async def test_a_clock_that_jumps_back_revives_nothing(storer: SQLiteStorer, clock: MovableClock) -> None:
    """X5: what was once seen expired is gone."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: storer.read("k"),
        lambda: storer.touch("k", seen_at=clock.now(), expires_at=None),
        lambda: storer.delete("k"),
        lambda: storer.replace("k", record(clock), version=0),
        lambda: storer.delete_by_owner("ann"),
    ]
    for call in calls:
        await storer.create("k", record(clock, owner="ann", lives=60.0))
        await clock.advance(60)
        await call()
        await clock.advance(-60)
        assert await storer.read("k") is None


@pytest.mark.parametrize("name", WRITES)
async def test_a_file_that_is_locked_is_a_failure_within_the_time_out(
    path: Path, clock: MovableClock, name: str
) -> None:
    """S13: who reads does not wait; what was expired is absent all the same; once it is free the same storer works."""
    patient = SQLiteStorer(path, clock=clock.now)
    first = record(clock, owner="ann")
    await patient.create("k", first)
    await patient.create("expired", record(clock, lives=-5.0))
    await patient.aclose()
    storer = SQLiteStorer(path, clock=clock.now, timeout=timedelta(milliseconds=400))
    with locked(path):
        with anyio.fail_after(5), pytest.raises(StorerError, match="locked") as caught:
            await all_calls(storer, clock)[name]()
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert await storer.read("k") == first
        assert await storer.read("expired") is None
        assert len(await storer.list_by_owner("ann")) == 1
    assert await storer.read("k") == first, "a write that was given up was made later"
    assert await storer.replace("k", record(clock), version=first.version)
    await storer.aclose()


async def test_a_file_that_is_locked_at_the_start_is_waited_for(path: Path) -> None:
    """S13: where another process makes the table just now."""
    storer = SQLiteStorer(path)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        path.chmod(0o600)
        other.execute("BEGIN EXCLUSIVE")
        async with anyio.create_task_group() as group:
            group.start_soon(storer.open)
            await anyio.wait_all_tasks_blocked()
            assert not Path(f"{path}-wal").exists()
            other.execute("ROLLBACK")
    assert await storer.create("k", numbered(0))
    await storer.aclose()


async def test_open_fails_where_the_file_stays_locked(path: Path) -> None:
    """S13: as a failure of now, and no mistake."""
    await _opened_once(path)
    storer = SQLiteStorer(path, timeout=timedelta(milliseconds=400))
    with locked(path), pytest.raises(StorerError, match="locked"):
        await storer.open()
    await storer.open()
    await storer.aclose()


@pytest.fixture
def full_disk() -> Iterator[Callable[[], None]]:
    """Lets no file grow beyond 100 kB until the call."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    def release() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    yield release
    release()
    signal.signal(signal.SIGXFSZ, handler)


async def test_a_disk_that_is_full_is_a_failure_that_keeps_the_old_record(
    full_disk: Callable[[], None], storer: SQLiteStorer, path: Path, clock: MovableClock
) -> None:
    """S12, S13: nothing of the transaction is there, and with space again the same storer works."""
    first = record(clock)
    await storer.create("k", first)
    large = record(clock, value=b"x" * 200_000)
    with pytest.raises(StorerError) as caught:
        await storer.replace("k", large, version=first.version)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert await storer.read("k") == first
    full_disk()
    assert await storer.replace("k", large, version=first.version)
    assert await storer.read("k") == large
    assert is_sound(path)


@pytest.mark.parametrize("name", CALLS)
async def test_a_file_that_vanishes_is_a_failure_and_no_logout(
    storer: SQLiteStorer, path: Path, clock: MovableClock, name: str
) -> None:
    """S13: for every method; nothing is confirmed that nobody will find; after it is back all is well."""
    first = record(clock, owner="ann")
    await storer.create("k", first)  # the thread that reads has not looked at the file yet
    for takes_its_place in (False, True):
        path.rename(path.with_name("away.db"))
        if takes_its_place:
            path.touch(0o600)
        with pytest.raises(StorerError, match=r"restart|No such file") as caught:
            await all_calls(storer, clock)[name]()
        assert isinstance(caught.value.__cause__, OSError)
        path.with_name("away.db").rename(path)
    assert await storer.read("k") == first


async def test_what_was_fit_once_and_is_so_no_more_is_a_failure(storer: SQLiteStorer, path: Path) -> None:
    """S13: a ConfigError is for those who start."""
    assert await storer.create("k", numbered(0))
    path.chmod(0o644)
    with pytest.raises(StorerError, match="chmod 600"):
        await storer.read("k")  # by a connection of its own
    await storer.aclose()
    with pytest.raises(ConfigError, match="chmod 600"):
        await storer.read("k")


async def test_a_damaged_file_is_a_failure(storer: SQLiteStorer, path: Path, clock: MovableClock) -> None:
    """S13: never somebody else's record, and no exception but ours."""
    await storer.create("k", record(clock))
    await storer.aclose()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    for call in all_calls(storer, clock).values():
        with pytest.raises(StorerError):
            await call()


async def test_a_call_that_is_cancelled_while_it_waits_is_not_made_later(
    storer: SQLiteStorer, path: Path, clock: MovableClock
) -> None:
    """S14: and leaves no lock."""
    first = record(clock)
    await storer.create("k", first)
    with locked(path):
        for name in ("create", "touch", "delete", "delete_by_owner", "clean"):
            with anyio.move_on_after(0.01) as scope:
                await all_calls(storer, clock)[name]()
            assert scope.cancelled_caught
    assert await storer.create("another", record(clock))
    assert await storer.read("k") == first


async def test_who_is_cancelled_takes_nobody_along(storer: SQLiteStorer, path: Path, clock: MovableClock) -> None:
    """S14: though they share a transaction."""
    await storer.open()
    answers: list[bool] = []

    async def create(key: str, scope: anyio.CancelScope) -> None:
        with scope:
            answers.append(await storer.create(key, record(clock)))

    async with anyio.create_task_group() as group:
        with locked(path):
            scopes = [anyio.CancelScope() for _ in range(6)]
            for number, scope in enumerate(scopes):
                group.start_soon(create, f"k{number}", scope)
            await anyio.wait_all_tasks_blocked()
            for scope in scopes[::2]:
                scope.cancel()
    assert answers == [True] * 3
    assert {f"k{number}" for number in (1, 3, 5)} <= await collected(storer.keys())


# Threads and event loops


async def test_the_threads_end_with_the_last_who_closes(path: Path) -> None:
    """S16: and begin again with the next call."""
    storer = SQLiteStorer(path)
    others = threads()
    await storer.open()
    await storer.open()
    await storer.aclose()
    working = threads() - others
    assert len(working) == 2
    await storer.aclose()
    assert have_ended(working)
    assert await storer.create("k", numbered(0))
    await storer.aclose()


@pytest.mark.parametrize("anyio_backend", [ASYNCIO])
async def test_a_storer_that_is_dropped_ends_its_threads(path: Path) -> None:
    """S16: where nobody closed it."""
    others = threads()
    storer = SQLiteStorer(path)
    await storer.create("k", numbered(0))
    working, is_gone = threads() - others, threading.Event()
    dropped = weakref.ref(storer, lambda _: is_gone.set())
    assert working
    del storer
    while not is_gone.wait(0.01):  # a thread may still be on its way out of the call
        gc.collect()
    assert dropped() is None
    assert have_ended(working)


def test_a_process_ends_that_closes_nothing(path: Path) -> None:
    """S16: nothing is said either, and what was confirmed is there."""
    program = f"""
import asyncio
from aiosessions import SQLiteStorer
from tests.storers.killed import numbered
storer = SQLiteStorer({str(path)!r})
async def main():
    await storer.create("k", numbered(7))
    await storer.read("k")
asyncio.run(main())
print("over")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("over\n", "")

    async def check() -> None:
        storer = SQLiteStorer(path)
        found = await storer.read("k")
        assert found is not None
        assert found.value == numbered(7).value
        await storer.aclose()

    asyncio.run(check())


def test_a_storer_serves_one_event_loop_after_another_and_two_at_once(path: Path) -> None:
    """S14: also when the first ended in the middle of a call."""
    storer = SQLiteStorer(path)
    first = numbered(0)

    async def create_and_read() -> Record | None:
        await storer.create("k", first)
        return await storer.read("k")

    loop = asyncio.new_event_loop()
    reading = loop.create_task(storer.read("k"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert asyncio.run(create_and_read()) == first
    loop.run_until_complete(reading)
    loop.close()

    counts: list[int] = []

    async def count() -> None:
        won = await race(50, lambda number: storer.create(f"raced{number}", numbered(number)))
        counts.append(sum(won))

    async def use() -> None:
        await storer.open()
        await count()
        await storer.aclose()

    loops = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(3)]
    loops.append(threading.Thread(target=anyio.run, args=(use,), kwargs={"backend": "trio"}))
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join(60)
    assert len(counts) == 4
    assert sum(counts) == 50
    asyncio.run(storer.aclose())


async def test_who_comes_while_another_makes_the_file_does_not_take_it_for_something_else(tmp_path: Path) -> None:
    """S13: several start on a new file at once: one makes it, and all of them work."""
    for number in range(20):
        storers = [SQLiteStorer(tmp_path / f"{number}.db") for _ in range(4)]

        async def use(index: int, storers: list[SQLiteStorer] = storers) -> bool:
            if index % 2:
                return await storers[index // 2].create("k", numbered(index))
            return await storers[index // 2].read("k") is not None

        won = await race(8, use)
        assert sum(won[1::2]) == 1
        for storer in storers:
            await storer.aclose()


async def test_clean_lets_writers_in_between_its_pages(storer: SQLiteStorer, clock: MovableClock) -> None:
    """S10: a write that comes while a crowd is removed is made before the last of it has gone."""
    await race(1500, lambda number: storer.create(f"k{number}", record(clock, lives=5.0)))
    await clock.advance(90)
    removed: list[int] = []

    async def clean() -> None:
        removed.append(await storer.clean())

    async with anyio.create_task_group() as group:
        group.start_soon(clean)
        await anyio.wait_all_tasks_blocked()
        assert await storer.create("new", record(clock))
        assert not removed, "clean was over before a writer had its turn"
    assert removed == [1500]
    assert await collected(storer.keys()) == {"new"}
