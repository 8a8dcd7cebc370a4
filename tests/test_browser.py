"""The demo's shop, visited by Chromium: what a browser makes of our cookies."""

import contextlib
import json
import math
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aiosessions import AESGCMSealer, CookieOptions, CookieOverseer, CookieTransport, MemoryStorer, Record, new_key
from aiosessions.asgi import SessionMiddleware
from aiosessions.demo.desk import Desk as ShopDesk
from aiosessions.demo.shop import make_app
from tests.chromium import PATIENCE, Chromium, Site, chromium_path, running

SomeServer = TypeVar("SomeServer", bound="Server")

EXECUTABLE = chromium_path()

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(EXECUTABLE is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]

TEA = 'form[action="/cart"]:has([value=tea])'
CAKE = 'form[action="/cart"]:has([value=cake])'
LOGIN = 'form[action="/login"]'
LOGOUT = 'form[action="/logout"]'
THEME = 'form[action="/theme"]:has([value=dark])'

# What a page elsewhere does to have a visitor send a form of its own.
FORGE = """(url => {
    const form = document.createElement("form");
    [form.method, form.action] = ["post", url];
    document.body.append(form);
    form.submit();
})"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The WebSocket client is for asyncio."""
    return "asyncio"


class Server(uvicorn.Server):
    """An application on loopback.

    Args:
        app: an ASGI application.
        certificate: a PEM file with a key in it; None: plain http.
    """

    def __init__(self, app: Any, certificate: Path | None) -> None:  # Any: as uvicorn takes it
        pem = None if certificate is None else str(certificate)
        super().__init__(
            uvicorn.Config(app, lifespan="on", log_config=None, ssl_certfile=pem, timeout_graceful_shutdown=5)
        )
        self.scheme = "http" if pem is None else "https"
        self.port = 0

    @property
    def url(self) -> str:
        return self.at("localhost")

    def at(self, host: str) -> str:
        """The application's address under another name."""
        return f"{self.scheme}://{host}:{self.port}/"

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are pytest's."""
        yield


class Shop(Server):
    """The demo's shop with its strict cookies."""

    def __init__(self, certificate: Path | None) -> None:
        self.storer = PausingStorer()
        super().__init__(make_app(ShopDesk(self.storer)), certificate)


class Desk(Server):
    """Sessions of two sizes in one cookie or in chunks; of two answers the one with `turn=last` waits."""

    def __init__(self, certificate: Path) -> None:
        transport = CookieTransport(CookieOptions(max_bytes=6144))
        self.store = CookieOverseer(dict[str, str], AESGCMSealer(new_key()), transport=transport)
        self.is_first_heard = anyio.Event()
        self._is_last_here = anyio.Event()
        routes = [Route("/{wish}", self._page)]
        middleware = [Middleware(SessionMiddleware, stores=[self.store])]
        super().__init__(Starlette(routes=routes, middleware=middleware), certificate)

    async def _page(self, request: Request) -> Response:
        session = await self.store.get(request)
        turn = request.query_params.get("turn", "")
        match turn:
            case "first":
                await self._is_last_here.wait()
            case "last":
                self._is_last_here.set()
                await self.is_first_heard.wait()
            case _:
                pass
        match request.path_params["wish"]:
            case "logout":
                session.destroy()
            case "small" | "large" as size:
                session.value.update(size=size, turn=turn, text="x" * (4000 if size == "large" else 1))
            case _:
                pass
        return HTMLResponse(session.value.get("size", "logout"))


class PausingStorer(MemoryStorer):
    """Holds a number of reads until all of them have been made."""

    def __init__(self) -> None:
        super().__init__()
        self._awaited = 0
        self._all_there = anyio.Event()

    def hold(self, count: int) -> None:
        self._awaited = count
        self._all_there = anyio.Event()

    async def read(self, key: str) -> Record | None:
        record = await super().read(key)
        if self._awaited:
            self._awaited -= 1
            if not self._awaited:
                self._all_there.set()
            with anyio.fail_after(PATIENCE):
                await self._all_there.wait()
        return record


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for a name that nobody checks."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("certificate") / "shop.pem"
    path.write_bytes(private + made.public_bytes(pem))
    return path


