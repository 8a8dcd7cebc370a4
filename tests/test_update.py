"""An `update()` that raises has changed nothing: neither what is stored, nor what the session holds."""

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest

from aiosessions import (
    ConflictError,
    EncodeError,
    ResponseStartedError,
    Session,
    SessionError,
    SessionTooLargeError,
    StorerError,
)
from aiosessions.asgi import Connection
from aiosessions.testing.suites_store import Visitor
from tests.storers_with_faults import ALL, Cart, Scene

pytestmark = pytest.mark.anyio


class ChangeFailedError(Exception):
    """What the application's own function raises."""


def add_and_seal(cart: Cart) -> None:
    cart.total += 1
    cart.seal = cart.note = "updated"


def add_and_fail(cart: Cart) -> None:
    cart.total += 1
    cart.items.append("half a change")
    raise ChangeFailedError


def add_what_cannot_be_encoded(cart: Cart) -> None:
    cart.total += 1
    cart.items.append("\ud800")


def add_what_does_not_fit(cart: Cart) -> None:
    cart.items.append("half a change")
    cart.total = cast("int", "many")


def add_what_is_too_large(cart: Cart) -> None:
    cart.total += 1
    cart.note = "x" * 300_000


FLAWS: dict[str, tuple[Callable[[Cart], None], type[Exception]]] = {
    "change() raises": (add_and_fail, ChangeFailedError),
    "its result cannot be encoded": (add_what_cannot_be_encoded, EncodeError),
    "its result does not fit": (add_what_does_not_fit, EncodeError),
    "its result is too large": (add_what_is_too_large, SessionTooLargeError),
}


def pend_a_note(session: Session[Cart]) -> None:
    session.value.note = "pending"


def pend_a_seal(session: Session[Cart]) -> None:
    session.value.seal = "pending"


PENDING: list[tuple[str, Callable[[Session[Cart]], None]]] = [
    ("raise", pend_a_note),
    ("merge", pend_a_seal),
]


@pytest.mark.parametrize(("on_conflict", "pend"), PENDING)
async def test_an_update_that_conflicts_with_what_is_pending_writes_nothing(
    on_conflict: str, pend: Callable[[Session[Cart]], None]
) -> None:
    """F3, DESIGN 6: however often it is tried; the session keeps what was pending."""
    scene = Scene(on_conflict=on_conflict)
    visitor = await scene.visitor()
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        pend(session)
        pending = copy.deepcopy(session.value)
        for _ in range(3):
            with pytest.raises(ConflictError):
                await scene.store.update(session, add_and_seal)
            assert (await scene.session_of(visitor)).value == Cart(note="first")
            assert session.value == pending
        await scene.store.save(session, visit.response)
    assert (await scene.session_of(visitor)).value == pending


@pytest.mark.parametrize("on_conflict", ["merge", "raise", "overwrite"])
async def test_an_update_beside_a_pending_value_that_cannot_be_encoded_writes_nothing(on_conflict: str) -> None:
    """V9, DESIGN 6: what is pending is encoded before the write."""
    scene = Scene(on_conflict=on_conflict)
    visitor = await scene.visitor()
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        session.value.items.append("\ud800")
        for _ in range(3):
            with pytest.raises(EncodeError, match="items"):
                await scene.store.update(session, add_and_seal)
            assert (await scene.session_of(visitor)).value == Cart(note="first")
            assert session.value == Cart(["\ud800"], note="first")
        session.value.items.clear()
        await scene.store.update(session, add_and_seal)
    assert (await scene.session_of(visitor)).value == Cart(note="updated", total=1, seal="updated")


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("is_new", [False, True], ids=["stored", "new"])
@pytest.mark.parametrize("kind", ALL)
async def test_an_update_that_raises_leaves_the_session_as_it_was(kind: str, is_new: bool, flaw: str) -> None:
    """F3, V9, DESIGN 6: the value it holds, what is stored, and what is sent; what was pending is still pending."""
    change, error = FLAWS[flaw]
    scene = Scene(kind)
    visitor = Visitor() if is_new else await scene.visitor()
    before = Cart() if is_new else Cart(note="first")
    tokens = dict(visitor.tokens)
    seen: list[Cart] = []

    async def handler(connection: Connection) -> None:
        session = await scene.store.get(connection)
        for pending in ([], ["pending"]):
            session.value.items = list(pending)
            with pytest.raises(error):
                await scene.store.update(session, change)
            seen.append(copy.deepcopy(session.value))
            session.value.items.clear()

    status = await scene.serve(visitor, handler)
    assert seen == [before, Cart(["pending"], note=before.note)]
    assert status == 200
    assert visitor.tokens == tokens, "half a change was sent"
    assert (await scene.session_of(visitor)).value == before


