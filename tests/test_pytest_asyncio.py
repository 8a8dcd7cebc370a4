"""Stores work where the test runner enters and leaves a fixture in different tasks: pytest-asyncio's do."""

import subprocess
import sys
from pathlib import Path

SUITE = """
import pytest
import pytest_asyncio
from aiosessions import MemoryStorer, StorageOverseer
from aiosessions.testing.suites import Visitor


@pytest_asyncio.fixture
async def store():
    async with StorageOverseer(dict[str, int], MemoryStorer()) as store:
        yield store


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_a_session(store, number):
    visitor = Visitor()
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        session["number"] = number
        await store.save(session, visit.response)
    async with visitor.visit() as visit:
        assert (await store.get(visit.request))["number"] == number
"""


def test_a_store_in_a_fixture_of_pytest_asyncio(tmp_path: Path) -> None:
    """R16, X6: entered in one task, left in another, with a cleaner running; warnings are errors."""
    (tmp_path / "test_store.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            tmp_path,
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
