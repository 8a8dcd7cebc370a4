"""What the pages of the test applications do, the same in every framework."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio

from aiosessions import ConfigError, ConflictError, EncodeError, Session
from tests.integrations.apps import Basket, House, Page, Reply

__all__ = ["PAGES"]

PAGES: dict[str, Page] = {}


def _page(function: Page) -> Page:
    PAGES[function.__name__.strip("_")] = function
    return function


def _said(session: Session[Basket]) -> Reply:
    flashes = ",".join(flash.message for flash in session.flashes(peek=True))
    state = "new" if session.is_new else "known"
    return Reply(f"{session.value.count} {state} user={session.user_id} flashes={flashes}")


async def _changed(house: House, request: Any) -> Session[Basket]:  # Any: each framework's own
    session = await house.store.get(request)
    session.value.count += 1
    session.value.items.append("egg")
    return session


@_page
async def nothing(_: House, __: Any) -> Reply:
    return Reply("nothing")


@_page
async def read(house: House, request: Any) -> Reply:
    return _said(await house.store.get(request))


@_page
async def peek(house: House, request: Any) -> Reply:
    return _said(await house.store.get(request, touch=False))


@_page
async def add(house: House, request: Any) -> Reply:
    return _said(await _changed(house, request))


@_page
async def deep(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.value.items[0] += "s"
    return Reply(",".join(session.value.items))


@_page
async def same(house: House, request: Any) -> Reply:
    """Assign an equal value, and put back what was changed."""
    session = await house.store.get(request)
    session.value = replace(session.value, items=list(session.value.items))
    session.value.count += 1
    session.value.count -= 1
    return _said(session)


@_page
async def twice(house: House, request: Any) -> Reply:
    """Two gets of one name, two names, two stores."""
    session = await house.store.get(request)
    other = await house.store.get(request, "other")
    theme = await house.theme.get(request)
    is_same = session is await house.store.get(request) and theme is await house.theme.get(request, "theme")
    session.value.count += 1
    other.value.count += 10
    theme.value.color += "!"
    return Reply(f"{is_same} {session.value.count} {other.value.count} {theme.value.color}")


@_page
async def other(house: House, request: Any) -> Reply:
    return _said(await house.store.get(request, "other"))


@_page
async def crowded(house: House, request: Any) -> Reply:
    """Two stores, one name."""
    await house.store.get(request)
    try:
        await house.theme.get(request, "app")
    except ConfigError as error:
        return Reply(str(error))
    return Reply("no error")


@_page
async def flash(house: House, request: Any) -> Reply:
    (await house.store.get(request)).flash("hello")
    return Reply()


@_page
async def flashes(house: House, request: Any) -> Reply:
    taken = (await house.store.get(request)).flashes()
    return Reply(",".join(flash.message for flash in taken))


@_page
async def login(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.set_user("ann")
    return _said(session)


@_page
async def regenerate(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.regenerate()
    return _said(session)


@_page
async def fresh(house: House, request: Any) -> Reply:
    """`new()` takes the place of whatever came."""
    session = house.store.new(request)
    session.value.count = 100
    assert await house.store.get(request) is session
    return _said(session)


@_page
async def destroy(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.destroy()
    assert await house.store.get(request) is session
    return _said(session)


@_page
async def destroy_and_raise(house: House, request: Any) -> Reply:
    await destroy(house, request)
    raise RuntimeError("the handler failed")


@_page
async def destroy_and_503(house: House, request: Any) -> Reply:
    await destroy(house, request)
    return Reply(status=503)


@_page
async def destroy_and_raise_503(house: House, request: Any) -> Reply:
    await destroy(house, request)
    return Reply(status=503, kind="raised")


@_page
async def destroy_and_add(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.destroy()
    session.flash("bye")
    return _said(session)


@_page
async def destroy_and_nan(house: House, request: Any) -> Reply:
    """One session ends, another cannot be saved."""
    (await house.theme.get(request)).value.color = "dark"
    await destroy(house, request)
    (await house.store.get(request, "other")).value.number = math.nan
    return Reply("never seen")


# answers of every kind


@_page
async def redirect(house: House, request: Any) -> Reply:
    await _changed(house, request)
    return Reply(kind="redirect")


@_page
async def raise_404(house: House, request: Any) -> Reply:
    await _changed(house, request)
    return Reply(status=404, kind="raised")


@_page
async def empty(house: House, request: Any) -> Reply:
    await _changed(house, request)
    return Reply(status=204)


@_page
async def file(house: House, request: Any) -> Reply:
    await _changed(house, request)
    return Reply(kind="file")


@_page
async def stream(house: House, request: Any) -> Reply:
    await _changed(house, request)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one "
        await anyio.lowlevel.checkpoint()
        yield b"two"

    return Reply(chunks=chunks())


@_page
async def reply_503(house: House, request: Any) -> Reply:
    await _changed(house, request)
    return Reply(status=503)


@_page
async def raise_503(house: House, request: Any) -> Reply:
    await _changed(house, request)
    return Reply(status=503, kind="raised")


@_page
async def fail(house: House, request: Any) -> Reply:
    await _changed(house, request)
    raise RuntimeError("the handler failed")


@_page
async def conflict(house: House, request: Any) -> Reply:
    await _changed(house, request)
    raise ConflictError("the handler lost a race")


@_page
async def dressed(house: House, request: Any) -> Reply:
    """The application has headers of its own, and a cookie that is called like ours."""
    await _changed(house, request)
    return Reply(
        headers={"Vary": "Accept-Language", "Cache-Control": "public, max-age=60, no-transform"},
        cookies={"lang": "en", "__Host-app": "planted"},
    )


# saving in the handler


@_page
async def save(house: House, request: Any) -> Reply:
    session = await _changed(house, request)
    await house.store.save(session)
    await house.store.save(session)
    return Reply(f"saved {session.value.count}")


@_page
async def save_and_503(house: House, request: Any) -> Reply:
    session = await _changed(house, request)
    await house.store.save(session)
    session.value.count = 1000
    return Reply(status=503)


@_page
async def save_nan(house: House, request: Any) -> Reply:
    session = await _changed(house, request)
    number, session.value.number = session.value.number, math.nan
    try:
        await house.store.save(session)
    except EncodeError as error:
        session.value.number = number
        return Reply(f"caught: {error}")
    return Reply("not caught")


@_page
async def nan(house: House, request: Any) -> Reply:
    """Two sessions: the first could be saved, the second cannot."""
    theme = await house.theme.get(request)
    theme.value.color = "dark"
    session = await house.store.get(request)
    session.value.number = math.nan
    return Reply("never seen")


@_page
async def huge(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.value.items = ["x" * 300_000]
    return Reply("never seen")


@_page
async def both(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    session.value.count += 1
    theme = await house.theme.get(request)
    theme.value.color = "dark"
    return Reply(theme.value.color)


@_page
async def by_hand(house: House, request: Any) -> Reply:
    session = await _changed(house, request)
    return replace(_said(session), by_hand=session)


# while something else happens


@_page
async def slow_read(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    await house.meanwhile()
    return _said(session)


@_page
async def slow_add(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    await house.meanwhile()
    session.value.count += 1
    return _said(session)


@_page
async def slow_login(house: House, request: Any) -> Reply:
    session = await house.store.get(request)
    await house.meanwhile()
    session.set_user("bob")
    return _said(session)
