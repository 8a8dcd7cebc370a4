"""Recipes of ASGI applications, each with the package that it is for: what logs in there is a session of ours."""

import asyncio
import socket
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import socketio
from joserfc.jwk import RSAKey
from socketio.exceptions import ConnectionError as ConnectError
from sqladmin.flash import Flash
from starlette.requests import Request

from aiosessions import MappingSession, StorageOverseer, new_key
from aiosessions.testing import Browser
from tests.integrations.test_servers import under_uvicorn
from tests.recipes.provider import CLIENT, SECRET, Provider
from tests.recipes.shown import DOCS, cookies, run

pytestmark = pytest.mark.anyio

Shown = Any  # Any: what a page defines

ANN = {"username": "ann@shop.example", "password": "tea for two"}
REGISTERED = {"email": "ann@shop.example", "password": "tea for two"}


@pytest.fixture
def anyio_backend() -> str:
    """What all of them run on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the pages find their environment and put their databases."""
    monkeypatch.chdir(tmp_path)
    for name in ("ADMIN_KEY", "USERS_KEY"):
        monkeypatch.setenv(name, new_key())


def test_no_recipe_goes_without_its_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for page in (DOCS / "recipes").glob("*.md"):
        assert f'run("recipes/{page.stem}", ' in tests, page


