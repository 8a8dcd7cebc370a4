"""What a request passes on its way: a guard against creeping, counted and not timed.

Bounds are at most a tenth above what was counted when they were set.
"""

import shutil
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
from aiosessions import AESGCMSealer, CookieOverseer, MemoryStorer, StorageOverseer, Store, new_key
from aiosessions.asgi import Connection, SessionMiddleware
from tests.benchmarks.instructions import count

pytestmark = pytest.mark.anyio

PACKAGE = str(Path(aiosessions.__file__).parent)
CODERS = (msgspec.json.Encoder, msgspec.json.Decoder)

# Calls of functions and resumptions of coroutines inside the package.
CALLS = {("memory", "read"): 44, ("memory", "write"): 75, ("cookie", "read"): 48, ("cookie", "write"): 96}

# Instructions of a whole request, as a multiple of those with the benchmarks' floor in the library's place: the builds
# of one Python differ by a tenth in instructions, in such a ratio by little.
INSTRUCTIONS = {("memory", "read"): 3.4, ("memory", "write"): 6.0, ("cookie", "read"): 2.5, ("cookie", "write"): 3.6}


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

    def __init__(self, store: Store[Shop]) -> None:
        self.store = store
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


ACTIONS: dict[str, Handler] = {"read": bool, "write": more}


async def way_through(kept: str) -> Way:
    """With a session that has been written before."""
    in_memory = StorageOverseer(Shop, MemoryStorer(), clean_every=None)
    way = Way(in_memory if kept == "memory" else CookieOverseer(Shop, AESGCMSealer(new_key())))
    for _ in range(3):
        await way.request(more)
    return way


@pytest.fixture
async def way() -> Way:
    return await way_through("memory")


@pytest.mark.parametrize(("kept", "action"), CALLS)
async def test_a_request_passes_few_calls(kept: str, action: str) -> None:
    """HOUSE 4: the package's own, from the middleware to the headers."""
    way = await way_through(kept)
    assert (await way.request(ACTIONS[action]))["calls"] <= CALLS[kept, action]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="another Python takes other instructions: 3.11 is counted")
def test_a_request_takes_few_instructions() -> None:
    """HOUSE 4: one program under valgrind for all of them, since it takes long to start."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("no valgrind here, which counts instructions")

    counted = count(valgrind)
    for (kept, action), limit in INSTRUCTIONS.items():
        assert counted[f"aiosessions {kept}"][action] <= limit * counted[f"floor: {kept}"][action], (kept, action)


async def test_a_write_encodes_once_and_decodes_for_its_check_only(way: Way) -> None:
    """V9: beside the decoding of the load, where every value of the type has one spelling."""
    counts = await way.request(more)
    assert (counts["encode"], counts["decode"]) == (1, 2)


async def test_a_read_encodes_once_and_decodes_once(way: Way) -> None:
    """V3: to find out that nothing changed."""
    counts = await way.request(bool)
    assert (counts["encode"], counts["decode"]) == (1, 1)
