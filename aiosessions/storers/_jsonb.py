"""Which documents PostgreSQL's JSONB gives back as equal ones."""

import json
import re

import msgspec

__all__ = ["survives_jsonb"]

# An escaped NUL and an escaped half of a surrogate pair; an even number of backslashes before them are just those.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(r"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")
_REFUSED = "JSONB would change it"


def survives_jsonb(value: bytes) -> str | None:
    """The document as text, if a JSONB column gives it back equal and with the same types; None if it must be kept raw.

    JSONB refuses NUL and lone surrogates, forgets a minus before zero and the first of two equal keys, and writes
    `1e16` as an integer.
    """
    if _is_plain(value):
        return value.decode()

    try:
        text = value.decode()
        tree = json.loads(
            text, object_pairs_hook=_unique, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
        )
        if _SURROGATE.search(text):
            json.dumps(tree, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return None if _NUL.search(text) else text


def _is_plain(value: bytes) -> bool:
    """Whether msgspec writes just this and JSONB keeps it: so no key comes twice, and no integer is beyond it.

    A tenth of the time that a close look takes, which all others get.
    """
    try:
        return msgspec.json.encode(_plain.decode(value)) == value and b"\\u0000" not in value
    except (ValueError, RecursionError):  # msgspec's own are ValueErrors
        return False


def _plain_float(literal: str) -> float:
    if "e" in literal or literal == "-0.0":
        raise ValueError(_REFUSED)
    return float(literal)


_plain = msgspec.json.Decoder(float_hook=_plain_float)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(_REFUSED)
    return members


def _integer(literal: str) -> str:
    # Python reads integers of 4300 digits, other decoders fewer; the text is enough here.
    if literal == "-0" or len(literal) > 4000:
        raise ValueError(_REFUSED)
    return literal


def _decimal(literal: str) -> str:
    minus_zero = literal.startswith("-") and not literal.strip("-0.")
    if minus_zero or "e" in literal or "E" in literal or len(literal) > 4000:
        raise ValueError(_REFUSED)
    return literal


def _constant(_: str) -> str:
    raise ValueError(_REFUSED)
