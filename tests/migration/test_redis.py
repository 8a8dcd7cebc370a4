"""StarsessionsRedis and AiohttpRedis against records that those have made, in a real Valkey."""

import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest
import starsessions
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starsessions.stores.redis import RedisStore

from aiosessions import ConfigError, StorerError
from aiosessions.migration import AiohttpRedis, Importer, StarsessionsRedis
from aiosessions.overseers.importer import NotImportedError, Theirs
from tests.conftest import ASYNCIO, UVLOOP
from tests.migration.peers import Data, aiohttp_client, value_of
from tests.migration.trees import JSON
from tests.proxy import Proxy
from tests.servers import ValkeyServer, free_port

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning"),  # aiohttp-session's own
]

WEEK = timedelta(days=7)
SECONDS = WEEK.total_seconds()
Kept = Callable[[Data], Awaitable[str]]
VALUES: Data = {**JSON, "text": 'Zoë 東京 \U0001f600 " ; \\'}
NO_RETRY: Any = cast("Any", Retry)(cast("Any", NoBackoff)(), 0)  # Any: redis-py gives them no types
STARSESSIONS_ID = "0123456789abcdef" * 2


@pytest.fixture(scope="module", params=[ASYNCIO, UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:  # Any: a name and options, as anyio's plugin reads them
    """redis-py is for asyncio."""
    return request.param


class Peer:
    """An application whose sessions are in Redis.

    Attributes:
        importer: reads them.
        kept: the id that a client gets for a session.
        emptied: takes all out of the session of an id.
        key: of a record.
    """

    importer: Importer[Data]
    kept: Kept
    emptied: Callable[[str], Awaitable[None]]
    key: Callable[[str], str]


@asynccontextmanager
async def starsessions_peer(client: Redis, prefix: str, *, lifetime: int = 0, **options: Any) -> AsyncGenerator[Peer]:
    peer, written = Peer(), Data()

    async def write(request: Request) -> Response:
        await starsessions.load_session(request)
        request.session.update(written)
        return Response()

    async def empty(request: Request) -> Response:
        await starsessions.load_session(request)
        request.session.clear()
        return Response()

    store = RedisStore(connection=client, prefix=prefix)
    app = Starlette(
        routes=[Route("/write", write), Route("/empty", empty)],
        middleware=[
            Middleware(starsessions.SessionMiddleware, store=store, lifetime=lifetime, cookie_https_only=False)
        ],
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://peer") as browser:

        async def kept(data: Data) -> str:
            written.clear()
            written.update(data)
            browser.cookies.clear()
            return value_of((await browser.get("/write")).headers["set-cookie"])

        async def emptied(identity: str) -> None:
            await browser.get("/empty", headers={"cookie": f"session={identity}"})

        peer.kept, peer.emptied = kept, emptied
        peer.key = prefix.__add__
        peer.importer = StarsessionsRedis(client, prefix=prefix, **options)
        yield peer


@asynccontextmanager
async def aiohttp_peer(client: Redis, prefix: str, *, lifetime: int = 0, **options: Any) -> AsyncGenerator[Peer]:
    peer, cookie = Peer(), prefix.replace(":", "")
    storage = RedisStorage(client, cookie_name=cookie, max_age=lifetime or None)
    async with aiohttp_client(storage) as ask:

        async def kept(data: Data) -> str:
            return value_of(await ask("write", data))

        async def emptied(identity: str) -> None:
            await ask("empty", cookie=f"{cookie}={identity}")

        peer.kept, peer.emptied = kept, emptied
        peer.key = lambda identity: f"{cookie}_{identity}"
        peer.importer = AiohttpRedis(client, cookie=cookie, **options)
        yield peer


PEERS = {"starsessions": starsessions_peer, "aiohttp": aiohttp_peer}


@pytest.fixture(params=list(PEERS))
def peer_of(request: pytest.FixtureRequest, redis_client: Redis, redis_prefix: str) -> Callable[..., Any]:
    """Gives a peer in a context, with options of its importer; with another client if one is given."""

    def made(client: Redis = redis_client, **options: Any) -> Any:
        return PEERS[request.param](client, redis_prefix, **options)

    return made


async def imported(importer: Importer[Data], identity: str, *, now: float | None = None) -> Theirs | None:
    at = time.time() if now is None else now
    assert importer.open(identity, now=at) == Theirs()
    return await importer.fetch(identity, now=at)


class TestWhatTheyKeep:
    async def test_each_kind_of_json_comes_without_their_envelope(self, peer_of: Callable[..., Any]) -> None:
        async with peer_of() as peer:
            found = await imported(peer.importer, await peer.kept(VALUES))
            assert found is not None
            assert found.data == VALUES

    async def test_their_defaults_are_ours(self, redis_client: Redis) -> None:
        """Prefixes and cookies."""
        theirs, identity = RedisStore(connection=redis_client), uuid.uuid4().hex
        await theirs.write(identity, b'{"a": 1}', lifetime=60, ttl=60)
        starsessions_importer: Importer[Data] = StarsessionsRedis(redis_client)
        assert starsessions_importer.cookie == "session"
        found = await imported(starsessions_importer, identity)
        assert found is not None
        assert found.data == {"a": 1}
        await starsessions_importer.delete(identity)

        async with aiohttp_client(RedisStorage(redis_client, max_age=60)) as ask:
            identity = value_of(await ask("write", {"b": 2}))
            aiohttp_importer: Importer[Data] = AiohttpRedis(redis_client)
            assert aiohttp_importer.cookie == "AIOHTTP_SESSION"
            found = await imported(aiohttp_importer, identity)
            assert found is not None
            assert found.data == {"b": 2}
            await aiohttp_importer.delete(identity)

    async def test_a_prefix_may_be_a_function(self, redis_client: Redis, redis_prefix: str) -> None:
        def key(identity: str) -> str:
            return f"{redis_prefix}{identity[::-1]}"

        await RedisStore(connection=redis_client, prefix=key).write(STARSESSIONS_ID, b'{"a": 1}', lifetime=60, ttl=60)
        importer: Importer[Data] = StarsessionsRedis(redis_client, prefix=key)
        found = await imported(importer, STARSESSIONS_ID)
        assert found is not None
        assert found.data == {"a": 1}

    async def test_they_may_be_in_a_cluster(self, redis_cluster_client: RedisCluster, redis_prefix: str) -> None:
        store: Any = RedisStore(connection=cast("Any", redis_cluster_client), prefix=redis_prefix)
        await store.write(STARSESSIONS_ID, b'{"a": 1}', lifetime=60, ttl=60)
        importer: Importer[Data] = StarsessionsRedis(redis_cluster_client, prefix=redis_prefix)
        found = await imported(importer, STARSESSIONS_ID)
        assert found is not None
        assert found.data == {"a": 1}
        await importer.delete(STARSESSIONS_ID)
        assert await store.read(STARSESSIONS_ID, lifetime=60) == b""

    async def test_the_id_of_no_record_is_nothing(self, peer_of: Callable[..., Any]) -> None:
        async with peer_of() as peer:
            assert await imported(peer.importer, STARSESSIONS_ID) is None

    async def test_a_session_that_they_emptied_is_nothing(self, peer_of: Callable[..., Any]) -> None:
        async with peer_of() as peer:
            identity = await peer.kept({"a": 1})
            await peer.emptied(identity)
            assert await imported(peer.importer, identity) is None

    async def test_a_record_of_nothing_is_none(self, peer_of: Callable[..., Any], redis_client: Redis) -> None:
        """As they read it."""
        async with peer_of() as peer:
            await redis_client.set(peer.key(STARSESSIONS_ID), b"", ex=60)
            assert await imported(peer.importer, STARSESSIONS_ID) is None

    async def test_it_is_one_round_trip(self, peer_of: Callable[..., Any], valkey_server: ValkeyServer) -> None:
        async with (
            Proxy(valkey_server.host, valkey_server.port) as proxy,
            Redis(port=proxy.port) as client,
            peer_of(client) as peer,
        ):
            identity = await peer.kept({"a": 1})
            proxy.tally.reset()
            assert await imported(peer.importer, identity) is not None
            assert proxy.round_trips == 1
            await peer.importer.delete(identity)
            assert proxy.round_trips == 2


class TestAge:
    async def test_a_record_ends_with_its_ttl(self, peer_of: Callable[..., Any]) -> None:
        async with peer_of(lifetime=600) as peer:
            before = time.time()
            identity = await peer.kept({"a": 1})
            found = await imported(peer.importer, identity, now=1_000_000.0)
            assert found is not None
            assert found.ends_at is not None
            assert 600 - (time.time() - before) - 2 <= found.ends_at - 1_000_000 <= 600

    async def test_one_that_has_expired_is_nothing(self, peer_of: Callable[..., Any], redis_client: Redis) -> None:
        async with peer_of(lifetime=600) as peer:
            identity = await peer.kept({"a": 1})
            await redis_client.pexpireat(peer.key(identity), 1)
            assert await imported(peer.importer, identity) is None

    async def test_one_without_a_ttl_never_ends(self, peer_of: Callable[..., Any], redis_client: Redis) -> None:
        async with peer_of() as peer:
            identity = await peer.kept({"a": 1})
            await redis_client.persist(peer.key(identity))
            assert await imported(peer.importer, identity) == Theirs({"a": 1}, None)

    async def test_with_a_max_age_it_ends_so_long_after_it_was_created(
        self, peer_of: Callable[..., Any], redis_client: Redis
    ) -> None:
        async with peer_of(max_age=WEEK) as peer:
            before = int(time.time())
            identity = await peer.kept({"a": 1})
            found = await imported(peer.importer, identity)
            assert found is not None
            assert found.ends_at is not None
            assert before + SECONDS <= found.ends_at <= time.time() + SECONDS
            with pytest.raises(NotImportedError, match="expired"):
                await imported(peer.importer, identity, now=time.time() + SECONDS + 1)
            with pytest.raises(NotImportedError, match="expired"):
                await imported(peer.importer, identity, now=time.time() - 70)
            await redis_client.expire(peer.key(identity), 60)
            found = await imported(peer.importer, identity)
            assert found is not None
            assert found.ends_at is not None
            assert found.ends_at <= time.time() + 60


class TestWhatIsNotTheirs:
    @pytest.mark.parametrize(
        "value",
        [b"[]", b"null", b"{", b"\xff\xfe", b"\x80\x04}q\x00.", b"[" * 100_000, b'{"a":' * 100_000],
        ids=["list", "null", "cut off", "no text", "pickle", "deep", "deeper"],
    )
    async def test_garbage_in_a_record(self, peer_of: Callable[..., Any], redis_client: Redis, value: bytes) -> None:
        async with peer_of() as peer:
            await redis_client.set(peer.key(STARSESSIONS_ID), value, ex=60)
            with pytest.raises(NotImportedError, match="malformed"):
                await imported(peer.importer, STARSESSIONS_ID)

    async def test_an_envelope_without_a_session(self, redis_client: Redis, redis_prefix: str) -> None:
        async with aiohttp_peer(redis_client, redis_prefix) as peer:
            for envelope in ('{"created": 1}', '{"created": 1, "session": []}', '{"a": 1}'):
                await redis_client.set(peer.key(STARSESSIONS_ID), envelope, ex=60)
                with pytest.raises(NotImportedError, match="malformed"):
                    await imported(peer.importer, STARSESSIONS_ID)

    async def test_a_record_without_a_time_is_of_no_age(self, peer_of: Callable[..., Any], redis_client: Redis) -> None:
        async with peer_of(max_age=WEEK) as peer:
            for metadata in ({}, {"__metadata__": 1}, {"__metadata__": {"created": "now"}}):
                await redis_client.set(peer.key(STARSESSIONS_ID), json.dumps({"session": {}, **metadata}), ex=60)
                with pytest.raises(NotImportedError, match="malformed"):
                    await imported(peer.importer, STARSESSIONS_ID)

    async def test_what_is_no_string(self, peer_of: Callable[..., Any], redis_client: Redis) -> None:
        """Clients choose how the key ends: that must be no failure of the backend."""
        async with peer_of() as peer:
            await redis_client.hset(peer.key(STARSESSIONS_ID), "field", "value")
            with pytest.raises(NotImportedError, match="malformed"):
                await imported(peer.importer, STARSESSIONS_ID)

    @pytest.mark.parametrize("text", ["", "a" * 257, "a b", "a\n", "é", "\ud800", "a\x00", "a\x7f"])
    async def test_an_id_that_no_cookie_can_have(self, peer_of: Callable[..., Any], text: str) -> None:
        async with peer_of() as peer:
            with pytest.raises(NotImportedError, match="forged"):
                peer.importer.open(text, now=0)

    @pytest.mark.parametrize("text", ["''", "A" * 32, "a" * 31, "a" * 33, "g" * 32, "a" * 31 + "*", "١" * 32])
    async def test_an_id_that_starsessions_does_not_make(self, redis_client: Redis, text: str) -> None:
        importer: Importer[Data] = StarsessionsRedis(redis_client)
        with pytest.raises(NotImportedError, match="forged"):
            importer.open(text, now=0)


class TestDelete:
    async def test_their_record_goes(self, peer_of: Callable[..., Any], redis_client: Redis) -> None:
        async with peer_of() as peer:
            identity, other = await peer.kept({"a": 1}), await peer.kept({"a": 2})
            assert identity != other
            await peer.importer.delete(identity)
            assert await redis_client.exists(peer.key(identity)) == 0
            assert await redis_client.exists(peer.key(other)) == 1
            await peer.importer.delete(identity)

    async def test_it_stays_where_the_application_wants_that(
        self, peer_of: Callable[..., Any], redis_client: Redis
    ) -> None:
        async with peer_of(delete=False) as peer:
            identity = await peer.kept({"a": 1})
            await peer.importer.delete(identity)
            assert await redis_client.exists(peer.key(identity)) == 1


class TestFailures:
    async def test_a_server_that_is_not_there(self, peer_of: Callable[..., Any]) -> None:
        async with Redis(port=free_port(), retry=NO_RETRY) as client, peer_of(client) as peer:
            for call in (peer.importer.fetch(STARSESSIONS_ID, now=0), peer.importer.delete(STARSESSIONS_ID)):
                with pytest.raises(StorerError) as failure:
                    await call
                assert isinstance(failure.value.__cause__, Exception)
                assert STARSESSIONS_ID not in f"{failure.value} {failure.value.__cause__}"

    async def test_one_that_does_not_answer_in_time(
        self, peer_of: Callable[..., Any], valkey_server: ValkeyServer
    ) -> None:
        """And works again afterwards."""
        async with (
            Proxy(valkey_server.host, valkey_server.port) as proxy,
            Redis(port=proxy.port) as client,
            peer_of(client, timeout=timedelta(seconds=0.2)) as peer,
        ):
            identity = await peer.kept({"a": 1})
            proxy.silent = True
            for call in (peer.importer.fetch(identity, now=0), peer.importer.delete(identity)):
                begun = time.monotonic()
                with pytest.raises(StorerError, match=r"within 0\.2 s"):
                    await call
                assert time.monotonic() - begun < 2
            proxy.silent = False
            proxy.cut()
            await peer.kept({"a": 1})
            assert await imported(peer.importer, await peer.kept({"a": 2})) is not None

    async def test_what_the_server_refuses_is_told_without_the_id(
        self, peer_of: Callable[..., Any], redis_client: Redis, valkey_server: ValkeyServer
    ) -> None:
        user = f"user{uuid.uuid4().hex}"
        valkey_server.ask("ACL", "SETUSER", user, "on", "nopass", "+get", "~*")
        async with Redis(port=valkey_server.port, username=user, password="any") as client, peer_of(client) as peer:
            await redis_client.set(peer.key(STARSESSIONS_ID), b"{}", ex=60)
            for call in (peer.importer.fetch(STARSESSIONS_ID, now=0), peer.importer.delete(STARSESSIONS_ID)):
                with pytest.raises(StorerError, match="NoPermissionError") as failure:
                    await call
                assert STARSESSIONS_ID not in f"{failure.value} {failure.value.__cause__}"


class TestConfiguration:
    @pytest.mark.parametrize("importer_of", [StarsessionsRedis, AiohttpRedis])
    async def test_what_cannot_work_is_refused(self, importer_of: Any, redis_client: Redis) -> None:
        with pytest.raises(ConfigError, match="redis"):
            importer_of(object())
        with pytest.raises(ConfigError, match="timeout"):
            importer_of(redis_client, timeout=timedelta(0))
        async with Redis(decode_responses=True) as client:
            with pytest.raises(ConfigError, match="decode_responses"):
                importer_of(client)
