"""The shop in Quart. `AIOSESSIONS_DEBUG=1 hypercorn examples.quart_shop:app`"""

import os

from quart import Quart, ResponseReturnValue, abort, redirect, request

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.demo.page import Cart, is_forged, is_password, put, render, stores
from aiosessions.quart import init_app

shop, prefs = stores(storer_from_url(os.environ.get("STORE", "memory:")))
app = Quart(__name__)
init_app(app, shop, prefs)


async def session_of_form() -> tuple[Session[Cart], dict[str, str]]:
    session = await shop.get(request)
    form: dict[str, str] = (await request.form).to_dict()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # Quart does not say what a form holds
    if is_forged(session, form.get("csrf", ""), request.headers.get("Sec-Fetch-Site")):
        abort(403)
    return session, form


@app.get("/")
async def page() -> str:
    session = await shop.get(request)
    devices = await shop.user_sessions(session.user_id) if session.user_id else []
    return render(session, (await prefs.get(request)).value, devices)


@app.post("/cart")
async def cart() -> ResponseReturnValue:
    session, form = await session_of_form()
    if put(session.value, form["product"]):
        session.flash("In your cart.")
    return redirect("/", 303)


@app.post("/theme")
async def theme() -> ResponseReturnValue:
    _, form = await session_of_form()
    if form["theme"] in ("light", "dark"):
        (await prefs.get(request)).value.theme = form["theme"]
    return redirect("/", 303)


@app.post("/login")
async def login() -> ResponseReturnValue:
    session, form = await session_of_form()
    if is_password(form["user"], form["password"]):
        session.set_user(form["user"], lifetime=Lifetime.remember_me() if "remember" in form else None)
        session.label = request.headers.get("user-agent", "")[:200]
        session.flash("Welcome.")
    else:
        session.flash("That did not work.", "error")
    return redirect("/", 303)


@app.post("/logout")
async def logout() -> ResponseReturnValue:
    session, _ = await session_of_form()
    session.destroy()
    return redirect("/", 303)


@app.post("/logout-others")
async def logout_others() -> ResponseReturnValue:
    session, _ = await session_of_form()
    count = await shop.delete_user_sessions(session.require_user(), keep=session)
    session.flash(f"Logged out {count} others.")
    return redirect("/", 303)
