"""What the README and docs/ show is executed."""

import importlib
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import aiosessions
from aiosessions import AESGCMSealer, CookieOverseer, Exchange, StorageOverseer, Store, new_key
from aiosessions.testing import Browser, HandshakeDeniedError, WebSocketClosedError, signed_in

Shown = dict[str, Any]  # Any: what a block defines

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
README = PAGES["README.md"]
SHOWN = {  # title, if it is a part of a file, and text
    f"{page}:{number}": (title, block)
    for page, text in PAGES.items()
    for number, (title, block) in enumerate(
        re.findall(r'^```python(?: title="(\w+\.py)")?\n(.*?)^```', text, re.DOTALL | re.MULTILINE), 1
    )
}
ELSEWHERE = ("docs/recipes/", "docs/coming-from/")
"""Pages about other packages: tests/recipes/ runs and visits theirs."""
BLOCKS = [
    pytest.param(key, block, id=key)
    for key, (title, block) in SHOWN.items()
    if not title and not key.startswith(ELSEWHERE)
]
REFERENCE = [name for text in PAGES.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Frameworks decide; asyncio is what all of them run on."""
    name: str = request.param
    return name


def run(block: str, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Execute a block as a module of its own; frameworks look annotations up there."""
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compile(block, "README.md", "exec"), module.__dict__)  # the README's own
    return module.__dict__


async def visit(browser: Browser, block: str) -> None:
    """Do what the application of a block of README's is for."""
    if "/cart/" in block:
        assert (await browser.post("/cart/tea")).status == 401
        assert (await browser.post("/login/ann")).json() == "Hello ann"
        assert (await browser.post("/cart/tea")).json() == ["tea"]
        assert (await browser.post("/cart/milk")).json() == ["tea", "milk"]
    else:
        assert (await browser.get("/")).status == 401
        assert "Hello ann" in (await browser.post("/login")).text
        for visits in (2, 3):  # the first was counted before the login
            assert (await browser.get("/")).json() == {"user": "ann", "visits": visits}


async def without_a_framework(shown: Shown) -> None:
    token = await shown["token_for"]("ann")
    for calls in (1, 2):
        body, headers = await shown["call"]([("Cookie", f"__Host-app={token}")])
        assert body == f"ann {calls}"
        assert headers == [("Vary", "Cookie")]
    body, headers = await shown["call"]([])
    assert body == "None 1"
    assert [name for name, _ in headers] == ["Set-Cookie", "Cache-Control", "Vary"]


async def logs_in_and_out(shown: Shown) -> None:
    async with Browser(shown["app"]) as browser:
        assert (await browser.get("/account")).headers["location"] == "/login"
        assert (await browser.post("/login", data={"user": "ann", "password": "coffee"})).status == 403
        form = {"user": "ann", "password": "tea for two"}
        assert (await browser.post("/login", data=form, headers={"Sec-Fetch-Site": "cross-site"})).status == 403
        assert (await browser.post("/login", data=form, follow=True)).json() == "ann"
        assert (await browser.post("/delete-account")).json() == "Goodbye ann"
        earlier = StorageOverseer(shown["Shop"], shown["store"]._backend.storer, clock=lambda: time.time() - 600)
        await browser.sign_in(earlier, "ann")
        assert (await browser.post("/delete-account")).headers["location"] == "/login"
        assert (await browser.get("/account")).json() == "ann"
        await browser.post("/logout")
        for refused in (await browser.get("/account"), await browser.post("/delete-account")):
            assert (refused.status, refused.headers["location"]) == (303, "/login")


