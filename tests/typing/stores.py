"""A store of T gives sessions of T, and is a `Store[T]`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar, assert_type

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    EncryptedStorer,
    Exchange,
    JSONCodec,
    MappingSession,
    MemoryStorer,
    Request,
    Response,
    Session,
    SessionInfo,
    StorageOverseer,
    Store,
    Storer,
    UserIndexed,
)
from aiosessions.telemetry import OpenTelemetry

T = TypeVar("T")


@dataclass
class AppData:
    cart: list[int] = field(default_factory=list[int])
    theme: str = "light"


@dataclass
class Other:
    pages: int = 0


class Preferences(TypedDict, total=False):
    language: str


async def a_store_gives_sessions_of_its_type(request: Request) -> None:
    store = StorageOverseer(AppData, MemoryStorer())
    assert_type(store, StorageOverseer[AppData])
    assert_type(await store.get(request), Session[AppData])
    assert_type(await store.get(request, "admin", touch=False), Session[AppData])
    assert_type(await store.require(request), Session[AppData])
    assert_type(store.new(request), Session[AppData])
    infos = await store.user_sessions("ann")
    assert_type(infos, list[SessionInfo])
    assert_type(infos[0].user_id, str | None)
    async for info in store.sessions():
        assert_type(info, SessionInfo)
    assert_type(await store.delete_all(), int)


async def a_cookie_store_gives_sessions_of_its_type(request: Request, sealer: AESGCMSealer) -> None:
    store = CookieOverseer(AppData, sealer)
    assert_type(store, CookieOverseer[AppData])
    assert_type(await store.get(request), Session[AppData])
    assert_type(await store.delete_all(), int)
    store.sessions()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # nobody knows them


async def a_store_of_mappings_gives_sessions_that_are_mappings(request: Request, sealer: AESGCMSealer) -> None:
    """V6: type checkers agree."""
    held = StorageOverseer(dict[str, int], MemoryStorer())
    assert_type(await held.get(request), MappingSession[int])
    assert_type(await held.get(request, "admin", touch=False), MappingSession[int])
    assert_type(await held.require(request), MappingSession[int])
    assert_type(held.new(request, "admin"), MappingSession[int])
    assert_type(await held.open("handle", user_id="ann"), MappingSession[int])
    sealed = CookieOverseer(dict[str, Any], sealer)
    assert_type(await sealed.get(request), MappingSession[Any])
    assert_type(await sealed.require(request), MappingSession[Any])
    assert_type(sealed.new(request), MappingSession[Any])
    await held.save(await held.get(request))
    await held.destroy(held.new(request))
    await held.save(sealed.new(request))
    assert_type(await held.update(held.new(request), lambda data: data | {"pages": 1}), dict[str, int])


async def so_does_the_protocol(
    counts: Store[dict[str, int]],
    app: Store[AppData],
    numbers: Store[dict[int, str]],
    typed: Store[Preferences],
    request: Request,
) -> None:
    """V6: only for `dict[str, V]`."""
    assert_type(await counts.get(request), MappingSession[int])
    assert_type(await counts.require(request), MappingSession[int])
    assert_type(counts.new(request), MappingSession[int])
    assert_type(await app.get(request), Session[AppData])
    assert_type(await app.require(request), Session[AppData])
    assert_type(app.new(request), Session[AppData])
    assert_type(await numbers.get(request), Session[dict[int, str]])
    assert_type(await numbers.require(request), Session[dict[int, str]])
    assert_type(numbers.new(request), Session[dict[int, str]])
    assert_type(await typed.get(request), Session[Preferences])


async def a_store_of_any_type_gives_sessions_of_any(
    store: Store[Any],  # Any: what is tested
    held: StorageOverseer[Any],  # Any: likewise
    request: Request,
) -> None:
    assert_type(await store.get(request), Session[Any])
    assert_type(await store.require(request), Session[Any])
    assert_type(store.new(request), Session[Any])
    assert_type(await held.get(request), Session[Any])
    assert_type(await held.open("handle", user_id="ann"), Session[Any])


async def an_exchange_is_a_request_and_a_response(store: Store[AppData], held: StorageOverseer[dict[str, int]]) -> None:
    exchange = Exchange([("Cookie", "__Host-app=...")], scheme="http")
    as_request: Request = exchange
    as_response: Response = exchange
    assert_type(await store.get(as_request), Session[AppData])
    assert_type(await store.get(exchange), Session[AppData])
    assert_type(store.new(exchange), Session[AppData])
    assert_type(await held.require(exchange), MappingSession[int])
    await store.save(await store.get(exchange), as_response)
    await held.save(held.new(exchange), exchange)
    await held.destroy(held.new(exchange), exchange)
    assert_type(exchange.headers, list[tuple[str, str]])
    assert_type(exchange.tokens, dict[str, str])
    Exchange({"cookie": "..."}.items(), "https")
    Exchange({"cookie": "..."})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    Exchange([(b"cookie", b"...")])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    exchange.tokens = {}  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def telemetry_listens_to_stores(sealer: AESGCMSealer, meters: MeterProvider, tracers: TracerProvider) -> None:
    StorageOverseer(AppData, MemoryStorer(), on_event=OpenTelemetry())
    CookieOverseer(AppData, sealer, on_event=OpenTelemetry(meters, tracer_provider=tracers))
    OpenTelemetry(tracers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def whose_a_session_is_has_to_be_said(held: StorageOverseer[AppData]) -> None:
    assert_type(await held.open("handle", user_id=None), Session[AppData])
    await held.open("handle")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await held.open("handle", "ann")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def a_function_of_a_store_keeps_its_type(store: Store[T], session: Session[T], request: Request) -> Session[T]:
    assert_type(await store.get(request), Session[T])
    await store.save(session)
    return store.new(request)


class Single(Store[AppData]):
    """A store of one's own inherits from the Protocol, and need not overload what has one type."""

    def __init__(self, store: Store[AppData]) -> None:
        self._store = store

    async def get(self, request: Request, name: str | None = None, *, touch: bool = True) -> Session[AppData]:
        return await self._store.get(request, name, touch=touch)

    async def require(self, request: Request, name: str | None = None) -> Session[AppData]:
        return await self._store.require(request, name)

    def new(self, request: Request, name: str | None = None) -> Session[AppData]:
        return self._store.new(request, name)

    async def save(self, session: Session[AppData], response: Response | None = None) -> None:
        await self._store.save(session, response)

    async def update(self, session: Session[AppData], change: Callable[[AppData], AppData | None]) -> AppData:
        return await self._store.update(session, change)


