"""The shops of `examples/` are started and visited, and so is the demo."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiosessions.testing import Browser

pytestmark = pytest.mark.anyio

SHOPS = ["starlette", "fastapi", "litestar", "quart", "aiohttp"]
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Frameworks decide; asyncio is what all of them run on."""
    name: str = request.param
    return name


def application(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application of a freshly imported example."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent.parent), *sys.path])
    name = f"examples.{request.param}_{kind}"
    sys.modules.pop(name, None)
    module = importlib.import_module(name)
    return module.make_app() if request.param == "aiohttp" else module.app


@pytest.fixture(params=SHOPS)
def live(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application with a socket and a stream."""
    return application("live", request, monkeypatch)


@pytest.fixture(params=SHOPS)
def shop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The shop's application, its carts in a folder."""
    monkeypatch.setenv("STORE", f"disk:{tmp_path / 'sessions'}")
    return application("shop", request, monkeypatch)


async def submit(browser: Browser, path: str, **form: str) -> str:
    """Fill in a form of the page, and follow where it leads."""
    csrf = _CSRF.search((await browser.get("/")).text)
    response = await browser.post(path, data={**form, **({"csrf": csrf[1]} if csrf else {})})
    assert response.status == 303, response.text
    return (await browser.get("/")).text


async def test_a_visit_to_the_shop(shop: Any) -> None:
    """R, V5, V7, F4: anonymous, cart, login with "remember me", a theme, a second device, logout."""
    async with Browser(shop) as laptop:
        assert "empty" in (await laptop.get("/")).text
        assert list(laptop.cookies) == []
        cross_site = {"sec-fetch-site": "cross-site"}
        assert (await laptop.post("/cart", data={"product": "tea"}, headers=cross_site)).status == 403
        assert list(laptop.cookies) == []
        page = await submit(laptop, "/cart", product="tea")
        assert "1 x tea" in page
        assert "In your cart." in page
        assert "In your cart." not in (await laptop.get("/")).text
        assert "That did not work." in await submit(laptop, "/login", user="ann", password="wrong")
        page = await submit(laptop, "/login", user="ann", password="tea", remember="on")
        assert "Hello, ann" in page
        assert "2 x tea" in await submit(laptop, "/cart", product="tea")
        assert 'data-theme="dark"' in await submit(laptop, "/theme", theme="dark")
        assert {cookie.name for cookie in laptop.cookies} == {"__Host-shop", "__Host-prefs"}
        assert (await laptop.post("/logout", data={"csrf": "forged"})).status == 403

        phone = laptop.another()
        assert "Hello, ann" in await submit(phone, "/login", user="ann", password="tea")
        assert "Logged out 1 others." in await submit(laptop, "/logout-others")
        assert "log in" in (await phone.get("/")).text
        assert "log in" in await submit(laptop, "/logout")
        assert {cookie.name for cookie in laptop.cookies} == {"__Host-prefs"}


async def test_a_socket_counts_and_a_stream_reads(live: Any) -> None:
    """R12, R13: two sockets count in one session, and a stream sees the newest number."""
    async with Browser(live) as browser:
        assert (await browser.post("/login")).status < 300
        async with browser.websocket("/socket") as first, browser.websocket("/socket") as second:
            for number, socket in enumerate((first, second, first), start=1):
                await socket.send_text("hello")
                assert await socket.receive_text() == str(number)
            async with browser.stream("/stream") as response:
                events = [chunk.decode() async for chunk in response]
            assert "".join(events) == "data: 3\n\n" * 3


def test_the_demo_visits_itself() -> None:
    """README's `## Try it`: exit 0 only if every step held."""
    done = subprocess.run(
        [sys.executable, "-m", "aiosessions", "demo", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": ok") == 10
    assert "everything held" in done.stdout
