"""DiskStorer: the storer suites, and what files and several processes add to them."""

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aiosessions._errors import ConfigError, StorerError
from aiosessions._tokens import new_version
from aiosessions.storers._disk_file import HEAD_SIZE, had_expired, pack
from aiosessions.storers._disk_folder import DOUBT, DiskFolder
from aiosessions.storers._disk_shards import Shards
from aiosessions.storers._disk_sweep import START, Sweep
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.storer import Record
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    Clock,
    ListableSuite,
    MovableClock,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
    collected,
)
from tests.storers.disk_processes import INCREMENTS
from tests.storers.killed import KEYS, check, in_processes, prepare

pytestmark = pytest.mark.anyio


class TestDiskStorer(StorerSuite, CleanableSuite, UserIndexedSuite, ListableSuite, OpenableSuite):
    @pytest.fixture
    async def storer(self, tmp_path: Path, clock: Clock) -> AsyncIterator[DiskStorer]:
        storer = DiskStorer(tmp_path / "sessions", clock=clock.now)
        await storer.open()
        yield storer
        await storer.aclose()

    @pytest.fixture
    async def neighbour(self, tmp_path: Path, clock: Clock) -> DiskStorer:
        return DiskStorer(tmp_path / "neighbour", clock=clock.now)


class TestDiskStorerThatWaitsForTheDisk(StorerSuite):
    """S12: with fsync=True nothing else changes."""

    cancellations = 20

    @pytest.fixture
    async def storer(self, tmp_path: Path, clock: Clock) -> DiskStorer:
        return DiskStorer(tmp_path / "sessions", clock=clock.now, fsync=True)

    @pytest.fixture
    async def neighbour(self, tmp_path: Path, clock: Clock) -> DiskStorer:
        return DiskStorer(tmp_path / "neighbour", clock=clock.now, fsync=True)


def record(clock: Clock, *, owner: str | None = None, lives: float | None = 3600.0) -> Record:
    now = clock.now()
    return Record(b"value", b"meta", owner, now, now, None if lives is None else now + lives, new_version())


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def storer(folder: Path, clock: MovableClock) -> DiskStorer:
    return DiskStorer(folder, clock=clock.now, timeout=timedelta(seconds=2))


def files(folder: Path, within: str = "records") -> list[Path]:
    """What is there but the locks."""
    return [path for path in sorted((folder / within).rglob("*")) if path.is_file() and path.name != ".lock"]


