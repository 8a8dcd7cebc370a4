"""Valkey for the tests of RedisStorer: import what a module asks for."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis, RedisCluster

from tests.conftest import ASYNCIO, UVLOOP
from tests.servers import NoServerError, ValkeyServer, valkey, valkey_cluster

__all__ = ["anyio_backend", "client", "cluster_client", "prefix", "valkey_nodes", "valkey_server"]


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """redis-py is for asyncio."""
    return request.param


@pytest.fixture(scope="session")
def valkey_server(no_server: Callable[[str], NoReturn]) -> Iterator[ValkeyServer]:
    """One server for all tests; nobody stops it."""
    try:
        with valkey() as server:
            yield server
    except NoServerError as error:
        no_server(str(error))


@pytest.fixture(scope="session")
def valkey_nodes(no_server: Callable[[str], NoReturn]) -> Iterator[list[ValkeyServer]]:
    """A cluster of three primaries and three replicas for all tests; nobody stops it."""
    try:
        with valkey_cluster() as nodes:
            yield nodes
    except NoServerError as error:
        no_server(str(error))


@pytest.fixture
async def client(valkey_server: ValkeyServer) -> AsyncIterator[Redis]:
    async with Redis(host=valkey_server.host, port=valkey_server.port) as client:
        yield client


@pytest.fixture
async def cluster_client(valkey_nodes: list[ValkeyServer]) -> AsyncIterator[RedisCluster]:
    async with RedisCluster(host=valkey_nodes[0].host, port=valkey_nodes[0].port) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    """Where no other test has been."""
    return f"{uuid.uuid4().hex}:"
