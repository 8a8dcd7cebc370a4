"""One SVG: what a session adds to a request, as bars; readable on light and on dark."""

from collections.abc import Sequence
from html import escape

from tests.benchmarks.table import Table

__all__ = ["svg"]

_WIDTH = 760
_LEFT = 300  # where the bars begin
_ROOM = 60  # right of the longest bar, for its number
_BAR = 9
_ROW = 2 * _BAR + 10
_HEADING = 30
_ACTIONS = ("read", "write")

_STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
  .small { font-size: 10px; } .heading { font-weight: 600; }
  .read { fill: #7aa5d8; } .write { fill: #2f6db5; } .other.read { fill: #b9bfc7; } .other.write { fill: #858d97; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .read { fill: #79b8ff; } .write { fill: #3d87dd; } .other.read { fill: #6e7681; } .other.write { fill: #a0a8b1; }
  }
"""


def svg(tables: Sequence[Table], caption: str) -> str:
    """The tables that are to be plotted; rows of the floor, which is no library, stay out.

    Args:
        tables: of one run.
        caption: where it was measured.
    """
    plotted = [table for table in tables if table.plot]
    lines = [_text(0, 14, "µs added to a request: read above, write below (less is better; a scale for each group)")]
    y = 22
    for table in plotted:
        lines.append(_text(0, y + 20, table.plot, "heading"))
        y += _HEADING
        most = max(value for row in _rows(table).values() for value in row.values())
        scale = (_WIDTH - _LEFT - _ROOM) / most
        for name, row in _rows(table).items():
            lines += [_text(12, y + _BAR + 5, name)]
            for number, action in enumerate(_ACTIONS):
                lines += _bar(y + number * (_BAR + 1), row[action], scale, _style(name, action), f"{name}, {action}")
            y += _ROW
    lines.append(_text(0, y + 16, caption, "small"))
    height = y + 24
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    label = "Microseconds that a session adds to a request"
    return "\n".join([f'{head} role="img" aria-label="{label}">', f"<style>{_STYLE}</style>", *lines, "</svg>", ""])


def _rows(table: Table) -> dict[str, dict[str, float]]:
    return {
        name: {action: row[action] for action in _ACTIONS}
        for name, row in table.rows.items()
        if not name.startswith("floor")
    }


def _style(name: str, action: str) -> str:
    return action if name.startswith("aiosessions") else f"other {action}"


def _bar(y: int, value: float, scale: float, style: str, title: str) -> list[str]:
    width = max(1.0, value * scale)
    number = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    bar = f'<rect class="{style}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="1">'
    told = f"<title>{escape(title)}: {number} µs</title></rect>"
    return [bar + told, _text(_LEFT + width + 5, y + _BAR - 1, number, "small")]


def _text(x: float, y: int, text: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:.0f}" y="{y}">{escape(text)}</text>'
