"""Writers that are killed in the middle of a write, on a storer that keeps what it confirmed."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from aiosessions import Storer
from aiosessions._tokens import new_version
from aiosessions.storers.storer import Record, UserIndexed

__all__ = ["KEYS", "check", "in_processes", "kill_writers", "numbered", "prepare", "write_next"]

KEYS = [f"k{number}" for number in range(4)]
_OLD = 20


class _Indexed(Storer, UserIndexed, Protocol): ...


def numbered(number: int, owner: str | None = "ann") -> Record:
    """A record that says its number all through, of a size that changes from one to the next."""
    text = b"%010d" % number * (1 + number % 7 * 100)
    now = time.time()
    return Record(text, b"%d" % number, owner, now, now, now + 3600, new_version())


# In processes of their own


async def write_next(storer: Storer, key: str, confirmed: int) -> None:
    """Write the next number, which is higher than any before, and say that it was confirmed."""
    record = await storer.read(key)
    if record is None:
        number = 0
        done = await storer.create(key, numbered(0))
    else:
        number = int(record.meta) + 1
        done = await storer.replace(key, numbered(number, f"u{number % 3}"), version=record.version)
    assert done, f"{key} has one writer and must not lose a race"
    os.write(confirmed, f"{key} {number}\n".encode())
    await storer.touch(key, seen_at=time.time(), expires_at=time.time() + 7200)


def kill_writers(
    write: Callable[[list[str], int], Coroutine[Any, Any, None]],  # Any: as Coroutine has them
    rounds: int,
) -> None:
    """So often let a child write for ever, and kill it; print a line for each: the last number that it saw confirmed.

    Args:
        write: given the keys, in the order to begin with (a slow child confirms its first key only), and where to say
            what was confirmed.
        rounds: how often.
    """
    chance = random.Random(9)
    for number in range(rounds):
        theirs, ours = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(theirs)
            first = number % len(KEYS)
            asyncio.run(write(KEYS[first:] + KEYS[:first], ours))

        os.close(ours)
        said = os.read(theirs, 1 << 16)  # it is at work
        time.sleep(chance.random() / 100)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, "the child failed before it was killed"
        while more := os.read(theirs, 1 << 16):
            said += more
        os.close(theirs)
        last = dict(line.split() for line in said.decode().splitlines())
        sys.stdout.write(json.dumps(last) + "\n")


# In the test


def in_processes(module: str, place: Path, *arguments: str) -> list[str]:
    """What a module of this folder prints that is run with *place* and *arguments*, line by line."""
    command = [sys.executable, "-m", f"tests.storers.{module}", str(place), *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def prepare(storer: Storer) -> None:
    """What nobody writes any more."""
    for number in range(_OLD):
        assert await storer.create(f"old{number}", numbered(number))


async def check(storer: _Indexed, lines: Sequence[str]) -> None:
    """Each record is whole and no older than what was confirmed, and the others are as they were."""
    confirmed: list[Mapping[str, str]] = [json.loads(line) for line in lines]
    for earlier, later in pairwise(confirmed):
        for key in earlier.keys() & later.keys():
            assert int(later[key]) > int(earlier[key]), f"a confirmed write of {key} was lost"
    for key in KEYS:
        record = await storer.read(key)
        assert record is not None, f"{key} is lost"
        number = int(record.meta)
        assert record.value == numbered(number).value, f"{key} is torn"
        latest = max(int(last[key]) for last in confirmed if key in last)
        assert number >= latest, f"{key} is at {number}, and {latest} was confirmed"
        assert key in [found for found, _ in await storer.list_by_owner(record.owner or "")]
    for number in range(_OLD):
        record = await storer.read(f"old{number}")
        assert record is not None, f"old{number} is lost"
        assert record.value == numbered(number).value
