"""A session that was changed and that nobody saved is an error in the log, once per store: in production too."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import anyio
import pytest
import quart
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    Exchange,
    JSONCodec,
    MemoryStorer,
    Session,
    StorageOverseer,
    Store,
    new_key,
)
from aiosessions.asgi import SessionMiddleware
from aiosessions.quart import init_app
from aiosessions.testing import Browser, Clock, signed_in
from tests.integrations.apps import FRAMEWORKS, Basket, House, Reply, Socket
from tests.integrations.stage import ASYNCIO, TRIO, Backend, Case, CountingStorer, Stage, twin

Change: TypeAlias = Callable[[Session[Basket]], object]

FORGOTTEN = (
    "session 'app' was changed and never saved: add SessionMiddleware (Quart: init_app, Litestar: SessionPlugin, "
    "aiohttp: setup), or `await store.save(session, response)`"
)
TOO_LATE = (
    "session 'app' was changed after the response had started: use `await store.update(...)`; log in and out, and "
    "change what the client holds, before it"
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[*((name, ASYNCIO) for name in FRAMEWORKS), ("starlette", TRIO)], ids=str)
def combination(request: pytest.FixtureRequest) -> tuple[str, Backend]:
    chosen: tuple[str, Backend] = request.param
    return chosen


@pytest.fixture
def anyio_backend(combination: tuple[str, Backend]) -> Backend:
    return combination[1]


@pytest.fixture(params=["storage", "client"])
def stage(combination: tuple[str, Backend], request: pytest.FixtureRequest) -> Stage:
    sealer = "plain" if request.param == "storage" else "aesgcm"
    return Stage(Case(combination[0], request.param, "cookie", sealer))


def add(session: Session[Basket]) -> None:
    session.value.items.append("egg")


def assign(session: Session[Basket]) -> None:
    session.value = Basket(count=7)


def log_in(session: Session[Basket]) -> None:
    session.set_user("bob")


def flash(session: Session[Basket]) -> None:
    session.flash("hello")


def log_out(session: Session[Basket]) -> None:
    session.destroy()


def one_more(basket: Basket) -> None:
    basket.count += 1


def read(session: Session[Basket]) -> None:
    assert session.value.count >= 0
    session.flashes()
    session.touch()


CHANGES: list[Change] = [add, assign, log_in, flash, log_out]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The errors of the library."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def changing(stage: Stage, change: Change) -> None:
    async def page(house: House, request: Any) -> Reply:
        change(await house.store.get(request))
        return Reply("done")

    stage.house.pages = {**stage.house.pages, "change": page}


@pytest.mark.parametrize("change", CHANGES)
async def test_without_an_adapter_a_change_is_never_saved(
    stage: Stage, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    """R14: nobody added the middleware; the second request says no more."""
    changing(stage, change)
    stage.house.is_managed = False
    async with stage.open() as browser:
        credentials = await signed_in(stage.house.store, "ann")
        for _ in range(2):
            assert (await browser.get("/change", headers=credentials.headers)).text == "done"
    assert said(caplog) == [FORGOTTEN]


async def test_each_store_says_it(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R14: once per store."""
    stage.house.is_managed = False

    async def both(house: House, request: Any) -> Reply:
        (await house.store.get(request)).value.count += 1
        (await house.theme.get(request)).value.color = "dark"
        return Reply("done")

    stage.house.pages = {"both": both}
    async with stage.open() as browser:
        assert (await browser.get("/both")).text == "done"
    assert sorted(said(caplog)) == [FORGOTTEN, FORGOTTEN.replace("'app'", "'theme'")]


