"""The package starsessions."""

from datetime import timedelta

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starsessions import InMemoryStore, SessionMiddleware, load_session, regenerate_session_id


async def index(request: Request) -> JSONResponse:
    await load_session(request)
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    user = session.get("user")
    return JSONResponse({"user": user, "visits": session["visits"]})


async def login(request: Request) -> JSONResponse:
    await load_session(request)
    session = request.session
    session["user"] = "ann"
    regenerate_session_id(request)
    return JSONResponse("Hello")


async def logout(request: Request) -> JSONResponse:
    await load_session(request)
    session = request.session
    session.clear()
    return JSONResponse("Goodbye")


app = Starlette(
    routes=[Route("/", index), Route("/login", login, methods=["POST"]), Route("/logout", logout, methods=["POST"])],
    middleware=[
        Middleware(SessionMiddleware, store=InMemoryStore(), lifetime=timedelta(days=14), rolling=True),
    ],
)
