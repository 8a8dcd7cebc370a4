"""One application behind uvicorn, in a process of its own: `python -m tests.benchmarks.served NAME FD VALKEY_PORT`."""

import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack

import uvicorn
import uvloop
from redis.asyncio import Redis

from aiosessions import AESGCMSealer, CookieOverseer, MemoryStorer, StorageOverseer, Storer, new_key
from aiosessions.storers.redis import RedisStorer
from tests.benchmarks import peers
from tests.benchmarks.pages import Application, ASGIApp, Shop, bare, ours

__all__ = ["NAMES"]

_PEERS: dict[str, Callable[[Redis], Application]] = {
    "Starlette SessionMiddleware (signed)": lambda _: peers.starlette_signed(),
    "starsessions CookieStore (signed)": lambda _: peers.starsessions_cookie(),
    "starsessions InMemoryStore": lambda _: peers.starsessions_memory(),
    "starsessions RedisStore": peers.starsessions_redis,
    "Litestar client-side (AES-GCM)": lambda _: peers.litestar_client_side(),
}
_STORERS: dict[str, Callable[[Redis], Storer]] = {
    "aiosessions MemoryStorer": lambda _: MemoryStorer(),
    "aiosessions RedisStorer": RedisStorer,
}
_BARE = "no sessions"
_BARE_LITESTAR = "no sessions, Litestar"
_COOKIE = "aiosessions CookieOverseer(AESGCMSealer)"

NAMES = (_BARE, _COOKIE, *_STORERS, *list(_PEERS)[:-1], _BARE_LITESTAR, *list(_PEERS)[-1:])


async def _serve(name: str, listener: socket.socket, valkey_port: int) -> None:
    async with AsyncExitStack() as stack:
        app = await _app(name, await stack.enter_async_context(Redis(port=valkey_port)), stack)
        # A server behind a proxy, as it is where cookies are Secure.
        config = uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning", proxy_headers=True)
        await uvicorn.Server(config).serve(sockets=[listener])


async def _app(name: str, client: Redis, stack: AsyncExitStack) -> ASGIApp:
    if name in _STORERS:
        store = StorageOverseer(Shop, _STORERS[name](client))
        return ours(name, await stack.enter_async_context(store)).app
    if name == _COOKIE:
        return ours(name, CookieOverseer(Shop, AESGCMSealer(new_key()))).app
    if name in _PEERS:
        return _PEERS[name](client).app
    return bare if name == _BARE else peers.litestar_client_side().without


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3])))
