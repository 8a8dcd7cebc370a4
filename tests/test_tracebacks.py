"""What an error tracker uploads: no frame of ours holds a token or a value when a storer, a sealer or a codec fails."""

import logging
import re
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from aiosessions import (
    AESGCMSealer,
    Claims,
    ConflictError,
    DecodeError,
    DiskStorer,
    EncodeError,
    JSONCodec,
    Lifetime,
    Session,
    SessionError,
    SessionTooLargeError,
    SQLiteStorer,
    StorageOverseer,
    StorerError,
    UnsupportedError,
    new_key,
)
from aiosessions.asgi import Connection
from aiosessions.testing.suites_store import Visitor
from tests.conftest import ASYNCIO, UVLOOP
from tests.storers_with_faults import Cart, Scene, noting

pytestmark = pytest.mark.anyio

CANARY = "geheim-4711"


class FailingSealer(AESGCMSealer):
    """As if it had public keys only, or its `valid_until` had passed.

    Attributes:
        is_failing: and so it refuses.
        refused: how often.
        references: the tokens that it has seen.
    """

    is_failing = False
    refused = 0

    def __init__(self, keys: str) -> None:
        super().__init__(keys)
        self.references: set[str] = set()

    def seal(self, claims: Claims, *, name: str) -> str:
        if claims.is_reference:
            self.references.add(claims.body.decode())
        if self.is_failing:
            self.refused += 1
            raise UnsupportedError("the sealer fails on purpose")
        return super().seal(claims, name=name)


class FailingCodec(JSONCodec[Cart]):
    """One that can encode no more, from a certain moment on."""

    is_failing = False
    refused = 0

    def encode(self, value: Cart) -> bytes:
        if self.is_failing:
            self.refused += 1
            raise EncodeError("the codec fails on purpose")
        return super().encode(value)


class Case:
    """A store whose parts can be told to fail, and one visitor, whose tokens are known.

    Args:
        kind: see Scene; "sealed" is a StorageOverseer whose token travels in a sealed cookie.
        options: of the store.
    """

    def __init__(self, kind: str, **options: Any) -> None:  # Any: each option has a type of its own
        self.sealer = FailingSealer(new_key())
        self.codec = FailingCodec(Cart)
        options = {"codec": self.codec, "lifetime": Lifetime(timedelta(hours=1), timedelta(days=1)), **options}
        if kind == "sealed":
            options["sealer"] = self.sealer
        self.scene = Scene("stored" if kind == "sealed" else kind)
        self.scene.sealer = self.sealer
        self.store = self.scene.another(Cart, **options)
        self.visitor = Visitor()
        self.tokens: set[str] = set()

    async def prepare(self) -> None:
        """Store a session with a secret value."""
        async with self.request() as (session, _, _):
            session.value.note = CANARY
            session.value.items = [CANARY]
            session.set_user("ann")
        assert self.tokens
        self.scene.storer.calls.clear()

    @asynccontextmanager
    async def request(self) -> AsyncGenerator[tuple[Session[Cart], Request, Response]]:
        """By hand, saved at the end; with a framework's request, whose repr shows no header."""
        response = Response()
        request = self.framework_request()
        session = await self.store.get(request)
        yield session, request, response
        await self.store.save(session, response)
        self.keep(response)

    def framework_request(self) -> Request:
        cookies = "; ".join(f"{name}={text}" for name, text in self.visitor.cookies.items())
        return Request({"type": "http", "scheme": "https", "headers": [(b"cookie", cookies.encode())]})

    def keep(self, response: Response) -> None:
        """As the browser does, and remember what must be seen nowhere."""
        for line in response.headers.getlist("set-cookie"):
            name, _, text = line.partition(";")[0].partition("=")
            self.visitor.cookies[name] = text
            self.tokens |= {text} - {""}

    def fail(self, what: str) -> None:
        """From now on a method of the storer, "seal" or "encode" fails; "write" is `create` and `replace`."""
        self.sealer.is_failing = what == "seal"
        self.codec.is_failing = what == "encode"
        self.scene.storer.failing = {"create", "replace"} if what == "write" else {what}
        self.scene.storer.calls.clear()

    @property
    def is_met(self) -> bool:
        """Whether something has failed."""
        storer = self.scene.storer
        return bool(self.sealer.refused or self.codec.refused or storer.failing & storer.calls.keys())

    def shows(self, text: str) -> bool:
        """Whether a text has a secret in it: a value, a token, the secret of one, or what a record is found by with
        a secret behind it, which is a token that was made and not yet sent.
        """
        known = self.tokens | self.sealer.references
        if CANARY in text or any(token in text or token[-40:] in text for token in known):
            return True
        handles = {key.rpartition(":")[2] for key in self.scene.storer.asked} - {""}
        return any(re.search(rf"{re.escape(handle)}[A-Za-z0-9_-]{{40}}", text) for handle in handles)

    def leaks(self, error: BaseException) -> list[str]:
        """Where a secret shows: `module.function: variable`, or the message."""
        found: list[str] = []
        for each in chain(error, set()):
            if self.shows(f"{each!s} {each!r}"):
                found.append(f"{type(each).__name__}: its message")
            for where, variables in ours(each.__traceback__):
                found += [f"{where}: {name}" for name, value in variables.items() if self.shows(repr(value))]
        return found


