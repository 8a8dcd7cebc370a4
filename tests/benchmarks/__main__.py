"""`python -m tests.benchmarks [--quick] [--json FILE] [--markdown FILE] [--svg FILE] [PART ...]`: all parts, or some.

Each table is printed once it is measured, as Markdown; the goals come last.
"""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import uvloop

from tests.benchmarks import calls, in_process, kept, valkey
from tests.benchmarks.instructions import instructions
from tests.benchmarks.machine import machine, python, versions
from tests.benchmarks.measure import FULL, QUICK, Effort
from tests.benchmarks.over_http import http
from tests.benchmarks.plot import svg
from tests.benchmarks.sealers import sealers
from tests.benchmarks.table import Table, goals_table
from tests.servers import NoServerError

_PARTS: dict[str, Callable[[Effort], Awaitable[list[Table]]]] = {
    "memory": in_process.memory,
    "cookie": in_process.cookie,
    "valkey": valkey.valkey,
    "hot": valkey.hot,
    "untyped": in_process.untyped,
    "postgresql": calls.postgresql,
    "disk": calls.disk,
    "tail": in_process.tail,
    "kept": kept.kept,
    "instructions": instructions,
    "growth": calls.growth,
    "sqlite": calls.sqlite,
    "http": http,
    "sweep": kept.sweep,
    "sizes": in_process.sizes,
    "sealers": sealers,
}


def main() -> None:
    """Measure, print, and write the files asked for."""
    options = _options()
    start = monotonic()
    head = [
        "## Benchmarks",
        f"{machine()}; {python()}; {', '.join(f'{name} {number}' for name, number in versions().items())}.",
        "A session of eight keys, everything on this machine; the best of several rounds in which all take turns."
        + (" A quick run: rough figures." if options.quick else ""),
    ]
    _say("\n\n".join(head))

    effort = QUICK if options.quick else FULL
    measured: dict[str, list[Table]] = {}
    for part in options.parts or _PARTS:
        measured[part] = _measured(part, effort)
        for table in measured[part]:
            _say(str(table))
    tables = [table for part in measured.values() for table in part]
    goals = [goal for table in tables for goal in table.goals]
    missed = sum(not goal.is_met for goal in goals)
    end = [goals_table(goals), f"{len(goals) - missed} of {len(goals)} goals reached."] if goals else []
    end.append(f"It took {monotonic() - start:.0f} s.")
    _say("\n\n".join(end))

    if options.markdown:
        options.markdown.write_text("\n\n".join([*head, *map(str, tables), *end, ""]))
    if options.json:
        options.json.write_text(json.dumps(_document(measured, is_quick=options.quick), indent=1) + "\n")
    if options.svg:
        options.svg.write_text(svg(tables, f"{machine()}; {python()}; `nox -s bench`"))


class _Options(argparse.Namespace):
    parts: list[str]
    quick: bool
    json: Path | None
    markdown: Path | None
    svg: Path | None


def _options() -> _Options:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="What a session costs.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(_PARTS)}; all without")
    parser.add_argument("--quick", action="store_true", help="rough figures, in about two minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and goals")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a plot (of memory, cookie and valkey)")
    options = parser.parse_args(namespace=_Options())
    if unknown := set(options.parts) - set(_PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(_PARTS)}")
    if options.svg and options.parts and not set(options.parts) & {"memory", "cookie", "valkey"}:
        parser.error("--svg plots memory, cookie and valkey: give at least one of them")
    return options


def _measured(part: str, effort: Effort) -> list[Table]:
    try:
        return uvloop.run(_run(_PARTS[part], effort))
    except NoServerError as error:
        return [Table(part, note=f"Not measured: {error}")]


async def _run(measure: Callable[[Effort], Awaitable[list[Table]]], effort: Effort) -> list[Table]:
    return await measure(effort)


def _document(measured: Mapping[str, Sequence[Table]], *, is_quick: bool) -> dict[str, object]:
    return {
        "machine": machine(),
        "python": python(),
        "versions": versions(),
        "quick": is_quick,
        "parts": {part: [_described(table) for table in tables] for part, tables in measured.items()},
    }


def _described(table: Table) -> dict[str, object]:
    goals = [{**asdict(goal), "is_met": goal.is_met} for goal in table.goals]
    return {"title": table.title, "note": table.note, "rows": table.rows, "goals": goals}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
