"""The shop in Litestar. `AIOSESSIONS_DEBUG=1 uvicorn examples.litestar_shop:app`"""

import os
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.exceptions import PermissionDeniedException
from litestar.params import Body, FromPath
from litestar.response import Redirect

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.demo.cart import THEMES, Cart, Preferences, device_name, put
from aiosessions.demo.desk import Desk, is_forged, is_password
from aiosessions.demo.narrator import NarratedApp
from aiosessions.litestar import SessionPlugin

desk = Desk(storer_from_url(os.environ.get("STORE", "memory:")))
shop, prefs = desk.carts, desk.prefs

CartSession = NamedDependency[Session[Cart]]
PreferencesSession = NamedDependency[Session[Preferences]]
Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]


AnyRequest = Request[Any, Any, Any]


def check_form(request: AnyRequest, session: Session[Cart], data: dict[str, str]) -> None:
    if is_forged(session, data.get("csrf", ""), request.headers.get("sec-fetch-site")):
        raise PermissionDeniedException("this form is not ours")


def back() -> Redirect:
    return Redirect("/", status_code=303)


@get("/", media_type=MediaType.HTML)
async def page(cart: CartSession, preferences: PreferencesSession) -> str:
    return await desk.page(cart, preferences.value)


@post("/cart", status_code=303)
async def put_into_cart(request: AnyRequest, cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    if put(cart.value, data.get("product", "")):
        cart.flash("In your cart.")
    return back()


@post("/theme", status_code=303)
async def theme(request: AnyRequest, cart: CartSession, preferences: PreferencesSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    if data.get("theme") in THEMES:
        preferences.value.theme = data["theme"]
    return back()


@post("/login", status_code=303)
async def login(request: AnyRequest, cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    if is_password(data.get("user", ""), data.get("password", "")):
        desk.copy(cart, request.headers.get("cookie", ""))
        cart.set_user(data["user"], lifetime=Lifetime.remember_me() if "remember" in data else None)
        cart.label = device_name(request.headers.get("user-agent", ""))
        cart.flash("Welcome.")
    else:
        cart.flash("That did not work.", "error")
    return back()


@post("/logout", status_code=303)
async def logout(request: AnyRequest, cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    cart.destroy()
    return back()


@post("/desk/{action:str}", status_code=303)
async def serve(request: AnyRequest, action: FromPath[str], cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    await desk.serve(action, cart, data, request.headers.get("cookie", ""))
    return back()


handlers = [page, put_into_cart, theme, login, logout, serve]
app = NarratedApp(Litestar(handlers, plugins=[SessionPlugin(cart=shop, preferences=prefs)]), desk.narrator)
