"""`import aiosessions` is cheap and complete, and what a bare install lacks is named."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import aiosessions

FOREIGN = {
    "aiohttp",
    "aiohttp_security",
    "aiohttp_session",
    "aiomcache",
    "asyncpg",
    "attr",
    "authlib",
    "click",
    "django",
    "emcache",
    "fastapi",
    "fastapi_users",
    "flask",
    "hiredis",
    "httpx",
    "hypothesis",
    "itsdangerous",
    "litestar",
    "nacl",
    "opentelemetry",
    "pydantic",
    "pytest",
    "quart",
    "redis",
    "rich",
    "socketio",
    "sqladmin",
    "starlette",
    "starlette_admin",
    "starsessions",
    "strawberry",
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


def test_what_few_need_is_imported_when_it_is_asked_for() -> None:
    program = """
import sys, aiosessions
print("aiosessions.storers.encrypted" in sys.modules, "EncryptedStorer" in dir(aiosessions))
aiosessions.EncryptedStorer(aiosessions.MemoryStorer(), aiosessions.new_key())
"""
    answer = fresh(program)
    assert (answer.stdout, answer.stderr) == ("False True\n", "")


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


def test_a_star_import_shadows_nothing_of_a_framework() -> None:
    """`Request` and `Response` are there for annotations, and come by name only."""
    answer = fresh(
        "from aiosessions import Request, Response\nRequest = Response = 1\nfrom aiosessions import *\nRequest + 1"
    )
    assert answer.stderr == ""


def test_public_names_say_where_users_import_them_from() -> None:
    """In help, errors and reprs."""
    modules = {getattr(getattr(aiosessions, name), "__module__", "aiosessions") for name in aiosessions.__all__}
    assert modules == {"aiosessions"}
    assert repr(aiosessions.ConflictError) == "<class 'aiosessions.ConflictError'>"


def test_storers_with_a_driver_are_imported_when_they_are_asked_for() -> None:
    from aiosessions import MemcachedStorer, PostgresStorer, RedisStorer  # noqa: PLC0415

    names = [storer.__name__ for storer in (MemcachedStorer, PostgresStorer, RedisStorer)]
    assert set(names) <= set(dir(aiosessions))
    assert not set(names) & set(aiosessions.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Redis'"):
        aiosessions.Redis  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    assert aiosessions.__version__ == version("aiosessions")
    answer = fresh("from aiosessions.cli import main; main(['--version'])")
    assert answer.stdout == f"aiosessions {aiosessions.__version__}\n"


@pytest.mark.parametrize(
    ("extra", "program", "without"),
    [
        ("redis", "from aiosessions import RedisStorer", {"redis"}),
        ("postgres", "from aiosessions import PostgresStorer", {"asyncpg"}),
        ("memcached", "from aiosessions import MemcachedStorer", {"emcache"}),
        ("otel", "import aiosessions.telemetry", {"opentelemetry"}),
        ("redis", "import aiosessions.storers.redis", {"redis"}),
        ("postgres", "import aiosessions.storers.postgres", {"asyncpg"}),
        ("memcached", "import aiosessions.storers.memcached", {"emcache"}),
        ("redis", "from aiosessions.migration import AiohttpRedis", {"redis"}),
        ("migration", "from aiosessions.migration import StarletteCookie", {"itsdangerous"}),
        ("migration", "import aiosessions.migration.signed", {"itsdangerous"}),
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
