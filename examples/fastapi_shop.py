"""The shop in FastAPI. `AIOSESSIONS_DEBUG=1 uvicorn examples.fastapi_shop:app`"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.asgi import SessionMiddleware
from aiosessions.demo.page import Cart, Preferences, is_forged, is_password, put, render, stores
from aiosessions.fastapi import session_of

shop, prefs = stores(storer_from_url(os.environ.get("STORE", "memory:")))
app = FastAPI()
app.add_middleware(SessionMiddleware, stores=[shop, prefs])

ShopSession = Annotated[Session[Cart], Depends(session_of(shop))]
UserSession = Annotated[Session[Cart], Depends(session_of(shop, user=True))]
PrefsSession = Annotated[Session[Preferences], Depends(session_of(prefs))]
Text = Annotated[str, Form()]


def our_form(request: Request, session: ShopSession, csrf: Text = "") -> None:
    if is_forged(session, csrf, request.headers.get("sec-fetch-site")):
        raise HTTPException(403, "this form is not ours")


def back() -> RedirectResponse:
    return RedirectResponse("/", status_code=303)


@app.get("/", response_class=HTMLResponse)
async def page(session: ShopSession, preferences: PrefsSession) -> str:
    devices = await shop.user_sessions(session.user_id) if session.user_id else []
    return render(session, preferences.value, devices)


@app.post("/cart", dependencies=[Depends(our_form)])
async def cart(session: ShopSession, product: Text) -> RedirectResponse:
    if put(session.value, product):
        session.flash("In your cart.")
    return back()


@app.post("/theme", dependencies=[Depends(our_form)])
async def theme(preferences: PrefsSession, theme: Text) -> RedirectResponse:
    if theme in ("light", "dark"):
        preferences.value.theme = theme
    return back()


@app.post("/login", dependencies=[Depends(our_form)])
async def login(
    request: Request, session: ShopSession, user: Text, password: Text, remember: Text = ""
) -> RedirectResponse:
    if is_password(user, password):
        session.set_user(user, lifetime=Lifetime.remember_me() if remember else None)
        session.label = request.headers.get("user-agent", "")[:200]
        session.flash("Welcome.")
    else:
        session.flash("That did not work.", "error")
    return back()


@app.post("/logout", dependencies=[Depends(our_form)])
async def logout(session: ShopSession) -> RedirectResponse:
    session.destroy()
    return back()


@app.post("/logout-others", dependencies=[Depends(our_form)])
async def logout_others(session: UserSession) -> RedirectResponse:
    count = await shop.delete_user_sessions(session.require_user(), keep=session)
    session.flash(f"Logged out {count} others.")
    return back()
