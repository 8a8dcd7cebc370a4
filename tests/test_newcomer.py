"""README's first two minutes: the login of each framework, kept in each way it shows, with the wheel and nothing else.

The applications are what README says, to the letter, but for the line that says where sessions are kept.
"""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aiosessions.testing import Browser
from tests.servers import ValkeyServer
from tests.test_readme import README, ROOT, visit

pytestmark = pytest.mark.anyio

BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
FRAMEWORKS = ["fastapi", "starlette", "litestar", "quart", "aiohttp"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AIOSESSIONS_"))}


@pytest.fixture
def anyio_backend() -> str:
    """The servers are processes of their own."""
    return "asyncio"


def storer(name: str) -> str:
    """README's expression for a storer."""
    [line] = re.findall(rf"^\w+ = StorageOverseer\(dict\[str, int\], ({name}\b.*)\)$", BLOCKS[1], re.MULTILINE)
    return str(line)


def pages(framework: str, valkey: ValkeyServer) -> dict[str, str]:
    """README's block for a framework, by where its sessions are: with the line for that in the place of memory's."""
    [block] = [text for text in BLOCKS if re.search(rf"^from {framework}\b", text, re.MULTILINE)]
    assert block.count("MemoryStorer()") == 1
    where = {"memory": block}
    imports = "".join(re.findall(r"^from .*\n", BLOCKS[1], re.MULTILINE))
    for kind in ("SQLite", "Redis"):
        expression = storer(f"{kind}Storer").replace('host="localhost"', f'host="{valkey.host}", port={valkey.port}')
        where[kind] = imports + block.replace("MemoryStorer()", expression)
    assert f"port={valkey.port}" in where["Redis"]
    return where


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and what else is installed here: but not this tree."""
    wheels = tmp_path_factory.mktemp("wheels")
    build = f"import hatchling.build; hatchling.build.build_wheel({str(wheels)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    [wheel] = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


@contextmanager
def served(python: Path, folder: Path, text: str) -> Generator[str]:
    """The application in a file of a clean folder, served as a newcomer would; gives its address."""
    folder.mkdir()
    (folder / "app.py").write_text(text)
    serve = ["-m", "uvicorn", "app:app", "--port", "0"]
    if "web.Application()" in text:
        serve = ["-c", "from app import app, web; web.run_app(app, host='127.0.0.1', port=0)"]
    with subprocess.Popen(
        [python, "-u", *serve],
        cwd=folder,
        env=CLEAN | {"AIOSESSIONS_DEBUG": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        said = ""
        try:
            for line in server.stdout:
                said += line
                if address := re.search(r"http://127\.0\.0\.1:[1-9]\d*", line):
                    yield address[0]
                    break
            else:
                pytest.fail(said, pytrace=False)
        finally:
            server.terminate()
            said += server.stdout.read()
    assert "Traceback" not in said, said


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_login_in_two_minutes(
    framework: str, python: Path, tmp_path: Path, valkey_server: ValkeyServer
) -> None:
    """In memory, SQLite and Redis, over HTTP."""
    with ExitStack() as stack:
        addresses = {
            kind: (stack.enter_context(served(python, tmp_path / kind, text)), text)
            for kind, text in pages(framework, valkey_server).items()
        }
        for address, text in addresses.values():
            async with Browser(address) as browser:
                await visit(browser, text)
    assert (tmp_path / "SQLite" / "sessions.db").exists()


def test_the_environment_has_the_wheel_and_not_the_tree(python: Path, tmp_path: Path) -> None:
    program = "import sys, aiosessions; print(aiosessions.__file__, *sys.path, sep='\\n')"
    said = subprocess.run([python, "-c", program], cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=True)
    file, *path = said.stdout.splitlines()
    assert Path(file).is_relative_to(python.parent.parent)
    assert str(ROOT) not in path


def test_the_first_screen_has_memory_and_right_under_it_what_outlives_the_process() -> None:
    """Executed elsewhere, so that imports and clients are real ones."""
    memory, others = BLOCKS[:2]
    assert "MemoryStorer()" in memory
    assert all(storer(name) for name in ("SQLiteStorer", "RedisStorer", "PostgresStorer"))
    before, between = README.split(others)[0].split(memory)
    assert between.count("\n") <= 5
    assert (before + memory + between + others).count("\n") <= 52


def test_the_readme_stays_short() -> None:
    """What is longer than a screen is in docs/."""
    assert len(README.splitlines()) <= 300
