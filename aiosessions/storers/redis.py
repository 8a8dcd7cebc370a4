"""Sessions in Redis, Valkey or Redict: one server, a Sentinel's master, or a cluster."""

import math
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from copy import copy
from datetime import timedelta
from functools import partial
from hashlib import sha256
from secrets import token_hex

from aiosessions._errors import ConfigError, StorerError
from aiosessions.storers._redis_acl import COMMANDS, refusal
from aiosessions.storers._redis_driver import Client
from aiosessions.storers._redis_scripts import HEAL, INDEX, TIME, TIMES, Call, a_call
from aiosessions.storers._redis_server import RedisServer
from aiosessions.storers._redis_url import clients_from_url
from aiosessions.storers.bounded import seconds_of
from aiosessions.storers.loops import Loops
from aiosessions.storers.openings import Openings
from aiosessions.storers.packed import pack, unpack
from aiosessions.storers.storer import Record
from aiosessions.storers.text import decoded, encoded
from aiosessions.storers.url import StorerURL, seconds

__all__ = ["RedisStorer"]

_DAY = 86_400.0
_PAGE = 500  # records in one trip, where there are many
_SCAN = 4_000  # names in one trip


class RedisStorer:
    """Keeps each session as one string, and the keys of each user's sessions in a sorted set.

    One round trip each for read, create, replace, touch and delete, and one more that lets the user index forget what
    was deleted. What is asked in the same tick of the event loop shares a trip: one MGET, one script; in a cluster, one
    pipeline to each node.

    On one server a write and its entry in the user index are one step. In a cluster two keys rarely share a node: the
    entry is written before the record (one trip more at a login) and beside it at each later write, and an entry whose
    record is missing is forgotten once it is older than twice the time-out, so that no live session is ever in no
    index.

    **Clock.** The server counts down `expires_at - seen_at` from the moment it applies a write, so that an application
    server whose clock is wrong shortens nobody's session. A record that the application's clock takes for expired is
    absent all the same: a write that came late counts down from later.

    **Event loops.** One from a URL makes a client for each event loop of each process; a client of the caller's works
    in the one event loop, and the one process, that it was first used in.

    **Durability** is the server's: with `appendfsync always` what was confirmed is kept; by default up to a second of
    it is lost in a crash. Replication is asynchronous: a fail-over may forget confirmed writes, a logout too; with
    `wait_replicas` that is unlikely, not impossible. A server that evicts loses sessions: `open` warns.

    Args:
        client: redis-py's asyncio `Redis` (also a Sentinel's `master_for(...)`) or `RedisCluster`, made without
            `decode_responses`. It is never closed here, unless *owns_client*.
        prefix: what all keys of this storer start with.
        timeout: how long one trip may take, retries of the driver and the wait for a connection included. Nearly all
            is one trip; lists take some per page.
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
        self._prefix = encoded(prefix)
        self._young = math.ceil(2 * longest) + 1  # seconds
        self._waits = wait_replicas > 0
        self._clock = clock
        self._policy = ""
        self._make_client: Callable[[], Client] | None = None  # one from a URL: another for each event loop

        def served_by(client: Client) -> RedisServer:
            server = RedisServer(client, timeout=longest, wait_replicas=wait_replicas)
            server.openings = Openings(partial(self._prepare, server), partial(server.aclose, is_owner=owns_client))
            return server

        first, used_in = served_by(client), list[int]()

        def server() -> RedisServer:
            if not used_in:
                used_in.append(os.getpid())
                return first
            if self._make_client is not None:
                return served_by(self._make_client())
            if used_in[0] != os.getpid():
                raise ConfigError("client was used before this process was forked: make it afterwards, or give a URL")
            return served_by(client)

        self._where = first.where
        self._is_cluster = first.is_cluster
        self._servers = Loops(server, who="RedisStorer")

    @classmethod
    def from_url(cls, url: str) -> "RedisStorer":
        """A storer with a client of its own, which the last `aclose` closes.

        Args:
            url: `redis://user:password@host:port/0` (`rediss:` and `valkeys:` with TLS), `redis:/path/to/socket`,
                `redis://host,host?cluster=true`, or `redis+sentinel://host,host/name/0`, whose Sentinels may have a
                `sentinel_username` and a `sentinel_password`. Options are `prefix`, `timeout` (in seconds),
                `wait_replicas`, and redis-py's `db`, `client_name`, `max_connections`, `protocol`,
                `health_check_interval`, `socket_timeout`, `socket_connect_timeout`, `socket_keepalive`,
                `ssl_ca_certs`, `ssl_cert_reqs`, `ssl_certfile`, `ssl_keyfile`, `ssl_check_hostname`.

        Raises:
            ConfigError: an option that there is not, or a value that it cannot have.
        """
        parsed = StorerURL(url)
        make_client = clients_from_url(parsed)
        storer = cls(
            make_client(),
            prefix=parsed.option("prefix", str, "session:"),
            timeout=parsed.option("timeout", seconds, timedelta(seconds=5)),
            wait_replicas=parsed.option("wait_replicas", int, 0),
            owns_client=True,
        )
        storer._make_client = make_client
        parsed.finish()
        return storer

    @property
    def durable(self) -> bool:
        """Whether the server keeps what it confirmed: yes, until `open` finds out that it may evict.

        It may if it has a `maxmemory` and another `maxmemory-policy` than noeviction, and so may one that forbids
        INFO, as far as anybody knows.
        """
        return not self._policy

    def __repr__(self) -> str:
        evicts = f", which may evict: {self._policy}" if self._policy else ""
        return f"<RedisStorer of {decoded(self._prefix)!r}, {self._where}{evicts}>"

    async def open(self) -> None:
        """See whether the server answers and keeps sessions; one that may evict is a WARNING, and is not `durable`.

        Raises:
            StorerError: it does not answer, refuses the password, or is full; the message names host and port.
            ConfigError: it is a replica, a node of a cluster behind a client for one server, or its ACL forbids
                something; the message names what.
        """
        await self._servers.here().openings.open()

    async def aclose(self) -> None:
        """Undo one `open`; the last one closes the client if this storer owns it."""
        await self._servers.here().openings.aclose()

    async def read(self, key: str) -> Record | None:
        return self._record(key, await self._servers.here().reads.ask(self._key(key)))

    async def read_together(self, keys: Sequence[str]) -> list[Record | None]:
        found = await self._servers.here().reads.ask_all([self._key(key) for key in keys])
        return [self._record(key, data) for key, data in zip(keys, found, strict=True)]

    async def create(self, key: str, record: Record) -> bool:
        server = self._servers.here()
        if self._is_cluster and record.owner is not None:
            await server.writes.ask((self._index(key, encoded(record.owner), record.seen_at, record.expires_at),))
        (answer,) = await server.writes.ask((self._write(b"C", key, record),))
        return bool(answer == 1)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        server = self._servers.here()
        write = self._write(b"R", key, record, version)
        if not self._is_cluster or record.owner is None:
            (answer,) = await server.writes.ask((write,))
            return bool(answer == 1)

        # Both at once, to two nodes: enough if the index names the record already. If not, it does now.
        index = self._index(key, encoded(record.owner), record.seen_at, record.expires_at)
        answer, _ = await server.writes.ask((self._write(b"I", key, record, version), index))
        if answer == 2:
            (answer,) = await server.writes.ask((write,))
        return bool(answer == 1)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        server = self._servers.here()
        (answer,) = await server.calls.ask((self._touch(key, seen_at, expires_at),))
        # Rarely: it was touched so often that the owner's index is about to forget it, and is written first.
        while isinstance(answer, bytes):
            if self._is_cluster:
                await server.calls.ask((self._index(key, answer[1:], seen_at, expires_at),))
            (answer,) = await server.calls.ask((self._touch(key, seen_at, expires_at, whose=answer),))
        return bool(answer == 1)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        server = self._servers.here()
        (answer,) = await server.writes.ask((self._delete(key, version=version),))
        if isinstance(answer, bytes):  # it had an owner, whose index still names it
            with suppress(StorerError):  # it is deleted all the same, and an entry heals when it is listed
                await self._forget(server, key, answer[1:])
            return True
        return bool(answer == 1)

    async def list_by_owner(self, owner: str, *, prefix: str = "") -> list[tuple[str, Record]]:
        server = self._servers.here()
        listed: list[tuple[str, Record]] = []
        async for page in self._indexed(server, encoded(owner), prefix):
            found = await server.fetch([self._key(key) for key in page])
            missing: list[str] = []
            for key, data in zip(page, found, strict=True):
                record = self._unpacked(key, data)
                if record is None or record.owner != owner:
                    missing.append(key)
                elif record.is_live(self._clock()):  # one that is not may live on by the clock of another server
                    listed.append((key, record))
            await self._heal(server, encoded(owner), missing)
        return listed

    async def delete_by_owner(self, owner: str, *, prefix: str = "", keep: str | None = None) -> int:
        server = self._servers.here()
        ended = 0
        async for page in self._indexed(server, encoded(owner), prefix):
            keys = [key for key in page if key != keep]
            if not keys:
                continue
            ended += sum(await server.writes.ask([self._delete(key, owner=owner) for key in keys]))
            await self._heal(server, encoded(owner), keys)
        return ended

    async def keys(self) -> AsyncIterator[str]:
        server = self._servers.here()
        start = self._prefix + b"s#"
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", start) + b"*"
        for node in await server.nodes():
            cursor = None
            while cursor != 0:
                cursor, names = await server.ask("SCAN", cursor or 0, "MATCH", pattern, "COUNT", _PAGE, node=node)
                # With another "#" it belongs to a storer whose longer prefix starts like ours.
                for rest in (name[len(start) :] for name in names):
                    if b"#" not in rest:
                        yield self._text(rest.replace(b"%23", b"#").replace(b"%25", b"%"))

    async def _prepare(self, server: RedisServer) -> None:
        await server.inspect()
        self._policy = server.policy
        try:
            await self._prove(server)
        except StorerError as error:
            denied = await refusal(server, error, self._prefix + b"probe#" + token_hex(8).encode())
            if denied is None:
                raise
            needed = f"~{decoded(self._prefix)}* {COMMANDS}"
            raise ConfigError(f"{self._where}: {denied}: sessions need the ACL {needed}") from error

    async def _prove(self, server: RedisServer) -> None:
        """Write, touch, read and delete what no storer takes for a session, in an index that is nobody's."""
        probe = copy(self)
        probe._prefix = self._prefix + b"probe#" + token_hex(8).encode() + b"#"
        now = self._clock()
        is_stored = await probe.create("k", Record(b"", b"", "", now, now, now + 60, 1))
        is_stored &= await probe.touch("k", seen_at=now, expires_at=now + 10 * _DAY)
        is_stored &= await probe.read("k") is not None
        is_stored &= (await server.fetch([probe._key(key) for key in ("k", "")]))[0] is not None
        is_stored &= len(await probe.list_by_owner("")) == await probe.delete("k")
        await probe._forget(server, "k", b"")  # as `delete` did, which keeps to itself that it failed
        await server.ask("DEL", probe._index_key(b""))
        if not is_stored:
            raise StorerError(f"{self._where} does not keep what it confirmed")

    # Keys: the last "#" parts prefix and kind from the rest, whatever is in a prefix; so no two storers ever meet.

    def _key(self, key: str) -> bytes:
        return self._prefix + b"s#" + encoded(key).replace(b"%", b"%25").replace(b"#", b"%23")

    def _index_key(self, owner: bytes) -> bytes:
        return self._prefix + b"u#" + sha256(owner).hexdigest().encode()

    def _text(self, name: bytes) -> str:
        try:
            return decoded(name)
        except UnicodeDecodeError as error:
            raise StorerError(f"{self._where}: a key that no storer of sessions wrote") from error

    # Records

    def _unpacked(self, key: str, data: bytes | Exception | None) -> Record | None:
        if isinstance(data, Exception):
            raise data
        if data is None:
            return None
        record = unpack(data[TIME.size :])
        if record is None:
            raise StorerError(f"{self._where}: {key!r} holds something that is no record of a known format")
        return record

    def _record(self, key: str, data: bytes | None) -> Record | None:
        record = self._unpacked(key, data)
        return record if record is not None and record.is_live(self._clock()) else None

    # What scripts are given

    def _write(self, kind: bytes, key: str, record: Record, version: int = 0) -> Call:
        keys: tuple[bytes, ...] = (self._key(key),)
        member, span = b"", 0.0
        if record.owner is not None and not self._is_cluster:
            keys, member = (*keys, self._index_key(encoded(record.owner))), encoded(key)
            span = _span(record.seen_at, record.expires_at)
        return a_call(
            kind,
            keys,
            self._clock(),
            version=version.to_bytes(8, "big"),
            milliseconds=_milliseconds(record.seen_at, record.expires_at),
            span=span,
            member=member,
            data=TIME.pack(_indexed_until(record.seen_at, record.expires_at)) + pack(record),
        )

    def _touch(self, key: str, seen_at: float, expires_at: float | None, *, whose: bytes = b"") -> Call:
        keys: tuple[bytes, ...] = (self._key(key),)
        if whose and not self._is_cluster:
            keys = (*keys, self._index_key(whose[1:]))
        return a_call(
            b"T",
            keys,
            self._clock(),
            milliseconds=_milliseconds(seen_at, expires_at),
            span=_span(seen_at, expires_at),
            times=TIMES.pack(seen_at, math.inf if expires_at is None else expires_at),
            indexed_until=TIME.pack(_indexed_until(seen_at, expires_at)),
            member=encoded(key),
            data=whose,
        )

    def _delete(self, key: str, *, version: int | None = None, owner: str | None = None) -> Call:
        kind, at = (b"D", b"") if version is None else (b"V", version.to_bytes(8, "big"))
        whose = b"" if owner is None else b"=" + encoded(owner)
        return a_call(kind, (self._key(key),), self._clock(), waits=self._waits, version=at, data=whose)

    # The user index

    def _index(self, key: str, owner: bytes, seen_at: float, expires_at: float | None) -> Call:
        return Call(INDEX, (self._index_key(owner),), (encoded(key), TIME.pack(_span(seen_at, expires_at))))

    async def _indexed(self, server: RedisServer, owner: bytes, prefix: str) -> AsyncIterator[list[str]]:
        """What the index names, in pages, each key once; what it names all the while is in one of them."""
        index, known, cursor = self._index_key(owner), set[str](), None
        while cursor != 0:
            cursor, members = await server.ask("ZSCAN", index, cursor or 0, "COUNT", _SCAN)
            named = {key for member, _ in members if (key := self._text(member)).startswith(prefix)}
            keys = list(named - known)
            known |= named
            for start in range(0, len(keys), _PAGE):
                yield keys[start : start + _PAGE]

    async def _forget(self, server: RedisServer, key: str, owner: bytes) -> None:
        """Let the index of *owner* forget a record that is gone."""
        if self._is_cluster:
            await self._heal(server, owner, [key])
        else:
            forget = a_call(b"F", (self._key(key), self._index_key(owner)), self._clock(), member=encoded(key))
            await server.calls.ask((forget,))

    async def _heal(self, server: RedisServer, owner: bytes, missing: Sequence[str]) -> None:
        if missing:
            heal = Call(HEAL, (self._index_key(owner),), (self._young, *map(encoded, missing)))
            (answer,) = await server.call([[heal]])
            if isinstance(answer, Exception):
                raise answer


def _milliseconds(seen_at: float, expires_at: float | None) -> float:
    """How long the server is to keep it, rounded down: never beyond `expires_at`."""
    return math.inf if expires_at is None else math.floor((expires_at - seen_at) * 1000)


def _span(seen_at: float, expires_at: float | None) -> float:
    """How long the index is to name it, in seconds."""
    return math.ceil(_indexed_until(seen_at, expires_at) - seen_at + _DAY) if expires_at is not None else math.inf


def _indexed_until(seen_at: float, expires_at: float | None) -> float:
    """How far touches may move `expires_at` before the index is written again: as long again, and at least a day."""
    return math.inf if expires_at is None else expires_at + max(expires_at - seen_at, _DAY)
