"""An application under load changes from other session software to ours, in a rolling deployment.

Clients whom a newer worker has answered stay on newer workers, as a load balancer can do by our cookie. Nobody is
logged out, nothing of a session is lost, each is imported once, and a forged one never.
"""

import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp_session
import anyio
import anyio.lowlevel
import pytest
import quart
import starsessions
from aiohttp import web
from aiohttp.test_utils import TestServer as AiohttpServer
from aiohttp_session import AbstractStorage
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.nacl_storage import NaClCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starsessions.stores.redis import RedisStore

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    CookieTransport,
    Event,
    RedisStorer,
    StorageOverseer,
    Store,
    new_key,
)
from aiosessions.asgi import SessionMiddleware
from aiosessions.migration import (
    AiohttpCookie,
    AiohttpRedis,
    FlaskCookie,
    Importer,
    StarletteCookie,
    StarsessionsRedis,
)
from aiosessions.testing import Browser
from aiosessions.testing import Response as Answer
from tests.drills.carts import served
from tests.servers import ValkeyServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning"),  # aiohttp-session's own
]

SECRET = "a secret of before"
KEY = bytes(range(32))
STEPS = 7


@dataclass
class Shop:
    cart: list[str] = field(default_factory=list[str])


def act(session: Any, query: Any) -> dict[str, Any]:
    """What a page of before does with whatever its session software gives it."""
    if "user" in query:
        session["user"] = query["user"]
    if "item" in query:
        session["cart"] = [*session.get("cart", []), query["item"]]
    return {"user": session.get("user"), "cart": session.get("cart", [])}


def user_of(keys: dict[str, Any]) -> str | None:
    user: str | None = keys.get("user")
    return user


# before


def on_starlette(_: Redis) -> Any:
    async def page(request: Request) -> Response:
        return JSONResponse(act(request.session, request.query_params))

    return Starlette(routes=[Route("/", page)], middleware=[Middleware(StarletteSessions, secret_key=SECRET)])


def on_quart(_: Redis) -> Any:
    app = quart.Quart("before")
    app.secret_key = SECRET

    async def page() -> dict[str, Any]:
        return act(quart.session, quart.request.args)

    app.add_url_rule("/", view_func=page)
    return app


def on_starsessions(client: Redis) -> Any:
    async def page(request: Request) -> Response:
        await starsessions.load_session(request)
        return JSONResponse(act(request.session, request.query_params))

    store = RedisStore(connection=client)
    sessions = Middleware(starsessions.SessionMiddleware, store=store, lifetime=3600, cookie_https_only=False)
    return Starlette(routes=[Route("/", page)], middleware=[sessions])


def on_aiohttp(storage: AbstractStorage) -> web.Application:
    async def page(request: web.Request) -> web.Response:
        return web.json_response(act(await aiohttp_session.get_session(request), request.query))

    app = web.Application()
    aiohttp_session.setup(app, storage)
    app.add_routes([web.get("/", page)])
    return app


@dataclass(frozen=True)
class Peer:
    before: Callable[[Redis], Any]
    importer: Callable[[Redis], Importer[Shop]]
    cookie: str = "session"


AIOHTTP = "AIOHTTP_SESSION"
PEERS = {
    "starlette": Peer(on_starlette, lambda _: StarletteCookie(SECRET, user=user_of)),
    "quart": Peer(on_quart, lambda _: FlaskCookie(SECRET, user=user_of)),
    "starsessions": Peer(on_starsessions, lambda client: StarsessionsRedis(client, user=user_of)),
    "fernet": Peer(
        lambda _: on_aiohttp(EncryptedCookieStorage(KEY)), lambda _: AiohttpCookie(KEY, user=user_of), AIOHTTP
    ),
    "nacl": Peer(lambda _: on_aiohttp(NaClCookieStorage(KEY)), lambda _: AiohttpCookie(KEY, user=user_of), AIOHTTP),
    "aiohttp-redis": Peer(
        lambda client: on_aiohttp(RedisStorage(client)), lambda client: AiohttpRedis(client, user=user_of), AIOHTTP
    ),
}


# after


def on_ours(store: Store[Shop]) -> Starlette:
    async def page(request: Request) -> Response:
        session = await store.get(request)
        if "item" in request.query_params:
            session.value.cart.append(request.query_params["item"])
        return JSONResponse({"user": session.user_id, "cart": session.value.cart})

    async def logout(request: Request) -> Response:
        (await store.get(request)).destroy()
        return Response()

    routes = [Route("/", page), Route("/logout", logout)]
    return Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, stores=[store])])


@dataclass
class Deployment:
    """One older worker, two newer ones, and a load balancer.

    Args:
        peer: what is left.
        older: the address of a worker.
        newer: likewise.
        events: of the newer workers.
        merges: whether two requests of one client at once are both kept.
        progress: how many of the requests that may go anywhere go to a newer worker: 0 to 1.
    """

    peer: Peer
    older: str
    newer: list[str]
    events: list[Event]
    merges: bool
    progress: float = 0.0

    def worker(self, browser: Browser, *, newer: bool = False) -> str:
        if newer or "app" in browser.cookies or random.random() < self.progress:  # a load balancer's
            return random.choice(self.newer)  # likewise
        return self.older

    def imported(self) -> int:
        return Counter(event.kind for event in self.events)["imported"]


