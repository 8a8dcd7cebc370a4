"""Sessions in Redis, Valkey or Redict: one server, a Sentinel's master, or a cluster."""

import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._redis_scripts import DELETE, HEAL, INDEX, TIME, TIMES, TOUCH, WRITE
from aiosessions.storers._redis_server import Call, Client, RedisServer, client_from_url
from aiosessions.storers.bounded import seconds_of
from aiosessions.storers.openings import Openings
from aiosessions.storers.packed import pack, unpack
from aiosessions.storers.storer import Record
from aiosessions.storers.text import decoded, digest, encoded
from aiosessions.storers.url import StorerURL, seconds

__all__ = ["RedisStorer"]

_DAY = 86_400.0
_PAGE = 500  # records in one trip, where there are many


class RedisStorer:
    """Keeps each session as one string, and the keys of each user's sessions in a sorted set.

    One round trip each for read, create, replace, touch and delete. On one server a write and its entry in the user
    index are one script. In a cluster two keys rarely share a node: the entry is written before the record (one trip
    more at a login) and beside it at each later write, and an entry whose record is missing is forgotten once it is
    older than twice the time-out, so that no live session is ever in no index.

    **Clock.** The server counts down `expires_at - seen_at` from the moment it applies a write, so that an application
    server whose clock is wrong shortens nobody's session. A record that the application's clock takes for expired is
    absent all the same: a write that came late counts down from later.

    **Durability** is the server's: with `appendfsync always` what was confirmed is kept; by default up to a second of
    it is lost in a crash. Replication is asynchronous: a fail-over may forget confirmed writes, a logout too; with
    `wait_replicas` that is unlikely, not impossible. A server that evicts loses sessions: `open` warns.

    Args:
        client: redis-py's asyncio `Redis` (also a Sentinel's `master_for(...)`) or `RedisCluster`, made without
            `decode_responses`. It is never closed here, unless *owns_client*.
        prefix: what all keys of this storer start with.
        timeout: how long one operation may take, retries of the driver included. Lists take one time-out per page.
        wait_replicas: how many replicas must have a create, replace (a rotation is one) or delete before it is
            confirmed (WAIT); too few of them within the time-out: StorerError.
        owns_client: whether `aclose` closes the client.
        clock: gives the time in unix seconds.

    Raises:
        ConfigError: an argument cannot work; the client is no such client, decodes responses, or reads from replicas.
    """

    stores_json = False

    def __init__(
        self,
        client: Client,
        *,
        prefix: str = "session:",
        timeout: timedelta = timedelta(seconds=5),
        wait_replicas: int = 0,
        owns_client: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if wait_replicas < 0:
            raise ConfigError(f"wait_replicas={wait_replicas}: give 0 or more")

        longest = seconds_of(timeout)
        self._server = RedisServer(client, timeout=longest, wait_replicas=wait_replicas)
        self._prefix = encoded(prefix)
        self._young = math.ceil(2 * longest) + 1  # seconds
        self._owns_client = owns_client
        self._clock = clock
        self._openings = Openings(self._server.inspect, self._close)

    @classmethod
    def from_url(cls, url: str) -> "RedisStorer":
        """A storer with a client of its own, which the last `aclose` closes.

        Args:
            url: `redis://user:password@host:port/0` (`rediss:` and `valkeys:` with TLS), `redis:/path/to/socket`, or
                `redis://host,host?cluster=true`; options are `prefix`, `timeout` (in seconds), `wait_replicas`, and
                redis-py's `db`, `client_name`, `max_connections`, `protocol`, `health_check_interval`,
                `socket_timeout`, `socket_connect_timeout`, `socket_keepalive`, `ssl_ca_certs`, `ssl_cert_reqs`,
                `ssl_certfile`, `ssl_keyfile`, `ssl_check_hostname`.

        Raises:
            ConfigError: an option that there is not, or a value that it cannot have.
        """
        parsed = StorerURL(url)
        storer = cls(
            client_from_url(parsed),
            prefix=parsed.option("prefix", str, "session:"),
            timeout=parsed.option("timeout", seconds, timedelta(seconds=5)),
            wait_replicas=parsed.option("wait_replicas", int, 0),
            owns_client=True,
        )
        parsed.finish()
        return storer

    @property
    def durable(self) -> bool:
        """Whether the server keeps what it confirmed: yes, until `open` finds out that it may evict.

        It may if it has a `maxmemory` and another `maxmemory-policy` than noeviction, and so may one that forbids
        INFO, as far as anybody knows.
        """
        return not self._server.may_evict

    def __repr__(self) -> str:
        return f"<RedisStorer of {decoded(self._prefix)!r}, {self._server.where}>"

    async def open(self) -> None:
        """See whether the server answers and can keep sessions; one that may evict is a WARNING, and is not `durable`.

        Raises:
            StorerError: it does not answer, or refuses the password; the message names host and port.
            ConfigError: it is a replica, or a node of a cluster behind a client for one server.
        """
        await self._openings.open()

    async def aclose(self) -> None:
        """Undo one `open`; the last one closes the client if this storer owns it."""
        await self._openings.aclose()

    async def read(self, key: str) -> Record | None:
        async with self._server.operation():
            (data,) = await self._server.fetch([self._key(key)])
        return self._record(key, data)

    async def create(self, key: str, record: Record) -> bool:
        async with self._server.operation():
            if self._server.is_cluster and record.owner is not None:
                index = self._index(key, record.owner, record.seen_at, record.expires_at)
                await self._server.run(index, wait=True)
            answer = await self._server.run(self._write(key, record, None), wait=True)
        return bool(answer == 1)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        async with self._server.operation():
            if not self._server.is_cluster or record.owner is None:
                return bool(await self._server.run(self._write(key, record, version), wait=True) == 1)

            # Both at once, to two nodes: enough if the index names the record already. If not, it does now.
            write = self._write(key, record, version, if_indexed=True)
            index = self._index(key, record.owner, record.seen_at, record.expires_at)
            answer, _ = await self._server.run_all([write, index], wait=True)
            if answer == 2:
                answer = await self._server.run(self._write(key, record, version), wait=True)
        return bool(answer == 1)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        until = TIME.pack(_indexed_until(seen_at, expires_at))
        start = (
            self._now(),
            TIMES.pack(seen_at, _deadline(expires_at)),
            _milliseconds(seen_at, expires_at),
            until,
        )
        async with self._server.operation():
            answer = await self._server.run(Call(TOUCH, (self._key(key),), (*start, b"")), wait=False)
            # Rarely: it was touched so often that the owner's index is about to forget it, and is written first.
            while isinstance(answer, bytes):
                index = self._index(key, decoded(answer[1:]), seen_at, expires_at)
                keys: tuple[bytes, ...] = (self._key(key),)
                if self._server.is_cluster:
                    await self._server.run(index, wait=False)
                else:
                    keys += index.keys
                answer = await self._server.run(Call(TOUCH, keys, (*start, answer, *index.arguments)), wait=False)
        return bool(answer == 1)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        async with self._server.operation():
            return bool(await self._server.run(self._delete(key, version=version), wait=True) == 1)

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        listed: list[tuple[str, Record]] = []
        for page in await self._indexed(owner, prefix):
            async with self._server.operation():
                found = await self._server.fetch([self._key(key) for key in page])
            missing: list[str] = []
            for key, data in zip(page, found, strict=True):
                record = self._record(key, data)
                if record is not None and record.owner == owner:
                    listed.append((key, record))
                else:
                    missing.append(key)
            await self._heal(owner, missing)
        return listed

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        ended = 0
        for page in await self._indexed(owner, prefix):
            keys = [key for key in page if key != keep]
            async with self._server.operation():
                ended += sum(await self._server.run_all([self._delete(key, owner=owner) for key in keys], wait=True))
            await self._heal(owner, keys)
        return ended

    async def keys(self) -> AsyncIterator[str]:
        start = self._prefix + b"s#"
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", start) + b"*"
        for node in await self._server.nodes():
            cursor = 0
            while True:
                async with self._server.operation():
                    cursor, names = await node.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
                    # With another "#" it belongs to a storer whose longer prefix starts like ours.
                    escaped = [rest for name in names if b"#" not in (rest := name[len(start) :])]
                    keys = [decoded(rest.replace(b"%23", b"#").replace(b"%25", b"%")) for rest in escaped]
                for key in keys:
                    yield key
                if not cursor:
                    break

    async def _close(self) -> None:
        if self._owns_client:
            await self._server.aclose()

    # Keys: the last "#" parts prefix and kind from the rest, whatever is in a prefix; so no two storers ever meet.

    def _key(self, key: str) -> bytes:
        return self._prefix + b"s#" + encoded(key).replace(b"%", b"%25").replace(b"#", b"%23")

    def _index_key(self, owner: str) -> bytes:
        return self._prefix + b"u#" + digest(owner).hex().encode()

    # Records

    def _record(self, key: str, data: bytes | None) -> Record | None:
        if data is None:
            return None
        record = unpack(data[TIME.size :])
        if record is None:
            raise StorerError(f"{self._server.where}: {key!r} holds something that is no record of a known format")
        return record if record.is_live(self._clock()) else None

    def _now(self) -> bytes:
        return TIME.pack(self._clock())

    # Scripts, and what they are given

    def _write(self, key: str, record: Record, version: int | None, *, if_indexed: bool = False) -> Call:
        keys: tuple[bytes, ...] = (self._key(key),)
        entry: tuple[bytes | int, ...] = (b"", b"")
        if record.owner is not None and not self._server.is_cluster:
            index = self._index(key, record.owner, record.seen_at, record.expires_at)
            keys, entry = keys + index.keys, index.arguments
        arguments = (
            self._now(),
            b"" if version is None else version.to_bytes(8, "big"),
            _milliseconds(record.seen_at, record.expires_at),
            b"if indexed" if if_indexed else b"",
            *entry,
            TIME.pack(_indexed_until(record.seen_at, record.expires_at)) + pack(record),
        )
        return Call(WRITE, keys, arguments)

    def _delete(self, key: str, *, version: int | None = None, owner: str | None = None) -> Call:
        at = b"" if version is None else version.to_bytes(8, "big")
        whose = b"" if owner is None else b"=" + encoded(owner)
        return Call(DELETE, (self._key(key),), (self._now(), at, whose, self._server.wait_replicas))

    # The user index

    def _index(self, key: str, owner: str, seen_at: float, expires_at: float | None) -> Call:
        span = b"" if expires_at is None else math.ceil(_indexed_until(seen_at, expires_at) - seen_at + _DAY)
        return Call(INDEX, (self._index_key(owner),), (encoded(key), span))

    async def _indexed(self, owner: str, prefix: str) -> Iterator[list[str]]:
        async with self._server.operation():
            members = await self._server.ask("ZRANGE", self._index_key(owner), 0, -1)
            keys = [key for member in members if (key := decoded(member)).startswith(prefix)]
        return (keys[start : start + _PAGE] for start in range(0, len(keys), _PAGE))

    async def _heal(self, owner: str, missing: Sequence[str]) -> None:
        if missing:
            heal = Call(HEAL, (self._index_key(owner),), (self._young, *map(encoded, missing)))
            async with self._server.operation():
                await self._server.run(heal, wait=False)


def _deadline(expires_at: float | None) -> float:
    return math.inf if expires_at is None else expires_at


def _milliseconds(seen_at: float, expires_at: float | None) -> bytes:
    """How long the server is to keep it, rounded down: never beyond `expires_at`."""
    return b"" if expires_at is None else b"%d" % ((expires_at - seen_at) * 1000)


def _indexed_until(seen_at: float, expires_at: float | None) -> float:
    """How far touches may move `expires_at` before the index is written again: as long again, and at least a day."""
    return math.inf if expires_at is None else expires_at + max(expires_at - seen_at, _DAY)
