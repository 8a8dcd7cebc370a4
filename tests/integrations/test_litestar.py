"""Sessions as Litestar's dependencies."""

from typing import Any

import pytest
from litestar import Litestar, Request, Response, Router, WebSocket, get, websocket
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from aiosessions import (
    ConflictError,
    MappingSession,
    MemoryStorer,
    NoSessionError,
    Session,
    SessionError,
    StorageOverseer,
    StorerError,
)
from aiosessions.litestar import SessionPlugin
from aiosessions.testing import Browser, LifespanError
from tests.integrations.apps import Basket, Theme
from tests.integrations.stage import OpenStorer

pytestmark = pytest.mark.anyio

Count = NamedDependency[MappingSession[int]]


@pytest.fixture
def counts() -> StorageOverseer[dict[str, int]]:
    return StorageOverseer(dict[str, int], MemoryStorer())


def site(plugin: SessionPlugin, *handlers: Any, **options: Any) -> Litestar:
    return Litestar(list(handlers), plugins=[plugin], logging_config=None, **options)


async def test_two_stores_give_two_parameters(counts: StorageOverseer[dict[str, int]]) -> None:
    """R5: mappings and dataclasses, in requests and in websockets; the signature is checked by Litestar."""
    baskets = StorageOverseer(Basket, MemoryStorer(), name="basket")

    @get("/")
    async def index(count: Count, basket: NamedDependency[Session[Basket]]) -> str:
        count["n"] = count.get("n", 0) + 1
        basket.value.count -= 1
        return f"{count['n']} {basket.value.count}"

    @websocket("/ws")
    async def live(socket: WebSocket[Any, Any, Any], basket: NamedDependency[Session[Basket]]) -> None:
        await socket.accept()
        await socket.send_text(str(basket.value.count))
        await socket.close()

    async with Browser(site(SessionPlugin(count=counts, basket=baskets), index, live)) as browser:
        assert (await browser.get("/")).text == "1 -1"
        assert (await browser.get("/")).text == "2 -2"
        async with browser.websocket("/ws") as socket:
            assert await socket.receive_text() == "-2"


async def test_guards_and_handlers_share_the_session(counts: StorageOverseer[dict[str, int]]) -> None:
    """R5, R10: `store.get` takes Litestar's own connection."""

    async def members_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        session = await counts.get(connection)
        session["tries"] = session.get("tries", 0) + 1
        if session["tries"] < 3:
            raise NotAuthorizedException

    @get("/", guards=[members_only])
    async def index(count: Count, request: Request[Any, Any, Any]) -> str:
        return str(count is await counts.get(request))

    async with Browser(site(SessionPlugin(count=counts), index)) as browser:
        assert [(await browser.get("/")).status for _ in range(3)] == [401, 401, 200]
        assert (await browser.get("/")).text == "True"


async def test_a_response_in_litestars_cache_holds_no_token(counts: StorageOverseer[dict[str, int]]) -> None:
    """R9: the first visitor's cookie is not sent to the second."""

    @get("/", cache=60)
    async def index(count: Count) -> str:
        count["n"] = 1
        return "cached"

    async with Browser(site(SessionPlugin(count=counts), index)) as browser:
        assert len((await browser.get("/")).set_cookies) == 1
        stranger = browser.another()
        response = await stranger.get("/")
        assert (response.text, response.set_cookies) == ("cached", [])


async def test_the_applications_own_handler_of_a_conflict_wins(counts: StorageOverseer[dict[str, int]]) -> None:
    """R10: its status decides what is saved."""

    @get("/")
    async def index(count: Count) -> None:
        count["n"] = 1
        raise ConflictError("lost")

    def handled(_: Request[Any, Any, Any], error: ConflictError) -> Response[str]:
        return Response(f"handled {error}", status_code=404)

    app = site(SessionPlugin(count=counts), index, exception_handlers={ConflictError: handled})
    async with Browser(app) as browser:
        response = await browser.get("/")
        assert (response.text, len(response.set_cookies)) == ("handled lost", 1)


@pytest.mark.parametrize("debug", [True, False])
async def test_an_error_of_the_applications_is_answered_as_litestar_does(
    counts: StorageOverseer[dict[str, int]], debug: bool
) -> None:
    """R10: one about no session of the request, though its class has a handler of ours."""

    @get("/")
    async def index(count: Count) -> None:
        raise NoSessionError(f"nothing in {count.name}")

    async with Browser(site(SessionPlugin(count=counts), index, debug=debug)) as browser:
        response = await browser.get("/")
        assert response.status == 500
        assert ("Traceback" in response.text) == debug


@pytest.mark.parametrize("is_explicit", [True, False], ids=["explicit", "at the end"])
async def test_the_handler_nearest_to_the_route_answers_an_error_of_ours(
    counts: StorageOverseer[dict[str, int]], is_explicit: bool
) -> None:
    """R10, R11: as Litestar looks it up: a router's for SessionError, before the 409 of ours and the application's."""

    @get("/lost")
    async def lost(count: Count) -> None:
        count["n"] = 1
        if is_explicit:
            raise ConflictError("lost")
        count["x" * 300_000] = 1

    def near(_: Request[Any, Any, Any], error: SessionError) -> Response[dict[str, str]]:
        return Response({"near": type(error).__name__}, status_code=422)

    def far(_: Request[Any, Any, Any], error: Exception) -> Response[str]:
        return Response(f"far {error}", status_code=422)

    router = Router("/shop", route_handlers=[lost], exception_handlers={SessionError: near})
    app = site(SessionPlugin(count=counts), router, exception_handlers={Exception: far, 500: far})
    async with Browser(app) as browser:
        response = await browser.get("/shop/lost")
        assert response.status == 422
        assert response.json() == {"near": "ConflictError" if is_explicit else "SessionTooLargeError"}
        assert len(response.set_cookies) == is_explicit


async def test_a_handler_for_status_500_answers_what_the_headers_save_raised(
    counts: StorageOverseer[dict[str, int]],
) -> None:
    """R11: Litestar gives it every error that no class has a handler for."""

    @get("/")
    async def index(count: Count) -> None:
        count["x" * 300_000] = 1

    def far(_: Request[Any, Any, Any], error: Exception) -> Response[str]:
        return Response(f"far {type(error).__name__}", status_code=503)

    async with Browser(site(SessionPlugin(count=counts), index, exception_handlers={500: far})) as browser:
        response = await browser.get("/")
        assert (response.status, response.text) == (503, "far SessionTooLargeError")


async def test_a_store_that_cannot_be_opened_is_a_failed_start() -> None:
    """R16."""
    store = StorageOverseer(Theme, OpenStorer(StorerError("no backend at host:1")))
    app = site(SessionPlugin(theme=store))
    with pytest.raises(LifespanError, match="no backend at host:1"):
        async with Browser(app):
            raise AssertionError("not reached")


async def test_the_schema_knows_nothing_of_sessions(counts: StorageOverseer[dict[str, int]]) -> None:
    """DESIGN 3: a session is no parameter of the page."""

    @get("/")
    async def index(count: Count) -> str:
        return str(len(count))

    paths = site(SessionPlugin(count=counts), index).openapi_schema.to_schema()["paths"]
    assert "parameters" not in paths["/"]["get"]
