"""The count of who holds a storer open: the first opens it and starts its cleaner, the last closes it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
from anyio.lowlevel import RunVar

from aiosessions._given import check_part
from aiosessions.storers.cleaner import Cleaner
from aiosessions.storers.over import innermost
from aiosessions.storers.storer import Cleanable, Openable, Storer

__all__ = ["Holder", "check_storer", "hold", "is_held", "release"]

_log = logging.getLogger("aiosessions")


@dataclass(eq=False)
class _Holding:
    """One storer that is open in this event loop, and for how many."""

    storer: Storer
    holders: int = 0
    cleaner: Cleaner | None = None
    settled: anyio.Event = field(default_factory=anyio.Event)  # set once it is open, failed to open, or is closed
    error: BaseException | None = None


_holdings: RunVar[dict[int, _Holding]] = RunVar("aiosessions.holdings")  # by id: storers need not be hashable


def check_storer(option: str, storer: object) -> None:
    """Raise ConfigError for what is no storer."""
    methods = ("read", "create", "replace", "touch", "delete")
    check_part(option, storer, methods, "give a storer, as storer_from_url(...) makes one")


async def hold(storer: Storer, *, clean_every: timedelta | None) -> None:
    """Count one more holder of *storer* in this event loop; the first one opens it.

    The first that gives *clean_every* starts its one cleaner, if there is something to clean.

    Raises:
        SessionError: what the storer's `open` raised, to all that waited for it; nothing is held then.
    """
    storer = innermost(storer)
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
    storer = innermost(storer)
    if not is_held(storer):
        return

    holdings = _current_holdings()
    holding = holdings[id(storer)]
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
    holding = _current_holdings().get(id(innermost(storer)))
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


class Holder:
    """One holder of a storer, or of none.

    Args:
        storer: None: there is nothing to open.
        clean_every: how often it is cleaned; None: never.
        who: holds it, for the log.

    Attributes:
        is_open: whether it may be used.
        check: called once it is open; raises what can only be known then.
    """

    __slots__ = ("_clean_every", "_storer", "_who", "check", "is_open")

    def __init__(self, storer: Storer | None, clean_every: timedelta | None, who: str) -> None:
        self._storer = storer
        self._clean_every = clean_every
        self._who = who
        self.is_open: bool = storer is None
        self.check: Callable[[], object] = bool

    async def open(self) -> None:
        """Hold it."""
        if self._storer is not None:
            await hold(self._storer, clean_every=self._clean_every)
            try:
                self.check()
            except BaseException:
                await release(self._storer)
                raise
        self.is_open = True

    async def close(self) -> None:
        """Hold it no more."""
        if self._storer is not None:
            self.is_open = False
            await release(self._storer)

    async def ready(self) -> None:
        """Open what nobody has opened, and say so once; the storer is not held, and so not swept."""
        if self.is_open:
            return

        if self._storer is not None and not is_held(self._storer):
            if isinstance(self._storer, Openable):
                await self._storer.open()
            _log.warning(
                "%s was not opened, so expired sessions are not swept: give it to SessionMiddleware(stores=[...]) or "
                "use `async with store`; of an application that is mounted in another nobody runs the lifespan: give "
                "its stores to the outer one",
                self._who,
            )
        self.check()
        self.is_open = True
