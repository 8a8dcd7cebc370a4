"""What a part measured, and the goals with what was reached; as Markdown that reads well as it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Goal", "Table", "goals_table"]


@dataclass(frozen=True)
class Goal:
    """A number to reach.

    Args:
        what: what is measured, and of what it is a multiple.
        limit: the goal.
        reached: what was measured.
        bound: whether *limit* is the most or the least.
        unit: what is counted; without one it is a ratio.
    """

    what: str
    limit: float
    reached: float
    bound: Literal["at most", "at least"] = "at most"
    unit: str = "×"

    @property
    def is_met(self) -> bool:
        """Whether it was reached."""
        return self.reached <= self.limit if self.bound == "at most" else self.reached >= self.limit


@dataclass(frozen=True)
class Table:
    """What one part measured.

    Args:
        title: of what, and in which unit.
        columns: what was measured of each row.
        rows: by name; what is missing in a row was not measured.
        goals: what *rows* should reach.
        plot: the heading under which it stands in the plot; "" if it does not.
        note: what a reader must know: the reason, where there are no rows.
    """

    title: str
    columns: Sequence[str] = ()
    rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    goals: Sequence[Goal] = ()
    plot: str = ""
    note: str = ""

    def __str__(self) -> str:
        cells = [
            (name, *(_number(row[column]) if column in row else "" for column in self.columns))
            for name, row in self.rows.items()
        ]
        parts = (f"### {self.title}", self.note, _markdown(("", *self.columns), cells) if cells else "")
        return "\n\n".join(filter(None, parts))


def goals_table(goals: Iterable[Goal]) -> str:
    """Every goal, and whether it was reached."""
    rows = [
        (
            goal.what,
            f"{goal.bound} {_quantity(goal.limit, goal.unit)}",
            _quantity(goal.reached, goal.unit),
            "reached" if goal.is_met else "missed",
        )
        for goal in goals
    ]
    return f"### Goals\n\n{_markdown(('', 'goal', 'now', ''), rows)}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(3, *(len(row[column]) for row in (head, *rows))) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(row, widths) for row in (head, rule, *rows)]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return f"| {' | '.join((first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)))} |"


def _quantity(value: float, unit: str) -> str:
    return f"{value:.2f}{unit}" if unit == "×" else f"{value:,.0f} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
