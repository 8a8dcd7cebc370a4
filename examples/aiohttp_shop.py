"""The shop in aiohttp. `AIOSESSIONS_DEBUG=1 python -m aiohttp.web examples.aiohttp_shop:make_app`"""

import os
from collections.abc import Sequence

from aiohttp import web

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.aiohttp import setup
from aiosessions.demo.page import Cart, is_forged, is_password, put, render, stores

shop, prefs = stores(storer_from_url(os.environ.get("STORE", "memory:")))
routes = web.RouteTableDef()


async def session_of_form(request: web.Request) -> tuple[Session[Cart], dict[str, str]]:
    session = await shop.get(request)
    form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    if is_forged(session, form.get("csrf", ""), request.headers.get("Sec-Fetch-Site")):
        raise web.HTTPForbidden(text="this form is not ours")
    return session, form


@routes.get("/")
async def page(request: web.Request) -> web.Response:
    session = await shop.get(request)
    devices = await shop.user_sessions(session.user_id) if session.user_id else []
    return web.Response(text=render(session, (await prefs.get(request)).value, devices), content_type="text/html")


@routes.post("/cart")
async def cart(request: web.Request) -> web.Response:
    session, form = await session_of_form(request)
    if put(session.value, form["product"]):
        session.flash("In your cart.")
    raise web.HTTPSeeOther("/")


@routes.post("/theme")
async def theme(request: web.Request) -> web.Response:
    _, form = await session_of_form(request)
    if form["theme"] in ("light", "dark"):
        (await prefs.get(request)).value.theme = form["theme"]
    raise web.HTTPSeeOther("/")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    session, form = await session_of_form(request)
    if is_password(form["user"], form["password"]):
        session.set_user(form["user"], lifetime=Lifetime.remember_me() if "remember" in form else None)
        session.label = request.headers.get("user-agent", "")[:200]
        session.flash("Welcome.")
    else:
        session.flash("That did not work.", "error")
    raise web.HTTPSeeOther("/")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    session, _ = await session_of_form(request)
    session.destroy()
    raise web.HTTPSeeOther("/")


@routes.post("/logout-others")
async def logout_others(request: web.Request) -> web.Response:
    session, _ = await session_of_form(request)
    count = await shop.delete_user_sessions(session.require_user(), keep=session)
    session.flash(f"Logged out {count} others.")
    raise web.HTTPSeeOther("/")


def make_app(_: Sequence[str] = ()) -> web.Application:
    app = web.Application()
    setup(app, shop, prefs)
    app.add_routes(routes)
    return app
