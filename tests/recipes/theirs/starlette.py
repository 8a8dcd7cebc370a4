"""Starlette's SessionMiddleware."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def index(request: Request) -> JSONResponse:
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    user = session.get("user")
    return JSONResponse({"user": user, "visits": session["visits"]})


async def login(request: Request) -> JSONResponse:
    session = request.session
    session["user"] = "ann"
    return JSONResponse("Hello")


async def logout(request: Request) -> JSONResponse:
    session = request.session
    session.clear()
    return JSONResponse("Goodbye")


app = Starlette(
    routes=[Route("/", index), Route("/login", login, methods=["POST"]), Route("/logout", logout, methods=["POST"])],
    middleware=[Middleware(SessionMiddleware, secret_key="a secret", max_age=14 * 86_400, https_only=True)],
)
