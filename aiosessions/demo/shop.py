"""The shop in Starlette: a login with "remember me", a typed cart, flashes, two sessions of two types."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aiosessions import Lifetime, Session
from aiosessions.asgi import SessionMiddleware
from aiosessions.demo.cart import THEMES, Cart, device_name, put
from aiosessions.demo.desk import Desk, is_forged, is_password
from aiosessions.demo.narrator import NarratedApp

__all__ = ["make_app"]


def make_app(desk: Desk, *, more: Sequence[BaseRoute] = ()) -> Starlette:
    """The application.

    Args:
        desk: has its stores.
        more: further routes.
    """
    shop, prefs = desk.carts, desk.prefs

    async def page(request: Request) -> Response:
        return HTMLResponse(await desk.page(await shop.get(request), (await prefs.get(request)).value))

    async def form_of(request: Request, session: Session[Cart]) -> dict[str, str]:
        async with request.form() as form:
            given = {name: value for name, value in form.items() if isinstance(value, str)}
        if is_forged(session, given.get("csrf", ""), request.headers.get("sec-fetch-site")):
            raise HTTPException(403, "this form is not ours")
        return given

    async def change(request: Request) -> Response:
        session = await shop.get(request)
        form = await form_of(request, session)
        match request.url.path:
            case "/cart" if put(session.value, form.get("product", "")):
                session.flash("In your cart.")
            case "/theme" if form.get("theme") in THEMES:
                (await prefs.get(request)).value.theme = form["theme"]
            case "/login" if is_password(form.get("user", ""), form.get("password", "")):
                desk.copy(session, request.headers.get("cookie", ""))
                session.set_user(form["user"], lifetime=Lifetime.remember_me() if "remember" in form else None)
                session.label = device_name(request.headers.get("user-agent", ""))
                session.flash("Welcome.")
            case "/logout":
                session.destroy()
            case _:
                session.flash("That did not work.", "error")
        return RedirectResponse("/", status_code=303)

    async def serve(request: Request) -> Response:
        session = await shop.get(request)
        form = await form_of(request, session)
        await desk.serve(request.path_params["action"], session, form, request.headers.get("cookie", ""))
        return RedirectResponse("/", status_code=303)

    return Starlette(
        routes=[
            Route("/", page),
            *(Route(path, change, methods=["POST"]) for path in ("/cart", "/theme", "/login", "/logout")),
            Route("/desk/{action}", serve, methods=["POST"]),
            *more,
        ],
        middleware=[
            Middleware(NarratedApp, narrator=desk.narrator),
            Middleware(SessionMiddleware, stores=[shop, prefs]),
        ],
    )
