"""The R group of the contract, through five frameworks: what a client and a backend see of a request."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TypeAlias, TypeVar

import pytest

from aiosessions import Lifetime
from aiosessions.testing import Browser, Response
from tests.integrations.stage import (
    ASYNCIO,
    TRIO,
    UVLOOP,
    Backend,
    Case,
    Stage,
    all_combinations,
    some_combinations,
    twin,
)

pytestmark = pytest.mark.anyio

Combination: TypeAlias = tuple[Case, Backend]

CASES: list[Combination] = [
    *((case, ASYNCIO) for case in all_combinations("starlette")),
    *((case, backend) for backend in (UVLOOP, TRIO) for case in some_combinations("starlette")[::3]),
    *((case, ASYNCIO) for name in ("fastapi", "litestar", "quart", "aiohttp") for case in some_combinations(name)),
]


FORGED = [
    "A" * 64,
    "",
    "../../../../etc/passwd",
    "%00%0d%0aSet-Cookie:a=b",
    "A" * 7000,
    "-",
    '"quoted"',
    "eyJhbGciOiJub25lIn0.eyJzaWQiOiJhIn0.",
    "\xe4\xf6\xfc",
]
ALMOST_OURS = [
    "__host-app={}",
    "__Host-app ={}",
    '__Host-app="{}"',
    "__Host-app.x={}",
    "a=b, __Host-app={}",
    "\xa0__Host-app={}",
    "x__Host-app={}",
]

Function = TypeVar("Function", bound=Callable[..., object])


def only(condition: Callable[[Case], bool]) -> Callable[[Function], Function]:
    """The test is about some combinations only; there is nothing to skip in the others."""

    def mark(function: Function) -> Function:
        function.__dict__["only"] = condition
        return function

    return mark


def stored(case: Case) -> bool:
    """There is a backend: it can fail, and what it forgets is gone."""
    return case.is_stored


def in_cookies(case: Case) -> bool:
    return case.is_cookie


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    condition = metafunc.function.__dict__.get("only")
    cases = [each for each in CASES if condition is None or condition(each[0])]
    metafunc.parametrize("combination", cases, ids=_name)


def _name(combination: Combination) -> str:
    case, backend = combination
    return str(case) if backend == ASYNCIO else f"{case}-{'uvloop' if backend == UVLOOP else 'trio'}"


@pytest.fixture
def anyio_backend(combination: Combination) -> Backend:
    return combination[1]


@pytest.fixture
def stage(combination: Combination) -> Stage:
    return Stage(combination[0])


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[Browser]:
    async with stage.open() as browser:
        yield browser


def varies(stage: Stage, response: Response) -> bool:
    return ("Cookie" if stage.case.is_cookie else "Session-App") in response.headers.get("vary", "")


class TestLooking:
    async def test_a_page_that_never_looks_costs_nothing(self, stage: Stage, browser: Browser) -> None:
        """R1: no backend call, no token, no Vary, with a session and without."""
        for _ in range(2):
            stage.calls()
            response = await browser.get("/nothing")

            assert response.status == 200
            assert stage.calls() == []
            assert stage.told(response) == []
            assert "vary" not in response.headers
            await browser.get("/add")

    async def test_a_page_that_reads_sends_nothing_and_says_that_it_varies(
        self, stage: Stage, browser: Browser
    ) -> None:
        """R2: one backend read; nothing is sent; `Vary` whether a session was found or not."""
        missing = await browser.get("/read")
        assert (missing.text, stage.calls()) == ("0 new user=None flashes=", [])
        assert stage.told(missing) == []
        assert varies(stage, missing)

        await browser.get("/add")
        stage.calls()
        found = await browser.get("/read")
        assert found.text == "1 known user=None flashes="
        assert stage.calls() == (["read"] if stage.case.is_stored else [])
        assert stage.told(found) == []
        assert varies(stage, found)
        assert "cache-control" not in found.headers

    async def test_a_new_session_that_nobody_changed_is_neither_stored_nor_sent(
        self, stage: Stage, browser: Browser
    ) -> None:
        """R3, V3: also after an equal value was assigned, and when a change was taken back."""
        for page in ("/read", "/same"):
            response = await browser.get(page)
            assert response.text.startswith("0 new")
            assert stage.told(response) == []
        assert await stage.storer.stored() == []

    async def test_a_session_that_is_put_back_as_it_was_is_not_written(self, stage: Stage, browser: Browser) -> None:
        """V3: a value that was read, copied, changed and changed back is no change."""
        await browser.get("/add")
        stage.calls()
        response = await browser.get("/same")
        assert response.text.startswith("1 known")
        assert "replace" not in stage.calls()
        assert stage.told(response) == []

    async def test_the_first_change_creates_and_later_ones_replace(self, stage: Stage, browser: Browser) -> None:
        """R4: one `create` and one token, which no cache may keep; later one `replace` and, on a server, no token."""
        first = await browser.get("/add")
        assert first.text.startswith("1 new")
        assert stage.calls() == (["create"] if stage.case.is_stored else [])
        assert len(stage.told(first)) == 1
        assert first.headers["cache-control"] == "no-store"
        assert varies(stage, first)

        second = await browser.get("/add")
        assert second.text.startswith("2 known")
        assert stage.calls() == (["read", "replace"] if stage.case.is_stored else [])
        assert len(stage.told(second)) == (0 if stage.case.is_stored else 1)
        assert (await browser.get("/read")).text.startswith("2 known")

    async def test_a_change_deep_inside_is_saved(self, browser: Browser) -> None:
        """V3: no flag has to be set."""
        await browser.get("/add")
        assert (await browser.get("/deep")).text == "eggs"
        assert (await browser.get("/deep")).text == "eggss"

    async def test_one_request_has_one_session_of_a_name(self, stage: Stage, browser: Browser) -> None:
        """R5: the same object; two names, two stores and two types are independent."""
        assert (await browser.get("/twice")).text == "True 1 10 light!"
        assert (await browser.get("/twice")).text == "True 2 20 light!!"
        assert (await browser.get("/read")).text.startswith("2 known")
        assert len({stage.token(browser, name) for name in ("app", "other", "theme")}) == 3

    async def test_a_token_of_one_name_is_worthless_under_another(self, stage: Stage, browser: Browser) -> None:
        """R5, F8."""
        await browser.get("/add")
        thief = browser.another()
        response = await thief.get("/other", headers=stage.carrying(stage.token(browser), "other"))
        assert response.text.startswith("0 new")
        assert stage.told(response, "other") == []

    async def test_two_stores_of_one_name_are_refused(self, browser: Browser) -> None:
        """R5: on one transport."""
        assert "give one of them another name=" in (await browser.get("/crowded")).text

    async def test_a_flash_is_kept_for_the_next_page_and_taken_once(self, stage: Stage, browser: Browser) -> None:
        """V5: a flash alone makes a new session worth storing."""
        assert len(stage.told(await browser.get("/flash"))) == 1
        assert (await browser.get("/flashes")).text == "hello"
        assert (await browser.get("/flashes")).text == ""


class TestForgery:
    async def test_a_token_we_did_not_make_is_a_new_session(self, stage: Stage, browser: Browser) -> None:
        """R6, F1, F2: no id is adopted, no record made, nothing sent, never a 500."""
        for forged in FORGED:
            client = browser.another()
            response = await client.get("/read", headers=stage.carrying(forged))
            assert (forged, response.status, response.text) == (forged, 200, "0 new user=None flashes=")
            assert (forged, stage.told(response)) == (forged, [])
            assert await stage.storer.stored() == []
        assert "read" not in stage.calls()[1:], "only what has the shape of a token is looked for"

        await browser.get("/add", headers=stage.carrying("A" * 64))
        assert stage.token(browser) not in ("", "A" * 64)

    async def test_a_token_that_was_tampered_with_is_a_new_session(self, stage: Stage, browser: Browser) -> None:
        """R6, F6: wherever it was changed; and the real one still works."""
        await browser.get("/add")
        token = stage.token(browser)
        for place in (0, len(token) // 2, len(token) - 2):
            other = "A" if token[place] != "A" else "B"
            forged = token[:place] + other + token[place + 1 :]
            response = await browser.another().get("/read", headers=stage.carrying(forged))
            assert response.text.startswith("0 new")
            assert stage.told(response) == []
        assert (await browser.get("/read")).text.startswith("1 known")

    @only(in_cookies)  # the browser sends a header once; the transport's own tests send it twice
    async def test_a_token_that_comes_twice_is_a_new_session(self, stage: Stage, browser: Browser) -> None:
        """R6: a duplicate cannot be told from a planted one."""
        await browser.get("/add")
        cookie = f"__Host-app={stage.token(browser)}"
        response = await browser.another().get("/read", headers={"Cookie": f"{cookie}; a=b; {cookie}"})
        assert response.text.startswith("0 new")
        assert stage.told(response) == []

    @only(in_cookies)
    async def test_a_cookie_that_a_parser_would_make_ours_is_not(self, stage: Stage, browser: Browser) -> None:
        """R6: no folding of case, no trimming, no unquoting."""
        await browser.get("/add")
        for line in ALMOST_OURS:
            cookie = line.format(stage.token(browser))
            response = await browser.another().get("/read", headers={"Cookie": cookie})
            assert (line, response.text) == (line, "0 new user=None flashes=")

    async def test_a_session_that_expired_is_a_new_one(self, stage: Stage, browser: Browser) -> None:
        """R6, X1."""
        await browser.get("/add")
        headers = stage.carrying(stage.token(browser))
        stage.clock.advance(timedelta(days=1))
        response = await browser.another().get("/read", headers=headers)
        assert response.text.startswith("0 new")
        assert stage.told(response) == []


class TestEnding:
    @pytest.mark.parametrize(
        ("page", "status"),
        [("destroy", 200), ("destroy_and_503", 503), ("destroy_and_raise_503", 503), ("destroy_and_raise", 500)],
    )
    async def test_destroy_ends_the_session_on_both_sides(
        self, stage: Stage, browser: Browser, page: str, status: int
    ) -> None:
        """R7, R10: the record is gone and the client is told, also when the handler then fails."""
        await browser.get("/login")
        thief = twin(browser)
        stage.calls()

        response = await browser.get(f"/{page}")
        assert response.status == status
        assert stage.calls() == (["read", "delete"] if stage.case.is_stored else [])
        assert stage.told(response) == (
            ["__Host-app=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"] if stage.case.is_cookie else ["-"]
        )
        assert "no-store" in response.headers["cache-control"]
        assert stage.token(browser) == ""
        assert await stage.storer.stored() == []
        if status == 200:
            assert response.text == "0 new user=None flashes="
        if stage.case.is_stored:
            assert (await thief.get("/read")).text.startswith("0 new")

    async def test_what_follows_a_destroy_in_the_same_request_is_a_session_of_its_own(
        self, stage: Stage, browser: Browser
    ) -> None:
        """R7, R9: a goodbye flash lives in a new session; one token is sent."""
        await browser.get("/login")
        before = stage.token(browser)
        response = await browser.get("/destroy_and_add")
        assert len(stage.told(response)) == 1
        assert stage.token(browser) not in ("", before)
        assert (await browser.get("/flashes")).text == "bye"
        assert (await browser.get("/read")).text == "0 known user=None flashes="

    async def test_a_destroy_without_a_session_sends_nothing(self, stage: Stage, browser: Browser) -> None:
        """R7: there is nothing to clear."""
        response = await browser.get("/destroy")
        assert stage.told(response) == []
        assert stage.calls() == []

    @pytest.mark.parametrize("page", ["regenerate", "login"])
    async def test_a_rotation_ends_older_tokens_and_keeps_the_value(
        self, stage: Stage, browser: Browser, page: str
    ) -> None:
        """R8, V7: one record; two round trips."""
        await browser.get("/add")
        old = twin(browser)
        stage.calls()
        response = await browser.get(f"/{page}")
        assert stage.calls() == (["read", "replace"] if stage.case.is_stored else [])
        assert len(stage.told(response)) == 1
        user = "ann" if page == "login" else None
        assert (await browser.get("/read")).text == f"1 known user={user} flashes="
        if stage.case.is_stored:
            assert len(await stage.storer.stored()) == 1
            assert (await old.get("/read")).text.startswith("0 new")

    @only(stored)  # there is no backend that could fail
    async def test_a_rotation_that_could_not_be_written_loses_nothing(self, stage: Stage, browser: Browser) -> None:
        """R8, R11: the old token still works, and no other was sent."""
        await browser.get("/add")
        stage.storer.fails = lambda method, _: method == "replace"
        response = await browser.get("/login")
        assert response.status == 500
        assert stage.told(response) == []
        assert (await browser.get("/read")).text == "1 known user=None flashes="

    async def test_a_new_session_takes_the_place_of_the_one_that_came(self, stage: Stage, browser: Browser) -> None:
        """F2, R5: `new()` deletes what the request had the right to, once its own is saved."""
        await browser.get("/add")
        response = await browser.get("/fresh")
        assert response.text.startswith("100 new")
        assert len(stage.told(response)) == 1
        assert (await browser.get("/read")).text.startswith("100 known")
        if stage.case.is_stored:
            assert len(await stage.storer.stored()) == 1


class TestAnswers:
    async def test_the_applications_own_headers_stay(self, stage: Stage, browser: Browser) -> None:
        """R9: Vary and Cache-Control are merged, other cookies stay, and no two cookies of one name leave."""
        response = await browser.get("/dressed")
        names = [line.partition("=")[0] for line in response.set_cookies]
        assert sorted(names) == ["__Host-app", "lang"]
        assert "lang=en" in "".join(response.set_cookies)
        assert ("planted" in "".join(response.set_cookies)) is not stage.case.is_cookie
        assert response.headers["cache-control"] == "no-transform, no-store"
        assert "Accept-Language" in response.headers["vary"]
        assert varies(stage, response)
        assert (await browser.get("/read")).text.startswith("1 known")

    @pytest.mark.parametrize(
        ("page", "status"), [("redirect", 303), ("raise_404", 404), ("empty", 204), ("file", 200), ("stream", 200)]
    )
    async def test_below_500_everything_is_saved(self, stage: Stage, browser: Browser, page: str, status: int) -> None:
        """R10: redirects, HTTP errors, empty bodies, files and streams, new sessions and changed ones."""
        response = await browser.get(f"/{page}")
        assert response.status == status
        assert len(stage.told(response)) == 1
        assert (await browser.get("/read")).text.startswith("1 known")
        assert (await browser.get(f"/{page}")).status == status
        assert (await browser.get("/read")).text.startswith("2 known")
        if page == "stream":
            assert response.body == b"one two"

    @pytest.mark.parametrize(
        ("page", "status"), [("reply_503", 503), ("raise_503", 503), ("fail", 500), ("conflict", 409)]
    )
    async def test_from_500_on_nothing_is_saved(self, stage: Stage, browser: Browser, page: str, status: int) -> None:
        """R10: a ConflictError is a 409 and counts like a 500."""
        response = await browser.get(f"/{page}")
        assert response.status == status
        assert stage.told(response) == []
        assert await stage.storer.stored() == []

        await browser.get("/add")
        assert (await browser.get(f"/{page}")).status == status
        assert (await browser.get("/read")).text.startswith("1 known")

    async def test_what_was_written_before_a_failure_is_told(self, stage: Stage, browser: Browser) -> None:
        """R10: the tokens of what was already written; later changes are dropped."""
        response = await browser.get("/save_and_503")
        assert response.status == 503
        assert len(stage.told(response)) == 1
        assert (await browser.get("/read")).text.startswith("1 known")

    @only(lambda case: case.framework not in ("fastapi", "litestar"))  # there a route answers HEAD if it says so
    async def test_head_is_saved_like_get(self, stage: Stage, browser: Browser) -> None:
        """R10: an answer without a body."""
        response = await browser.request("HEAD", "/add")
        assert (response.status, response.body) == (200, b"")
        assert len(stage.told(response)) == 1
        assert (await browser.get("/read")).text.startswith("1 known")


class TestFailingSaves:
    @only(stored)  # there is no backend that could fail
    @pytest.mark.parametrize("page", ["add", "redirect", "raise_404", "stream", "file"])
    async def test_a_backend_that_fails_is_a_clean_500(self, stage: Stage, browser: Browser, page: str) -> None:
        """R11: never a dropped connection, never a token of an unsaved record."""
        stage.storer.fails = lambda method, _: method == "create"
        response = await browser.get(f"/{page}")
        assert (response.status, response.text) == (500, "Internal Server Error")
        assert stage.told(response) == []
        assert (await browser.get("/nothing")).text == "nothing"

    @only(stored)  # there is no backend that could fail
    async def test_a_backend_that_fails_to_read_is_no_silent_logout(self, stage: Stage, browser: Browser) -> None:
        """R11, S13: a StorerError, and the token stays."""
        await browser.get("/login")
        stage.storer.fails = lambda method, _: method == "read"
        response = await browser.get("/read")
        assert response.status == 500
        assert stage.told(response) == []
        stage.storer.fails = lambda _, __: False
        assert (await browser.get("/read")).text == "0 known user=ann flashes="

    @pytest.mark.parametrize("page", ["nan", "huge"])
    async def test_a_value_that_cannot_be_saved_is_found_before_anything_is_written(
        self, stage: Stage, browser: Browser, page: str
    ) -> None:
        """R11, V9, S18: the sessions of one request are all checked before the first is written."""
        response = await browser.get(f"/{page}")
        assert response.status == 500
        assert stage.told(response) == stage.told(response, "theme") == []
        assert await stage.storer.stored() == []

    @only(stored)  # there is no backend that could fail
    async def test_the_sessions_that_were_written_are_told_when_another_could_not_be(
        self, stage: Stage, browser: Browser
    ) -> None:
        """R11: the error response carries the tokens of the others."""
        stage.storer.fails = lambda method, key: method == "create" and ":theme:" in key
        response = await browser.get("/both")
        assert response.status == 500
        assert len(stage.told(response)) == 1
        assert stage.told(response, "theme") == []
        assert (await browser.get("/read")).text.startswith("1 known")

    async def test_a_logout_is_carried_out_although_another_session_cannot_be_saved(
        self, stage: Stage, browser: Browser
    ) -> None:
        """R7, R11: the error response tells of it."""
        await browser.get("/login")
        response = await browser.get("/destroy_and_nan")
        assert response.status == 500
        assert len(stage.told(response)) == 1
        assert stage.token(browser) == ""
        assert stage.told(response, "theme") == []
        assert await stage.storer.stored() == []

    async def test_an_error_can_be_caught_in_the_handler(self, stage: Stage, browser: Browser) -> None:
        """R11, V9: `await store.save(session)` raises there, and names the field."""
        response = await browser.get("/save_nan")
        assert response.status == 200
        assert "number" in response.text
        assert len(stage.told(response)) == 1
        assert (await browser.get("/read")).text.startswith("1 known")

    async def test_saving_in_the_handler_writes_and_tells_once(self, stage: Stage, browser: Browser) -> None:
        """R14: save() twice, and then the middleware's own."""
        response = await browser.get("/save")
        assert response.text == "saved 1"
        assert stage.calls() == (["create"] if stage.case.is_stored else [])
        assert len(stage.told(response)) == 1


