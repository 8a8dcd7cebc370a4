"""What runs with an application: its stores are opened before it starts, and closed after it has stopped."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from aiosessions._events import logger

# Any: what ASGI hands around, here and below
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]


class Lifespan:
    """Opens the stores before the application starts and closes them after it has stopped."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._stores = AsyncExitStack()
        self._is_known = False  # the application has a lifespan of its own

    async def run(self, app: ASGIApp, scope: Any, stores: Sequence[AbstractAsyncContextManager[Any]]) -> None:
        async with self._stores:
            try:
                for store in stores:
                    await self._stores.enter_async_context(store)
            except Exception as error:
                logger.exception("a session store could not be opened")
                await self._receive()
                # servers take an exception alone for "has no lifespan", and go on; test clients wait for one after this
                await self._tell({"type": "lifespan.startup.failed", "message": str(error)})
                raise

            try:
                await app(scope, self._listen, self._tell)
            except Exception:
                if self._is_known:
                    raise
            if not self._is_known:
                await self._stand_in()

    async def _listen(self) -> Any:
        self._is_known = True
        return await self._receive()

    async def _tell(self, message: Any) -> None:
        self._is_known = True
        if message["type"] != "lifespan.startup.complete":
            await self._stores.aclose()  # the server may be gone once it has been told
        await self._send(message)

    async def _stand_in(self) -> None:
        await self._receive()
        await self._tell({"type": "lifespan.startup.complete"})
        await self._receive()
        await self._tell({"type": "lifespan.shutdown.complete"})