class Tracker(logging.Handler):
    """Looks at each record as it is logged, as an error tracker does."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.found: list[str] = []
        self.errors = 0
        self._case = case

    def emit(self, record: logging.LogRecord) -> None:
        if self._case.shows(record.getMessage()):
            self.found.append(f"log: {record.msg}")
        if record.exc_info and record.exc_info[1] is not None:
            self.errors += 1
            self.found += self._case.leaks(record.exc_info[1])


@contextmanager
def tracked(case: Case) -> Generator[Tracker]:
    """What is logged meanwhile."""
    tracker, logger = Tracker(case), logging.getLogger("aiosessions")
    level = logger.level
    logger.addHandler(tracker)
    logger.setLevel(logging.DEBUG)
    try:
        yield tracker
    finally:
        logger.removeHandler(tracker)
        logger.setLevel(level)


def ours(trace: TracebackType | None) -> Iterator[tuple[str, dict[str, Any]]]:  # Any: local variables
    """The local variables of each frame of the package, as a tracker walks them."""
    while trace is not None:
        module: str = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("aiosessions.") and not module.startswith("aiosessions.testing."):
            yield f"{module}.{trace.tb_frame.f_code.co_qualname}", dict(trace.tb_frame.f_locals)
        trace = trace.tb_next


def chain(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """The error, its causes and contexts, whether a traceback would print them or not."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    yield from chain(error.__cause__, seen)
    yield from chain(error.__context__, seen)


# what a handler does, each under the name of the call that it leaves by

Act = Callable[[Case, str], Awaitable[None]]


async def get(case: Case, what: str) -> None:
    await case.scene.clock.advance(1800)  # past the touch window
    case.fail(what)
    await case.store.get(case.framework_request())


async def save(case: Case, what: str) -> None:
    async with case.request() as (session, _, _):
        session.value.items.append("more")
        case.fail(what)


async def save_new(case: Case, what: str) -> None:
    case.visitor.cookies.clear()
    async with case.request() as (session, _, _):
        session.value.note = CANARY
        case.fail(what)


async def log_in(case: Case, what: str) -> None:
    async with case.request() as (session, _, _):
        session.set_user("ann")
        session.flash(CANARY)
        case.fail(what)


async def touch(case: Case, what: str) -> None:
    async with case.request() as (session, _, _):
        session.touch()
        case.fail(what)


async def save_over_another(case: Case, what: str) -> None:
    async with case.request() as (session, _, _):
        async with case.request() as (other, _, _):
            other.value.note = f"{CANARY} of another"
        session.value.items.append("more")
        case.fail(what)


async def destroy(case: Case, what: str) -> None:
    async with case.request() as (session, _, response):
        case.fail(what)
        await case.store.destroy(session, response)


async def get_and_new(case: Case, what: str) -> None:
    request, response = case.framework_request(), Response()
    await case.store.get(request)
    await _afresh(case, what, request, response)


async def new(case: Case, what: str) -> None:
    await _afresh(case, what, case.framework_request(), Response())


async def _afresh(case: Case, what: str, request: Request, response: Response) -> None:
    session = case.store.new(request)
    session.value.note = CANARY
    case.fail(what)
    await case.store.save(session, response)


async def update(case: Case, what: str) -> None:
    await _managed(case, what, f"{CANARY} pending")


async def update_new(case: Case, what: str) -> None:
    case.visitor.cookies.clear()
    await _managed(case, what, "")


