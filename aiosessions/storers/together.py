"""Several keys in one tick of the event loop: a storer that lets calls share a trip takes few of them."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

import anyio

from aiosessions.storers.storer import ReadsTogether, Record, Storer

__all__ = ["PAGE", "ReadTogether", "all_at_once", "reader"]

A = TypeVar("A")
ReadTogether: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[Record | None]]]
PAGE = 100
"""How many keys are taken together where there are many."""


def reader(storer: Storer) -> ReadTogether:
    """What reads several keys of *storer*: see `ReadsTogether`."""
    return storer.read_together if isinstance(storer, ReadsTogether) else partial(all_at_once, storer.read)


async def all_at_once(call: Callable[[str], Awaitable[A]], keys: Sequence[str]) -> list[A]:
    """What *call* says of each of *keys*, in their order; the first error is raised, as it is, when all have ended."""
    answers: dict[int, A] = {}
    errors: list[Exception] = []

    async def ask(number: int, key: str) -> None:
        try:
            answers[number] = await call(key)
        except Exception as error:  # noqa: BLE001  # raised below: a task group would wrap it
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for number, key in enumerate(keys):
            tasks.start_soon(ask, number, key)
    if errors:
        raise errors[0]
    return [answers[number] for number in range(len(keys))]
