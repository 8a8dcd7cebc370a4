"""The shop in aiohttp. `AIOSESSIONS_DEBUG=1 python -m aiohttp.web examples.aiohttp_shop:make_app`"""

import os
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.aiohttp import setup
from aiosessions.demo.cart import THEMES, Cart, device_name, put
from aiosessions.demo.desk import Desk, is_forged, is_password
from aiosessions.demo.narrator import Notes

desk = Desk(storer_from_url(os.environ.get("STORE", "memory:")))
shop, prefs = desk.carts, desk.prefs
routes = web.RouteTableDef()
NOTES = web.RequestKey("notes", Notes)


async def session_of_form(request: web.Request) -> tuple[Session[Cart], dict[str, str]]:
    session = await shop.get(request)
    form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    if is_forged(session, form.get("csrf", ""), request.headers.get("Sec-Fetch-Site")):
        raise web.HTTPForbidden(text="this form is not ours")
    return session, form


@routes.get("/")
async def page(request: web.Request) -> web.Response:
    html = await desk.page(await shop.get(request), (await prefs.get(request)).value)
    return web.Response(text=html, content_type="text/html")


@routes.post("/cart")
async def cart(request: web.Request) -> web.Response:
    session, form = await session_of_form(request)
    if put(session.value, form.get("product", "")):
        session.flash("In your cart.")
    raise web.HTTPSeeOther("/")


@routes.post("/theme")
async def theme(request: web.Request) -> web.Response:
    _, form = await session_of_form(request)
    if form.get("theme") in THEMES:
        (await prefs.get(request)).value.theme = form["theme"]
    raise web.HTTPSeeOther("/")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    session, form = await session_of_form(request)
    if is_password(form.get("user", ""), form.get("password", "")):
        desk.copy(session, request.headers.get("Cookie", ""))
        session.set_user(form["user"], lifetime=Lifetime.remember_me() if "remember" in form else None)
        session.label = device_name(request.headers.get("User-Agent", ""))
        session.flash("Welcome.")
    else:
        session.flash("That did not work.", "error")
    raise web.HTTPSeeOther("/")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    session, _ = await session_of_form(request)
    session.destroy()
    raise web.HTTPSeeOther("/")


@routes.post("/desk/{action}")
async def serve(request: web.Request) -> web.Response:
    session, form = await session_of_form(request)
    await desk.serve(request.match_info["action"], session, form, request.headers.get("Cookie", ""))
    raise web.HTTPSeeOther("/")


@web.middleware
async def narrate(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    with desk.narrator.listening(request.method, request.path) as notes:
        request[NOTES] = notes
        return await handler(request)


async def tell(request: web.Request, response: web.StreamResponse) -> None:
    if NOTES in request:
        desk.narrator.tell(request[NOTES], response.status, response.headers.getall("Set-Cookie", []))


def make_app(_: Sequence[str] = ()) -> web.Application:
    app = web.Application()
    setup(app, shop, prefs)
    app.middlewares.insert(0, narrate)  # around what saves
    app.on_response_prepare.append(tell)  # after what tells the client
    app.add_routes(routes)
    return app
