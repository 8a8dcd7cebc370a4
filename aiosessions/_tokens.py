"""The token of a StorageOverseer: 24 characters that find the record, 40 that prove the right to it.

48 bytes from the operating system's random source, base64url, 64 characters (ASVS 5 7.2.2, 7.2.3). Handle and secret
are slices of one text with one spelling. The record keeps a digest of the secret and never the secret itself (ASVS 5
6.5.2): a stolen database opens no session.
"""

import hashlib
import os
from typing import ClassVar

from aiosessions import _base64url
from aiosessions._discreet import Discreet

TOKEN_LENGTH = 64
_HANDLE = 24  # characters: 144 bits
_ALPHABET = bytes(code if chr(code).isalnum() or code in b"-_" else 0 for code in range(128)) + bytes(128)
"""What base64url may have; 0: all else."""


class Token(Discreet, frozen=True):
    """The two parts of a token; its `repr` shows the public one only."""

    shown: ClassVar[tuple[str, ...]] = ("handle",)

    handle: str
    secret: str

    def text(self) -> str:
        """The 64 characters that travel."""
        return self.handle + self.secret


def new_token() -> Token:
    """A token nobody can guess: 144 bits to find the record, 240 bits to open it."""
    text = _base64url.encode(os.urandom(48))
    return Token(text[:_HANDLE], text[_HANDLE:])


def new_handle() -> str:
    """144 random bits, base64url, 24 characters: the public reference of a session."""
    return _base64url.encode(os.urandom(18))


def new_secret() -> str:
    """240 random bits, base64url, 40 characters."""
    return _base64url.encode(os.urandom(30))


def new_version() -> int:
    """63 random bits; equal means unchanged."""
    return int.from_bytes(os.urandom(8), "big") >> 1


def parse_token(text: str) -> Token | None:
    """The token, or None for anything that does not have its shape. Asks no backend."""
    return Token(text[:_HANDLE], text[_HANDLE:]) if _is_base64url(text, TOKEN_LENGTH) else None


def is_handle(text: str) -> bool:
    """Whether *text* has the shape of a handle."""
    return _is_base64url(text, _HANDLE)


def _is_base64url(text: str, length: int) -> bool:
    return len(text) == length and text.isascii() and 0 not in text.encode().translate(_ALPHABET)


class TokenDigest:
    """SHA-256 of format, namespace, name and secret: a secret is worthless under another name (CONTRACT F8).

    Args:
        namespace: the store's namespace.
        name: the session's name.
    """

    __slots__ = ("_start",)

    def __init__(self, namespace: str, name: str) -> None:
        self._start = hashlib.sha256(f"aiosessions\x001\x00{namespace}\x00{name}\x00".encode())

    def of(self, secret: str) -> bytes:
        """The digest of a secret."""
        digest = self._start.copy()
        digest.update(secret.encode())
        return digest.digest()
