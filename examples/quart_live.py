"""A socket that counts messages, and a stream that reads, in Quart. `hypercorn examples.quart_live:app`"""

import anyio
from quart import Quart, Response, request, websocket

from aiosessions import MemoryStorer, StorageOverseer, session_ended
from aiosessions.quart import init_app
from examples.live import Live, count, newest

store = StorageOverseer(Live, MemoryStorer())
app = Quart(__name__)
init_app(app, store)


@app.post("/login")
async def login() -> str:
    (await store.get(request)).set_user("ann")
    return ""


@app.post("/logout")
async def logout() -> str:
    (await store.get(request)).destroy()
    return ""


@app.websocket("/socket")
async def socket() -> None:
    session = await store.require(websocket)
    await websocket.accept()  # pyright: ignore[reportUnknownMemberType]  # Quart leaves a type open

    async def answer() -> None:
        while True:
            await websocket.receive()
            value = await store.update(session, count)
            await websocket.send(str(value.messages))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await session_ended(store, session)
        await websocket.close(4401)
        tasks.cancel_scope.cancel()


@app.get("/stream")
async def stream() -> Response:
    session = await store.require(request)
    return Response(newest(store, session, 3), content_type="text/event-stream")
