"""What CI runs is plain `nox`: lint, typing, docs, and the tests on every supported Python found here.

`nox -- --require-servers` makes a missing server a failure; what follows `--` goes to pytest. `nox -s tests-3.12` runs
one session; `nox -s coverage`, `bench`, `fuzz` and `stress` run on request only.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typing", "docs", "tests"]

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
SHOWN = r'^```python(?: title="(\w+\.py)")?\n(.*?)^```'
# A file at a time to each of a few processes, which start servers of their own, one more than there are cores: tests
# wait for servers and time-outs. In their order, which has the drills, few and slow, at its beginning.
IN_PARALLEL = [f"-n{min(4, (os.cpu_count() or 1) + 1)}", "--dist=loadfile", "--no-loadscope-reorder"]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def supported_pythons() -> dict[str, Path]:
    """Version and interpreter: the running one, then those on PATH, then pyenv's. The first of each version counts."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders += sorted((pyenv / "versions").glob("3.*/bin"), reverse=True)
    candidates = [Path(sys.executable)]
    for folder in folders:
        if folder.is_dir():
            candidates += sorted(path for path in folder.iterdir() if re.fullmatch(r"python3\.\d+", path.name))

    found: dict[str, Path] = {}
    for path in candidates:
        version = released_version(path)
        if version is not None and version >= (3, 11):
            found.setdefault(f"{version[0]}.{version[1]}", path)
    return found


def released_version(python: Path) -> tuple[int, int] | None:
    """Ask the interpreter itself: a shim of pyenv's is there also for versions that are switched off."""
    program = "import sys; v = sys.version_info; print(v.releaselevel, v.major, v.minor)"
    answer = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    if answer.returncode or not answer.stdout.startswith("final "):
        return None

    _, major, minor = answer.stdout.split()
    return int(major), int(minor)


PYTHONS = supported_pythons()
if not PYTHONS:
    raise SystemExit("aiosessions needs Python 3.11 or later to be tested, and there is none")

# Where nox looks for `python3.12` and its like.
os.environ["PATH"] = os.pathsep.join(
    [*dict.fromkeys(str(path.parent) for path in PYTHONS.values()), os.environ["PATH"]]
)


def group(name: str) -> list[str]:
    """A dependency group's requirements, for a pip that does not know `--group`."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def write_blocks(folder: Path) -> None:
    """The Python that README and docs/ show: each block a file of a new folder; those with one title are one file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        blocks = re.findall(SHOWN, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        name = "_".join(page.relative_to(ROOT).with_suffix("").parts).lower().replace("-", "_")
        for number, (title, block) in enumerate(blocks, 1):
            with (folder / (title or f"{name}_{number}.py")).open("a", encoding="utf-8") as file:
                file.write(block)


def lay_out_site(folder: Path) -> None:
    """README, docs/ and examples/ as they lie here, with the site's configuration beside them."""
    pages = folder / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, pages / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", pages / "index.md")
    shutil.copy(ROOT / "CHANGELOG.md", pages)
    shutil.copy(ROOT / "zensical.toml", folder)


@nox.session
def lint(session: nox.Session) -> None:
    """Rules and format."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Strict mypy and pyright, and what a user of the wheel sees without our stubs: its types, what README shows."""
    session.install(*group("typing"), ".[all]")
    session.run("mypy")
    session.run("pyright", "--warnings")
    session.chdir(session.create_tmp())
    session.run("pyright", "--verifytypes", "aiosessions", "--ignoreexternal")
    write_blocks(Path("shown"))
    shutil.copytree(ROOT / "typings" / "socketio", "shown/socketio")  # of no other package is there a type to see
    Path("shown/pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    session.run("mypy", "--config-file=", "--strict", "shown")
    session.run("pyright", "--project", "shown")


@nox.session
def docs(session: nox.Session) -> None:
    """What README and docs/ show is run, with the wheel and away from the tree; the demo; the site, strictly built.

    The site is left in .nox/docs/tmp/site.
    """
    session.install(*group("docs"), *group("site"), ".[demo]")
    folder = Path(session.create_tmp()).resolve()
    session.chdir(folder)
    readme = str(ROOT / "tests" / "test_readme.py")
    # without the suite's fixtures: its servers and their modules belong to the tree
    session.run("pytest", "--noconftest", "--import-mode=importlib", f"--rootdir={ROOT}", readme)
    session.run("aiosessions", "demo", "--check")
    lay_out_site(folder)
    session.run("zensical", "build", "--clean", "--strict")  # a link, an anchor or a name that is not there is an error


@nox.session(python=list(PYTHONS))
def tests(session: nox.Session) -> None:
    """The whole suite. Arguments go to pytest: `nox -s tests -- -k cookie`."""
    session.install(*group("tests"), "-e", ".[all]")
    a_part = set(session.posargs) - {"--require-servers"}
    if a_part:
        session.run("pytest", *session.posargs)
        return

    # Every test on each Python, and on each event loop with one of them at least.
    number = list(PYTHONS).index(str(session.python))
    last = ("asyncio,trio,uvloop", "trio,uvloop", "trio")[min(len(PYTHONS), 3) - 1]
    loops = last if number == len(PYTHONS) - 1 else "uvloop" if number else "asyncio"
    # What README says is run on each, and once in a clean folder; once the example of a storer of one's own too, and
    # most of the mutations, which know no Python.
    less = ["--ignore=tests/test_newcomer.py", "--ignore=tests/test_sqlalchemy_example.py", "--mutations=10000"]
    session.run("pytest", *IN_PARALLEL, f"--loops={loops}", *(less if number else ()), *session.posargs)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Which lines and branches the whole suite passes: it takes twice the time of the suite."""
    session.install(*group("tests"), "-e", ".[all]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *IN_PARALLEL, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    # The one server that no package carries: where it is missing its tests are skipped, and say so.
    unseen = [] if shutil.which("memcached") else ["--omit=aiosessions/storers/memcached.py"]
    session.run("coverage", "report", *unseen)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The numbers of the README, beside the peers and the bare floor: some minutes; `nox -s bench -- --quick` two.

    Goals and verdicts come last. `-- --json FILE --markdown FILE --svg FILE` keeps what was measured.
    """
    session.install(*group("bench"), ".[all]")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """A million mutations for each test that the suite runs with some thousands."""
    session.install(*group("tests"), "-e", ".[all]")
    session.run("pytest", "-m", "fuzz", "--mutations=1000000", "--timeout=0", *session.posargs)


@nox.session(default=False)
def stress(session: nox.Session) -> None:
    """The drills and schedules at their full size: thousands of races, hundreds of thousands of increments."""
    session.install(*group("tests"), "-e", ".[all]")
    session.run("pytest", "tests/drills", "tests/storers/test_batches.py", "--full", "--timeout=0", *session.posargs)
