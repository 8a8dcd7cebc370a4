"""What msgspec makes of a type: whether it can work at all, and whether it says what every part holds."""

import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from aiosessions._errors import ConfigError

__all__ = ["decoder_for", "is_literal", "is_untyped", "name_of"]

T = TypeVar("T")


def name_of(value_type: object) -> str:
    """A type's name, for messages."""
    if isinstance(value_type, type) and not typing.get_args(value_type):
        return value_type.__qualname__.rpartition("<locals>.")[2]
    return str(value_type)


def decoder_for(value_type: type[T], decoder: type[Any]) -> Callable[[bytes], T]:
    """A decoder for this type, or ConfigError.

    Args:
        value_type: T.
        decoder: msgspec's class for the format. (Any: the two have no common base.)
    """
    try:
        decode: Callable[[bytes], T] = decoder(value_type).decode
        unknown = next((path for path, node in _nodes(value_type) if _is_custom(node)), None)
        problem = "a type that msgspec does not know"
    except (TypeError, NameError, AttributeError, ValueError, RecursionError) as error:
        unknown, problem = _culprit(value_type), f"{type(error).__name__}: {error}"
    else:
        if unknown is None:
            return decode
    raise ConfigError(
        f"value_type={name_of(value_type)} cannot work, at `{unknown}`: {problem}. Give the field a type of msgspec's "
        "(https://jcristharif.com/msgspec/supported-types.html), define types where annotations can find them, "
        "or give a codec of your own with codec=..."
    )


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
)
"""Types of which no two equal values are written differently, but for the order of keys."""


def is_literal(value_type: object) -> bool:
    """Whether each value has one spelling, once its keys are in order: not so for times, Decimals and sets."""
    return all(isinstance(node, (*_LITERAL, inspect.Metadata)) for _, node in _nodes(value_type))


def is_untyped(value_type: object) -> bool:
    """Whether a part of the type says nothing about what it holds (Any, object, a bare list or dict)."""
    return any(isinstance(node, inspect.AnyType) or _is_object(node) for _, node in _nodes(value_type))


def _is_object(node: inspect.Type) -> bool:
    return isinstance(node, inspect.CustomType) and node.cls is object


def _is_custom(node: inspect.Type) -> bool:
    return isinstance(node, inspect.CustomType) and node.cls is not object


def _nodes(value_type: object) -> Iterator[tuple[str, inspect.Type]]:
    """Every type inside a type, each once, with the path to it."""
    seen: set[int] = set()
    waiting = [("$", inspect.type_info(value_type))]
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield path, node
        for name in node.__struct_fields__:
            inner = getattr(node, name)
            for part in cast("Iterable[object]", inner) if isinstance(inner, tuple) else (inner,):
                if isinstance(part, inspect.Field):
                    waiting.append((f"{path}.{part.name}", part.type))
                elif isinstance(part, inspect.Type):
                    waiting.append((path if name == "types" else f"{path}[...]", part))


def _culprit(value_type: object) -> str:
    """The field whose annotation cannot be resolved, or is nothing for msgspec."""
    module = getattr(value_type, "__module__", "")
    annotations = cast("dict[str, object]", getattr(value_type, "__annotations__", {}))
    for name, annotation in annotations.items():
        alone = type("_", (), {"__annotations__": {name: annotation}, "__module__": module})
        try:
            msgspec.json.Decoder(typing.get_type_hints(alone, include_extras=True)[name])
        except (TypeError, NameError, AttributeError, ValueError, RecursionError):
            return f"$.{name}"
    return "$"
