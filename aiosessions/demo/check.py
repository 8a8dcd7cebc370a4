"""Visits the shop over real HTTP as a browser would, and prints what was done, read, written and sent."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aiosessions import StorageOverseer
from aiosessions.demo.cart import Cart, put
from aiosessions.demo.narrator import Notes
from aiosessions.demo.server import serving

__all__ = ["check"]

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


class _Visit:
    """The steps taken so far, and whether all of them held."""

    def __init__(self) -> None:
        self.notes: list[Notes] = []
        self.failures = 0
        self._step = 0

    def step(self, text: str, *, holds: bool) -> None:
        """Print one step and the requests it took."""
        self._step += 1
        self.failures += not holds
        print(f"\n{self._step:2}. {text}: {'ok' if holds else 'FAILED'}")
        for notes in self.notes:
            print(f"      {notes.line()}")
        self.notes.clear()


class _Slow:
    """A page that takes its time: it has loaded the session and waits before it changes it."""

    def __init__(self) -> None:
        self.has_loaded = anyio.Event()
        self.may_go_on = anyio.Event()


class _Device:
    """A browser of the user's: one cookie jar."""

    def __init__(self, url: str) -> None:
        self.client = httpx.AsyncClient(base_url=url, trust_env=False)

    async def get(self, path: str = "/") -> str:
        return (await self.client.get(path)).text

    async def post(self, path: str, **form: str) -> str:
        """Fill in a form of the page, and follow where it leads."""
        csrf = _CSRF.search(await self.get())
        response = await self.client.post(path, data={**form, **({"csrf": csrf[1]} if csrf else {})})
        return (await self.client.get(response.headers["location"])).text

    def cookie(self) -> str:
        return self.client.cookies.get("shop") or ""

    async def with_cookie(self, value: str) -> str:
        """The page as somebody with this cookie, and no other, sees it."""
        return (await self.client.get("/", headers={"cookie": f"shop={value}"}, follow_redirects=False)).text


async def check(folder: Path) -> int:
    """The whole visit; 0 if all held, else 1."""
    visit = _Visit()
    slow = _Slow()

    @asynccontextmanager
    async def server(port: int = 0) -> AsyncGenerator[int]:
        async with serving(folder, port, visit.notes.append, lambda shop: [Route("/slow", _page(slow, shop))]) as bound:
            yield bound

    async with server() as port:
        url = f"http://127.0.0.1:{port}"
        print(f"the shop is at {url}, its sessions in a folder of files")
        laptop, phone = _Device(url), _Device(url)
        async with laptop.client, phone.client:
            await _shop_and_login(visit, laptop)
            await _leave_others(visit, laptop, phone)
            await _log_out_meanwhile(visit, phone, slow)
            await _two_buttons(visit, laptop)
            remembered = laptop.cookie()

    async with server(port):
        laptop = _Device(url)
        async with laptop.client:
            await _come_back(visit, laptop, remembered)

    print(f"\n{'everything held' if not visit.failures else f'{visit.failures} steps FAILED'}")
    return 1 if visit.failures else 0


async def _shop_and_login(visit: _Visit, laptop: _Device) -> None:
    page = await laptop.get()
    holds = "empty" in page and not laptop.client.cookies and not visit.notes[0].calls
    visit.step("somebody looks around: nothing is stored, nothing is sent", holds=holds)

    page = await laptop.post("/cart", product="tea")
    visit.step("puts tea into the cart: one session, one cookie", holds="1 x tea" in page and bool(laptop.cookie()))

    anonymous = laptop.cookie()
    page = await laptop.post("/login", user="ann", password="tea", remember="on")  # noqa: S106  # the demo's own
    visit.step("logs in: the cart stays, the cookie is another", holds="Hello, ann" in page and "1 x tea" in page)

    page = await laptop.with_cookie(anonymous)
    visit.step("the old cookie comes again: refused", holds="log in" in page and "x tea" not in page)


async def _leave_others(visit: _Visit, laptop: _Device, phone: _Device) -> None:
    page = await phone.post("/login", user="ann", password="tea")  # noqa: S106  # the demo's own
    visit.step("a second device logs in, with a cart of its own", holds="Hello, ann" in page and "empty" in page)

    await laptop.post("/desk/end-others")
    page = await phone.get()
    holds = "log in" in page and "Hello, ann" in await laptop.get()
    visit.step("logs out everywhere else: the phone is out, the laptop is not", holds=holds)


async def _log_out_meanwhile(visit: _Visit, phone: _Device, slow: _Slow) -> None:
    await phone.post("/login", user="ann", password="tea")  # noqa: S106  # the demo's own
    stolen = phone.cookie()
    visit.notes.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(phone.get, "/slow")
        await slow.has_loaded.wait()
        await phone.post("/logout")
        slow.may_go_on.set()
    holds = "log in" in await phone.get() and "log in" in await phone.with_cookie(stolen)
    visit.step("logs out while a slow request writes: still logged out", holds=holds)


async def _two_buttons(visit: _Visit, laptop: _Device) -> None:
    page = await laptop.post("/desk/race")
    visit.step("two requests add to one cart at once: both are in it", holds="2 x tea" in page and "1 x cake" in page)

    page = await laptop.post("/desk/steal")
    holds = "saw a stranger's page" in unescape(page) and "Hello, ann" in page
    visit.step("a thief presents the cookie from before the login: refused", holds=holds)


async def _come_back(visit: _Visit, laptop: _Device, remembered: str) -> None:
    laptop.client.cookies.set("shop", remembered, domain="127.0.0.1")
    page = await laptop.get()
    visit.step("the server restarts: still logged in", holds="Hello, ann" in page and "2 x tea" in page)

    changed = remembered[:-1] + ("A" if remembered[-1] != "A" else "B")
    holds = "log in" in await laptop.with_cookie(changed) and "Hello, ann" in await laptop.get()
    visit.step("one byte of the cookie is changed: refused; the real one works on", holds=holds)

    page = await laptop.post("/logout")
    holds = "log in" in page and not laptop.cookie() and "log in" in await laptop.with_cookie(remembered)
    visit.step("logs out: the cookie goes, and a copy of it is refused", holds=holds)


def _page(slow: _Slow, shop: StorageOverseer[Cart]) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        session = await shop.get(request)
        put(session.value, "cake")
        slow.has_loaded.set()
        await slow.may_go_on.wait()
        return PlainTextResponse("at last")

    return page
