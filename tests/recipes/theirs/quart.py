"""Quart's session."""

from typing import Any

from quart import Quart, flash, get_flashed_messages, session

app = Quart(__name__)
app.secret_key = "a secret"


@app.get("/")
async def index() -> dict[str, Any]:
    session["visits"] = session.get("visits", 0) + 1
    user = session.get("user")
    return {"user": user, "visits": session["visits"]}


@app.post("/login")
async def login() -> str:
    session["user"] = "ann"
    session.permanent = True
    await flash("Welcome.")
    return "Hello"


@app.get("/messages")
async def messages() -> list[Any]:
    return list(get_flashed_messages())


@app.post("/logout")
async def logout() -> str:
    session.clear()
    return "Goodbye"
