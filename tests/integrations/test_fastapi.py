"""Sessions as FastAPI's dependencies."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket

from aiosessions import MappingSession, MemoryStorer, StorageOverseer
from aiosessions.asgi import SessionMiddleware
from aiosessions.fastapi import session_of
from aiosessions.testing import Browser, HandshakeDeniedError

pytestmark = pytest.mark.anyio

STORE = StorageOverseer(dict[str, int], MemoryStorer())

Count = Annotated[MappingSession[int], Depends(session_of(STORE))]
Member = Annotated[MappingSession[int], Depends(session_of(STORE, user=True))]
Other = Annotated[MappingSession[int], Depends(session_of(STORE, "other"))]


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, stores=[STORE])

    def bonus(session: Count) -> int:
        session["count"] = session.get("count", 0) + 1
        return session["count"]

    @app.get("/")
    async def index(session: Count, first: Annotated[int, Depends(bonus)], other: Other) -> dict[str, Any]:
        return {"first": first, "count": session.get("count"), "other": other.name}

    @app.get("/sync")
    def sync(session: Count) -> int:
        session["count"] = 7
        return session["count"]

    @app.get("/login")
    async def log_in(session: Count) -> None:
        session.set_user("ann")

    @app.get("/member")
    async def member(session: Member) -> str | None:
        return session.user_id

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, session: Member) -> None:
        await websocket.accept()
        await websocket.send_text(session.require_user())

    return app


async def test_a_dependency_gives_the_requests_session(app: FastAPI) -> None:
    """R5: the same object to handlers and to other dependencies, in plain functions too."""
    async with Browser(app) as browser:
        assert (await browser.get("/")).json() == {"first": 1, "count": 1, "other": "other"}
        assert (await browser.get("/")).json() == {"first": 2, "count": 2, "other": "other"}
        assert (await browser.get("/sync")).json() == 7
        assert (await browser.get("/")).json()["first"] == 8


async def test_a_page_for_users_answers_401(app: FastAPI) -> None:
    """V7, R12: the challenge is what HTTP asks of a 401; a handshake is denied."""
    async with Browser(app) as browser:
        response = await browser.get("/member")
        assert (response.status, response.headers["www-authenticate"]) == (401, "Session")
        with pytest.raises(HandshakeDeniedError) as denied:
            async with browser.websocket("/ws"):
                raise AssertionError("not reached")
        assert denied.value.response.status == 403

        await browser.get("/login")
        assert (await browser.get("/member")).json() == "ann"
        async with browser.websocket("/ws") as socket:
            assert await socket.receive_text() == "ann"


async def test_a_dependency_can_be_overridden(app: FastAPI) -> None:
    """DESIGN 3: one made of equal arguments finds it."""
    async with Browser(app) as browser:
        await browser.sign_in(STORE, "bob")

        async def nobody() -> Any:
            class Nobody:
                user_id = "overridden"

            return Nobody()

        app.dependency_overrides[session_of(STORE, user=True)] = nobody
        assert (await browser.get("/member")).json() == "overridden"
        app.dependency_overrides.clear()
        assert (await browser.get("/member")).json() == "bob"


def test_equal_arguments_give_equal_dependencies() -> None:
    """DESIGN 3: frozen and hashable."""
    assert session_of(STORE) == session_of(STORE, None)
    assert hash(session_of(STORE, "a")) == hash(session_of(STORE, "a"))
    assert session_of(STORE) != session_of(STORE, user=True)
    with pytest.raises(AttributeError):
        session_of(STORE).user = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # the mistake


def test_the_schema_knows_nothing_of_sessions(app: FastAPI) -> None:
    """DESIGN 3: a session is no parameter of the page."""
    schema = app.openapi()
    assert all("parameters" not in page["get"] for page in schema["paths"].values())
