"""A thread with an SQLite connection of its own, for tasks on any event loop.

SQLite blocks, and a connection does one thing at a time. What waits while a thread is at work is then done in one go.
"""

import asyncio
import random
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import anyio

from aiosessions.storers.batches import fresh

if sys.platform != "win32":
    from os import register_at_fork

__all__ = ["Ending", "Worker"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_MOST = 128  # pieces of work in one go
_LONGEST_PAUSE = 0.01  # seconds, between two attempts while another process holds the file's lock


class Worker:
    """Does what it is given, in that order, in a thread which lives from the first work to `stop`.

    The thread keeps no process alive. After a fork the child has none, and makes its own with its next work.

    Args:
        name: the thread's.
        connect: makes a connection.
        carry_out: does several works with it, all or none of them; an answer for each.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        carry_out: Callable[[sqlite3.Connection, Sequence[Work[Any]]], Sequence[Any]],  # Any: whatever a work answers
    ) -> None:
        self._name = name
        self._connect = connect
        self._carry_out = carry_out
        self._turn = threading.Lock()  # two event loops may share a storer
        self._hand: _Hand | None = None
        self._kept: _Hand | None = None  # while the process forks
        _workers.add(self)

    def __del__(self) -> None:
        if self._hand is not None:
            self._hand.jobs.put(None)

    async def do(self, work: Work[T], *, timeout: float) -> T:
        """The answer to *work*. Cancelled, or after *timeout* seconds, it is done or not, and never by half.

        Raises:
            TimeoutError: there was no answer.
            sqlite3.Error: what came instead; a lock that another process held all the time is one.
        """
        job = _Job(work)
        self._hand_over(job)
        return await job.answer(timeout)

    def stop(self) -> "Ending":
        """End the thread once it has done what it was given."""
        ending = Ending()
        with self._turn:
            hand, self._hand = self._hand, None
        if hand is None:
            ending.come()
        else:
            hand.ending = ending
            hand.jobs.put(None)
        return ending

    def _hand_over(self, job: "_Job[Any]") -> None:
        with self._turn:
            if self._hand is None:
                self._hand = _Hand(self._connect, self._carry_out)
                # as a daemon: a file that hangs must not keep the process from ending
                threading.Thread(target=self._hand.serve, name=self._name, daemon=True).start()
            self._hand.jobs.put(job)

    # A fork finds the thread between two works, and leaves the child none

    def hold(self) -> None:
        """Wait until the thread is between two works, and keep it there."""
        hand = self._kept = self._hand
        if hand is not None:
            hand.gate.acquire()

    def go_on(self) -> None:
        """In the parent."""
        hand, self._kept = self._kept, None
        if hand is not None:
            hand.gate.release()

    def begin_anew(self) -> None:
        """In the child: the thread is not there, and SQLite does not let a connection go through a fork.

        Closed here, it is forgotten; SQLite would take the parent's locks for ours as long as it is open.
        """
        hand, self._kept = self._kept, None
        self._turn = threading.Lock()
        self._hand = None
        if hand is not None:
            hand.close()


class _Hand:
    """One thread: what it is to do, and its connection. It knows no Worker, so that one which is dropped ends it."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        carry_out: Callable[[sqlite3.Connection, Sequence[Work[Any]]], Sequence[Any]],  # Any: as in Worker
    ) -> None:
        self._connect = connect
        self._carry_out = carry_out
        self._connection: sqlite3.Connection | None = None
        self.jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self.gate = threading.Lock()  # held while it is at work
        self.ending: Ending | None = None
        self._is_over = False

    def serve(self) -> None:
        """The thread."""
        while not self._is_over:
            self._finish(self._next())  # kept in no variable: it would keep whoever dropped the storer
        with self.gate:
            self.close()
        if self.ending is not None:
            self.ending.come()

    def close(self) -> None:
        """The connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _next(self) -> "list[_Job[Any]]":
        """Wait for something to do; all that waits then."""
        jobs: list[_Job[Any]] = []
        job = self.jobs.get()
        with suppress(Empty):
            while job is not None and len(jobs) < _MOST - 1:
                jobs.append(job)
                job = self.jobs.get_nowait()
            self._is_over = job is None
            jobs += [job] if job is not None else []
        return jobs

    def _finish(self, jobs: "list[_Job[Any]]") -> None:
        pause = 0.000_2
        while jobs := [job for job in jobs if not job.is_given_up]:
            try:
                answers = self._attempt([job.work for job in jobs])
            except Exception as error:  # noqa: BLE001 (it is raised again, in the task of each)
                if not _is_busy(error):
                    answers = [fresh(error) for _ in jobs]
                else:
                    for job in jobs:
                        job.refusal = error
                    time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - keeps processes apart, guards nothing
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
            for job, answer in zip(jobs, answers, strict=True):
                job.finish(answer)
            return

    def _attempt(self, works: list[Work[Any]]) -> Sequence[Any]:
        with self.gate:
            if self._connection is None:
                self._connection = self._connect()
            return self._carry_out(self._connection, works)


class Ending:
    """What a task waits for, and a thread makes come."""

    def __init__(self) -> None:
        self._come = anyio.Event()
        self._wake = _waker()

    async def wait(self, timeout: float) -> bool:
        """Whether it came within *timeout* seconds."""
        with anyio.move_on_after(timeout):
            await self._come.wait()
        return self._come.is_set()

    def come(self) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            self._wake(self._come.set)


class _Job(Ending, Generic[T]):
    """One piece of work, and who waits for it.

    Attributes:
        is_given_up: nobody waits any more.
        refusal: why it could not be done yet.
    """

    def __init__(self, work: Work[T]) -> None:
        super().__init__()
        self.work = work
        self.is_given_up: bool = False
        self.refusal: Exception | None = None
        self._answers: list[T | Exception] = []

    async def answer(self, timeout: float) -> T:
        try:
            if not await self.wait(timeout):
                raise self.refusal or TimeoutError("it took too long")
        finally:
            self.is_given_up = True
        (answer,) = self._answers
        if isinstance(answer, Exception):
            raise answer
        return answer

    def finish(self, answer: T | Exception) -> None:
        """In the thread."""
        self._answers.append(answer)
        self.come()


def _waker() -> Callable[[Callable[[], object]], object]:
    """What runs a function in the event loop of this task, called from another thread."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio  # noqa: PLC0415 - only where it runs already: asyncio's users need not have it

        return trio.lowlevel.current_trio_token().run_sync_soon


def _is_busy(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


_workers: "weakref.WeakSet[Worker]" = weakref.WeakSet()
_held: list[Worker] = []


def _before_fork() -> None:
    _held[:] = _workers
    for worker in _held:
        worker.hold()


def _after_fork_in_parent() -> None:
    for worker in _held:
        worker.go_on()
    _held.clear()


def _after_fork_in_child() -> None:
    for worker in _held:
        worker.begin_anew()
    _held.clear()


if sys.platform != "win32":
    register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
