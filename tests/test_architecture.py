"""The layout of DESIGN 8: arrows go down only, a file is one word, a driver has one home."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aiosessions"
FILES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))}
NAMES = {name.removesuffix(".__init__"): path for path, name in FILES.items()}

WORDS = {
    "_base64url",
    "_csrf",
    "_errors",
    "_events",
    "_lifetime",
    "_mapping_session",
    "_marks",
    "_messages",
    "_meta",
    "_sealer",
    "_session",
    "_store",
    "_storer",
    "_tokens",
}
"""What the rest is built of: these know only one another."""
OVERSEERS = {"_overseer", "_writing", "_updating", "_storage_overseer", "_cookie_overseer"}
"""The top of the core: known to the package's front door and to one another."""
ADAPTERS = {"aiohttp", "asgi", "fastapi", "litestar", "quart"}
DRIVERS = {"aiofiles", "aiomcache", "asyncpg", "emcache", "redis"}


def imports(path: Path, *, at_run_time: bool = False) -> Iterator[str]:
    """Every module that the file imports, wherever the statement stands, and what it takes from each."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    for_checkers = {id(node) for block in nodes if _is_for_checkers(block) for node in ast.walk(block)}
    for node in nodes:
        if at_run_time and id(node) in for_checkers:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def our_imports(path: Path, *, at_run_time: bool = False) -> set[str]:
    """Our own modules among them, without the package's name."""
    modules = {name for name in imports(path, at_run_time=at_run_time) if name in NAMES}
    return {name.removeprefix("aiosessions").removeprefix(".") for name in modules} - {""}


def core() -> dict[str, Path]:
    return {path.stem: path for path in sorted(PACKAGE.glob("_*.py")) if not path.stem.startswith("__")}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_the_words_know_only_one_another(word: str) -> None:
    assert our_imports(core()[word], at_run_time=True) <= WORDS


@pytest.mark.parametrize("name", sorted(core().keys() - OVERSEERS))
def test_nothing_below_the_overseers_knows_them(name: str) -> None:
    assert not our_imports(core()[name]) & OVERSEERS


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: our_imports(path, at_run_time=True) for name, path in core().items()}
    TopologicalSorter(graph).prepare()


def test_the_core_knows_no_adapter_and_no_tool() -> None:
    for name, path in core().items():
        assert not our_imports(path) & (ADAPTERS | {"cli", "demo", "testing"}), name


def test_the_core_takes_nothing_from_the_package_s_front() -> None:
    """A module takes a word from the file of that word, or the whole module: no import depends on who was first."""
    for name, path in core().items():
        taken = {item for item in imports(path) if item.count(".") == 1 and item.startswith("aiosessions.")}
        assert taken <= NAMES.keys(), name


@pytest.mark.parametrize("path", sorted((PACKAGE / "storers").glob("*.py")), ids=lambda path: path.stem)
def test_a_storer_conforms_structurally(path: Path) -> None:
    """It knows records, errors, how URLs are read, and the files of its own folder; no overseer, no session."""
    own = {name for name in our_imports(path) if name.startswith("storers")}
    assert our_imports(path) - own <= {"_errors", "_events", "_storer", "_storer_url"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "sealers").glob("*.py")), ids=lambda path: path.stem)
def test_a_sealer_conforms_structurally(path: Path) -> None:
    own = {name for name in our_imports(path) if name.startswith("sealers")}
    assert our_imports(path) - own <= {"_base64url", "_errors", "_events", "_sealer"}


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_knows_the_store_and_the_sessions_of_a_request(name: str) -> None:
    known = our_imports(PACKAGE / f"{name}.py")
    assert known <= {"_errors", "_events", "_messages", "_origins", "_request_sessions", "_session", "_store", "asgi"}


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_a_driver_is_imported_in_one_file(driver: str) -> None:
    homes = {path.name for path in FILES if any(name.partition(".")[0] == driver for name in imports(path))}
    assert len(homes) <= 1


@pytest.mark.parametrize("path", FILES, ids=FILES.get)
def test_a_file_is_one_word_that_reads_in_one_sitting(path: Path) -> None:
    """At most 400 lines (suites and helpers for tests may be longer), and named by what it is."""
    if "testing" not in path.parts:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert not re.search(r"(^|_)(base|common|core|helpers?|misc|utils?)$", path.stem)


@pytest.mark.parametrize("path", FILES, ids=FILES.get)
def test_no_line_is_hidden_from_the_coverage(path: Path) -> None:
    assert "pragma:" not in path.read_text(encoding="utf-8")
