"""Removes what has expired, now and then."""

import asyncio
import contextvars
import logging
import random
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

import anyio
from anyio.lowlevel import RunVar, RunvarToken

from aiosessions._errors import ConfigError
from aiosessions.storers.storer import Cleanable

__all__ = ["Cleaner"]

_log = logging.getLogger("aiosessions")

_LONGEST_BACK_OFF = 3600.0  # seconds


class Cleaner:
    """Calls `storer.clean()` again and again, in a task of its own.

    The task belongs to no request, nursery or fixture, so that `start` and `stop` may come from different tasks. Both
    may be called twice, and a stopped cleaner may be started again. A round that fails is logged, the pause after it
    doubles with each failure, up to an hour (or *every*, if that is longer), and the next one runs.

    Args:
        storer: what has something to clean.
        every: the pause between two rounds; the first one runs within *jitter* of it.
        jitter: how much a pause may be longer, by chance, as a share of it: keeps replicas apart.

    Raises:
        ConfigError: *every* is not positive, *jitter* is not between 0 and 1, or the storer has no `clean`.
    """

    def __init__(self, storer: Cleanable, *, every: timedelta = timedelta(hours=1), jitter: float = 0.1) -> None:
        _check(storer, every)
        if not 0 <= jitter <= 1:
            raise ConfigError(f"jitter={jitter!r}: give a share of the pause, between 0 and 1")

        self._storer = storer
        self._every = every.total_seconds()
        self._jitter = jitter
        # of this event loop: one of a loop that ended is none
        self._host: RunVar[_Host | None] = RunVar("aiosessions.cleaner", None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin; nothing happens if it has begun already."""
        while (host := self._host.get()) is not None and not host.finished.is_set():
            if not host.scope.cancel_called:
                return
            await host.finished.wait()

        host = _Host()
        token = self._host.set(host)
        host.task = _spawn(self._run(host, token), host.finished)

    async def stop(self) -> None:
        """End, and wait until the round that may be running has been cancelled."""
        host = self._host.get()
        if host is None:
            return

        host.scope.cancel()
        await host.finished.wait()

    async def _run(self, host: "_Host", token: "RunvarToken[_Host | None]") -> None:
        try:
            with host.scope:
                failures = 0
                await anyio.sleep(self._first_pause())
                while True:
                    failures = 0 if await self._round() else failures + 1
                    await anyio.sleep(self._pause(failures))
        finally:
            self._host.reset(token)
            host.finished.set()

    async def _round(self) -> bool:
        try:
            removed = await self._storer.clean()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # Somebody cancelled what the storer was waiting for, and not us.
            _log.exception("cleaning %s was cancelled; it will be tried again", type(self._storer).__name__)
            return False
        except Exception:  # noqa: BLE001 - whatever a storer raises, one failed round must not end all later ones
            _log.exception("cleaning %s failed; it will be tried again", type(self._storer).__name__)
            return False

        _log.debug("cleaning %s removed %d", type(self._storer).__name__, removed)
        return True

    def _first_pause(self) -> float:
        return self._every * self._jitter * random.random()  # noqa: S311 - keeps replicas apart, guards nothing

    def _pause(self, failures: int) -> float:
        longest = max(self._every, _LONGEST_BACK_OFF)
        pause = min(self._every * 2.0 ** min(failures, 32), longest)
        return pause * (1 + self._jitter * random.random())  # noqa: S311 - keeps replicas apart, guards nothing


def _check(storer: object, every: object) -> None:
    if not isinstance(storer, Cleanable):
        raise ConfigError(f"storer: {type(storer).__name__} has no clean(): its backend removes what expires")
    if not isinstance(every, timedelta) or every <= timedelta(0):
        raise ConfigError(f"every={every!r}: give a positive timedelta")


@dataclass(eq=False)
class _Host:
    """The task that a cleaner runs in: how to end it, whether it has ended."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    finished: anyio.Event = field(default_factory=anyio.Event)
    task: object = None  # asyncio itself keeps no reference to its tasks


def _spawn(run: Coroutine[object, object, None], finished: anyio.Event) -> object:
    """Run it in a task of its own, with an empty context: a request that happens to start it must not live on."""
    if "trio" in sys.modules:
        import trio  # noqa: PLC0415 - only where it runs already: asyncio's users need not have it

        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.spawn_system_task(lambda: run, name="aiosessions cleaner")

    task = asyncio.get_running_loop().create_task(run, name="aiosessions cleaner", context=contextvars.Context())
    task.add_done_callback(lambda _: finished.set())  # one that is cancelled before its first step runs no `finally`
    return task


def _is_cancelled() -> bool:
    """Whether somebody asked this task of asyncio's to end."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
