"""What is used of redis-py: its two clients, and its errors as a caller sees them."""

import asyncio
import re
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any, Protocol

from aiosessions._errors import StorerError

try:
    import redis.exceptions
    from redis.asyncio import Redis, RedisCluster, Sentinel
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        AuthenticationError,
        MaxConnectionsError,
        NoPermissionError,
        NoScriptError,
        RedisClusterException,
        RedisError,
    )
except ImportError as error:
    raise ImportError('redis-py is missing: pip install "aiosessions[redis]"') from error

__all__ = [
    "DRIVER_ERRORS",
    "LOST",
    "Argument",
    "Client",
    "ClusterNode",
    "Driver",
    "MaxConnectionsError",
    "NoBackoff",
    "NoPermissionError",
    "NoScriptError",
    "Node",
    "Operation",
    "Redis",
    "RedisCluster",
    "Retry",
    "Sentinel",
    "failure",
    "forbidden",
]

Client = Redis | RedisCluster

DRIVER_ERRORS = (
    RedisError,
    RedisClusterException,
    OSError,
    # These come out of redis-py when one task closes a connection, or learns of a new topology, in the middle of
    # another's command: "'NoneType' object has no attribute 'writelines'", a changed dict, a closed transport.
    AttributeError,
    LookupError,
    RuntimeError,
    UnicodeDecodeError,  # ours, of a key or an owner that somebody else wrote
)

LOST = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError, AttributeError, RuntimeError)

Argument = bytes | str | int | float


class Node(Protocol):
    def execute_command(self, *command: Argument) -> Awaitable[Any]: ...  # Any: what a server answers


class Driver(Node, Protocol):
    """What of redis-py's two clients is used here: most of it has no types of its own, hence each Any."""

    connection_pool: Any
    startup_nodes: Sequence[Any]
    read_from_replicas: bool
    load_balancing_strategy: object

    def initialize(self) -> Awaitable[object]: ...
    def aclose(self) -> Awaitable[None]: ...
    def pipeline(self, *, transaction: bool) -> Any: ...
    def get_encoder(self) -> Any: ...
    def get_connection_kwargs(self) -> dict[str, Any]: ...
    def get_primaries(self) -> Sequence[Node]: ...
    def get_node_from_key(self, key: object) -> object: ...


class Operation:
    """Bounded in time; whatever goes wrong inside is a StorerError whose text shows no value and no password."""

    __slots__ = ("_seconds", "_timeout", "_where")

    def __init__(self, where: str, seconds: float) -> None:
        self._where = where
        self._seconds = seconds
        # asyncio's, as the driver is: anyio's costs twice as much, a tenth of a whole read.
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise StorerError(f"{self._where} has not answered within {self._seconds:g} s") from late
        if isinstance(error, DRIVER_ERRORS):
            raise failure(self._where, error) from error


def failure(where: str, error: Exception) -> StorerError:
    """What a caller sees of a driver's error."""
    if isinstance(error, AuthenticationError):
        said = "refuses the user name or password"
    elif isinstance(error, RuntimeError):
        said = "failed: RuntimeError: was the client used in another event loop? Make one in each, or give a URL"
    else:
        said = f"failed: {type(error).__name__}"
    failure = StorerError(f"{where} {said}")
    failure.__cause__ = error
    return failure


def forbidden(error: StorerError) -> str | None:
    """What the server said if it denied its user a command or a key; None if something else failed."""
    said = re.sub(r" script: [0-9a-f]{40}.*", "", str(error.__cause__))  # where in a script says nothing to anybody
    is_denied = isinstance(error.__cause__, NoPermissionError) or "ACL failure" in said or "can't run this" in said
    return said if is_denied else None
