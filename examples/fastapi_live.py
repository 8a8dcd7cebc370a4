"""A socket that counts messages, and a stream that reads, in FastAPI. `uvicorn examples.fastapi_live:app`"""

from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from aiosessions import MemoryStorer, Session, StorageOverseer, session_ended
from aiosessions.asgi import SessionMiddleware
from aiosessions.fastapi import session_of
from examples.live import Live, count, newest

store = StorageOverseer(Live, MemoryStorer())
app = FastAPI()
app.add_middleware(SessionMiddleware, stores=[store])

AnySession = Annotated[Session[Live], Depends(session_of(store))]
UserSession = Annotated[Session[Live], Depends(session_of(store, user=True))]


@app.post("/login")
async def login(session: AnySession) -> None:
    session.set_user("ann")


@app.post("/logout")
async def logout(session: AnySession) -> None:
    session.destroy()


@app.websocket("/socket")
async def socket(websocket: WebSocket, session: UserSession) -> None:
    await websocket.accept()

    async def answer() -> None:
        async for _ in websocket.iter_text():
            value = await store.update(session, count)
            await websocket.send_text(str(value.messages))
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await session_ended(store, session)
        await websocket.close(4401)
        tasks.cancel_scope.cancel()


@app.get("/stream")
async def stream(session: UserSession) -> StreamingResponse:
    return StreamingResponse(newest(store, session, 3), media_type="text/event-stream")
