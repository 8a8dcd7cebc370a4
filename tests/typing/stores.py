"""A store of T gives sessions of T, and is a `Store[T]`."""

from dataclasses import dataclass, field
from typing import TypedDict, assert_type

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    JSONCodec,
    MemoryStorer,
    Request,
    Session,
    SessionInfo,
    StorageOverseer,
    Store,
)


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
    assert_type(await store.user_sessions("ann"), list[SessionInfo])


async def a_cookie_store_gives_sessions_of_its_type(request: Request, sealer: AESGCMSealer) -> None:
    store = CookieOverseer(AppData, sealer)
    assert_type(store, CookieOverseer[AppData])
    assert_type(await store.get(request), Session[AppData])


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