async def lists_devices(shown: Shown) -> None:
    async with Browser(shown["app"]) as laptop:
        phone, tablet, stranger = laptop.another(), laptop.another(), laptop.another()
        assert (await stranger.get("/devices")).status == 401
        for device, name, user in ((laptop, "laptop", "ann"), (phone, "phone", "ann"), (tablet, "tablet", "ann")):
            await device.post(f"/login/{user}", headers={"User-Agent": name})
        await stranger.post("/login/bob")
        listed = {device["label"]: device for device in (await laptop.get("/devices")).json()}
        assert {name: device["is_this"] for name, device in listed.items()} == {
            "laptop": True,
            "phone": False,
            "tablet": False,
        }
        end = f"/devices/{listed['phone']['handle']}/end"
        assert (await stranger.post(end)).json() is False
        assert (await laptop.post(end)).json() is True
        assert (await phone.get("/devices")).status == 401
        assert (await laptop.post("/devices/end-others")).json() == 1
        assert (await tablet.get("/devices")).status == 401
        assert len((await laptop.get("/devices")).json()) == 1


async def remembers(shown: Shown) -> None:
    store: StorageOverseer[dict[str, int]] = shown["store"]
    async with Browser(shown["app"]) as browser:
        [line] = (await browser.post("/login/ann")).set_cookies
        assert "Max-Age" not in line
        [line] = (await browser.another().post("/login/bob?remember=true")).set_cookies
        age = re.search(r"Max-Age=(\d+)", line)
        assert age is not None
        assert 89 < int(age[1]) / 86_400 <= 90
        for user, hours in (("ann", 1), ("bob", 30 * 24)):
            [device] = await store.user_sessions(user)
            assert device.expires_at is not None
            assert (device.expires_at - device.seen_at).total_seconds() == hours * 3600


async def chats(shown: Shown) -> None:
    async with Browser(shown["app"]) as browser:
        with pytest.raises(HandshakeDeniedError):
            async with browser.websocket("/chat"):
                pass
        await browser.post("/login/ann")
        with pytest.raises(HandshakeDeniedError):
            async with browser.websocket("/chat", headers={"Origin": "https://elsewhere.example"}):
                pass
        async with browser.websocket("/chat") as one, browser.websocket("/chat") as other:
            for said, socket in (("1", one), ("2", other), ("3", one)):
                await socket.send_text("hello")
                assert await socket.receive_text() == said
            await browser.post("/logout")
            with pytest.raises(WebSocketClosedError) as closed:
                await one.receive_text()
        assert closed.value.code == 4401


async def opens(store: Store[Any], headers: list[tuple[str, str]]) -> str | None:
    return (await store.get(Exchange(headers))).user_id


async def follows_the_environment(shown: Shown) -> None:
    store = shown["store"]
    headers = list((await signed_in(store, "ann")).headers.items())
    shown["os"].environ["SESSION_KEYS"] += f" {new_key()}"
    shown["reload"]()
    assert await opens(store, headers) == "ann"
    shown["os"].environ["SESSION_KEYS"] = new_key()
    shown["reload"]()
    assert await opens(store, headers) is None


async def rings(shown: Shown) -> None:
    """The table's rows, and the key that waits."""
    old, new = shown["old"], shown["new"]
    before, learned, turned, after = (
        CookieOverseer(dict[str, int], AESGCMSealer(keys)) for keys in (old, f"{old} {new}", f"{new} {old}", new)
    )
    for seals, opening, refusing in (
        (before, (before, learned, turned), (after,)),
        (learned, (before, learned, turned), (after,)),
        (turned, (learned, turned, after), (before,)),
        (after, (learned, turned, after), (before,)),
    ):
        headers = list((await signed_in(seals, "ann")).headers.items())
        assert [await opens(store, headers) for store in opening] == ["ann"] * 3
        assert [await opens(store, headers) for store in refusing] == [None]
    waiting = CookieOverseer(dict[str, int], shown["sealer"])
    headers = list((await signed_in(waiting, "ann")).headers.items())
    assert (await opens(before, headers), await opens(after, headers)) == ("ann", None)


