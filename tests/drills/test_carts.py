"""Many requests of one browser at once, through real HTTP: what each has put into the cart is there, once."""

import anyio
import pytest

from aiosessions.testing import Browser
from tests.drills.backends import BACKENDS, Backend, LossyProxy, opened
from tests.drills.carts import serving

pytestmark = pytest.mark.anyio

ITEMS = 200


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine needs more than the five seconds after which a writer gives up: what counts here is the cart."""
    monkeypatch.setattr("aiosessions.overseers.race.RACE_SECONDS", 60.0)


async def add_all(url: str) -> None:
    async with opened(url) as storer, serving(storer) as address, Browser(address) as browser:
        assert (await browser.get("/add/0")).status == 200
        answers: list[int] = []

        async def add(item: int) -> None:
            answers.append((await browser.get(f"/add/{item}")).status)

        async with anyio.create_task_group() as group:
            for item in range(1, ITEMS + 1):
                group.start_soon(add, item)
        assert answers == [200] * ITEMS
        items = [int(item) for item in (await browser.get("/")).text.split()]
        assert sorted(items) == list(range(ITEMS + 1))


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_two_hundred_items_at_once(backend: Backend) -> None:
    """F3: lists that only grew unite, whoever comes first."""
    await add_all(backend.patient_url)


@pytest.mark.parametrize("backend", ["valkey"], indirect=True)
async def test_an_item_whose_confirmation_got_lost_is_there_once(backend: Backend) -> None:
    """S6, F3: redis-py sends again what has been done, and by then others have written over it."""
    async with LossyProxy(backend) as proxy:
        proxy.share = 0.05
        await add_all(backend.make_url(proxy.port))
        assert proxy.dropped
