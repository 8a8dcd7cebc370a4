"""What came before a switch becomes a session of ours, once. Theirs are made by Starlette's own middleware."""

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as TheirMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOptions,
    CookieOverseer,
    CookieTransport,
    DiskStorer,
    EncryptedStorer,
    Event,
    HeaderTransport,
    Lifetime,
    MemoryStorer,
    StorageOverseer,
    Store,
    new_key,
)
from aiosessions.asgi import SessionMiddleware
from aiosessions.migration import Alias, StarletteCookie
from aiosessions.testing import Browser, Clock
from tests.facts import facts
from tests.storers_with_faults import FaultyStorer

pytestmark = pytest.mark.anyio
SECRET = "their secret"
WEEK = timedelta(days=7)


@dataclass
class Shop:
    cart: list[str] = field(default_factory=list[str])
    visits: int = 0


def user_of(keys: dict[str, Any]) -> str | None:
    name: str | None = keys.get("user")
    return name


# the application before and after the switch


async def they_keep(request: Request) -> Response:
    request.session.update(await request.json())
    return Response()


THEIRS = Starlette(
    routes=[Route("/keep", they_keep, methods=["POST"])],
    middleware=[Middleware(TheirMiddleware, secret_key=SECRET, https_only=True)],
)


@dataclass
class Site:
    """The application after it, and what its store said."""

    store: Store[Shop]
    events: list[Event]
    clock: Clock
    loaded: anyio.Event = field(default_factory=anyio.Event)
    saving: anyio.Event = field(default_factory=anyio.Event)

    async def page(self, request: Request) -> Response:  # noqa: PLR0912  # one branch an act
        if request.path_params["act"] == "unasked":
            self.store.new(request).set_user("new")
            return Response()
        session = await self.store.get(request)
        if "wait" in request.query_params:
            self.loaded.set()
            await self.saving.wait()
        match request.path_params["act"]:
            case "add":
                session.value.cart.append(request.query_params["item"])
            case "login":
                session.set_user(request.query_params["user"])
            case "clear":
                session.clear_user()
            case "logout":
                session.destroy()
            case "require":
                session = await self.store.require(request)
            case "update":
                await self.store.update(session, lambda value: value.cart.append("updated"))
            case "new":
                session = self.store.new(request)
                session.set_user("new")
            case "fail":
                session.value.cart.append("lost")
                return Response(status_code=500)
            case "missing":
                return Response(status_code=404)
            case "quiet":
                return Response()
            case _:
                pass
        said = {
            "cart": session.value.cart,
            "user": session.user_id,
            "new": session.is_new,
            "handle": session.handle,
            "since": str(session.authenticated_at),
            "flashes": [flash.message for flash in session.flashes(peek=True)],
        }
        return JSONResponse(said)

    @property
    def app(self) -> Starlette:
        ours = Middleware(SessionMiddleware, stores=[self.store])
        return Starlette(routes=[Route("/{act}", self.page)], middleware=[ours])

    def kinds(self) -> list[str]:
        kinds: list[str] = [event.kind for event in self.events]
        self.events.clear()
        return kinds


Build = Callable[..., Store[Any]]
KINDS = ["stored", "held", "revocable"]
REMEMBERING = ["stored", "revocable"]


@pytest.fixture
def kept(kind: str, tmp_path: Path) -> MemoryStorer | DiskStorer:
    """Where sessions are, or what is remembered of them."""
    return MemoryStorer() if kind == "stored" else DiskStorer(tmp_path / "ledgers")


@pytest.fixture
def build(kind: str, kept: MemoryStorer | DiskStorer) -> Build:
    """A store of the kind that the test names."""
    key = new_key()

    def build(value_type: type[Any] = Shop, **options: Any) -> Store[Any]:
        if kind == "stored":
            return StorageOverseer(value_type, kept, **options)
        if kind == "revocable":
            options["revocations"] = kept
        return CookieOverseer(value_type, AESGCMSealer(key), **options)

    return build


@pytest.fixture
def site_of(build: Build) -> Callable[..., Site]:
    def site_of(imports: list[Any] | None = None, **options: Any) -> Site:
        events: list[Event] = []
        clock = Clock(time.time())
        given: list[Any] = imports if imports is not None else [StarletteCookie(SECRET, user=user_of)]
        return Site(build(imports=given, on_event=facts(events), clock=clock, **options), events, clock)

    return site_of


