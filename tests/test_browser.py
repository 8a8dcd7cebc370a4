"""The demo's shop, visited by Chromium: what a browser makes of our cookies."""

import contextlib
import math
import shutil
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aiosessions import AESGCMSealer, CookieOptions, CookieOverseer, CookieTransport, MemoryStorer, Record, new_key
from aiosessions.asgi import SessionMiddleware
from aiosessions.demo.desk import Desk as ShopDesk
from aiosessions.demo.shop import make_app

SomeServer = TypeVar("SomeServer", bound="Server")

EXECUTABLE = shutil.which("chromium")
OPTIONS = (
    "--ignore-certificate-errors",  # the certificate is made by the test
    "--host-resolver-rules=MAP *.test 127.0.0.1",
)
PATIENCE = 20.0  # seconds that anything may take

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(EXECUTABLE is None, reason="no chromium on the PATH"),
]

TEA = 'form[action="/cart"]:has([value=tea])'
CAKE = 'form[action="/cart"]:has([value=cake])'
LOGIN = 'form[action="/login"]'
LOGOUT = 'form[action="/logout"]'
THEME = 'form[action="/theme"]:has([value=dark])'

# What a page elsewhere does to have a visitor send a form of its own.
FORGE = """url => {
    const form = document.createElement("form");
    [form.method, form.action] = ["post", url];
    document.body.append(form);
    form.submit();
}"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Playwright is for asyncio."""
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


@pytest.fixture
async def desk(certificate: Path) -> AsyncIterator[Desk]:
    async with serving(Desk(certificate)) as desk:
        yield desk


@pytest.fixture(scope="module")
async def playwright() -> AsyncIterator[Playwright]:
    async with async_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
async def chromium(playwright: Playwright) -> AsyncIterator[Browser]:
    async with await playwright.chromium.launch(executable_path=EXECUTABLE, args=OPTIONS) as chromium:
        yield chromium


@pytest.fixture
async def browser(chromium: Browser) -> AsyncIterator[BrowserContext]:
    """A browser of its own for each test, as far as cookies go."""
    async with await chromium.new_context() as browser:
        yield browser


async def cookies_of(browser: BrowserContext) -> dict[str, Mapping[str, Any]]:  # Any: whatever a cookie has
    """Every cookie that the browser keeps, by its name."""
    return {str(cookie.get("name")): cookie for cookie in await browser.cookies()}


async def tab_at(browser: BrowserContext, url: str) -> Page:
    """A new tab, with a page in it."""
    tab = await browser.new_page()
    await tab.goto(url)
    return tab


async def go(tab: Page, url: str) -> str:
    """Load a page; what a person reads there."""
    await tab.goto(url)
    return await tab.inner_text("body")


async def submit(tab: Page, selector: str, **values: str) -> str:
    """Fill in a form, where "on" ticks a checkbox, and press its first button; the text of the page that follows."""
    form = tab.locator(selector).first
    for name, value in values.items():
        field = form.locator(f"[name={name}]")
        await (field.check() if value == "on" else field.fill(value))
    async with tab.expect_navigation():
        await form.locator("button").first.click()
    return await tab.inner_text("body")


async def test_an_anonymous_visit_leaves_no_cookie(shop: Shop, browser: BrowserContext) -> None:
    tab = await tab_at(browser, shop.url)
    assert "empty" in await tab.inner_text("body")
    await go(tab, shop.url)
    assert await cookies_of(browser) == {}


@pytest.mark.parametrize("shop", ["https", "http"], indirect=True)  # http://localhost is trusted like https
async def test_the_strict_cookies_are_taken_and_hidden_from_scripts(shop: Shop, browser: BrowserContext) -> None:
    """R4, R7, X3; ASVS 5 3.3.1-3.3.4: `__Host-`, Secure, HttpOnly, SameSite=Lax; until logout."""
    tab = await tab_at(browser, shop.url)
    assert "1 x tea" in await submit(tab, TEA)
    await submit(tab, THEME)
    assert await tab.evaluate("document.documentElement.dataset.theme") == "dark"
    cookies = await cookies_of(browser)
    assert cookies.keys() == {"__Host-shop", "__Host-prefs"}
    for cookie in cookies.values():
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        assert (cookie["domain"], cookie["path"], cookie["expires"]) == ("localhost", "/", -1)
    assert await tab.evaluate("document.cookie") == ""

    assert "Hello, ann" in await submit(tab, LOGIN, user="ann", password="tea", remember="on")
    remembered = (await cookies_of(browser))["__Host-shop"]
    assert remembered["value"] != cookies["__Host-shop"]["value"]
    assert math.isclose(remembered["expires"], time.time() + 90 * 86_400, abs_tol=PATIENCE)
    assert "2 x tea" in await submit(tab, TEA)
    assert (await cookies_of(browser))["__Host-shop"]["value"] == remembered["value"]

    page = await submit(tab, LOGOUT)
    assert "Hello" not in page
    assert "empty" in page
    assert (await cookies_of(browser)).keys() == {"__Host-prefs"}


