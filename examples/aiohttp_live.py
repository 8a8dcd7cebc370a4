"""A socket that counts messages, and a stream that reads. `python -m aiohttp.web examples.aiohttp_live:make_app`"""

from collections.abc import Sequence

import anyio
from aiohttp import WSMsgType, web

from aiosessions import MemoryStorer, StorageOverseer, session_ended
from aiosessions.aiohttp import setup
from examples.live import Live, count, newest

store = StorageOverseer(Live, MemoryStorer())
routes = web.RouteTableDef()


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    (await store.get(request)).set_user("ann")
    return web.Response()


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    (await store.get(request)).destroy()
    return web.Response()


@routes.get("/socket")
async def socket(request: web.Request) -> web.WebSocketResponse:
    session = await store.require(request)
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)

    async def answer() -> None:
        async for message in websocket:
            if message.type is WSMsgType.TEXT:
                value = await store.update(session, count)
                await websocket.send_str(str(value.messages))
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await session_ended(store, session)
        tasks.cancel_scope.cancel()
    await websocket.close(code=4401)
    return websocket


@routes.get("/stream")
async def stream(request: web.Request) -> web.StreamResponse:
    session = await store.require(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for event in newest(store, session, 3):
        await response.write(event.encode())
    return response


def make_app(_: Sequence[str] = ()) -> web.Application:
    app = web.Application()
    setup(app, store)
    app.add_routes(routes)
    return app
