"""Where and why a value does not fit its type, in words that show no value."""

import re
from typing import Any

import msgspec

from aiosessions._errors import DecodeError, EncodeError
from aiosessions.values.equality import step_to

__all__ = ["misfit", "pydantic_misfit", "why"]

_PATH = re.compile(r"at `(?:key in )?(\$[^`]*)`$")
_TYPES = re.compile(r"Expected `[^`]*`, got `[^`]*`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")


def misfit(error: Exception) -> str:
    """Where and why, from msgspec's message, of which only type and field names are safe to repeat."""
    if isinstance(error, (EncodeError, DecodeError)):
        return f"({error})"  # a codec's own, which shows no value
    if isinstance(error, RecursionError):
        return "at `$`: nested too deeply"
    if not isinstance(error, msgspec.MsgspecError):
        return "at `$`"  # the type's own code raised: its message may hold anything

    text = str(error)
    own = error.__cause__ is None
    found = _PATH.search(text) if own or text != str(error.__cause__) else None
    path = found[1] if found else "$"
    if own and (missing := _MISSING.match(text)):
        return f"at `{path}.{missing[1]}`: it is required and missing"
    if own and (types := _TYPES.match(text)):
        return f"at `{path}`: {types[0][0].lower()}{types[0][1:]}"
    return f"at `{path}`"


def pydantic_misfit(error: Exception) -> str:
    errors: Any = getattr(error, "errors", None)  # Any: pydantic's ValidationError, which this file does not import
    if errors is None:
        return misfit(error)

    first = errors(include_url=False, include_context=False, include_input=False)[0]
    path = "".join(f"[{step}]" if isinstance(step, int) else step_to(step) for step in first["loc"])
    return f"at `${path}`: {first['type']}"


def why(value: object, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply, or a cycle"
    if isinstance(error, UnicodeError):
        return "a lone surrogate in a text"
    if isinstance(error, OverflowError):
        return "an integer of more than 64 bits"
    return f"`{type(value).__qualname__}`: store its id, or plain data of it"
