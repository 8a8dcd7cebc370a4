"""What msgspec makes of a type: whether it can work at all, and every type inside it."""

import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from aiosessions._errors import ConfigError

__all__ = ["class_of", "decoder_for", "name_of", "nodes"]

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
        unknown, problem = next(_problems(value_type), (None, ""))
    except (TypeError, NameError, AttributeError, ValueError, RecursionError) as error:
        unknown, problem = _culprit(value_type), f"{type(error).__name__}: {error}"
    else:
        if unknown is None:
            return decode
    raise ConfigError(
        f"value_type={name_of(value_type)} cannot work, at `{unknown}`: {problem}. Give the field a type of msgspec's "
        "(https://jcristharif.com/msgspec/supported-types.html) and a name without underscore, define types where "
        "annotations can find them, "
        "or give a codec of your own with codec=..."
    )


def class_of(node: inspect.Type) -> Any:  # Any: a class of four libraries, or of none
    """The class that a node stands for, without its type arguments; None if it is no class's."""
    cls: Any = getattr(node, "cls", None)  # Any: as above
    return typing.get_origin(cls) or cls


def _problems(value_type: object) -> Iterator[tuple[str, str]]:
    """What msgspec does not know, or would not write: where, and why."""
    for path, node in nodes(value_type):
        cls = class_of(node)
        if isinstance(node, inspect.CustomType) and cls is not object:
            yield path, "a type that msgspec does not know"
        for attribute in getattr(cls, "__attrs_attrs__", ()):
            if attribute.name.startswith("_"):
                where = f"{path}.{attribute.name}"
                yield where, f"msgspec leaves out what begins with an underscore in attrs classes ({cls.__name__})"


def nodes(value_type: object) -> Iterator[tuple[str, inspect.Type]]:
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
