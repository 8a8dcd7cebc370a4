"""Instructions per request, counted by valgrind: what no other program on the machine changes."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import Effort
from tests.benchmarks.table import Goal, Table

__all__ = ["ACTIONS_COUNTED", "SUBJECTS_COUNTED", "count", "instructions"]

ACTIONS_COUNTED = ("read", "write")
SUBJECTS_COUNTED = ("floor: memory", "aiosessions memory", "floor: cookie", "aiosessions cookie")

_ROOT = Path(__file__).parents[2]
_REQUESTS = 100
_GOALS = {"memory": {"read": 95_000, "write": 150_000}, "cookie": {"read": 110_000, "write": 200_000}}


async def instructions(_: Effort) -> list[Table]:
    """Of a whole request, the page and its request object included."""
    title, valgrind = "Instructions per request, in thousands", shutil.which("valgrind")
    if valgrind is None:
        return [Table(title, note="valgrind is missing.")]

    counted = await asyncio.to_thread(count, valgrind)
    goals = [
        Goal(f"instructions, {kept}, {action}", limit, counted[f"aiosessions {kept}"][action], unit="instructions")
        for kept, limits in _GOALS.items()
        for action, limit in limits.items()
    ]
    rows = {name: {action: each / 1000 for action, each in row.items()} for name, row in counted.items()}
    return [Table(title, ACTIONS_COUNTED, rows, goals)]


def count(valgrind: str) -> dict[str, dict[str, float]]:
    """Instructions per request, by subject and action. Takes half a minute; callgrind dumps at each mark.

    Raises:
        RuntimeError: the program did not end well under valgrind.
    """
    # A clean environment: coverage and development mode would be counted, too.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT), "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(valgrind, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/counts"),
            *(sys.executable, "-m", "tests.benchmarks.counted", str(_REQUESTS)),
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}: {run.stderr[-2000:]}")
        totals = [_total(path) for path in sorted(Path(folder).glob("counts.*"), key=lambda path: int(path.suffix[1:]))]

    # Each dump holds what ran before its mark: the last is the last case, the one before it a warming-up.
    cases = [(subject, action) for subject in SUBJECTS_COUNTED for action in ACTIONS_COUNTED]
    counted: dict[str, dict[str, float]] = {subject: {} for subject in SUBJECTS_COUNTED}
    for (subject, action), total in zip(cases, totals[-2 * len(cases) + 1 :: 2], strict=True):
        counted[subject][action] = total / _REQUESTS
    return counted


def _total(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE)
    assert found, f"{dump.name} has no totals"
    return int(found[1])