class TestStarletteAuthentication:
    async def test_request_user_is_the_session_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/starlette-authentication", monkeypatch)
        async with Browser(shown.app) as browser:
            form = {"user": "ann", "password": "coffee"}
            refused = await browser.get("/account")
            assert (refused.status, refused.headers["location"][:30]) == (303, "https://testserver/login?next=")
            assert (await browser.post("/login", data=form)).status == 403
            form["password"] = "tea for two"
            answer = await browser.post("/login?next=https://elsewhere.example/", data=form, follow=True)
            assert (answer.url, answer.text) == ("https://testserver/account", "ann")
            token = cookies(browser)
            assert (await browser.post("/logout")).status == 303
            for browser.headers in ({}, {"Cookie": token}):
                assert (await browser.get("/account")).status == 303

    async def test_a_user_who_was_logged_out_everywhere_is_no_user_of_a_request(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = run("recipes/starlette-authentication", monkeypatch)
        async with Browser(shown.app) as browser:
            await browser.sign_in(shown.store, "ann")
            assert (await browser.get("/account")).text == "ann"
            assert await shown.store.delete_user_sessions("ann") == 1
            assert (await browser.get("/account")).status == 303


class TestAuthlib:
    @pytest.fixture
    async def provider(self, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Provider]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            provider = Provider(f"http://127.0.0.1:{listener.getsockname()[1]}")
            for name, value in (("ISSUER", provider.issuer), ("CLIENT_ID", CLIENT), ("CLIENT_SECRET", SECRET)):
                monkeypatch.setenv(f"OIDC_{name}", value)
            async with under_uvicorn(provider.app, listener):
                yield provider

    @pytest.fixture
    def shown(self, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Shown:
        return run("recipes/authlib", monkeypatch)

    @staticmethod
    async def callback_of(browser: Browser) -> str:
        """Where the provider sends a browser that wants to log in."""
        asked = (await browser.get("/login")).headers["location"]
        async with Browser(asked.partition("/authorize")[0]) as there:
            return (await there.get(asked)).headers["location"]

    async def test_a_login_changes_the_token_and_leaves_nothing_of_itself(self, shown: Shown) -> None:
        async with Browser(shown.app) as browser:
            stranger = browser.another()
            assert (await browser.get("/account")).status == 401
            callback = await self.callback_of(browser)
            planted = cookies(browser)
            assert planted
            assert (await browser.get(callback, follow=True)).text == "ann"
            token = cookies(browser)
            stranger.headers = {"Cookie": planted}
            assert (await stranger.get("/account")).status == 401
            stranger.headers = {"Cookie": token}
            assert (await stranger.get("/account")).text == "ann"
            [device] = await shown.store.user_sessions("ann")
            assert device.value == {}
            assert (await browser.post("/logout")).status == 200
            for each in (browser, stranger):
                assert (await each.get("/account")).status == 401

    async def test_only_the_browser_that_asked_can_end_a_login_and_once(self, shown: Shown) -> None:
        async with Browser(shown.app) as browser:
            victim, callback = browser.another(), await self.callback_of(browser)
            await self.callback_of(victim)  # has a login of its own under way
            for each, status in ((victim, 400), (browser, 303), (browser, 400)):
                assert (await each.get(callback)).status == status
            assert (await browser.get("/account")).text == "ann"
            assert (await victim.get("/account")).status == 401

    @pytest.mark.parametrize(
        "claims",
        [{"nonce": "another"}, {"aud": "another"}, {"iss": "https://another.example"}, {"exp": 1}, {}],
        ids=["nonce", "aud", "iss", "exp", "signature"],
    )
    async def test_an_id_token_that_is_not_for_this_login_logs_nobody_in(
        self, shown: Shown, provider: Provider, claims: dict[str, Any]
    ) -> None:
        provider.claims = claims
        if not claims:
            provider.key = RSAKey.generate_key(2048, {"kid": "1"})  # not the one it publishes
        async with Browser(shown.app) as browser:
            assert (await browser.get(await self.callback_of(browser))).status == 400
            assert (await browser.get("/account")).status == 401


class TestFastAPIUsers:
    async def test_the_session_is_the_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/fastapi-users", monkeypatch)

        async def add(request: Request) -> int:
            session: MappingSession[int] = await shown.store.get(request)
            session["tea"] = session.get("tea", 0) + 1
            return session["tea"]

        shown.app.add_api_route("/cart", add, methods=["POST"])
        async with Browser(shown.app) as browser:
            stranger = browser.another()
            assert (await browser.post("/register", json=REGISTERED)).status == 201
            assert (await browser.post("/cart")).json() == 1
            planted = cookies(browser)
            assert (await browser.post("/login", data=ANN | {"password": "coffee"})).status == 400
            assert (await browser.get("/account")).status == 401
            answer = await browser.post("/login", data=ANN)
            assert (answer.status, len(answer.set_cookies)) == (204, 1)
            token = cookies(browser)
            assert (await browser.get("/account")).json() == "ann@shop.example"
            assert (await browser.post("/cart")).json() == 2
            stranger.headers = {"Cookie": planted}
            assert (await stranger.get("/account")).status == 401
            assert (await browser.post("/logout")).status == 204
            assert cookies(browser) == ""
            for browser.headers in ({}, {"Cookie": token}):
                assert (await browser.get("/account")).status == 401

    async def test_a_new_password_ends_every_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown, tokens = run("recipes/fastapi-users", monkeypatch), list[str]()

        async def forgot(_: object, user: object, token: str, request: object) -> None:
            tokens.append(token)

        monkeypatch.setattr(shown.Users, "on_after_forgot_password", forgot)
        async with Browser(shown.app) as browser:
            other = browser.another()
            user = (await browser.post("/register", json=REGISTERED)).json()["id"]
            for each in (browser, other):
                await each.sign_in(shown.store, user)
                assert (await each.get("/account")).status == 200
            await browser.post("/forgot-password", json={"email": "ann@shop.example"})
            assert (await browser.post("/reset-password", json={"token": tokens[0], "password": "milk"})).status == 200
            for each in (browser, other):
                assert (await each.get("/account")).status == 401

    @pytest.mark.parametrize("user", [str(uuid.UUID(int=1)), "no uuid"])
    async def test_a_user_who_is_gone_is_nobody(self, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/fastapi-users", monkeypatch)
        async with Browser(shown.app) as browser:
            await browser.sign_in(shown.store, user)
            assert (await browser.get("/account")).status == 401


class TestSQLAdmin:
    async def test_its_login_form_logs_in_with_a_session_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/sqladmin", monkeypatch)
        async with Browser(shown.app) as browser:
            form = {"username": "ann", "password": "coffee"}
            assert (await browser.get("/admin/product/list")).headers["location"] == "https://testserver/admin/login"
            assert (await browser.post("/admin/login", data=form)).status == 400
            answer = await browser.post("/admin/login", data=form | {"password": "tea for two"})
            assert answer.status == 302
            assert [line.partition("=")[0] for line in answer.set_cookies] == ["__Host-admin"]
            token = cookies(browser)
            assert (await browser.get("/admin/product/list")).status == 200
            assert (await browser.get("/admin/logout")).status == 302
            assert cookies(browser) == ""
            for browser.headers in ({}, {"Cookie": token}):
                assert (await browser.get("/admin/product/list")).status == 302

    async def test_who_is_no_administrator_or_none_any_more_stays_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/sqladmin", monkeypatch)
        shop = StorageOverseer(dict[str, Any], shown.store._backend.storer)
        async with Browser(shown.app) as browser:
            await browser.sign_in(shop, "bob")
            assert (await browser.get("/admin/product/list")).status == 302
            await browser.sign_in(shown.store, "ann")
            assert (await browser.get("/admin/product/list")).status == 200
            await shown.store.delete_user_sessions("ann")
            assert (await browser.get("/admin/product/list")).status == 302

    async def test_its_flash_messages_are_in_the_session_and_it_knows_who_acts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = run("recipes/sqladmin", monkeypatch)
        users: list[str] = []

        async def flash(_: object, data: object, model: object, is_created: bool, request: Request) -> None:
            Flash.success(request, "A product more.")
            users.append(request.state.sqladmin_user_id)

        monkeypatch.setattr(shown.Products, "after_model_change", flash)
        async with Browser(shown.app) as browser:
            await browser.sign_in(shown.store, "ann")
            assert (await browser.post("/admin/product/create", data={"name": "tea"})).status == 302
            assert [pair.partition("=")[0] for pair in cookies(browser).split("; ")] == ["__Host-admin"]  # no other
            pages = [(await browser.get("/admin/product/list")).text for _ in range(2)]
            assert ["A product more." in page for page in pages] == [True, False]
            assert "tea" in pages[0]
        assert users == ["ann"]


class TestStarletteAdmin:
    async def test_its_login_form_logs_in_with_a_session_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/starlette-admin", monkeypatch)
        async with Browser(shown.app) as browser:
            refused = await browser.get("/admin/product/list")
            assert (refused.status, refused.headers["location"][:35]) == (303, "https://testserver/admin/login?next")
            form = {"username": "ann", "password": "coffee", "csrftoken": await self.csrf_token_of(browser)}
            assert (await browser.post("/admin/login", data=form)).status == 400
            form["password"] = "tea for two"
            answer = await browser.post("/admin/login?next=https://elsewhere.example/", data=form)
            assert (answer.status, answer.headers["location"]) == (303, "https://testserver/admin/")
            token = cookies(browser)
            assert (await browser.get("/admin/product/list")).status == 200
            out = {"csrftoken": await self.csrf_token_of(browser)}
            assert (await browser.post("/admin/logout", data=out)).status == 303
            for browser.headers in ({}, {"Cookie": token}):
                assert (await browser.get("/admin/product/list")).status == 303

    @pytest.mark.parametrize("is_remembered", [False, True], ids=["forgotten", "remembered"])
    async def test_remember_me_makes_the_cookie_stay_until_everybody_is_out(
        self, is_remembered: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = run("recipes/starlette-admin", monkeypatch)
        async with Browser(shown.app) as browser:
            form = {"username": "ann", "password": "tea for two", "csrftoken": await self.csrf_token_of(browser)}
            answer = await browser.post("/admin/login", data=form | ({"remember_me": "on"} if is_remembered else {}))
            [line] = [line for line in answer.set_cookies if line.startswith("__Host-admin=")]
            assert ("Max-Age" in line) is is_remembered
            assert (await browser.get("/admin/product/list")).status == 200
            await shown.store.delete_user_sessions("ann")
            assert (await browser.get("/admin/product/list")).status == 303

    @staticmethod
    async def csrf_token_of(browser: Browser) -> str:
        await browser.get("/admin/login")
        return dict(pair.split("=", 1) for pair in cookies(browser).split("; "))["starlette_admin_csrftoken"]


class TestSocketIO:
    async def test_a_socket_is_its_session_s_and_closes_with_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that begins with polling and becomes a websocket, as a browser's does."""
        shown = run("recipes/socketio", monkeypatch)
        browser, closed, refusals = Browser(shown.pages), anyio.Event(), list[dict[str, str]]()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"

            async def closes(_: str) -> None:
                closed.set()

            async with under_uvicorn(shown.app, listener), aiohttp.ClientSession() as http:

                async def connected(*transports: str, **headers: str) -> socketio.AsyncClient:
                    client = socketio.AsyncClient(reconnection=False, http_session=http)
                    client.on("connect_error", refusals.append)
                    await client.connect(address, {"Cookie": cookies(browser)} | headers, transports=transports)
                    return client

                assert (await browser.post("/login", data={"user": "ann", "password": "coffee"})).status == 403
                with pytest.raises(ConnectError):
                    await connected("websocket")
                assert refusals == [{"message": "log in first"}]
                assert (await browser.post("/login", data={"user": "ann", "password": "tea for two"})).status == 200
                with pytest.raises(ConnectError):
                    await connected("websocket", Origin="https://elsewhere.example")
                client = await connected("polling", "websocket")
                [watch] = shown.watches.values()
                client.on("disconnect", closes)
                assert await client.call("add", "tea") == ["tea"]
                assert await client.call("add", "milk") == ["tea", "milk"]
                other = await connected("websocket")
                [other_watch] = {*shown.watches.values()} - {watch}
                await other.disconnect()
                await browser.post("/logout")
                await asyncio.wait([watch, other_watch], timeout=10)
                assert [each.cancelled() for each in (watch, other_watch)] == [False, True]
                with anyio.fail_after(10):
                    await closed.wait()
                await shown.sio.shutdown()
        assert shown.watches == {}


class TestStrawberry:
    async def test_queries_and_mutations_have_the_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/strawberry", monkeypatch)
        async with Browser(shown.app) as browser:

            async def ask(query: str) -> Any:  # Any: as JSON has it
                answer = await browser.post("/graphql", json={"query": query})
                assert answer.status == 200
                return answer.json()

            assert await ask("{ me }") == {"data": {"me": None}}
            refused = await ask("{ visits }")
            assert (refused["data"], len(refused["errors"])) == (None, 1)
            assert await ask('mutation { login(user: "ann", password: "coffee") }') == {"data": {"login": False}}
            assert await ask("{ me }") == {"data": {"me": None}}
            assert await ask('mutation { login(user: "ann", password: "tea for two") }') == {"data": {"login": True}}
            planted = cookies(browser)
            assert [await ask("{ me visits }") for _ in range(2)] == [
                {"data": {"me": "ann", "visits": visits}} for visits in (1, 2)
            ]
            assert await ask('mutation { login(user: "ann", password: "tea for two") }') == {"data": {"login": True}}
            token = cookies(browser)
            assert token != planted
            assert await ask("mutation { logout }") == {"data": {"logout": True}}
            for browser.headers in ({}, {"Cookie": planted}, {"Cookie": token}):
                assert await ask("{ me }") == {"data": {"me": None}}

    async def test_a_subscription_hears_that_its_session_has_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("recipes/strawberry", monkeypatch)
        async with Browser(shown.app) as browser:
            await browser.sign_in(shown.store, "ann")
            async with browser.websocket("/graphql", subprotocols=["graphql-transport-ws"]) as socket:
                await socket.send_text('{"type": "connection_init"}')
                assert "connection_ack" in await socket.receive_text()
                await socket.send_text(
                    '{"type": "subscribe", "id": "1", "payload": {"query": "subscription { loggedOut }"}}'
                )
                assert (await browser.post("/graphql", json={"query": "{ me }"})).json() == {"data": {"me": "ann"}}
                await socket.send_text('{"type": "ping"}')
                assert "pong" in await socket.receive_text()  # and nothing before it
                await shown.store.delete_user_sessions("ann")
                assert '"loggedOut":true' in await socket.receive_text()
