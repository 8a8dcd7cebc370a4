"""What a request passes on its way: a guard against creeping, counted and not timed."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

import aiosessions
from aiosessions import MemoryStorer, StorageOverseer
from aiosessions.asgi import Connection, SessionMiddleware

pytestmark = pytest.mark.anyio

PACKAGE = str(Path(aiosessions.__file__).parent)
CODERS = (msgspec.json.Encoder, msgspec.json.Decoder)


@dataclass
class Shop:
    """Eight fields, two of them a list and a dict; every value has one spelling."""

    name: str = "tea"
    note: str | None = None
    is_open: bool = True
    count: int = 1
    total: int = 3
    place: str = "x"
    cart: list[int] = field(default_factory=lambda: [1, 2, 3])
    stock: dict[str, int] = field(default_factory=lambda: {"tea": 1})


Handler = Callable[[Shop], object]


class Way:
    """One application with one session; requests are profiled."""

    def __init__(self) -> None:
        self.store = StorageOverseer(Shop, MemoryStorer(), clean_every=None)
        self.cookie = b""
        self.handler: Handler = bool
        self.middleware = SessionMiddleware(self._page)

    async def _page(self, scope: Any, receive: Any, send: Any) -> None:  # Any: what ASGI hands around
        session = await self.store.get(Connection(scope))
        self.handler(session.value)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def request(self, handler: Handler) -> Counter[str]:
        """Calls inside the package, and encodings and decodings of the value, during one request."""
        self.handler = handler
        counts: Counter[str] = Counter()

        def count(frame: FrameType, event: str, argument: Any) -> None:  # Any: what a profiler is given
            if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
                counts["calls"] += 1
            elif event == "c_call" and isinstance(getattr(argument, "__self__", None), CODERS):
                counts[argument.__name__] += 1

        headers = [(b"cookie", self.cookie)] if self.cookie else []
        scope = {"type": "http", "scheme": "https", "method": "GET", "path": "/", "headers": headers}
        sys.setprofile(count)
        try:
            await self.middleware(scope, self._receive, self._send)
        finally:
            sys.setprofile(None)
        return counts

    async def _receive(self) -> Any:  # Any: an ASGI message
        return {"type": "http.request"}

    async def _send(self, message: Any) -> None:  # Any: an ASGI message
        for name, value in message.get("headers", ()):
            if name == b"set-cookie":
                self.cookie = value.partition(b";")[0]


def more(shop: Shop) -> None:
    shop.count += 1


@pytest.fixture
async def way() -> Way:
    """With a stored session that has been written before."""
    way = Way()
    for _ in range(3):
        await way.request(more)
    return way


async def test_a_read_passes_few_calls(way: Way) -> None:
    """HOUSE 4: the package's own, from the middleware to the headers."""
    assert (await way.request(bool))["calls"] <= 45


async def test_a_write_passes_few_calls(way: Way) -> None:
    """HOUSE 4."""
    assert (await way.request(more))["calls"] <= 75


async def test_a_write_encodes_once_and_decodes_for_its_check_only(way: Way) -> None:
    """V9: beside the decoding of the load, where every value of the type has one spelling."""
    counts = await way.request(more)
    assert (counts["encode"], counts["decode"]) == (1, 2)


async def test_a_read_encodes_once_and_decodes_once(way: Way) -> None:
    """V3: to find out that nothing changed."""
    counts = await way.request(bool)
    assert (counts["encode"], counts["decode"]) == (1, 1)
