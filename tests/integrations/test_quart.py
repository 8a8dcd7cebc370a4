"""Sessions in Quart: its test clients, its request proxies, its error handlers."""

import pytest
from quart import Blueprint, Quart, Response, request, websocket
from quart.testing.app import LifespanError

from aiosessions import (
    ConflictError,
    MemoryStorer,
    SessionError,
    SessionTooLargeError,
    StorageOverseer,
    StorerError,
)
from aiosessions.quart import init_app
from aiosessions.testing import Browser, HandshakeDeniedError
from tests.integrations.stage import ASYNCIO, Backend, OpenStorer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO  # Quart is for nothing else


@pytest.fixture
def store() -> StorageOverseer[dict[str, int]]:
    return StorageOverseer(dict[str, int], MemoryStorer())


@pytest.fixture
def app(store: StorageOverseer[dict[str, int]]) -> Quart:
    app = Quart(__name__)
    init_app(app, store)

    @app.get("/")
    async def index() -> str:
        session = await store.get(request)
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    @app.get("/conflict")
    async def conflict() -> str:
        (await store.get(request))["count"] = 1
        raise ConflictError("lost")

    @app.websocket("/ws")
    async def live() -> None:
        session = await store.get(websocket)
        await websocket.send(str(session["count"]))

    @app.websocket("/ws/conflict")
    async def lost() -> None:
        (await store.get(websocket))["count"] = 1
        raise ConflictError("lost")

    return app


async def test_quarts_own_test_client_keeps_the_session(
    app: Quart, store: StorageOverseer[dict[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """R16: stores run with `app.test_app()`."""
    async with app.test_app() as running:
        client = running.test_client()
        first = await client.get("/", scheme="https")
        assert (await first.get_data(as_text=True), len(first.headers.getlist("set-cookie"))) == ("1", 1)
        second = await client.get("/", scheme="https")
        assert await second.get_data(as_text=True) == "2"
    assert "was not opened" not in caplog.text


async def test_a_store_that_cannot_be_opened_is_a_failed_start() -> None:
    """R16: `test_app` raises it at once."""
    app = Quart(__name__)
    storers = OpenStorer(), OpenStorer(StorerError("no backend at host:1"))
    init_app(
        app, *(StorageOverseer(dict[str, int], storer, name=name) for name, storer in zip("ab", storers, strict=True))
    )
    with pytest.raises(LifespanError, match="no backend at host:1"):
        await app.test_app().startup()
    assert storers[0].log == ["open", "close"]


async def test_a_websocket_has_the_session_of_its_handshake(app: Quart) -> None:
    """R12."""
    async with Browser(app) as browser:
        await browser.get("/")
        async with browser.websocket("/ws") as socket:
            assert await socket.receive_text() == "1"


async def test_a_lost_race_is_a_409_unless_the_application_handles_it(app: Quart) -> None:
    """R10: whether its handler was there before or comes later; its status decides what is saved."""
    async with Browser(app) as browser:
        response = await browser.get("/conflict")
        assert (response.status, response.text, response.set_cookies) == (409, "Conflict", [])

    @app.errorhandler(ConflictError)
    async def handled(error: Exception) -> tuple[str, int]:
        return f"handled {error}", 404

    async with Browser(app) as browser:
        response = await browser.get("/conflict")
        assert (response.text, len(response.set_cookies)) == ("handled lost", 1)

    other = Quart(__name__)
    other.register_error_handler(ConflictError, handled)
    before = other.error_handler_spec[None][None][ConflictError]
    init_app(other)
    assert other.error_handler_spec[None][None][ConflictError] is before


async def test_a_blueprints_handler_counts_for_our_errors_and_not_for_every_exception(
    store: StorageOverseer[dict[str, int]],
) -> None:
    """R10, R12: whichever is nearer, and whether it was there before or comes later."""
    app, shop = Quart(__name__), Blueprint("shop", __name__)
    init_app(app, store)

    @shop.get("/buy")
    async def buy() -> str:
        return (await store.get(request)).require_user()

    @shop.websocket("/ws")
    async def live() -> str:
        return (await store.get(websocket)).require_user()

    @shop.errorhandler(Exception)
    async def sorry(_: Exception) -> tuple[str, int]:
        return "sorry", 500

    app.register_blueprint(shop)
    async with Browser(app) as browser:
        response = await browser.get("/buy")
        assert (response.status, response.headers["www-authenticate"]) == (401, "Session")
        with pytest.raises(HandshakeDeniedError) as denied:
            async with browser.websocket("/ws"):
                raise AssertionError("not reached")
        assert denied.value.response.status == 403

        async def to_login(_: Exception) -> tuple[str, int]:
            return "the login page", 403

        app.register_error_handler(SessionError, to_login)
        assert (await browser.get("/buy")).text == "the login page"


async def test_an_error_handler_of_a_failed_save_is_in_the_context_of_its_request(
    store: StorageOverseer[dict[str, int]],
) -> None:
    """R11: it knows the page, its body and its blueprint; `after_request` sees its answer."""
    app, shop = Quart(__name__), Blueprint("shop", __name__)
    init_app(app, store)

    @shop.post("/buy")
    async def buy() -> str:
        (await store.get(request))["x" * 300_000] = 1
        return "never seen"

    @shop.errorhandler(SessionTooLargeError)
    async def handled(_: Exception) -> tuple[str, int]:
        return f"{request.endpoint} {await request.get_data(as_text=True)!r}", 413

    @app.after_request
    async def mark(response: Response) -> Response:
        response.headers["x-mark"] = str(response.status_code)
        return response

    app.register_blueprint(shop)
    async with Browser(app) as browser:
        response = await browser.post("/buy", data=b"everything")
        assert (response.status, response.text) == (413, "shop.buy 'everything'")
        assert response.headers.lines("x-mark") == ["413"]


async def test_a_page_that_another_hook_answered_has_no_request_to_ask_about(
    store: StorageOverseer[dict[str, int]],
) -> None:
    """R11: what runs before ours and answers itself; the error is a plain one."""
    app = Quart(__name__)

    @app.before_request
    async def answer() -> str:
        (await store.get(request))["x" * 300_000] = 1
        return "never seen"

    @app.errorhandler(SessionTooLargeError)
    async def handled(_: Exception) -> str:
        return "never seen"

    init_app(app, store)
    async with Browser(app) as browser:
        response = await browser.get("/")
        assert (response.status, response.text) == (500, "Internal Server Error")


async def test_a_lost_race_denies_a_handshake(app: Quart) -> None:
    """R10, R12."""
    async with Browser(app) as browser:
        with pytest.raises(HandshakeDeniedError) as denied:
            async with browser.websocket("/ws/conflict"):
                raise AssertionError("not reached")
        assert denied.value.response.status == 409
        assert denied.value.response.set_cookies == []
