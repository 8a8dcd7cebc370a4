"""Sessions in memcached, through emcache."""

import asyncio
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, cast

from aiosessions._errors import ConfigError, SessionTooLargeError
from aiosessions.storers._exptime import DELETED, lifetime, seconds_between, whole
from aiosessions.storers.batches import Batches
from aiosessions.storers.bounded import bounded, seconds_of
from aiosessions.storers.openings import Openings
from aiosessions.storers.packed import pack, unpack
from aiosessions.storers.storer import Record
from aiosessions.storers.text import digest
from aiosessions.storers.url import StorerURL, flag, seconds

try:
    import emcache
except ImportError as _error:
    raise ImportError('MemcachedStorer needs emcache: pip install "aiosessions[memcached]"') from _error

__all__ = ["Client", "MemcachedStorer"]

# emcache raises RuntimeError when its client is closed, and so does uvloop when a transport is.
_DRIVER_ERRORS = (emcache.CommandError, emcache.ClusterNoAvailableNodes, OSError, RuntimeError)
_PREFIX = re.compile(r"[!-~]{0,200}", re.ASCII)

_ITEM = 1024 * 1024  # bytes: memcached's default limit for an item
_OVERHEAD = 2048  # of it: memcached's own header, the key and what chunking a large item costs
_TOGETHER = 128  # reads that share a trip


class Client(Protocol):
    """What a MemcachedStorer uses of `emcache.Client`."""

    async def gets(self, key: bytes) -> emcache.Item | None:
        """The item, with its `cas` number."""
        ...

    async def add(self, key: bytes, value: bytes, *, exptime: int = 0) -> None:
        """Store what is not there yet, or raise NotStoredStorageCommandError."""
        ...

    async def cas(self, key: bytes, value: bytes, cas: int, *, exptime: int = 0) -> None:
        """Store over the item that has this number, or raise NotStoredStorageCommandError, or its base."""
        ...

    async def delete(self, key: bytes) -> None:
        """Remove it, or raise NotFoundCommandError."""
        ...