@pytest.fixture
async def site(site_of: Callable[..., Site]) -> Site:
    return site_of()


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    """One that comes from them."""
    async with Browser(site.app) as browser:
        await bring(browser, cart=["theirs"], user="ann", secret="kept by them")
        yield browser


async def bring(browser: Browser, **keys: Any) -> str:
    """Their cookie, made by their software; its value."""
    async with Browser(THEIRS) as before:
        await before.post("/keep", json=keys)
        (cookie,) = before.cookies
        browser.cookies.put(cookie)
    return cookie.value


async def ask(browser: Browser, path: str) -> dict[str, Any]:
    response = await browser.get(path)
    assert response.status == 200, response.text
    said: dict[str, Any] = json.loads(response.text)
    return said


@pytest.mark.parametrize("kind", KINDS)
async def test_a_session_of_theirs_is_ours_with_the_first_response(browser: Browser, site: Site) -> None:
    """Whatever the page does; a token of its own, clocks from now, and whoever asks for a fresh login gets one."""
    said = await ask(browser, "/read")
    assert (said["cart"], said["user"], said["new"], said["since"]) == (["theirs"], "ann", False, "None")
    assert "session" not in browser.cookies
    assert "__Host-app" in browser.cookies
    assert site.kinds() == ["imported"]

    said = await ask(browser, "/read")
    assert (said["cart"], said["user"]) == (["theirs"], "ann")
    assert site.kinds() == ["loaded"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ["require", "add?item=more", "login?user=bob", "clear", "update", "missing"])
