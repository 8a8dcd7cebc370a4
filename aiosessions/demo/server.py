"""Runs the shop on loopback."""

import os
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import uvicorn
from starlette.routing import BaseRoute

from aiosessions import CookieTransport, DiskStorer, StorageOverseer, new_key
from aiosessions.demo.cart import Cart
from aiosessions.demo.desk import Desk
from aiosessions.demo.narrator import Notes
from aiosessions.demo.shop import make_app

__all__ = ["Server", "make_server", "serving"]

Tell = Callable[[Notes], None]
MoreRoutes = Callable[[StorageOverseer[Cart]], Sequence[BaseRoute]]


class Server(uvicorn.Server):
    """One that says when it listens.

    Args:
        config: what uvicorn is told.
        bound: called once, with the port.
    """

    def __init__(self, config: uvicorn.Config, bound: Callable[[int], None]) -> None:
        super().__init__(config)
        self._bound = bound

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn; on return it listens, or has given up."""
        await super().startup(sockets)
        if self.started:
            self._bound(self.servers[0].sockets[0].getsockname()[1])


def make_server(
    folder: Path,
    host: str,
    port: int,
    *,
    tell: Tell,
    bound: Callable[[int], None],
    more: MoreRoutes = lambda _: (),
) -> Server:
    """A server of the shop, whose sessions and key are in a folder.

    Args:
        folder: survives a restart.
        host: the address to listen on.
        port: 0: any free one.
        tell: gets the notes of each request.
        bound: called with the port, once the shop can be visited.
        more: further routes.
    """
    desk = Desk(
        DiskStorer(folder / "sessions"),
        keys=_key(folder / "key"),
        transport=CookieTransport.debug(),  # plain http, on one's own machine
        tell=tell,
    )
    app = make_app(desk, more=more(desk.carts))
    return Server(uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="on"), bound)


@asynccontextmanager
async def serving(folder: Path, port: int, tell: Tell, more: MoreRoutes) -> AsyncGenerator[int]:
    """The shop, served on loopback until the end of the block; gives the port."""
    ports: list[int] = []
    is_bound = anyio.Event()

    def bound(port: int) -> None:
        ports.append(port)
        is_bound.set()

    server = make_server(folder, "127.0.0.1", port, tell=tell, bound=bound, more=more)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await is_bound.wait()
        try:
            yield ports[0]
        finally:
            server.should_exit = True


def _key(path: Path) -> str:
    """A key of this folder's own, made on first use and closed to others."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_key())
    except FileExistsError:
        pass
    return path.read_text()
