"""A client hangs up, or a server cancels: what the request destroyed has ended, and nothing else is written."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from aiosessions.testing import Browser
from tests.integrations.apps import FRAMEWORKS, House, Reply, Socket
from tests.integrations.stage import ASYNCIO, Backend, Case, Stage, twin

pytestmark = pytest.mark.anyio

SECONDS = 10
"""What nothing here takes: one that waits for ever is a failure."""


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


@pytest.fixture(params=FRAMEWORKS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(Case(request.param, "storage", "cookie", "plain"))


def waiting(stage: Stage) -> anyio.Event:
    """Have a page that changes the theme, logs out, and never answers; set when it has logged out."""
    reached = anyio.Event()

    async def wait(house: House, request: Any) -> Reply:  # Any: each framework's own, here and below
        (await house.theme.get(request)).value.color = "dark"
        (await house.store.get(request)).destroy()
        reached.set()
        await anyio.sleep_forever()
        return Reply("not reached")

    stage.house.pages = {**stage.house.pages, "wait": wait}
    return reached


async def hang_up(browser: Browser, reached: anyio.Event, *, is_stream: bool) -> None:
    async def ask() -> None:
        if is_stream:
            async with browser.stream("/wait"):
                raise AssertionError("not reached")
        await browser.get("/wait")

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await reached.wait()
            tasks.cancel_scope.cancel()


async def ended(stage: Stage) -> None:
    """Wait until no session is left: the server may be at work when its client has gone."""
    with anyio.fail_after(SECONDS):
        while await stage.storer.stored():
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("stage", ["starlette", "fastapi", "litestar", "quart"], indirect=True)
async def test_a_request_that_the_server_cancels_has_logged_out(stage: Stage) -> None:
    """F14, R7, R10: and what else it had changed is not written."""
    reached = waiting(stage)
    async with stage.open() as browser:
        await browser.get("/login")
        stage.calls()
        thief = twin(browser)
        await hang_up(browser, reached, is_stream=False)
        assert stage.calls() == ["read", "delete"]
        assert (await thief.get("/read")).text.startswith("0 new user=None")


@pytest.mark.parametrize("stage", ["quart"], indirect=True)
async def test_a_request_that_the_framework_cancels_has_logged_out(stage: Stage) -> None:
    """F14, R7: Quart does when the client goes, and tells nobody further out."""
    reached = waiting(stage)
    async with stage.open() as browser:
        await browser.get("/login")
        stage.calls()
        await hang_up(browser, reached, is_stream=True)
        await ended(stage)
        assert stage.calls() == ["read", "delete"]


@pytest.mark.parametrize("fails", [False, True], ids=["ends", "fails"])
async def test_a_stream_that_logs_out_after_its_headers_has_logged_out(stage: Stage, fails: bool) -> None:
    """F14, R7: without a save; what else it had changed is not written (R13)."""
    is_out = anyio.Event()

    async def events(house: House, request: Any) -> Reply:
        session, theme = await house.store.get(request), await house.theme.get(request)

        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun"
            theme.value.color = "dark"
            session.destroy()
            is_out.set()
            if fails:
                raise RuntimeError("the stream failed")

        return Reply(chunks=chunks())

    stage.house.pages = {**stage.house.pages, "events": events}
    async with stage.open() as browser:
        await browser.get("/login")
        stage.calls()
        with anyio.fail_after(SECONDS):
            async with browser.stream("/events") as stream:
                assert await anext(aiter(stream)) == b"begun"
                await is_out.wait()
        await ended(stage)
        assert stage.calls() == ["read", "delete"]


async def test_a_websocket_that_logs_out_and_is_left_has_logged_out(stage: Stage) -> None:
    """F14, R7, R12: the client goes before the socket saves."""

    async def live(house: House, request: Any, socket: Socket) -> None:
        session = await house.store.get(request)
        await socket.accept()
        session.destroy()
        await socket.send("logged out")
        await socket.receive()

    stage.house.sockets = {"live": live}
    async with stage.open() as browser:
        await browser.get("/login")
        stage.calls()
        with anyio.fail_after(SECONDS):
            async with browser.websocket("/ws/live") as socket:
                assert await socket.receive_text() == "logged out"
        await ended(stage)
        assert stage.calls() == ["read", "delete"]


async def test_a_logout_that_cannot_be_carried_out_is_tried_and_said_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """F14, S13: a request does not wait again and again for a backend that is away."""

    async def fail(house: House, request: Any) -> Reply:
        (await house.store.get(request)).destroy()
        raise RuntimeError("the page failed")

    stage.house.pages = {**stage.house.pages, "fail": fail}
    async with stage.open() as browser:
        await browser.get("/login")
        stage.calls()
        stage.storer.fails = lambda method, _: method == "delete"
        assert (await browser.get("/fail")).status == 500
        assert stage.calls() == ["read", "delete"]
    assert caplog.text.count("session app could not be destroyed") == 1