def a_store_of_one_s_own_is_a_store(store: Store[AppData]) -> Store[AppData]:
    return Single(store)


def overseers_are_stores_of_mappings(sealer: AESGCMSealer) -> list[Store[dict[str, Any]]]:  # Any: as applications do
    held: StorageOverseer[dict[str, Any]] = StorageOverseer(dict[str, Any], MemoryStorer())
    return [held, CookieOverseer(dict[str, Any], sealer)]


def overseers_are_stores(sealer: AESGCMSealer) -> list[Store[AppData]]:
    held: StorageOverseer[AppData] = StorageOverseer(AppData, MemoryStorer())
    first: Store[AppData] = held
    second: Store[AppData] = CookieOverseer(AppData, sealer)
    return [first, second, StorageOverseer(AppData, MemoryStorer(), codec=JSONCodec(AppData))]


def any_type_makes_a_store() -> None:
    assert_type(StorageOverseer(str, MemoryStorer()), StorageOverseer[str])
    assert_type(StorageOverseer(dict[str, int], MemoryStorer()), StorageOverseer[dict[str, int]])
    assert_type(StorageOverseer(Preferences, MemoryStorer()), StorageOverseer[Preferences])


async def opening_gives_the_same_store() -> None:
    async with StorageOverseer(AppData, MemoryStorer()) as store:
        assert_type(store, StorageOverseer[AppData])


def another_type_is_another_store(store: StorageOverseer[AppData]) -> None:
    other: Store[Other] = store  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    back: StorageOverseer[AppData] = other  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    del back


async def a_change_keeps_the_type(store: Store[AppData], request: Request) -> None:
    session = await store.get(request)

    def emptied(data: AppData) -> AppData:
        return AppData(theme=data.theme)

    assert_type(await store.update(session, emptied), AppData)
    assert_type(await store.update(session, lambda data: data.cart.append(42)), AppData)
    await store.update(session, lambda data: data.cart)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]


async def a_session_of_another_store_is_refused(
    store: StorageOverseer[AppData], other: Store[Other], request: Request
) -> None:
    session = await other.get(request)
    await store.save(session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.destroy(session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.delete_user_sessions("ann", keep=session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_arguments_are_refused(sealer: AESGCMSealer) -> None:
    StorageOverseer(AppData)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    StorageOverseer(AppData, sealer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StorageOverseer(AppData, MemoryStorer(), "app")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    StorageOverseer(AppData, MemoryStorer(), on_conflict="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    CookieOverseer(AppData, MemoryStorer())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    store: StorageOverseer[AppData]
    store = StorageOverseer(AppData, MemoryStorer(), default=Other)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    del store


async def an_encrypted_storer_is_a_storer_that_says_what_it_can(inner: Storer) -> None:
    """Like any other: what it can is asked, not known."""
    storer: Storer = EncryptedStorer(inner, ["key", b"key"], hash_owners=True)
    StorageOverseer(AppData, storer)
    await EncryptedStorer(inner, "key").list_by_owner("ann")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    if isinstance(storer, UserIndexed):
        await storer.list_by_owner("ann")
