"""`session_of` is a dependency that gives sessions of the store's type."""

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, Request, WebSocket

from aiosessions import MappingSession, Session, Store
from aiosessions.asgi import SessionMiddleware
from aiosessions.fastapi import SessionOf, session_of
from tests.typing.stores import AppData, Other


def a_dependency_has_the_type_of_its_store(store: Store[AppData], app: FastAPI) -> None:
    app.add_middleware(SessionMiddleware, stores=[store])
    current = session_of(store)
    member = session_of(store, "members", user=True)
    assert_type(current, SessionOf[AppData])

    @app.get("/")
    async def page(session: Annotated[Session[AppData], Depends(current)]) -> list[int]:
        return session.value.cart

    @app.websocket("/live")
    async def live(socket: WebSocket, session: Annotated[Session[AppData], Depends(member)]) -> None:
        await socket.send_json(session.value.cart)

    app.dependency_overrides[current] = page
    del page, live


async def what_it_gives_has_it_too(
    store: Store[AppData], counts: Store[dict[str, int]], request: Request, socket: WebSocket
) -> None:
    """V6: type checkers agree."""
    assert_type(await session_of(store)(request), Session[AppData])
    assert_type(session_of(counts), SessionOf[dict[str, int]])
    assert_type(await session_of(counts, user=True)(socket), MappingSession[int])


def a_store_of_another_type_is_another_dependency(store: Store[AppData]) -> None:
    other: SessionOf[Other] = session_of(store)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    session_of(AppData)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    del other
