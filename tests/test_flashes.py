"""Flash data is JSON that comes back, or is refused at once; and a request that fails for it still logs out."""

from typing import Any

import pytest

from aiosessions import AESGCMSealer, EncodeError, JSONCodec, new_key
from aiosessions.asgi import Connection
from aiosessions.testing.suites_store import Visitor
from tests.storers_with_faults import ENDING, Cart, Scene

pytestmark = pytest.mark.anyio


def nested(depth: int, *, in_dicts: bool = False) -> Any:  # Any: as deep as it is
    data: Any = 1
    for _ in range(depth):
        data = {"a": data} if in_dicts else [data]
    return data


LARGE = {
    "2**63": 2**63,
    "2**64 - 1": 2**64 - 1,
    "2**64": 2**64,
    "10**400": 10**400,
    "-(2**63)": -(2**63),
    "-(2**63) - 1": -(2**63) - 1,
    "inside": {"a": [{"b": 2**64}]},
}


async def comes_back_or_is_refused(scene: Scene, data: Any) -> list[Any]:  # Any: what a caller gives
    """EncodeError from `flash()` itself, which changes nothing; or the data is there in the next request."""
    visitor = await scene.visitor()
    async with scene.request(visitor) as (session, _):
        session.flash("before")
        try:
            session.flash("data", data=data)
        except EncodeError:
            expected = ["before"]
        else:
            expected = ["before", "data"]
        session.value.note = "written"
    async with scene.request(visitor) as (session, _):
        assert (session.is_new, session.value.note) == (False, "written")
        flashes = session.flashes()
        assert [flash.message for flash in flashes] == expected
    return [flash.data for flash in flashes[1:]]


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("kind", ["stored", "held"])
async def test_a_large_number_comes_back_or_is_refused_at_once(kind: str, data: Any) -> None:
    """V5, V9."""
    assert await comes_back_or_is_refused(Scene(kind), data) in ([], [data])


@pytest.mark.parametrize(("kind", "in_dicts"), [("stored", False), ("stored", True), ("held", False)])
async def test_deep_data_comes_back_or_is_refused_at_once(kind: str, in_dicts: bool) -> None:
    """V5, V9: what can be stored can be loaded, also where Python's stack is about to end."""
    scene = Scene(kind)
    assert await comes_back_or_is_refused(scene, nested(20, in_dicts=in_dicts)) == [nested(20, in_dicts=in_dicts)]
    for depth in (*range(850, 1_000), 5_000, 100_000):
        await comes_back_or_is_refused(scene, nested(depth, in_dicts=in_dicts))


@pytest.mark.parametrize("data", [2**64, -(2**64), nested(5_000)], ids=["2**64", "-(2**64)", "5000 brackets"])
@pytest.mark.parametrize("kind", ENDING)
async def test_a_flash_that_is_refused_does_not_stop_a_logout_in_that_request(kind: str, data: Any) -> None:
    """V5, F14, R7: the handler fails, and what it destroyed is gone."""
    scene = Scene(kind)
    side = scene.another(Cart, name="side")
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()

    async def handler(connection: Connection) -> None:
        (await scene.store.get(connection)).destroy()
        (await side.get(connection)).flash("data", data=data)

    with pytest.raises(EncodeError):
        await scene.serve(visitor, handler)
    assert not await scene.is_alive(old)


class RaisingCodec(JSONCodec[Cart]):
    """Of a third party: where it fails, it raises what no contract knows."""

    def encode(self, value: Cart) -> bytes:
        if value.note == "raise":
            raise ZeroDivisionError
        return super().encode(value)


class RaisingSealer(AESGCMSealer):
    """Of a third party, likewise."""

    is_broken = False

    def seal(self, claims: Any, *, name: str) -> str:  # Any: Claims
        if self.is_broken:
            raise ZeroDivisionError
        return super().seal(claims, name=name)


@pytest.mark.parametrize("what", ["codec", "sealer", "storer"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("kind", ENDING)
async def test_a_logout_is_carried_out_whatever_else_of_that_request_raises(
    kind: str, is_first: bool, what: str
) -> None:
    """F14, R7: also what is no error of ours, from a codec, a sealer or a storer of somebody else's."""
    scene = Scene(kind)
    breaks = Scene("stored", name="side", codec=RaisingCodec(Cart))
    sealer = RaisingSealer(new_key())
    side = breaks.store
    if what == "sealer":
        side = breaks.another(Cart, name="side", sealer=sealer)
    visitor = await scene.visitor(user="ann")
    old = visitor.copy()

    async def handler(connection: Connection) -> None:
        stores = [scene.store, side] if is_first else [side, scene.store]
        sessions = {store: await store.get(connection) for store in stores}
        sessions[scene.store].destroy()
        sessions[side].value.note = "raise" if what == "codec" else "changed"
        sealer.is_broken = True
        breaks.storer.error = ZeroDivisionError
        breaks.storer.failing = {"create"} if what == "storer" else set()

    try:
        status = await scene.serve(visitor, handler)
    except ZeroDivisionError:
        status = 500
    assert status == 500
    assert not await scene.is_alive(old)


async def test_a_flash_that_is_refused_leaves_the_session_alone() -> None:
    """V5, V9: what was flashed before is there, and the session can be saved."""
    scene = Scene()
    visitor = Visitor()
    async with scene.request(visitor) as (session, visit):
        with pytest.raises(EncodeError):
            session.flash("data", data=2**64)
        assert session.flashes(peek=True) == []
    assert visit.sent == []
    assert await scene.stored() == []
