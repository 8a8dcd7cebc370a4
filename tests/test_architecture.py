"""The layout of DESIGN 8: arrows go down only, a file is one word, a driver has one home."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from aiosessions import CookieOverseer, Session, StorageOverseer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aiosessions"
FILES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))}
NAMES = {name.removesuffix(".__init__"): path for path, name in FILES.items()}

FOLDERS = {
    "values": {"_errors", "_given"},
    "transports": {"_discreet", "_errors", "_lifetime", "_views"},
    "sealers": {"_base64url", "_discreet", "_errors", "_given"},
    "storers": {"_discreet", "_errors", "_given"},
    "migration": {"_base64url", "_errors", "overseers.alias", "overseers.importer"},
    "migration.redis": {
        "_errors",
        "overseers.importer",
        "storers._redis_driver",
        "storers._redis_server",
        "storers.bounded",
    },
    "storers.encrypted": {"_base64url", "_errors", "sealers.aesgcm", "sealers.keys", "sealers.ring"},
}
"""A StorageOverseer is a value type, a storer, a sealer, a transport: what each folder knows beside itself."""
ADAPTERS = {"_lifespan", "aiohttp", "asgi", "fastapi", "litestar", "origins", "quart", "telemetry"}
TOOLS = {"__main__", "cli", "demo", "testing"}
DRIVERS = {"aiomcache", "asyncpg", "emcache", "opentelemetry", "redis"}


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
        allowed = FOLDERS.get(name, FOLDERS[folder])
        others = {known for known in our_imports(core()[name]) if known.partition(".")[0] != folder}
        assert others <= allowed


@pytest.mark.parametrize("name", sorted(name for name in core() if not name.startswith(("migration", "overseers"))))
def test_nothing_below_the_overseers_knows_them(name: str) -> None:
    assert not {known for known in our_imports(core()[name]) if known.startswith("overseers")}


@pytest.mark.parametrize("name", sorted(name for name in core() if not name.startswith("migration")))
def test_only_who_imports_from_other_software_knows_how(name: str) -> None:
    assert not {known for known in our_imports(core()[name]) if known.startswith("migration")}


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: our_imports(path, at_run_time=True) for name, path in core().items()}
    TopologicalSorter(graph).prepare()


def test_the_house_has_nine_floors_at_most() -> None:
    graph = {name: our_imports(path, at_run_time=True) - {name} for name, path in core().items()}
    floors: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        floors[name] = 1 + max((floors[below] for below in graph.get(name, ())), default=0)
    assert max(floors.values()) <= 9


def test_only_the_session_writes_its_private_attributes() -> None:
    """A session's state has one home: whoever else wants a change asks one of its methods."""
    private = {slot for slot in Session.__slots__ if slot.startswith("_")} - {"__weakref__"}
    for path in FILES:
        if path.name == "_session.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and node.attr in private:
                owner = node.value
                assert isinstance(owner, ast.Name), f"{path}:{node.lineno}"
                assert owner.id == "self", f"{path}:{node.lineno} writes {ast.unparse(node)}"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
                assert not {ast.unparse(argument).strip("'") for argument in node.args} & private, path


def test_an_overseer_inherits_from_what_both_share_and_from_the_protocol() -> None:
    for overseer in (StorageOverseer, CookieOverseer):
        ours = [cls.__name__ for cls in overseer.__mro__ if cls.__module__.startswith("aiosessions")]
        assert ours == [overseer.__name__, "Overseer", "Store"]


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
    words = {"_errors", "_events", "_mapping_session", "_request", "_request_sessions", "_session", "_store", "_views"}
    assert known <= words | {"_lifespan", "_stores", "asgi", "origins"}


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
