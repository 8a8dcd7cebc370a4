"""Many writers of one session: everything that was confirmed is there, once."""

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from tempfile import TemporaryFile

import anyio
import anyio.abc
import pytest

from aiosessions import StorageOverseer
from aiosessions.testing.suites_store import Visitor
from tests.drills.backends import SHARED, Backend, LossyProxy, opened
from tests.drills.counting import Count, Job, Tally

pytestmark = pytest.mark.anyio


async def count_in_processes(backend: Backend, *, share: float = 0.0, **size: int) -> list[Tally]:
    """Let processes count up in one session, lose a *share* of the answers, and check what they have come to."""
    jobs: list[Job] = []
    visitor = Visitor()
    async with AsyncExitStack() as stack:
        storer = await stack.enter_async_context(opened(backend.url))
        store = await stack.enter_async_context(StorageOverseer(Count, storer, clean_every=None))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.value.parts["first"] = 0
            await store.save(session, visit.response)

        proxy = await stack.enter_async_context(LossyProxy(backend)) if share else None
        url = backend.make_url(proxy.port) if proxy else backend.url
        jobs = [Job(url, visitor.cookies, n, size["tasks"], size["increments"]) for n in range(size["processes"])]
        async with running(jobs) as processes:
            if proxy:
                proxy.share = share
            for _ in jobs:
                await tell(processes, b"go\n")
            tallies = [Tally(**json.loads(await hear(processes))) for _ in jobs]
        assert not proxy or proxy.dropped, "no answer was lost"

        async with visitor.visit() as visit:
            value = (await store.require(visit.request)).value
        assert value.total == size["processes"] * size["tasks"] * size["increments"]
        assert sum(value.parts.values()) == value.total
    return tallies


@asynccontextmanager
async def running(jobs: list[Job]) -> AsyncGenerator[anyio.abc.Process]:
    """Processes for the jobs, all of them ready; they have ended well when the block ends well."""
    command = [sys.executable, "-m", "tests.drills.counting", json.dumps([asdict(job) for job in jobs])]
    with TemporaryFile() as said:
        async with await anyio.open_process(command, stderr=said) as processes:
            try:
                for _ in jobs:
                    assert await hear(processes) == b"ready"
                yield processes
                assert await processes.wait() == 0
            except (AssertionError, anyio.EndOfStream):
                processes.kill()
                said.seek(0)
                pytest.fail(f"a process failed: {said.read().decode()}", pytrace=False)


async def hear(processes: anyio.abc.Process) -> bytes:
    """A line."""
    assert processes.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await processes.stdout.receive(1)
    return line.strip()


async def tell(processes: anyio.abc.Process, line: bytes) -> None:
    assert processes.stdin is not None
    await processes.stdin.send(line)


def size(full: bool) -> dict[str, int]:
    return {"processes": 4, "tasks": 25, "increments": 500} if full else {"processes": 4, "tasks": 4, "increments": 10}


def told(tallies: list[Tally]) -> str:
    """For those who run it at full size with `-s`."""
    seconds = max(tally.seconds for tally in tallies)
    counts = [sum(getattr(tally, name) for tally in tallies) for name in ("attempts", "conflicts", "unknown")]
    return "{:.1f} s, {} attempts, {} times given up, {} times left open".format(seconds, *counts)


@pytest.mark.parametrize("backend", SHARED, indirect=True)
async def test_four_processes_count_to_an_exact_sum(backend: Backend, full: bool) -> None:
    """F3: through `update`."""
    tallies = await count_in_processes(backend, **size(full))
    print(f"{backend.name}: {told(tallies)}")  # noqa: T201


@pytest.mark.parametrize("backend", SHARED[2:], indirect=True)
async def test_the_sum_is_exact_while_answers_get_lost(backend: Backend, full: bool) -> None:
    """F3, S6: a write whose answer was lost is made once, also when others write before it is sent again."""
    tallies = await count_in_processes(backend, share=0.001 if full else 0.03, **size(full))
    print(f"{backend.name}, answers lost: {told(tallies)}")  # noqa: T201


@pytest.mark.parametrize("backend", ["disk"], indirect=True)
async def test_eight_processes_count_to_an_exact_sum_on_disk(backend: Backend) -> None:
    """S5, F3: two worker processes on one folder are safe, and so are eight."""
    await count_in_processes(backend, processes=8, tasks=1, increments=20)
