"""Web sessions for asyncio Python: typed, race-proof, safe by default."""

from importlib import import_module
from typing import TYPE_CHECKING

from aiosessions._errors import (
    ConfigError,
    ConflictError,
    DecodeError,
    EncodeError,
    KeyExistsError,
    NoKeyError,
    NoSessionError,
    NotAuthenticatedError,
    ReauthenticationError,
    ResponseStartedError,
    SessionError,
    SessionTooLargeError,
    StorerError,
    UnsavedSessionWarning,
    UnsupportedError,
)
from aiosessions._events import Event
from aiosessions._exchange import Exchange
from aiosessions._flashes import Flash, JSONValue
from aiosessions._lifetime import Lifetime
from aiosessions._mapping_session import MappingSession
from aiosessions._session import Session
from aiosessions._store import Request as Request
from aiosessions._store import Response as Response
from aiosessions._store import SessionInfo, Store
from aiosessions._views import RequestView, ResponseView
from aiosessions.overseers.cookie import CookieOverseer
from aiosessions.overseers.session_ended import session_ended
from aiosessions.overseers.storage import StorageOverseer
from aiosessions.sealers.aesgcm import AESGCMSealer
from aiosessions.sealers.hmac import HMACSealer
from aiosessions.sealers.jwt import JWTSealer
from aiosessions.sealers.keys import Key, new_key
from aiosessions.sealers.sealer import Claims, Expiring, Resealing, Sealer
from aiosessions.storers.cleaner import Cleaner
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.memory import MemoryStorer
from aiosessions.storers.registry import storer_from_url
from aiosessions.storers.storer import Cleanable, Durable, Listable, Openable, Record, Storer, UserIndexed
from aiosessions.transports.cookies import CookieOptions, CookieTransport
from aiosessions.transports.headers import HeaderTransport
from aiosessions.transports.transport import Carried, HTTPSOnly, Transport
from aiosessions.values.codecs import Codec, JSONCodec, MessagePackCodec, PydanticCodec
from aiosessions.values.merge import Merge

if TYPE_CHECKING:
    from aiosessions.storers.encrypted import EncryptedStorer as EncryptedStorer
    from aiosessions.storers.memcached import MemcachedStorer as MemcachedStorer
    from aiosessions.storers.postgres import PostgresStorer as PostgresStorer
    from aiosessions.storers.redis import RedisStorer as RedisStorer
    from aiosessions.storers.sqlite import SQLiteStorer as SQLiteStorer

__all__ = [
    "AESGCMSealer",
    "Carried",
    "Claims",
    "Cleanable",
    "Cleaner",
    "Codec",
    "ConfigError",
    "ConflictError",
    "CookieOptions",
    "CookieOverseer",
    "CookieTransport",
    "DecodeError",
    "DiskStorer",
    "Durable",
    "EncodeError",
    "Event",
    "Exchange",
    "Expiring",
    "Flash",
    "HMACSealer",
    "HTTPSOnly",
    "HeaderTransport",
    "JSONCodec",
    "JSONValue",
    "JWTSealer",
    "Key",
    "KeyExistsError",
    "Lifetime",
    "Listable",
    "MappingSession",
    "MemoryStorer",
    "Merge",
    "MessagePackCodec",
    "NoKeyError",
    "NoSessionError",
    "NotAuthenticatedError",
    "Openable",
    "PydanticCodec",
    "ReauthenticationError",
    "Record",
    "RequestView",
    "Resealing",
    "ResponseStartedError",
    "ResponseView",
    "Sealer",
    "Session",
    "SessionError",
    "SessionInfo",
    "SessionTooLargeError",
    "StorageOverseer",
    "Store",
    "Storer",
    "StorerError",
    "Transport",
    "UnsavedSessionWarning",
    "UnsupportedError",
    "UserIndexed",
    "new_key",
    "session_ended",
    "storer_from_url",
]

__version__: str
_WHEN_ASKED_FOR = {
    "EncryptedStorer": "aiosessions.storers.encrypted",
    "MemcachedStorer": "aiosessions.storers.memcached",
    "PostgresStorer": "aiosessions.storers.postgres",
    "RedisStorer": "aiosessions.storers.redis",
    "SQLiteStorer": "aiosessions.storers.sqlite",
}
"""What needs a module that not everybody has (drivers, and Python may be built without sqlite3), or that few need."""

if not TYPE_CHECKING:  # to a checker every name would be there

    def __getattr__(name: str) -> object:
        if name in _WHEN_ASKED_FOR:
            return getattr(import_module(_WHEN_ASKED_FOR[name]), name)
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 -- slow, and rarely asked for

            return version("aiosessions")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHEN_ASKED_FOR, "__version__"])


for _name in (*__all__, "Request", "Response"):  # so that errors and help say what users import
    _public = globals()[_name]
    if isinstance(_public, type) or hasattr(_public, "__code__"):
        _public.__module__ = __name__
