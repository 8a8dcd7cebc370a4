"""A task that belongs to no task group: a fixture may start it in one task and end it in another."""

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["HostTask"]


class HostTask:
    """Runs a coroutine function at once; who started it waits for it with `finish`.

    Args:
        run: what to run.
        name: for debuggers.

    Attributes:
        error: what it raised.
    """

    def __init__(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        self.error: Exception | None = None
        self._run = run
        self._scope = anyio.CancelScope()
        self._finished = anyio.Event()
        self._task = self._spawn(name)  # asyncio itself keeps no reference to its tasks

    async def finish(self, *, within: float) -> None:
        """Wait until it has ended; what takes longer than so many seconds is cancelled."""
        with anyio.move_on_after(within):
            await self._finished.wait()
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._finished.wait()

    async def _main(self) -> None:
        try:
            with self._scope:
                await self._run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who waits, not to the event loop
            self.error = error
        finally:
            self._finished.set()

    def _spawn(self, name: str) -> object:
        context = contextvars.copy_context()
        if "trio" in sys.modules:
            import trio  # noqa: PLC0415 - only where it runs already: asyncio's users need not have it

            if trio.lowlevel.in_trio_task():
                return trio.lowlevel.spawn_system_task(self._main, name=name, context=context)

        return asyncio.get_running_loop().create_task(self._main(), name=name, context=context)
