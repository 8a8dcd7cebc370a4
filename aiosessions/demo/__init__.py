"""A small shop to try the library with: `aiosessions demo`, and `aiosessions demo --check`."""

import os
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import anyio

__all__ = ["main"]


def main(*, check: bool = False, host: str = "127.0.0.1", port: int = 8000) -> int:
    """Serve the shop, or visit it once and report.

    Args:
        check: bind a free port, visit the shop over real HTTP, print a transcript and end.
        host: the address to listen on.
        port: the port to listen on.

    Returns:
        The exit code: 0, or 1 if a step of the visit did not hold.

    Raises:
        ImportError: what the extra `demo` installs is missing.
    """
    missing = [name for name in ("httpx", "python_multipart", "starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ImportError(f'{", ".join(missing)} not found: install it with `pip install "aiosessions[demo]"`')

    if check:
        from aiosessions.demo.check import check as visit

        with tempfile.TemporaryDirectory() as temporary:
            return anyio.run(visit, Path(temporary))

    from aiosessions.demo.narrator import Notes
    from aiosessions.demo.server import make_server

    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "aiosessions-demo"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def bound(port: int) -> None:
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"the shop is at {where}, its sessions in {folder}; log in as ann with the password tea", flush=True)

    def tell(notes: Notes) -> None:
        print(notes.line(), file=sys.stderr)

    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has closed all
        anyio.run(make_server(folder, host, port, tell=tell, bound=bound).serve)
    return 0