@pytest.mark.parametrize("shop", ["http"], indirect=True)
async def test_another_host_without_https_gets_no_cookie(shop: Shop, browser: BrowserContext) -> None:
    """What the WARNING about plain http says of browsers: they drop the cookie and say nothing."""
    tab = await tab_at(browser, shop.at("shop.test"))
    assert "empty" in await submit(tab, TEA)
    assert await cookies_of(browser) == {}


async def test_a_forged_form_of_the_same_site_is_refused(shop: Shop, browser: BrowserContext) -> None:
    """A form without the session's own CSRF token changes nothing."""
    tab = await tab_at(browser, shop.url)
    await submit(tab, LOGIN, user="ann", password="tea")
    await tab.locator(TEA).locator("[name=csrf]").evaluate("field => { field.value = 'forged'; }")
    assert await submit(tab, TEA) == "this form is not ours"
    page = await go(tab, shop.url)
    assert "Hello, ann" in page
    assert "empty" in page


@pytest.mark.parametrize("path", ["logout", "cart"])
async def test_a_form_on_another_site_changes_nothing(shop: Shop, browser: BrowserContext, path: str) -> None:
    """SameSite=Lax and Sec-Fetch-Site: a page elsewhere cannot log anybody out, nor put a new session over theirs."""
    home = await tab_at(browser, shop.at("shop.test"))
    await submit(home, LOGIN, user="ann", password="tea", remember="on")
    cookies = await cookies_of(browser)
    elsewhere = await tab_at(browser, f"{shop.at('evil.test')}nowhere")  # a page without a policy of its own
    forged = f"{shop.at('shop.test')}{path}"
    async with elsewhere.expect_navigation():
        await elsewhere.evaluate(FORGE, forged)
    assert await elsewhere.evaluate("location.hostname") == "shop.test"
    assert await elsewhere.inner_text("body") == "this form is not ours"
    assert await cookies_of(browser) == cookies
    assert "Hello, ann" in await go(home, shop.at("shop.test"))


async def test_two_tabs_that_fill_one_cart_at_once_both_keep_their_item(shop: Shop, browser: BrowserContext) -> None:
    """F3: both requests have read the cart before either writes it."""
    one = await tab_at(browser, shop.url)
    await submit(one, THEME)
    await submit(one, LOGIN, user="ann", password="tea")
    other = await tab_at(browser, shop.url)
    shop.storer.hold(2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(submit, one, TEA)
        tasks.start_soon(submit, other, CAKE)

    page = await go(one, shop.url)
    assert "1 x tea" in page
    assert "1 x cake" in page


async def test_two_devices_see_and_end_each_other(shop: Shop, browser: BrowserContext, chromium: Browser) -> None:
    """F4: "your devices" in two browsers that share no cookie."""
    laptop = await tab_at(browser, shop.url)
    await submit(laptop, LOGIN, user="ann", password="tea", remember="on")
    assert "End" not in await laptop.inner_text("body")
    phone = await tab_at(await chromium.new_context(), shop.url)
    assert (await submit(phone, LOGIN, user="ann", password="tea")).count("Chrome on") == 2
    page = await go(laptop, shop.url)
    assert page.count("this one") == 1
    assert "29 days left" in page
    assert "23 h 59 min left" in page
    page = await submit(laptop, 'form[action="/desk/end"]')
    assert "That device is logged out." in page
    assert "Hello" not in await go(phone, shop.url)

    await submit(phone, LOGIN, user="ann", password="tea")
    await go(laptop, shop.url)
    assert "Logged out 1 others." in await submit(laptop, 'form[action="/desk/end-others"]')
    assert "Hello" not in await go(phone, shop.url)
    assert "Hello, ann" in await go(laptop, shop.url)
    await phone.context.close()


async def test_the_two_buttons_tell_what_happened(shop: Shop, browser: BrowserContext) -> None:
    """F3, R8: without a script, and with nothing that the page's own policy refuses."""
    tab = await tab_at(browser, shop.url)
    await submit(tab, TEA)
    await submit(tab, LOGIN, user="ann", password="tea")
    before = (await cookies_of(browser))["__Host-shop"]["value"]
    page = await submit(tab, 'form[action="/desk/race"]')
    assert "2 x tea" in page
    assert "1 x cake" in page
    assert "both changes put together" in page
    page = await submit(tab, 'form[action="/desk/steal"]')
    assert "saw a stranger's page" in page
    assert "An old copy of the cookie" in page
    assert "Hello, ann" in page
    assert (await cookies_of(browser))["__Host-shop"]["value"] == before
    assert await tab.evaluate("document.scripts.length") == 0
    assert await tab.evaluate("getComputedStyle(document.querySelector('main')).display") == "grid"


@pytest.mark.parametrize(("choice", "is_dark"), [("auto", True), ("auto", False), ("light", False), ("dark", True)])
async def test_the_page_is_light_or_dark(shop: Shop, browser: BrowserContext, choice: str, *, is_dark: bool) -> None:
    """The visitor's choice, and without one what the browser prefers."""
    tab = await tab_at(browser, shop.url)
    await tab.emulate_media(color_scheme="dark" if choice != "dark" and (is_dark or choice == "light") else "light")
    await submit(tab, f'form[action="/theme"]:has([value={choice}])')
    red = await tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0]")
    assert (int(red) < 128) is is_dark