async def test_who_only_reads_needs_no_adapter(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R14: nor do tokens that are due to be sent again."""
    changing(stage, read)
    stage.house.is_managed = False
    async with stage.open() as browser:
        credentials = await signed_in(stage.house.store, "ann")
        stage.clock.advance(3600)
        assert (await browser.get("/change", headers=credentials.headers)).text == "done"
        assert (await browser.get("/change")).text == "done"
    assert said(caplog) == []


def streaming(stage: Stage, late: Callable[[House, Session[Basket]], Awaitable[None]]) -> None:
    async def events(house: House, request: Any) -> Reply:
        session = await house.store.get(request)
        session.value.count += 1

        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun "
            await late(house, session)
            yield b"done"

        return Reply(chunks=chunks())

    stage.house.pages = {**stage.house.pages, "events": events}


async def stream(stage: Stage) -> None:
    async with stage.open() as browser:
        await browser.get("/login")
        async with browser.stream("/events") as response:
            assert await response.read() == b"begun done"


@pytest.mark.parametrize("change", CHANGES)
async def test_a_stream_that_changes_something_is_too_late(
    stage: Stage, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    """R13, R14: but a destroy that ends a stored session has done what it should."""

    async def late(_: House, session: Session[Basket]) -> None:
        change(session)

    streaming(stage, late)
    await stream(stage)
    assert said(caplog) == ([] if change is log_out and stage.case.is_stored else [TOO_LATE])


async def test_a_stream_that_reads_or_saves_is_not(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R13: what was saved before the headers is no change after them."""

    async def late(house: House, session: Session[Basket]) -> None:
        read(session)
        if stage.case.is_stored:
            await house.store.update(session, one_more)
            session.flash("hello")
            await house.store.save(session)

    streaming(stage, late)
    await stream(stage)
    assert said(caplog) == []


async def test_a_stream_may_look_for_its_session_late(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R13: a session that is found after the headers is late from the beginning."""

    async def late(house: House, request: Any, change: Change) -> Reply:
        if stage.case.framework == "quart":
            request = request._get_current_object()  # within chunks there is no current one

        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun "
            change(await house.store.get(request))
            yield b"done"

        return Reply(chunks=chunks())

    for change, errors in ((read, []), (add, [TOO_LATE])):
        stage.house.pages = {**stage.house.pages, "events": partial(late, change=change)}
        await stream(stage)
        assert said(caplog) == errors


async def test_a_socket_that_changes_something_is_too_late(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R12, R14: unless it updates, or did so before it was accepted."""

    async def chat(house: House, request: Any, socket: Socket, *, change: Change) -> None:
        session = await house.store.get(request)
        session.value.count += 1
        await socket.accept()
        if change is add and stage.case.is_stored:
            await house.store.update(session, one_more)
        elif change is not add:
            change(session)
        await socket.send("done")

    for change, errors in ((read, []), (add, []), (assign, [TOO_LATE])):
        stage.house.sockets = {"chat": partial(chat, change=change)}
        async with stage.open() as browser, browser.websocket("/ws/chat") as socket:
            assert await socket.receive_text() == "done"
        assert said(caplog) == errors


@pytest.mark.parametrize("page", ["raise_503", "reply_503", "fail", "destroy_and_nan", "save_nothing"])
async def test_what_was_dropped_is_not_forgotten(stage: Stage, page: str, caplog: pytest.LogCaptureFixture) -> None:
    """R10, R11: by the rule of statuses, or by a save that failed."""

    async def save_nothing(house: House, request: Any) -> Reply:
        (await house.store.get(request)).value.items.append("x" * 300_000)
        return Reply("never seen")

    stage.house.pages = {**stage.house.pages, "save_nothing": save_nothing}
    async with stage.open() as browser:
        await browser.get("/login")
        assert (await browser.get(f"/{page}")).status >= 500
    assert not {FORGOTTEN, TOO_LATE} & set(said(caplog))


async def test_what_was_superseded_is_not_forgotten(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R18: an older token's change is dropped, and an event says so."""
    stage.house.is_managed = True
    async with stage.open() as browser:
        await browser.get("/add")
        older = twin(browser)
        await browser.get("/login")
        await older.get("/add")
    assert said(caplog) == []


async def test_saved_by_hand_is_saved_until_it_is_changed_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """R14: Litestar has no response to save on."""
    if stage.case.framework == "litestar":
        pytest.skip("it makes its responses after the handler")
    stage.house.is_managed = False
    async with stage.open() as browser:
        assert (await browser.get("/by_hand")).text.startswith("1 new")
    assert said(caplog) == []

    held: list[Session[Basket]] = []

    async def hold(house: House, request: Any) -> Reply:
        reply = await stage.house.pages["by_hand"](house, request)
        assert reply.by_hand is not None
        held.append(reply.by_hand)
        return reply

    stage.house.pages = {**stage.house.pages, "hold": hold}
    async with stage.open() as browser:
        await browser.get("/hold")
        add(held.pop())
    assert said(caplog) == [FORGOTTEN]


# where one application is enough


class _Counting(JSONCodec[Basket]):
    """Counts what comparing costs.

    Attributes:
        encoded: how often.
    """

    def __init__(self) -> None:
        super().__init__(Basket)
        self.encoded = 0

    def encode(self, value: Basket) -> bytes:
        self.encoded += 1
        return super().encode(value)


def background(store: Store[Basket], later: Change, *, status: int = 200, before: Change = add) -> Starlette:
    """An application whose page changes its session, and does something with it behind its answer."""

    async def page(request: Request) -> Response:
        session = await store.get(request)
        before(session)
        return Response(status_code=status, background=BackgroundTask(later, session))

    return Starlette(routes=[Route("/", page)], middleware=[Middleware(SessionMiddleware, stores=[store])])


class TestOneApplication:
    @pytest.fixture
    def anyio_backend(self) -> Backend:
        return ASYNCIO

    @pytest.mark.parametrize(("change", "compared"), [(None, 0), (read, 1), (add, 1)])
    async def test_only_a_session_that_is_touched_again_is_compared(
        self, change: Change | None, compared: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R2, R14: once, when the application returns: also in the background of an answer."""
        codec = _Counting()
        store = StorageOverseer(Basket, MemoryStorer(), codec=codec)
        counts: list[int] = []

        def later(session: Session[Basket]) -> None:
            counts.append(codec.encoded)
            if change is not None:
                change(session)

        async with Browser(background(store, later)) as browser:
            await browser.get("/")
        assert said(caplog) == ([TOO_LATE] if change is add else [])
        assert [codec.encoded - count for count in counts] == [compared]

    async def test_it_is_said_when_the_application_returns(self, caplog: pytest.LogCaptureFixture) -> None:
        """R14: and not only when nobody has the session any more."""
        held: list[Session[Basket]] = []

        def later(session: Session[Basket]) -> None:
            session.value.count += 1
            held.append(session)

        async with Browser(background(StorageOverseer(Basket, MemoryStorer()), later)) as browser:
            await browser.get("/")
        assert said(caplog) == [TOO_LATE]
        assert held

    async def test_what_follows_a_500_is_dropped_with_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """R10."""
        async with Browser(background(StorageOverseer(Basket, MemoryStorer()), add, status=503)) as browser:
            assert (await browser.get("/")).status == 503
        assert said(caplog) == []

    async def test_what_was_superseded_is_nobodys_to_save(self, caplog: pytest.LogCaptureFixture) -> None:
        """R18: not by hand either; but a login would have been a session of its own."""
        store = StorageOverseer(Basket, MemoryStorer())
        older = await signed_in(store, "ann")

        async def page(request: Request) -> Response:
            session = await store.get(request)
            response = Response()
            if request.url.path == "/again":
                session.set_user("ann")
                await store.save(session, response)
            elif request.url.path == "/add":
                add(session)
            else:
                log_in(session)
            return response

        routes = [Route(f"/{path}", page) for path in ("again", "add", "login")]
        async with Browser(Starlette(routes=routes)) as browser, store:
            await browser.get("/again", headers=older.headers)
            await browser.get("/add", headers=older.headers)
            assert said(caplog) == []
            await browser.get("/login", headers=older.headers)
        assert said(caplog) == [FORGOTTEN]

    async def test_a_late_logout_of_a_client_held_session_holds_with_revocations(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """F4, F14: its copies are denied."""
        store = CookieOverseer(Basket, AESGCMSealer(new_key()), revocations=MemoryStorer())
        async with Browser(background(store, log_out)) as browser:
            await browser.get("/")
            assert (await browser.get("/")).status == 200
        assert said(caplog) == []

    @pytest.mark.parametrize(("before", "errors"), [(add, [TOO_LATE]), (read, [])])
    async def test_a_late_logout_matters_to_who_has_a_token(
        self, before: Change, errors: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """F4: the client keeps the one that it has just been given; who has none has nothing to forget."""
        store = CookieOverseer(Basket, AESGCMSealer(new_key()))
        async with Browser(background(store, log_out, before=before)) as browser:
            await browser.get("/")
        assert said(caplog) == errors

    async def test_a_late_logout_that_fails_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """F14: that it may live on, and not that nobody has tried."""
        clock = Clock()
        storer = CountingStorer(clock=clock)
        async with Browser(background(StorageOverseer(Basket, storer, clock=clock), log_out)) as browser:
            await browser.get("/")
            storer.fails = lambda method, _: method == "delete"
            await browser.get("/")
        assert said(caplog) == ["session app could not be destroyed"]

    @pytest.mark.parametrize(("change", "errors"), [(add, [TOO_LATE]), (log_out, [])])
    async def test_a_stream_that_fails_says_it_too(
        self, change: Change, errors: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """R13: nobody would have saved it, had it gone well; a destroy is carried out all the same."""
        clock = Clock()
        storer = CountingStorer(clock=clock)
        store = StorageOverseer(Basket, storer, clock=clock)

        async def app(scope: Any, _: Any, send: Any) -> None:  # Any: what ASGI hands around
            session = await store.get(Request(scope))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            change(session)
            raise RuntimeError("in the middle")

        credentials = await signed_in(store, "ann")
        async with Browser(SessionMiddleware(app, stores=[store])) as browser:
            with pytest.raises(RuntimeError):
                await browser.get("/", headers=credentials.headers)
        assert said(caplog) == errors
        assert len(await storer.stored()) == (change is add)

    async def test_by_hand_nothing_is_compared_after_the_save(self, caplog: pytest.LogCaptureFixture) -> None:
        """R14: as under a middleware."""
        codec = _Counting()
        store = StorageOverseer(Basket, MemoryStorer(), codec=codec)

        async def page(request: Request) -> Response:
            session = await store.get(request)
            session.value.count += 1
            response = Response()
            await store.save(session, response)
            codec.encoded = 0
            return response

        async with Browser(Starlette(routes=[Route("/", page)])) as browser, store:
            await browser.get("/")
        assert (codec.encoded, said(caplog)) == (0, [])

    @pytest.mark.parametrize("is_late", [False, True])
    async def test_a_session_that_is_started_afresh_is_watched(
        self, is_late: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R14: what `new` gives."""
        store = StorageOverseer(Basket, MemoryStorer())

        async def app(scope: Any, _: Any, send: Any) -> None:  # Any: what ASGI hands around
            await send({"type": "http.response.start", "status": 200, "headers": []})
            add(store.new(Request(scope)))
            await send({"type": "http.response.body"})

        async with Browser(SessionMiddleware(app) if is_late else app) as browser:
            await browser.get("/")
        assert said(caplog) == [TOO_LATE if is_late else FORGOTTEN]

    async def test_a_task_that_outlives_its_request_is_too_late(self, caplog: pytest.LogCaptureFixture) -> None:
        """R14: Quart runs what is in the background after the application has returned."""
        store = StorageOverseer(Basket, MemoryStorer())
        go_on, is_done = anyio.Event(), anyio.Event()
        app = quart.Quart("tests")
        background: Any = app  # Any: Quart leaves parts of its type open
        init_app(app, store)

        async def later(session: Session[Basket]) -> None:
            await go_on.wait()
            session.value.count += 1
            is_done.set()

        @app.get("/")
        async def page() -> str:
            session = await store.get(quart.request)
            background.add_background_task(later, session)
            return str(session.value.count)

        async with Browser(app) as browser:
            assert (await browser.get("/")).text == "0"
            assert said(caplog) == []
            go_on.set()
            await is_done.wait()
        assert said(caplog) == [TOO_LATE]

    async def test_a_job_is_told_how_to_save(self, caplog: pytest.LogCaptureFixture) -> None:
        """R14: what `open` gives has no response."""
        storer, clock = MemoryStorer(), Clock()
        for change, errors in ((read, 0), (add, 1)):
            store = StorageOverseer(Basket, storer, clock=clock)
            await signed_in(store, "ann")
            (info, *_) = await store.user_sessions("ann")
            session = await store.open(info.handle, user_id="ann")
            change(session)
            if change is add:
                await store.save(session)
                del session
                assert said(caplog) == []
                session = await store.open(info.handle, user_id="ann")
                change(session)
            del session
            assert said(caplog) == ["session 'app' was changed and never saved: `await store.save(session)`"] * errors

    @pytest.mark.parametrize("change", [read, add])
    async def test_whoever_has_an_exchange_is_told_how_to_save(
        self, change: Change, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R14: with it."""
        store = StorageOverseer(Basket, MemoryStorer())
        exchange = Exchange()
        session = await store.get(exchange)
        add(session)
        await store.save(session, exchange)
        assert said(caplog) == []
        change(session)
        del session, exchange
        what = "session 'app' was changed and never saved: `await store.save(session, exchange)`"
        assert said(caplog) == [what] * (change is add)

    @pytest.mark.parametrize("value_type", [dict[str, int], Basket])
    def test_a_session_that_is_late_is_like_any_other(self, value_type: Any) -> None:
        """V6: its class has the same name, and its mapping face is there."""
        stores: list[Store[Any]] = [
            StorageOverseer(value_type, MemoryStorer()),
            CookieOverseer(value_type, AESGCMSealer(new_key())),
        ]

        async def app(scope: Any, _: Any, send: Any) -> None:  # Any: what ASGI hands around
            session: Any = await store.get(Request(scope))  # Any: one of them is a mapping
            kind = session.__class__
            await send({"type": "http.response.start", "status": 200, "headers": []})
            assert isinstance(session, kind)
            assert session.__class__.__name__ == kind.__name__
            if value_type is not Basket:
                assert list(session) == []
                session["count"] = 1
                assert session == {"count": 1}
            await send({"type": "http.response.body"})

        async def visit(store: Store[Any]) -> None:
            async with Browser(SessionMiddleware(app, stores=[store])) as browser:
                assert (await browser.get("/")).status == 200

        for store in stores:
            anyio.run(visit, store)
