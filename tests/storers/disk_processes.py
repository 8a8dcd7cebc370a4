"""Processes that use a DiskStorer's folder: `python -m tests.storers.disk_processes FOLDER WAY NUMBER`.

Each begins as a fork of this one, which has imported everything and started nothing.

`kill`: NUMBER times a child writes in a loop and is killed with SIGKILL in the middle. Prints a line per child: the
last number that it saw confirmed for each key.

`count`: NUMBER children each add to one record 50 times, by compare-and-set.

`hang`: reads a record whose file never answers, says what came of it, and ends.

`fork`: uses a storer, forks, and uses it on both sides.
"""

import asyncio
import contextlib
import gc
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

from aiosessions._errors import StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.storer import Record
from tests.storers.killed import kill_writers, numbered, write_next

INCREMENTS = 50
PATIENCE = timedelta(seconds=60)


def kill(folder: str, rounds: int) -> None:
    async def write(keys: list[str], confirmed: int) -> None:
        storer = DiskStorer(folder)
        while True:
            for key in keys:
                await write_next(storer, key, confirmed)

    kill_writers(write, rounds)


async def increment(folder: str) -> None:
    storer = DiskStorer(folder, timeout=PATIENCE)
    for _ in range(INCREMENTS):
        while True:
            record = await storer.read("counter")
            assert record is not None
            after = Record(
                b"%d" % (int(record.value) + 1), b"", None, record.created_at, time.time(), None, new_version()
            )
            if await storer.replace("counter", after, version=record.version):
                break


def count(folder: str, processes: int) -> None:
    children: list[int] = []
    for _ in range(processes):
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(Exception):
                asyncio.run(increment(folder))
                status = 0
            os._exit(status)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    sys.stdout.write(f"{len(failed)} failed\n")


def _put_a_pipe_there(folder: str) -> None:
    (path,) = Path(folder).glob("records/*/[!.]*")
    path.unlink()
    os.mkfifo(path)


def hang(folder: str, _: int) -> None:
    async def read() -> str:
        storer = DiskStorer(folder, timeout=timedelta(milliseconds=100))
        await DiskStorer(folder).create("k", numbered(1))
        _put_a_pipe_there(folder)
        try:
            await storer.read("k")
        except StorerError as error:
            return type(error).__name__
        return "an answer"

    sys.stdout.write(asyncio.run(read()) + "\n")


def fork(folder: str, _: int) -> None:
    storer = DiskStorer(folder)

    async def use(key: str) -> bool:
        return await storer.create(key, numbered(1)) and await storer.read(key) is not None

    asyncio.run(use("before"))
    child = os.fork()
    if child == 0:
        sys.stdout.write(f"child {asyncio.run(use('child'))}\n")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    sys.stdout.write(f"parent {asyncio.run(use('parent'))}\n")


if __name__ == "__main__":
    gc.freeze()  # what was imported is not walked, and so not copied, in each child
    ways = {"kill": kill, "count": count, "hang": hang, "fork": fork}
    ways[sys.argv[2]](sys.argv[1], int(sys.argv[3]))
