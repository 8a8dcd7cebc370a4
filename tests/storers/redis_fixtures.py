"""Valkey for tests: a plugin that `tests/conftest.py` loads."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NoReturn

import pytest
from redis.asyncio import Redis, RedisCluster

from tests.servers import NoServerError, ValkeyServer, valkey, valkey_cluster

__all__ = ["redis_client", "redis_cluster_client", "redis_prefix", "valkey_nodes", "valkey_server"]


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
async def redis_client(valkey_server: ValkeyServer) -> AsyncIterator[Redis]:
    async with Redis(host=valkey_server.host, port=valkey_server.port) as client:
        yield client


@pytest.fixture
async def redis_cluster_client(valkey_nodes: list[ValkeyServer]) -> AsyncIterator[RedisCluster]:
    async with RedisCluster(host=valkey_nodes[0].host, port=valkey_nodes[0].port) as client:
        yield client


@pytest.fixture
def redis_prefix() -> str:
    """Where no other test has been."""
    return f"{uuid.uuid4().hex}:"
