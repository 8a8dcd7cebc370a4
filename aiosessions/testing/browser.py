"""A browser without a window: it visits an application and keeps cookies as browsers do."""

import json as json_module
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote, urldefrag, urlencode, urljoin, urlsplit

from aiosessions._store import Store
from aiosessions.testing.in_process import InProcess, Sent
from aiosessions.testing.jar import CookieJar
from aiosessions.testing.response import Headers, Response, Stream, WebSocket
from aiosessions.testing.sign_in import signed_in

__all__ = ["Browser"]

T = TypeVar("T")

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 20


class _Server(Protocol):
    """Who answers."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def ask(self, sent: Sent) -> Response: ...
    def stream(self, sent: Sent) -> AbstractAsyncContextManager[Stream]: ...
    def websocket(self, sent: Sent, subprotocols: Sequence[str]) -> AbstractAsyncContextManager[WebSocket]: ...


class Browser:
    """Visits an application; one browser is one device.

        async with Browser(app) as browser:
            await browser.post("/login", data={"name": "ann"})
            assert "ann" in (await browser.get("/")).text

    As a context manager it runs the application's lifespan; without one, an ASGI application is just called. It may
    be entered in one task and left in another, as fixtures do.

    Args:
        app: an ASGI application, called in this process, on asyncio or trio; an `aiohttp.web.Application`, served on a
            loopback port; or the address of a server that runs, asked through httpx.
        base_url: what relative addresses are relative to; None: `https://testserver`, or the server's address.
        raise_app_exceptions: what an ASGI application raises is raised here; False: a 500, as a server makes it.
        keep_headers: a prefix, `Session-` for example: response headers whose names begin so are sent with all later
            requests, as a client of HeaderTransport does; `-` ends that.
        clock: unix seconds; moves the expiry of cookies.

    Attributes:
        cookies: the jar.
        headers: what goes with every request.

    Raises:
        ImportError: an address was given, and httpx is not installed.
    """

    def __init__(
        self,
        app: Callable[..., Any] | str,  # Any: each framework has types of its own for ASGI
        *,
        base_url: str | None = None,
        raise_app_exceptions: bool = True,
        keep_headers: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cookies: CookieJar = CookieJar(clock)
        self.headers: dict[str, str] = {}
        self.base_url: str = base_url or (app if isinstance(app, str) else "https://testserver")
        self._keep_headers = keep_headers
        self._clock = clock
        self._server = _server_of(app, raise_app_exceptions=raise_app_exceptions)
        self._is_host = True

    async def __aenter__(self) -> Self:
        if self._is_host:
            await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_host:
            await self._server.stop()

    def another(self) -> "Browser":
        """Another device at the same application, with nothing in its jar. Only this one starts and stops it."""
        other = object.__new__(Browser)
        other.cookies = CookieJar(self._clock)
        other.headers = {}
        other.base_url = self.base_url
        other._keep_headers = self._keep_headers
        other._clock = self._clock
        other._server = self._server
        other._is_host = False
        return other

    async def get(self, path: str, **options: Any) -> Response:  # Any: see `request`
        """`request("GET", ...)`."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Response:  # Any: see `request`
        """`request("POST", ...)`."""
        return await self.request("POST", path, **options)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | bytes | str | None = None,
        json: object = None,
        follow: bool = False,
    ) -> Response:
        """Ask, and keep the cookies of the answer.

        Args:
            method: GET, POST, ...
            path: relative to the base URL, or a whole address.
            headers: for this request; a `Cookie` here takes the place of the jar's.
            data: a form, or the body itself.
            json: what the body says as JSON; None: no such body.
            follow: go where redirects to the same host lead.
        """
        body, kind = _body(data, json)
        sent = self._sent(method, path, headers, body, kind)
        response = await self._server.ask(sent)
        history: list[Response] = []
        while follow and (target := _redirect(response)) is not None and len(history) < _MOST_REDIRECTS:
            history.append(response)
            if response.status in (301, 302, 303):
                method, body, kind = "GET" if method != "HEAD" else method, b"", ""
            sent = self._sent(method, target, headers, body, kind)
            response = await self._server.ask(sent)
        return Response(response.status, response.headers, response.body, response.url, tuple(history))

    @asynccontextmanager
    async def stream(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncGenerator[Stream, None]:
        """The response as soon as its headers are there: `async for chunk in stream`. Leaving the block hangs up."""
        async with self._server.stream(self._sent(method, path, headers, body, "")) as stream:
            yield stream

    @asynccontextmanager
    async def websocket(
        self, path: str, *, headers: Mapping[str, str] | None = None, subprotocols: Sequence[str] = ()
    ) -> AsyncGenerator[WebSocket, None]:
        """An accepted WebSocket; leaving the block closes it.

        Raises:
            HandshakeDeniedError: the application did not accept it; carries its response.
            UnsupportedError: the browser was given an address.
        """
        async with self._server.websocket(self._sent("GET", path, headers, b"", ""), subprotocols) as socket:
            yield socket

    async def sign_in(self, store: Store[T], user_id: str, value: T | None = None, *, name: str | None = None) -> None:
        """Have a session of this user, without the application's login page; see `signed_in`.

        Raises:
            ValueError: the jar refuses the cookie, as a browser would at this base URL; says why.
        """
        credentials = await signed_in(store, user_id, value, name=name)
        for line in credentials.set_cookies:
            if not self.cookies.receive(line, urljoin(self.base_url, "/")):
                raise ValueError(f"no browser would keep this cookie: {self.cookies.refused[-1]}")
        self.headers.update({key: each for key, each in credentials.headers.items() if key != "Cookie"})

    def _sent(self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes, kind: str) -> Sent:
        url = quote(urldefrag(urljoin(self.base_url, path)).url, safe="%/:=&?~+!$,;'@()*[]")
        lines = {"host": urlsplit(url).netloc, "accept": "*/*"}
        if body:
            lines["content-length"] = str(len(body))
        if kind:
            lines["content-type"] = kind
        if cookies := self.cookies.header(url):
            lines["cookie"] = cookies
        for chosen in (self.headers, headers or {}):
            lines.update({key.lower(): value for key, value in chosen.items()})

        def heard(received: Headers) -> None:
            for line in received.lines("set-cookie"):
                self.cookies.receive(line, url)
            self._keep(received)

        return Sent(method, url, list(lines.items()), body, heard)

    def _keep(self, received: Headers) -> None:
        if self._keep_headers is None:
            return
        for key, value in received.items():
            if key.startswith(self._keep_headers.lower()):
                self.headers.pop(key, None)
                if value != "-":
                    self.headers[key] = value


def _server_of(app: Callable[..., Any] | str, *, raise_app_exceptions: bool) -> _Server:  # Any: see Browser
    if isinstance(app, str):
        try:
            from aiosessions.testing.over_httpx import OverHTTPX  # noqa: PLC0415 - a driver that others need not have
        except ImportError as error:
            raise ImportError("Browser(address) needs httpx: pip install aiosessions[demo]") from error
        return OverHTTPX()

    aiohttp_web = sys.modules.get("aiohttp.web")  # who has made such an application has imported it
    if aiohttp_web is not None and isinstance(app, aiohttp_web.Application):
        from aiosessions.testing.over_aiohttp import OverAiohttp  # noqa: PLC0415 - as above

        application: Any = app  # Any: a class looked up at run time narrows nothing
        return OverAiohttp(application)

    return InProcess(app, raise_app_exceptions=raise_app_exceptions)


def _body(data: Mapping[str, str] | bytes | str | None, json: object) -> tuple[bytes, str]:
    """The body and its Content-Type."""
    if json is not None:
        return json_module.dumps(json).encode(), "application/json"
    if isinstance(data, Mapping):
        return urlencode(data).encode(), "application/x-www-form-urlencoded"
    return data.encode() if isinstance(data, str) else data or b"", ""


def _redirect(response: Response) -> str | None:
    """Where it leads, if that is the same host: another one is not the application's."""
    location = response.headers.get("location")
    if response.status not in _REDIRECTS or location is None:
        return None

    target = urljoin(response.url, location)
    return target if urlsplit(target).netloc == urlsplit(response.url).netloc else None
