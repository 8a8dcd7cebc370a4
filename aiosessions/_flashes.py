"""Messages that are shown once, and how a session keeps them."""

import os
from typing import NamedTuple, TypeAlias, cast

import msgspec

from aiosessions._errors import EncodeError
from aiosessions._text import check_text

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"
PackedFlash: TypeAlias = tuple[str, str, str, bytes]
"""id, message, category, data as MessagePack: the id lets two requests add and take at once."""

_DEEPEST = 100  # brackets: what is deeper might not be readable at the end of a longer stack
_encode = msgspec.msgpack.Encoder().encode


class Flash(NamedTuple):
    """A message that is shown once."""

    message: str
    category: str = "info"
    data: JSONValue = None


def packed_flash(message: str, category: str, data: JSONValue) -> PackedFlash:
    """A flash as it is kept: checked now, so that nothing can fail when it is saved or read.

    Raises:
        EncodeError: *message* or *category* is not text, or *data* is not JSON.
    """
    check_text("flash message", message)
    check_text("flash category", category)
    packed = b"" if data is None else _packed(data)
    if packed is None:
        raise EncodeError(
            "the flash data must be JSON: None, bool, int (64 bits), float, str, and lists and dicts of them, "
            f"at most {_DEEPEST} deep"
        )
    return os.urandom(6).hex(), message, category, packed


def shown(flash: PackedFlash) -> Flash:
    """The flash that was packed."""
    _, message, category, data = flash
    return Flash(message, category, msgspec.msgpack.decode(data) if data else None)


def _packed(data: object) -> bytes | None:
    try:
        packed = _encode(data)
        back = msgspec.json.decode(msgspec.json.encode(data))
        return packed if back == data and _is_shallow(back) else None
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _is_shallow(tree: object) -> bool:
    layer = [tree]
    for _ in range(_DEEPEST):
        layer = [part for item in layer for part in _inside(item)]
        if not layer:
            return True
    return False


def _inside(item: object) -> list[object]:
    if isinstance(item, dict):
        return list(cast("dict[str, object]", item).values())
    return cast("list[object]", item) if isinstance(item, list) else []
