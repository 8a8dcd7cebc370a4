"""Runs the shop on loopback."""

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import uvicorn
from starlette.routing import BaseRoute

from aiosessions import AESGCMSealer, CookieOverseer, CookieTransport, StorageOverseer, new_key
from aiosessions.demo.narrator import NarratedApp, NarratedStorer, Notes, note_event
from aiosessions.demo.page import Cart, Preferences
from aiosessions.demo.shop import make_app

__all__ = ["make_server", "serving"]

Tell = Callable[[Notes], None]
MoreRoutes = Callable[[StorageOverseer[Cart]], Sequence[BaseRoute]]


def make_server(folder: Path, host: str, port: int, tell: Tell, more: MoreRoutes = lambda _: ()) -> uvicorn.Server:
    """A server of the shop, whose sessions and key are in a folder.

    Args:
        folder: survives a restart.
        host: the address to listen on.
        port: 0: any free one.
        tell: gets the notes of each request.
        more: further routes.
    """
    transport = CookieTransport.debug()  # plain http, on one's own machine
    shop = StorageOverseer(
        Cart, NarratedStorer(folder / "sessions"), name="shop", transport=transport, on_event=note_event
    )
    prefs = CookieOverseer(
        Preferences, AESGCMSealer(_key(folder / "key")), name="prefs", transport=transport, on_event=note_event
    )
    app = NarratedApp(make_app(shop, prefs, more=more(shop)), tell)
    return uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="on"))


@asynccontextmanager
async def serving(folder: Path, port: int, tell: Tell, more: MoreRoutes) -> AsyncGenerator[int]:
    """The shop, served on loopback until the end of the block; gives the port."""
    server = make_server(folder, "127.0.0.1", port, tell, more)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await anyio.sleep(0.005)
        try:
            bound: int = server.servers[0].sockets[0].getsockname()[1]
            yield bound
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