class MemcachedStorer:
    """Keeps each session as one item in memcached: fast, shared, and not `durable`.

    memcached forgets: at a restart everything, and when memory is short what was used longest ago. It does not know
    whose sessions it keeps, so that there is no "log out everywhere"; memory, disk, Redis and PostgreSQL have that.

    The client is `emcache`: it is released for each new Python, ships types, and drops a connection whose call was
    cancelled or timed out, where `aiomcache` gives it back to the pool with the answer still to come (the next call
    would read another session) and spins when the server hangs up. With emcache a key belongs to one node for good: a
    node that is away gives StorerError for its sessions and no others. A client that would send them to other nodes
    meanwhile (`purge_unhealthy_nodes`, `autodiscovery`) is refused: when the node came back, it would bring sessions
    with it that were ended on another.

    A key in memcached is the prefix and the SHA-256 of our key, so that any key fits into 250 bytes, and no two
    collide. A lifetime is given to memcached in seconds from now, by its clock; it counts in whole seconds and takes
    none beyond 30 days, so that the record's own `expires_at` is compared as well: the clocks of the application
    servers should agree. Records that live longer are left to memcached's eviction.

    Read takes 1 round trip, which all reads of one turn of the event loop share if there is one server; create takes
    1, replace and touch 2 (`gets`, `cas`), delete 2.

    Args:
        client: from `emcache.create_client`; never closed.
        prefix: what the keys begin with: at most 200 printable ASCII characters, no blanks.
        timeout: how long one operation may take. When a server dies, calls that wait for it wait so long.
        clock: gives the time in unix seconds.

    Raises:
        ConfigError: the prefix or the time-out cannot be, or the client may move sessions between nodes.
    """

    durable = False
    stores_json = False

    def __init__(
        self,
        client: Client,
        *,
        prefix: str = "session:",
        timeout: timedelta = timedelta(seconds=1),
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ConfigError(f"prefix={prefix!r}: give at most 200 printable ASCII characters without blanks")
        # emcache keeps its options to itself; where they are not found, the caller's word is all there is.
        cluster = getattr(client, "_cluster", None)
        for option in ("purge_unhealthy_nodes", "autodiscovery"):
            if getattr(cluster, f"_{option}", False):
                raise ConfigError(
                    f"the client has {option}=True, and a node that comes back would bring ended sessions with it: "
                    f"create it with {option}=False"
                )

        self._client = client
        self._prefix = prefix
        self._timeout = seconds_of(timeout)
        self._clock = clock
        self._where = "memcached"
        # Several servers share no trip: one that hangs would hold up the reads of all.
        self._is_alone = len(_nodes(client)) == 1
        self._limit = _ITEM - _OVERHEAD
        self._reads: Batches[bytes, emcache.Item | None] = Batches(self._read_together, most=_TOGETHER)
        self._openings = Openings(self._prepare, self._close)

    @classmethod
    def from_url(cls, url: str) -> "MemcachedStorer":
        """A storer with a client of its own: made by `open` or the first call, closed by the last `aclose`.

        Args:
            url: `memcached://host:port,host:port` or `memcached:/path/to/socket`, with user and password for SASL;
                options are `prefix`, `timeout` (in seconds), and `max_connections`, `min_connections`, `autobatching`,
                `ssl`, `ssl_verify`, `ssl_ca` (`ssl_extra_ca`) of `emcache.create_client`.

        Raises:
            ConfigError: an option that there is not, or a value that it cannot have.
        """
        parsed = StorerURL(url)
        client = _OwnClient(parsed)
        storer = cls(
            client,
            prefix=parsed.option("prefix", str, "session:"),
            timeout=parsed.option("timeout", seconds, timedelta(seconds=1)),
        )
        parsed.finish()
        storer._where = f"memcached at {client.where}"
        return storer

    def __repr__(self) -> str:
        return f"<MemcachedStorer {self._prefix!r} in {self._where}>"

    async def open(self) -> None:
        """Find out whether the server takes, gives and deletes an item, and how large one may be.

        Raises:
            StorerError: it does not.
        """
        await self._openings.open()

    async def aclose(self) -> None:
        """Undo one `open`; the last closes the client, if it came from a URL."""
        await self._openings.aclose()

    async def read(self, key: str) -> Record | None:
        name = self._name(key)
        found = self._found(await (self._reads.ask if self._is_alone else self._look_up)(name))
        return found and found.record

    async def create(self, key: str, record: Record) -> bool:
        name, data, lives = self._name(key), self._item(key, record), lifetime(record)
        with self._storing(key, data):
            while True:
                try:
                    await self._client.add(name, data, exptime=lives)
                except emcache.NotStoredStorageCommandError:
                    found = self._found(await self._client.gets(name))
                else:
                    return True

                if found is None:
                    continue
                if found.record is not None:
                    return found.record.version == record.version
                # memcached forgets a second or two late: what it still has is over.
                if await self._swap(name, found, data, lives):
                    return True

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        name, data, lives = self._name(key), self._item(key, record), lifetime(record)
        with self._storing(key, data):
            while (found := self._found(await self._client.gets(name))) and found.record:
                if found.record.version != version:
                    return found.record.version == record.version
                # When a touch came between, the item is another and the version is not: look again.
                if await self._swap(name, found, data, lives):
                    return True
        return False

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        name = self._name(key)
        with self._bounded():
            while (found := self._found(await self._client.gets(name))) and found.record:
                touched = found.record.touched(seen_at, expires_at)
                lives = max(seconds_between(seen_at, expires_at), seconds_between(self._clock(), touched.expires_at))
                if await self._swap(name, found, pack(touched), whole(lives)):
                    return True
        return False

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        name = self._name(key)
        with self._bounded():
            while (found := self._found(await self._client.gets(name))) and found.record:
                if version is None:
                    try:
                        await self._client.delete(name)
                    except emcache.NotFoundCommandError:
                        return False
                    return True

                if found.record.version != version:
                    return False
                # The text protocol has no delete that compares: what is over at once is deleted.
                if await self._swap(name, found, b"", DELETED):
                    return True
        return False

    async def _prepare(self) -> None:
        probe = self._name("")
        with self._bounded():
            with suppress(emcache.NotStoredStorageCommandError):
                await self._client.add(probe, b"", exptime=whole(self._timeout))
            await self._client.gets(probe)
            with suppress(emcache.NotFoundCommandError):
                await self._client.delete(probe)
            if (client := await self._emcache()) is not None:
                limits = [await _largest_of(client, node) for node in _nodes(self._client)]
                self._limit = min(limits, default=_ITEM) - _OVERHEAD

    async def _emcache(self) -> emcache.Client | None:
        if isinstance(self._client, _OwnClient):
            return await self._client.made()
        return self._client if isinstance(self._client, emcache.Client) else None

    async def _close(self) -> None:
        if isinstance(self._client, _OwnClient):
            await self._client.close()

    async def _read_together(self, names: Sequence[bytes]) -> Sequence[emcache.Item | None]:
        if len(names) == 1:
            return [await self._look_up(name) for name in names]

        trip = asyncio.ensure_future(self._look_up_together(names))
        while not trip.done():
            with suppress(asyncio.CancelledError):  # nobody needs it any more, but see `_bounded`
                await asyncio.wait([trip])
        return trip.result()

    async def _look_up_together(self, names: Sequence[bytes]) -> Sequence[emcache.Item | None]:
        with self._bounded():
            client = cast("emcache.Client", await self._emcache())  # no other says how many servers there are
            found = await client.gets_many(names)
        return [found.get(name) for name in names]

    async def _look_up(self, name: bytes) -> emcache.Item | None:
        with self._bounded():
            return await self._client.gets(name)

    def _found(self, item: emcache.Item | None) -> "_Found | None":
        if item is None:
            return None

        record = unpack(item.value)
        is_live = record is not None and record.is_live(self._clock())
        return _Found(item.cas or 0, record if is_live else None)

    async def _swap(self, name: bytes, found: "_Found", data: bytes, lives: int) -> bool:
        """Put *data* in the place of what was found; False if something else is there now, or nothing."""
        try:
            await self._client.cas(name, data, found.cas, exptime=lives)
        except emcache.NotStoredStorageCommandError:
            return False
        except emcache.StorageCommandError:
            # "Not found" or a server out of memory: emcache does not say which.
            if await self._client.gets(name) is None:
                return False
            raise
        return True

    def _item(self, key: str, record: Record) -> bytes:
        data = pack(record)
        if len(data) > self._limit:
            raise SessionTooLargeError(key, size=len(data), limit=self._limit)
        return data

    @contextmanager
    def _storing(self, key: str, data: bytes) -> Generator[None]:
        with self._bounded():
            try:
                yield
            except emcache.StorageCommandError as error:
                if "too large" not in str(error):
                    raise
                raise SessionTooLargeError(key, size=len(data), limit=min(self._limit, len(data) - 1)) from error

    def _name(self, key: str) -> bytes:
        return self._prefix.encode() + urlsafe_b64encode(digest(key))[:-1]

    def _bounded(self) -> AbstractContextManager[None]:
        # Shielded: emcache would throw the connection away, and asyncio would log an error for an answer that arrives
        # in the same turn.
        return bounded(self._timeout, _DRIVER_ERRORS, where=self._where, describe=_describe, shield=True)


class _Found(NamedTuple):
    """What memcached has under a name, and the number that it gave it; no record: expired, or none of ours."""

    cas: int
    record: Record | None


_Node = emcache.MemcachedHostAddress | emcache.MemcachedUnixSocketPath


class _OwnClient:
    """A client made from a URL, one for each event loop that uses it, at its first call."""

    def __init__(self, url: StorerURL) -> None:
        self.nodes: list[_Node] = [emcache.MemcachedHostAddress(host, port or 11211) for host, port in url.hosts]
        if url.path.strip("/"):
            if self.nodes:
                raise ConfigError(f"{url}: give hosts, or the path of a socket")
            self.nodes.append(emcache.MemcachedUnixSocketPath(url.path))
        if not self.nodes:
            self.nodes.append(emcache.MemcachedHostAddress("localhost", 11211))
        self.where = ",".join(f"{host}:{port or 11211}" for host, port in url.hosts) or url.path or "localhost:11211"
        self._user, self._password = url.user or None, url.password or None
        self._max_connections = url.option("max_connections", int, 10)
        self._min_connections = url.option("min_connections", int, 1)
        if not 0 <= self._min_connections <= self._max_connections or self._max_connections == 0:
            raise ConfigError(f"{url}: min_connections must be from 0 to max_connections, and that at least 1")
        if (self._user is None) is not (self._password is None):
            raise ConfigError(f"{url}: SASL needs user and password")
        self._autobatching = url.option("autobatching", flag, default=False)
        self._ssl = url.option("ssl", flag, default=False)
        self._ssl_verify = url.option("ssl_verify", flag, default=True)
        self._ssl_ca = url.option("ssl_ca", str, None)
        self._clients: dict[asyncio.AbstractEventLoop, emcache.Client] = {}

    async def gets(self, key: bytes) -> emcache.Item | None:
        return await (await self.made()).gets(key)

    async def add(self, key: bytes, value: bytes, *, exptime: int = 0) -> None:
        await (await self.made()).add(key, value, exptime=exptime)

    async def cas(self, key: bytes, value: bytes, cas: int, *, exptime: int = 0) -> None:
        await (await self.made()).cas(key, value, cas, exptime=exptime)

    async def delete(self, key: bytes) -> None:
        await (await self.made()).delete(key)

    async def close(self) -> None:
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    async def made(self) -> emcache.Client:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            self._clients = {known: each for known, each in self._clients.items() if not known.is_closed()}
            # It connects in the background; nothing here waits, so that two calls at once do not make two.
            client = self._clients[loop] = await emcache.create_client(
                self.nodes,
                timeout=None,  # the storer's own time-out holds
                max_connections=self._max_connections,
                min_connections=self._min_connections,
                autobatching=self._autobatching,
                ssl=self._ssl,
                ssl_verify=self._ssl_verify,
                ssl_extra_ca=self._ssl_ca,
                username=self._user,
                password=self._password,
            )
        return client


def _nodes(client: Client) -> "Sequence[_Node]":
    if isinstance(client, _OwnClient):
        return client.nodes
    return client.cluster_managment().nodes() if isinstance(client, emcache.Client) else ()


async def _largest_of(client: emcache.Client, node: "_Node") -> int:
    stats: Any = client.stats  # Any: it takes a socket's path, whatever its type says
    try:
        return int((await stats(node, "settings"))["item_size_max"])
    except (emcache.CommandError, LookupError, ValueError):  # a proxy that knows no settings
        return _ITEM


def _describe(error: Exception) -> str:
    if isinstance(error, RuntimeError):  # closed, or of another event loop: a client serves the one that made it
        return f"{error}; a client serves one event loop, and until it is closed"
    return type(error).__name__
