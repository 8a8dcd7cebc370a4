"""What other software wraps a session in: base64, JSON, and a time that its age counts from."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import timedelta

from aiosessions.overseers.importer import Data, NotImportedError

__all__ = ["checked", "end_of", "mapping", "spelled", "unwrapped"]

_LONGEST = 16_384  # characters: four times what a browser keeps in one cookie
_SKEW = 60  # seconds that two clocks may be apart: as many as Fernet allows


def checked(text: str) -> str:
    """A token that is worth looking at.

    Raises:
        NotImportedError: it is too long for a cookie, or not ASCII, and so nobody's.
    """
    if len(text) > _LONGEST or not text.isascii():
        raise NotImportedError("forged")
    return text


def spelled(text: str, last: bytes = b"+/") -> bytes | None:
    """What base64 says, *last* being the alphabet's last two; None for another spelling than the encoder's.

    Their decoders skip what they do not know: the same token could come back as another, after it was imported once.
    """
    try:
        raw = b64decode(text, last, validate=True)
    except ValueError:
        return None
    return raw if b64encode(raw, last).decode() == text else None


def mapping(text: str | bytes, hook: Callable[[Data], object] | None = None) -> Data:
    """The JSON object that a session is, as the standard library reads it: so do they all.

    Args:
        text: JSON.
        hook: what becomes of each object in it, the innermost first.

    Raises:
        NotImportedError: it is none, or nested too deep.
    """
    try:
        tree: object = json.loads(text, object_hook=hook)
    except (ValueError, TypeError, AttributeError, RecursionError):  # of JSON, and of a hook
        raise NotImportedError("malformed") from None
    if not isinstance(tree, dict):
        raise NotImportedError("malformed")
    return tree  # pyright: ignore[reportUnknownVariableType]  # JSON's keys are text


def end_of(made_at: object, max_age: timedelta | None, now: float) -> float | None:
    """When they take it no longer, unix seconds; None: never.

    Args:
        made_at: when its age began, unix seconds.
        max_age: how old it may be; None: of any age.
        now: unix seconds.

    Raises:
        NotImportedError: it is too old, or made in the future.
    """
    if max_age is None:
        return None
    if isinstance(made_at, bool) or not isinstance(made_at, int | float):
        raise NotImportedError("malformed")

    try:
        end = made_at + max_age.total_seconds()
    except OverflowError:
        raise NotImportedError("malformed") from None
    if not made_at - _SKEW <= now < end:  # nor where it is not a number
        raise NotImportedError("expired")
    return end


def unwrapped(text: bytes, max_age: timedelta | None, now: float) -> tuple[Data, float | None]:
    """A session of aiohttp-session and when it ends: `{"created": unix seconds, "session": {...}}`, its `SessionData`.

    Raises:
        NotImportedError: it is none, or older than *max_age*.
    """
    tree = mapping(text)
    data: object = tree.get("session")
    if not isinstance(data, dict):
        raise NotImportedError("malformed")
    return data, end_of(tree.get("created"), max_age, now)  # pyright: ignore[reportUnknownVariableType]  # likewise
