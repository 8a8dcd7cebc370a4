"""Streams in five frameworks: the answer's headers leave early, and the handler's session grows old."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from aiosessions import ResponseStartedError
from tests.integrations.apps import FRAMEWORKS, Basket, House, Reply
from tests.integrations.stage import ASYNCIO, Backend, Case, Stage, twin

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


@pytest.fixture(params=FRAMEWORKS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(Case(request.param, "storage", "cookie", "plain"))


def streaming(stage: Stage, go_on: anyio.Event, late: Any) -> None:
    """Have a page `events` that adds one, says so, waits, and then does what is given."""

    async def events(house: House, request: Any) -> Reply:
        session = await house.store.get(request)
        session.value.count += 1

        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun "
            await go_on.wait()
            yield (await late(house, session)).encode()

        return Reply(chunks=chunks())

    stage.house.pages = {**stage.house.pages, "events": events}


async def test_a_stream_that_ends_late_overwrites_nothing(stage: Stage) -> None:
    """R13: what it changed before its headers is there, and so is what others wrote meanwhile."""
    go_on = anyio.Event()

    async def late(_: House, session: Any) -> str:
        session.value.count += 100  # and never saved
        return "done"

    streaming(stage, go_on, late)
    async with stage.open() as browser:
        await browser.get("/add")
        stage.calls()
        async with browser.stream("/events") as stream:
            assert stage.calls() == ["read", "replace"]
            assert (await browser.get("/add")).text.startswith("3 known")
            go_on.set()
            assert await stream.read() == b"begun done"
        stage.calls()
        assert (await browser.get("/read")).text.startswith("3 known")


async def test_a_stream_may_update_what_others_write(stage: Stage) -> None:
    """R13, R12: `update` runs on the newest value; the stream's own session sees the result."""
    go_on = anyio.Event()

    def ten_more(basket: Basket) -> None:
        basket.count += 10

    async def late(house: House, session: Any) -> str:
        await house.store.update(session, ten_more)
        return str(session.value.count)

    streaming(stage, go_on, late)
    async with stage.open() as browser:
        await browser.get("/add")
        async with browser.stream("/events") as stream:
            await browser.get("/add")
            go_on.set()
            assert await stream.read() == b"begun 13"
        assert (await browser.get("/read")).text.startswith("13 known")


async def test_a_stream_cannot_log_in_after_its_headers(stage: Stage) -> None:
    """R13, R11: the token has no way to the client, and the old one stays good."""
    go_on = anyio.Event()

    async def late(house: House, session: Any) -> str:
        session.set_user("ann")
        try:
            await house.store.save(session)
        except ResponseStartedError:
            return "too late"
        return "logged in"

    streaming(stage, go_on, late)
    async with stage.open() as browser:
        await browser.get("/add")
        async with browser.stream("/events") as stream:
            go_on.set()
            assert await stream.read() == b"begun too late"
        assert (await browser.get("/read")).text == "2 known user=None flashes="


async def test_a_stream_does_not_bring_a_session_back(stage: Stage) -> None:
    """R13, F4, F14: after a logout elsewhere a late save is dropped."""
    go_on = anyio.Event()

    async def late(house: House, session: Any) -> str:
        session.value.count += 100
        await house.store.save(session)
        return "dropped"

    streaming(stage, go_on, late)
    async with stage.open() as browser:
        await browser.get("/login")
        thief = twin(browser)
        async with browser.stream("/events") as stream:
            await browser.get("/destroy")
            go_on.set()
            assert await stream.read() == b"begun dropped"
        assert await stage.storer.stored() == []
        assert (await thief.get("/read")).text.startswith("0 new")
