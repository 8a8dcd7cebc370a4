"""Secrets that a login ended are recognised for their grace, however many there are."""

import pytest

from aiosessions.testing.suites_store import Visitor
from tests.test_storage_overseer import GRACE, House

pytestmark = pytest.mark.anyio

BOUND = 64
"""Superseded secrets that one session remembers."""


async def logins(house: House, visitor: Visitor, number: int) -> list[Visitor]:
    """Log in so often; who has each token that is superseded by it, oldest first."""
    copies: list[Visitor] = []
    for _ in range(number):
        copies.append(visitor.copy())
        async with house.request(visitor) as (session, _):
            session.set_user("ann")
    return copies


async def assert_superseded(house: House, copy: Visitor) -> None:
    """A request with this token neither stores nor sends."""
    house.events.clear()
    async with house.request(copy) as (session, visit):
        assert (session.is_new, session.user_id) == (True, None)
        session.value.note = "late"
    assert visit.sent == [], "the cookie of the login was overwritten"
    assert house.kinds[0] == "token_superseded"


@pytest.mark.parametrize("rotation", ["set_user", "regenerate", "clear_user"])
async def test_five_quick_rotations_leave_the_first_token_recognised(rotation: str) -> None:
    """R18, F14: all that are younger than `grace` are remembered, not the last few."""
    house = House()
    visitor = await house.visitor()
    first = visitor.copy()
    for _ in range(5):
        async with house.request(visitor) as (session, _):
            getattr(session, rotation)(*(["ann"] if rotation == "set_user" else []))
    await assert_superseded(house, first)
    assert not (await house.session_of(visitor)).is_new


async def test_as_many_as_the_bound_are_remembered() -> None:
    """R18: 64."""
    house = House()
    visitor = await house.visitor()
    for copy in await logins(house, visitor, BOUND):
        await assert_superseded(house, copy)
    assert (await house.session_of(visitor)).user_id == "ann"


async def test_an_event_says_that_the_bound_is_reached() -> None:
    """R18: the newest stay recognised, the oldest is forgotten, and not silently."""
    house = House()
    visitor = await house.visitor()
    copies = await logins(house, visitor, BOUND)
    assert [event for event in house.events if event.reason] == []
    async with house.request(visitor) as (session, _):
        session.set_user("ann")
    assert any(event.reason for event in house.events), "a secret was forgotten before its grace, and nobody was told"
    assert (await house.session_of(copies[0])).is_new
    assert house.kinds[-1] == "rejected"
    for copy in copies[1:]:
        await assert_superseded(house, copy)


async def test_what_is_older_than_its_grace_is_forgotten() -> None:
    """R18: a session that often logs in does not grow."""
    house = House()
    visitor = await house.visitor()
    sizes: list[int] = []
    for _ in range(8):
        await house.clock.advance(GRACE)
        async with house.request(visitor) as (session, _):
            session.set_user("ann")
        ((_, record),) = await house.storer.list_by_owner("ann")
        sizes.append(len(record.meta))
    assert len(set(sizes[1:])) == 1
