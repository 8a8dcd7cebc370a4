"""Threads of a DiskStorer's own: neither the application's work nor the storer's waits for the other's."""

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, Protocol, TypeVar

import anyio

__all__ = ["Threads"]

_T = TypeVar("_T")

_IDLE = 10.0  # seconds without work, after which a thread ends


class Threads:
    """Carries out what blocks, on asyncio and trio, for any number of event loops.

    A thread is started when there is work for it, and ends by `end`, or when it has had none for some seconds. None
    keeps a process alive. A process that was forked has threads of its own.

    Args:
        most: how many there may be.
        name: what each is called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._crew = _Crew(most, name)

    async def run(self, work: Callable[[], _T], timeout: float) -> _T:
        """What *work* gives; cancelled, or out of time, it is carried out or not: its thread ends on its own.

        Raises:
            TimeoutError: it took longer than *timeout* seconds.
            OSError: no thread can be started.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return await self._run_on_trio(work, timeout)

        answer: asyncio.Future[_T] = loop.create_future()
        self._put((work, loop.call_soon_threadsafe, answer))
        timer = loop.call_later(timeout, _give_up, answer)  # a third of what asyncio.timeout costs
        try:
            return await answer
        finally:
            timer.cancel()

    def end(self) -> None:
        """Let them end, once they have done what was asked for before."""
        self._crew, crew = _Crew(self._most, self._name), self._crew
        crew.dismiss()

    async def _run_on_trio(self, work: Callable[[], _T], timeout: float) -> _T:
        import trio  # noqa: PLC0415 - only where it runs already: asyncio's users need not have it

        answer = _Answer[_T]()
        self._put((work, trio.lowlevel.current_trio_token().run_sync_soon, answer))
        with anyio.fail_after(timeout):
            return await answer.wait()

    def _put(self, job: "_Job") -> None:
        if self._crew.process != os.getpid():
            self._crew = _Crew(self._most, self._name)
        self._crew.put(job)


class _Future(Protocol):
    """Where an answer goes, in the thread of whoever asked."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...  # Any: each job's own type

    def set_exception(self, error: Exception, /) -> None: ...


class _Answer(Generic[_T]):
    """What a future is to asyncio, for trio."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._error: Exception | None = None
        self._result: list[_T] = []
        self._is_wanted = True

    def done(self) -> bool:
        return not self._is_wanted

    def set_result(self, result: _T) -> None:
        self._result.append(result)
        self._event.set()

    def set_exception(self, error: Exception) -> None:
        self._error = error
        self._event.set()

    async def wait(self) -> _T:
        try:
            await self._event.wait()
        finally:
            self._is_wanted = False
        if self._error is not None:
            raise self._error
        return self._result.pop()


_Job = tuple[Callable[[], object], Callable[..., object], _Future]
"""The work, how to call something in the thread that asked, and where the answer goes."""


class _Crew:
    """What the threads of one process know."""

    def __init__(self, most: int, name: str) -> None:
        self.process = os.getpid()
        self._most = most
        self._name = name
        self._jobs = SimpleQueue[_Job | None]()
        self._lock = Lock()
        self._threads = 0
        self._open_jobs = 0

    def put(self, job: _Job) -> None:
        with self._lock:
            if self._open_jobs >= self._threads < self._most:
                self._start()
            self._open_jobs += 1
            self._jobs.put(job)

    def dismiss(self) -> None:
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _start(self) -> None:
        try:
            Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError as error:
            if not self._threads:
                raise OSError(errno.EAGAIN, "no thread can be started") from error
        else:
            self._threads += 1

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        return
            else:
                if job is None:
                    return
                self._carry_out(*job)
                del job  # what it was about need not wait for the next one

    def _carry_out(self, work: Callable[[], object], call_there: Callable[..., object], answer: _Future) -> None:
        result, failure = None, None
        try:
            if not answer.done():
                result = work()
        except Exception as error:  # noqa: BLE001 (it is raised again where it was asked for)
            failure = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # not into this frame
        with self._lock:
            self._open_jobs -= 1
        with suppress(RuntimeError):  # its event loop has ended
            call_there(_settle, answer, result, failure)
        del failure


def _settle(answer: _Future, result: object, failure: Exception | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)


def _give_up(answer: "asyncio.Future[_T]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
