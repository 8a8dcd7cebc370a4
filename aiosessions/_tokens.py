"""The token of a StorageOverseer: 16 bytes that find the record, 32 that prove the right to it.

48 bytes from the operating system's random source, base64url, 64 characters (ASVS 5 7.2.2, 7.2.3). The record keeps a
digest of the secret and never the secret itself (ASVS 5 6.5.2): a stolen database opens no session.
"""

import hashlib
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import a2b_base64
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "TOKEN_LENGTH",
    "Token",
    "TokenDigest",
    "digest_of",
    "is_handle",
    "new_handle",
    "new_token",
    "new_version",
    "parse_token",
]

TOKEN_LENGTH = 64
_TOKEN = re.compile(r"[A-Za-z0-9_-]{64}", re.ASCII)
_HANDLE = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]", re.ASCII)

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LAST = {character: "AQgw"[index >> 4] for index, character in enumerate(_ALPHABET)}  # its two highest bits


class Token(NamedTuple):
    """The two parts of a token; its `repr` shows the public one only."""

    handle: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Token(handle={self.handle!r})"

    def text(self) -> str:
        """The 64 characters that travel."""
        return urlsafe_b64encode(urlsafe_b64decode(self.handle + "==") + self.secret).decode()


def new_token() -> Token:
    """A token nobody can guess: 128 bits to find the record, 256 bits to open it."""
    return Token(new_handle(), os.urandom(32))


def new_handle() -> str:
    """128 random bits, base64url, 22 characters: the public reference of a session."""
    return urlsafe_b64encode(os.urandom(16))[:22].decode()


def new_version() -> int:
    """63 random bits; equal means unchanged."""
    return int.from_bytes(os.urandom(8), "big") >> 1


def parse_token(text: str) -> Token | None:
    """The token, or None for anything that does not have its shape. Asks no backend."""
    if len(text) != TOKEN_LENGTH or not _TOKEN.fullmatch(text):
        return None

    # of the character where the two meet, the handle has two bits and the secret four
    raw = a2b_base64(text.replace("-", "+").replace("_", "/"))
    return Token(text[:21] + _LAST[text[21]], raw[16:])


def is_handle(text: str) -> bool:
    """Whether *text* has the shape of a handle."""
    return _HANDLE.fullmatch(text) is not None


class TokenDigest:
    """SHA-256 of format, namespace, name and secret: a secret is worthless under another name (CONTRACT F8).

    Args:
        namespace: the store's namespace.
        name: the session's name.
    """

    __slots__ = ("_start",)

    def __init__(self, namespace: str, name: str) -> None:
        self._start = hashlib.sha256(f"aiosessions\x001\x00{namespace}\x00{name}\x00".encode())

    def __call__(self, secret: bytes) -> bytes:
        digest = self._start.copy()
        digest.update(secret)
        return digest.digest()


@lru_cache(maxsize=256)
def digest_of(namespace: str, name: str) -> TokenDigest:
    """A TokenDigest, made once."""
    return TokenDigest(namespace, name)
