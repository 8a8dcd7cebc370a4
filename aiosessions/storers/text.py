"""Text as backends keep it: any `str` as bytes and back, lone surrogates too, and digests that name it (S11)."""

from hashlib import sha256

__all__ = ["decoded", "digest", "encoded"]


def encoded(text: str) -> bytes:
    """The bytes of any text; two texts never have the same."""
    return text.encode("utf-8", "surrogatepass")


def decoded(data: bytes) -> str:
    """The text that `encoded` was given.

    Raises:
        UnicodeDecodeError: *data* is no such text.
    """
    return data.decode("utf-8", "surrogatepass")


def digest(text: str) -> bytes:
    """The SHA-256 of the bytes: a name of fixed size, for backends that cannot have every key or owner as a name."""
    return sha256(encoded(text)).digest()
