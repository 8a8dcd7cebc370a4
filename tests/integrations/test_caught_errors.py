"""A save error that the handler caught, or the application's own exception handler, is answered as they say."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiosessions import (
    ConflictError,
    SessionError,
    SessionTooLargeError,
    StorageOverseer,
    StorerError,
)
from aiosessions.testing import Browser
from tests.integrations.apps import FRAMEWORKS, Basket, House, Page, Reply
from tests.integrations.stage import ASYNCIO, Backend, Case, Stage, twin

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


# the pages


async def add(house: House, request: Any) -> Reply:  # Any: each framework's own, here and below
    """Somebody else's request, of the same browser."""
    session = await house.store.get(request)
    session.value.count += 1
    session.value.number += 2.0
    return Reply(f"{session.value.count}")


async def fill(house: House, request: Any) -> None:
    """Save what is too large, and a theme that is not."""
    (await house.theme.get(request)).value.color = "dark"
    session = await house.store.get(request)
    session.value.items = ["x" * 300_000]
    await house.store.save(session)


async def fill_and_catch(house: House, request: Any) -> Reply:
    try:
        await fill(house, request)
    except SessionTooLargeError as error:
        return Reply(f"{error.limit} at most", 413)
    return Reply("not caught")


async def fill_and_shorten(house: House, request: Any) -> Reply:
    try:
        await fill(house, request)
    except SessionTooLargeError:
        session = await house.store.get(request)
        session.value.items = ["short"]
    return Reply("shortened")


async def fill_and_leave(house: House, request: Any) -> Reply:
    await fill(house, request)
    return Reply("not caught")


async def fill_at_the_end(house: House, request: Any) -> Reply:
    (await house.store.get(request)).value.items = ["x" * 300_000]
    return Reply("never seen")


async def change(house: House, request: Any) -> None:
    """What somebody else has changed meanwhile, and a theme that nobody has."""
    (await house.theme.get(request)).value.color = "dark"
    session = await house.store.get(request)
    session.value.number = 1.0
    await house.meanwhile()


async def lose_and_catch(house: House, request: Any) -> Reply:
    await change(house, request)
    try:
        await house.store.save(await house.store.get(request))
    except ConflictError:
        return Reply("somebody was faster", 422)
    return Reply("not caught")


async def lose_and_leave(house: House, request: Any) -> Reply:
    await change(house, request)
    await house.store.save(await house.store.get(request))
    return Reply("not caught")


async def lose_at_the_end(house: House, request: Any) -> Reply:
    await change(house, request)
    return Reply("never seen")