@asynccontextmanager
async def serving(server: SomeServer) -> AsyncGenerator[SomeServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield server
            server.should_exit = True


@pytest.fixture
async def shop(request: pytest.FixtureRequest, certificate: Path) -> AsyncIterator[Shop]:
    """Over https, unless a test asks for plain http."""
    async with serving(Shop(None if getattr(request, "param", "https") == "http" else certificate)) as shop:
        yield shop


@pytest.fixture(scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    assert EXECUTABLE is not None
    async with running(EXECUTABLE, tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator[Site]:
    """A browser of its own for each test, as far as cookies go."""
    private = await chromium.private()
    yield private
    await private.close()


async def test_an_anonymous_visit_leaves_no_cookie(shop: Shop, browser: Site) -> None:
    tab = await browser.tab(shop.url)
    assert "empty" in await tab.text()
    await tab.go(shop.url)
    assert await browser.cookies() == {}


@pytest.mark.parametrize("shop", ["https", "http"], indirect=True)  # http://localhost is trusted like https
async def test_the_strict_cookies_are_taken_and_hidden_from_scripts(shop: Shop, browser: Site) -> None:
    """R4, R7, X3; ASVS 5 3.3.1-3.3.4: `__Host-`, Secure, HttpOnly, SameSite=Lax; until logout."""
    tab = await browser.tab(shop.url)
    assert "1 x tea" in await tab.submit(TEA)
    await tab.submit(THEME)
    assert await tab.run("document.documentElement.dataset.theme") == "dark"
    cookies = await browser.cookies()
    assert cookies.keys() == {"__Host-shop", "__Host-prefs"}
    for cookie in cookies.values():
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        assert (cookie["domain"], cookie["path"], cookie["session"]) == ("localhost", "/", True)
    assert await tab.run("document.cookie") == ""

    assert "Hello, ann" in await tab.submit(LOGIN, user="ann", password="tea", remember="on")
    remembered = (await browser.cookies())["__Host-shop"]
    assert remembered["value"] != cookies["__Host-shop"]["value"]
    assert not remembered["session"]
    assert math.isclose(remembered["expires"], time.time() + 90 * 86_400, abs_tol=PATIENCE)
    assert "2 x tea" in await tab.submit(TEA)
    assert (await browser.cookies())["__Host-shop"]["value"] == remembered["value"]

    page = await tab.submit(LOGOUT)
    assert "Hello" not in page
    assert "empty" in page
    assert (await browser.cookies()).keys() == {"__Host-prefs"}


@pytest.mark.parametrize("shop", ["http"], indirect=True)
async def test_another_host_without_https_gets_no_cookie(shop: Shop, browser: Site) -> None:
    """What the WARNING about plain http says of browsers: they drop the cookie and say nothing."""
    tab = await browser.tab(shop.at("shop.test"))
    assert "empty" in await tab.submit(TEA)
    assert await browser.cookies() == {}


async def test_a_forged_form_of_the_same_site_is_refused(shop: Shop, browser: Site) -> None:
    """A form without the session's own CSRF token changes nothing."""
    tab = await browser.tab(shop.url)
    await tab.submit(LOGIN, user="ann", password="tea")
    assert await tab.submit(TEA, csrf="forged") == "this form is not ours"
    page = await tab.go(shop.url)
    assert "Hello, ann" in page
    assert "empty" in page


@pytest.mark.parametrize("path", ["logout", "cart"])
async def test_a_form_on_another_site_changes_nothing(shop: Shop, browser: Site, path: str) -> None:
    """SameSite=Lax and Sec-Fetch-Site: a page elsewhere cannot log anybody out, nor put a new session over theirs."""
    home = await browser.tab(shop.at("shop.test"))
    await home.submit(LOGIN, user="ann", password="tea", remember="on")
    cookies = await browser.cookies()
    elsewhere = await browser.tab(f"{shop.at('evil.test')}nowhere")  # a page without a policy of its own
    forged = f"{shop.at('shop.test')}{path}"
    page = await elsewhere.leave(f"{FORGE}({json.dumps(forged)})")
    assert await elsewhere.run("location.hostname") == "shop.test"
    assert page == "this form is not ours"
    assert await browser.cookies() == cookies
    assert "Hello, ann" in await home.go(shop.at("shop.test"))


async def test_two_tabs_that_fill_one_cart_at_once_both_keep_their_item(shop: Shop, browser: Site) -> None:
    """F3: both requests have read the cart before either writes it."""
    one = await browser.tab(shop.url)
    await one.submit(THEME)
    await one.submit(LOGIN, user="ann", password="tea")
    other = await browser.tab(shop.url)
    shop.storer.hold(2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.submit, TEA)
        tasks.start_soon(other.submit, CAKE)

    page = await one.go(shop.url)
    assert "1 x tea" in page
    assert "1 x cake" in page


async def test_two_devices_see_and_end_each_other(shop: Shop, browser: Site, chromium: Chromium) -> None:
    """F4: "your devices" in two browsers that share no cookie."""
    laptop = await browser.tab(shop.url)
    await laptop.submit(LOGIN, user="ann", password="tea", remember="on")
    assert "End" not in await laptop.text()
    other = await chromium.private()
    phone = await other.tab(shop.url)
    assert (await phone.submit(LOGIN, user="ann", password="tea")).count("Chrome on") == 2
    page = await laptop.go(shop.url)
    assert page.count("this one") == 1
    assert "29 days left" in page
    assert "23 h 59 min left" in page
    page = await laptop.submit('form[action="/desk/end"]')
    assert "That device is logged out." in page
    assert "Hello" not in await phone.go(shop.url)

    await phone.submit(LOGIN, user="ann", password="tea")
    await laptop.go(shop.url)
    assert "Logged out 1 others." in await laptop.submit('form[action="/desk/end-others"]')
    assert "Hello" not in await phone.go(shop.url)
    assert "Hello, ann" in await laptop.go(shop.url)
    await other.close()


async def test_the_two_buttons_tell_what_happened(shop: Shop, browser: Site) -> None:
    """F3, R8: without a script, and with nothing that the page's own policy refuses."""
    tab = await browser.tab(shop.url)
    await tab.submit(TEA)
    await tab.submit(LOGIN, user="ann", password="tea")
    before = (await browser.cookies())["__Host-shop"]["value"]
    page = await tab.submit('form[action="/desk/race"]')
    assert "2 x tea" in page
    assert "1 x cake" in page
    assert "both changes put together" in page
    page = await tab.submit('form[action="/desk/steal"]')
    assert "saw a stranger's page" in page
    assert "An old copy of the cookie" in page
    assert "Hello, ann" in page
    assert (await browser.cookies())["__Host-shop"]["value"] == before
    assert await tab.run("document.scripts.length") == 0
    assert await tab.run("getComputedStyle(document.querySelector('main')).display") == "grid"


@pytest.mark.parametrize(("choice", "is_dark"), [("auto", True), ("auto", False), ("light", False), ("dark", True)])
async def test_the_page_is_light_or_dark(shop: Shop, browser: Site, choice: str, *, is_dark: bool) -> None:
    """The visitor's choice, and without one what the browser prefers."""
    tab = await browser.tab(shop.url)
    prefers = "dark" if choice != "dark" and (is_dark or choice == "light") else "light"
    await tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": prefers}])
    await tab.submit(f'form[action="/theme"]:has([value={choice}])')
    red = await tab.run("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0]")
    assert (int(red) < 128) is is_dark


async def test_the_page_needs_no_mouse(shop: Shop, browser: Site) -> None:
    """Tab goes through all that can be used, in the page's order, and shows where it is (WCAG 2.2, 2.1.1 and 2.4.7)."""
    tab = await browser.tab(shop.url)
    await tab.submit(THEME)
    usable = "document.querySelectorAll('button, input:not([type=hidden]), aside')"
    for number in range(await tab.run(f"{usable}.length")):
        await tab.press_tab()
        assert await tab.run(f"document.activeElement === {usable}[{number}]")
        assert await tab.run("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    await tab.run("document.querySelector('[aria-label=\"Add tea\"]').focus()")
    assert "1 x tea" in await tab.press_enter()


async def test_the_page_fits_a_phone(shop: Shop, browser: Site) -> None:
    """Nothing is wider than 320 pixels, and every button can be met with a thumb (WCAG 2.2, 1.4.10 and 2.5.8)."""
    tab = await browser.tab(shop.url)
    await tab.ask("Emulation.setDeviceMetricsOverride", width=320, height=640, deviceScaleFactor=1, mobile=True)
    await tab.submit(TEA)
    await tab.submit(LOGIN, user="ann", password="tea")
    assert await tab.run("document.documentElement.scrollWidth") == 320
    heights = await tab.run("[...document.querySelectorAll('button')].map(each => each.offsetHeight)")
    assert min(heights) >= 24


@pytest.mark.parametrize("order", [("large", "logout"), ("logout", "large")])
async def test_of_two_answers_the_one_that_comes_last_is_what_the_browser_holds(
    certificate: Path, browser: Site, order: tuple[str, str]
) -> None:
    """R7, R9: both requests came with the small session; the answers set one cookie, or chunks, or none."""
    async with serving(Desk(certificate)) as desk:
        one, other = await browser.tab(f"{desk.url}small"), await browser.tab()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.go, f"{desk.url}{order[1]}?turn=last")
            assert await one.go(f"{desk.url}{order[0]}?turn=first") == order[0]
            desk.is_first_heard.set()

        assert await one.go(f"{desk.url}look") == order[1]
        names = {"logout": set[str](), "small": {"__Host-app"}, "large": {"__Host-app.0", "__Host-app.1"}}
        assert (await browser.cookies()).keys() == names[order[1]]


async def test_a_browser_that_starts_again_knows_the_remembered_session_only(certificate: Path, tmp_path: Path) -> None:
    """X3: cookie="browser" ends with the browser, a persistent one does not."""
    assert EXECUTABLE is not None
    async with serving(Shop(certificate)) as shop:
        async with running(EXECUTABLE, tmp_path) as chromium:
            profile = chromium.profile()
            tab = await profile.tab(shop.url)
            await tab.submit(THEME)
            assert "Hello, ann" in await tab.submit(LOGIN, user="ann", password="tea", remember="on")
            before = await profile.cookies()
            assert before.keys() == {"__Host-shop", "__Host-prefs"}

        async with running(EXECUTABLE, tmp_path) as chromium:
            profile = chromium.profile()
            tab = await profile.tab(shop.url)
            after = await profile.cookies()
            assert after.keys() == {"__Host-shop"}
            assert after["__Host-shop"]["value"] == before["__Host-shop"]["value"]
            assert "Hello, ann" in await tab.text()
            assert await tab.run("document.documentElement.dataset.theme") == "auto"
