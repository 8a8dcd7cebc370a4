"""Processes that share an SQLiteStorer's file: `python -m tests.storers.sqlite_processes FILE kill|fork NUMBER`.

`kill`: NUMBER times a child writes in a loop and is killed with SIGKILL in the middle. Prints a line per child: the
last number that it saw confirmed for each key.

`fork`: forks NUMBER times while the storer is in use, and closes its own while the children write. Prints a line per
child: the keys that it saw confirmed.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time

from aiosessions import SQLiteStorer
from tests.storers.disk_processes import KEYS, numbered

OF_A_CHILD = 30
"""How many records each child of `fork` writes before and after its parent has closed the file."""


async def write(path: str, confirmed: int, first: int) -> None:
    """Write for ever, from the key of number *first* on, each number higher than any before; say what was confirmed."""
    storer = SQLiteStorer(path)

    async def write_one(key: str) -> None:
        while True:
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

    async with asyncio.TaskGroup() as group:
        for key in KEYS[first:] + KEYS[:first]:
            group.create_task(write_one(key))


def kill_writers(path: str, rounds: int) -> None:
    chance = random.Random(9)
    for number in range(rounds):
        theirs, ours = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(theirs)
            asyncio.run(write(path, ours, number % len(KEYS)))

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


async def write_some(storer: SQLiteStorer, name: str) -> list[str]:
    keys = [f"{name}.{number}" for number in range(OF_A_CHILD)]
    for key in keys:
        assert await storer.create(key, numbered(0))
        assert await storer.read(key) is not None
    return keys


def be_a_child(storer: SQLiteStorer, name: str, ours: int, closed: int) -> None:
    """In an event loop of its own; the second half once the parent has closed the file."""
    keys = asyncio.run(write_some(storer, f"{name}before"))
    os.write(ours, b"half\n")
    os.read(closed, 1)
    keys += asyncio.run(write_some(storer, f"{name}after"))
    os.write(ours, json.dumps(keys).encode() + b"\n")


async def fork_in_use(path: str, number: int) -> None:
    storer = SQLiteStorer(path)
    await storer.open()
    writing = asyncio.create_task(write_some(storer, "parent"))
    children: list[tuple[int, int]] = []
    closed, close = os.pipe()
    for name in range(number):
        await storer.read("absent")  # both threads are at work
        theirs, ours = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(close)
            status = 1
            try:
                be_a_child(storer, str(name), ours, closed)
                status = 0
            finally:
                os._exit(status)
        os.close(ours)
        children.append((child, theirs))
    keys = await writing
    for _, theirs in children:
        assert os.read(theirs, 100) == b"half\n", "a child failed"
    await storer.aclose()
    os.close(close)
    sys.stdout.write(json.dumps(keys) + "\n")
    for child, theirs in children:
        with os.fdopen(theirs) as said:
            sys.stdout.write(said.read())
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - nothing else runs here
        assert status == 0, "a child failed"


if __name__ == "__main__":
    if sys.argv[2] == "kill":
        kill_writers(sys.argv[1], int(sys.argv[3]))
    else:
        asyncio.run(fork_in_use(sys.argv[1], int(sys.argv[3])))
