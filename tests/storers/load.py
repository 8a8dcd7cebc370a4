"""A load on a storer that knows what it was told: what was confirmed must stay, whatever happens to the server."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field

import anyio

from aiosessions._errors import StorerError
from aiosessions._tokens import new_version
from aiosessions.storers.storer import Record, Storer

__all__ = ["Load"]


@dataclass
class Load:
    """Workers that create, replace, log in, touch and delete sessions of their own until they are told to stop.

    Attributes:
        storer: what they use.
        workers: how many there are.
        possible: for each key the versions it may have now, None for absent: one after a confirmed write, more after
            one of unknown outcome.
        wrong: what was read and was not possible.
        done: operations that succeeded, by worker.
        failed: operations that got a StorerError.
    """

    storer: Storer
    workers: int = 6
    possible: dict[str, set[int | None]] = field(default_factory=dict[str, set[int | None]])
    wrong: list[str] = field(default_factory=list[str])
    done: list[int] = field(default_factory=list[int])
    failed: list[StorerError] = field(default_factory=list[StorerError])
    stop: anyio.Event = field(default_factory=anyio.Event)

    async def run(self) -> None:
        """Until `stop` is set; any error but StorerError ends it."""
        self.done = [0] * self.workers
        async with anyio.create_task_group() as group:
            for worker in range(self.workers):
                group.start_soon(self._work, worker)

    async def reach(self, more: int) -> None:
        """Wait until each worker has done so much more."""
        goals = [done + more for done in self.done] or [more] * self.workers
        while not self.done or any(done < goal for done, goal in zip(self.done, goals, strict=True)):  # noqa: ASYNC110  # as many events as writes
            await anyio.sleep(0.005)

    async def check(self, storer: Storer) -> None:
        """Fail unless *storer* has every key in a state that was confirmed, or could not be."""
        for key in self.possible:
            await self._look(storer, key)
        assert not self.wrong, f"{len(self.wrong)} confirmed writes were undone: {self.wrong[:3]}"

    async def _work(self, worker: int) -> None:
        session = 0
        while not self.stop.is_set():
            key = f"load{worker}.{session}"
            session += 1
            self.possible[key] = {None}
            record = _record(None)
            await self._write(worker, key, record.version, self.storer.create(key, record))
            for turn in range(6):
                found = await self._read(worker, key)
                if found is None or self.stop.is_set():
                    break
                record = _record(f"user{worker}" if turn > 1 else None)
                await self._write(worker, key, record.version, self.storer.replace(key, record, version=found.version))
            if session % 2:
                await self._write(worker, key, None, self.storer.delete(key))

    async def _write(self, worker: int, key: str, version: int | None, write: Awaitable[bool]) -> None:
        try:
            won = await write
        except StorerError as error:
            self.failed.append(error)
            self.possible[key].add(version)
            return
        if won or version is None:
            self.possible[key] = {version}
        self.done[worker] += 1

    async def _read(self, worker: int, key: str) -> Record | None:
        while not self.stop.is_set():
            try:
                record = await self._look(self.storer, key)
            except StorerError as error:
                self.failed.append(error)
            else:
                self.done[worker] += 1
                return record
        return None

    async def _look(self, storer: Storer, key: str) -> Record | None:
        record = await storer.read(key)
        version = None if record is None else record.version
        if version not in self.possible[key]:
            self.wrong.append(f"{key} is at {version}, not at {self.possible[key]}")
        return record


def _record(owner: str | None) -> Record:
    now = time.time()
    return Record(b'{"n":1}' * 20, b"", owner, now, now, now + 3600, new_version())
