"""For those who test applications: a browser, a user who is signed in, a clock. Needs no pytest.

For those who write storers and sealers: `aiosessions.testing.suites`.
"""

from aiosessions.testing.browser import Browser
from aiosessions.testing.clock import Clock
from aiosessions.testing.jar import Cookie, CookieJar
from aiosessions.testing.response import (
    HandshakeDeniedError,
    Headers,
    LifespanError,
    Response,
    Stream,
    WebSocket,
    WebSocketClosedError,
)
from aiosessions.testing.sign_in import Credentials, signed_in

__all__ = [
    "Browser",
    "Clock",
    "Cookie",
    "CookieJar",
    "Credentials",
    "HandshakeDeniedError",
    "Headers",
    "LifespanError",
    "Response",
    "Stream",
    "WebSocket",
    "WebSocketClosedError",
    "signed_in",
]
