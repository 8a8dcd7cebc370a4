"""A number for a type, the same in every process: whose bytes these are."""

import enum
import zlib
from collections.abc import Iterable, Iterator
from typing import cast

from msgspec import inspect

from aiosessions.values.value_type import class_of

__all__ = ["seed_of"]


def seed_of(value_type: object) -> int:
    """A number that changes when a field is added, removed, renamed or retyped, and with nothing else; never 0.

    Args:
        value_type: a type that msgspec can work with.
    """
    return zlib.crc32(_text(inspect.type_info(value_type), []).encode()) or 1


def _text(part: object, seen: list[object]) -> str:
    """A part of a type in words that no process and no version of Python changes; *seen* are the classes before it."""
    if isinstance(part, inspect.Metadata):
        return _text(part.type, seen)
    if isinstance(part, inspect.Field):
        return f"{part.name}={part.encode_name}{'' if part.required else '?'}:{_text(part.type, seen)}"
    if isinstance(part, tuple):
        return f"[{','.join(_text(each, seen) for each in cast('Iterable[object]', part))}]"
    if isinstance(part, inspect.Type):
        return f"{type(part).__name__}({','.join(_details(part, seen))})"
    return repr(part)  # a tag, a bound, a literal


def _details(node: inspect.Type, seen: list[object]) -> Iterator[str]:
    known = next((place for place, each in enumerate(seen) if each is node), None)
    if known is not None:
        yield f"#{known}"  # a class that holds itself, or is held twice
        return

    cls = class_of(node)
    if cls is not None:
        seen.append(node)
        yield cls.__qualname__.rpartition("<locals>.")[2]
    if isinstance(node, inspect.EnumType):
        yield repr([(member.name, member.value) for member in cast("type[enum.Enum]", cls)])
    for name in node.__struct_fields__:
        inner = getattr(node, name)
        if name == "fields" and isinstance(node, inspect.TypedDictType):
            inner = tuple(sorted(inner, key=lambda field: cast("inspect.Field", field).name))  # they have no order
        if name != "cls":
            yield _text(inner, seen)
