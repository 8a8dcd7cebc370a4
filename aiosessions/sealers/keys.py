"""The keys of a sealer: what they are made of."""

import hashlib
import hmac
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec

from aiosessions import _base64url
from aiosessions._errors import ConfigError

__all__ = ["Key", "Keys", "new_key", "read_keys"]

_LEAST = 32  # bytes: 256 bits
_DISTINCT = 8  # different byte values in a key; 32 random bytes have about 30, and fewer than 20 never
_NEW = "make one with `python -m aiosessions new-key`"
_PEM_START = "-----BEGIN "
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?-----END [A-Z0-9 ]+-----", re.DOTALL)


def new_key() -> str:
    """A key for a sealer: 256 bits from the operating system, base64url, 43 characters.

    Put it into the environment or a secret store, not into the code: whoever has it can forge sessions.
    """
    return _base64url.encode(os.urandom(_LEAST))


class Key:
    """One key of a ring. Nothing shows its secret: not `repr`, not `vars`, not an error.

    Args:
        secret: bytes: the key itself, at least 32. A str: base64url text of such bytes, as `new_key()` makes it; for
            a JWTSealer also a PEM or JWK document.
        not_before: when it starts to seal; it opens at once. With a time some minutes ahead a whole fleet learns the
            key before the first token uses it. Aware; None: from now on.

    Raises:
        ConfigError: the secret is short, repetitive or unreadable, or *not_before* is naive.
    """

    __slots__ = ("_id", "_is_document", "_material", "_not_before")

    def __init__(self, secret: bytes | str, *, not_before: datetime | None = None) -> None:
        material = _material(secret)
        self._id = b""  # a traceback shows it half made
        self._is_document = isinstance(material, bytes) and _is_document(secret)
        del secret  # a traceback with captured locals shows what is left here
        if isinstance(material, str):
            raise ConfigError(f"secret: {material}")

        self._material = material
        self._id = hashlib.sha256(b"aiosessions key id\x00" + material).digest()[:5]
        self._not_before = -math.inf
        del material  # likewise
        if not_before is not None:
            if getattr(not_before, "tzinfo", None) is None:
                raise ConfigError(f"not_before={not_before!r}: give an aware datetime: datetime(..., tzinfo=UTC)")
            self._not_before = not_before.timestamp()

    def __repr__(self) -> str:
        return f"Key(id={_base64url.encode(self._id)!r})"

    def __reduce__(self) -> str:
        raise TypeError("a Key is not pickled: that would write down its secret")

    @property
    def id(self) -> bytes:
        """Five bytes of a digest: what tokens carry, so that the right key is found at once. No secret."""
        return self._id

    @property
    def not_before(self) -> float:
        """When it starts to seal, in unix seconds; `-inf`: always did."""
        return self._not_before

    @property
    def is_document(self) -> bool:
        """Whether it is PEM or JWK, which only a JWTSealer can read."""
        return self._is_document

    def material(self) -> bytes:
        """The secret itself. A method, so that nothing shows it by accident."""
        return self._material

    def derive(self, info: bytes) -> bytes:
        """32 bytes for one purpose: HKDF-SHA256 (RFC 5869) without salt, *info* naming the purpose."""
        extracted = hmac.digest(bytes(32), self._material, "sha256")
        return hmac.digest(extracted, info + b"\x01", "sha256")


Keys = Key | bytes | str | Sequence[Key | bytes | str]
"""What a sealer takes as keys: one or several, newest first; a str may hold several, separated by white space."""


def read_keys(keys: object) -> list[Key] | str:
    """The keys of an argument called `keys`, in order; or, as a str, what is wrong with it and how to put it right.

    A problem is returned and not raised, so that no traceback passes through a frame that holds a secret.
    """
    items: Sequence[object] = (keys,)
    several = isinstance(keys, Sequence) and not isinstance(keys, str | bytes)
    if several:
        items = cast("Sequence[object]", keys)
    found: dict[bytes, Key] = {}
    for index, item in enumerate(items):
        where = f"keys[{index}]" if several else "keys"
        parts = _parts(item)
        if isinstance(parts, str):
            return f"{where}: {parts}"
        for part in parts:
            problem = b"" if isinstance(part, Key) else _material(part)
            if isinstance(problem, str):
                return f"{where}: {problem}"
            key = part if isinstance(part, Key) else Key(part)
            if key.id in found:
                return f"{where} has been given already, or has the id of another: remove it, or {_NEW}"
            found[key.id] = key
    if not found:
        return f"keys is empty: {_NEW}"
    return list(found.values())


def _parts(item: object) -> list[Key | bytes | str] | str:
    """The single keys that one item stands for, or what is wrong with it."""
    if isinstance(item, Key | bytes):
        return [item]
    if isinstance(item, Mapping):
        jwk = cast("Mapping[object, object]", item)
        try:
            members = msgspec.convert(jwk.get("keys", [jwk]), list[dict[str, object]])
            return [msgspec.json.encode(member).decode() for member in members]
        except (TypeError, ValueError):
            return "neither a JWK nor a JWK set, which has a list of JWKs under 'keys'"
    if not isinstance(item, str):
        return f"{type(item).__name__} is no key: give bytes, base64url text or a Key"
    text = item.strip()
    if text.startswith("{"):
        try:
            return _parts(msgspec.json.decode(text, type=dict[str, object]))
        except (msgspec.MsgspecError, RecursionError):
            return "this begins like a JWK and is no JSON object"
    return list(_PEM.findall(text) if text.startswith(_PEM_START) else text.split())


def _material(secret: object) -> bytes | str:
    """The bytes of one key, or what is wrong with it."""
    if not isinstance(secret, bytes | str):
        return f"{type(secret).__name__} is no key: give bytes or base64url text"
    if _is_document(secret):
        return secret.strip() if isinstance(secret, bytes) else secret.strip().encode("utf-8", "replace")
    if isinstance(secret, bytes):
        material = secret
    elif len(secret.split()) > 1:
        return "several keys in one text: a Key is one of them; give the text itself as `keys`"
    else:
        decoded = _base64url.decode(secret.strip().rstrip("="))
        if decoded is None:
            return f"not base64url text: {_NEW}, or give bytes"
        material = decoded

    if len(material) < _LEAST:
        return f"{len(material)} bytes, and {_LEAST} is the least: {_NEW}"
    if len(set(material)) < _DISTINCT:
        return f"repeats few bytes, anybody could guess it: {_NEW}"
    return material


def _is_document(secret: bytes | str) -> bool:
    """Whether it is PEM or JSON. A random key may begin with a brace, but is no JSON."""
    if isinstance(secret, str):
        return secret.lstrip().startswith((_PEM_START, "{"))
    try:
        msgspec.json.decode(secret, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return secret.lstrip().startswith(_PEM_START.encode())
    return True
