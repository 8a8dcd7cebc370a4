"""One table for each part, and beneath it the goals with what was reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Goal", "Table"]

_NAME = 56


@dataclass(frozen=True)
class Goal:
    """A ratio to reach.

    Args:
        what: what is compared.
        bound: whether *limit* is the most or the least.
        limit: the goal.
        reached: what was measured.
        of: what it is a multiple of; "" if it is a number by itself.
        unit: what is counted.
    """

    what: str
    bound: Literal["at most", "at least"]
    limit: float
    reached: float
    of: str = ""
    unit: str = "×"

    @property
    def is_met(self) -> bool:
        """Whether it was reached."""
        return self.reached <= self.limit if self.bound == "at most" else self.reached >= self.limit

    def __str__(self) -> str:
        whole = self.unit != "×"
        limit, reached = (f"{number:.0f}" if whole else f"{number:.2f}" for number in (self.limit, self.reached))
        verdict = "" if self.is_met else "   <- missed"
        what = f"{self.what}: goal {self.bound} {limit}{self.unit}{' ' + self.of if self.of else ''}"
        return f"  {what:<94} {reached}{self.unit}{verdict}"


@dataclass(frozen=True)
class Table:
    """What one part measured."""

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, float]]
    goals: Sequence[Goal] = field(default=())

    def __str__(self) -> str:
        head = f"{self.title:<{_NAME}}" if len(self.title) < _NAME else f"{self.title}\n{'':<{_NAME}}"
        lines = [head + "".join(f"{column:>13}" for column in self.columns)]
        for name, row in self.rows.items():
            cells = "".join(f"{_number(row[column]):>13}" for column in self.columns)
            lines.append(f"  {name:<{_NAME - 2}}{cells}")
        return "\n".join([*lines, *map(str, self.goals)])


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
