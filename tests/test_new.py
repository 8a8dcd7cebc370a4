"""What `new()` takes the place of ends when the new session is stored or destroyed, as it was loaded and not else."""

import contextlib
from dataclasses import dataclass

import pytest

from aiosessions import StorerError
from aiosessions.testing.suites_store import Visitor
from tests.storers_with_faults import ENDING, REVOKING, Cart, Scene

pytestmark = pytest.mark.anyio

FIRST = ["get, new", "new"]
"""Whether the handler has looked before it starts afresh."""


@dataclass
class Other:
    """What `Cart` cannot be read as."""

    items: str = ""
    note: int = 0


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("kind", ENDING)
async def test_a_login_elsewhere_is_not_ended_by_a_new_session_of_an_older_request(kind: str, first: str) -> None:
    """F15, F2, R18: the handle is the same, the epoch is not."""
    scene = Scene(kind)
    visitor = await scene.visitor()
    winner = visitor.copy()
    async with visitor.visit() as visit:
        if first == "get, new":
            await scene.store.get(visit.request)
        async with scene.request(winner) as (session, _):
            session.set_user("ann")
        session = scene.store.new(visit.request)
        session.value.note = "afresh"
        await scene.store.save(session, visit.response)
    assert (await scene.session_of(winner)).user_id == "ann"


@pytest.mark.parametrize("first", FIRST)
async def test_a_new_session_of_an_older_request_sends_nothing_over_a_login(first: str) -> None:
    """R18, F15: nor is it stored."""
    scene = Scene("stored")
    visitor = await scene.visitor()
    async with visitor.visit() as visit:
        if first == "get, new":
            await scene.store.get(visit.request)
        async with scene.request(visitor) as (session, _):
            session.set_user("ann")
        session = scene.store.new(visit.request)
        session.value.note = "afresh"
        await scene.store.save(session, visit.response)
        assert visit.sent == []
    assert (await scene.session_of(visitor)).user_id == "ann"
    assert len(await scene.stored()) == 1


@pytest.mark.parametrize("first", FIRST)
async def test_a_new_session_for_a_superseded_token_is_neither_stored_nor_sent(first: str) -> None:
    """R18, DESIGN 5: being inert passes on; only a login is a session of its own."""
    scene = Scene("stored")
    visitor = await scene.visitor()
    late = visitor.copy()
    async with scene.request(visitor) as (session, _):
        session.set_user("ann")
    for logs_in in (False, True):
        async with late.visit() as visit:
            if first == "get, new":
                await scene.store.get(visit.request)
            session = scene.store.new(visit.request)
            session.value.note = "afresh"
            if logs_in:
                session.set_user("bob")
            await scene.store.save(session, visit.response)
            assert len(visit.sent) == logs_in
        assert len(await scene.stored()) == 1 + logs_in
    assert (await scene.session_of(visitor)).user_id == "ann"
    assert (await scene.session_of(late)).user_id == "bob"


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "destroyed"])
@pytest.mark.parametrize("steps", ["get, new", "get, new, new", "get, new, new, new", "new", "new, new"])
@pytest.mark.parametrize("kind", ENDING)
async def test_what_new_took_the_place_of_is_ended(kind: str, steps: str, is_stored: bool) -> None:
    """F15: when the new session is stored, or when it is destroyed; however often the handler starts afresh."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    async with visitor.visit() as visit:
        session = None
        for step in steps.split(", "):
            session = await scene.store.get(visit.request) if step == "get" else scene.store.new(visit.request)
        assert session is not None
        assert session.is_new
        if is_stored:
            session.value.note = "afresh"
        else:
            session.destroy()
        await scene.store.save(session, visit.response)
    assert not await scene.is_alive(old)
    if is_stored:
        assert (await scene.session_of(visitor)).value.note == "afresh"
    else:
        assert visitor.tokens == {}


@pytest.mark.parametrize("kind", ENDING)
async def test_a_session_that_was_changed_before_new_is_ended_as_well(kind: str) -> None:
    """F15: and what was changed in it is written nowhere."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    async with visitor.visit() as visit:
        before = await scene.store.get(visit.request)
        before.value.note = "too late"
        session = scene.store.new(visit.request)
        session.flash("afresh")
        await scene.store.save(session, visit.response)
        await scene.store.save(before, visit.response)
        assert len(visit.sent) == 1
    assert not await scene.is_alive(old)
    found = await scene.session_of(visitor)
    assert (found.user_id, found.value, len(found.flashes())) == (None, Cart(), 1)