async def fail_and_catch(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.value.count += 1
    try:
        await house.store.save(session)
    except StorerError:
        return Reply("kept for later", 202)
    return Reply("not caught")


async def read(house: House, request: Any) -> Reply:
    basket, theme = await house.store.get(request), await house.theme.get(request)
    return Reply(f"{basket.value.count} {basket.value.number} {basket.value.items} {theme.value.color}")


PAGES: dict[str, Page] = {
    page.__name__: page
    for page in (
        add,
        fill_and_catch,
        fill_and_shorten,
        fill_and_leave,
        fill_at_the_end,
        lose_and_catch,
        lose_and_leave,
        lose_at_the_end,
        fail_and_catch,
        read,
    )
}
CLIENT_HELD = [("storage", "plain"), ("client", "aesgcm")]


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def stage(framework: str) -> Stage:
    """With a store that raises where two requests changed one field."""
    stage = Stage(Case(framework, "storage", "cookie", "plain"), pages=PAGES)
    stage.house.store = StorageOverseer(Basket, stage.storer, on_conflict="raise", clock=stage.clock)
    return stage


async def start_race(stage: Stage, browser: Browser) -> None:
    """Have a session, which another tab changes while a slow page is at work."""

    async def meanwhile() -> None:
        await twin(browser).get("/add")

    await browser.get("/add")
    stage.house.meanwhile = meanwhile
    stage.calls()


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[Browser]:
    """Of somebody who has a session."""
    async with stage.open() as browser:
        await start_race(stage, browser)
        yield browser


# caught in the handler


@pytest.mark.parametrize(("keeps", "sealer"), CLIENT_HELD)
async def test_a_session_too_large_that_the_handler_answers_is_answered_so(
    framework: str, keeps: str, sealer: str
) -> None:
    """R11, S18: 413 arrives as 413; what was stored stays, and the other session of the request is saved."""
    stage = Stage(Case(framework, keeps, "cookie", sealer), pages=PAGES)
    async with stage.open() as browser:
        await browser.get("/add")
        response = await browser.get("/fill_and_catch")
        assert response.status == 413
        assert response.text.endswith(" at most")
        assert stage.told(response) == []
        assert len(stage.told(response, "theme")) == 1
        assert (await browser.get("/read")).text == "1 2.0 [] dark"


@pytest.mark.parametrize(("keeps", "sealer"), CLIENT_HELD)
async def test_a_first_session_too_large_that_the_handler_answers_leaves_nothing(
    framework: str, keeps: str, sealer: str
) -> None:
    """R11, R3: also where there was none."""
    stage = Stage(Case(framework, keeps, "cookie", sealer), pages=PAGES)
    async with stage.open() as browser:
        response = await browser.get("/fill_and_catch")
        assert (response.status, stage.told(response)) == (413, [])
        assert (await browser.get("/read")).text == "0 0.0 [] dark"


async def test_what_was_changed_after_a_failed_save_is_saved(browser: Browser) -> None:
    """R11, R10: another draft is tried: the handler has made it fit."""
    response = await browser.get("/fill_and_shorten")
    assert (response.status, response.text) == (200, "shortened")
    assert (await browser.get("/read")).text == "1 2.0 ['short'] dark"


async def test_a_conflict_that_the_handler_answers_is_answered_so(stage: Stage, browser: Browser) -> None:
    """R10, R11, F3: with what it says; what the winner wrote stays."""
    response = await browser.get("/lose_and_catch")
    assert (response.status, response.text) == (422, "somebody was faster")
    assert stage.told(response) == []
    assert len(stage.told(response, "theme")) == 1
    assert (await browser.get("/read")).text == "2 4.0 [] dark"


async def test_a_failed_save_that_the_handler_answers_is_not_tried_again(stage: Stage, browser: Browser) -> None:
    """R11: after a StorerError likewise: the handler knows, and the outcome is unknown."""
    stage.storer.fails = lambda method, _: method == "replace"
    response = await browser.get("/fail_and_catch")
    assert (response.status, response.text, stage.told(response)) == (202, "kept for later", [])
    assert stage.calls() == ["read", "replace"]


# seen by the application's own exception handlers


@pytest.mark.parametrize("kind", [SessionTooLargeError, SessionError])
async def test_the_applications_handler_sees_what_an_explicit_save_raised(
    stage: Stage, kind: type[SessionError]
) -> None:
    """R11, R10: and the other session of the request is saved, as its status says."""
    stage.house.answers = {kind: Reply("too much", 413)}
    async with stage.open() as browser:
        await browser.get("/add")
        response = await browser.get("/fill_and_leave")
        assert (response.status, response.text) == (413, "too much")
        assert stage.told(response) == []
        assert (await browser.get("/read")).text == "1 2.0 [] dark"


@pytest.mark.parametrize("kind", [ConflictError, SessionError])
async def test_the_applications_handler_sees_a_conflict_of_an_explicit_save(
    stage: Stage, kind: type[SessionError]
) -> None:
    """R10: its answer is sent, and not a 409 of ours."""
    stage.house.answers = {kind: Reply("try again", 422)}
    async with stage.open() as browser:
        await start_race(stage, browser)
        response = await browser.get("/lose_and_leave")
        assert (response.status, response.text) == (422, "try again")
        assert stage.told(response) == []
        assert (await browser.get("/read")).text == "2 4.0 [] dark"


# without a handler, and at the end


@pytest.mark.parametrize(
    ("page", "status"),
    [("lose_and_leave", 409), ("lose_at_the_end", 409), ("fill_and_leave", 500), ("fill_at_the_end", 500)],
)
async def test_who_catches_nothing_gets_a_clean_answer(stage: Stage, browser: Browser, page: str, status: int) -> None:
    """R10, R11: and nothing of this session is saved; the winner's change is."""
    response = await browser.get(f"/{page}")
    assert (response.status, stage.told(response)) == (status, [])
    stored = "2 4.0 []" if page.startswith("lose") else "1 2.0 []"
    assert (await browser.get("/read")).text.startswith(stored)


async def test_the_log_says_which_session_of_which_request_was_not_saved(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """R11, V8: its name, the method and the path, what is wrong and what to do; no query, and no value."""
    await browser.get("/fill_at_the_end?code=secret")
    assert "session 'app' was not saved in 'GET /fill_at_the_end'" in caplog.text
    assert "262144 is the limit: raise max_size, or keep less" in caplog.text
    assert "secret" not in caplog.text
    assert "xxx" not in caplog.text


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"count": "one"}, "at `$.count`: expected `int`, got `str`"),
        ({"items": ("egg",)}, "at `$.items`: `tuple` would come back as `list`: give the field its type"),
        ({"items": [object()]}, "at `$.items[0]`: `object`: store its id, or plain data of it"),
    ],
)
async def test_the_log_says_what_fits_and_what_to_do(
    stage: Stage, mistake: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R11, V9, F12: in the words of a load that fails; and no path makes a line of its own."""

    async def misfit(house: House, request: Any) -> Reply:
        vars((await house.store.get(request)).value).update(mistake)
        return Reply("never seen")

    stage.house.pages = {"misfit\n\x1b": misfit}
    async with stage.open() as browser:
        assert (await browser.get("/misfit%0A%1B?code=secret")).status == 500
    (record,) = [record for record in caplog.records if "was not saved" in record.getMessage()]
    assert record.getMessage() == r"session 'app' was not saved in 'GET /misfit\n\x1b'"
    assert record.exc_info
    assert message in str(record.exc_info[1])


# where the framework lets an answer be made after the handler's

WITH_HANDLERS = ["starlette", "fastapi", "litestar", "quart"]


@pytest.mark.parametrize("framework", WITH_HANDLERS, indirect=True)
@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("lose_at_the_end", ConflictError),
        ("lose_at_the_end", SessionError),
        ("fill_at_the_end", SessionTooLargeError),
        ("fill_at_the_end", SessionError),
    ],
)
async def test_the_applications_handler_sees_what_the_headers_save_raised(
    stage: Stage, page: str, kind: type[SessionError], caplog: pytest.LogCaptureFixture
) -> None:
    """R11, R10: its answer carries the tokens of what was written; it was seen, so nothing is logged."""
    stage.house.answers = {kind: Reply("handled", 422, headers={"x-handled": "yes"})}
    async with stage.open() as browser:
        await start_race(stage, browser)
        response = await browser.get(f"/{page}")
        assert (response.status, response.text, stage.told(response)) == (422, "handled", [])
        assert len(stage.told(response, "theme")) == page.startswith("lose")
        assert response.headers.lines("cache-control") == (["no-store"] if page.startswith("lose") else [])
        assert "Cookie" in response.headers["vary"]
        stored = "2 4.0 [] dark" if page.startswith("lose") else "1 2.0 [] light"
        assert (await browser.get("/read")).text == stored
    assert "was not saved" not in caplog.text


@pytest.mark.parametrize("framework", WITH_HANDLERS, indirect=True)
async def test_a_handler_of_another_error_is_not_asked(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R10, R11: the answer is ours, and so is what the log says."""
    stage.house.answers = {StorerError: Reply("not this one", 422)}
    async with stage.open() as browser:
        await start_race(stage, browser)
        assert (await browser.get("/lose_at_the_end")).status == 409
        assert (await browser.get("/fill_at_the_end")).status == 500
    assert caplog.text.count("session 'app' was not saved in") == 1
    assert "session 'app' was not saved in 'GET /fill_at_the_end'" in caplog.text
    assert "own answer" not in caplog.text


@pytest.mark.parametrize("framework", WITH_HANDLERS, indirect=True)
async def test_a_handler_that_fails_too_leaves_a_clean_answer(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R11: never a dropped connection; and both errors are in the log."""
    stage.house.answers = {SessionTooLargeError: Reply("never seen")}
    stage.house.answer = failing  # type: ignore[method-assign]  # the mistake
    async with stage.open() as browser:
        response = await browser.get("/fill_at_the_end")
    assert (response.status, response.text) == (500, "Internal Server Error")
    assert "the handler of SessionTooLargeError failed" in caplog.text
    assert "session 'app' was not saved in" in caplog.text


def failing(error: Exception) -> Reply:
    raise RuntimeError(f"the handler of {type(error).__name__} failed")
