"""An application with one page, which adds an item to the cart as most applications would: no `update`, no lock."""

import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aiosessions import CookieTransport, StorageOverseer, Storer
from aiosessions.asgi import SessionMiddleware

__all__ = ["Cart", "served", "serving"]


@dataclass
class Cart:
    items: list[int] = field(default_factory=list[int])


class _Uvicorn(uvicorn.Server):
    """Leaves the signal handlers to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def make_app(storer: Storer) -> SessionMiddleware:
    store = StorageOverseer(Cart, storer, transport=CookieTransport.debug(), clean_every=None)

    async def add(request: Request) -> Response:
        session = await store.get(request)
        session.value.items.append(request.path_params["item"])
        return PlainTextResponse("added")

    async def show(request: Request) -> Response:
        session = await store.get(request)
        return PlainTextResponse(" ".join(map(str, session.value.items)))

    return SessionMiddleware(Starlette(routes=[Route("/add/{item:int}", add), Route("/", show)]), stores=[store])


def serving(storer: Storer) -> AbstractAsyncContextManager[str]:
    """The application under uvicorn on loopback; gives its address."""
    return served(make_app(storer))


@asynccontextmanager
async def served(app: Callable[..., Any]) -> AsyncGenerator[str]:  # Any: what ASGI hands around
    """An application under uvicorn on loopback; gives its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        server = _Uvicorn(uvicorn.Config(app, lifespan="auto", log_config=None, backlog=512))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
