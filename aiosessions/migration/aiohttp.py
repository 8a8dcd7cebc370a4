"""Sessions of aiohttp-session in encrypted cookies."""

import logging
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from cryptography.fernet import Fernet, InvalidToken

from aiosessions._errors import ConfigError
from aiosessions.migration.envelope import checked, end_of, spelled, unwrapped
from aiosessions.overseers.importer import Data, Importer, NotImportedError, Theirs, earlier

if TYPE_CHECKING:
    from nacl.secret import SecretBox

__all__ = ["AiohttpCookie"]

T_co = TypeVar("T_co", covariant=True)
_KEY = 32  # bytes, of Fernet and of NaCl
_log = logging.getLogger("aiosessions.migration.aiohttp")


class AiohttpCookie(Importer[T_co]):
    """Sessions of aiohttp-session's `EncryptedCookieStorage` (Fernet) and `NaClCookieStorage` (needs PyNaCl).

    A token that begins with Fernet's version byte is tried as one, and each other, or one that Fernet does not open,
    with NaCl.

    Args:
        key: the storage's `secret_key`: 32 bytes; for `EncryptedCookieStorage` also their base64url text, or a
            `Fernet`. It has no fall-backs.
        cookie: its `cookie_name`.
        path: its `path`: only so the cookie can be cleared.
        domain: its `domain`, likewise.
        max_age: its `max_age`, counted from the signature (Fernet) and from the `created` that aiohttp-session keeps;
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
        key: str | bytes | bytearray | Fernet,
        *,
        cookie: str = "AIOHTTP_SESSION",
        path: str = "/",
        domain: str | None = None,
        max_age: timedelta | None = None,
        until: datetime | None = None,
        to: Callable[[Data], T_co | None] | None = None,
        user: Callable[[Data], str | None] | None = None,
        clear: bool = True,
    ) -> None:
        fernet = _fernet(key)
        self._box = _box(key)
        del key  # a traceback with captured locals shows what is left here
        if fernet is None:
            raise ConfigError(
                "key: give the secret_key of aiohttp-session's storage: 32 bytes, or their base64url text"
            )

        self._fernet = fernet
        super().__init__(
            cookie=cookie, path=path, domain=domain, max_age=max_age, until=until, to=to, user=user, clear=clear
        )

    def open(self, text: str, *, now: float) -> Theirs:
        """See `Importer.open`."""
        content, signed_at = self._decrypted(checked(text))
        signature_ends_at = None if signed_at is None else end_of(signed_at, self.max_age, now)
        data, ends_at = unwrapped(content, self.max_age, now)
        return Theirs(data, earlier(signature_ends_at, ends_at))

    def _decrypted(self, text: str) -> tuple[bytes, float | None]:
        """What it says, and when it was signed, unix seconds; None: it does not say."""
        if spelled(text, b"-_") is not None:
            try:
                return self._fernet.decrypt(text), self._fernet.extract_timestamp(text)
            except InvalidToken:  # at its first byte mostly; one nonce of NaCl in 256 begins like Fernet
                pass

        raw = spelled(text)
        if raw is not None and self._box is not None:
            from nacl.exceptions import CryptoError  # noqa: PLC0415  # see _box

            try:
                return self._box.decrypt(raw), None
            except CryptoError:
                pass
        raise NotImportedError("forged")


def _fernet(key: object) -> Fernet | None:
    if isinstance(key, Fernet):
        return key
    if isinstance(key, bytes | bytearray):
        key = urlsafe_b64encode(key)
    try:
        return Fernet(key) if isinstance(key, str | bytes) else None
    except ValueError:
        return None


def _box(key: object) -> "SecretBox | None":
    """What opens a cookie of NaCl; None: there cannot be one under such a key, or PyNaCl is not here."""
    if not isinstance(key, bytes | bytearray) or len(key) != _KEY:
        return None

    try:
        from nacl.secret import SecretBox  # noqa: PLC0415  # with Fernet it need not be installed
    except ImportError:
        _log.warning(
            "PyNaCl is missing, so that no cookie of NaClCookieStorage is imported: if there may be any, "
            'pip install "aiosessions[migration]"; if all are of EncryptedCookieStorage, give the key as base64url text'
        )
        return None
    return SecretBox(bytes(key))
