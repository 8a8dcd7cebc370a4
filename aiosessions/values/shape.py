"""What a type says about its values before there is one: what equality sees, and what bytes prove."""

import dataclasses
import enum
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec
from msgspec import inspect

from aiosessions.values.value_type import class_of, nodes

__all__ = ["Shape", "shape_of"]

_LITERAL = (
    inspect.StructType,
    inspect.DataclassType,
    inspect.TypedDictType,
    inspect.NamedTupleType,
    inspect.UnionType,
    inspect.DictType,
    inspect.ListType,
    inspect.TupleType,
    inspect.VarTupleType,
    inspect.StrType,
    inspect.BytesType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
    inspect.EnumType,
    inspect.UUIDType,
    inspect.Metadata,
    inspect.AnyType,
    inspect.CustomType,  # object: what msgspec does not know has been refused
)
"""Types of which no two equal values are written differently, but for the order of keys."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is known of a type; the defaults are those of one that is not known to us.

    Args:
        is_known: whether each part is written by msgspec, under its own type or none.
        is_settled: whether each value that came back from being encoded has one spelling, once its keys are in order:
            not so for times, Decimals, sets, nor where defaults are left out, or a class has code that runs while it is
            decoded.
        is_fair: whether `==` looks at every field, at every depth.
        has_keys: whether there are dicts, whose keys may be in any order.
        has_floats: whether an int may be in it that stands for a float.
        has_nullable_floats: whether NaN may stand where None may: JSON writes both as null.
        has_times: whether there are times of day: `==` may tell one instant apart from itself (PEP 495).
        seed: a number for the type's classes, fields and types, the same in every process; 0 if it is not known.
    """

    is_known: bool = False
    is_settled: bool = False
    is_fair: bool = False
    has_keys: bool = True
    has_floats: bool = True
    has_nullable_floats: bool = True
    has_times: bool = True
    seed: int = 0


def shape_of(value_type: object) -> Shape:
    """The shape of a type that msgspec can work with."""
    found = [node for _, node in nodes(value_type)]
    classes = [class_of(node) for node in found]

    def has(*kinds: type[inspect.Type]) -> bool:
        return any(isinstance(node, kinds) for node in found)

    is_literal = all(isinstance(node, _LITERAL) for node in found) and not any(map(_is_brief, classes))
    is_untyped = has(inspect.AnyType, inspect.CustomType)
    return Shape(
        is_known=True,
        is_settled=is_literal and not any(map(_has_code, classes)),
        is_fair=all(map(_is_fair, classes)),
        has_keys=is_untyped or has(inspect.DictType, inspect.TypedDictType),
        has_floats=is_untyped or has(inspect.FloatType),
        has_nullable_floats=is_untyped or any(map(_is_nullable_float, found)),
        has_times=has(inspect.DateTimeType, inspect.TimeType),
        seed=_seed_of(value_type),
    )


def _is_nullable_float(node: inspect.Type) -> bool:
    """Whether it is a union with both, however annotated."""
    parts = node.types if isinstance(node, inspect.UnionType) else ()
    kinds = {type(part.type if isinstance(part, inspect.Metadata) else part) for part in parts}
    return {inspect.FloatType, inspect.NoneType} <= kinds


def _is_brief(cls: Any) -> bool:  # Any: see class_of
    """Whether defaults are left out: only those that are the very objects, so that equal values are written twofold."""
    return bool(getattr(getattr(cls, "__struct_config__", None), "omit_defaults", False))


def _has_code(cls: Any) -> bool:  # Any: see class_of
    return any(hasattr(cls, name) for name in ("__post_init__", "__attrs_pre_init__", "__attrs_post_init__"))


def _is_fair(cls: Any) -> bool:  # Any: see class_of
    if _is_a(cls, msgspec.Struct):
        return cls.__eq__ is msgspec.Struct.__eq__ and cls.__struct_config__.eq
    if _is_a(cls, tuple):
        return cls.__eq__ is tuple[object, ...].__eq__

    attributes = getattr(cls, "__attrs_attrs__", None)
    if attributes is None and not dataclasses.is_dataclass(cls):
        return True
    # what dataclasses and attrs generate has a file name in brackets; they leave one that the class defines
    code = getattr(vars(cls).get("__eq__"), "__code__", None)
    if code is None or not code.co_filename.startswith("<"):
        return False
    if attributes is not None:
        return all(attribute.eq and attribute.eq_key is None for attribute in attributes)
    return all(field.compare for field in dataclasses.fields(cls))


def _is_a(cls: Any, kind: type[object]) -> bool:  # Any: see class_of
    return isinstance(cls, type) and issubclass(cls, kind)


def _seed_of(value_type: object) -> int:
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