@asynccontextmanager
async def deployment(peer: Peer, kept: str, server: ValkeyServer) -> AsyncGenerator[Deployment]:
    async with AsyncExitStack() as stack:
        client = Redis(host=server.host, port=server.port, max_connections=200)
        stack.push_async_callback(client.aclose)
        app = peer.before(client)
        if isinstance(app, web.Application):
            host = await stack.enter_async_context(AiohttpServer(app))
            older = str(host.make_url("")).rstrip("/")
        else:
            older = await stack.enter_async_context(served(app))
        key, events = new_key(), list[Event]()
        newer: list[str] = []
        for _ in range(2):
            shared: dict[str, Any] = {
                "transport": CookieTransport.debug(),
                "on_event": events.append,
                "imports": [peer.importer(client)],
            }
            storer = RedisStorer.from_url(f"redis://{server.host}:{server.port}")
            store: Store[Shop] = (
                StorageOverseer(Shop, storer, clean_every=None, **shared)
                if kept == "stored"
                else CookieOverseer(Shop, AESGCMSealer(key), revocations=storer, **shared)
            )
            newer.append(await stack.enter_async_context(served(on_ours(store))))
        yield Deployment(peer, older, newer, events, merges=kept == "stored")


@dataclass
class Client:
    """Somebody with a cart, who was logged in before the switch."""

    at: Deployment
    name: str
    browser: Browser
    confirmed: list[str] = field(default_factory=list[str])
    old: str = ""

    async def ask(self, path: str, *, newer: bool = False) -> Answer:
        worker = self.at.worker(self.browser, newer=newer)
        answer = await self.browser.get(worker + path)
        assert answer.status == 200, (worker, answer.status, answer.text)
        return answer

    async def begin(self) -> None:
        await self.ask(f"/?user={self.name}")
        await self.add("first")

    async def add(self, item: str, *, newer: bool = False) -> None:
        self.old = self.browser.cookies.get(self.at.peer.cookie) or self.old
        said = (await self.ask(f"/?item={item}", newer=newer)).json()
        self.confirmed.append(item)
        assert said["user"] == self.name, "logged out"
        assert set(self.confirmed) <= set(said["cart"]) or not self.at.merges, "lost"

    async def shop(self) -> None:
        """One thing after the other; once, when it is its turn to meet a newer worker, two at once."""
        for step in range(STEPS):
            is_first = "app" not in self.browser.cookies
            if is_first and random.random() < self.at.progress:  # no secret
                await self.meet(step)
            else:
                await self.add(f"{step}")
            await anyio.lowlevel.checkpoint()

    async def meet(self, step: int) -> None:
        """Two requests bring one older cookie at once."""
        self.old = self.browser.cookies.get(self.at.peer.cookie) or self.old
        async with anyio.create_task_group() as tasks:
            for item in (f"{step}a", f"{step}b") if self.at.merges else (f"{step}",):
                tasks.start_soon(self.one_of_two, item)
            if not self.at.merges:
                tasks.start_soon(self.reads)

    async def one_of_two(self, item: str) -> None:
        answer = await self.ask(f"/?item={item}", newer=True)
        assert answer.json()["user"] == self.name, "logged out"
        self.confirmed.append(item)

    async def reads(self) -> None:
        answer = await self.ask("/", newer=True)
        assert answer.json()["user"] == self.name, "logged out"

    async def forge(self) -> None:
        """Somebody else tries what looks like it."""
        at = random.randrange(len(self.old))  # no secret
        other = "A" if self.old[at] != "A" else "B"
        forged = self.old[:at] + other + self.old[at + 1 :]
        for cookie in (forged, self.old[:-8], f"{self.old}; {self.at.peer.cookie}={self.old}"):
            headers = {"Cookie": f"{self.at.peer.cookie}={cookie}"}
            answer = await self.browser.another().get(random.choice(self.at.newer), headers=headers)
            assert answer.json() == {"user": None, "cart": []}, "forged"

    async def end(self) -> None:
        """All there, logged out, and what comes back opens nothing."""
        self.old = self.browser.cookies.get(self.at.peer.cookie) or self.old
        said = (await self.ask("/", newer=True)).json()
        assert said["user"] == self.name, "logged out"
        assert sorted(said["cart"]) == sorted(self.confirmed), "lost"
        await self.ask("/logout")
        headers = {"Cookie": f"{self.at.peer.cookie}={self.old}"}
        for worker in self.at.newer:
            answer = await self.browser.another().get(worker, headers=headers)
            assert answer.json() == {"user": None, "cart": []}, "imported again"


@pytest.mark.parametrize("kept", ["stored", "revocable"])
@pytest.mark.parametrize("peer", PEERS)
async def test_a_rolling_deployment_logs_nobody_out(
    peer: str, kept: str, valkey_server: ValkeyServer, *, full: bool
) -> None:
    """R18, F1, F3, F4: nobody logged out, nothing lost, no forged and no repeated import."""
    size = 300 if full else 10
    async with deployment(PEERS[peer], kept, valkey_server) as at, Browser(at.older) as browser:
        clients = [Client(at, f"user-{number}", browser.another()) for number in range(size)]
        await each(clients, Client.begin)
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(client.shop)
            for done in range(1, 11):
                at.progress = done / 10
                await each(random.sample(clients, size // 10), Client.forge)
        await each(clients, Client.end)
        assert at.imported() == size
        assert not [event for event in at.events if event.kind in ("unreadable", "store_failed", "conflict")]


async def each(clients: list[Client], do: Callable[[Client], Any]) -> None:
    """All at once, a bounded number at a time."""
    limit = anyio.CapacityLimiter(50)

    async def one(client: Client) -> None:
        async with limit:
            await do(client)

    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(one, client)
