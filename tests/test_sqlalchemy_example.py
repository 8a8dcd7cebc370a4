"""The example of a third party's storer: built, installed and tested as a stranger's package would be."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import aiosessions

EXAMPLE = Path(__file__).parent.parent / "examples" / "sqlalchemy_storer"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it: its wheel, built by its own build backend, and unpacked; needs no network."""
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "package")
    wheels = tmp_path_factory.mktemp("wheels")
    build = f"import hatchling.build; hatchling.build.build_wheel({str(wheels)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_its_own_tests_pass_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    """Issue 3: away from this tree, with the suites, by entry point."""
    shutil.copy(EXAMPLE / "test_aiosessions_sqlalchemy.py", tmp_path)
    ours = Path(aiosessions.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(ours)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_the_package_is_complete(installed: Path) -> None:
    """One module and its entry point."""
    assert (installed / "aiosessions_sqlalchemy.py").is_file()
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
    assert entry_points.read_text() == "[aiosessions.storers]\nsqlalchemy = aiosessions_sqlalchemy:from_url\n"
