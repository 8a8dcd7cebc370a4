"""A socket that counts messages, and a stream that reads, in Litestar. `uvicorn examples.litestar_live:app`"""

from typing import Any

import anyio
from litestar import Litestar, WebSocket, get, post, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.response import Stream

from aiosessions import MemoryStorer, Session, StorageOverseer, session_ended
from aiosessions.litestar import SessionPlugin
from examples.live import Live, count, newest

store = StorageOverseer(Live, MemoryStorer())
LiveSession = NamedDependency[Session[Live]]


@post("/login")
async def login(live: LiveSession) -> None:
    live.set_user("ann")


@post("/logout")
async def logout(live: LiveSession) -> None:
    live.destroy()


@websocket("/socket")
async def socket(socket: WebSocket[Any, Any, Any], live: LiveSession) -> None:
    live.require_user()
    await socket.accept()

    async def answer() -> None:
        try:
            while True:
                await socket.receive_text()
                value = await store.update(live, count)
                await socket.send_text(str(value.messages))
        except WebSocketDisconnect:
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await session_ended(store, live)
        await socket.close(4401)
        tasks.cancel_scope.cancel()


@get("/stream")
async def stream(live: LiveSession) -> Stream:
    live.require_user()
    return Stream(newest(store, live, 3), media_type="text/event-stream")


app = Litestar([login, logout, socket, stream], plugins=[SessionPlugin(live=store)])
