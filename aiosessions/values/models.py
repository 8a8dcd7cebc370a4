"""What pydantic makes of a model: whether all of it is written and comes back. Imports no pydantic."""

import sys
from collections.abc import Iterator
from typing import Any, cast

from aiosessions._errors import ConfigError
from aiosessions.values.value_type import name_of

__all__ = ["is_pydantic", "prove_model"]

_ASIDE = frozenset({"config", "default", "metadata", "serialization"})  # parts of a schema that hold no schema


def is_pydantic(value_type: object) -> bool:
    """Whether it is a pydantic model. Imports nothing: who made a model has imported pydantic."""
    pydantic: Any = sys.modules.get("pydantic")  # Any: this file imports no pydantic
    return pydantic is not None and isinstance(value_type, type) and issubclass(value_type, pydantic.BaseModel)


def prove_model(model: Any) -> None:  # Any: a pydantic model
    """Prove that every field is written and comes back.

    Args:
        model: the model.

    Raises:
        ConfigError: one is not, or a type that the model names is not defined; the message names the field and the fix.
    """
    name = name_of(model)
    try:
        model.model_rebuild()
    except Exception as error:  # noqa: BLE001 (PydanticUndefinedAnnotation and whatever an annotation raises)
        raise ConfigError(
            f"value_type={name} cannot work: {type(error).__name__}: {error}. Define types where annotations can find "
            "them"
        ) from None

    lost = next(_lost(model.__pydantic_core_schema__), None)
    if lost is not None:
        owner, field, problem = lost
        raise ConfigError(
            f"value_type={name} cannot work, at field {field!r} of {owner}: {problem}. Make it a field that is written "
            "(Field() without exclude=, no leading underscore), a ClassVar, or a cached_property, or give a codec of "
            "your own with codec=..."
        )


def _lost(schema: object) -> Iterator[tuple[str, str, str]]:
    """What pydantic does not write or does not read: the class, the field, and why."""
    waiting: list[tuple[str, str, object]] = [("", "", schema)]
    while waiting:
        owner, key, part = waiting.pop()
        if isinstance(part, (list, tuple)):
            waiting.extend((owner, key, each) for each in cast("list[object]", part))
        if not isinstance(part, dict):
            continue

        node = cast("dict[str, Any]", part)  # Any: a schema of pydantic
        if isinstance(cls := node.get("cls"), type):
            owner = name_of(cls)
            for private in getattr(cls, "__private_attributes__", ()):
                yield owner, private, "pydantic does not write private attributes"
        if node.get("serialization_exclude"):
            yield owner, node.get("name", key), "pydantic does not write what has exclude=True"
        if node.get("init") is False:
            yield owner, node["name"], "pydantic does not read a dataclass's field that has init=False"
        waiting.extend((owner, name, each) for name, each in node.items() if name not in _ASIDE)