async def changes_a_type(shown: Shown) -> None:
    today, yesterday, never = shown["today"], shown["yesterday"], shown["never"]
    headers = list((await signed_in(today, "ann", shown["After"](["tea"], "SPRING"))).headers.items())
    exchange = Exchange(headers)
    older = await yesterday.get(exchange)
    older.value.cart.append("milk")
    await yesterday.save(older, exchange)
    assert (await today.get(Exchange(headers))).value == shown["After"](["tea", "milk"], "SPRING")
    assert (await never.get(Exchange(headers))).is_new
    [event] = [event for event in shown["events"] if event.kind == "unreadable"]
    assert event.fields == ("cart",)
    assert await opens(today, headers) == "ann"  # the record stays
    from_before = list((await signed_in(yesterday, "bob", shown["Before"](["tea"]))).headers.items())
    assert (await today.get(Exchange(from_before))).value == shown["After"](["tea"], None)


VISITS: dict[str, Callable[[Shown], Awaitable[None]]] = {
    "docs/requests.md:1": without_a_framework,
    "docs/testing.md:1": lambda shown: shown["test_hello"](),
    "docs/login.md:1": logs_in_and_out,
    "docs/devices.md:1": lists_devices,
    "docs/remember-me.md:1": remembers,
    "docs/websockets.md:1": chats,
    "docs/key-rotation.md:1": follows_the_environment,
    "docs/key-rotation.md:2": rings,
    "docs/changing-a-type.md:1": changes_a_type,
}
"""What a block is for, by its page and its number there."""


@pytest.mark.parametrize(("key", "block"), BLOCKS)
async def test_a_block_runs_and_does_what_it_says(
    key: str, block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An application is visited."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_KEYS", new_key())
    try:
        shown = run(block, monkeypatch)
    except ImportError as error:
        if (error.name or "aiosessions").startswith("aiosessions") and "aiosessions[" not in str(error):
            raise
        pytest.skip(f"not installed here: {error}")
    if key in VISITS:
        await VISITS[key](shown)
    elif "app" in shown:
        assert key.startswith("README"), "say in VISITS what its application is for"
        async with Browser(shown["app"]) as browser:
            await visit(browser, block)


@pytest.mark.parametrize("page", sorted({key.rpartition(":")[0] for key, (title, _) in SHOWN.items() if title}))
def test_files_that_a_page_shows_pass_the_tests_that_it_shows(page: str, tmp_path: Path) -> None:
    """Blocks with one title are one file."""
    for key, (title, block) in SHOWN.items():
        if title and key.startswith(f"{page}:"):
            with (tmp_path / title).open("a", encoding="utf-8") as file:
                file.write(block)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    asked = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    answer = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_file_is_shown_on_one_page() -> None:
    """All are checked in one folder."""
    titles = {(title, key.rpartition(":")[0]) for key, (title, _) in SHOWN.items() if title}
    assert len(titles) == len({title for title, _ in titles})


def test_the_reference_has_every_public_name_once() -> None:
    """Those of the package, of the adapters, and of what testing has."""
    expected = [f"aiosessions.{name}" for name in (*aiosessions.__all__, "Request", "Response")]
    expected += [f"aiosessions.{name}" for name in dir(aiosessions) if name.endswith("Storer")]
    for module in ("asgi", "fastapi", "litestar", "quart", "aiohttp", "testing", "testing.suites"):
        names: list[str] = importlib.import_module(f"aiosessions.{module}").__all__
        expected += [f"aiosessions.{module}.{name}" for name in names]
    assert sorted(REFERENCE) == sorted(set(expected))


def test_every_page_is_in_the_navigation() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    parts = [part for item in site["nav"] for part in item.values()]
    pages = [
        page for part in parts for item in ([{"": part}] if isinstance(part, str) else part) for page in item.values()
    ]
    assert sorted(page for page in pages if page.startswith("docs/")) == sorted(set(PAGES) - {"README.md"})


@pytest.mark.parametrize("title", ["Try it", "Test it"])
def test_each_command_is_one_line(title: str) -> None:
    """Exactly one fenced `sh` block of one line in each of the two sections."""
    section = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert blocks[0].count("\n") == 1


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Relative links name files that are there; what follows a # is the strict build's to check."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[page]):
        assert ((ROOT / page).parent / target).is_file(), target
