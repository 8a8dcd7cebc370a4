"""Processes that share an SQLiteStorer's file: `python -m tests.storers.sqlite_processes FILE kill|fork NUMBER`.

`kill`: NUMBER times a child writes in a loop and is killed with SIGKILL in the middle. Prints a line per child: the
last number that it saw confirmed for each key.

`fork`: forks NUMBER times while the storer is in use, and closes its own while the children write. Prints a line per
child: the keys that it saw confirmed.
"""

import asyncio
import json
import os
import sys

from aiosessions import SQLiteStorer
from tests.storers.killed import kill_writers, numbered, write_next

OF_A_CHILD = 30
"""How many records each child of `fork` writes before and after its parent has closed the file."""


def kill(path: str, rounds: int) -> None:
    async def write(keys: list[str], confirmed: int) -> None:
        storer = SQLiteStorer(path)

        async def write_one(key: str) -> None:
            while True:
                await write_next(storer, key, confirmed)

        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(write_one(key))

    kill_writers(write, rounds)


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
        kill(sys.argv[1], int(sys.argv[3]))
    else:
        asyncio.run(fork_in_use(sys.argv[1], int(sys.argv[3])))
