"""The shops of `examples/` are started and visited, and so is the demo."""

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiosessions.testing import Browser, HandshakeDeniedError
from tests import servers_memcached, servers_sql

pytestmark = pytest.mark.anyio

memcached_server = servers_memcached.memcached_server
postgres_server = servers_sql.postgres_server

SHOPS = ["starlette", "fastapi", "litestar", "quart", "aiohttp"]
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Frameworks decide; asyncio is what all of them run on."""
    name: str = request.param
    return name


def application(kind: str, framework: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application of a freshly imported example."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent.parent), *sys.path])
    name = f"examples.{framework}_{kind}"
    sys.modules.pop(name, None)
    module = importlib.import_module(name)
    return module.make_app() if framework == "aiohttp" else module.app


@pytest.fixture(params=SHOPS)
def live(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application with a socket and a stream."""
    return application("live", request.param, monkeypatch)


@pytest.fixture(params=SHOPS)
def shop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The shop's application, its carts in a folder."""
    monkeypatch.setenv("STORE", f"disk:{tmp_path / 'sessions'}")
    return application("shop", request.param, monkeypatch)


@pytest.fixture(params=["memory", "disk", "sqlite", "valkey", "postgres", "memcached"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What the environment's STORE says, for each kind of storer."""
    match request.param:
        case "disk":
            return f"disk:{tmp_path / 'sessions'}"
        case "sqlite":
            return f"sqlite:{tmp_path / 'sessions.db'}"
        case "valkey":
            server = request.getfixturevalue("valkey_server")
            return f"valkey://{server.host}:{server.port}?prefix={tmp_path.name}:"
        case "postgres":
            url: str = request.getfixturevalue("postgres_server").url
            return url
        case "memcached":
            return f"{request.getfixturevalue('memcached_server').url}?prefix={tmp_path.name}:"
        case _:
            return "memory:"


async def submit(browser: Browser, path: str, **form: str) -> str:
    """Fill in a form of the page, and follow where it leads."""
    csrf = _CSRF.search((await browser.get("/")).text)
    response = await browser.post(path, data={**form, **({"csrf": csrf[1]} if csrf else {})})
    assert response.status == 303, response.text
    return (await browser.get("/")).text


def raced(page: str) -> list[bool]:
    """Of the two requests at once, the winner first: whether it met what the other had written, as the page tells."""
    told = re.findall(r"<li><p><code>POST /cart</code> <em>[a-z ]+ at once</em></p>.*?</li>", page)
    return sorted("both changes put together" in each for each in told)


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
        assert "Logged out 1 others." in await submit(laptop, "/desk/end-others")
        assert "log in" in (await phone.get("/")).text
        assert "log in" in await submit(laptop, "/logout")
        assert {cookie.name for cookie in laptop.cookies} == {"__Host-prefs"}


async def test_two_buttons_show_a_race_and_a_theft(shop: Any) -> None:
    """F3, R8, F1: what two requests add at once is all there; the cookie from before the login opens nothing."""
    async with Browser(shop) as browser:
        for button in ("race", "steal"):
            assert "Put something into your cart first" in await submit(browser.another(), f"/desk/{button}")
        await submit(browser, "/cart", product="tea")
        page = await submit(browser, "/desk/race")
        assert "both are in it" in page
        assert "2 x tea" in page
        assert "1 x cake" in page
        assert raced(page) == [False, True]

        await submit(browser, "/login", user="ann", password="tea")
        page = await submit(browser, "/desk/steal")
        assert "A thief came with your old cookie and saw a stranger&#x27;s page" in page
        assert re.search(
            r"GET /</code> <em>a thief</em></p><p>.*wrote 0<.*sent nothing<.*An old copy of the cookie", page
        )
        assert "Hello, ann" in page
        assert "2 x tea" in page


async def test_a_theft_where_no_login_was_seen(shop: Any) -> None:
    """R8: a plain rotation makes the old cookie worthless, and the visitor goes on with the new one."""
    async with Browser(shop) as browser:
        await submit(browser, "/cart", product="tea")
        before = [cookie.value for cookie in browser.cookies]
        page = await submit(browser, "/desk/steal")
        assert "A thief came with your old cookie" in page
        assert "1 x tea" in page
        assert [cookie.value for cookie in browser.cookies] != before


async def test_one_device_is_ended_by_another(shop: Any) -> None:
    """F4: "your devices" marks this one, says how long each has left, and ends one of them."""
    async with Browser(shop) as laptop:
        phone = laptop.another()
        phone.headers["user-agent"] = "Mozilla/5.0 (Android 15; Mobile) Firefox/140.0 <i>"
        await submit(laptop, "/login", user="ann", password="tea")
        assert "this one" in await submit(phone, "/login", user="ann", password="tea")
        page = (await laptop.get("/")).text
        assert page.count("this one") == 1
        assert page.count("h 59 min left") == 2
        assert "Firefox on Android" in page
        [handle] = re.findall(r'name="handle" value="([^"]+)"', page)
        assert "That device is logged out." in await submit(laptop, "/desk/end", handle=handle)
        assert "Hello" not in (await phone.get("/")).text
        assert "That device was logged out already." in await submit(laptop, "/desk/end", handle=handle)
        assert (await phone.post("/desk/end", data={"handle": handle})).status == 401


async def test_what_a_visitor_sends_is_escaped(shop: Any) -> None:
    """F12: the path, the product, the theme and the name end up in no page as markup."""
    mark = "<b>x</b>"
    async with Browser(shop) as browser:
        await browser.get("/%3Cb%3Ex%3C%2Fb%3E")
        for path, form in (
            ("/cart", {"product": mark}),
            ("/theme", {"theme": mark}),
            ("/login", {"user": mark, "password": mark}),
            ("/desk/%3Cb%3E", {"handle": mark}),
        ):
            assert mark not in await submit(browser, path, **form)
        page = (await browser.get("/")).text
        assert mark not in page
        assert "/&lt;b&gt;" in page


@pytest.mark.parametrize("shop_in", SHOPS)
async def test_the_shop_works_with_every_storer(shop_in: str, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R, V7: also with one that lists no devices, and says so."""
    monkeypatch.setenv("STORE", store)
    async with Browser(application("shop", shop_in, monkeypatch)) as browser:
        await submit(browser, "/cart", product="honey")
        page = await submit(browser, "/login", user="bob", password="milk")
        assert "Hello, bob" in page
        assert "1 x honey" in page
        page_after = await submit(browser, "/desk/race")
        assert "1 x cake" in page_after
        assert raced(page_after) == [False, True]
        assert "saw a stranger&#x27;s page" in await submit(browser, "/desk/steal")
        await submit(browser.another(), "/login", user="bob", password="milk")
        others = await submit(browser, "/desk/end-others")
        if store.startswith("memcached"):
            assert "MemcachedStorer lists no devices: it keeps no index" in page
            assert "MemcachedStorer lists no devices, so the others are not known." in others
        else:
            assert "this one" in page
            assert "Logged out 1 others." in others
        assert "Hello" not in await submit(browser, "/logout")


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


async def test_a_stranger_gets_no_stream(live: Any) -> None:
    """R13: a 401 with a challenge, in every framework alike, and no socket."""
    async with Browser(live) as browser:
        answer = await browser.get("/stream")
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Session"
        with pytest.raises(HandshakeDeniedError):
            async with browser.websocket("/socket"):
                pass


def test_the_demo_says_where_it_is_once_it_can_be_visited(tmp_path: Path) -> None:
    """The address comes at once, also through a pipe, and the first visit is answered."""
    with subprocess.Popen(
        [sys.executable, "-m", "aiosessions", "demo", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        said = demo.stdout.readline()
        [url] = re.findall(r"http://127\.0\.0\.1:[1-9][0-9]*", said)
        assert "A small shop" in httpx.get(url, trust_env=False).text
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=30)
    assert "Traceback" not in errors
    assert errors.startswith("GET  /              200   read 0  wrote 0")


def test_the_demo_says_nothing_of_an_address_that_is_taken(tmp_path: Path) -> None:
    """Only the error: whose page is there is not ours to announce."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "aiosessions", "demo", "--port", str(taken.getsockname()[1])],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        )
    assert done.returncode != 0
    assert done.stdout == ""
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


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
    assert done.stdout.count(": ok") == 12
    assert "everything held" in done.stdout
