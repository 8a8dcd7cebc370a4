"""A store that cannot be opened makes a server end: real processes, as an operator starts them."""

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.integrations.stage import ASYNCIO, Backend

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
SECONDS = 60
"""What no start takes: a server that runs on is a failure."""


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


@pytest.mark.parametrize(
    ("server", "app"),
    [
        ("uvicorn --port 0", "starlette_app"),
        ("uvicorn --port 0", "litestar_app"),
        ("hypercorn --bind 127.0.0.1:0 --worker-class trio", "starlette_app"),
        ("hypercorn --bind 127.0.0.1:0", "quart_app"),
    ],
)
async def test_a_server_does_not_start_without_its_store(server: str, app: str) -> None:
    """R16: it says why, and ends."""
    command = [sys.executable, "-m", *server.split(), f"tests.integrations.unopened:{app}"]
    with anyio.fail_after(SECONDS):
        done = await anyio.run_process(command, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    said = done.stdout.decode()
    assert "no backend at host:1" in said
    assert done.returncode == (3 if "uvicorn" in server else 0)  # hypercorn says it with words only
