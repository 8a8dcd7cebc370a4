"""A socket that counts messages, and a stream that reads, in Starlette. `uvicorn examples.starlette_live:app`"""

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from aiosessions import MemoryStorer, StorageOverseer, session_ended
from aiosessions.asgi import SessionMiddleware
from examples.live import Live, count, newest

store = StorageOverseer(Live, MemoryStorer())


async def login(request: Request) -> Response:
    (await store.get(request)).set_user("ann")
    return Response()


async def logout(request: Request) -> Response:
    (await store.get(request)).destroy()
    return Response()


async def socket(websocket: WebSocket) -> None:
    session = await store.require(websocket)
    await websocket.accept()

    async def answer() -> None:
        try:
            async for _ in websocket.iter_text():
                value = await store.update(session, count)
                await websocket.send_text(str(value.messages))
        except WebSocketDisconnect:
            pass
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await session_ended(store, session)
        await websocket.close(4401)
        tasks.cancel_scope.cancel()


async def stream(request: Request) -> Response:
    session = await store.require(request)
    return StreamingResponse(newest(store, session, 3), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
        WebSocketRoute("/socket", socket),
        Route("/stream", stream),
    ],
    middleware=[Middleware(SessionMiddleware, stores=[store])],
)