@pytest.mark.parametrize("kind", ENDING)
async def test_a_session_saved_and_then_replaced_in_one_request_is_ended(kind: str) -> None:
    """F15: new() takes the place of what this very request has stored."""
    scene = Scene(kind)
    visitor = await scene.visitor()
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        session.set_user("ann")
        await scene.store.save(session, visit.response)
        meanwhile = visitor.copy()
        meanwhile.keep(visit)
        assert (await scene.session_of(meanwhile)).user_id == "ann"
        session = scene.store.new(visit.request)
        session.value.note = "afresh"
        await scene.store.save(session, visit.response)
    assert not await scene.is_alive(meanwhile)
    assert (await scene.session_of(visitor)).value.note == "afresh"


@pytest.mark.parametrize("kind", ENDING)
async def test_a_login_elsewhere_is_not_ended_when_a_new_session_is_destroyed(kind: str) -> None:
    """F15: at the epoch that was loaded, and not else."""
    scene = Scene(kind)
    visitor = await scene.visitor()
    winner = visitor.copy()
    async with visitor.visit() as visit:
        await scene.store.get(visit.request)
        async with scene.request(winner) as (session, _):
            session.set_user("ann")
        session = scene.store.new(visit.request)
        session.destroy()
        await scene.store.save(session, visit.response)
    assert (await scene.session_of(winner)).user_id == "ann"


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "destroyed"])
@pytest.mark.parametrize("steps", ["get, new", "get, new, new"])
@pytest.mark.parametrize("kind", ENDING)
async def test_a_session_that_this_version_cannot_read_is_ended_by_new(kind: str, steps: str, is_stored: bool) -> None:
    """F15, V2: the request has proved its right to it all the same."""
    scene = Scene(kind, Other)
    carts = scene.another(Cart)
    visitor = await scene.visitor(user="ann", store=carts)
    old = visitor.copy()
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        assert session.is_new
        for _ in range(steps.count("new")):
            session = scene.store.new(visit.request)
        if is_stored:
            session.value.note = 1
        else:
            session.destroy()
        await scene.store.save(session, visit.response)
    assert not await scene.is_alive(old, carts)


@pytest.mark.parametrize("kind", REVOKING)
async def test_a_client_held_session_that_cannot_be_read_is_ended_by_what_takes_its_place(kind: str) -> None:
    """F15, V2."""
    scene = Scene(kind, Other)
    carts = scene.another(Cart)
    visitor = await scene.visitor(user="ann", store=carts)
    old = visitor.copy()
    async with scene.request(visitor) as (session, _):
        session.value.note = 1
    assert not await scene.is_alive(old, carts)
    assert (await scene.session_of(visitor)).value.note == 1


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "destroyed"])
@pytest.mark.parametrize(
    ("kind", "options"), [("stored", {"on_storer_error": "new"}), *((kind, {}) for kind in ENDING)], ids=str
)
async def test_a_session_that_could_not_be_loaded_is_ended_by_new(
    kind: str, options: dict[str, str], is_stored: bool
) -> None:
    """F15: degraded, or StorerError and caught: what the token names is still to prove, and then it ends."""
    scene = Scene(kind, **options)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    async with visitor.visit() as visit:
        scene.storer.failing = {"read"}
        with contextlib.suppress(StorerError):
            await scene.store.get(visit.request)
        scene.storer.failing = set()
        session = scene.store.new(visit.request)
        if is_stored:
            session.value.note = "afresh"
        else:
            session.destroy()
        await scene.store.save(session, visit.response)
    assert not await scene.is_alive(old)


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("kind", ENDING)
async def test_what_could_not_be_ended_is_ended_by_the_next_save(kind: str, first: str) -> None:
    """F15, F14: the backend fails after the new session is stored: StorerError says so, and nothing is forgotten."""
    scene = Scene(kind)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()
    async with visitor.visit() as visit:
        if first == "get, new":
            await scene.store.get(visit.request)
        session = scene.store.new(visit.request)
        session.value.note = "afresh"
        scene.storer.failing = {"delete"} if kind == "stored" else {"create", "replace"}
        with pytest.raises(StorerError):
            await scene.store.save(session, visit.response)
        scene.storer.failing = set()
        await scene.store.save(session, visit.response)
    assert not await scene.is_alive(old)
    assert (await scene.session_of(visitor)).value.note == "afresh"


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("kind", ENDING)
async def test_new_ends_nobody_on_the_strength_of_a_handle(kind: str, first: str) -> None:
    """F2, F15: a token with the right handle and a wrong secret."""
    scene = Scene(kind)
    victim = await scene.visitor(user="ann")
    forger = Visitor({name: text[:-4] + "AAAA" for name, text in victim.cookies.items()})
    async with forger.visit() as visit:
        if first == "get, new":
            await scene.store.get(visit.request)
        session = scene.store.new(visit.request)
        session.value.note = "afresh"
        await scene.store.save(session, visit.response)
        session.destroy()
        await scene.store.save(session, visit.response)
    assert (await scene.session_of(victim)).user_id == "ann"
