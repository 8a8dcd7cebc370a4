"""The real backends, each under its name: `backend` gives the one whose turn it is."""

import random
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiosessions import Openable, Storer
from aiosessions.storers.registry import storer_from_url
from tests.proxy import Proxy
from tests.servers import ValkeyServer
from tests.servers_memcached import MemcachedServer
from tests.servers_sql import PostgresServer

__all__ = ["BACKENDS", "SHARED", "Backend", "LossyProxy", "backend", "opened"]

SHARED = ("disk", "sqlite", "valkey", "postgres", "memcached")
"""Those that several processes can share."""
BACKENDS = ("memory", *SHARED)


@dataclass(frozen=True)
class Backend:
    """A place for sessions that no other test uses.

    Args:
        name: of BACKENDS.
        address: host and port of the server; None: there is none.
        make_url: the storer's URL, given the port to connect to.
    """

    name: str
    address: tuple[str, int] | None
    make_url: Callable[[int], str]

    @property
    def port(self) -> int:
        """The server's; 0: there is none."""
        return self.address[1] if self.address else 0

    @property
    def url(self) -> str:
        """Straight to the server."""
        return self.make_url(self.port)

    @property
    def patient_url(self) -> str:
        """Likewise, for a slow machine: a storer whose time-out is longer than that stands still."""
        return self.url if self.address is None else f"{self.url}&timeout=20"


class LossyProxy(Proxy):
    """Loses some answers to what changes something: the server has done it, and the client does not know.

    Args:
        backend: whose server it stands before.

    Attributes:
        share: of such answers, how many get lost; none until it is set.
    """

    # What the drivers send when they write: a script; a statement's text, or its name; a command.
    _WRITES = (b"EVALSHA", b"INSERT INTO", b"UPDATE ", b"__asyncpg_stmt", b"cas ", b"add ")

    def __init__(self, backend: Backend) -> None:
        assert backend.address is not None
        super().__init__(*backend.address)
        self.share = 0.0
        self._chance = random.Random(5)

    def drops(self, request: bytes) -> bool:
        if not any(word in request for word in self._WRITES) or self._chance.random() >= self.share:
            return False
        self.dropped += 1
        return True


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Storer]:
    """The storer of a URL, until the end of the block."""
    storer = storer_from_url(url)
    async with AsyncExitStack() as stack:
        if isinstance(storer, Openable):
            await storer.open()
            stack.push_async_callback(storer.aclose)
        yield storer


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Each backend in turn; a server that is not there is a skip, or with --require-servers a failure."""
    name: str = request.param
    unique = uuid.uuid4().hex[:12]
    match name:
        case "memory":
            return Backend(name, None, lambda _: "memory:")
        case "disk":
            return Backend(name, None, lambda _: f"disk:{tmp_path / 'sessions'}")
        case "sqlite":
            return Backend(name, None, lambda _: f"sqlite:{tmp_path / 'sessions.db'}")
        case "valkey":
            valkey: ValkeyServer = request.getfixturevalue("valkey_server")
            return Backend(name, (valkey.host, valkey.port), lambda port: f"redis://127.0.0.1:{port}?prefix={unique}:")
        case "memcached":
            memcached: MemcachedServer = request.getfixturevalue("memcached_server")
            address = ("127.0.0.1", memcached.port)
            return Backend(name, address, lambda port: f"memcached://127.0.0.1:{port}?prefix={unique}:")
        case _:
            postgres: PostgresServer = request.getfixturevalue("postgres_server")

            def url(port: int) -> str:
                return f"{postgres.url.replace(f':{postgres.port}/', f':{port}/')}&table=t{unique}&max_size=5"

            return Backend(name, ("127.0.0.1", postgres.port), url)
