"""What a value is made of, and whether it came back as it was."""

import dataclasses
import datetime as dt
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, cast

import msgspec

__all__ = ["SCALARS", "canonical", "difference", "fields_of", "names_of", "parts", "step_to"]

SCALARS = frozenset({str, int, float, bool, type(None), bytes})
"""Types without parts."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)


def step_to(key: object) -> str:
    """The step of a path that leads to a key: `.name`, and `[...]` for a key that may be data and not a name."""
    return f".{key}" if isinstance(key, str) and _NAME.fullmatch(key) else "[...]"


def parts(value: object) -> Iterator[tuple[str, object]]:
    """The parts of a value, each with the step that leads to it."""
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            yield step_to(key), key
            yield step_to(key), item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(cast("list[object]", value)):
            yield f"[{index}]", item
    else:
        for name in fields_of(value):
            yield f".{name}", getattr(value, name, None)


def difference(value: object, back: object, *, exact: bool = True, path: str = "$") -> str | None:
    """Where and how *back* is not what *value* was, in words that show neither; None if it is the same.

    Args:
        value: what went in.
        back: what came out.
        exact: whether equal things of different types differ too. (An int in a float field never does.)
        path: the path of both.
    """
    kind = type(value)
    if kind is not type(back):
        if value == back and (not exact or (kind is int and type(back) is float)):
            return None
        fix = "" if back is None else ": give the field its type"  # NaN has no bytes in JSON
        return f"at `{path}`: `{kind.__qualname__}` would come back as `{type(back).__qualname__}`{fix}"

    inner = None if kind in SCALARS else _pairs(value, back)
    if inner is not None:
        for key, one, other in inner:
            if type(one) in SCALARS and type(one) is type(other) and one == other:
                continue
            if found := difference(one, other, exact=exact, path=path + _step(value, key)):
                return found
        return None

    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        # it comes back with another tzinfo, and == is then False in the hour that a clock change repeats (PEP 495)
        value, back = value.astimezone(dt.UTC), cast("dt.datetime", back).astimezone(dt.UTC)
    return None if value == back else f"at `{path}`: it would come back changed"


def _pairs(value: object, back: object) -> Iterable[tuple[object, object, object]] | None:
    """The parts of both, side by side, each with its key; None if they have no parts or not the same ones."""
    if isinstance(value, dict):
        return _items(cast("dict[object, object]", value), cast("dict[object, object]", back))
    if isinstance(value, (set, frozenset)):
        value = sorted(cast("set[object]", value), key=canonical)
        back = sorted(cast("set[object]", back), key=canonical)
    if isinstance(value, (list, tuple)):
        ours, theirs = cast("list[object]", value), cast("list[object]", back)
        return zip(range(len(ours)), ours, theirs, strict=True) if len(ours) == len(theirs) else None
    names = fields_of(value)
    return ((name, getattr(value, name), getattr(back, name)) for name in names) if names else None


def _items(value: dict[object, object], back: dict[object, object]) -> Iterable[tuple[object, object, object]] | None:
    if len(value) != len(back):
        return None
    if any(map(operator.is_not, map(type, value), map(type, back))):  # 1 became "1", or an enum the text it equals
        return zip(value, value, back, strict=True)
    if list(value) == list(back):
        return zip(value, value.values(), back.values(), strict=True)
    # a backend may have sorted the keys
    return ((key, item, back[key]) for key, item in value.items()) if value.keys() == back.keys() else None


def canonical(item: object) -> bytes:
    """Bytes that are equal for equal parts of a set."""
    try:
        return _encoded(msgspec.msgpack.encode, item)
    except OverflowError:  # an int of more than 64 bits, which JSON alone can have
        return _encoded(msgspec.json.encode, item)


def _encoded(encode: Callable[..., bytes], item: object) -> bytes:
    try:
        return encode(item, order="deterministic")
    except TypeError:  # a dict or set of things without an order
        return encode(item)


def _step(value: object, key: object) -> str:
    if isinstance(value, dict):
        return step_to(key)
    return f"[{key}]" if isinstance(key, int) else f".{key}"


def fields_of(value: object) -> tuple[str, ...]:
    """The names of the fields of a Struct, dataclass, attrs or pydantic instance; none for anything else."""
    kind: Any = type(value)  # Any: see names_of
    return (names_of(kind) or ()) + tuple(getattr(value, "__pydantic_extra__", None) or ())


@lru_cache(maxsize=256)
def names_of(cls: Any) -> tuple[str, ...] | None:  # Any: four libraries' classes, told apart by what they carry
    """The names of the fields of such a class; None for a class that can have none."""
    if issubclass(cls, msgspec.Struct):
        return tuple(cls.__struct_fields__)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    if (attributes := getattr(cls, "__attrs_attrs__", None)) is not None:
        return tuple(attribute.name for attribute in attributes)
    fields = getattr(cls, "__pydantic_fields__", None)
    return None if fields is None else tuple(fields)
