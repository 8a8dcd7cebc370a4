"""Stores of every kind, a storer that counts and fails, and an application with its browser: where the R tests play."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    CookieTransport,
    HeaderTransport,
    HMACSealer,
    JWTSealer,
    Lifetime,
    MemoryStorer,
    Record,
    Sealer,
    StorageOverseer,
    Store,
    StorerError,
    Transport,
    new_key,
)
from aiosessions.testing import Browser, Clock, Response
from tests.integrations.apps import Basket, House, Page, Theme, browser_of
from tests.integrations.pages import PAGES

__all__ = [
    "ASYNCIO",
    "TRIO",
    "UVLOOP",
    "Backend",
    "Case",
    "CountingStorer",
    "OpenStorer",
    "Stage",
    "all_combinations",
    "some_combinations",
    "twin",
]

T = TypeVar("T")

Backend: TypeAlias = tuple[str, dict[str, bool]]
"""A name and options, as anyio's plugin reads them."""
ASYNCIO: Backend = ("asyncio", {"use_uvloop": False})
UVLOOP: Backend = ("asyncio", {"use_uvloop": True})
TRIO: Backend = ("trio", {})

_SEALERS: dict[str, Callable[[], Sealer | None]] = {
    "plain": lambda: None,
    "aesgcm": lambda: AESGCMSealer(new_key()),
    "hmac": lambda: HMACSealer(new_key()),
    "jwt": lambda: JWTSealer(new_key()),
}


class CountingStorer(MemoryStorer):
    """Writes down what it is asked, and fails where a test says.

    Attributes:
        calls: the methods that were called, since a test last cleared it.
        fails: given a method and a key, whether the backend fails.
        delay: what a read waits for.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []
        self.fails: Callable[[str, str], bool] = lambda _, __: False
        self.delay: Callable[[], Awaitable[None]] | None = None

    async def read(self, key: str) -> Record | None:
        self._asked("read", key)
        if self.delay is not None:
            await self.delay()
        return await super().read(key)

    async def create(self, key: str, record: Record) -> bool:
        self._asked("create", key)
        return await super().create(key, record)

    async def replace(self, key: str, record: Record, *, version: int) -> bool:
        self._asked("replace", key)
        return await super().replace(key, record, version=version)

    async def touch(self, key: str, *, seen_at: float, expires_at: float | None) -> bool:
        self._asked("touch", key)
        return await super().touch(key, seen_at=seen_at, expires_at=expires_at)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        self._asked("delete", key)
        return await super().delete(key, version=version)

    async def stored(self) -> list[str]:
        """The keys of all live records."""
        return [key async for key in self.keys()]

    def _asked(self, method: str, key: str) -> None:
        self.calls.append(method)
        if self.fails(method, key):
            raise StorerError(f"{method} failed") from ConnectionError("the backend is away")


class OpenStorer(MemoryStorer):
    """Writes down how it is opened and closed, and fails to open where a test says so."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.log: list[str] = []
        self._error = error

    async def open(self) -> None:
        self.log.append("open")
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.log.append("close")


@dataclass(frozen=True)
class Case:
    """One combination of the R group."""

    framework: str
    keeps: str
    """storage, client"""
    travels: str
    """cookie, header"""
    sealer: str

    def __str__(self) -> str:
        return f"{self.framework}-{self.keeps}-{self.travels}-{self.sealer}"

    @property
    def is_stored(self) -> bool:
        return self.keeps == "storage"

    @property
    def is_cookie(self) -> bool:
        return self.travels == "cookie"


def all_combinations(framework: str) -> list[Case]:
    """Both overseers, both transports, no sealer and each sealer."""
    return [
        Case(framework, keeps, travels, sealer)
        for keeps in ("storage", "client")
        for travels in ("cookie", "header")
        for sealer in _SEALERS
        if (keeps, sealer) != ("client", "plain")
    ]


def some_combinations(framework: str) -> list[Case]:
    """Both overseers, both transports, each sealer once."""
    return [
        Case(framework, "storage", "cookie", "plain"),
        Case(framework, "storage", "header", "aesgcm"),
        Case(framework, "client", "cookie", "hmac"),
        Case(framework, "client", "header", "jwt"),
    ]


class Stage:
    """An application, and a browser at it."""

    def __init__(self, case: Case, *, pages: dict[str, Page] | None = None, lifetime: Lifetime | None = None) -> None:
        self.case = case
        self.clock = Clock()
        self.storer = CountingStorer(clock=self.clock)
        self.lifetime = lifetime or Lifetime()
        self.house = House(self._store(Basket, "app"), self._store(Theme, "theme"), {**PAGES, **(pages or {})})

    def _store(self, value_type: type[T], name: str) -> Store[T]:
        sealer = _SEALERS[self.case.sealer]()
        transport: Transport = CookieTransport() if self.case.is_cookie else HeaderTransport()
        if self.case.is_stored:
            return StorageOverseer(
                value_type,
                self.storer,
                name=name,
                transport=transport,
                sealer=sealer,
                lifetime=self.lifetime,
                clock=self.clock,
            )

        assert sealer is not None
        return CookieOverseer(
            value_type, sealer, name=name, transport=transport, lifetime=self.lifetime, clock=self.clock
        )

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Browser]:
        """Run the application; a browser at it."""
        async with browser_of(self.case.framework, self.house, self.clock) as browser:
            yield browser

    def told(self, response: Response, name: str = "app") -> list[str]:
        """What the response says to the client about a session: each Set-Cookie line, or header."""
        if self.case.is_cookie:
            return [line for line in response.set_cookies if line.startswith(f"__Host-{name}")]
        return response.headers.lines(f"session-{name}")

    def token(self, browser: Browser, name: str = "app") -> str:
        """The token that the browser has."""
        if self.case.is_cookie:
            return browser.cookies.get(f"__Host-{name}") or ""
        return browser.headers.get(f"session-{name}", "")

    def carrying(self, token: str, name: str = "app") -> dict[str, str]:
        """Request headers with this token."""
        return {"Cookie": f"__Host-{name}={token}"} if self.case.is_cookie else {f"Session-{name}": token}

    def calls(self) -> list[str]:
        """What the storer was asked since the last time; always nothing for a session that the client holds."""
        calls, self.storer.calls = self.storer.calls, []
        return calls


def twin(browser: Browser) -> Browser:
    """Another tab, or a thief: what this browser would send now."""
    other = browser.another()
    other.cookies = browser.cookies.copy()
    other.headers = dict(browser.headers)
    return other
