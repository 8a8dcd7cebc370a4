"""How long a visit takes: the best of several rounds, in which all subjects take turns, so that a busy moment of the
machine hits them alike.

What waits for nobody is measured in processor time, which other programs on the machine do not stretch.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time

__all__ = ["ACTIONS", "Costs", "Subject", "Visit", "added", "seconds_each"]

ACTIONS = ("untouched", "read", "write")

Visit = Callable[[int], Awaitable[object]]
"""One request of the client with this number."""

Costs = dict[str, float]
"""Microseconds added to a request, by action."""


@dataclass(frozen=True)
class Subject:
    """Something to measure.

    Args:
        name: as it stands in the table.
        bare: a visit to the same application without sessions.
        visits: by action.
    """

    name: str
    bare: Visit
    visits: Mapping[str, Visit]


async def added(
    subjects: Sequence[Subject], *, in_flight: int = 1, visits: int, rounds: int, waits: bool
) -> dict[str, Costs]:
    """What each action of each subject adds to a request of its bare application, in microseconds.

    Args:
        subjects: who takes turns.
        in_flight: how many requests are under way at any time, each of a client of its own.
        visits: in one round of one action.
        rounds: the best of them counts.
        waits: for a backend, so that the time on the clock counts.
    """
    best: dict[Visit, float] = {}
    for _ in range(rounds):
        for subject in subjects:
            for visit in (subject.bare, *subject.visits.values()):
                took = await seconds_each(visit, in_flight=in_flight, visits=visits, waits=waits)
                best[visit] = min(took, best.get(visit, took))
    return {
        subject.name: {action: (best[visit] - best[subject.bare]) * 1e6 for action, visit in subject.visits.items()}
        for subject in subjects
    }


async def seconds_each(visit: Visit, *, in_flight: int, visits: int, waits: bool = True) -> float:
    """The seconds of one visit, on average over *visits* of them. The collector runs as it does in an application."""

    async def client(number: int) -> None:
        for _ in range(visits // in_flight):
            await visit(number)

    clock = perf_counter if waits else thread_time
    gc.collect()
    start = clock()
    if in_flight == 1:
        await client(0)
    else:
        await asyncio.gather(*map(client, range(in_flight)))
    return (clock() - start) / (visits // in_flight * in_flight)
