"""CSRF tokens: a key under a new mask each time, so that no two look alike (ASVS 5 3.5.1; BREACH finds nothing)."""

import hmac
import os

from aiosessions import _base64url

_KEY = 16  # bytes


def new_csrf_key() -> bytes:
    """128 random bits, kept with the session for one epoch."""
    return os.urandom(_KEY)


def masked(key: bytes) -> str:
    """The key as a token."""
    mask = os.urandom(len(key))
    return _base64url.encode(mask + _xor(mask, key))


def is_masked(token: object, key: bytes) -> bool:
    """Whether *token* is the key under some mask; constant time. False for an empty key, and for what is no text."""
    raw = _base64url.decode(token) if isinstance(token, str) else None
    if not key or raw is None or len(raw) != 2 * len(key):
        return False

    half = len(key)
    return hmac.compare_digest(_xor(raw[:half], raw[half:]), key)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