async def _managed(case: Case, what: str, pending: str) -> None:
    """Under the middleware, where an update may make a token; the error is that of the handler."""
    errors: list[SessionError] = []

    async def handler(connection: Connection) -> None:
        session = await case.store.get(connection)
        session.value.items.append(pending)
        case.fail(what)
        try:
            await case.store.update(session, noting(f"{CANARY} updated"))
        except SessionError as error:
            errors.append(error)

    await case.scene.serve(case.visitor, handler)
    raise errors[0]


async def delete_user_sessions(case: Case, what: str) -> None:
    async with case.request() as (session, _, _):
        case.fail(what)
        await case.store.delete_user_sessions("ann", keep=session)


async def is_live(case: Case, what: str) -> None:
    async with case.request() as (session, _, _):
        case.fail(what)
        await case.store.is_live(session)


async def user_sessions(case: Case, what: str) -> None:
    case.fail(what)
    await case.store.user_sessions("ann")


async def sessions(case: Case, what: str) -> None:
    walk = case.store.sessions()
    case.fail(what)
    await anext(walk)


async def delete_all(case: Case, what: str) -> None:
    case.fail(what)
    await case.store.delete_all()


async def open_by_handle(case: Case, what: str) -> None:
    async with case.request() as (session, _, _):
        handle = session.handle
    case.fail(what)
    await case.store.open(handle, user_id="ann")


ACTS: dict[str, Act] = {
    "get": get,
    "save": save,
    "save of a new session": save_new,
    "login": log_in,
    "touch": touch,
    "save over another": save_over_another,
    "destroy": destroy,
    "get, new, save": get_and_new,
    "new, save": new,
    "update": update,
    "update of a new session": update_new,
    "delete_user_sessions": delete_user_sessions,
    "is_live": is_live,
    "user_sessions": user_sessions,
    "sessions": sessions,
    "delete_all": delete_all,
    "open": open_by_handle,
}
MEETS: dict[str, dict[str, tuple[str, ...]]] = {
    "stored": {
        "get": ("read", "touch"),
        "save": ("replace", "encode"),
        "save of a new session": ("create", "encode"),
        "login": ("replace", "encode"),
        "touch": ("touch",),
        "save over another": ("read", "replace"),
        "destroy": ("delete",),
        "get, new, save": ("create", "delete", "encode"),
        "new, save": ("create", "read", "delete", "encode"),
        "update": ("read", "replace", "encode"),
        "update of a new session": ("create", "encode"),
        "delete_user_sessions": ("delete_by_owner",),
        "is_live": ("read",),
        "user_sessions": ("list_by_owner",),
        "sessions": ("read",),
        "delete_all": ("delete",),
        "open": ("read",),
    },
    "sealed": {
        "get": ("read", "touch"),
        "save of a new session": ("create", "seal"),
        "login": ("replace", "seal"),
        "get, new, save": ("create", "delete", "seal"),
        "new, save": ("create", "read", "delete", "seal"),
        "update of a new session": ("create", "seal"),
    },
    "guarded": {
        "get": ("read",),
        "save": ("read", "write", "seal", "encode"),
        "save of a new session": ("write", "seal", "encode"),
        "login": ("read", "write", "seal", "encode"),
        "destroy": ("write",),
        "get, new, save": ("read", "write", "seal", "encode"),
        "new, save": ("read", "write", "seal", "encode"),
        "update": ("write", "seal", "encode"),
        "delete_user_sessions": ("write",),
        "delete_all": ("read", "write"),
        "is_live": ("read",),
    },
}
"""What can fail in each of them."""


@pytest.mark.parametrize(
    ("kind", "act", "what"),
    [(kind, act, what) for kind, acts in MEETS.items() for act, calls in acts.items() for what in calls],
)
async def test_no_traceback_of_a_failure_shows_a_token_or_a_value(kind: str, act: str, what: str) -> None:
    """V8: neither the error that leaves, with its causes and contexts, nor what is logged on the way."""
    case = Case(kind)
    await case.prepare()
    found: list[str] = []
    with tracked(case) as tracker:
        try:
            await ACTS[act](case, what)
        except SessionError as error:
            found = case.leaks(error)
    assert case.is_met
    assert found + tracker.found == []


async def test_no_traceback_of_a_listed_value_shows_it() -> None:
    """V8: of a session that was listed by a store of another type."""
    case = Case("stored")
    await case.prepare()
    (info,) = [info async for info in case.scene.another(dict[str, int]).sessions()]
    with pytest.raises(DecodeError) as caught:
        _ = info.value
    assert case.leaks(caught.value) == []


