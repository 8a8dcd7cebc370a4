"""Requests per second through uvicorn over loopback: each application in a process of its own, clients in this one."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import cast

from tests.benchmarks.measure import Effort
from tests.benchmarks.served import NAMES
from tests.benchmarks.table import Table
from tests.servers import valkey

__all__ = ["http"]

_ROOT = Path(__file__).parents[2]
_CONNECTIONS = 50
_SECONDS = 0.5  # of one turn
_END = b"\r\n\r\nok"  # of every response here
_DEADLINE = 30.0  # seconds that an application may take to start

_Address = tuple[str, int]


async def http(effort: Effort) -> list[Table]:
    """Applications take turns; the best turn of each counts."""
    rows: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    with ExitStack() as stack:
        server = stack.enter_context(valkey())
        requests: dict[tuple[str, str], tuple[_Address, list[bytes]]] = {}
        for name in NAMES:
            address = stack.enter_context(_served(name, server.port))
            for action in ("read", "write"):
                clients = [await _signed_in(address, action) for _ in range(_CONNECTIONS)]
                requests[name, action] = address, clients

        for _ in range(effort.rounds):
            for (name, action), (address, clients) in requests.items():
                rate = await _rate(address, clients, _SECONDS * effort.share)
                rows[name][action] = max(rate, rows[name].get(action, 0.0))
    note = f"{_CONNECTIONS} connections; server, clients and Valkey share this machine."
    return [Table("Over HTTP: requests per second", ("read", "write"), rows, note=note)]


@contextmanager
def _served(name: str, valkey_port: int) -> Generator[_Address]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        address: _Address = listener.getsockname()
        command = [sys.executable, "-m", "tests.benchmarks.served", name, str(listener.fileno()), str(valkey_port)]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], env=environment)
    try:
        yield address
    finally:
        process.kill()
        process.wait()


async def _signed_in(address: _Address, action: str) -> bytes:
    """The request for a page that a client sends which has been here before."""
    async with asyncio.timeout(_DEADLINE):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(_request("write", b"other=1"))
        head, _ = (await reader.readuntil(_END)).split(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    found = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    cookies = [value.partition(b";")[0] for field, value in found if field.lower() == b"set-cookie"]
    return _request(action, b"; ".join(cookies or [b"other=1"]))


def _request(action: str, cookie: bytes) -> bytes:
    """What a proxy passes on."""
    fields = (
        b"host: shop.example",
        b"user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        b"accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        b"x-forwarded-proto: https",
        b"cookie: " + cookie,
    )
    return b"GET /%b HTTP/1.1\r\n%b\r\n\r\n" % (action.encode(), b"\r\n".join(fields))


class _Client(asyncio.Protocol):
    """Asks again as soon as it is answered, until it is to stop."""

    def __init__(self, request: bytes) -> None:
        self.answered = 0
        self.stopping = False
        self.failure = ""
        self._request = request
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from none of asyncio's
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._data.endswith(_END):
            return
        if not self._data.startswith(b"HTTP/1.1 200 "):
            self.failure = repr(self._data[:40])

        self._data = b""
        self.answered += 1
        if self.stopping or self.failure:
            self._transport.close()
        else:
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.stopping:
            self.failure = self.failure or f"the server hung up: {exc}"


async def _rate(address: _Address, requests: list[bytes], seconds: float) -> float:
    loop = asyncio.get_running_loop()
    start = perf_counter()
    made = [await loop.create_connection(partial(_Client, request), *address) for request in requests]
    await asyncio.sleep(seconds)
    took = perf_counter() - start
    clients = [client for _, client in made]
    answered = sum(client.answered for client in clients)
    for client in clients:
        client.stopping = True
    failures = {client.failure for client in clients} - {""}
    assert not failures, f"{address}: {failures}"
    return answered / took
