"""What is imported makes the store's own type."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from redis.asyncio import Redis

from aiosessions import AESGCMSealer, CookieOverseer, HeaderTransport, MemoryStorer, StorageOverseer, new_key
from aiosessions.migration import (
    AiohttpCookie,
    AiohttpRedis,
    Alias,
    FlaskCookie,
    Importer,
    StarletteCookie,
    StarsessionsRedis,
)


@dataclass
class Shop:
    cart: list[str] = field(default_factory=list[str])


def shop_of(keys: dict[str, Any]) -> Shop | None:
    return Shop(keys["cart"]) if "cart" in keys else None


def number_of(keys: dict[str, Any]) -> int:
    return len(keys)


def user_of(keys: dict[str, Any]) -> str | None:
    return str(keys["user"]) if "user" in keys else None


def a_store_takes_importers_of_its_type(client: Redis) -> None:
    until = datetime.now(UTC) + timedelta(days=30)
    store = StorageOverseer(
        Shop,
        MemoryStorer(),
        imports=[
            StarletteCookie("secret", to=shop_of, user=user_of, until=until),
            FlaskCookie(["new secret", "old secret"], to=shop_of, max_age=timedelta(days=31)),
            AiohttpCookie(b"x" * 32, to=shop_of),
            AiohttpRedis(client, cookie="shop", to=shop_of, timeout=timedelta(seconds=1)),
            StarsessionsRedis(client, to=shop_of, delete=False, clear=False),
            Alias("old"),
            Alias("app", transport=HeaderTransport(), until=until),
        ],
    )
    assert_type(store, StorageOverseer[Shop])
    assert_type(StorageOverseer(Shop, MemoryStorer(), imports=[StarletteCookie("secret")]), StorageOverseer[Shop])
    assert_type(StorageOverseer(Shop, MemoryStorer(), imports=[Alias("old")]), StorageOverseer[Shop])
    held = CookieOverseer(Shop, AESGCMSealer(new_key()), imports=[FlaskCookie("secret", to=shop_of)])
    assert_type(held, CookieOverseer[Shop])


def an_importer_says_of_what() -> None:
    importer = StarletteCookie("secret", to=shop_of)
    assert_type(importer, StarletteCookie[Shop])
    assert_type(StarletteCookie[Shop]("secret"), StarletteCookie[Shop])


def what_another_type_makes_is_refused() -> None:
    number: Importer[int] = StarletteCookie("secret", to=number_of)
    store: StorageOverseer[Shop] = StorageOverseer(  # pyright: ignore[reportAssignmentType]
        Shop,
        MemoryStorer(),
        imports=[number],  # type: ignore[list-item]
    )
    del store


def a_user_is_text() -> None:
    StarletteCookie[Shop]("secret", user=number_of)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def durations_and_moments_are_their_types() -> None:
    StarletteCookie[Shop]("secret", max_age=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StarletteCookie[Shop]("secret", until=5.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Alias("old", until=timedelta(days=3))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StorageOverseer(Shop, MemoryStorer(), imports=["session"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
