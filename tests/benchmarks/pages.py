"""One page, bare and with our sessions, visited in process: no server, no socket, the same scope each time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from aiosessions import Store
from aiosessions.asgi import SessionMiddleware
from tests.benchmarks.measure import ACTIONS, Subject, Visit

__all__ = [
    "ASGIApp",
    "Application",
    "Shop",
    "asgi_subject",
    "bare",
    "ours",
    "ours_untyped",
    "respond",
    "sign_in",
    "use",
    "visit",
]

# Any: ASGI scopes and messages hold anything
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Shop:
    """A session of eight keys, as an application has it."""

    theme: str = "dark"
    language: str = "en-GB"
    cart: list[int] = field(default_factory=lambda: [17, 4711, 90210])
    currency: str = "EUR"
    last_page: str = "/articles/4711?sort=price"
    seen: dict[str, int] = field(default_factory=lambda: {"faq": 1})
    discount: float = 0.15
    visits: int = 0


S = TypeVar("S", bound=Shop)


class _Answers:
    """What a server's `send` would get, when somebody looks at it."""

    def __init__(self) -> None:
        self.cookie = b""

    async def __call__(self, message: Any) -> None:
        for name, value in message.get("headers", ()):
            if name.lower() == b"set-cookie":
                self.cookie = value.partition(b";")[0]


@dataclass(frozen=True)
class Application:
    """An ASGI application with the pages /untouched, /read and /write.

    Args:
        name: as it stands in the table.
        app: with sessions.
        without: the same without.
    """

    name: str
    app: ASGIApp
    without: ASGIApp


async def respond(send: Any) -> None:
    """The answer of every page here."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The page without sessions. It makes the request object that a handler is given."""
    Request(scope, receive)
    await respond(send)


def ours(name: str, store: Store[S]) -> Application:
    """The page with our sessions."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        action = scope["path"]
        if action != "/untouched":
            session = await store.get(request)
            assert session.value.theme == "dark"
            if action == "/write":
                session.value.visits += 1
        await respond(send)

    return Application(name, SessionMiddleware(page), bare)


def ours_untyped(name: str, store: Store[dict[str, Any]]) -> Application:
    """The page with our sessions, whose value is a dict of anything."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if scope["path"] != "/untouched":
            use(await store.get(request), scope["path"][1:])
        await respond(send)

    return Application(name, SessionMiddleware(page), bare)


def use(session: Any, action: str) -> None:
    """What the page does with a session that reads like a dict."""
    if "theme" not in session:
        session.update(asdict(Shop()))
    assert session["theme"] == "dark"
    if action == "write":
        session["visits"] += 1


async def asgi_subject(application: Application, *, clients: int = 1, actions: Sequence[str] = ACTIONS) -> Subject:
    """An ASGI application as a subject: each client has a session before it is measured."""
    cookies = [await sign_in(application.app) for _ in range(clients)]
    visits = {action: visit(application.app, action, cookies) for action in actions}
    return Subject(application.name, visit(application.without, "untouched", cookies), visits, cookies[0].decode())


def visit(app: ASGIApp, action: str, cookies: Sequence[bytes]) -> Visit:
    """Visits to one page of an ASGI application, with each client's cookie; if there are fewer, they share them."""
    scopes = [_scope(action, cookie) for cookie in cookies]
    count = len(scopes)

    async def visit(number: int) -> None:
        await app(dict(scopes[number % count]), _receive, _send)

    return visit


async def sign_in(app: ASGIApp) -> bytes:
    """The cookie of a client that came for the first time."""
    answers = _Answers()
    await app(_scope("write", b"other=1"), _receive, answers)
    assert answers.cookie, "the application sets no cookie"
    return answers.cookie


def _scope(action: str, cookie: bytes) -> dict[str, Any]:
    headers = [
        (b"host", b"shop.example"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (b"accept-language", b"en-GB,en;q=0.5"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
        (b"cookie", cookie),
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": f"/{action}",
        "raw_path": f"/{action}".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 443),
        "state": {},
    }


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass
