"""What every drill may ask for; the servers start once for all of them."""

from typing import Any

import pytest

from tests.conftest import ASYNCIO
from tests.drills.backends import backend
from tests.servers_memcached import memcached_server
from tests.servers_sql import postgres_server

__all__ = ["anyio_backend", "backend", "full", "memcached_server", "postgres_server"]


@pytest.fixture(scope="module", params=[ASYNCIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """The drivers are for asyncio; uvloop has its turn in the storers' own suites."""
    return request.param


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether the drills run at their full size: `--full`, or `nox -s stress`."""
    return bool(pytestconfig.getoption("--full"))
