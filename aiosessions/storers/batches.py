"""One trip for all who ask in the same tick of an event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

__all__ = ["Batches", "fresh"]

C = TypeVar("C")
A = TypeVar("A")


class Batches(Generic[C, A]):
    """Carries calls to a backend, several in one trip; whoever is alone goes at once, in its own task.

    Alone is who finds no trip under way and nobody waiting, after a departure with one passenger. All others wait for
    the end of the tick. First come, first carried.

    Where there is no asyncio (trio), everybody goes alone.

    Args:
        send: one trip: an answer for each call, in their order. An exception among the answers is raised for its
            caller; one that *send* raises, for all of that trip. Sees to its own time-out.
        most: how many calls one trip takes.
    """

    __slots__ = ("_lines", "_most", "_send")

    def __init__(self, send: Callable[[Sequence[C]], Awaitable[Sequence[A | Exception]]], *, most: int) -> None:
        self._send = send
        self._most = most
        self._lines: dict[asyncio.AbstractEventLoop, _Line[C, A]] = {}

    async def ask(self, call: C) -> A:
        """The answer to one call.

        Cancelled, it gives up its own answer and nobody else's; the trip ends when all who wait for it have gone.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            (answer,) = await self._send((call,))
        else:
            line = self._lines.get(loop) or self._line_of(loop)
            if line.is_empty:
                (answer,) = await self._alone(line, (call,))
            else:
                waiter = self._board(line, call, loop)
                try:
                    answer = await waiter
                except asyncio.CancelledError:
                    line.leave(waiter)
                    raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask_all(self, calls: Sequence[C]) -> Sequence[A]:
        """The answers to several calls, which share a trip; the first that is an exception is raised."""
        if not calls:
            return []
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            answers = await self._send(calls)
        else:
            line = self._lines.get(loop) or self._line_of(loop)
            is_alone = line.is_empty and len(calls) <= self._most
            answers = await (self._alone(line, calls) if is_alone else self._together(line, calls, loop))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return cast("Sequence[A]", answers)

    def _line_of(self, loop: asyncio.AbstractEventLoop) -> "_Line[C, A]":
        """A new one; those of loops that are closed are forgotten."""
        self._lines = {known: line for known, line in self._lines.items() if not known.is_closed()}
        return self._lines.setdefault(loop, _Line())

    async def _alone(self, line: "_Line[C, A]", calls: Sequence[C]) -> Sequence[A | Exception]:
        line.is_taken = True
        try:
            return await self._send(calls)
        finally:
            line.is_taken = False

    async def _together(
        self, line: "_Line[C, A]", calls: Sequence[C], loop: asyncio.AbstractEventLoop
    ) -> Sequence[A | Exception]:
        waiters = [self._board(line, call, loop) for call in calls]
        try:
            return [await waiter for waiter in waiters]
        except asyncio.CancelledError:
            line.leave(*waiters)
            raise

    def _board(self, line: "_Line[C, A]", call: C, loop: asyncio.AbstractEventLoop) -> "_Waiter[A]":
        """Travel with all who come in this tick."""
        if not line.waiting:
            loop.call_soon(self._depart, line, loop)
        waiter: _Waiter[A] = loop.create_future()
        line.waiting.append((call, waiter))
        return waiter

    def _depart(self, line: "_Line[C, A]", loop: asyncio.AbstractEventLoop) -> None:
        passengers = [(call, waiter) for call, waiter in line.waiting if not waiter.done()]
        line.waiting.clear()
        line.last = len(passengers) or line.last
        for start in range(0, len(passengers), self._most):
            part = passengers[start : start + self._most]
            trip = loop.create_task(self._travel(line, part))
            line.trips[trip] = [waiter for _, waiter in part]
            trip.add_done_callback(line.abandon)  # also one that ends before its first step

    async def _travel(self, line: "_Line[C, A]", passengers: "list[tuple[C, _Waiter[A]]]") -> None:
        calls = [call for call, _ in passengers]
        answers: list[A | Exception]
        try:
            answers = [answer for _, answer in zip(calls, await self._send(calls), strict=True)]
        except Exception as error:  # noqa: BLE001 (it is raised again, in each of their tasks)
            answers = [fresh(error) for _ in calls]
        line.arrive(asyncio.current_task())
        for (_, waiter), answer in zip(passengers, answers, strict=True):
            if not waiter.done():
                waiter.set_result(answer)  # an exception too: one that is never looked at is no news


_Waiter = asyncio.Future[A | Exception]


class _Line(Generic[C, A]):
    """Who waits and who travels, on one event loop.

    Attributes:
        waiting: who leaves when the tick ends.
        trips: the trips of several, and who waits for them.
        is_taken: one travels alone.
        last: how many left with the last departure.
    """

    __slots__ = ("is_taken", "last", "trips", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[C, _Waiter[A]]] = []
        self.trips: dict[asyncio.Task[None], list[_Waiter[A]]] = {}
        self.is_taken: bool = False
        self.last: int = 1

    @property
    def is_empty(self) -> bool:
        return self.last == 1 and not (self.is_taken or self.waiting or self.trips)

    def arrive(self, trip: asyncio.Task[None] | None) -> None:
        """Now, and not a tick later: whoever asks next may be alone."""
        if trip is not None:
            self.trips.pop(trip, None)

    def leave(self, *waiters: _Waiter[A]) -> None:
        """These do not wait any more; end the trips for which nobody does."""
        for waiter in waiters:
            waiter.cancel()
        for trip, waiting in self.trips.items():
            if not trip.cancelling() and all(waiter.cancelled() for waiter in waiting):
                trip.cancel()

    def abandon(self, trip: asyncio.Task[None]) -> None:
        """Nobody waits for an answer of a trip that brought none: its loop ends."""
        for waiter in self.trips.pop(trip, ()):
            waiter.cancel()


def fresh(error: Exception) -> Exception:
    """The same error for another task, so that their tracebacks do not grow into one."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__, copy.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
