"""Stores and suites work under whichever plugin runs a user's tests: pytest-asyncio, or anyio's."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
STORER = (Path(__file__).parent.parent / "docs" / "writing-a-storer.md").read_text(encoding="utf-8")

STORE = """
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


SUITES = """
from collections.abc import AsyncIterator

import pytest
from anyio.lowlevel import current_token

from aiosessions import AESGCMSealer, MemoryStorer, StorageOverseer
from aiosessions.testing.suites import (
    CleanableSuite, ListableSuite, MovableClock, SealerSuite, StoreSuite, UserIndexedSuite
)


class Homebound(MemoryStorer):
    # as one with a connection: what made it is the event loop that it works in

    def __init__(self, clock):
        super().__init__(clock=clock.now)
        self._home = current_token()

    async def read(self, key):
        assert current_token() == self._home
        return await super().read(key)


@pytest.fixture
async def storer(clock: MovableClock) -> AsyncIterator[Homebound]:
    yield Homebound(clock)
    current_token()  # there is a loop still


class TestStorer(CleanableSuite, UserIndexedSuite, ListableSuite):
    @pytest.fixture
    async def neighbour(self, clock: MovableClock) -> Homebound:
        return Homebound(clock)


class TestStore(StoreSuite):
    @pytest.fixture
    def make_store(self, storer, clock):
        return lambda value_type, **options: StorageOverseer(value_type, storer, clock=clock.now, **options)


class TestSealer(SealerSuite):
    def make_sealer(self, keys):
        return AESGCMSealer(keys)
"""


def run(folder: Path, *options: str) -> str:
    """What pytest says, where all passes."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-W", "error", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def project(folder: Path, *, marked: bool) -> None:
    """A user's tests: what docs show, all suites, and a store that a fixture opens.

    Args:
        folder: where to.
        marked: for anyio's plugin.
    """
    [application] = re.findall(r"^```python\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)
    mark = "\nimport pytest\npytestmark = pytest.mark.anyio\n" if marked else ""
    for name, text in (("application", application), ("suites", SUITES)):
        (folder / f"test_{name}.py").write_text(text + mark)
    for name, text in re.findall(r'^```python title="(\S+)"\n(.*?)^```', STORER, re.DOTALL | re.MULTILINE):
        (folder / name).write_text(text if marked else text.replace("pytestmark = pytest.mark.anyio\n", ""))


def test_what_docs_show_and_the_suites_run_under_pytest_asyncio(tmp_path: Path) -> None:
    """With the configuration that stands beside it, and nothing else; trio is installed, and nobody asks for it."""
    project(tmp_path, marked=False)
    [configuration] = re.findall(r"^```toml\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)
    (tmp_path / "pyproject.toml").write_text(configuration)
    said = run(tmp_path)
    assert "test_application.py::test_hello PASSED" in said
    assert all(f"::{suite}::" in said for suite in ("TestDictStorer", "TestStorer", "TestStore", "TestSealer"))
    assert "trio" not in said


def test_what_docs_show_and_the_suites_run_under_the_plugin_of_anyio(tmp_path: Path) -> None:
    """On asyncio and on trio, once each, without pytest-asyncio."""
    project(tmp_path, marked=True)
    said = run(tmp_path, "-p", "no:asyncio")
    for backend in ("asyncio", "trio"):
        assert said.count(f"test_application.py::test_hello[{backend}] PASSED") == 1
        for test in (
            "TestDictStorer::test_of_20_racing_creates_one_wins",
            "TestStorer::test_two_cleans_at_once_remove_each_record_once",
            "TestStore::test_an_idle_session_ends",
        ):
            assert said.count(f"::{test}[{backend}] PASSED") == 1


def test_a_store_in_a_fixture_of_pytest_asyncio(tmp_path: Path) -> None:
    """R16, X6: entered in one task, left in another, with a cleaner running; warnings are errors."""
    (tmp_path / "test_store.py").write_text(STORE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    assert "2 passed" in run(tmp_path)
