"""A scripted visit over loopback: uvicorn, hypercorn (asyncio and trio) and aiohttp's own server."""

import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import anyio
import hypercorn.asyncio
import hypercorn.trio
import pytest
import uvicorn
import websockets
from aiohttp import web
from hypercorn.config import Config

from aiosessions.testing import Browser
from tests.integrations import test_refused as refused
from tests.integrations.apps import FRAMEWORKS
from tests.integrations.stage import ASYNCIO, TRIO, UVLOOP, Backend, Case, Stage, twin
from tests.integrations.test_websockets import SOCKETS

pytestmark = pytest.mark.anyio

Serve = Callable[[Any, socket.socket], AbstractAsyncContextManager[None]]
"""Any: each framework's own application"""
Served: TypeAlias = tuple[str, Serve, Backend]


class QuietUvicorn(uvicorn.Server):
    """Leaves the signal handlers to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def under_uvicorn(app: Any, listener: socket.socket) -> AsyncGenerator[None]:
    server = QuietUvicorn(uvicorn.Config(app, lifespan="on", log_config=None, timeout_graceful_shutdown=5))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        yield
        server.should_exit = True


def under_hypercorn(serve: Callable[..., Coroutine[Any, Any, None]]) -> Serve:
    @asynccontextmanager
    async def running(app: Any, listener: socket.socket) -> AsyncGenerator[None]:
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.graceful_timeout = 5
        stop = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: serve(app, config, shutdown_trigger=stop.wait))
            yield
            stop.set()

    return running


@asynccontextmanager
async def under_aiohttp(app: web.Application, listener: socket.socket) -> AsyncGenerator[None]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield
    finally:
        await runner.cleanup()


# Any: they take WSGI applications too, and leave the types of those open
_on_asyncio: Any = vars(hypercorn.asyncio)["serve"]
_on_trio: Any = vars(hypercorn.trio)["serve"]

SERVED: dict[str, Served] = {
    "starlette-uvicorn-uvloop": ("starlette", under_uvicorn, UVLOOP),
    "litestar-uvicorn": ("litestar", under_uvicorn, ASYNCIO),
    "fastapi-hypercorn": ("fastapi", under_hypercorn(_on_asyncio), ASYNCIO),
    "quart-hypercorn": ("quart", under_hypercorn(_on_asyncio), ASYNCIO),
    "starlette-hypercorn-trio": ("starlette", under_hypercorn(_on_trio), TRIO),
    "aiohttp": ("aiohttp", under_aiohttp, ASYNCIO),
}


@pytest.fixture(params=SERVED)
def served(request: pytest.FixtureRequest) -> Served:
    name: str = request.param
    return SERVED[name]


@pytest.fixture
def anyio_backend(served: Served) -> Backend:
    return served[2]


@pytest.fixture(params=["storage", "client"])
def stage(request: pytest.FixtureRequest, served: Served) -> Stage:
    stage = Stage(Case(served[0], request.param, "cookie", "aesgcm"))
    stage.house.sockets = SOCKETS
    return stage


@asynccontextmanager
async def visit(stage: Stage, serve: Serve) -> AsyncGenerator[Browser]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serve(FRAMEWORKS[stage.case.framework](stage.house), listener), Browser(address) as browser:
            yield browser


async def test_a_visit_over_real_http(stage: Stage, served: Served) -> None:
    """R1-R4, R7, R8, R10, R16: what holds in process holds through a server."""
    is_stored = stage.case.is_stored
    async with visit(stage, served[1]) as browser:
        response = await browser.get("/nothing")
        assert (response.text, response.set_cookies) == ("nothing", [])
        assert (await browser.get("/add")).text.startswith("1 new")
        response = await browser.get("/read")
        assert (response.text, response.set_cookies) == ("1 known user=None flashes=", [])
        response = await browser.get("/redirect", follow=True)
        assert response.text.startswith("2 known")
        async with browser.stream("/stream") as stream:
            assert await stream.read() == b"one two"

        old = twin(browser)
        await browser.get("/login")
        assert (await browser.get("/read")).text == "3 known user=ann flashes="
        if is_stored:
            assert (await old.get("/read")).text.startswith("0 new")
        assert (await browser.another().get("/read")).text.startswith("0 new")

        assert (await browser.get("/fail")).status == 500
        assert (await browser.get("/conflict")).status == 409
        assert (await browser.get("/nan")).status == 500
        assert (await browser.get("/read")).text == "3 known user=ann flashes="

        assert (await browser.get("/destroy_and_raise")).status == 500
        assert len(browser.cookies) == 0
        assert await stage.storer.stored() == []


@pytest.mark.parametrize("served", [name for name in SERVED if "trio" not in name], indirect=True)  # nor is the client
async def test_a_websocket_handshake_over_real_http(stage: Stage, served: Served) -> None:
    """R12: the answer to the handshake, accepted or denied, sets the cookie."""
    async with visit(stage, served[1]) as browser:
        address = browser.base_url.replace("http", "ws", 1)
        async with websockets.connect(f"{address}/ws/greet") as client:
            assert await client.recv() == "1"
            assert client.response is not None
            cookie = client.response.headers["Set-Cookie"]
        assert (await browser.get("/read", headers={"Cookie": cookie.partition(";")[0]})).text.startswith("1 known")

        with pytest.raises(websockets.InvalidStatus) as denied:
            await websockets.connect(f"{address}/ws/refuse")
        assert denied.value.response.status_code == 403
        cookie = denied.value.response.headers["Set-Cookie"]
        assert (await browser.get("/flashes", headers={"Cookie": cookie.partition(";")[0]})).text == "not here"


@pytest.mark.parametrize("served", [name for name in SERVED if "trio" not in name], indirect=True)
async def test_nobody_is_refused_over_real_http(served: Served) -> None:
    """R10, R12: 401 with its challenge; a socket 403, and 1008 once it was accepted."""
    stage = Stage(Case(served[0], "storage", "cookie", "plain"), pages=refused.PAGES)
    stage.house.sockets = refused.SOCKETS
    async with visit(stage, served[1]) as browser:
        response = await browser.get("/user")
        assert (response.status, response.headers["www-authenticate"]) == (401, "Session")
        assert len(response.set_cookies) == 1

        address = browser.base_url.replace("http", "ws", 1)
        with pytest.raises(websockets.InvalidStatus) as denied:
            await websockets.connect(f"{address}/ws/early")
        assert denied.value.response.status_code == 403
        async with websockets.connect(f"{address}/ws/late") as client:
            assert await client.recv() == "hello"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
