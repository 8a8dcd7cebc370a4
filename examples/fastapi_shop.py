"""The shop in FastAPI. `AIOSESSIONS_DEBUG=1 uvicorn examples.fastapi_shop:app`"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.asgi import SessionMiddleware
from aiosessions.demo.cart import THEMES, Cart, Preferences, device_name, put
from aiosessions.demo.desk import Desk, is_forged, is_password
from aiosessions.demo.narrator import NarratedApp
from aiosessions.fastapi import session_of

desk = Desk(storer_from_url(os.environ.get("STORE", "memory:")))
shop, prefs = desk.carts, desk.prefs
app = FastAPI()
app.add_middleware(SessionMiddleware, stores=[shop, prefs])
app.add_middleware(NarratedApp, narrator=desk.narrator)  # around what saves

ShopSession = Annotated[Session[Cart], Depends(session_of(shop))]
PrefsSession = Annotated[Session[Preferences], Depends(session_of(prefs))]
Text = Annotated[str, Form()]


def our_form(request: Request, session: ShopSession, csrf: Text = "") -> None:
    if is_forged(session, csrf, request.headers.get("sec-fetch-site")):
        raise HTTPException(403, "this form is not ours")


def back() -> RedirectResponse:
    return RedirectResponse("/", status_code=303)


@app.get("/", response_class=HTMLResponse)
async def page(session: ShopSession, preferences: PrefsSession) -> str:
    return await desk.page(session, preferences.value)


@app.post("/cart", dependencies=[Depends(our_form)])
async def cart(session: ShopSession, product: Text) -> RedirectResponse:
    if put(session.value, product):
        session.flash("In your cart.")
    return back()


@app.post("/theme", dependencies=[Depends(our_form)])
async def theme(preferences: PrefsSession, theme: Text) -> RedirectResponse:
    if theme in THEMES:
        preferences.value.theme = theme
    return back()


@app.post("/login", dependencies=[Depends(our_form)])
async def login(
    request: Request, session: ShopSession, user: Text, password: Text, remember: Text = ""
) -> RedirectResponse:
    if is_password(user, password):
        desk.copy(session, request.headers.get("cookie", ""))
        session.set_user(user, lifetime=Lifetime.remember_me() if remember else None)
        session.label = device_name(request.headers.get("user-agent", ""))
        session.flash("Welcome.")
    else:
        session.flash("That did not work.", "error")
    return back()


@app.post("/logout", dependencies=[Depends(our_form)])
async def logout(session: ShopSession) -> RedirectResponse:
    session.destroy()
    return back()


@app.post("/desk/{action}", dependencies=[Depends(our_form)])
async def serve(request: Request, action: str, session: ShopSession, handle: Text = "") -> RedirectResponse:
    await desk.serve(action, session, {"handle": handle}, request.headers.get("cookie", ""))
    return back()
