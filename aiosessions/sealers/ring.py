"""The ring that secret keys stand in: which one seals, and which one opens a token."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Generic, TypeVar

from aiosessions import _base64url
from aiosessions._errors import ConfigError
from aiosessions.sealers.keys import Key, Keys, read_keys

__all__ = ["BoundKeys", "KeyRing", "RingSealer"]

_NAMES = 256  # how many names a sealer keeps derived keys for; an application has a handful
B = TypeVar("B")


class KeyRing:
    """Secret keys, newest first: the first active one seals, all open.

    Args:
        keys: see `Keys`.

    Raises:
        ConfigError: no key, no active key, a weak one, one that comes twice, or two whose ids collide.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Keys) -> None:
        self._keys: tuple[Key, ...] = ()
        ring = _ring(keys)
        del keys  # a traceback with captured locals shows what is left here
        if isinstance(ring, str):
            raise ConfigError(ring)

        self._keys = tuple(ring)

    def __repr__(self) -> str:
        return f"KeyRing({list(self._keys)!r})"

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def sealing(self, now: float) -> Key:
        """The key that seals at *now*, unix seconds: the newest active one, or the one that is active the soonest."""
        for key in self._keys:
            if key.not_before <= now:
                return key
        return min(self._keys, key=lambda key: key.not_before)


class BoundKeys(Generic[B]):
    """What a sealer makes of each key for each name, made once; the names used last are kept.

    Args:
        ring: the keys.
        bind: makes it of a key, a prefix and a name.
        version: the format version. With the key's id it is the prefix, the first eight characters of each token.
    """

    __slots__ = ("_of", "_prefixes", "_ring")

    def __init__(self, ring: KeyRing, bind: Callable[[Key, str, str], B], *, version: int) -> None:
        prefixes = {key: _base64url.encode(bytes((version,)) + key.id) for key in ring}

        def bound(name: str) -> dict[str, B]:
            return {prefix: bind(key, prefix, name) for key, prefix in prefixes.items()}

        self._ring = ring
        self._prefixes = prefixes
        self._of = lru_cache(_NAMES)(bound)

    def __repr__(self) -> str:
        return f"BoundKeys({self._ring!r})"

    def sealing(self, name: str, now: float) -> B:
        """That of the key which seals at *now*."""
        return self._of(name)[self._prefixes[self._ring.sealing(now)]]

    def opening(self, name: str, token: str) -> B | None:
        """That of the key which *token* names in front; None if no key of the ring does."""
        return self._of(name).get(token[:8])

    def every(self, name: str) -> list[B]:
        """That of each key, newest first."""
        return list(self._of(name).values())

    def is_current(self, token: str, now: float) -> bool:
        """Whether *token* names the key which seals at *now*."""
        return token[:8] == self._prefixes[self._ring.sealing(now)]


class RingSealer(ABC, Generic[B]):
    """The half of a sealer that is about its ring of secrets.

    Args:
        keys: one or several, newest first; see `Key`. The first active one seals, all open.
        reseal: also replace a token under an older key when it is read; else at the session's next write.

    Raises:
        ConfigError: a key is weak, or none is active.
    """

    __slots__ = ("_bound", "reseal")

    def __init__(self, keys: Keys, *, reseal: bool = False) -> None:
        self.reseal: bool = reseal
        try:
            self.reload(keys)
        finally:
            del keys  # a traceback with captured locals must not show it

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self, '_bound', None)!r})"  # a traceback shows it half made

    def reload(self, keys: Keys) -> None:
        """Use these keys from now on, without a restart. A weak key is a ConfigError, and the old ones stay in use."""
        try:
            self._bound = self._bind(KeyRing(keys))
        finally:
            del keys  # a traceback with captured locals must not show it

    def is_current(self, token: str, *, now: float | None = None) -> bool:
        """Whether *token*, which `open` accepted, is under the key that seals now."""
        return self._bound.is_current(token, time.time() if now is None else now)

    @staticmethod
    @abstractmethod
    def _bind(ring: KeyRing) -> BoundKeys[B]:
        """What it makes of each key."""


def _ring(keys: object) -> list[Key] | str:
    """The keys of a ring of secrets, or what is wrong with them."""
    ring = read_keys(keys)
    if isinstance(ring, str):
        return ring
    if any(key.is_document for key in ring):
        return "keys: PEM and JWK are for a JWTSealer: give bytes or base64url text"
    if all(key.not_before > time.time() for key in ring):
        return "keys: none is active yet: keep the key before it in the ring until its not_before has passed"
    return ring
