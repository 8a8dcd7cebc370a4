"""One of several processes that race for the same sessions: `python -m tests.storers.redis_racer PORT PREFIX RACERS`.

Prints, as JSON, which rounds it won, of `create` and of `replace`.
"""

import json
import sys
import time

import anyio
from redis.asyncio import Redis

from aiosessions._tokens import new_version
from aiosessions.storers.redis import RedisStorer
from aiosessions.storers.storer import Record

ROUNDS = 50
TASKS = 5


async def _race(port: int, prefix: str, racers: int) -> None:
    created: list[int] = []
    replaced: list[int] = []

    async def once(storer: RedisStorer, number: int) -> None:
        now = time.time()
        if await storer.create(f"c{number}", Record(b"", b"", "ann", now, now, now + 60, new_version())):
            created.append(number)
        if await storer.replace(f"r{number}", Record(b"", b"", "ann", now, now, now + 60, new_version()), version=1):
            replaced.append(number)

    async with Redis(port=port) as client:
        storer = RedisStorer(client, prefix=prefix)
        if await client.incr(f"{prefix}ready") == racers:  # the last one starts the race
            await client.rpush(f"{prefix}start", *range(racers))
        await client.blpop([f"{prefix}start"])
        for number in range(ROUNDS):
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(once, storer, number)
    json.dump({"created": created, "replaced": replaced}, sys.stdout)


if __name__ == "__main__":
    anyio.run(_race, int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
