"""What every test may ask for."""

import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import settings

pytest_plugins = ["tests.storers.redis_fixtures"]

ASYNCIO = pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")
UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")
TRIO = pytest.param("trio", id="trio")

# What a developer has switched on in a shell must not change what the tests see.
for _name in [name for name in os.environ if name.startswith("AIOSESSIONS_")]:
    del os.environ[_name]

# The same examples in each run: what fails in CI fails on one's own machine. `--hypothesis-profile=search` looks for
# new ones.
settings.register_profile("repeatable", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-servers",
        action="store_true",
        help="a server that cannot be started is a failure, not a skip",
    )
    parser.addoption("--full", action="store_true", help="the drills at their full size: many minutes")
    parser.addoption("--loops", default="asyncio,trio,uvloop", help="the event loops that async tests run on")
    parser.addoption("--mutations", type=int, default=50_000, help="mutated inputs for each test marked `fuzz`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs on other loops than `--loops` says; what knows none of those runs on the first it knows."""
    wanted = {"", *str(config.getoption("--loops")).split(",")}
    known: dict[str, dict[str, None]] = defaultdict(dict)
    for item in items:
        known[_test_of(item)][_loop_of(item)] = None
    chosen = {test: (loops.keys() & wanted) or {next(iter(loops))} for test, loops in known.items()}
    left_out = {item for item in items if _loop_of(item) not in chosen[_test_of(item)]}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _test_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _loop_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    backend = None if callspec is None else callspec.params.get("anyio_backend")
    by_backend = {str(each.values[0]): str(each.id) for each in (ASYNCIO, UVLOOP, TRIO)}
    return by_backend.get(str(backend), "")


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP, TRIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """Each async test runs on asyncio, uvloop and trio.

    Where a client is for asyncio only, the module has a fixture of this name with `params=[ASYNCIO, UVLOOP]`.
    """
    return request.param


@pytest.fixture(scope="session")
def no_server(pytestconfig: pytest.Config) -> Callable[[str], NoReturn]:
    """What a server's fixture calls when it has none, with the reason: a skip, or with --require-servers a failure."""

    def no_server(reason: str) -> NoReturn:
        if pytestconfig.getoption("--require-servers"):
            pytest.fail(f"--require-servers: {reason}", pytrace=False)
        pytest.skip(reason)

    return no_server


@pytest.fixture(scope="session")
def mutations(pytestconfig: pytest.Config) -> int:
    """How many mutated inputs a test marked `fuzz` tries: some thousands in each run, a million in `nox -s fuzz`."""
    count: int = pytestconfig.option.mutations
    return count
