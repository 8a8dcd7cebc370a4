"""Processes that count up in one session: `python -m tests.drills.counting JOBS`, JOBS in JSON.

Each begins as a fork of this one. It says "ready", waits for "go", and says in a line what happened.
"""

import gc
import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass, field
from functools import partial

import anyio
import anyio.to_thread

from aiosessions import ConflictError, Openable, Session, StorageOverseer, Storer, StorerError
from aiosessions.asgi import Connection
from aiosessions.storers.registry import storer_from_url

__all__ = ["Count", "Counting", "Job", "Tally"]


@dataclass
class Count:
    """A total, and what each task has given to it."""

    total: int = 0
    parts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class Job:
    """What one process does.

    Args:
        url: of the storer.
        cookies: what the browser holds.
        process: its number.
        tasks: how many count at once.
        increments: by each.
    """

    url: str
    cookies: dict[str, str]
    process: int
    tasks: int
    increments: int


@dataclass
class Tally:
    """What happened in one process.

    Attributes:
        attempts: how often a change was made to a value that might then be stored, or not.
        conflicts: calls of `update` that gave up; they were made again.
        unknown: calls whose outcome the backend left open; they were made again.
        seconds: for all of it.
    """

    attempts: int = 0
    conflicts: int = 0
    unknown: int = 0
    seconds: float = 0.0


@dataclass
class Counting:
    """One process: tasks that each add to the total, one by one, and check that each addition was made once."""

    job: Job
    tally: Tally = field(default_factory=Tally)

    async def run(self, storer: Storer) -> None:
        """All of it."""
        start = anyio.current_time()
        async with StorageOverseer(Count, storer, clean_every=None) as store, anyio.create_task_group() as group:
            for task in range(self.job.tasks):
                group.start_soon(self._count, store, f"{self.job.process}.{task}")
        self.tally.seconds = anyio.current_time() - start

    async def _count(self, store: StorageOverseer[Count], name: str) -> None:
        cookies = "; ".join(f"{key}={value}" for key, value in self.job.cookies.items())
        request = Connection({"type": "http", "scheme": "https", "headers": [(b"cookie", cookies.encode())]})
        session = await self._session(store, request)
        for number in range(1, self.job.increments + 1):
            await self._add(store, session, name, number)

    async def _session(self, store: StorageOverseer[Count], request: Connection) -> Session[Count]:
        while True:
            try:
                return await store.require(request)
            except StorerError:
                self.tally.unknown += 1

    async def _add(self, store: StorageOverseer[Count], session: Session[Count], name: str, number: int) -> None:
        is_open = False
        while True:
            try:
                await store.update(session, partial(self._change, name, number, is_open))
            except ConflictError:
                self.tally.conflicts += 1
            except StorerError:
                self.tally.unknown += 1
                is_open = True
            else:
                return

    def _change(self, name: str, number: int, is_open: bool, count: Count) -> None:
        self.tally.attempts += 1
        part = count.parts.get(name, 0)
        if is_open and part == number:
            return  # the call before was carried out, as is seen now
        assert part == number - 1, f"{name} has added {part} times, and was told of {number - 1}: {self.tally}"
        count.parts[name] = number
        count.total += 1


async def _run(job: Job) -> None:
    storer = storer_from_url(job.url)
    assert isinstance(storer, Openable)
    await storer.open()
    os.write(1, b"ready\n")
    await anyio.to_thread.run_sync(os.read, 0, len(b"go\n"))
    counting = Counting(job)
    await counting.run(storer)
    os.write(1, json.dumps(asdict(counting.tally)).encode() + b"\n")
    await storer.aclose()


def _fork(job: Job) -> int:
    child = os.fork()
    if child:
        return child

    status = 1
    try:
        anyio.run(_run, job)
        status = 0
    except BaseException:  # noqa: BLE001 -- whatever it was, this process ends here
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    gc.freeze()  # what was imported is not walked, and so not copied, in each child
    children = [_fork(Job(**job)) for job in json.loads(sys.argv[1])]
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    sys.exit(len(failed))
