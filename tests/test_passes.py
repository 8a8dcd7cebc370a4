"""What a request passes on its way: a guard against creeping, counted and not timed.

Bounds are at most a tenth above what was counted when they were set.
"""

import ast
import io
import shutil
import sys
import tokenize
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

import aiosessions
from aiosessions import AESGCMSealer, CookieOverseer, MemoryStorer, Session, StorageOverseer, Store, new_key
from aiosessions.asgi import Connection, SessionMiddleware
from tests.benchmarks.instructions import count

pytestmark = pytest.mark.anyio

PACKAGE = str(Path(aiosessions.__file__).parent)
CODERS = (msgspec.json.Encoder, msgspec.json.Decoder)

# Calls of functions and resumptions of coroutines inside the package.
CALLS = {("memory", "read"): 38, ("memory", "write"): 75, ("cookie", "read"): 45, ("cookie", "write"): 93}

# Instructions of a whole request, as a multiple of those with the benchmarks' floor in the library's place: the builds
# of one Python differ by a tenth in instructions, in such a ratio by little.
INSTRUCTIONS = {("memory", "read"): 3.0, ("memory", "write"): 5.4, ("cookie", "read"): 2.35, ("cookie", "write"): 3.35}


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


SPINE = 2_900
"""Lines of code, without docstrings, comments and blanks, of the files whose functions plain requests pass: of the
words and the overseers (HOUSE 3)."""
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

Handler = Callable[[Shop], object]
Action = Callable[[Session[Shop]], object]


class Way:
    """One application with one session; requests are profiled."""

    def __init__(self, store: Store[Shop]) -> None:
        self.store = store
        self.cookie = b""
        self.action: Action = bool
        self.middleware = SessionMiddleware(self._page)

    async def _page(self, scope: Any, receive: Any, send: Any) -> None:  # Any: what ASGI hands around
        session = await self.store.get(Connection(scope))
        result = self.action(session)
        if isinstance(result, Awaitable):
            await result
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def request(self, handler: Handler) -> Counter[str]:
        """Calls inside the package, and encodings and decodings of the value, during one request."""
        self.action = lambda session: handler(session.value)
        counts: Counter[str] = Counter()

        def count(frame: FrameType, event: str, argument: Any) -> None:  # Any: what a profiler is given
            if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
                counts["calls"] += 1
            elif event == "c_call" and isinstance(getattr(argument, "__self__", None), CODERS):
                counts[argument.__name__] += 1

        await self.profiled(count)
        return counts

    async def profiled(self, profile: Callable[[FrameType, str, Any], object]) -> None:  # Any: as above
        """One request under this profiler."""
        headers = [(b"cookie", self.cookie)] if self.cookie else []
        scope = {"type": "http", "scheme": "https", "method": "GET", "path": "/", "headers": headers}
        sys.setprofile(profile)
        try:
            await self.middleware(scope, self._receive, self._send)
        finally:
            sys.setprofile(None)

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


async def test_the_spine_is_short() -> None:
    """HOUSE 3: what a read, a write, a login, flashes, a CSRF check, an update and a logout pass."""
    passed: set[str] = set()
    for store in (
        StorageOverseer(Shop, MemoryStorer(), clean_every=None),
        CookieOverseer(Shop, AESGCMSealer(new_key())),
    ):
        await visit(store, passed)

    files = {Path(name) for name in passed if name.startswith(PACKAGE)}
    spine = [path for path in files if path.parent.name == "overseers" or path.name.startswith("_")]
    assert {"_session.py", "_state.py", "race.py", "cookie.py"} <= {path.name for path in spine}
    assert sum(map(lines_of_code, spine)) <= SPINE


async def visit(store: Store[Shop], passed: set[str]) -> None:
    """Requests of one client, each with something else to do; *passed* gets the files of all functions called."""

    async def update(session: Session[Shop]) -> None:
        await store.update(session, more)

    def read(session: Session[Shop]) -> None:
        assert session.value.count

    def write(session: Session[Shop]) -> None:
        session.value.count += 1

    def login(session: Session[Shop]) -> None:
        session.set_user("ann")

    def leave_a_message(session: Session[Shop]) -> None:
        session.flash("hello")
        session.csrf_token()

    def take_it(session: Session[Shop]) -> None:
        assert session.flashes()
        session.check_csrf("x")

    def logout(session: Session[Shop]) -> None:
        session.destroy()

    def note(frame: FrameType, event: str, argument: object) -> None:  # what a profiler is given
        if event == "call":
            passed.add(frame.f_code.co_filename)

    way = Way(store)
    for action in (read, write, read, login, write, leave_a_message, take_it, update, logout):
        way.action = action
        await way.profiled(note)


def lines_of_code(path: Path) -> int:
    """Those that hold more than a comment or a docstring."""
    text = path.read_text(encoding="utf-8")
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)
