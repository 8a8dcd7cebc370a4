"""What docs/proxy.md says of nginx, asked of nginx itself: its configuration, and what each of its points is for."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.servers import free_port, until
from tests.test_readme import PAGES

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
PAGE = PAGES["docs/proxy.md"]
[SERVER] = re.findall(r"^```nginx\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
MAIN = """\
daemon off;
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    scgi_temp_path {folder};
    uwsgi_temp_path {folder};
    {server}
}}
"""
APP = """
import secrets

from fastapi import FastAPI, Request, WebSocket

from aiosessions import AESGCMSealer, CookieOptions, CookieOverseer, CookieTransport, new_key
from aiosessions.asgi import SessionMiddleware

cookies = CookieTransport(CookieOptions(max_bytes=6144))
store = CookieOverseer(dict[str, str], AESGCMSealer(new_key()), transport=cookies)
app = FastAPI()
app.add_middleware(SessionMiddleware, stores=[store], origins=[])


@app.post("/")
async def fill(request: Request) -> None:
    (await store.get(request))["large"] = secrets.token_urlsafe(3000)


@app.websocket("/")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def answers(url: str) -> bool:
    try:
        return bool(httpx.get(url, trust_env=False))
    except httpx.ConnectError:
        return False


@contextmanager
def running(command: list[str], folder: Path, url: str) -> Generator[None]:
    with subprocess.Popen(command, cwd=folder) as server:
        try:
            until(lambda: answers(f"{url}/docs"), f"the start of {command[0]}")
            yield
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """An application whose cookies are larger than a page of memory."""
    folder, port = tmp_path_factory.mktemp("upstream"), free_port()
    (folder / "app.py").write_text(APP, encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "error"]
    with running(command, folder, f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx(upstream: str, folder: Path, without: str = "$^") -> Generator[str]:
    """The page's configuration, over plain http and but for what matches *without*; gives its address."""
    assert NGINX is not None
    port = free_port()
    lines = [line for line in SERVER.splitlines() if not re.search(rf"ssl_|{without}", line)]
    server = "\n".join(lines).replace("443 ssl", f"127.0.0.1:{port}").replace("http://127.0.0.1:8000", upstream)
    assert (upstream in server, str(port) in server) == (True, True)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, server=server), encoding="utf-8")
    with running([NGINX, "-c", str(folder / "nginx.conf")], folder, f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


def fill(url: str) -> httpx.Response:
    """What a page of the application's own sends."""
    return httpx.post(url, headers={"Origin": url}, trust_env=False)


def hears(url: str) -> str | bytes:
    with connect(url.replace("http", "ws", 1), origin=Origin(url), proxy=None) as socket:
        return socket.recv(timeout=10)


def test_the_page_is_enough(upstream: str, tmp_path: Path) -> None:
    with nginx(upstream, tmp_path) as url:
        response = fill(url)
        assert response.status_code == 200
        assert sum(map(len, response.headers.get_list("set-cookie"))) > 4096
        assert hears(url) == "hello"
        long = httpx.get(f"{url}/docs", headers={"Cookie": f"a={'a' * 9000}"}, trust_env=False)
        assert long.status_code == 400


def test_without_the_host_own_pages_are_refused(upstream: str, tmp_path: Path) -> None:
    with nginx(upstream, tmp_path, without="Host") as url:
        assert fill(url).status_code == 403


def test_without_its_headers_no_websocket(upstream: str, tmp_path: Path) -> None:
    with nginx(upstream, tmp_path, without="header (Upgrade|Connection)") as url, pytest.raises(InvalidStatus):
        hears(url)


def test_without_the_buffer_a_502(upstream: str, tmp_path: Path) -> None:
    with nginx(upstream, tmp_path, without="proxy_buffer") as url:
        assert fill(url).status_code == 502
    [said] = re.findall(r"`(upstream sent .*?)`", PAGE)
    assert said in (tmp_path / "log").read_text(encoding="utf-8")
