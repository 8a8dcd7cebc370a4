"""Sessions that other software left with clients: give its importers to a store as `imports=`."""

from importlib import import_module
from typing import TYPE_CHECKING

from aiosessions.overseers.alias import Alias
from aiosessions.overseers.importer import Importer

if TYPE_CHECKING:
    from aiosessions.migration.aiohttp import AiohttpCookie as AiohttpCookie
    from aiosessions.migration.redis import AiohttpRedis as AiohttpRedis
    from aiosessions.migration.redis import StarsessionsRedis as StarsessionsRedis
    from aiosessions.migration.signed import FlaskCookie as FlaskCookie
    from aiosessions.migration.signed import StarletteCookie as StarletteCookie

__all__ = ["AiohttpCookie", "AiohttpRedis", "Alias", "FlaskCookie", "Importer", "StarletteCookie", "StarsessionsRedis"]

_WHEN_ASKED_FOR = {
    "AiohttpCookie": "aiosessions.migration.aiohttp",
    "AiohttpRedis": "aiosessions.migration.redis",
    "FlaskCookie": "aiosessions.migration.signed",
    "StarletteCookie": "aiosessions.migration.signed",
    "StarsessionsRedis": "aiosessions.migration.redis",
}
"""Each needs a package that only those have who switch from that software."""

if not TYPE_CHECKING:  # to a checker every name would be there

    def __getattr__(name: str) -> object:
        if name in _WHEN_ASKED_FOR:
            return getattr(import_module(_WHEN_ASKED_FOR[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHEN_ASKED_FOR])