class TestClocks:
    @pytest.fixture
    def stage(self, combination: Combination) -> Stage:
        lifetime = Lifetime(timedelta(hours=1), timedelta(hours=8), cookie="persistent", touch=timedelta(minutes=3))
        return Stage(combination[0], lifetime=lifetime)

    async def test_reading_extends_once_per_touch_window(self, stage: Stage, browser: Browser) -> None:
        """R15, X4: reads within it cost no write; the first after it costs one, sent by `get`; touch=False never."""
        await browser.get("/add")
        stage.calls()
        stage.clock.advance(timedelta(minutes=2))
        assert stage.told(await browser.get("/read")) == []
        stage.clock.advance(timedelta(minutes=2))
        assert stage.told(await browser.get("/peek")) == []
        assert "touch" not in stage.calls()

        response = await browser.get("/read")
        assert stage.calls() == (["read", "touch"] if stage.case.is_stored else [])
        assert len(stage.told(response)) == (0 if stage.case.is_stored else 1)
        assert stage.told(await browser.get("/read")) == []
        assert "touch" not in stage.calls()

    async def test_a_session_in_use_stays_until_the_absolute_deadline(self, stage: Stage, browser: Browser) -> None:
        """R15, X2, X3: a persistent cookie never ends before its record does, and reaches no further."""
        response = await browser.get("/add")
        if stage.case.is_cookie:
            assert f"Max-Age={8 * 3600};" in stage.told(response)[0]
        for _ in range(15):
            stage.clock.advance(timedelta(minutes=31))
            assert (await browser.get("/read")).text.startswith("1 known")
            assert stage.token(browser) != ""
        stage.clock.advance(timedelta(minutes=31))
        assert (await browser.get("/read")).text.startswith("0 new")

    async def test_the_clocks_come_from_the_library(self, stage: Stage, browser: Browser) -> None:
        """V4: what a client sends beside its token changes nothing."""
        await browser.get("/add")
        lies = {"Date": "Sat, 01 Jan 2000 00:00:00 GMT", "X-User": "ann", "X-Session-New": "1"}
        assert (await browser.get("/read", headers=lies)).text == "1 known user=None flashes="


