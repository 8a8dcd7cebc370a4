"""Removes what has expired, now and then; and the count of who holds a storer open."""

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
from anyio.lowlevel import RunVar

from aiosessions._errors import ConfigError
from aiosessions._storer import Cleanable, Openable, Storer

__all__ = ["Cleaner", "hold", "is_held", "release"]

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
        self._host: _Host | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin; nothing happens if it has begun already."""
        while (host := self._running()) is not None:
            if not host.scope.cancel_called:
                return
            await host.finished.wait()

        host = self._host = _Host(_current_loop())
        host.task = _spawn(self._run(host))

    async def stop(self) -> None:
        """End, and wait until the round that may be running has been cancelled."""
        host = self._running()
        if host is None:
            return

        host.scope.cancel()
        await host.finished.wait()

    def _running(self) -> "_Host | None":
        host = self._host
        return host if host is not None and host.loop is _current_loop() else None  # one of a loop that ended is none

    async def _run(self, host: "_Host") -> None:
        try:
            with host.scope:
                failures = 0
                await anyio.sleep(self._first_pause())
                while True:
                    failures = 0 if await self._round() else failures + 1
                    await anyio.sleep(self._pause(failures))
        finally:
            if self._host is host:
                self._host = None
            host.finished.set()

    async def _round(self) -> bool:
        try:
            removed = await self._storer.clean()
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
    """The task that a cleaner runs in: whose loop it is, how to end it, whether it has ended."""

    loop: object
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    finished: anyio.Event = field(default_factory=anyio.Event)
    task: object = None  # asyncio itself keeps no reference to its tasks


# Who holds a storer open


@dataclass(eq=False)
class _Holding:
    """One storer that is open in this event loop, and for how many."""

    storer: Storer
    holders: int = 0
    cleaner: Cleaner | None = None
    settled: anyio.Event = field(default_factory=anyio.Event)  # set once it is open, failed to open, or is closed
    error: BaseException | None = None


_holdings: RunVar[dict[int, _Holding]] = RunVar("aiosessions.holdings")  # by id: storers need not be hashable


async def hold(storer: Storer, *, clean_every: timedelta | None) -> None:
    """Count one more holder of *storer* in this event loop; the first one opens it.

    The first that gives *clean_every* starts its one cleaner, if there is something to clean.

    Raises:
        SessionError: what the storer's `open` raised, to all that waited for it; nothing is held then.
    """
    holdings = _current_holdings()
    while (holding := holdings.get(id(storer))) is not None and not holding.holders:
        await holding.settled.wait()
        if holding.error is not None:
            raise holding.error

    if holding is None:
        holding = await _open(holdings, storer)
    else:
        holding.holders += 1
    if holding.cleaner is None and clean_every is not None and isinstance(storer, Cleanable):
        holding.cleaner = Cleaner(storer, every=clean_every)
        await holding.cleaner.start()


async def release(storer: Storer) -> None:
    """Count one holder less; the last one stops the cleaner, waits for it, and closes the storer."""
    holdings = _current_holdings()
    holding = holdings.get(id(storer))
    if holding is None or not holding.holders:
        return

    holding.holders -= 1
    if holding.holders:
        return

    holding.settled = anyio.Event()
    try:
        with anyio.CancelScope(shield=True):  # half closed is neither open nor closed
            if holding.cleaner is not None:
                await holding.cleaner.stop()
            if isinstance(storer, Openable):
                await storer.aclose()
    finally:
        del holdings[id(storer)]
        holding.settled.set()


def is_held(storer: Storer) -> bool:
    """Whether somebody holds *storer* open in this event loop."""
    holding = _current_holdings().get(id(storer))
    return holding is not None and holding.holders > 0


async def _open(holdings: dict[int, _Holding], storer: Storer) -> _Holding:
    holding = holdings[id(storer)] = _Holding(storer)
    try:
        if isinstance(storer, Openable):
            await storer.open()
        holding.holders = 1
    except Exception as error:
        holding.error = error
        raise
    finally:
        if not holding.holders:  # failed, or cancelled: then the next who waits tries it
            del holdings[id(storer)]
        holding.settled.set()
    return holding


def _current_holdings() -> dict[int, _Holding]:
    holdings = _holdings.get(None)
    if holdings is None:
        holdings = dict[int, _Holding]()
        _holdings.set(holdings)
    return holdings


# Which event loop this is


def _in_trio() -> bool:
    if "trio" not in sys.modules:
        return False

    import trio  # noqa: PLC0415 - only where it runs already: asyncio's users need not have it

    return trio.lowlevel.in_trio_task()


def _current_loop() -> object:
    if not _in_trio():
        return asyncio.get_running_loop()

    import trio  # noqa: PLC0415 - see above

    return trio.lowlevel.current_trio_token()


def _spawn(run: Coroutine[object, object, None]) -> object:
    """Run it in a task of its own, with an empty context: a request that happens to start it must not live on."""
    if not _in_trio():
        return asyncio.get_running_loop().create_task(run, name="aiosessions cleaner", context=contextvars.Context())

    import trio  # noqa: PLC0415 - see above

    return trio.lowlevel.spawn_system_task(lambda: run, name="aiosessions cleaner")
