"""Web sessions for asyncio Python: typed, race-proof, safe by default."""

from aiosessions._cleaner import Cleaner
from aiosessions._codecs import Codec, JSONCodec, MessagePackCodec, PydanticCodec
from aiosessions._cookie_overseer import CookieOverseer
from aiosessions._cookies import CookieOptions, CookieTransport
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
from aiosessions._lifetime import Lifetime
from aiosessions._marks import Flash, JSONValue
from aiosessions._merge import Merge
from aiosessions._messages import RequestView, ResponseView
from aiosessions._sealer import Claims, Key, Sealer, new_key
from aiosessions._session import Session
from aiosessions._session_ended import session_ended
from aiosessions._storage_overseer import StorageOverseer
from aiosessions._store import Request, Response, SessionInfo, Store
from aiosessions._storer import Cleanable, Listable, Openable, Record, Storer, UserIndexed
from aiosessions._transports import Carried, HeaderTransport, Transport
from aiosessions._urls import storer_from_url
from aiosessions.sealers.aesgcm import AESGCMSealer
from aiosessions.sealers.hmac import HMACSealer
from aiosessions.sealers.jwt import JWTSealer
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.memory import MemoryStorer

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
    "EncodeError",
    "Event",
    "Flash",
    "HMACSealer",
    "HeaderTransport",
    "JSONCodec",
    "JSONValue",
    "JWTSealer",
    "Key",
    "KeyExistsError",
    "Lifetime",
    "Listable",
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
    "Request",
    "RequestView",
    "Response",
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
