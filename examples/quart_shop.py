"""The shop in Quart. `AIOSESSIONS_DEBUG=1 hypercorn examples.quart_shop:app`"""

import os

from quart import Quart, ResponseReturnValue, abort, redirect, request

from aiosessions import Lifetime, Session, storer_from_url
from aiosessions.demo.cart import THEMES, Cart, device_name, put
from aiosessions.demo.desk import Desk, is_forged, is_password
from aiosessions.demo.narrator import NarratedApp
from aiosessions.quart import init_app

desk = Desk(storer_from_url(os.environ.get("STORE", "memory:")))
shop, prefs = desk.carts, desk.prefs
app = Quart(__name__)
init_app(app, shop, prefs)
app.asgi_app = NarratedApp(app.asgi_app, desk.narrator)  # type: ignore[method-assign]  # around what saves, as Quart documents it


async def session_of_form() -> tuple[Session[Cart], dict[str, str]]:
    session = await shop.get(request)
    form: dict[str, str] = (await request.form).to_dict()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # Quart does not say what a form holds
    if is_forged(session, form.get("csrf", ""), request.headers.get("Sec-Fetch-Site")):
        abort(403, "this form is not ours")
    return session, form


@app.get("/")
async def page() -> str:
    session = await shop.get(request)
    return await desk.page(session, (await prefs.get(request)).value)


@app.post("/cart")
async def cart() -> ResponseReturnValue:
    session, form = await session_of_form()
    if put(session.value, form.get("product", "")):
        session.flash("In your cart.")
    return redirect("/", 303)


@app.post("/theme")
async def theme() -> ResponseReturnValue:
    _, form = await session_of_form()
    if form.get("theme") in THEMES:
        (await prefs.get(request)).value.theme = form["theme"]
    return redirect("/", 303)


@app.post("/login")
async def login() -> ResponseReturnValue:
    session, form = await session_of_form()
    if is_password(form.get("user", ""), form.get("password", "")):
        desk.copy(session, request.headers.get("cookie", ""))
        session.set_user(form["user"], lifetime=Lifetime.remember_me() if "remember" in form else None)
        session.label = device_name(request.headers.get("user-agent", ""))
        session.flash("Welcome.")
    else:
        session.flash("That did not work.", "error")
    return redirect("/", 303)


@app.post("/logout")
async def logout() -> ResponseReturnValue:
    session, _ = await session_of_form()
    session.destroy()
    return redirect("/", 303)


@app.post("/desk/<action>")
async def serve(action: str) -> ResponseReturnValue:
    session, form = await session_of_form()
    await desk.serve(action, session, form, request.headers.get("cookie", ""))
    return redirect("/", 303)