async def test_the_page_needs_no_mouse(shop: Shop, browser: BrowserContext) -> None:
    """Tab goes through all that can be used, in the page's order, and shows where it is (WCAG 2.2, 2.1.1 and 2.4.7)."""
    tab = await tab_at(browser, shop.url)
    await submit(tab, THEME)
    usable = "document.querySelectorAll('button, input:not([type=hidden]), aside')"
    for number in range(await tab.evaluate(f"{usable}.length")):
        await tab.keyboard.press("Tab")
        assert await tab.evaluate(f"document.activeElement === {usable}[{number}]")
        assert await tab.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    await tab.evaluate("document.querySelector('[aria-label=\"Add tea\"]').focus()")
    async with tab.expect_navigation():
        await tab.keyboard.press("Enter")
    assert "1 x tea" in await tab.inner_text("body")


async def test_the_page_fits_a_phone(shop: Shop, chromium: Browser) -> None:
    """Nothing is wider than 320 pixels, and every button can be met with a thumb (WCAG 2.2, 1.4.10 and 2.5.8)."""
    async with await chromium.new_context(viewport={"width": 320, "height": 640}, is_mobile=True) as phone:
        tab = await tab_at(phone, shop.url)
        await submit(tab, TEA)
        await submit(tab, LOGIN, user="ann", password="tea")
        assert await tab.evaluate("document.documentElement.scrollWidth") == 320
        heights = await tab.evaluate("[...document.querySelectorAll('button')].map(each => each.offsetHeight)")
        assert min(heights) >= 24


@pytest.mark.parametrize("order", [("large", "logout"), ("logout", "large")])
async def test_of_two_answers_the_one_that_comes_last_is_what_the_browser_holds(
    desk: Desk, browser: BrowserContext, order: tuple[str, str]
) -> None:
    """R7, R9: both requests came with the small session; the answers set one cookie, or chunks, or none."""
    one, other = await tab_at(browser, f"{desk.url}small"), await browser.new_page()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(go, other, f"{desk.url}{order[1]}?turn=last")
        assert await go(one, f"{desk.url}{order[0]}?turn=first") == order[0]
        desk.is_first_heard.set()

    assert await go(one, f"{desk.url}look") == order[1]
    names = {"logout": set[str](), "small": {"__Host-app"}, "large": {"__Host-app.0", "__Host-app.1"}}
    assert (await cookies_of(browser)).keys() == names[order[1]]


async def test_a_browser_that_starts_again_knows_the_remembered_session_only(
    shop: Shop, playwright: Playwright, tmp_path: Path
) -> None:
    """X3: cookie="browser" ends with the browser, a persistent one does not."""
    start = partial(playwright.chromium.launch_persistent_context, tmp_path, executable_path=EXECUTABLE, args=OPTIONS)
    async with await start() as profile:
        tab = await tab_at(profile, shop.url)
        await submit(tab, THEME)
        assert "Hello, ann" in await submit(tab, LOGIN, user="ann", password="tea", remember="on")
        before = await cookies_of(profile)
        assert before.keys() == {"__Host-shop", "__Host-prefs"}

    async with await start() as profile:
        tab = await tab_at(profile, shop.url)
        after = await cookies_of(profile)
        assert after.keys() == {"__Host-shop"}
        assert after["__Host-shop"]["value"] == before["__Host-shop"]["value"]
        assert "Hello, ann" in await tab.inner_text("body")
        assert await tab.evaluate("document.documentElement.dataset.theme") == "auto"
