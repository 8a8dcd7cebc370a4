"""The shop in Starlette: a login with "remember me", a typed cart, flashes, two sessions of two types."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aiosessions import CookieOverseer, Lifetime, StorageOverseer
from aiosessions.asgi import SessionMiddleware
from aiosessions.demo.page import Cart, Preferences, is_forged, is_password, put, render

__all__ = ["make_app"]


def make_app(
    shop: StorageOverseer[Cart], prefs: CookieOverseer[Preferences], *, more: Sequence[BaseRoute] = ()
) -> Starlette:
    """The application.

    Args:
        shop: keeps the carts.
        prefs: keeps the preferences.
        more: further routes.
    """

    async def page(request: Request) -> Response:
        session = await shop.get(request)
        devices = await shop.user_sessions(session.user_id) if session.user_id else []
        return HTMLResponse(render(session, (await prefs.get(request)).value, devices))

    async def change(request: Request) -> Response:
        session = await shop.get(request)
        async with request.form() as form:
            given = {name: value for name, value in form.items() if isinstance(value, str)}
        if is_forged(session, given.get("csrf", ""), request.headers.get("sec-fetch-site")):
            return PlainTextResponse("this form is not ours", status_code=403)

        match request.url.path:
            case "/cart" if put(session.value, given.get("product", "")):
                session.flash("In your cart.")
            case "/theme" if given.get("theme") in ("light", "dark"):
                (await prefs.get(request)).value.theme = given["theme"]
            case "/login" if is_password(given.get("user", ""), given.get("password", "")):
                session.set_user(given["user"], lifetime=Lifetime.remember_me() if "remember" in given else None)
                session.label = request.headers.get("user-agent", "")[:200]
                session.flash("Welcome.")
            case "/logout":
                session.destroy()
            case "/logout-others" if session.user_id is not None:
                count = await shop.delete_user_sessions(session.user_id, keep=session)
                session.flash(f"Logged out {count} others.")
            case _:
                session.flash("That did not work.", "error")
        return RedirectResponse("/", status_code=303)

    posts = [
        Route(path, change, methods=["POST"]) for path in ("/cart", "/theme", "/login", "/logout", "/logout-others")
    ]
    return Starlette(
        routes=[Route("/", page), *posts, *more], middleware=[Middleware(SessionMiddleware, stores=[shop, prefs])]
    )
