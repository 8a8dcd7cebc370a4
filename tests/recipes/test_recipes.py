"""Each recipe runs with the package that it is for: login, page, logout, and then the old cookie opens nothing."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path
from quart import websocket

from aiosessions import Exchange
from aiosessions.asgi import SessionMiddleware
from aiosessions.testing import Browser
from tests.recipes.shown import cookies, log_in_and_out, run

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """What all of them run on."""
    return "asyncio"


async def test_litestar_s_session_auth_knows_the_user_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/litestar-session-auth", monkeypatch)
    async with Browser(shown.app) as browser:
        assert (await browser.post("/cart/tea")).json() == ["tea"]
        assert (await log_in_and_out(browser, "/account", user="ann")).text == "ann: tea"
        [scheme] = (await browser.get("/schema/openapi.json")).json()["components"]["securitySchemes"].values()
        assert (await browser.post("/cart/tea")).set_cookies[0].startswith(f"{scheme['name']}=")


async def test_litestar_s_session_auth_ends_the_session_of_a_user_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/litestar-session-auth", monkeypatch)
    async with Browser(shown.app) as browser:
        await browser.sign_in(shown.store, "bob")
        assert (await browser.get("/account")).status == 401
        assert cookies(browser) == ""
        assert await shown.store.user_sessions("bob") == []


async def test_quart_s_session_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/quart-session", monkeypatch)
    async with Browser(shown.app) as browser:
        assert (await browser.post("/cart/tea")).json() == ["tea"]
        assert (await browser.post("/cart/milk")).json() == ["tea", "milk"]
        assert (await log_in_and_out(browser, "/", user="ann")).json() == {"user": "ann", "cart": ["tea", "milk"]}


async def test_quart_s_flashes_come_once_and_as_tuples(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/quart-session", monkeypatch)

    async def tuples() -> list[bool]:
        waiting = shown.session["_flashes"]
        return [isinstance(each, tuple) for each in (*waiting, *shown.get_flashed_messages(with_categories=True))]

    shown.app.add_url_rule("/tuples", view_func=tuples)
    async with Browser(shown.app) as browser:
        assert (await browser.get("/flashes")).json() == []
        for product in ("tea", "milk"):
            await browser.post(f"/cart/{product}")
        both = [["cart", "tea is in your cart."], ["cart", "milk is in your cart."]]
        assert (await browser.get("/flashes")).json() == both
        assert (await browser.get("/flashes")).json() == []
        await browser.post("/cart/tea")
        assert (await browser.get("/tuples")).json() == [True, True]
        assert (await browser.get("/flashes")).json() == []


async def test_quart_s_flashes_of_two_requests_at_once_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/quart-session", monkeypatch)
    async with Browser(shown.app) as browser:
        await browser.post("/cart/tea")
        sessions = [await shown.store.get(Exchange([("Cookie", cookies(browser))])) for _ in range(2)]
        for number, session in enumerate(sessions):
            shown.Kept(session)["_flashes"] = [*shown.Kept(session)["_flashes"], ("info", str(number))]
            await shown.store.save(session)
        assert [text for _, text in (await browser.get("/flashes")).json()] == ["tea is in your cart.", "0", "1"]


async def test_quart_s_session_is_there_in_a_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/quart-session", monkeypatch)

    async def chat() -> None:
        await websocket.send(f"{shown.session['cart']}")

    shown.app.add_websocket("/chat", view_func=chat)
    async with Browser(shown.app) as browser:
        await browser.post("/cart/tea")
        async with browser.websocket("/chat") as socket:
            assert await socket.receive_text() == "['tea']"


async def test_what_quart_s_session_holds_goes_as_from_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/quart-session", monkeypatch)

    async def forget() -> list[str | int]:
        before = [*shown.session]
        del shown.session["cart"]
        return [*before, len(shown.session), *shown.session]

    shown.app.add_url_rule("/forget", view_func=forget, methods=["POST"])
    async with Browser(shown.app) as browser:
        await browser.post("/cart/tea")
        assert (await browser.post("/forget")).json() == ["cart", 0]
        assert len((await browser.get("/flashes")).json()) == 1
        assert (await browser.post("/cart/milk")).json() == ["milk"]


async def test_aiohttp_security_remembers_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("recipes/aiohttp-security", monkeypatch)
    async with Browser(shown.app) as browser:
        assert (await browser.get("/")).json() == {"user": None, "visits": 1}
        assert (await log_in_and_out(browser, "/prices", user="ann")).text == "Prices"
        form = {"user": "bob", "password": "tea for two", "remember": "on"}
        [line] = (await browser.post("/login", data=form)).set_cookies
        assert "Max-Age=7776000" in line
        assert (await browser.get("/")).json() == {"user": "bob", "visits": 1}
        assert (await browser.get("/prices")).status == 403


@pytest.fixture
def shown(django_is_set_up: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The views of the page."""
    with override_settings(ROOT_URLCONF="shown"):
        yield run("recipes/django", monkeypatch)


@pytest.fixture
async def browser(shown: Any) -> AsyncIterator[Browser]:
    async with Browser(get_asgi_application()) as browser:
        yield browser


async def test_django_s_async_views_have_a_session(browser: Browser) -> None:
    assert (await browser.get("/")).json() == {"user": None, "visits": 1}
    assert (await browser.get("/")).json() == {"user": None, "visits": 2}
    assert (await log_in_and_out(browser, "/account", user="ann")).text == "ann"


async def test_django_s_headers_and_ours_are_merged(browser: Browser, shown: Any) -> None:
    async def page(request: ASGIRequest, session: Any) -> HttpResponse:
        session["visits"] = 1
        response = HttpResponse("a page", headers={"Vary": "Accept-Language", "Cache-Control": "public, max-age=60"})
        response.set_cookie("theme", "dark")
        return response

    shown.urlpatterns.append(path("page", shown.with_session(page)))
    answer = await browser.get("/page")
    assert answer.headers["vary"] == "Accept-Language, Cookie"
    assert answer.headers["cache-control"] == "no-store"
    assert {line.partition("=")[0] for line in answer.set_cookies} == {"theme", "__Host-app"}
    assert "HttpOnly" in next(line for line in answer.set_cookies if line.startswith("__Host-"))


def test_django_under_wsgi_has_the_same_sessions(shown: Any) -> None:
    """Each request in an event loop of its own."""
    client = Client()
    for visits in (1, 2):
        assert client.get("/").json() == {"user": None, "visits": visits}
    assert client.post("/login", {"user": "ann", "password": "tea for two"}).status_code == 200
    assert client.get("/account").content == b"ann"
    client.post("/logout")
    assert client.get("/account").status_code == 401


async def test_django_under_asgi_needs_the_middleware_alone(shown: Any) -> None:
    store = shown.store

    async def page(request: ASGIRequest) -> HttpResponse:
        session = await store.get(request)
        session["visits"] = session.get("visits", 0) + 1
        if request.method == "POST":
            session.set_user("ann")
        return HttpResponse(f"{session.user_id} {session['visits']}")

    shown.urlpatterns.append(path("page", page))
    async with Browser(SessionMiddleware(get_asgi_application(), stores=[store])) as browser:
        assert (await browser.get("/page")).text == "None 1"
        assert (await browser.post("/page")).text == "ann 2"
        assert (await browser.get("/page")).text == "ann 3"
