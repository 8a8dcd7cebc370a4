"""Litestar's sessions."""

from typing import Any

from litestar import Litestar, Request, get, post
from litestar.middleware.session.server_side import ServerSideSessionConfig

AnyRequest = Request[Any, Any, Any]


@get("/")
async def index(request: AnyRequest) -> dict[str, Any]:
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    user = session.get("user")
    return {"user": user, "visits": session["visits"]}


@post("/login")
async def login(request: AnyRequest) -> str:
    request.set_session({"user": "ann"})  # pyright: ignore[reportUnknownMemberType]  # Litestar leaves parts of it open
    return "Hello"


@post("/logout")
async def logout(request: AnyRequest) -> str:
    request.clear_session()
    return "Goodbye"


app = Litestar(
    [index, login, logout],
    middleware=[ServerSideSessionConfig(max_age=14 * 86_400, secure=True).middleware],
)
