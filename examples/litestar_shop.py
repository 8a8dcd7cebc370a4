"""The shop in Litestar. `AIOSESSIONS_DEBUG=1 uvicorn examples.litestar_shop:app`"""

import os
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.exceptions import PermissionDeniedException
from litestar.params import Body
from litestar.response import Redirect

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.demo.page import Cart, Preferences, is_forged, is_password, put, render, stores
from aiosessions.litestar import SessionPlugin

shop, prefs = stores(storer_from_url(os.environ.get("STORE", "memory:")))

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
    devices = await shop.user_sessions(cart.user_id) if cart.user_id else []
    return render(cart, preferences.value, devices)


@post("/cart", status_code=303)
async def put_into_cart(request: AnyRequest, cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    if put(cart.value, data["product"]):
        cart.flash("In your cart.")
    return back()


@post("/theme", status_code=303)
async def theme(request: AnyRequest, cart: CartSession, preferences: PreferencesSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    if data["theme"] in ("light", "dark"):
        preferences.value.theme = data["theme"]
    return back()


@post("/login", status_code=303)
async def login(request: AnyRequest, cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    if is_password(data["user"], data["password"]):
        cart.set_user(data["user"], lifetime=Lifetime.remember_me() if "remember" in data else None)
        cart.label = request.headers.get("user-agent", "")[:200]
        cart.flash("Welcome.")
    else:
        cart.flash("That did not work.", "error")
    return back()


@post("/logout", status_code=303)
async def logout(request: AnyRequest, cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    cart.destroy()
    return back()


@post("/logout-others", status_code=303)
async def logout_others(request: AnyRequest, cart: CartSession, data: Form) -> Redirect:
    check_form(request, cart, data)
    count = await shop.delete_user_sessions(cart.require_user(), keep=cart)
    cart.flash(f"Logged out {count} others.")
    return back()


app = Litestar(
    [page, put_into_cart, theme, login, logout, logout_others], plugins=[SessionPlugin(cart=shop, preferences=prefs)]
)
