"""Sessions in signed cookies: Starlette's, Flask's and Quart's."""

import hashlib
import zlib
from base64 import b64decode
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, cast

from aiosessions import _base64url
from aiosessions._errors import ConfigError
from aiosessions.migration.envelope import checked, end_of, mapping
from aiosessions.migration.tags import untagged
from aiosessions.overseers.importer import Data, Importer, NotImportedError, Theirs

try:
    from itsdangerous import BadData, TimestampSigner
    from itsdangerous.encoding import base64_decode
except ImportError as _error:
    raise ImportError('itsdangerous is missing: pip install "aiosessions[migration]"') from _error

__all__ = ["FlaskCookie", "StarletteCookie"]

T_co = TypeVar("T_co", covariant=True)
_MOST = 262_144  # bytes that a compressed session may become


class _Secret(Protocol):
    """`starlette.datastructures.Secret`: its `str` is the text."""

    def __bool__(self) -> bool: ...
    def __str__(self) -> str: ...


class StarletteCookie(Importer[T_co]):
    """Sessions of Starlette's `SessionMiddleware`, FastAPI's too: base64 of JSON, signed by itsdangerous.

    Args:
        secret: its `secret_key`: a str, or Starlette's `Secret`. It has no fall-backs.
        cookie: its `session_cookie`.
        path: its `path`: only so the cookie can be cleared.
        domain: its `domain`, likewise.
        max_age: its `max_age`, counted from the signature; None: of any age.
        until: from then on nothing is read; aware.
        to: makes the value of the session's own keys; None: not to be imported. Without it fields are taken by name.
        user: whose session it is; None: nobody's.
        clear: whether their cookie is cleared once our session is stored.

    Raises:
        ConfigError: an argument cannot work; names it and the fix.
    """

    def __init__(
        self,
        secret: str | _Secret,
        *,
        cookie: str = "session",
        path: str = "/",
        domain: str | None = None,
        max_age: timedelta | None = timedelta(days=14),
        until: datetime | None = None,
        to: Callable[[Data], T_co | None] | None = None,
        user: Callable[[Data], str | None] | None = None,
        clear: bool = True,
    ) -> None:
        is_text = isinstance(secret, str) or type(secret).__name__ == "Secret"
        keys = _keys(str(secret)) if is_text else []
        del secret  # a traceback with captured locals shows what is left here
        if not keys:
            raise ConfigError("secret: give the secret_key of Starlette's SessionMiddleware, a str that is not empty")

        self._signer = TimestampSigner(keys)
        del keys  # likewise
        super().__init__(
            cookie=cookie, path=path, domain=domain, max_age=max_age, until=until, to=to, user=user, clear=clear
        )

    def open(self, text: str, *, now: float) -> Theirs:
        """See `Importer.open`."""
        payload, signed_at = _unsigned(self._signer, text)
        ends_at = end_of(signed_at, self.max_age, now)
        try:
            document = b64decode(payload)
        except ValueError:
            raise NotImportedError("malformed") from None
        return Theirs(mapping(document), ends_at)


class FlaskCookie(Importer[T_co]):
    """Sessions of Flask, and of Quart: its JSON with tags, compressed where that is shorter, signed by itsdangerous.

    Tuples, bytes, UUIDs and aware datetimes come as such, `Markup` as str. `_flashes` become flashes, their messages
    and categories as a template would show them; `_permanent` goes.

    Args:
        secret: its `SECRET_KEY`; with `SECRET_KEY_FALLBACKS` a list, newest first.
        cookie: its `SESSION_COOKIE_NAME`.
        path: its `SESSION_COOKIE_PATH`, or else `APPLICATION_ROOT`: only so the cookie can be cleared.
        domain: its `SESSION_COOKIE_DOMAIN`, likewise.
        max_age: its `PERMANENT_SESSION_LIFETIME`, counted from the signature, of sessions that are not permanent too;
            None: of any age.
        until: from then on nothing is read; aware.
        to: makes the value of the session's own keys; None: not to be imported. Without it fields are taken by name.
        user: whose session it is; None: nobody's.
        clear: whether their cookie is cleared once our session is stored.

    Raises:
        ConfigError: an argument cannot work; names it and the fix.
    """

    def __init__(
        self,
        secret: str | bytes | Sequence[str | bytes],
        *,
        cookie: str = "session",
        path: str = "/",
        domain: str | None = None,
        max_age: timedelta | None = timedelta(days=31),
        until: datetime | None = None,
        to: Callable[[Data], T_co | None] | None = None,
        user: Callable[[Data], str | None] | None = None,
        clear: bool = True,
    ) -> None:
        keys = _keys(secret)
        del secret  # a traceback with captured locals shows what is left here
        if not keys:
            raise ConfigError("secret: give Flask's SECRET_KEY, str or bytes, or a list of them; none may be empty")

        keys.reverse()  # the last one is tried first
        self._signer = TimestampSigner(
            keys, salt=b"cookie-session", key_derivation="hmac", digest_method=hashlib.sha1
        )  # flask.sessions.SecureCookieSessionInterface
        del keys  # likewise
        super().__init__(
            cookie=cookie, path=path, domain=domain, max_age=max_age, until=until, to=to, user=user, clear=clear
        )

    def open(self, text: str, *, now: float) -> Theirs:
        """See `Importer.open`."""
        payload, signed_at = _unsigned(self._signer, text)
        ends_at = end_of(signed_at, self.max_age, now)
        data = mapping(_inflated(payload), untagged)
        data.pop("_permanent", None)
        return Theirs(data, ends_at, _shown(data.pop("_flashes", [])))


def _keys(secret: object) -> list[bytes]:
    """The bytes of each; none at all where one is empty, or is no secret."""
    several = isinstance(secret, Sequence) and not isinstance(secret, str | bytes)
    items = list(cast("Sequence[object]", secret if several else (secret,)))
    keys = [item.encode("utf-8", "replace") if isinstance(item, str) else item for item in items]
    usable = [key for key in keys if isinstance(key, bytes) and key]
    return usable if len(usable) == len(items) else []


def _unsigned(signer: TimestampSigner, text: str) -> tuple[bytes, float]:
    """What was signed, and when in unix seconds."""
    signature = checked(text).rpartition(".")[2]
    if _base64url.decode(signature) is None:  # itsdangerous takes other spellings of it as well
        raise NotImportedError("forged")

    try:
        payload, signed_at = signer.unsign(text, return_timestamp=True)
    except BadData:
        raise NotImportedError("forged") from None
    except (ValueError, OverflowError, OSError):  # a time that is none
        raise NotImportedError("malformed") from None
    return payload, signed_at.timestamp()


def _inflated(payload: bytes) -> bytes:
    """The JSON, which a dot says is compressed; at most a quarter of a megabyte of it."""
    try:
        data = base64_decode(payload.removeprefix(b"."))
        if not payload.startswith(b"."):
            return data
        inflater = zlib.decompressobj()
        data = inflater.decompress(data, _MOST)
    except (BadData, zlib.error):
        raise NotImportedError("malformed") from None
    if not inflater.eof:  # cut off, or more than that
        raise NotImportedError("malformed")
    return data


def _shown(flashes: object) -> tuple[tuple[str, str], ...]:
    """Text and category of each message, which Flask keeps the other way round, and which need not be text."""
    try:
        pairs = [(str(message), str(category)) for category, message in cast("Any", flashes)]  # Any: whatever it is
    except (TypeError, ValueError):
        raise NotImportedError("malformed") from None
    return tuple(pairs)
