"""Four processes that race for the same keys of one storer; run by `winners_of_four_processes`."""

import asyncio
import json
import subprocess
import sys
import time

from aiosessions._tokens import new_version
from aiosessions.storers.registry import storer_from_url
from aiosessions.storers.storer import Openable, Record, Storer

__all__ = ["ROUNDS", "starting_record", "winners_of_four_processes"]

ROUNDS = 20
_PROCESSES = 4
_TASKS = 5  # of each process: 20 racers


def starting_record(number: int) -> Record:
    """What the key `replaced<number>` must hold before the race."""
    now = time.time()
    return Record(b"{}", b"", None, now, now, now + 600, number + 1)


def winners_of_four_processes(url: str) -> tuple[list[int], list[int]]:
    """How many of the 20 racers won, for each key that they all tried to create, and for each to replace."""
    command = [sys.executable, "-m", "tests.racers", url]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(_PROCESSES)]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == b"ready\n", "a racing process did not start"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(b"go\n")
            racer.stdin.flush()
        wins = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    created, replaced = zip(*wins, strict=True)
    return [sum(row) for row in zip(*created, strict=True)], [sum(row) for row in zip(*replaced, strict=True)]


async def _run(storer: Storer) -> tuple[list[int], list[int]]:
    async def create(number: int) -> bool:
        return await storer.create(f"created{number}", _record())

    async def replace(number: int) -> bool:
        return await storer.replace(f"replaced{number}", _record(), version=number + 1)

    return (
        [sum(await asyncio.gather(*(create(number) for _ in range(_TASKS)))) for number in range(ROUNDS)],
        [sum(await asyncio.gather(*(replace(number) for _ in range(_TASKS)))) for number in range(ROUNDS)],
    )


def _record() -> Record:
    now = time.time()
    return Record(b"{}", b"", None, now, now, now + 600, new_version())


async def _main(url: str) -> None:
    storer = storer_from_url(url)
    assert isinstance(storer, Openable)
    await storer.open()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(await _run(storer)))
    await storer.aclose()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
