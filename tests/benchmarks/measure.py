"""How long a visit takes: the best of several rounds, in which all subjects take turns, so that a busy moment of the
machine hits them alike.

What waits for nobody is measured in processor time, which other programs on the machine do not stretch.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import TypeVar

__all__ = ["ACTIONS", "FULL", "QUICK", "Costs", "Effort", "Subject", "Visit", "added", "fastest"]

ACTIONS = ("untouched", "read", "write")

Visit = Callable[[int], Awaitable[object]]
"""One request of the client with this number."""

Costs = dict[str, float]
"""Microseconds added to a request, by action."""

N = TypeVar("N")


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        rounds: the best of so many counts.
        share: how much of the visits that a round has in full.
        sessions: so many at once, in this process's memory.
    """

    rounds: int
    share: float
    sessions: Sequence[int]

    def of(self, visits: int) -> int:
        """This effort's share of *visits*."""
        return round(visits * self.share)


FULL = Effort(rounds=7, share=1, sessions=(1_000, 100_000, 1_000_000))
QUICK = Effort(rounds=3, share=0.25, sessions=(1_000, 100_000))


@dataclass(frozen=True)
class Subject:
    """Something to measure.

    Args:
        name: as it stands in the table.
        bare: a visit to the same application without sessions.
        visits: by action.
        cookie: what a client of it sends, as `name=value`; "" if it sends none.
    """

    name: str
    bare: Visit
    visits: Mapping[str, Visit]
    cookie: str = ""


async def added(
    subjects: Sequence[Subject], effort: Effort, *, in_flight: int = 1, visits: int, waits: bool
) -> dict[str, Costs]:
    """What each action of each subject adds to a request of its bare application, in microseconds.

    Args:
        subjects: who takes turns.
        effort: how long.
        in_flight: how many requests are under way at any time, each of a client of its own.
        visits: in one round of one action.
        waits: for a backend, so that the time on the clock counts.
    """
    turns = {
        (subject.name, action): visit
        for subject in subjects
        for action, visit in (("", subject.bare), *subject.visits.items())
    }
    best = await fastest(turns, effort, in_flight=in_flight, visits=visits, waits=waits)
    return {
        subject.name: {action: best[subject.name, action] - best[subject.name, ""] for action in subject.visits}
        for subject in subjects
    }


async def fastest(
    turns: Mapping[N, Visit], effort: Effort, *, in_flight: int, visits: int, waits: bool
) -> dict[N, float]:
    """The microseconds of one visit of each, where they take turns."""
    best: dict[N, float] = {}
    for _ in range(effort.rounds):
        for name, visit in turns.items():
            took = await _seconds_each(visit, in_flight=in_flight, visits=effort.of(visits), waits=waits)
            best[name] = min(took * 1e6, best.get(name, float("inf")))
    return best


async def _seconds_each(visit: Visit, *, in_flight: int, visits: int, waits: bool) -> float:
    """The seconds of one visit, on average over *visits* of them. The collector runs as it does in an application."""
    each = max(1, visits // in_flight)

    async def client(number: int) -> None:
        for _ in range(each):
            await visit(number)

    clock = perf_counter if waits else thread_time
    gc.collect()
    start = clock()
    if in_flight == 1:
        await client(0)
    else:
        await asyncio.gather(*map(client, range(in_flight)))
    return (clock() - start) / (each * in_flight)