CONFLICTS: dict[str, tuple[dict[str, Any], type[SessionError]]] = {
    "conflict": ({"on_conflict": "raise"}, ConflictError),
    "too large": ({"max_size": 20_000}, SessionTooLargeError),
    "cannot be encoded": ({}, EncodeError),
}


@pytest.mark.parametrize("is_update", [False, True], ids=["save", "update"])
@pytest.mark.parametrize("how", CONFLICTS)
async def test_no_traceback_of_a_refused_value_shows_a_token_or_a_value(how: str, is_update: bool) -> None:
    """V8: ConflictError, SessionTooLargeError and EncodeError, where others have written meanwhile."""
    options, error = CONFLICTS[how]
    case = Case("stored", **options)
    await case.prepare()
    text = f"{CANARY} ours" + {"too large": "x" * 20_000, "cannot be encoded": "\ud800"}.get(how, "")

    def change(cart: Cart) -> None:
        cart.note = text

    request, response = case.framework_request(), Response()
    session = await case.store.get(request)
    async with case.request() as (other, _, _):
        other.value.note = f"{CANARY} theirs"
    if is_update and how == "conflict":
        session.value.note = f"{CANARY} pending"
    elif not is_update:
        change(session.value)
    with pytest.raises(error) as caught:
        await (case.store.update(session, change) if is_update else case.store.save(session, response))
    assert case.leaks(caught.value) == []


@pytest.mark.parametrize("what", ["replace", "read", "delete", "encode", "conflict"])
async def test_nothing_that_the_middleware_logs_or_raises_shows_a_token_or_a_value(what: str) -> None:
    """V8: at commit, as the headers leave; in the log, and in what the application's own tracker sees of `send`."""
    case = Case("stored", **({"on_conflict": "raise"} if what == "conflict" else {}))
    await case.prepare()
    found: list[str] = []

    async def handler(connection: Connection) -> None:
        session = await case.store.get(connection)
        if what in ("read", "conflict"):
            async with case.request() as (other, _, _):
                other.value.note = f"{CANARY} theirs"
        session.value.note = f"{CANARY} ours"
        if what == "delete":
            session.destroy()
        case.fail(what)

    with tracked(case) as tracker:
        status = await case.scene.serve(
            case.visitor, handler, on_error=lambda error: found.extend(["raised", *case.leaks(error)])
        )
    assert status == (409 if what == "conflict" else 500)
    assert found == ["raised"]
    assert tracker.found == []


async def test_a_refresh_that_fails_is_logged_without_a_token() -> None:
    """V8, R17: what the middleware loads before any handler."""
    case = Case("stored")
    await case.prepare()
    case.fail("read")

    async def handler(_: Connection) -> None:
        """One that does without."""

    with tracked(case) as tracker:
        assert await case.scene.serve(case.visitor, handler, refresh=[case.store]) == 200
    assert tracker.errors == 1
    assert tracker.found == []


@pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP])
@pytest.mark.parametrize("is_login", [False, True], ids=["write", "login"])
async def test_no_frame_of_a_storer_of_ours_that_fails_shows_a_token_or_a_value(tmp_path: Path, is_login: bool) -> None:
    """V8: a DiskStorer whose folder has gone, while a request is on: its own frames hold the record."""
    case = Case("stored")
    folder = tmp_path / "sessions"
    case.store = StorageOverseer(Cart, DiskStorer(folder), clock=case.scene.clock.now)
    await case.prepare()
    request, response = case.framework_request(), Response()
    session = await case.store.get(request)
    session.value.items.append("more")
    if is_login:
        session.set_user("bob")
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    with pytest.raises(StorerError) as caught:
        await case.store.save(session, response)
    assert case.leaks(caught.value) == []


@pytest.mark.parametrize("is_login", [False, True], ids=["write", "login"])
async def test_no_frame_of_a_thread_that_fails_shows_a_token_or_a_value(tmp_path: Path, is_login: bool) -> None:
    """V8: an SQLiteStorer whose file has gone, while a request is on: its thread's frames hold the record."""
    case = Case("stored")
    storer = SQLiteStorer(tmp_path / "sessions.db")
    case.store = StorageOverseer(Cart, storer, clock=case.scene.clock.now)
    await case.prepare()
    request, response = case.framework_request(), Response()
    session = await case.store.get(request)
    session.value.items.append("more")
    if is_login:
        session.set_user("bob")
    (tmp_path / "sessions.db").unlink()
    with pytest.raises(StorerError) as caught:
        await case.store.save(session, response)
    assert case.leaks(caught.value) == []
    await storer.aclose()