@pytest.mark.parametrize("kind", ALL)
async def test_an_update_that_cannot_tell_the_client_leaves_the_session_as_it_was(kind: str) -> None:
    """F3, R14: ResponseStartedError; what was pending can be saved."""
    scene = Scene(kind)
    async with Visitor().visit() as visit:
        session = await scene.store.get(visit.request)
        session.value.note = "pending"
        with pytest.raises(ResponseStartedError):
            await scene.store.update(session, add_and_seal)
        assert session.value == Cart(note="pending")
        assert session.handle == ""
        await scene.store.save(session, visit.response)
        assert len(visit.sent) == 1


@pytest.mark.parametrize(("kind", "failing"), [("stored", "create"), ("guarded", "read"), ("guarded", "create")])
async def test_an_update_of_a_new_session_that_the_backend_refuses_can_be_made_again(kind: str, failing: str) -> None:
    """F3, S13: the change is made once, not twice."""
    scene = Scene(kind)
    visitor = Visitor()
    seen: list[Cart] = []

    async def handler(connection: Connection) -> None:
        session = await scene.store.get(connection)
        scene.storer.failing = {failing}
        for _ in range(2):
            with pytest.raises(StorerError):
                await scene.store.update(session, add_and_seal)
            seen.append(copy.deepcopy(session.value))
        scene.storer.failing = set()
        await scene.store.update(session, add_and_seal)

    status = await scene.serve(visitor, handler)
    assert seen == [Cart(), Cart()]
    assert status == 200
    assert (await scene.session_of(visitor)).value == Cart(note="updated", total=1, seal="updated")


@pytest.mark.parametrize("failing", ["read", "replace"])
async def test_an_update_that_the_backend_refuses_leaves_what_is_pending(failing: str) -> None:
    """F3, S13."""
    scene = Scene()
    visitor = await scene.visitor()
    async with visitor.visit() as visit:
        session = await scene.store.get(visit.request)
        session.value.items.append("pending")
        scene.storer.failing = {failing}
        with pytest.raises(StorerError):
            await scene.store.update(session, add_and_seal)
        assert session.value == Cart(["pending"], note="first")
        scene.storer.failing = set()
        await scene.store.update(session, add_and_seal)
        await scene.store.save(session, visit.response)
    assert (await scene.session_of(visitor)).value == Cart(["pending"], note="updated", total=1, seal="updated")


async def test_an_update_of_a_guarded_session_that_was_left_behind_leaves_it_as_it_was() -> None:
    """F3, DESIGN 7: ConflictError, and the change is not in the session."""
    scene = Scene("guarded")
    visitor = await scene.visitor()
    late = visitor.copy()
    seen: list[Any] = []

    async def handler(connection: Connection) -> None:
        session = await scene.store.get(connection)
        for _ in range(2):
            async with scene.request(visitor) as (other, _):
                other.value.items.append("theirs")
        with pytest.raises(SessionError):
            await scene.store.update(session, add_and_seal)
        seen.append(copy.deepcopy(session.value))

    await scene.serve(late, handler)
    assert seen == [Cart(note="first")]
