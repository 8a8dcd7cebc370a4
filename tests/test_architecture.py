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

FOLDERS = {
    "values": {"_errors"},
    "transports": {"_errors", "_lifetime", "_request"},
    "sealers": {"_base64url", "_errors"},
    "storers": {"_errors"},
}
"""A StorageOverseer is a value type, a storer, a sealer, a transport: what each folder knows beside itself."""
ADAPTERS = {"aiohttp", "asgi", "fastapi", "litestar", "origins", "quart"}
TOOLS = {"__main__", "cli", "demo", "testing"}
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
    """The words, the four folders and the overseers: everything but adapters and tools."""
    own = {name.removeprefix("aiosessions").removeprefix("."): path for name, path in NAMES.items()}
    return {name: path for name, path in own.items() if name and name.partition(".")[0] not in ADAPTERS | TOOLS}


@pytest.mark.parametrize("name", sorted(core()))
def test_a_folder_knows_itself_and_the_words_below(name: str) -> None:
    folder, _, _ = name.partition(".")
    if folder in FOLDERS:
        others = {known for known in our_imports(core()[name]) if known.partition(".")[0] != folder}
        assert others <= FOLDERS[folder]


@pytest.mark.parametrize("name", sorted(name for name in core() if not name.startswith("overseers")))
def test_nothing_below_the_overseers_knows_them(name: str) -> None:
    assert not {known for known in our_imports(core()[name]) if known.startswith("overseers")}


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: our_imports(path, at_run_time=True) for name, path in core().items()}
    TopologicalSorter(graph).prepare()


def test_the_core_knows_no_adapter_and_no_tool() -> None:
    for name, path in core().items():
        assert not {known.partition(".")[0] for known in our_imports(path)} & (ADAPTERS | TOOLS), name


def test_the_core_takes_nothing_from_the_package_s_front() -> None:
    """A module takes a word from the file of that word, or the whole module: no import depends on who was first."""
    for name, path in core().items():
        taken = {item for item in imports(path) if item.count(".") == 1 and item.startswith("aiosessions.")}
        assert taken <= NAMES.keys(), name


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_knows_the_store_and_the_sessions_of_a_request(name: str) -> None:
    known = our_imports(PACKAGE / f"{name}.py")
    words = {"_errors", "_events", "_mapping_session", "_request", "_request_sessions", "_session", "_store"}
    assert known <= words | {"asgi", "origins"}


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
