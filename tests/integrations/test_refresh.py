"""Sessions that no handler looks at stay alive under traffic, in five frameworks."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aiosessions import Lifetime, MemoryStorer, StorageOverseer, Store
from aiosessions.asgi import SessionMiddleware
from aiosessions.testing import Browser, Clock
from tests.integrations.apps import FRAMEWORKS, House, Reply
from tests.integrations.stage import ASYNCIO, Backend, Case, CountingStorer, Stage

pytestmark = pytest.mark.anyio

HOUR = Lifetime(timedelta(hours=1))


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


async def other(house: House, request: Any) -> Reply:  # Any: each framework's own
    session = await house.store.get(request, "other")
    session.value.count += 1
    return Reply(str(session.value.count))


@pytest.fixture(params=FRAMEWORKS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(Case(request.param, "storage", "cookie", "plain"), pages={"other": other}, lifetime=HOUR)


async def traffic(stage: Stage, browser: Browser) -> list[str]:
    """Two hours of pages that look at nothing."""
    stage.calls()
    for _ in range(3):
        stage.clock.advance(timedelta(minutes=40))
        for _ in range(2):
            assert (await browser.get("/nothing")).set_cookies == []
    return stage.calls()


async def test_a_session_that_nobody_looks_at_stays_alive(stage: Stage) -> None:
    """R17: one read per request, one touch per window; nobody's costs nothing, and one that is not named ends."""
    stage.house.refresh = [stage.house.store]
    async with stage.open() as browser:
        await browser.get("/nothing")
        assert stage.calls() == []
        await browser.get("/both")
        assert await traffic(stage, browser) == ["read", "touch", "read"] * 3
        assert (await browser.get("/both")).text == "dark"
        assert (await browser.get("/read")).text.startswith("2 known")


async def test_a_store_stands_for_every_name_that_was_opened_through_it(stage: Stage) -> None:
    """R17: also where a page opened it, and no argument names it."""
    stage.house.refresh = [stage.house.store]
    async with stage.open() as browser:
        await browser.get("/other")
        assert await traffic(stage, browser) == ["read", "touch", "read"] * 3
        assert (await browser.get("/other")).text == "2"


async def test_another_name_can_be_given(stage: Stage) -> None:
    """R17: `(store, name)`, for a process that has not opened it yet; the store's own name is not meant."""
    stage.house.refresh = [(stage.house.store, "other")]
    async with stage.open() as browser:
        await browser.get("/add")
        await browser.get("/other")
        assert await traffic(stage, browser) == ["read", "touch", "read"] * 3
        assert (await browser.get("/other")).text == "2"
        assert (await browser.get("/read")).text.startswith("0 new")


def page_of(store: Store[dict[str, int]], *names: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        for name in names:
            (await store.get(request, name)).setdefault("count", 1)
        return PlainTextResponse()

    return page


async def test_a_store_remembers_64_names_at_most() -> None:
    """R17: where visitors choose the names there is no end."""
    clock = Clock()
    storer = CountingStorer(clock=clock)
    store = StorageOverseer(dict[str, int], storer, clock=clock)
    app = Starlette(
        routes=[Route("/", page_of(store)), Route("/open", page_of(store, *(f"name{n}" for n in range(70))))],
        middleware=[Middleware(SessionMiddleware, stores=[store], refresh=[store])],
    )
    async with Browser(app, clock=clock) as browser:
        await browser.get("/open")
        storer.calls.clear()
        await browser.get("/")
        assert storer.calls == ["read"] * 63  # and the store's own, which did not come


@pytest.mark.parametrize("on_storer_error", ["raise", "new"])
async def test_a_backend_that_is_away_is_asked_once(on_storer_error: Literal["raise", "new"]) -> None:
    """R17, S13: each name would wait for the time-out again; and the page is answered."""
    clock = Clock()
    storer = CountingStorer(clock=clock)
    store = StorageOverseer(dict[str, int], storer, on_storer_error=on_storer_error, clock=clock)

    async def look(request: Request) -> Response:
        return PlainTextResponse(str((await store.get(request)).is_degraded))

    app = Starlette(
        routes=[Route("/", page_of(store)), Route("/open", page_of(store, "app", "a", "b")), Route("/look", look)],
        middleware=[Middleware(SessionMiddleware, stores=[store], refresh=[store])],
    )
    async with Browser(app, clock=clock) as browser:
        await browser.get("/open")
        storer.fails = lambda _, __: True
        storer.calls.clear()
        assert (await browser.get("/")).status == 200
        assert storer.calls == ["read"]
        if on_storer_error == "new":
            storer.calls.clear()
            assert (await browser.get("/look")).text == "True"
            assert storer.calls == ["read"]


async def test_a_name_that_one_store_was_opened_by_is_another_s_in_other_requests() -> None:
    """R17, R5: two stores may share a cookie's name, as long as no visitor has both sessions."""
    app, cart = (StorageOverseer(dict[str, int], MemoryStorer(), name=name) for name in ("app", "cart"))
    site = Starlette(
        routes=[
            Route("/", page_of(app)),
            Route("/app", page_of(app, "other")),
            Route("/cart", page_of(cart, "other")),
        ],
        middleware=[Middleware(SessionMiddleware, stores=[app, cart], refresh=[app, cart])],
    )
    async with Browser(site) as browser:
        stranger = browser.another()
        assert len((await browser.get("/app")).set_cookies) == 1
        assert len((await stranger.get("/cart")).set_cookies) == 1
        for visitor in (browser, stranger):
            assert (await visitor.get("/")).status == 200
        assert (await browser.get("/app")).set_cookies == (await stranger.get("/cart")).set_cookies == []