class TestRaces:
    @only(stored)  # what the client holds is whatever answer it got last
    async def test_a_slow_answer_logs_nobody_out(self, stage: Stage, browser: Browser) -> None:
        """R18, F14: reading and writing with an older token, while somebody logs in and after."""
        await browser.get("/add")
        for page in ("/slow_read", "/slow_add", "/read", "/add"):
            slow = twin(browser)

            async def log_in() -> None:
                await browser.get("/login")

            stage.house.meanwhile = log_in
            await browser.get("/read") if page.startswith("/slow") else await log_in()
            response = await slow.get(page)
            assert response.status == 200
            assert stage.told(response) == []
            assert (await browser.get("/read")).text == "1 known user=ann flashes="
        assert len(await stage.storer.stored()) == 1

    @only(stored)  # without revocations the old copy stays valid
    async def test_a_slow_writer_does_not_undo_a_logout(self, stage: Stage, browser: Browser) -> None:
        """F4: after both the session is gone, and the slow answer sends nothing."""
        await browser.get("/login")
        slow = twin(browser)

        async def log_out() -> None:
            await browser.get("/destroy")

        stage.house.meanwhile = log_out
        response = await slow.get("/slow_add")
        assert (response.status, stage.told(response)) == (200, [])
        assert await stage.storer.stored() == []
        assert (await slow.get("/read")).text.startswith("0 new")

    @only(stored)  # what the client holds is whatever answer it got last
    async def test_a_login_that_lost_a_race_is_a_session_of_its_own(self, stage: Stage, browser: Browser) -> None:
        """R8: it never lives under a secret that another request made."""
        await browser.get("/add")
        slow = twin(browser)

        async def log_in() -> None:
            await browser.get("/login")

        stage.house.meanwhile = log_in
        response = await slow.get("/slow_login")
        assert len(stage.told(response)) == 1
        assert (await slow.get("/read")).text == "1 known user=bob flashes="
        assert (await browser.get("/read")).text == "1 known user=ann flashes="
        assert len(await stage.storer.stored()) == 2

    @only(stored)  # of two answers the one processed last stays
    async def test_two_writers_of_different_fields_both_survive(self, stage: Stage, browser: Browser) -> None:
        """F3: one adds to the count, the other renames what lies in the basket."""
        await browser.get("/add")
        slow = twin(browser)

        async def rename() -> None:
            await browser.get("/deep")

        stage.house.meanwhile = rename
        await slow.get("/slow_add")
        assert (await browser.get("/deep")).text == "eggss"
        assert (await browser.get("/read")).text.startswith("2 known")
