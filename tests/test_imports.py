"""`import aiosessions` is cheap and complete, and what a bare install lacks is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import aiosessions

FOREIGN = {
    "aiohttp",
    "aiomcache",
    "asyncpg",
    "attr",
    "emcache",
    "fastapi",
    "hiredis",
    "httpx",
    "hypothesis",
    "litestar",
    "pydantic",
    "pytest",
    "quart",
    "redis",
    "starlette",
    "trio",
    "uvicorn",
    "uvloop",
    "werkzeug",
}
"""Drivers, frameworks, servers, and what only tests use."""

WITHOUT = """
import sys

class AllBut:
    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {names!r} else self._finder.find_spec(name, path, target)

sys.meta_path[:] = [AllBut(finder) for finder in sys.meta_path]
"""
"""Takes modules away from a fresh interpreter, as if their distributions were not installed."""


def fresh(program: str, *, without: set[str] | frozenset[str] = frozenset()) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    blocked = WITHOUT.format(names=sorted(without)) if without else ""
    return subprocess.run(
        [sys.executable, "-c", blocked + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "COLUMNS": "80"},
    )


def test_importing_the_package_brings_no_driver_and_no_framework() -> None:
    answer = fresh("import aiosessions, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert answer.stderr == ""
    loaded = {name.partition(".")[0] for name in json.loads(answer.stdout)}
    assert not loaded & FOREIGN


def test_the_package_works_where_no_extra_is_installed() -> None:
    answer = fresh("import aiosessions; aiosessions.MemoryStorer()", without=FOREIGN)
    assert answer.stderr == ""


def test_a_python_without_sqlite_has_all_the_rest() -> None:
    """As some that were built from source are."""
    program = """
import sys
sys.modules["sqlite3"] = None
import aiosessions
aiosessions.DiskStorer("unused")
print("so far")
aiosessions.SQLiteStorer
"""
    answer = fresh(program)
    assert answer.stdout == "so far\n"
    last_line = answer.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ModuleNotFoundError: ")
    assert "sqlite3" in last_line


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    name = "SQLStorer"
    with pytest.raises(AttributeError, match="module 'aiosessions' has no attribute 'SQLStorer'"):
        getattr(aiosessions, name)


def test_every_public_name_is_there() -> None:
    assert len(set(aiosessions.__all__)) == len(aiosessions.__all__)
    assert [name for name in aiosessions.__all__ if not hasattr(aiosessions, name)] == []


@pytest.mark.parametrize(
    ("extra", "program", "without"),
    [
        ("redis", "import aiosessions.storers.redis", {"redis"}),
        ("postgres", "import aiosessions.storers.postgres", {"asyncpg"}),
        ("memcached", "import aiosessions.storers.memcached", {"emcache"}),
        ("demo", "from aiosessions.demo import main; main(check=True)", {"starlette"}),
        ("demo", "from aiosessions.demo import main; main(check=True)", {"uvicorn"}),
        ("demo", "from aiosessions.demo import main; main(check=True)", {"httpx"}),
        ("demo", "from aiosessions.demo import main; main(check=True)", {"python_multipart"}),
    ],
)
def test_a_missing_extra_is_an_import_error_that_names_it(extra: str, program: str, without: set[str]) -> None:
    answer = fresh(program, without=without)
    assert answer.returncode == 1
    last_line = answer.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert f'pip install "aiosessions[{extra}]"' in last_line
