"""A session of ours under an older name or transport goes on under the newer one."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    DiskStorer,
    Event,
    HeaderTransport,
    Lifetime,
    MemoryStorer,
    StorageOverseer,
    Store,
    new_key,
)
from aiosessions.asgi import SessionMiddleware
from aiosessions.migration import Alias
from aiosessions.testing import Browser, Clock
from tests.facts import facts

pytestmark = pytest.mark.anyio


@dataclass
class Shop:
    cart: list[str] = field(default_factory=list[str])


Build = Callable[..., Store[Shop]]
KINDS = ["stored", "held", "revocable"]
ENDING = ["stored", "revocable"]


@dataclass
class World:
    """One backend, one clock, and what the newer store said."""

    build: Build
    clock: Clock
    events: list[Event]

    def app(self, store: Store[Shop]) -> Starlette:
        async def page(request: Request) -> Response:
            session = await store.get(request)
            match request.path_params["act"]:
                case "add":
                    session.value.cart.append(request.query_params["item"])
                case "login":
                    session.set_user("ann", lifetime=Lifetime(idle=timedelta(hours=5)))
                    session.label = "a device"
                    session.flash("hello")
                case "logout":
                    session.destroy()
                case "new":
                    session = store.new(request)
                    session.value.cart.append("new")
                case "update":
                    await store.update(session, lambda value: value.cart.append("updated"))
                case "fail":
                    return Response(status_code=500)
                case _:
                    pass
            said = {
                "cart": session.value.cart,
                "user": session.user_id,
                "new": session.is_new,
                "handle": session.handle,
                "since": str(session.authenticated_at),
                "created": str(session.created_at),
                "ends": str(session.expires_at),
                "label": session.label,
                "flashes": [flash.message for flash in session.flashes(peek=True)],
                "csrf": session.check_csrf(request.query_params.get("csrf")),
                "token": session.csrf_token(),
            }
            return JSONResponse(said)

        return Starlette(routes=[Route("/{act}", page)], middleware=[Middleware(SessionMiddleware, stores=[store])])

    def kinds(self) -> list[str]:
        kinds: list[str] = [event.kind for event in self.events]
        self.events.clear()
        return kinds


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    kind: str = request.param
    key, clock = new_key(), Clock(time.time())
    events: list[Event] = []
    kept = MemoryStorer(clock=clock) if kind == "stored" else DiskStorer(tmp_path / "ledgers", clock=clock)

    def build(**options: Any) -> Store[Shop]:
        options["clock"] = clock
        if "imports" in options:
            options["on_event"] = facts(events)
        if kind == "stored":
            return StorageOverseer(Shop, kept, **options)
        if kind == "revocable":
            options["revocations"] = kept
        return CookieOverseer(Shop, AESGCMSealer(key), **options)

    return World(build, clock, events)


@dataclass
class Move:
    """One visitor, before and after the store got its newer name."""

    world: World
    before: Browser
    browser: Browser

    async def ask(self, path: str, *, old: str = "") -> dict[str, Any]:
        headers = {"Cookie": old} if old else None
        response = await self.browser.get(path, headers=headers)
        assert response.status == 200, response.text
        said: dict[str, Any] = json.loads(response.text)
        return said

    def bring(self) -> str:
        """What the visitor holds comes along; it."""
        for cookie in self.before.cookies:
            self.browser.cookies.put(cookie)
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.before.cookies)


@pytest.fixture
async def move(world: World) -> AsyncIterator[Move]:
    older, newer = world.build(name="old"), world.build(name="app", imports=[Alias("old")])
    async with Browser(world.app(older)) as before, Browser(world.app(newer)) as browser:
        await before.get("/login")
        await before.get("/add?item=before")
        yield Move(world, before, browser)


KEPT = ("cart", "user", "since", "created", "label", "flashes")


@pytest.mark.parametrize("world", KINDS, indirect=True)
async def test_everything_stays_under_the_newer_name(move: Move) -> None:
    """Value, user, clocks, deadlines, flashes, label; a form of before is accepted."""
    move.bring()
    move.world.clock.advance(3600)
    known = json.loads((await move.before.get("/read")).text)
    moved = await move.ask(f"/read?csrf={known['token']}")
    assert [moved[each] for each in KEPT] == [known[each] for each in KEPT]
    assert (moved["new"], moved["csrf"]) == (False, True)
    assert {cookie.name for cookie in move.browser.cookies} == {"__Host-app"}
    assert "imported" in move.world.kinds()
    again = await move.ask("/read")
    assert [again[each] for each in KEPT] == [known[each] for each in KEPT]
    ends = datetime.fromtimestamp(move.world.clock(), UTC) + timedelta(hours=5)
    assert again["ends"] == str(ends)
    assert "imported" not in move.world.kinds()


@pytest.mark.parametrize("world", ENDING, indirect=True)
async def test_the_older_name_ends_with_the_first_save(move: Move) -> None:
    """Whoever asks the older store has no session any more."""
    move.bring()
    await move.ask("/read")
    assert json.loads((await move.before.get("/read")).text)["new"]


@pytest.mark.parametrize("world", KINDS, indirect=True)
async def test_a_failed_response_moves_nothing(move: Move) -> None:
    """R10."""
    old = move.bring()
    await move.browser.get("/fail")
    assert json.loads((await move.before.get("/read")).text)["cart"] == ["before"]
    assert (await move.ask("/read", old=old))["cart"] == ["before"]


@pytest.mark.parametrize("world", KINDS, indirect=True)
@pytest.mark.parametrize("act", ["add?item=more", "update"])
async def test_a_change_moves_with_it(move: Move, act: str) -> None:
    """In one save."""
    move.bring()
    await move.ask(f"/{act}")
    assert (await move.ask("/read"))["cart"] == ["before", "more" if act.startswith("add") else "updated"]


@pytest.mark.parametrize("world", ENDING, indirect=True)
@pytest.mark.parametrize("act", ["logout", "new", "login"])
async def test_what_ends_as_the_first_act_has_ended(move: Move, act: str) -> None:
    """R7, R8: on both sides, and for good."""
    old = move.bring()
    await move.ask(f"/{act}")
    assert "__Host-old" not in move.browser.cookies
    assert json.loads((await move.before.get("/read")).text)["new"]
    move.browser.cookies.clear()
    assert (await move.ask("/read", old=old))["new"]


@pytest.mark.parametrize("world", ENDING, indirect=True)
async def test_a_revoked_one_is_not_taken(move: Move) -> None:
    """What has ended under its older name is no session under the newer one."""
    old = move.bring()
    await move.before.get("/logout")
    said = await move.ask("/read", old=old)
    assert (said["cart"], said["new"]) == ([], True)


@pytest.mark.parametrize("world", ENDING, indirect=True)
async def test_a_logout_holds_after_the_move(move: Move) -> None:
    """R7: the older token opens nothing either."""
    old = move.bring()
    await move.ask("/read")
    await move.ask("/logout")
    assert (await move.ask("/read", old=old))["new"]


@pytest.mark.parametrize("world", ["stored"], indirect=True)
async def test_requests_with_the_older_token_work_on_the_moved_session(move: Move) -> None:
    """R18: they get no token, nothing is lost, and one of them moves it."""
    old = move.bring()
    devices = [move.browser.another() for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for number, device in enumerate(devices):
            tasks.start_soon(lambda d, n: d.get(f"/add?item={n}", headers={"Cookie": old}), device, number)
    told = [device for device in devices if "__Host-app" in device.cookies]
    assert len(told) == 1
    move.browser.cookies.clear()
    for cookie in told[0].cookies:
        move.browser.cookies.put(cookie)
    assert sorted((await move.ask("/read"))["cart"]) == ["0", "1", "2", "3", "4", "5", "6", "7", "before"]
    assert move.world.kinds().count("imported") == 1


@asynccontextmanager
async def meanwhile(world: World, act: str) -> AsyncGenerator[tuple[Browser, Browser]]:
    """The visitor at the older store, and at the newer one, whose change was saved after *act* at the older."""
    older, newer = world.build(name="old"), world.build(name="app", imports=[Alias("old")])
    is_loaded, is_done = anyio.Event(), anyio.Event()

    async def slow(request: Request) -> Response:
        (await newer.get(request)).value.cart.append("newer")
        is_loaded.set()
        await is_done.wait()
        return Response()

    app = Starlette(routes=[Route("/slow", slow)], middleware=[Middleware(SessionMiddleware, stores=[newer])])
    async with Browser(world.app(older)) as before, Browser(app) as browser, Browser(world.app(newer)) as after:
        await before.get("/add?item=before")
        for cookie in before.cookies:
            browser.cookies.put(cookie)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.get, "/slow")
            await is_loaded.wait()
            await before.get(f"/{act}")
            is_done.set()
        for cookie in browser.cookies:
            after.cookies.put(cookie)
        yield before, after


@pytest.mark.parametrize("world", ["stored"], indirect=True)
async def test_what_an_older_worker_writes_meanwhile_is_taken_along(world: World) -> None:
    """F3: in a rolling deployment."""
    async with meanwhile(world, "add?item=older") as (before, after):
        assert json.loads((await before.get("/read")).text)["new"]
        assert sorted(json.loads((await after.get("/read")).text)["cart"]) == ["before", "newer", "older"]


@pytest.mark.parametrize("world", ["stored"], indirect=True)
@pytest.mark.parametrize("act", ["logout", "login"])
async def test_what_ends_meanwhile_is_not_moved(world: World, act: str) -> None:
    """R7, R8: a logout or a login at an older worker holds whatever the order."""
    async with meanwhile(world, act) as (_, after):
        assert "__Host-app" not in after.cookies
        assert "dropped" in world.kinds()


@pytest.mark.parametrize("world", KINDS, indirect=True)
async def test_an_older_transport_is_left_for_a_newer_one(world: World) -> None:
    """From a header to a cookie, under one name."""
    older = world.build(transport=HeaderTransport())
    newer = world.build(imports=[Alias("app", transport=HeaderTransport())])
    async with Browser(world.app(older), keep_headers="Session-") as before, Browser(world.app(newer)) as browser:
        await before.get("/add?item=before")
        (name,) = [each for each in before.headers if each.lower() == "session-app"]
        response = await browser.get("/read", headers={name: before.headers[name]})
        assert json.loads(response.text)["cart"] == ["before"]
        assert json.loads((await browser.get("/read")).text)["cart"] == ["before"]


@pytest.mark.parametrize("world", ["stored"], indirect=True)
async def test_two_requests_with_an_older_transport_are_told_one_token(world: World) -> None:
    """R18: a second one would end the first on its way."""
    older = world.build(transport=HeaderTransport())
    newer = world.build(imports=[Alias("app", transport=HeaderTransport())])
    are_loaded, saving = [anyio.Event(), anyio.Event()], anyio.Event()

    async def slow(request: Request) -> Response:
        await newer.get(request)
        are_loaded[int(request.path_params["number"])].set()
        await saving.wait()
        return Response()

    app = Starlette(routes=[Route("/{number}", slow)], middleware=[Middleware(SessionMiddleware, stores=[newer])])
    async with Browser(world.app(older), keep_headers="Session-") as before, Browser(app) as browser:
        await before.get("/add?item=before")
        devices = [browser.another(), browser.another()]
        async with anyio.create_task_group() as tasks:
            for number, device in enumerate(devices):
                tasks.start_soon(lambda d, n: d.get(f"/{n}", headers=before.headers), device, number)
            for each in are_loaded:
                await each.wait()
            saving.set()
        assert sum("__Host-app" in device.cookies for device in devices) == 1


@pytest.mark.parametrize("world", ["stored"], indirect=True)
async def test_the_older_secret_dies_once_the_newer_has_come(move: Move) -> None:
    """R8: a grace time later, as with any periodic rotation."""
    old = move.bring()
    await move.ask("/read")
    await move.ask("/add?item=confirmed")
    move.world.clock.advance(timedelta(days=0, minutes=30))
    await move.ask("/add?item=later")
    move.browser.cookies.clear()
    assert (await move.ask("/read", old=old))["new"]
