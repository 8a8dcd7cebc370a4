"""A TCP proxy on loopback between a client and a real server: counts, loses answers, delays, hangs up.

    async with Proxy("127.0.0.1", server_port) as proxy:
        client = Client(port=proxy.port)
        ...
        assert proxy.tally.round_trips == 1

For asyncio and uvloop, like the drivers it stands before.
"""

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["Proxy", "Tally"]


class Tally:
    """What went over the wire; several proxies may share one (a cluster's nodes).

    Attributes:
        round_trips: requests that got, or wait for, an answer. What a client sends before it reads is one: a pipeline.
        waves: round trips one after the other: a request that starts while another is under way adds none.
    """

    def __init__(self) -> None:
        self.round_trips = 0
        self.waves = 0
        self._under_way = 0

    def reset(self) -> None:
        """Count from zero again."""
        self.round_trips = self.waves = 0

    def asked(self) -> None:
        self.round_trips += 1
        if not self._under_way:
            self.waves += 1
        self._under_way += 1

    def answered(self) -> None:
        self._under_way -= 1


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes on what comes, both ways.

    Args:
        host: of the server.
        port: of the server; may be changed while the proxy runs.
        tally: where to count; None: in one of its own.
    """

    def __init__(self, host: str, port: int, *, tally: Tally | None = None) -> None:
        self.server_host = host
        self.server_port = port
        self.tally = tally or Tally()
        self.port = 0
        self.delay = 0.0
        """Seconds that each answer is held back."""
        self.silent = False
        """While true, answers are swallowed and connections stay open: a server that hangs."""
        self.dropped = 0
        """How many answers `drop_answers` has lost so far."""
        self._to_drop = 0
        self._drop_to = b""
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    @property
    def round_trips(self) -> int:
        """See `Tally`."""
        return self.tally.round_trips

    def drop_answers(self, number: int = 1, *, to: bytes = b"") -> None:
        """Lose the next *number* answers: the server has done its work, the client gets a closed connection.

        Args:
            number: how many.
            to: only answers to requests that contain these bytes.
        """
        self._to_drop, self._drop_to = number, to

    def cut(self) -> None:
        """Close every connection at once, whatever is under way."""
        for line in list(self._lines):
            line.cut()

    def drops(self, request: bytes) -> bool:
        """Whether the answer to *request* is one to lose; counts it."""
        if not self._to_drop or self._drop_to not in request:
            return False
        self._to_drop -= 1
        self.dropped += 1
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there = await asyncio.open_connection(self.server_host, self.server_port)
        except OSError:
            writer.transport.abort()
            return

        line = _Line(self, (reader, writer), there)
        self._lines.add(line)
        try:
            await line.run()
        finally:
            self._lines.discard(line)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Line:
    """One connection and its way back."""

    def __init__(self, proxy: Proxy, client: _Streams, server: _Streams) -> None:
        self._proxy = proxy
        self._client_reader, self._client_writer = client
        self._server_reader, self._server_writer = server
        self._request = b""
        self._waiting = False

    async def run(self) -> None:
        try:
            await asyncio.gather(self._ask(), self._answer())
        except OSError:
            pass
        finally:
            self._answered()
            self.cut()

    def cut(self) -> None:
        self._client_writer.transport.abort()
        self._server_writer.transport.abort()

    def _answered(self) -> None:
        if self._waiting:
            self._waiting = False
            self._proxy.tally.answered()

    async def _ask(self) -> None:
        while data := await self._client_reader.read(65536):
            if self._waiting:
                self._request += data
            else:
                self._waiting = True
                self._request = data
                self._proxy.tally.asked()
            if self._server_writer.is_closing():
                break
            self._server_writer.write(data)
            await self._server_writer.drain()
        self.cut()

    async def _answer(self) -> None:
        while data := await self._server_reader.read(65536):
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            if self._proxy.silent:
                continue
            if self._waiting and self._proxy.drops(self._request):
                break
            if self._client_writer.is_closing():
                break
            self._answered()
            self._client_writer.write(data)
            await self._client_writer.drain()
        self.cut()
