"""What Flask keeps beside JSON: an object with one key, which says what the value is (`flask.json.tag`)."""

from base64 import b64decode
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

from aiosessions.overseers.importer import Data

__all__ = ["untagged"]


def _escaped(value: Data) -> Data:
    """A mapping that an application kept, with one key that is also a tag: two underscores were put behind it."""
    ((key, inner),) = value.items()
    return {key.removesuffix("__"): inner}


_MEANINGS: dict[str, Callable[[Any], object]] = {  # Any: what another application wrote
    " di": _escaped,
    " t": tuple,
    " b": b64decode,
    " m": str,  # markupsafe.Markup, which is a str
    " u": UUID,
    " d": parsedate_to_datetime,  # RFC 2822, in whole seconds
}


def untagged(value: Data) -> object:
    """What a JSON object stands for; what is in it was untagged before.

    Raises:
        ValueError, TypeError, AttributeError: it is not what Flask makes.
    """
    if len(value) != 1:
        return value

    ((tag, inner),) = value.items()
    meaning = _MEANINGS.get(tag)
    return meaning(inner) if meaning else value
