"""T to bytes and back, checked on the way in.

Whatever msgspec, pydantic, a foreign codec or the application's own classes raise leaves here as EncodeError or
DecodeError, and holds no value: not in the message, not as a cause or context, not in a frame's local variables.
"""

import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
from msgspec import inspect

from aiosessions._errors import ConfigError, DecodeError, EncodeError
from aiosessions._fidelity import difference, parts, step_to

__all__ = ["CheckedCodec", "Codec", "JSONCodec", "MessagePackCodec", "PydanticCodec", "codec_for", "is_pydantic", "name_of"]

T = TypeVar("T")

_PATH = re.compile(r"at `(?:key in )?(\$[^`]*)`$")
_TYPES = re.compile(r"Expected `[^`]*`, got `[^`]*`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_DEPTH = 32  # how far down the search for a field that cannot be encoded goes


class Codec(Protocol[T]):
    """What a codec of one's own must have. Errors of other classes are mapped; a value must not be in a message."""

    @property
    def is_json(self) -> bool:
        """Whether the bytes are a JSON document."""
        ...

    def encode(self, value: T) -> bytes:
        """The bytes; EncodeError for a value that has none."""
        ...

    def decode(self, data: bytes) -> T:
        """A new value; DecodeError for bytes that do not fit T."""
        ...

    def to_tree(self, value: T) -> object:
        """The value as dicts, lists and scalars, under the names that are written: for the merge."""
        ...

    def from_tree(self, tree: object) -> T:
        """A new value; DecodeError for a tree that does not fit T."""
        ...


class CheckedCodec(Generic[T]):
    """A codec inside the seam: what overseers use, whoever wrote the codec.

    Args:
        value_type: T, for messages.
        encode: T to bytes.
        decode: bytes to T.
        is_json: whether the bytes are a JSON document.
        exact: whether values must come back with the very types they had: for a T with untyped parts. Where every part
            has a type, decoding has checked it, and equality is enough.
        stable: T to bytes that are equal for equal values, whatever the order of sets and dicts.
        probe: encodes any part of a value, to find the one that cannot be encoded.
    """

    def __init__(
        self,
        value_type: type[T],
        *,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        is_json: bool,
        exact: bool,
        stable: Callable[[T], bytes] | None = None,
        probe: Callable[[object], bytes] | None = None,
    ) -> None:
        self.value_type = value_type
        self._encode = encode
        self._decode = decode
        self._is_json = is_json
        self._exact = exact
        self._stable = stable
        self._probe = probe
        self._name = name_of(value_type)

    @property
    def is_json(self) -> bool:
        """Whether the bytes are a JSON document."""
        return self._is_json

    def encode(self, value: T) -> bytes:
        """The bytes; EncodeError names the part that has none."""
        try:
            return self._encode(value)
        except MemoryError:
            raise
        except Exception as error:  # the application's classes may raise anything while they are encoded
            problem = self._unencodable(value, error)
        del value  # tracebacks may show local variables
        raise EncodeError(f"{self._name} cannot be encoded {problem}")

    def decode(self, data: bytes) -> T:
        """A new value; DecodeError names the field that does not fit."""
        try:
            return self._decode(data)
        except MemoryError:
            raise
        except Exception as error:  # __post_init__ and validators may raise anything
            problem = self._misfit(error)
        del data
        raise DecodeError(f"the bytes do not fit {self._name} {problem}")

    def check(self, value: T, data: bytes) -> T:
        """What *data*, the encoded *value*, comes back as; EncodeError if that is not the same thing (CONTRACT V1, V9)."""
        back = None
        try:
            back = self._decode(data)
            if not self._exact and value == back:
                return back
            problem = difference(value, back, exact=self._exact)
            if problem is None:
                return back
        except MemoryError:
            raise
        except Exception as error:  # as in decode, and __eq__ may raise anything
            problem = self._misfit(error)
        del value, data, back
        raise EncodeError(f"the value does not fit {self._name} {problem}")

    def unchanged(self, base: bytes, value: T, data: bytes) -> bool:
        """Whether *value*, encoded as *data*, says what the stored *base* says (CONTRACT V3).

        A backend may have written it differently, and a set iterates as it likes.
        """
        if base == data:
            return True

        try:
            before = self._decode(base)
            if self._stable is None:
                return difference(before, value) is None
            try:
                return self._stable(before) == self._stable(value)
            except TypeError:  # a set of things without an order
                return difference(before, value) is None
        except MemoryError:
            raise
        except Exception:  # what cannot be compared counts as changed: it is written, and checked then
            return False

    def to_tree(self, value: T) -> object:
        """The value as it is written: dicts, lists and scalars."""
        return self.parse(self.encode(value))

    def from_tree(self, tree: object) -> T:
        """A new value; DecodeError for a tree that does not fit."""
        return self.decode(self.dump(tree))

    def parse(self, data: bytes) -> object:
        """Bytes as a tree, without T: unknown fields are in it. DecodeError for bytes that are no document."""
        try:
            return self._parse(data)
        except MemoryError:
            raise
        except Exception:  # as in decode
            pass
        del data
        raise DecodeError(f"the bytes of {self._name} are no document")

    def dump(self, tree: object) -> bytes:
        """A tree as bytes; DecodeError for one that has none."""
        try:
            return self._dump(tree)
        except MemoryError:
            raise
        except Exception:  # as in encode
            pass
        del tree
        raise DecodeError(f"a document of {self._name} cannot be written")

    def _parse(self, data: bytes) -> object:
        return msgspec.json.decode(data)

    def _dump(self, tree: object) -> bytes:
        return msgspec.json.encode(tree)

    def _misfit(self, error: Exception) -> str:
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

    def _unencodable(self, value: object, error: Exception) -> str:
        """Where and why: the deepest part that cannot be encoded by itself."""
        path = "$"
        for _ in range(_DEPTH):
            failing = next(self._failing(value), None)
            if failing is None:
                break
            step, value, error = failing
            path += step
        return f"at `{path}`: {_why(value, error)}"

    def _failing(self, value: object) -> Iterator[tuple[str, object, Exception]]:
        if self._probe is None:
            return
        for step, part in parts(value):
            try:
                self._probe(part)
            except Exception as error:  # as in encode
                yield step, part, error


class JSONCodec(CheckedCodec[T]):
    """JSON by msgspec: dataclasses, attrs, TypedDict, Struct, NamedTuple, builtins, and what they hold.

    Raises:
        ConfigError: msgspec cannot work with this type; the message names the field.
    """

    def __init__(self, value_type: type[T]) -> None:
        super().__init__(
            value_type,
            encode=msgspec.json.Encoder().encode,
            decode=_prove(value_type, msgspec.json.Decoder),
            is_json=True,
            exact=_untyped(value_type),
            stable=msgspec.json.Encoder(order="deterministic").encode,
            probe=msgspec.json.encode,
        )


class MessagePackCodec(CheckedCodec[T]):
    """MessagePack by msgspec: smaller than JSON, for what nobody else reads. Types as JSONCodec.

    Raises:
        ConfigError: msgspec cannot work with this type; the message names the field.
    """

    def __init__(self, value_type: type[T]) -> None:
        super().__init__(
            value_type,
            encode=msgspec.msgpack.Encoder().encode,
            decode=_prove(value_type, msgspec.msgpack.Decoder),
            is_json=False,
            exact=_untyped(value_type),
            stable=msgspec.msgpack.Encoder(order="deterministic").encode,
            probe=msgspec.msgpack.encode,
        )

    def _parse(self, data: bytes) -> object:
        return msgspec.msgpack.decode(data)

    def _dump(self, tree: object) -> bytes:
        return msgspec.msgpack.encode(tree)


class PydanticCodec(CheckedCodec[T]):
    """JSON by pydantic (2.11 or later), under the fields' names, not their aliases, which may differ per direction."""

    def __init__(self, model: type[T]) -> None:
        pydantic_model: Any = model  # Any: this file imports no pydantic

        def encode(value: Any) -> bytes:  # Any: see above
            # no warnings: they would show the value, and decoding finds what they are about
            text: str = value.model_dump_json(round_trip=True, warnings=False)
            return text.encode()

        def decode(data: bytes) -> T:
            return cast(T, pydantic_model.model_validate_json(data, by_alias=False, by_name=True))

        probe = cast("Callable[[object], bytes]", sys.modules["pydantic_core"].to_json)
        super().__init__(model, encode=encode, decode=decode, is_json=True, exact=True, probe=probe)

    def _misfit(self, error: Exception) -> str:
        errors: Any = getattr(error, "errors", None)  # Any: pydantic's ValidationError, which this file does not import
        if errors is None:
            return super()._misfit(error)

        first = errors(include_url=False, include_context=False, include_input=False)[0]
        path = "".join(f"[{step}]" if isinstance(step, int) else step_to(step) for step in first["loc"])
        return f"at `${path}`: {first['type']}"


class _ForeignCodec(CheckedCodec[T]):
    """Somebody else's codec inside our seam. It has no raw documents: unknown fields do not survive a write."""

    def __init__(self, value_type: type[T], codec: Codec[T]) -> None:
        super().__init__(value_type, encode=codec.encode, decode=codec.decode, is_json=codec.is_json, exact=False)
        self._codec = codec

    def _parse(self, data: bytes) -> object:
        return self._codec.to_tree(self._codec.decode(data))

    def _dump(self, tree: object) -> bytes:
        return self._codec.encode(self._codec.from_tree(tree))


def codec_for(value_type: type[T], *, json: bool, codec: Codec[T] | None = None) -> CheckedCodec[T]:
    """The codec for a type: the one given, pydantic's for its models, else msgspec's.

    Args:
        value_type: T.
        json: JSON, else MessagePack. (A pydantic model is JSON either way.)
        codec: a codec of the application's own.

    Raises:
        ConfigError: msgspec cannot work with this type; the message names the field and the fix.
    """
    if isinstance(codec, CheckedCodec):
        return cast("CheckedCodec[T]", codec)
    if codec is not None:
        return _ForeignCodec(value_type, codec)
    if is_pydantic(value_type):
        return PydanticCodec(value_type)
    return JSONCodec(value_type) if json else MessagePackCodec(value_type)


def is_pydantic(value_type: object) -> bool:
    """Whether it is a pydantic model. Imports nothing: who made a model has imported pydantic."""
    pydantic: Any = sys.modules.get("pydantic")  # Any: this file imports no pydantic
    return pydantic is not None and isinstance(value_type, type) and issubclass(value_type, pydantic.BaseModel)


def name_of(value_type: object) -> str:
    """A type's name, for messages."""
    if isinstance(value_type, type) and not typing.get_args(value_type):
        return value_type.__qualname__.rpartition("<locals>.")[2]
    return str(value_type)


def _prove(value_type: type[T], decoder: type[Any]) -> Callable[[bytes], T]:  # Any: two decoder classes without a common base
    """A decoder for this type, or ConfigError."""
    try:
        decode: Callable[[bytes], T] = decoder(value_type).decode
        unknown = next((path for path, node in _nodes(value_type) if _is_custom(node)), None)
        problem = f"msgspec does not know the type at `{unknown}`"
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


def _untyped(value_type: object) -> bool:
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
    path = "$"
    annotations = cast("dict[str, object]", getattr(value_type, "__annotations__", {}))
    for name, annotation in annotations.items():
        alone = type("_", (), {"__annotations__": {name: annotation}, "__module__": getattr(value_type, "__module__", "")})
        try:
            msgspec.json.Decoder(typing.get_type_hints(alone, include_extras=True)[name])
        except (TypeError, NameError, AttributeError, ValueError, RecursionError):
            return f"{path}.{name}"
    return path


def _why(value: object, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply, or a cycle"
    if isinstance(error, UnicodeError):
        return "a lone surrogate in a text"
    if isinstance(error, OverflowError):
        return "an integer of more than 64 bits"
    return f"`{type(value).__qualname__}`"
