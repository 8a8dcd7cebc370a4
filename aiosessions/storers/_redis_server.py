"""What RedisStorer asks of redis-py: commands and scripts, one round trip each, bounded in time, for each client."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast
from weakref import WeakKeyDictionary

import anyio

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._redis_driver import (
    DRIVER_ERRORS,
    LOST,
    Argument,
    Client,
    Driver,
    MaxConnectionsError,
    NoBackoff,
    Node,
    NoPermissionError,
    NoScriptError,
    Operation,
    RedisCluster,
    Retry,
    failure,
)
from aiosessions.storers._redis_scripts import Call
from aiosessions.storers.batches import Batches
from aiosessions.storers.openings import Openings

__all__ = ["RedisServer"]

_log = logging.getLogger("aiosessions.storers.redis")

_Command = Sequence[Argument]

_MOST = 128  # calls in one trip
_MOMENT = 0.005  # seconds until a full pool is asked again: it tells nobody when somebody leaves

_bounds: WeakKeyDictionary[object, anyio.Semaphore] = WeakKeyDictionary()
"""How many may use a pool at once, whichever storer they come from."""


class RedisServer:
    """A server, or a cluster, behind a client of the caller's, in one event loop.

    Args:
        client: redis-py's asyncio `Redis` or `RedisCluster`.
        timeout: seconds that one operation may take.
        wait_replicas: how many replicas must have what `run` was told to wait for.

    Attributes:
        reads: what is stored under a key.
        calls: what scripts answer; all calls that one caller asks for together share a trip.
        writes: the same, confirmed when the replicas have it.
        openings: how often it was opened.
        policy: how it may evict sessions, as far as `inspect` found out; "": it does not.

    Raises:
        ConfigError: the client is something else, decodes responses, or reads from replicas.
    """

    def __init__(self, client: object, *, timeout: float, wait_replicas: int) -> None:
        if not isinstance(client, Client):
            raise ConfigError(f"client is a {type(client).__qualname__}: give redis.asyncio.Redis or RedisCluster")

        self.is_cluster = isinstance(client, RedisCluster)
        self._driver = cast("Driver", client)
        self.where = self._address()
        self._refuse_what_cannot_work()
        self._timeout = timeout
        self.policy = ""
        self.reads: Batches[bytes, bytes | None] = Batches(self.fetch, most=_MOST)
        # What waits for replicas shares no trip with what does not.
        self.calls: Batches[Sequence[Call], list[Any]] = Batches(self.call, most=_MOST)
        self.writes: Batches[Sequence[Call], list[Any]] = self.calls
        if wait_replicas:
            self.writes = Batches(partial(self.call, replicas=wait_replicas), most=_MOST)
        self.openings: Openings
        self._own: Any = None  # a connection of redis-py, which has no types
        self._own_is_free = False

        # A pool of redis-py refuses who comes while all its connections are in use: here they wait their turn.
        pool: Any = self._driver if self.is_cluster else self._driver.connection_pool  # redis-py's have no types
        self._size: int = (
            self._driver.get_connection_kwargs()["max_connections"] if self.is_cluster else pool.max_connections
        )
        self._bound = _bounds.setdefault(pool, anyio.Semaphore(self._size, fast_acquire=True))

    def operation(self) -> Operation:
        """What one trip runs in: `async with server.operation()`."""
        return Operation(self.where, self._timeout)

    async def inspect(self) -> None:
        """See whether it answers, can keep sessions, and may evict them; StorerError or ConfigError if it cannot."""
        if not self.is_cluster:
            async with self.operation():
                await self._knock()
                await self._take()
        policies = {await self._policy(node) for node in await self.nodes()} - {"noeviction"}
        self.policy = ", ".join(sorted(policies))
        if policies:
            _log.warning(
                "%s may evict sessions when its memory is full (maxmemory-policy %s): users are then logged out, and "
                "lists of their sessions miss some. Set maxmemory-policy to noeviction",
                self.where,
                self.policy,
            )

    async def _policy(self, node: Node) -> str:
        """What it evicts when its memory is full; "noeviction" as well if it has no limit."""
        async with self.operation():
            try:
                found = await self._by_pool(lambda: node.execute_command("INFO"))
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

    async def _take(self) -> None:
        """Keep a connection for who is alone: to take one and to give it back costs as much as to ask.

        What fails on it is asked again by way of the pool. All that is kept is less than half of the pool.
        """
        if self._own is None and self._bound.value > self._size / 2 + 1:
            self._bound.acquire_nowait()
            try:
                self._own = await self._driver.connection_pool.get_connection()
            except MaxConnectionsError:  # others use them all
                self._bound.release()
            except BaseException:
                self._bound.release()
                raise
            self._own_is_free = self._own is not None

    async def _give_back(self) -> None:
        connection, is_free = self._own, self._own_is_free
        self._own, self._own_is_free = None, False
        if is_free:  # or else who uses it does so
            await self._release(connection)

    async def _release(self, connection: Any) -> None:  # Any: redis-py's have no types
        self._bound.release()
        await self._driver.connection_pool.release(connection)

    async def aclose(self, *, is_owner: bool) -> None:
        """Close what was opened here, and the client for its owner."""
        async with self.operation():
            await self._give_back()
            if is_owner:
                await self._driver.aclose()
                watchers = (
                    getattr(self._driver.connection_pool, "sentinel_manager", None) if not self.is_cluster else None
                )
                for sentinel in watchers.sentinels if watchers else ():
                    await sentinel.aclose()

    async def nodes(self) -> Sequence[Node]:
        """Where keys are: the server, or each primary of a cluster."""
        if not self.is_cluster:
            return [self._driver]
        async with self.operation():
            await self._driver.initialize()
        return self._driver.get_primaries()

    async def fetch(self, keys: Sequence[bytes]) -> list[bytes | Exception | None]:
        """What is stored under *keys*, in one trip (to each node)."""
        async with self.operation():
            if len(keys) == 1:
                return [await self._ask("GET", keys[0])]
            if not self.is_cluster:
                return list(await self._ask("MGET", *keys))
            answers = await self._send([("GET", key) for key in keys])
        return [self._told(answer) for answer in answers]

    async def call(self, groups: Sequence[Sequence[Call]], *, replicas: int = 0) -> list[list[Any] | Exception]:
        """Run the calls of each group, all in one trip (to each node), and wait until so many *replicas* have them.

        Those of one server are one script's.

        Returns:
            What the script answers to each call of a group, or how one of them failed.
        """
        calls = [call for group in groups for call in group]
        async with self.operation():
            answers = iter(await self._run([[call] for call in calls] if self.is_cluster else [calls], replicas))
        told: list[list[Any] | Exception] = []
        for group in groups:
            said = list(islice(answers, len(group)))
            failed = [self._told(answer) for answer in said if isinstance(answer, Exception)]
            told.append(failed[0] if failed else said)
        return told

    async def ask(self, *command: Argument, node: Node | None = None) -> Any:  # Any: what redis-py makes of the answer
        """Send one command, to a *node* of a cluster or to the server."""
        async with self.operation():
            return await self._by_pool(lambda: (node or self._driver).execute_command(*command))

    async def together(self, *commands: _Command) -> list[Any]:  # Any: what redis-py makes of the answers
        """Send some commands in one trip. What one of them failed with is its answer."""
        async with self.operation():
            answers = await self._by_pool(partial(self._in_one_trip, commands, 0))
        return [self._told(answer) for answer in answers]

    async def _run(self, scripts: Sequence[Sequence[Call]], replicas: int) -> list[Any]:  # Any: what scripts answer
        """What each call is answered, where those that one script runs together come together."""
        answers = await self._send([_command(calls, in_full=False) for calls in scripts], replicas)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # a new server, or one that was restarted
            again = await self._send([_command(scripts[place], in_full=True) for place in unknown], replicas)
            for place, answer in zip(unknown, again, strict=True):
                answers[place] = answer
        flat: list[Any] = []
        for answer in answers:
            flat += answer if isinstance(answer, list) else [answer]
        return flat

    def _told(self, answer: Any) -> Any:  # Any: what the server answers
        """The same, but of a driver's error the one that a caller sees."""
        return failure(self.where, answer) if isinstance(answer, Exception) else answer

    async def _ask(self, *command: Argument) -> Any:  # Any: what the server answers
        if self._own_is_free:
            connection, self._own_is_free = self._own, False
            try:
                if not connection.is_connected:
                    await connection.connect()
                await connection.send_command(*command)
                return await connection.read_response()
            except LOST:
                pass  # the driver would send it again as well, on another connection
            finally:
                if self._own is connection:
                    self._own_is_free = True
                else:  # it was to be given back meanwhile
                    await self._release(connection)
        return await self._by_pool(lambda: self._driver.execute_command(*command))

    async def _by_pool(self, ask: Callable[[], Awaitable[Any]]) -> Any:  # Any: what the server answers
        async with self._bound:
            while True:
                try:
                    return await ask()
                except MaxConnectionsError:  # they are all in use beside us; nothing was sent
                    await asyncio.sleep(_MOMENT)

    async def _send(self, commands: Sequence[_Command], replicas: int = 0) -> list[Any]:
        # Any: what the server answers, errors included; those of one command that are not a NoScriptError are raised
        if len(commands) > 1 or replicas:
            return await self._pipelined(commands, replicas)

        try:
            return [await self._ask(*commands[0])]
        except NoScriptError as error:
            return [error]

    async def _pipelined(self, commands: Sequence[_Command], replicas: int, *, again: bool = False) -> list[Any]:
        all_answers: list[Any] = await self._by_pool(partial(self._in_one_trip, commands, replicas))
        answers, counts = all_answers[: len(commands)], all_answers[len(commands) :]

        failed = [place for place, answer in enumerate(answers) if _is_failure(answer)]
        if failed and (again or not self.is_cluster):
            raise answers[failed[0]]
        for place in failed:  # alone, by the client's own rules: it looks for the nodes anew
            try:
                answers[place] = await self._ask(*commands[place])
            except DRIVER_ERRORS as error:
                answers[place] = error
        if failed and replicas:
            await self._pipelined(commands, replicas, again=True)  # what it finds done it leaves, and waits for
            return answers

        for count in counts:
            if isinstance(count, Exception):
                raise count
            if count < replicas:
                raise StorerError(f"{self.where}: {count} replicas have the write, {replicas} are asked for")
        return answers

    def _in_one_trip(self, commands: Sequence[_Command], replicas: int) -> Awaitable[list[Any]]:
        pipeline = self._driver.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        for node in self._nodes_of(commands) if replicas else ():
            # Half the time, in milliseconds, so that the answer is here before ours is up.
            pipeline.execute_command("WAIT", replicas, math.ceil(self._timeout * 500), **node)
        # Errors come as answers: the driver would raise them with the command's arguments in the text.
        # What is redirected has its WAIT at the wrong node: with replicas it comes as an error as well.
        options = {"allow_redirections": not replicas} if self.is_cluster else {}
        executed: Awaitable[list[Any]] = pipeline.execute(raise_on_error=False, **options)
        return executed

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


def _command(calls: Sequence[Call], *, in_full: bool) -> _Command:
    """The command that runs *calls* of one script: by its name, or in full, which also gives it to the server."""
    script = calls[0].script
    keys = [key for call in calls for key in call.keys]
    arguments = [argument for call in calls for argument in call.arguments]
    head = ("EVAL", script.text) if in_full else ("EVALSHA", script.sha)
    return *head, len(keys), *keys, *arguments
