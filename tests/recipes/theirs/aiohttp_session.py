"""The package aiohttp-session."""

import os

from aiohttp import web
from aiohttp_session import get_session, new_session, setup
from aiohttp_session.cookie_storage import EncryptedCookieStorage


async def index(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    user = session.get("user")
    return web.json_response({"user": user, "visits": session["visits"]})


async def login(request: web.Request) -> web.Response:
    session = await new_session(request)
    session["user"] = "ann"
    return web.Response(text="Hello")


async def logout(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.invalidate()
    return web.Response(text="Goodbye")


app = web.Application()
app.router.add_get("/", index)
app.router.add_post("/login", login)
app.router.add_post("/logout", logout)
key = os.urandom(32)
setup(app, EncryptedCookieStorage(key, max_age=14 * 86_400))