def everything(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """As another process would hold it: a lock of another opening of the file excludes ours."""
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Overtaken(Shards):
    """Shards in which another process writes just before we get a lock."""

    writes: list[Callable[[], object]]

    @contextlib.contextmanager
    def locked(self, folder: str, patience: float) -> Generator[None, None, None]:
        if self.writes:
            self.writes.pop()()
        with super().locked(folder, patience):
            yield


def overtaken_folder(folder: Path, clock: MovableClock) -> tuple[DiskFolder, Overtaken]:
    overtaken = DiskFolder(str(folder), fsync=False, clock=clock.now, timeout=1.0)
    overtaken.shards = shards = Overtaken(str(folder), fsync=False)
    shards.writes = []
    return overtaken, shards


@contextlib.contextmanager
def vanished(folder: Path) -> Generator[None, None, None]:
    """As when a volume is not there, but its mount point is."""
    away = folder.with_name("away")
    folder.rename(away)
    folder.mkdir(0o700)
    yield
    shutil.rmtree(folder)
    away.rename(folder)


# The folder is S11


async def test_no_file_is_outside_and_none_is_open_to_others(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S11: files 0600, folders 0700, whatever the umask; nothing beside the folder; no key or owner in a name."""
    before = os.umask(0)
    try:
        for key in ("../../up", "/etc/x", "secret"):
            await storer.create(key, record(clock, owner="../owner"))
        await storer.clean()
    finally:
        os.umask(before)
    modes = {path.relative_to(folder.parent): path.stat().st_mode for path in everything(folder.parent)}
    assert {path.parts[0] for path in modes} == {"sessions"}
    for path, mode in modes.items():
        assert mode in (stat.S_IFDIR | 0o700, stat.S_IFREG | 0o600), path
        assert not {"up", "secret", "owner"} & set(path.parts)


async def test_open_makes_the_folder_and_what_it_lies_in(tmp_path: Path) -> None:
    """S16: and a second opening finds it fit."""
    storer = DiskStorer(tmp_path / "var" / "lib" / "sessions")
    await storer.open()
    await storer.open()
    assert await storer.create("k", record(MovableClock(time.time())))


def _link(folder: Path) -> None:
    other = folder.with_name("other")
    other.mkdir(0o700)
    folder.symlink_to(other)


def _dangling_link(folder: Path) -> None:
    folder.symlink_to(folder.with_name("nowhere"))


def _file(folder: Path) -> None:
    folder.write_text("")


def _open_to_a_group(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o750)


def _open_inside(folder: Path) -> None:
    folder.mkdir(0o700)
    (folder / "records").mkdir()
    (folder / "records").chmod(0o701)


def _of_another(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    folder.mkdir(0o700)
    os.chown(folder, 12345, -1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_link, "is a link"),
        (_dangling_link, "is a link"),
        (_file, "is no folder"),
        (_open_to_a_group, "chmod 700"),
        (_open_inside, "chmod 700"),
        (_of_another, "belongs to another user"),
    ],
)
async def test_a_folder_that_is_unfit_is_refused(
    storer: DiskStorer, folder: Path, make: Callable[[Path], None], reason: str
) -> None:
    """S11: by open, and by the first call where nobody opened it; the message names the folder."""
    make(folder)
    with pytest.raises(ConfigError, match=reason) as caught:
        await storer.open()
    assert str(folder) in str(caught.value)
    with pytest.raises(ConfigError, match=reason):
        await storer.read("k")


async def test_a_folder_that_cannot_be_made_is_a_storer_error(tmp_path: Path) -> None:
    """S13."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorerError) as caught:
        await DiskStorer(tmp_path / "file" / "sessions").open()
    assert isinstance(caught.value.__cause__, OSError)


def test_arguments_that_cannot_work_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F10."""
    with pytest.raises(ConfigError, match="path="):
        DiskStorer("")
    with pytest.raises(ConfigError, match="timeout="):
        DiskStorer(tmp_path, timeout=timedelta(0))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="Windows"):
        DiskStorer(tmp_path)


def test_its_repr_shows_the_folder_and_nothing_that_is_in_it(storer: DiskStorer, folder: Path) -> None:
    """V8."""
    assert repr(storer) == f"<DiskStorer of {folder}>"


@pytest.mark.parametrize("tree", ["records", "owners"])
async def test_a_shard_that_is_a_link_is_refused(
    storer: DiskStorer, folder: Path, clock: MovableClock, tmp_path: Path, tree: str
) -> None:
    """S11: by open, by the first call, and by the first write to it of a storer that is open already."""
    other = tmp_path / "other"
    other.mkdir(0o700)
    running = DiskStorer(folder, clock=clock.now)
    assert await running.read("k") is None
    await storer.create("k", record(clock, owner="ann"))
    (shard,) = {path for path in (folder / tree).iterdir() if path.is_dir()}
    shutil.rmtree(shard)
    shard.symlink_to(other)
    with pytest.raises(ConfigError, match="is a link"):
        await DiskStorer(folder).open()
    with pytest.raises(ConfigError, match="is a link"):
        await DiskStorer(folder).read("k")
    with pytest.raises(ConfigError, match="is a link"):
        await running.create("k" if tree == "records" else "another", record(clock, owner="ann"))
    assert list(other.iterdir()) == []


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Generator[None, None, None]:
    """A file system of its own in *folder*; skips where this process may not mount one."""
    folder.mkdir(0o700)
    try:
        mount(folder, ",".join(("mode=0700", *options)))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_open_refuses_a_folder_that_is_mounted_for_reading_only(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S13: though all that it needs is there; the message names the folder and the reason. Reads go on."""
    first = record(clock)
    with mounted(folder):
        await storer.create("k", first)
        mount(folder, "remount,ro")
        other = DiskStorer(folder, clock=clock.now)
        with pytest.raises(ConfigError, match=r"no session can be written there.*Read-only file system") as caught:
            await other.open()
        assert str(folder) in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
        assert await other.read("k") == first
        with pytest.raises(StorerError):
            await other.delete("k")
        mount(folder, "remount,rw")
        await other.open()
        await other.aclose()


async def test_open_refuses_a_folder_that_this_process_may_not_write(tmp_path: Path) -> None:
    """S13: by its mode; and one that it may not make."""
    user = 12345 if os.geteuid() == 0 else os.geteuid()
    place = Path(tempfile.mkdtemp())
    folder = place / "sessions"
    await DiskStorer(folder).open()
    for path in (place, folder, folder / "records", folder / "owners"):
        os.chown(path, user, -1)
        path.chmod(0o500)
    before = os.geteuid()
    os.seteuid(user)  # in all threads
    try:
        for path in (folder, place / "another"):
            with pytest.raises(ConfigError, match=r"no session can be written there.*Permission denied"):
                await DiskStorer(path).open()
    finally:
        os.seteuid(before)
        for path in (place, folder, folder / "records", folder / "owners"):
            path.chmod(0o700)
        shutil.rmtree(place)


async def test_open_leaves_nothing_behind(storer: DiskStorer, folder: Path) -> None:
    """S12, S13: neither what it tried nor what a process left that died while it tried."""
    await storer.open()
    (folder / "records" / ".probe").write_bytes(b"aio")
    await DiskStorer(folder).open()
    assert [path for path in everything(folder) if path.is_file()] == []


async def test_where_no_file_can_be_made_clean_still_frees_some(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S10, S13: no inode is left, as on a disk of small files; also for a storer that begins there."""
    with mounted(folder, "nr_inodes=60"):
        failure: StorerError | None = None
        while failure is None:
            try:
                await storer.create(os.urandom(8).hex(), record(clock, lives=60.0))
            except StorerError as error:
                failure = error
        assert isinstance(failure.__cause__, OSError)
        assert failure.__cause__.errno == errno.ENOSPC
        stored = len(files(folder))
        assert stored > 10
        await clock.advance(200)
        other = DiskStorer(folder, clock=clock.now)
        with pytest.raises(StorerError, match="No space left"):
            await other.open()
        assert await other.clean() == stored
        await other.open()
        await other.aclose()


async def test_two_storers_of_one_folder_are_one(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """S5, S17."""
    other = DiskStorer(folder, clock=clock.now)
    first = record(clock)
    await storer.create("k", first)
    assert await other.read("k") == first
    assert await other.create("k", record(clock)) is False
    assert await other.delete("k")
    assert await storer.read("k") is None


# Damage is S12


async def test_a_file_that_is_cut_short_counts_as_absent(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """S12: at every length; and one that is longer than it says."""
    await storer.create("k", record(clock, owner="ann"))
    (path,) = files(folder)
    whole = path.read_bytes()
    for broken in (*(whole[:size] for size in range(len(whole))), whole + b"x"):
        path.write_bytes(broken)
        assert await storer.read("k") is None, len(broken)


async def test_a_file_with_any_byte_changed_counts_as_absent(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S12."""
    await storer.create("k", record(clock, owner="ann"))
    (path,) = files(folder)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert await storer.read("k") is None, position
    path.write_bytes(whole)
    assert await storer.read("k") is not None


async def test_a_damaged_file_blocks_nothing_and_is_cleaned(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S12: absent for every call, no obstacle to create, gone after clean."""
    first = record(clock, owner="ann")
    await storer.create("k", first)
    (path,) = files(folder)
    path.write_bytes(b"damaged")
    assert await storer.replace("k", record(clock), version=first.version) is False
    assert await storer.touch("k", seen_at=clock.now(), expires_at=None) is False
    assert await storer.delete("k") is False
    assert await collected(storer.keys()) == set()
    assert await storer.list_by_owner("ann") == []
    assert await storer.delete_by_owner("ann") == 0
    again = record(clock, owner="ann")
    assert await storer.create("k", again)
    assert await storer.list_by_owner("ann") == [("k", again)]

    path.write_bytes(b"")
    assert await storer.clean() == 0
    assert files(folder) == []


async def test_clean_looks_again_under_the_lock(folder: Path, clock: MovableClock) -> None:
    """S10: a record that another process made after clean had seen its expired predecessor stays."""
    other = DiskStorer(folder, clock=clock.now)
    await other.create("k", record(clock, lives=60.0))
    (path,) = files(folder)
    await clock.advance(200)
    fresh = pack("k", record(clock))
    overtaken, shards = overtaken_folder(folder, clock)
    shards.writes = [lambda: path.write_bytes(fresh)]
    sweep = Sweep(overtaken, START)
    assert not sweep.advance()
    assert sweep.removed == 0
    assert shards.writes == []
    assert await other.read("k") is not None


async def test_a_record_that_is_read_while_it_is_touched_is_read_again(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S12: the half that was read is neither a damaged record nor an absent one."""
    await storer.create("k", record(clock, owner="ann"))
    (path,) = files(folder)
    before = path.read_bytes()
    await storer.touch("k", seen_at=clock.now() + 1, expires_at=clock.now() + 7200)
    after = path.read_bytes()
    half = after[: HEAD_SIZE // 2] + before[HEAD_SIZE // 2 :]
    overtaken, shards = overtaken_folder(folder, clock)
    looks: list[Callable[[], bool]] = [
        lambda: overtaken.glance(["k"]) == [DOUBT],
        lambda: overtaken.read("k") is not None,
        lambda: overtaken.owned("ann", [path.name], "") != [],
    ]
    for look in looks:
        path.write_bytes(half)
        shards.writes = [lambda: path.write_bytes(after)]
        assert look()


async def test_clean_removes_what_a_dead_writer_left_and_nothing_that_is_not_ours(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S12: half a write; but a file of a later format stays, and one that somebody else put there."""
    await storer.create("k", record(clock))
    (path,) = files(folder)
    unfinished = path.with_name(".writing")
    unfinished.write_bytes(path.read_bytes()[:50])
    later = path.with_name("0" * 64)
    later.write_bytes(b"aiosess\x02 and what comes then")
    notes = path.with_name("README")
    notes.write_text("do not touch")
    assert await collected(storer.keys()) == {"k"}
    assert await storer.clean() == 0
    assert files(folder) == sorted([path, later, notes])


async def test_touch_writes_in_place(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """S7: the file stays the file, and but for its head what it was."""
    await storer.create("k", record(clock))
    (path,) = files(folder)
    inode, before = path.stat().st_ino, path.read_bytes()
    await storer.touch("k", seen_at=clock.now() + 1, expires_at=clock.now() + 7200)
    after = path.read_bytes()
    changed = [position for position, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert path.stat().st_ino == inode
    assert changed
    assert max(changed) < HEAD_SIZE


# A round of clean, broken off


async def test_a_round_that_a_file_breaks_off_is_gone_on_with_behind_it(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S10: it holds up nothing but itself, for as long as it is there."""
    for number in range(40):
        await storer.create(f"k{number}", record(clock, lives=60.0))
    paths = files(folder)
    (obstacle,) = [path for path in paths[10:] if path.parent != paths[9].parent][:1]
    obstacle.unlink()
    obstacle.mkdir()
    behind = len(paths) - paths.index(obstacle) - 1
    await clock.advance(200)
    with pytest.raises(StorerError):
        await storer.clean()
    assert len(files(folder)) == behind
    for number in range(40):
        await storer.create(f"more{number}", record(clock, lives=60.0))
    await clock.advance(200)
    with pytest.raises(StorerError):
        await storer.clean()
    assert files(folder) == []
    obstacle.rmdir()
    obstacle.write_bytes(b"")
    assert await storer.clean() == 0
    assert files(folder) == []


async def test_a_shard_that_takes_longer_than_the_time_out_is_cleaned(
    folder: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S10: whatever lies in it: a step is short, and the next one begins where it ended. Here each file takes 2 ms."""
    storer = DiskStorer(folder, clock=clock.now, timeout=timedelta(milliseconds=200))
    first = record(clock, lives=60.0)
    await storer.create("k", first)
    (path,) = files(folder)
    for number in range(200):
        path.with_name(f"{path.name[:2]}{number:062x}").write_bytes(path.read_bytes())
    await clock.advance(200)

    def slowly(data: bytes, moment: float) -> bool:
        time.sleep(0.002)
        return had_expired(data, moment)

    monkeypatch.setattr("aiosessions.storers._disk_folder.had_expired", slowly)
    assert await storer.clean() == 201


# The user index is S15


async def test_stale_index_entries_heal_but_no_young_one(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """S15: an entry whose record is gone or another's stays until it is older than twice the time-out."""
    await storer.create("gone", record(clock, owner="ann"))
    await storer.create("moved", record(clock, owner="ann"))
    await storer.create("live", record(clock, owner="ann"))
    entries = files(folder, "owners")
    assert len(entries) == 3
    owner_folder = entries[0].parent
    kept = {path.name: path.read_bytes() for path in entries}

    await storer.delete("gone")
    moved = await storer.read("moved")
    assert moved is not None
    await storer.replace("moved", record(clock, owner="bob"), version=moved.version)
    for name, content in kept.items():
        (owner_folder / name).write_bytes(content)  # as a process leaves it that dies before it takes the entry away

    assert [key for key, _ in await storer.list_by_owner("ann")] == ["live"]
    assert len(list(owner_folder.iterdir())) == 3, "entries that are young must stay"
    long_ago = time.time() - 5  # the time-out is 2 s
    for path in owner_folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert [key for key, _ in await storer.list_by_owner("ann")] == ["live"]
    assert len(list(owner_folder.iterdir())) == 1
    assert [key for key, _ in await storer.list_by_owner("bob")] == ["moved"]


async def test_an_owner_s_folder_that_goes_as_it_is_looked_at_is_made_again(
    storer: DiskStorer, clock: MovableClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S15: the last session of a user ends while the next begins; between the system's calls nothing stands still."""
    await storer.create("a", record(clock, owner="ann"))
    (entry,) = files(folder, "owners")
    lstat = os.lstat
    looked: list[str] = []

    def gone_just_now(path: Any, **options: Any) -> os.stat_result:  # Any: as os has them
        if os.fspath(path) == os.fspath(entry.parent) and not looked:
            looked.append(path)
            shutil.rmtree(path)
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", gone_just_now)
    assert await storer.create("b", record(clock, owner="ann"))
    assert looked
    assert [key for key, _ in await storer.list_by_owner("ann")] == ["b"]


async def test_clean_heals_the_index_of_owners_that_nobody_asks_for(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S15, S10."""
    await storer.create("k", record(clock, owner="ann"))
    await storer.create("live", record(clock, owner="bob"))
    for path in files(folder):
        if b"ann" in path.read_bytes():
            path.unlink()
    await storer.clean()
    assert len(files(folder, "owners")) == 2, "an entry that is young must stay"
    long_ago = time.time() - 5
    for path in files(folder, "owners"):
        os.utime(path, (long_ago, long_ago))
    await storer.clean()
    assert len(files(folder, "owners")) == 1
    assert len([path for path in (folder / "owners").glob("*/*") if path.is_dir()]) == 1


async def test_a_record_that_moved_leaves_no_entry_behind(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S15: one owner, one entry."""
    before = record(clock, owner="ann")
    await storer.create("k", before)
    for owner, entries in (("bob", 1), ("bob", 1), (None, 0)):
        after = record(clock, owner=owner)
        assert await storer.replace("k", after, version=before.version)
        assert len(files(folder, "owners")) == entries
        before = after


async def test_nothing_stays_of_sessions_that_ended(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """S8, S10, S15: neither record nor index entry nor owner's folder, whichever way they ended."""
    for key, lives in (("deleted", 60.0), ("expired", 60.0), ("logged out", 60.0), ("noticed", 60.0)):
        await storer.create(key, record(clock, owner=f"owner of {key}", lives=lives))
    await storer.delete("deleted")
    await storer.delete_by_owner("owner of logged out")
    await clock.advance(200)
    assert await storer.read("noticed") is None
    assert await storer.clean() == 1
    assert files(folder) == []
    assert list((folder / "owners").glob("*/*")) == []


# Time, failures and other processes


async def test_a_clock_that_jumps_back_revives_nothing(storer: DiskStorer, clock: MovableClock) -> None:
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


def all_calls(storer: DiskStorer, clock: Clock) -> dict[str, Callable[[], Awaitable[object]]]:
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


CALLS = list(all_calls(DiskStorer("."), MovableClock()))


@pytest.mark.parametrize("name", CALLS)
async def test_a_folder_that_vanishes_is_a_failure_and_no_logout(
    storer: DiskStorer, folder: Path, clock: MovableClock, name: str
) -> None:
    """S13: for every method; nothing is written where a volume was; after it is back all is well."""
    first = record(clock, owner="ann")
    await storer.create("k", first)
    with vanished(folder):
        with pytest.raises(StorerError) as caught:
            await all_calls(storer, clock)[name]()
        assert isinstance(caught.value.__cause__, OSError)
        assert {path.name for path in files(folder, "")} <= {".cleaning"}
    assert await storer.read("k") == first


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


async def test_a_folder_that_was_emptied_is_an_empty_folder(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S13: `rm -rf sessions/*` beside a running storer logs everybody out, and no call fails."""
    calls = all_calls(storer, clock)
    nothing: dict[str, object] = dict.fromkeys(calls, False)
    nothing.update(read=None, create=True, clean=0, list_by_owner=[], delete_by_owner=0, keys=set[str]())
    for name in calls:
        await storer.create("k", record(clock, owner="ann"))
        empty(folder)
        answer = await calls[name]()
        assert answer == nothing[name], name
        assert await collected(storer.keys()) == ({"k"} if name == "create" else set())
        await storer.delete("k")
    again = record(clock, owner="ann")
    assert await storer.create("k", again)
    assert await storer.list_by_owner("ann") == [("k", again)]
    assert {path.stat().st_mode for path in everything(folder) if path.is_dir()} == {stat.S_IFDIR | 0o700}


async def test_a_file_that_cannot_be_read_is_a_failure(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """S13: and the reads that shared its hop get their answers."""
    good, bad = record(clock), record(clock)
    await storer.create("bad", bad)
    (path,) = files(folder)
    path.unlink()
    path.mkdir()
    await storer.create("good", good)
    answers: dict[str, object] = {}

    async def read(key: str) -> None:
        try:
            answers[key] = await storer.read(key)
        except StorerError as error:
            answers[key] = error

    async with anyio.create_task_group() as group:
        for key in ("good", "bad", "absent"):
            group.start_soon(read, key)
    assert answers["good"] == good
    assert answers["absent"] is None
    assert isinstance(answers["bad"], StorerError)
    assert isinstance(answers["bad"].__cause__, IsADirectoryError)


async def test_a_disk_that_is_full_is_a_failure_that_keeps_the_old_record(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S12, S13: half a record leaves nothing behind."""
    first = record(clock)
    await storer.create("k", first)
    large = Record(b"x" * 200_000, b"", None, 0.0, 0.0, None, new_version())
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorerError) as caught:
            await storer.replace("k", large, version=first.version)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert isinstance(caught.value.__cause__, OSError)
    assert await storer.read("k") == first
    assert len(files(folder)) == 1


async def test_a_writer_that_hangs_is_waited_for_no_longer_than_the_time_out(folder: Path, clock: MovableClock) -> None:
    """S13: readers never wait for it, and once it lets go the same storer works."""
    storer = DiskStorer(folder, clock=clock.now, timeout=timedelta(milliseconds=400))
    first = record(clock, owner="ann")
    await DiskStorer(folder, clock=clock.now).create("k", first)
    (path,) = files(folder)
    with locked(path.with_name(".lock")):
        for name in ("create", "replace", "touch", "delete", "delete_by_owner"):
            with pytest.raises(StorerError) as caught:
                await all_calls(storer, clock)[name]()
            assert isinstance(caught.value.__cause__, TimeoutError)
        assert await storer.read("k") == first
    assert await storer.create("another", record(clock))
    assert await storer.delete("another")


async def test_a_call_that_is_cancelled_while_it_waits_leaves_no_lock(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S14."""
    first = record(clock)
    await storer.create("k", first)
    (path,) = files(folder)
    with locked(path.with_name(".lock")):
        for name in ("create", "touch", "delete"):
            with anyio.move_on_after(0.01) as scope:
                await all_calls(storer, clock)[name]()
            assert scope.cancelled_caught
    await storer.touch("k", seen_at=clock.now(), expires_at=None)  # a StorerError if the lock were still held


async def test_a_reader_that_is_cancelled_cancels_no_other(storer: DiskStorer, clock: MovableClock) -> None:
    """S14: though they share a hop."""
    first = record(clock)
    await storer.create("k", first)
    answers: list[object] = []

    async def read() -> None:
        answers.append(await storer.read("k"))

    async def cancelled(scope: anyio.CancelScope) -> None:
        with scope:
            await read()

    async with anyio.create_task_group() as group:
        scopes = [anyio.CancelScope() for _ in range(3)]
        group.start_soon(cancelled, scopes[0])
        group.start_soon(read)
        group.start_soon(cancelled, scopes[1])
        group.start_soon(read)
        group.start_soon(cancelled, scopes[2])
        await anyio.lowlevel.checkpoint()
        for scope in scopes:
            scope.cancel()
    assert answers == [first, first]


def test_a_storer_serves_one_event_loop_after_another(storer: DiskStorer, clock: MovableClock) -> None:
    """S14: also when the first stopped while a read of its was under way."""
    first = record(clock)

    async def create() -> bool:
        return await storer.create("k", first)

    async def read() -> Record | None:
        return await storer.read("k")

    assert asyncio.run(create())
    loop = asyncio.new_event_loop()
    reading = loop.create_task(read())
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert asyncio.run(read()) == first
    assert loop.run_until_complete(reading) == first
    loop.close()


async def test_a_disk_that_hangs_is_waited_for_no_longer_than_the_time_out(folder: Path, clock: MovableClock) -> None:
    """S13: here a pipe that nobody writes to stands for it."""
    storer = DiskStorer(folder, clock=clock.now, timeout=timedelta(milliseconds=50))
    await DiskStorer(folder, clock=clock.now).create("k", record(clock))
    (path,) = files(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StorerError, match="took too long") as caught:
        await storer.read("k")
    assert isinstance(caught.value.__cause__, TimeoutError)
    os.close(os.open(path, os.O_RDWR))  # the thread gets its answer


# Threads


def threads_of(folder: Path) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith(f" {folder}")]


def test_threads_of_the_application_that_sleep_hold_up_no_call(storer: DiskStorer, clock: MovableClock) -> None:
    """S13: the event loop's own executor is the application's."""
    first = record(clock)
    wake = threading.Event()

    async def use() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        sleeping = loop.run_in_executor(None, wake.wait)
        try:
            assert await storer.create("k", first)
            assert await storer.read("k") == first
        finally:
            wake.set()
        await sleeping

    asyncio.run(use())


def test_writers_that_wait_hold_up_neither_readers_nor_the_application(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S13: however many; `getaddrinfo` and files of the application need the event loop's executor."""
    first = record(clock)

    async def use() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        await storer.create("k", first)
        (path,) = files(folder)
        with locked(path.with_name(".lock")):
            writes = [asyncio.ensure_future(storer.delete("k")) for _ in range(20)]
            assert await storer.read("k") == first
            assert await loop.run_in_executor(None, bool, 1)
            assert await storer.read("k") == first
            assert not any(write.done() for write in writes)
        assert sum(await asyncio.gather(*writes)) == 1

    asyncio.run(use())


async def test_the_last_to_close_ends_the_threads(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """S16: not before, and a storer that is used again has threads again."""
    for _ in range(2):
        await storer.open()
        await storer.open()
        await storer.create("k", record(clock))
        await storer.read("k")
        threads = threads_of(folder)
        assert threads
        await storer.aclose()
        assert await storer.read("k") is not None
        assert all(thread.is_alive() for thread in threads)
        await storer.aclose()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join, 20)
        assert not any(thread.is_alive() for thread in threads)


async def test_few_threads_serve_many_and_fewer_write_than_read(
    storer: DiskStorer, folder: Path, clock: MovableClock
) -> None:
    """S13: and whoever comes one after another needs one of each."""
    await storer.open()
    for number in range(20):
        await storer.create(f"k{number}", record(clock))
        await storer.read(f"k{number}")
    assert len(threads_of(folder)) == 2
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(storer.delete, f"k{number}")
    names = [thread.name for thread in threads_of(folder)]
    assert sum("writes" in name for name in names) <= 4
    await storer.aclose()


def test_a_disk_that_hangs_keeps_no_process_alive(folder: Path) -> None:
    """S13: the thread that waits for it ends with the process."""
    assert in_processes("disk_processes", folder, "hang", "1") == ["StorerError"]


def test_a_process_that_was_forked_has_threads_of_its_own(folder: Path) -> None:
    """S14: a storer that was used before the fork works on both sides."""
    assert in_processes("disk_processes", folder, "fork", "1") == ["child True", "parent True"]


async def test_of_several_processes_one_cleans(storer: DiskStorer, folder: Path, clock: MovableClock) -> None:
    """X6: the others find nothing to do."""
    await storer.create("k", record(clock, lives=60.0))
    await storer.clean()
    await clock.advance(200)
    with locked(folder / ".cleaning"):
        assert await storer.clean() == 0
    assert await storer.clean() == 1


def test_killing_a_writer_200_times_tears_and_loses_nothing(folder: Path) -> None:
    """S12: each record is whole and no older than what was confirmed, old ones stay, leftovers are cleaned."""

    async def check_and_clean(confirmed: list[str]) -> None:
        storer = DiskStorer(folder)
        await check(storer, confirmed)
        await storer.clean()
        assert len(files(folder)) == 20 + len(KEYS)

    asyncio.run(prepare(DiskStorer(folder)))
    confirmed = in_processes("disk_processes", folder, "kill", "200")
    assert len(confirmed) == 200
    asyncio.run(check_and_clean(confirmed))


def test_eight_processes_that_count_in_one_record_lose_no_increment(folder: Path) -> None:
    """S5: compare-and-set across processes."""

    async def prepare() -> None:
        assert await DiskStorer(folder).create("counter", Record(b"0", b"", None, 0.0, 0.0, None, 1))

    async def total() -> int:
        counter = await DiskStorer(folder).read("counter")
        assert counter is not None
        return int(counter.value)

    asyncio.run(prepare())
    assert in_processes("disk_processes", folder, "count", "8") == ["0 failed"]
    assert asyncio.run(total()) == 8 * INCREMENTS
