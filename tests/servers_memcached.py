"""A memcached server for the tests, from the PATH."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers_sql import free_port

__all__ = ["MemcachedServer", "memcached_server", "started"]


class MemcachedServer:
    """One server on a free port of 127.0.0.1; it can die and come back, empty.

    Args:
        binary: memcached.
        options: of the command line.
    """

    def __init__(self, binary: Path, *options: str) -> None:
        self._options = options
        self.port = free_port()
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        # -u: as root it wants to become somebody else; whoever runs the tests will do.
        user = ["-u", "root"] if Path("/proc/self").stat().st_uid == 0 else []
        command = [str(self._binary), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-m", "64", *user]
        command += self._options
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("memcached did not start") from None
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="session")
def memcached_server(no_server: Callable[[str], NoReturn]) -> Iterator[MemcachedServer]:
    """A running server; skips, with the reason, where there is none."""
    with started(no_server) as server:
        yield server


@contextmanager
def started(no_server: Callable[[str], NoReturn], *options: str) -> Generator[MemcachedServer]:
    """One with options of its own."""
    binary = shutil.which("memcached")
    if binary is None:
        no_server("no memcached on the PATH: apt-get install memcached")
    server = MemcachedServer(Path(binary), *options)
    try:
        server.start()
    except (OSError, RuntimeError) as error:
        no_server(f"memcached does not start: {error}")
    try:
        yield server
    finally:
        server.kill()