async def test_any_first_act_works_as_it_does_later(browser: Browser, site: Site, act: str) -> None:
    """Require() accepts it; changes, a login, an update are kept with it; below 500 any answer writes it."""
    response = await browser.get(f"/{act}")
    assert "session" not in browser.cookies
    said = await ask(browser, "/read")
    cart = {"add?item=more": ["theirs", "more"], "update": ["theirs", "updated"]}.get(act, ["theirs"])
    user = {"login?user=bob": "bob", "clear": None}.get(act, "ann")
    assert (said["cart"], said["user"], said["new"]) == (cart, user, False)
    assert response.status == (404 if act == "missing" else 200)
    assert site.kinds()[0] == "imported"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_response_imports_nothing(browser: Browser, site: Site) -> None:
    """R10: theirs stays until ours is stored; the next request imports it as it was."""
    await browser.get("/fail")
    assert "session" in browser.cookies
    assert "__Host-app" not in browser.cookies
    assert (await ask(browser, "/read"))["cart"] == ["theirs"]
    assert site.kinds() == ["imported"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_logout_as_the_first_act_ends_theirs(browser: Browser, site: Site) -> None:
    """R7: nothing of ours is sent, theirs is cleared, and it is in the audit trail."""
    old = browser.cookies.get("session")
    response = await browser.get("/logout")
    assert [line.partition("=")[0] for line in response.set_cookies] == ["session"]
    assert [*browser.cookies] == []
    assert site.kinds() == ["destroyed"]
    if isinstance(site.store, CookieOverseer) and not site.store.can_end:
        return  # nothing remembers it
    said = json.loads((await browser.get("/read", headers={"Cookie": f"session={old}"})).text)
    assert (said["cart"], said["new"]) == ([], True)
    assert site.kinds() == ["rejected"]


@pytest.mark.parametrize("kind", REMEMBERING)
@pytest.mark.parametrize("act", ["logout", "login?user=bob", "clear"])
async def test_what_was_imported_is_never_imported_again(browser: Browser, site: Site, act: str) -> None:
    """After a logout, a login, a rotation the older token opens nothing, logout or not."""
    old = browser.cookies.get("session")
    await ask(browser, "/read")
    await ask(browser, f"/{act}")
    site.kinds()
    response = await browser.another().get("/read", headers={"Cookie": f"session={old}"})
    said = json.loads(response.text)
    assert (said["cart"], said["user"], said["new"]) == ([], None, True)
    assert "set-cookie" not in response.headers
    assert site.kinds() == ["rejected"]


@pytest.mark.parametrize("kind", REMEMBERING)
async def test_a_login_as_the_first_act_ends_what_the_older_token_opens(browser: Browser, site: Site) -> None:
    """R8: whoever planted the older token is not logged in with its victim."""
    old = browser.cookies.get("session")
    await ask(browser, "/login?user=bob")
    site.kinds()
    said = json.loads((await browser.another().get("/read", headers={"Cookie": f"session={old}"})).text)
    assert (said["user"], said["new"]) == (None, True)
    assert site.kinds() == ["rejected"]


@pytest.mark.parametrize("kind", REMEMBERING)
async def test_a_second_request_works_on_that_session_and_gets_no_token(browser: Browser, site: Site) -> None:
    """R18: its answer may come late, and must not overwrite a newer token."""
    old = browser.cookies.get("session")
    handle = (await ask(browser, "/add?item=first"))["handle"] or (await ask(browser, "/read"))["handle"]
    site.kinds()
    response = await browser.another().get("/read", headers={"Cookie": f"session={old}"})
    said = json.loads(response.text)
    assert (said["cart"][0], said["user"], said["handle"]) == ("theirs", "ann", handle)
    assert "set-cookie" not in response.headers
    assert site.kinds() == ["loaded"]


@pytest.mark.parametrize("kind", ["stored"])
async def test_a_second_request_writes_on_that_session(browser: Browser, site: Site) -> None:
    """F3: nothing of either is lost."""
    old = browser.cookies.get("session")
    await ask(browser, "/add?item=first")
    response = await browser.another().get("/add?item=second", headers={"Cookie": f"session={old}"})
    assert "set-cookie" not in response.headers
    assert (await ask(browser, "/read"))["cart"] == ["theirs", "first", "second"]
    assert site.kinds() == ["imported", "loaded", "saved", "loaded"]


@pytest.mark.parametrize("kind", ["stored"])
async def test_a_second_request_logs_out_for_both(browser: Browser) -> None:
    """R7: with the older token in hand."""
    old = browser.cookies.get("session")
    await ask(browser, "/read")
    await browser.another().get("/logout", headers={"Cookie": f"session={old}"})
    assert (await ask(browser, "/read"))["new"]


@pytest.mark.parametrize("kind", REMEMBERING)
@pytest.mark.parametrize("act", ["new", "unasked"])
async def test_a_new_session_takes_the_place_of_theirs(browser: Browser, site: Site, act: str) -> None:
    """`new()` asks no importer, and a logout afterwards does not bring theirs back."""
    old = browser.cookies.get("session")
    await browser.get(f"/{act}")
    assert (await ask(browser, "/read"))["user"] == "new"
    assert "session" not in browser.cookies
    await ask(browser, "/logout")
    site.kinds()
    said = json.loads((await browser.another().get("/read", headers={"Cookie": f"session={old}"})).text)
    assert said["new"]
    assert site.kinds() == ["rejected"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_token_of_ours_is_never_replaced_by_an_import(browser: Browser, site: Site) -> None:
    """R6: our own comes first, whatever it is worth."""
    cookies = f"session={browser.cookies.get('session')}; __Host-app=worthless"
    said = json.loads((await browser.get("/read", headers={"Cookie": cookies})).text)
    assert (said["cart"], said["new"]) == ([], True)
    assert site.kinds() == ["rejected"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cookie_that_comes_twice_counts_as_forged(browser: Browser, site: Site) -> None:
    """R6."""
    old = browser.cookies.get("session")
    said = json.loads((await browser.get("/read", headers={"Cookie": f"session={old}; session={old}"})).text)
    assert said["new"]
    assert [(event.kind, event.reason) for event in site.events] == [("rejected", "forged")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("old", ["garbage", "", "e30=.aaaa.bbbb", "é", '"'])
async def test_what_they_did_not_make_is_no_session(site: Site, old: str) -> None:
    """R6: nothing is sent, and nothing of it is remembered."""
    async with Browser(site.app) as browser:
        response = await browser.get("/read", headers={"Cookie": f"session={old}"})
        assert json.loads(response.text)["new"]
        assert "set-cookie" not in response.headers
        assert site.kinds() == ["rejected"]


@pytest.mark.parametrize("kind", KINDS)
async def test_another_name_is_asked_of_nobody_else(browser: Browser, site: Site) -> None:
    """Importers are for the store's own name."""

    async def other(request: Request) -> Response:
        session = await site.store.get(request, "other")
        return JSONResponse({"new": session.is_new})

    app = Starlette(routes=[Route("/", other)], middleware=[Middleware(SessionMiddleware)])
    async with Browser(app) as elsewhere:
        cookie = {"Cookie": f"session={browser.cookies.get('session')}"}
        assert json.loads((await elsewhere.get("/", headers=cookie)).text)["new"]


# who is asked, and until when


@pytest.mark.parametrize("kind", KINDS)
async def test_importers_are_asked_in_their_order(site_of: Callable[..., Site]) -> None:
    """The next where one refuses."""
    one: StarletteCookie[Shop] = StarletteCookie("another secret", user=making("one"))
    two: StarletteCookie[Shop] = StarletteCookie(SECRET, cookie="older", user=making("two"))
    site = site_of([one, two])
    async with Browser(site.app) as browser:
        old = await bring(browser, cart=["theirs"])
        said = json.loads((await browser.get("/read", headers={"Cookie": f"session={old}; older={old}"})).text)
        assert said["user"] == "two"
        assert "older" not in browser.cookies


@pytest.mark.parametrize("kind", KINDS)
async def test_an_expired_one_is_not_imported(site: Site, browser: Browser) -> None:
    """By their own age, which is 14 days."""
    site.clock.advance(timedelta(days=15).total_seconds())
    old = browser.cookies.get("session")
    assert json.loads((await browser.get("/read", headers={"Cookie": f"session={old}"})).text)["new"]
    assert site.kinds() == ["expired"]


@pytest.mark.parametrize("kind", KINDS)
async def test_after_until_nothing_is_read(site_of: Callable[..., Site]) -> None:
    """A switch has an end."""
    until = datetime.fromtimestamp(time.time(), UTC) + WEEK
    site = site_of([StarletteCookie(SECRET, until=until, user=user_of)])
    async with Browser(site.app) as browser:
        await bring(browser, cart=["theirs"])
        site.clock.advance(WEEK.total_seconds())
        assert (await ask(browser, "/read"))["new"]
        assert site.kinds() == []


@pytest.mark.parametrize("kind", REMEMBERING)
@pytest.mark.parametrize("act", ["login?user=bob", "unasked"])
async def test_after_until_nothing_is_cleared_or_remembered(
    site_of: Callable[..., Site], kept: MemoryStorer | DiskStorer, act: str
) -> None:
    """A cookie that is not ours is not ours to clear."""
    until = datetime.fromtimestamp(time.time(), UTC) + WEEK
    site = site_of([StarletteCookie(SECRET, until=until, user=user_of)])
    async with Browser(site.app) as browser:
        await bring(browser, cart=["theirs"])
        site.clock.advance(WEEK.total_seconds())
        await browser.get(f"/{act}")
        assert {"session", "__Host-app"} == {cookie.name for cookie in browser.cookies}
        assert not [key async for key in kept.keys() if ":~imported:" in key]  # noqa: SIM118  # a storer is no dict


@pytest.mark.parametrize("kind", KINDS)
async def test_an_end_in_the_past_is_said_at_the_start(
    site_of: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and nothing is read."""
    with caplog.at_level(logging.WARNING, "aiosessions"):
        site = site_of([StarletteCookie(SECRET, until=datetime(2020, 1, 1, tzinfo=UTC))])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ended at 2020-01-01" in caplog.text
    async with Browser(site.app) as browser:
        await bring(browser, cart=["theirs"])
        assert (await ask(browser, "/read"))["new"]


@pytest.mark.parametrize("kind", REMEMBERING)
async def test_a_mark_lasts_as_long_as_the_token(site: Site, browser: Browser, kept: MemoryStorer | DiskStorer) -> None:
    """Until the earlier of `until` and `max_age`, and the store's storer forgets it then."""
    await ask(browser, "/read")
    marks = [key async for key in kept.keys() if ":~imported:" in key]  # noqa: SIM118  # a storer is no dict
    assert len(marks) == 1
    record = await kept.read(marks[0])
    assert record is not None
    assert record.expires_at is not None
    assert abs(record.expires_at - site.clock() - timedelta(days=14).total_seconds()) < 60


# what is made of it


@pytest.mark.parametrize("kind", KINDS)
async def test_to_makes_the_value_of_their_keys(site_of: Callable[..., Site]) -> None:
    """Without their envelope; None is not imported."""

    def to(keys: dict[str, Any]) -> Shop | None:
        assert keys in ({"basket": ["x"]}, {"basket": []})
        return Shop(keys["basket"], visits=1) if keys["basket"] else None

    site = site_of([StarletteCookie(SECRET, to=to)])
    async with Browser(site.app) as browser:
        await bring(browser, basket=["x"])
        assert (await ask(browser, "/read"))["cart"] == ["x"]
        other = browser.another()
        await bring(other, basket=[])
        assert (await ask(other, "/read"))["new"]
        assert "session" in other.cookies


def raising(_: dict[str, Any]) -> Any:
    raise KeyError("value 4711")


def making(made: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda _: made


MISFITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a field": ({}, {"cart": "value 4711"}),
    "to() raises": ({"to": raising}, {"cart": []}),
    "to() makes another type": ({"to": making({"cart": 4711})}, {"cart": []}),
    "user() raises": ({"user": raising}, {"cart": []}),
    "user() gives a number": ({"user": making(4711)}, {"cart": []}),
    "user() gives nothing": ({"user": making("")}, {"cart": []}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("misfit", MISFITS)
async def test_what_does_not_fit_is_not_imported(
    site_of: Callable[..., Site], misfit: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An event, one log record, and no value in either."""
    options, keys = MISFITS[misfit]
    site = site_of([StarletteCookie(SECRET, **options)])
    async with Browser(site.app) as browser:
        await bring(browser, **keys)
        caplog.clear()
        assert (await ask(browser, "/read"))["new"]
        assert "session" in browser.cookies
    assert [event.kind for event in site.events] == ["unreadable"]
    (record,) = [each for each in caplog.records if each.levelno > logging.INFO and "opened" not in each.message]
    assert "4711" not in record.getMessage() + repr(site.events)
    assert "not imported" in record.getMessage()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dict_takes_every_key(build: Build) -> None:
    """Without `to`."""
    store = build(dict[str, Any], imports=[StarletteCookie(SECRET)])

    async def page(request: Request) -> Response:
        return JSONResponse((await store.get(request)).value)

    app = Starlette(routes=[Route("/", page)], middleware=[Middleware(SessionMiddleware, stores=[store])])
    async with Browser(app) as browser:
        keys: dict[str, Any] = {"a": 1, "b": [None, True, 1.5, "é"], "c": {"d": {}}}
        await bring(browser, **keys)
        for _ in range(2):
            assert json.loads((await browser.get("/")).text) == keys


async def test_a_store_that_cannot_be_read_imports_nothing_over_what_may_be_there() -> None:
    """R6, R7: degraded as with a token of ours; a logout then holds for theirs too."""
    clock = Clock(time.time())
    storer = FaultyStorer(clock)
    imports = [StarletteCookie[Shop](SECRET)]
    store = StorageOverseer(Shop, storer, imports=imports, clock=clock, on_storer_error="new")
    site = Site(store, [], clock)
    async with Browser(site.app, raise_app_exceptions=False) as browser:
        old = {"Cookie": f"session={await bring(browser, cart=['theirs'])}"}
        storer.failing = {"read"}
        assert (await ask(browser, "/read"))["new"]
        assert (await browser.get("/add?item=more")).status == 500
        assert "session" in browser.cookies
        await browser.get("/logout")
        assert "session" not in browser.cookies
        storer.failing = set()
        assert json.loads((await browser.get("/read", headers=old)).text)["new"]
        strict = Site(StorageOverseer(Shop, storer, imports=imports, clock=clock), [], clock)
        async with Browser(strict.app, raise_app_exceptions=False) as other:
            storer.failing = {"read"}
            await bring(other, cart=["another"])
            assert (await other.get("/read")).status == 500


async def test_a_mark_that_cannot_be_read_is_one() -> None:
    """Of an EncryptedStorer whose key is gone: its token was imported, and is not a second time."""
    inner, old = MemoryStorer(), ""
    for is_first in (True, False):
        store = StorageOverseer(Shop, EncryptedStorer(inner, new_key()), imports=[StarletteCookie(SECRET)])
        async with Browser(Site(store, [], Clock(time.time())).app) as browser:
            old = old or await bring(browser, cart=["theirs"])
            said = json.loads((await browser.get("/read", headers={"Cookie": f"session={old}"})).text)
            assert said["new"] != is_first
            async for each in inner.keys():  # a storer is no dict
                if ":~imported:" not in each:
                    await inner.delete(each)


# two at once


@pytest.mark.parametrize("kind", KINDS)
async def test_two_requests_with_one_older_token_make_one_session(browser: Browser, site: Site) -> None:
    """One of them tells the client, and nothing of either is lost where a storer merges."""
    old = browser.cookies.get("session")
    devices = [browser.another() for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for number, device in enumerate(devices):
            tasks.start_soon(lambda d, n: d.get(f"/add?item={n}", headers={"Cookie": f"session={old}"}), device, number)
    told = [device for device in devices if "__Host-app" in device.cookies]
    if isinstance(site.store, StorageOverseer):
        assert len(told) == 1
        assert sorted((await ask(told[0], "/read"))["cart"]) == ["0", "1", "2", "3", "4", "5", "6", "7", "theirs"]
        assert site.kinds().count("imported") == 1
    else:
        assert len({(await ask(device, "/read"))["handle"] for device in told}) == 1


async def beside(site: Site, browser: Browser, slow: str, *quick: str) -> tuple[Browser, list[Browser]]:
    """A device whose request loads what the others' requests, with the same older token, save before it does."""
    old = {"Cookie": f"session={browser.cookies.get('session')}"}
    late, others = browser.another(), [browser.another() for _ in quick]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: late.get(f"/{slow}wait=1", headers=old))
        await site.loaded.wait()
        for device, act in zip(others, quick, strict=True):
            await device.get(f"/{act}", headers=None if "__Host-app" in device.cookies else old)
        site.saving.set()
    return late, others


@pytest.mark.parametrize("kind", REMEMBERING)
async def test_one_that_was_only_read_beside_an_import_sends_no_token(browser: Browser, site: Site) -> None:
    """R18: nor is it imported twice."""
    late, (first,) = await beside(site, browser, "read?", "add?item=first")
    assert "__Host-app" not in late.cookies
    assert (await ask(first, "/read"))["cart"] == ["theirs", "first"]
    assert site.kinds().count("imported") == 1


@pytest.mark.parametrize("kind", ["stored"])
async def test_what_was_changed_beside_an_import_is_kept_with_it(browser: Browser, site: Site) -> None:
    """F3, R18: without a token."""
    late, (first,) = await beside(site, browser, "add?item=late&", "add?item=first")
    assert "__Host-app" not in late.cookies
    assert sorted((await ask(first, "/read"))["cart"]) == ["first", "late", "theirs"]
    assert site.kinds().count("imported") == 1


@pytest.mark.parametrize("kind", REMEMBERING)
@pytest.mark.parametrize("slow", ["read?", "add?item=late&"])
@pytest.mark.parametrize("act", ["logout", "login?user=bob"])
async def test_what_has_ended_beside_an_import_is_not_imported(
    browser: Browser, site: Site, slow: str, act: str
) -> None:
    """F4, R18: a logout holds whatever the order, and a login is not overwritten."""
    late, (first,) = await beside(site, browser, slow, act)
    assert "__Host-app" not in late.cookies
    assert "dropped" in site.kinds()
    assert (await ask(first, "/read"))["user"] == ("bob" if "bob" in act else None)


@pytest.mark.parametrize("kind", REMEMBERING)
async def test_a_login_beside_an_import_stands(browser: Browser, site: Site) -> None:
    """R8: of a request that came with the older token, before or after another has imported it."""
    late, (first,) = await beside(site, browser, "login?user=bob&", "add?item=first")
    assert (await ask(late, "/read"))["user"] == "bob"
    assert (await ask(first, "/read"))["new"]

    site.loaded, site.saving = anyio.Event(), anyio.Event()
    other = await bring(browser, cart=["another"], user="ann")
    await browser.another().get("/read", headers={"Cookie": f"session={other}"})
    later = browser.another()
    await later.get("/login?user=eve", headers={"Cookie": f"session={other}"})
    assert (await ask(later, "/read"))["user"] == "eve"
    assert (await ask(later, "/read"))["user"] == "eve"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_read_after_the_headers_leaves_the_import_to_the_next_request(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """R12, R13: nobody can be told a token then, and nothing was asked for that could get lost."""
    seen: list[list[str]] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:  # Any: what ASGI hands around
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen.append((await site.store.get(Request(scope))).value.cart)
        await send({"type": "http.response.body", "body": b""})

    async with Browser(SessionMiddleware(late)) as stream:
        await stream.get("/", headers={"Cookie": f"session={browser.cookies.get('session')}"})
    assert seen == [["theirs"]]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (await ask(browser, "/read"))["cart"] == ["theirs"]
    assert site.kinds().count("imported") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_value_in_quotes_is_what_they_hold(browser: Browser) -> None:
    """RFC 6265 §4.1.1: as some software sets it."""
    old = browser.cookies.get("session")
    said = json.loads((await browser.another().get("/read", headers={"Cookie": f'session="{old}"'})).text)
    assert said["cart"] == ["theirs"]


# how theirs is cleared, and what cannot be


@pytest.mark.parametrize("kind", KINDS)
async def test_their_cookie_is_cleared_as_they_set_it(site_of: Callable[..., Site]) -> None:
    """R9: path and domain; not at all with `clear=False`."""
    site = site_of([StarletteCookie(SECRET, path="/shop", domain=".example.com")])
    async with Browser(site.app, base_url="https://example.com") as browser:
        old = await bring(browser.another(), cart=[])
        response = await browser.get("/read", headers={"Cookie": f"session={old}"})
        lines = [line for line in response.headers.lines("set-cookie") if "Max-Age=0" in line]
        assert lines == ["session=; Max-Age=0; Path=/shop; Domain=example.com; HttpOnly; SameSite=Lax"]

    site = site_of([StarletteCookie(SECRET, clear=False)])
    async with Browser(site.app) as browser:
        await bring(browser, cart=[])
        await ask(browser, "/read")
        assert "session" in browser.cookies


@pytest.mark.parametrize("kind", KINDS)
async def test_a_protected_name_is_cleared_with_its_protection(site_of: Callable[..., Site]) -> None:
    """Browsers drop what is not Secure under a name with a prefix."""
    site = site_of([StarletteCookie(SECRET, cookie="__Host-theirs")])
    async with Browser(site.app) as browser:
        old = await bring(browser, cart=[])
        response = await browser.get("/read", headers={"Cookie": f"__Host-theirs={old}"})
        (line,) = [line for line in response.headers.lines("set-cookie") if line.startswith("__Host-theirs=;")]
        assert "; Secure" in line


@pytest.mark.parametrize("kind", KINDS)
async def test_a_header_of_ours_takes_over_from_their_cookie(site_of: Callable[..., Site]) -> None:
    """R9: and the response depends on both."""
    site = site_of(transport=HeaderTransport())
    async with Browser(site.app, keep_headers="Session-") as browser:
        await bring(browser, cart=["theirs"])
        response = await browser.get("/read")
        assert {each.strip() for each in response.headers["vary"].lower().split(",")} >= {"cookie", "session-app"}
        assert "session" not in browser.cookies
        assert (await ask(browser, "/read"))["cart"] == ["theirs"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_told_apart_is_refused(build: Build) -> None:
    """At construction."""
    plain = CookieTransport(CookieOptions.debug())
    with pytest.raises(ConfigError, match="the store's own"):
        build(name="session", transport=plain, imports=[StarletteCookie(SECRET)])
    with pytest.raises(ConfigError, match="the store's own"):
        build(imports=[StarletteCookie(SECRET, cookie="__Host-app")])
    with pytest.raises(ConfigError, match="the store's own"):
        build(imports=[Alias("app")])
    with pytest.raises(ConfigError, match="another's too"):
        build(imports=[StarletteCookie(SECRET), StarletteCookie("other")])
    with pytest.raises(ConfigError, match="neither an importer"):
        build(imports=["session"])
    unfit: Any = datetime(2030, 1, 1)  # noqa: DTZ001  # that is what is refused
    with pytest.raises(ConfigError, match="aware"):
        Alias("older", until=unfit)
    with pytest.raises(ConfigError, match="transport"):
        Alias("older", transport=unfit)
    with pytest.raises(ConfigError, match="a session's name"):
        build(imports=[Alias("not a name")])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lifetime_counts_from_the_import(site_of: Callable[..., Site]) -> None:
    """X1: clocks from now."""
    site = site_of(lifetime=Lifetime(idle=timedelta(hours=1), absolute=timedelta(hours=2)))
    async with Browser(site.app) as browser:
        await bring(browser, cart=["theirs"])
        await ask(browser, "/read")
        site.clock.advance(3000)
        await ask(browser, "/read")
        site.clock.advance(3000)
        assert not (await ask(browser, "/read"))["new"]
        site.clock.advance(3700)
        assert (await ask(browser, "/read"))["new"]
