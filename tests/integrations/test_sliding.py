"""A timed cookie is sent again while it is in use, in five frameworks and a jar that honours Max-Age."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aiosessions import Lifetime
from aiosessions.testing import Browser
from tests.integrations.apps import FRAMEWORKS, House, Page, Reply, Socket
from tests.integrations.stage import ASYNCIO, Backend, Case, Stage, twin

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
WEEK = Lifetime(7 * DAY, 30 * DAY, cookie=7 * DAY)
WINDOW = timedelta(minutes=5)
KINDS = [
    ("storage", "cookie", "plain"),
    ("storage", "cookie", "jwt"),
    ("client", "cookie", "hmac"),
    ("client", "cookie", "aesgcm"),
]


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


async def touch(house: House, request: Any) -> Reply:  # Any: each framework's own
    (await house.store.get(request)).touch()
    return Reply()


async def touch_and_save(house: House, request: Any) -> Reply:  # Any: as above
    session = await house.store.get(request)
    session.touch()
    await house.store.save(session)
    return Reply()


async def slow_save(house: House, request: Any) -> Reply:  # Any: as above
    """Write at once, and answer late."""
    session = await house.store.get(request)
    session.value.count += 1
    await house.store.save(session)
    await house.meanwhile()
    return Reply()


async def slow_update(house: House, request: Any) -> Reply:  # Any: as above
    def add(basket: Any) -> None:
        basket.count += 1

    session = await house.store.get(request, touch=False)
    await house.store.update(session, add)
    await house.meanwhile()
    return Reply()


async def slow_touch(house: House, request: Any) -> Reply:  # Any: as above
    await touch_and_save(house, request)
    await house.meanwhile()
    return Reply()


async def read_and_save(house: House, request: Any) -> Reply:  # Any: as above
    await house.store.save(await house.store.get(request))
    return Reply()


async def fail(house: House, request: Any) -> Reply:  # Any: as above
    await house.store.get(request)
    return Reply(status=503)


async def look_by_hand(house: House, request: Any) -> Reply:  # Any: as above
    session = await house.store.get(request)
    return Reply(str(session.user_id), by_hand=session)


async def destroy_one(house: House, request: Any) -> Reply:  # Any: as above
    """One session ends, another is written."""
    (await house.store.get(request)).destroy()
    (await house.theme.get(request)).value.color += "!"
    return Reply()


async def two(house: House, request: Any) -> Reply:  # Any: as above
    """One session is read, another is written."""
    await house.store.get(request)
    (await house.theme.get(request)).value.color += "!"
    return Reply()


PAGES: dict[str, Page] = {
    page.__name__: page
    for page in (
        touch,
        touch_and_save,
        slow_save,
        slow_update,
        slow_touch,
        read_and_save,
        fail,
        look_by_hand,
        two,
        destroy_one,
    )
}


def stage_of(framework: str, kind: tuple[str, str, str] = KINDS[0], *, lifetime: Lifetime = WEEK) -> Stage:
    return Stage(Case(framework, *kind), pages=PAGES, lifetime=lifetime)


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def stage(framework: str) -> Stage:
    return stage_of(framework)


async def come(stage: Stage, browser: Browser) -> str:
    """Log in; the token, a touch window later."""
    await browser.get("/login")
    stage.clock.advance(WINDOW)
    stage.calls()
    return stage.token(browser)


@pytest.mark.parametrize("page", ["read", "add", "save", "stream", "touch", "touch_and_save"])
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
async def test_a_visitor_every_third_day_stays_for_thirty(
    framework: str, kind: tuple[str, str, str], page: str
) -> None:
    """R15, X2, X3: a cookie of 7 days and an idle time of 7 never end between two visits; the absolute time does."""
    stage = stage_of(framework, kind)
    async with stage.open() as browser:
        await browser.get("/login")
        for _ in range(9):
            stage.clock.advance(3 * DAY)
            assert stage.token(browser) != "", "the browser has forgotten it"
            response = await browser.get(f"/{page}")
            assert response.status == 200
            (line,) = stage.told(response)
            assert "Max-Age=604800;" in line, "not shortened near the absolute deadline"
            assert response.headers["cache-control"] == "no-store"
            assert "user=ann" in (await browser.get("/read")).text
        stage.clock.advance(3 * DAY - timedelta(seconds=1))
        assert "user=ann" in (await browser.get("/read")).text
        stage.clock.advance(timedelta(seconds=1))
        assert (await browser.get("/read")).text == "0 new user=None flashes="


async def test_an_idle_visitor_is_logged_out(stage: Stage) -> None:
    """X1, X3: neither cookie nor record outlives an idle time."""
    async with stage.open() as browser:
        await browser.get("/login")
        stage.clock.advance(7 * DAY)
        assert stage.token(browser) == ""
        assert await stage.storer.stored() == []


async def test_a_read_sends_the_same_token_once_per_window(stage: Stage) -> None:
    """R2, R15: one write, as the headers leave; the reads before and after it cost none, and touch=False never does."""
    async with stage.open() as browser:
        token = await come(stage, browser)
        assert stage.told(await browser.get("/peek")) == []
        assert stage.calls() == ["read"]
        assert len(stage.told(await browser.get("/read"))) == 1
        assert stage.calls() == ["read", "replace"]
        assert stage.token(browser) == token
        for page in ("read", "peek", "add", "save"):
            assert stage.told(await browser.get(f"/{page}")) == []
        assert stage.calls() == ["read", "read", "read", "replace", "read", "replace"]
        stage.clock.advance(WINDOW)
        assert len(stage.told(await browser.get("/add"))) == 1
        assert stage.calls() == ["read", "replace"]
        assert stage.token(browser) == token


async def test_what_moved_the_last_use_sent_nothing(stage: Stage) -> None:
    """R15: a touch elsewhere, by a job or a socket, is no sending."""
    async with stage.open() as browser:
        await come(stage, browser)
        (key,) = await stage.storer.stored()
        assert await stage.storer.touch(key, seen_at=stage.clock(), expires_at=stage.clock() + 7 * 86_400)
        stage.calls()
        assert len(stage.told(await browser.get("/read"))) == 1


@pytest.mark.parametrize("page", ["touch", "touch_and_save"])
async def test_a_touch_that_was_asked_for_always_sends(stage: Stage, page: str) -> None:
    """R15: whatever the window says, and also if it was saved before the headers leave."""
    async with stage.open() as browser:
        await browser.get("/login")
        for _ in range(2):
            assert len(stage.told(await browser.get(f"/{page}"))) == 1


@pytest.mark.parametrize(
    ("page", "writes"), [("slow_save", 2), ("slow_update", 2), ("slow_touch", 1), ("read_and_save", 1)]
)
async def test_what_was_saved_early_is_sent_as_the_headers_leave(stage: Stage, page: str, writes: int) -> None:
    """R15, R14: not before."""
    async with stage.open() as browser:
        await come(stage, browser)
        assert len(stage.told(await browser.get(f"/{page}"))) == 1
        assert stage.calls().count("replace") == writes
        assert stage.told(await browser.get("/read")) == []


@pytest.mark.parametrize("page", ["read", "touch"])
async def test_a_header_has_no_end_and_is_not_sent_again(framework: str, page: str) -> None:
    """R15, X3."""
    stage = stage_of(framework, ("storage", "header", "plain"))
    async with stage.open() as browser:
        await come(stage, browser)
        assert stage.told(await browser.get(f"/{page}")) == []
        assert set(stage.calls()) == {"read", "touch"}
        assert stage.told(await browser.get("/add")) == []


@pytest.mark.parametrize("cookie", ["browser", "persistent"])
async def test_other_cookies_are_not_sent_again(framework: str, cookie: Any) -> None:
    """R2, R15, X3."""
    stage = stage_of(framework, lifetime=replace(WEEK, cookie=cookie))
    async with stage.open() as browser:
        await come(stage, browser)
        for page in ("read", "touch", "touch_and_save", "add"):
            assert stage.told(await browser.get(f"/{page}")) == []
            stage.clock.advance(WINDOW)


async def test_an_answer_of_500_sends_nothing_and_is_a_use(stage: Stage) -> None:
    """R10, X1: a page that fails for a week logs nobody out."""
    async with stage.open() as browser:
        await come(stage, browser)
        assert stage.told(await browser.get("/fail")) == []
        assert stage.calls() == ["read", "touch"]
        assert len(stage.told(await browser.get("/read"))) == 1


@pytest.mark.parametrize("fails", [{"replace"}, {"replace", "touch"}], ids="-".join)
async def test_what_cannot_be_sent_again_fails_no_read(stage: Stage, fails: set[str]) -> None:
    """R15, S13: it is tried again by the next; where only a write is refused the use still counts."""
    async with stage.open() as browser:
        await come(stage, browser)
        stage.storer.fails = lambda method, _: method in fails
        for _ in range(2):
            response = await browser.get("/read")
            assert (response.status, response.text) == (200, "0 known user=ann flashes=")
            assert stage.told(response) == []
        stage.storer.fails = lambda _, __: False
        assert len(stage.told(await browser.get("/read"))) == 1
        if fails == {"replace"}:
            assert "touch" in stage.calls()


@pytest.mark.parametrize(
    "page", ["slow_read", "slow_add", "slow_save", "slow_update", "slow_touch", "read", "add", "touch"]
)
async def test_a_slow_answer_logs_nobody_out(stage: Stage, page: str) -> None:
    """R18: with an older token, due to be sent again, while somebody logs in and after."""
    async with stage.open() as browser:
        await browser.get("/add")
        stage.clock.advance(WINDOW)
        slow = twin(browser)

        async def log_in() -> None:
            await browser.get("/login")

        stage.house.meanwhile = log_in
        if not page.startswith("slow"):
            await log_in()
        response = await slow.get(f"/{page}")
        assert response.status == 200
        assert stage.told(response) == []
        assert stage.token(slow) != stage.token(browser)
        assert "user=ann" in (await browser.get("/read")).text


@pytest.mark.parametrize(("away", "slow"), [(3, 3.9), (6.99, 3)])
async def test_a_slow_page_does_not_outlast_the_session(stage: Stage, away: float, slow: float) -> None:
    """X1: the use counts from when it began, however late its headers leave."""
    async with stage.open() as browser:
        await browser.get("/login")
        stage.clock.advance(away * DAY)

        async def take_long() -> None:
            stage.clock.advance(slow * DAY)

        stage.house.meanwhile = take_long
        response = await browser.get("/slow_read")
        assert len(stage.told(response)) == 1
        assert "user=ann" in (await browser.get("/read")).text


async def test_what_is_sent_again_is_looked_at_once_more(stage: Stage) -> None:
    """R18: another session of the request takes its time, and meanwhile somebody logs in."""
    async with stage.open() as browser:
        await browser.get("/both")
        stage.clock.advance(WINDOW)
        slow = twin(browser)
        write = stage.storer.replace

        async def held_up(key: str, record: Any, *, version: int) -> bool:
            if ":theme:" in key:
                stage.storer.replace = write  # type: ignore[method-assign]  # once
                await browser.get("/login")
            return await write(key, record, version=version)

        stage.storer.replace = held_up  # type: ignore[method-assign]  # a storer that is slow for once
        assert stage.told(await slow.get("/two")) == []
        assert "user=ann" in (await browser.get("/read")).text


@pytest.mark.parametrize("page", ["destroy_one", "two"])
async def test_two_sessions_are_both_told(stage: Stage, page: str) -> None:
    """R5, R7, R15: one is sent again or ends, and the other is sent again."""
    async with stage.open() as browser:
        await browser.get("/both")
        stage.clock.advance(WINDOW)
        response = await browser.get(f"/{page}")
        (line,) = stage.told(response)
        assert ("Max-Age=0;" in line) == (page == "destroy_one")
        assert len(stage.told(response, "theme")) == 1


async def test_a_session_that_nobody_looks_at_is_sent_again(stage: Stage) -> None:
    """R17: with `refresh`."""
    stage.house.refresh = [stage.house.store]
    async with stage.open() as browser:
        await browser.get("/login")
        for _ in range(9):
            stage.clock.advance(3 * DAY)
            assert len(stage.told(await browser.get("/nothing"))) == 1
        assert "user=ann" in (await browser.get("/read")).text


async def test_a_handshake_sends_it_again_and_what_comes_later_does_not(stage: Stage) -> None:
    """R12, R15: once the headers have left, `get` touches."""

    async def look(house: House, request: Any, socket: Socket) -> None:  # Any: each framework's own
        session = await house.store.get(request)
        await socket.accept()
        await socket.send(str(session.user_id))

    async def late(house: House, request: Any, socket: Socket) -> None:  # Any: as above
        await socket.accept()
        await look_late(house, request, socket)

    async def look_late(house: House, request: Any, socket: Socket) -> None:  # Any: as above
        session = await house.store.get(request)
        await house.store.save(session)
        await socket.send(str(session.user_id))

    stage.house.sockets = {"look": look, "late": late}
    async with stage.open() as browser:
        await come(stage, browser)
        async with browser.websocket("/ws/late") as socket:
            assert await socket.receive_text() == "ann"
        assert stage.calls() == ["read", "touch"]
        assert socket.headers.lines("set-cookie") == []
        async with browser.websocket("/ws/look") as socket:
            assert await socket.receive_text() == "ann"
        assert stage.calls() == ["read", "replace"]
        assert len(socket.headers.lines("set-cookie")) == 1


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "quart", "aiohttp"])
async def test_without_a_middleware_save_with_a_response_sends_it(framework: str) -> None:
    """R14, R15: `get` touches as ever; Litestar makes its responses after the handler."""
    stage = stage_of(framework)
    stage.house.is_managed = False
    async with stage.open() as browser:
        await browser.get("/by_hand")
        for _ in range(9):
            stage.clock.advance(3 * DAY)
            stage.calls()
            assert stage.told(await browser.get("/read")) == []
            assert stage.calls() == ["read", "touch"]
            assert len(stage.told(await browser.get("/look_by_hand"))) == 1
            assert stage.told(await browser.get("/look_by_hand")) == []
        assert (await browser.get("/read")).text.startswith("1 known")
