"""Flask's session."""

from typing import Any

from flask import Flask, flash, get_flashed_messages, session

app = Flask(__name__)
app.secret_key = "a secret"


@app.get("/")
def index() -> dict[str, Any]:
    session["visits"] = session.get("visits", 0) + 1
    user = session.get("user")
    return {"user": user, "visits": session["visits"]}


@app.post("/login")
def login() -> str:
    session["user"] = "ann"
    session.permanent = True
    flash("Welcome.")
    return "Hello"


@app.get("/messages")
def messages() -> list[Any]:
    return list(get_flashed_messages())


@app.post("/logout")
def logout() -> str:
    session.clear()
    return "Goodbye"
