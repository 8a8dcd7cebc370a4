"""What RedisStorer asks of redis-py: commands and scripts, one round trip each, bounded in time, for each client."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Protocol, cast

import anyio

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._redis_scripts import Script
from aiosessions.storers.url import StorerURL, flag

try:
    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        AuthenticationError,
        NoPermissionError,
        NoScriptError,
        RedisClusterException,
        RedisError,
    )
except ImportError as error:
    raise ImportError('RedisStorer needs redis-py: pip install "aiosessions[redis]"') from error

__all__ = ["Call", "Client", "RedisServer", "client_from_url"]

_log = logging.getLogger("aiosessions.storers.redis")

Client = Redis | RedisCluster

_DRIVER_ERRORS = (
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

_URL_OPTIONS: dict[str, Callable[[str], object]] = {
    "client_name": str,
    "health_check_interval": float,
    "max_connections": int,
    "protocol": int,
    "socket_connect_timeout": float,
    "socket_keepalive": flag,
    "socket_timeout": float,
    "ssl_ca_certs": str,
    "ssl_cert_reqs": str,
    "ssl_certfile": str,
    "ssl_check_hostname": flag,
    "ssl_keyfile": str,
}

_Argument = bytes | str | int | float
_Command = Sequence[_Argument]


class _Node(Protocol):
    def execute_command(self, *command: _Argument) -> Awaitable[Any]: ...  # Any: what a server answers


class _Driver(_Node, Protocol):
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
    def get_primaries(self) -> Sequence[_Node]: ...
    def get_node_from_key(self, key: object) -> object: ...


class Call(NamedTuple):
    """A script, the keys that it touches, and its arguments: the longest, which may be a value, last."""

    script: Script
    keys: tuple[bytes, ...]
    arguments: tuple[bytes | int, ...]

    def by_name(self) -> _Command:
        """The command, if the server has the script."""
        return "EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments

    def in_full(self) -> _Command:
        """The command that also gives the server the script."""
        return "EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments


class _Operation:
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
        if isinstance(error, AuthenticationError):
            raise StorerError(f"{self._where} refuses the user name or password") from error
        if isinstance(error, _DRIVER_ERRORS):
            raise StorerError(f"{self._where} failed: {type(error).__name__}") from error


class RedisServer:
    """A server, or a cluster, behind a client of the caller's.

    Args:
        client: redis-py's asyncio `Redis` or `RedisCluster`.
        timeout: seconds that one operation may take.
        wait_replicas: how many replicas must have what `run` was told to wait for.

    Raises:
        ConfigError: the client is something else, decodes responses, or reads from replicas.
    """

    def __init__(self, client: object, *, timeout: float, wait_replicas: int) -> None:
        if not isinstance(client, Client):
            raise ConfigError(f"client is a {type(client).__qualname__}: give redis.asyncio.Redis or RedisCluster")

        self.is_cluster = isinstance(client, RedisCluster)
        self._driver = cast("_Driver", client)
        self.where = self._address()
        self._refuse_what_cannot_work()
        self._timeout = timeout
        self.wait_replicas = wait_replicas
        self.may_evict = False
        # A pool of redis-py refuses who comes while all its connections are in use: here they wait their turn.
        size: int
        if self.is_cluster:
            size = self._driver.get_connection_kwargs()["max_connections"]
        else:
            size = self._driver.connection_pool.max_connections
        self._connections = anyio.Semaphore(size, fast_acquire=True)

    def operation(self) -> _Operation:
        """What one operation runs in: `async with server.operation()`."""
        return _Operation(self.where, self._timeout)

    async def inspect(self) -> None:
        """See whether it answers, can keep sessions, and may evict them; StorerError or ConfigError if it cannot."""
        if not self.is_cluster:
            async with self.operation():
                await self._knock()
        policies = {await self._policy(node) for node in await self.nodes()} - {"noeviction"}
        self.may_evict = bool(policies)
        if policies:
            _log.warning(
                "%s may evict sessions when its memory is full (maxmemory-policy %s): users are then logged out, and "
                "lists of their sessions miss some. Set maxmemory-policy to noeviction",
                self.where,
                ", ".join(sorted(policies)),
            )

    async def _policy(self, node: _Node) -> str:
        """What it evicts when its memory is full; "noeviction" as well if it has no limit."""
        async with self.operation():
            try:
                found = await node.execute_command("INFO")
            except NoPermissionError:  # it is there, and its owner does not want to be asked
                return "unknown: INFO is forbidden"
        if found.get("role") == "slave":
            raise ConfigError(f"{self.where} is a replica: give the client the primary's address")
        if not self.is_cluster and "cluster" in (found.get("redis_mode"), found.get("server_mode")):
            raise ConfigError(f"{self.where} is a node of a cluster: give a redis.asyncio.RedisCluster")
        return str(found.get("maxmemory_policy", "noeviction")) if found.get("maxmemory") else "noeviction"

    async def _knock(self) -> None:
        """Connect once, without the retries of the driver: a wrong address or password is to be said at once."""
        connection = self._driver.connection_pool.make_connection()
        connection.retry = Retry(NoBackoff(), 0)
        try:
            await connection.connect()
        finally:
            await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close the client."""
        async with self.operation():
            await self._driver.aclose()

    async def nodes(self) -> Sequence[_Node]:
        """Where keys are: the server, or each primary of a cluster."""
        if not self.is_cluster:
            return [self._driver]
        async with self.operation():
            await self._driver.initialize()
        return self._driver.get_primaries()

    async def fetch(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """What is stored under *keys*, in one trip (to each node)."""
        if len(keys) == 1:
            return [await self.ask("GET", keys[0])]
        if not self.is_cluster:
            return list(await self.ask("MGET", *keys))
        return await self._send([("GET", key) for key in keys])

    async def run(self, call: Call, *, wait: bool) -> Any:  # Any: what a script answers
        """Run one script, and *wait* for the replicas."""
        return (await self.run_all([call], wait=wait))[0]

    async def run_all(self, calls: Sequence[Call], *, wait: bool) -> list[Any]:  # Any: what scripts answer
        """Run scripts in one trip (to each node), and *wait* for the replicas."""
        answers = await self._send([call.by_name() for call in calls], wait=wait)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # a new server, or one that was restarted
            again = await self._send([calls[place].in_full() for place in unknown], wait=wait)
            for place, answer in zip(unknown, again, strict=True):
                answers[place] = answer
        return answers

    async def ask(self, *command: _Argument) -> Any:  # Any: what the server answers, or a NoScriptError
        """Send one command."""
        async with self._connections:
            try:
                return await self._driver.execute_command(*command)
            except NoScriptError as error:
                return error

    async def _send(self, commands: Sequence[_Command], *, wait: bool = False, again: bool = False) -> list[Any]:
        # Any: what the server answers, a NoScriptError included; other errors are raised
        replicas = self.wait_replicas if wait else 0
        if len(commands) == 1 and not replicas:
            return [await self.ask(*commands[0])]

        async with self._connections:
            pipeline = self._driver.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            for node in self._nodes_of(commands) if replicas else ():
                # Half the time, in milliseconds, so that the answer is here before ours is up.
                pipeline.execute_command("WAIT", replicas, math.ceil(self._timeout * 500), **node)
            # Errors come as answers: the driver would raise them with the command's arguments in the text.
            # What is redirected has its WAIT at the wrong node: with replicas it comes as an error as well.
            options = {"allow_redirections": not replicas} if self.is_cluster else {}
            all_answers: list[Any] = await pipeline.execute(raise_on_error=False, **options)
        answers, counts = all_answers[: len(commands)], all_answers[len(commands) :]

        failed = [place for place, answer in enumerate(answers) if _is_failure(answer)]
        if failed and (again or not self.is_cluster):
            raise answers[failed[0]]
        for place in failed:  # alone, by the client's own rules: it looks for the nodes anew
            answers[place] = await self.ask(*commands[place])
        if failed and replicas:
            await self._send(commands, wait=True, again=True)  # what it finds done it leaves, and waits for
            return answers

        for count in counts:
            if isinstance(count, Exception):
                raise count
            if count < replicas:
                raise StorerError(f"{self.where}: {count} replicas have the write, {replicas} are asked for")
        return answers

    def _nodes_of(self, commands: Sequence[_Command]) -> list[dict[str, object]]:
        """How to send a command to each node that one of *commands*, which are scripts, goes to."""
        if not self.is_cluster:
            return [{}]
        nodes = [self._driver.get_node_from_key(command[3]) for command in commands]
        return [{"target_nodes": node} for node in dict.fromkeys(nodes)]

    def _address(self) -> str:
        if self.is_cluster:
            return "Redis cluster at " + ", ".join(f"{node.host}:{node.port}" for node in self._driver.startup_nodes)
        if service := getattr(self._driver.connection_pool, "service_name", None):
            return f"Redis service {service!r}"
        options = self._driver.get_connection_kwargs()
        return "Redis at " + (options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    def _refuse_what_cannot_work(self) -> None:
        driver, where = self._driver, self.where
        if driver.get_encoder().decode_responses:
            raise ConfigError(f"the client of {where} decodes responses: create it without decode_responses=True")
        if self.is_cluster and (driver.read_from_replicas or driver.load_balancing_strategy):
            raise ConfigError(
                f"the client of {where} reads from replicas, which may not know of a logout yet: create it without "
                "read_from_replicas and load_balancing_strategy"
            )
        if not self.is_cluster and not getattr(driver.connection_pool, "is_master", True):
            raise ConfigError(f"the client of {where} reads from replicas: create it with Sentinel.master_for")


def _is_failure(answer: object) -> bool:
    return isinstance(answer, Exception) and not isinstance(answer, NoScriptError)


def client_from_url(url: StorerURL) -> Client:
    """A client, not yet connected, for the address and the driver's options of *url*.

    Raises:
        ConfigError: an address or an option that cannot be.
    """
    options = {name: url.option(name, convert, None) for name, convert in _URL_OPTIONS.items()}
    options |= {"username": url.user or None, "password": url.password or None}
    options = {name: value for name, value in options.items() if value is not None}
    one = cast("Callable[..., Client]", Redis)
    cluster = cast("Callable[..., Client]", RedisCluster)
    is_cluster = url.option("cluster", flag, default=False)
    db = url.option("db", int, 0)
    path = url.path.strip("/")
    if path and not url.hosts and not path.isdecimal():
        return one(unix_socket_path=url.path, db=db, **options)

    if path and not path.isdecimal():
        raise ConfigError(f"{url}: the path is the number of a database: give /0, or none")
    db = int(path or db)
    nodes = [(host, port or 6379) for host, port in url.hosts or [("localhost", None)]]
    options["ssl"] = url.scheme in ("rediss", "valkeys")
    if is_cluster:
        if db:
            raise ConfigError(f"{url}: a cluster has database 0 only")
        return cluster(startup_nodes=[ClusterNode(*node) for node in nodes], **options)

    if len(nodes) > 1:
        raise ConfigError(f"{url}: several hosts are a cluster's: add ?cluster=true")
    host, port = nodes[0]
    return one(host=host, port=port, db=db, **options)
