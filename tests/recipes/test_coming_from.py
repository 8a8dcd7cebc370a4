"""The lines that the "coming from" pages set beside ours: both sides run with their packages, and are visited alike."""

import importlib
import re
from pathlib import Path

import pytest
from asgiref.wsgi import WsgiToAsgi
from django.core.asgi import get_asgi_application
from django.test import override_settings
from flask import Flask

from aiosessions.testing import Browser
from tests.recipes.shown import cookies, page_of, run

pytestmark = pytest.mark.anyio

PAGES = {
    "starlette": "starlette",
    "starsessions": "starsessions",
    "aiohttp_session": "aiohttp-session",
    "flask": "flask-and-quart",
    "quart": "flask-and-quart",
    "litestar": "litestar",
    "django": "django",
}
"""By those that they are about."""


@pytest.fixture
def anyio_backend() -> str:
    """What all of them run on."""
    return "asyncio"


@pytest.mark.parametrize("name", PAGES)
def test_each_line_of_the_table_is_one_that_runs(name: str) -> None:
    page = page_of(f"coming-from/{PAGES[name]}")
    theirs = (Path(__file__).parent / "theirs" / f"{name}.py").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|`]+ \| (.+) \| (.+) \|$", page, re.MULTILINE)[1:]  # the first is the heading
    assert len(rows) >= 5
    for left, right in rows:
        for cell, code in ((left, theirs), (right, page.split("```")[1])):
            lines = re.findall(r"`([^`]+)`", cell)
            assert lines
            assert [line for line in lines if line not in code] == []


async def visit(browser: Browser) -> None:
    """Three times around a login, and once after the logout."""
    assert (await browser.get("/")).json() == {"user": None, "visits": 1}
    assert (await browser.get("/")).json() == {"user": None, "visits": 2}
    answer = await browser.post("/login")
    assert answer.status < 300
    assert any(re.search("max-age|expires", line, re.IGNORECASE) for line in answer.set_cookies)  # it stays
    assert (await browser.get("/")).json()["user"] == "ann"
    if (messages := await browser.get("/messages")).status == 200:
        assert messages.json() == ["Welcome."]
        assert (await browser.get("/messages")).json() == []
    assert (await browser.post("/logout")).status < 300
    assert (await browser.get("/")).json() == {"user": None, "visits": 1}


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning:aiohttp_session")  # its keys are str
@pytest.mark.parametrize("name", PAGES)
async def test_theirs(name: str, django_is_set_up: None) -> None:
    module = importlib.import_module(f"tests.recipes.theirs.{name}")
    if name == "django":
        with override_settings(ROOT_URLCONF=module.__name__):
            async with Browser(get_asgi_application()) as browser:
                await visit(browser)
        return

    app = WsgiToAsgi(module.app) if isinstance(module.app, Flask) else module.app  # type: ignore[no-untyped-call]  # asgiref says no types
    async with Browser(app) as browser:
        await visit(browser)


@pytest.mark.parametrize("page", sorted(set(PAGES.values())))
async def test_ours(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same visit; and what was sent before the login, or before the logout, opens nothing after it."""
    async with Browser(run(f"coming-from/{page}", monkeypatch).app) as browser:
        await visit(browser)
        stranger, planted = browser.another(), cookies(browser)
        await browser.post("/login")
        token = cookies(browser)
        assert (await stranger.get("/", headers={"Cookie": planted})).json()["user"] is None
        assert (await stranger.get("/", headers={"Cookie": token})).json()["user"] == "ann"
        await browser.post("/logout")
        assert (await stranger.get("/", headers={"Cookie": token})).json() == {"user": None, "visits": 1}
