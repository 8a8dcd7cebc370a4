"""T to bytes and back, checked on the way in.

Whatever msgspec, pydantic, a foreign codec or the application's own classes raise leaves here as EncodeError or
DecodeError, and holds no value: not in the message, not as a cause or context, not in a frame's local variables.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from aiosessions._errors import DecodeError, EncodeError
from aiosessions._given import check_part
from aiosessions.values.equality import difference, parts
from aiosessions.values.misfit import misfit, pydantic_misfit, why
from aiosessions.values.models import is_pydantic, prove_model
from aiosessions.values.shape import Shape, shape_of
from aiosessions.values.value_type import decoder_for, name_of

__all__ = ["CheckedCodec", "Codec", "JSONCodec", "MessagePackCodec", "PydanticCodec", "codec_for"]

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")

_UNKNOWN = Shape()
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
        parse: bytes to a tree without T, so that unknown fields are in it.
        dump: a tree to bytes.
        is_json: whether the bytes are a JSON document.
        stable: T to bytes that are equal for equal values, whatever the order of sets and dicts.
        shape: what is known of the type.
        probe: encodes any part of a value, to find the one that cannot be encoded.
        explain: where and why a value did not fit, by the error that decoding raised, showing no value.
    """

    def __init__(
        self,
        value_type: type[T],
        *,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        parse: Callable[[bytes], object] = msgspec.json.decode,
        dump: Callable[[object], bytes] = msgspec.json.encode,
        is_json: bool,
        stable: Callable[[T], bytes] | None = None,
        shape: Shape = _UNKNOWN,
        probe: Callable[[object], bytes] | None = None,
        explain: Callable[[Exception], str] | None = None,
    ) -> None:
        self.value_type = value_type
        self._encode = encode
        self._decode = decode
        self._parse = parse
        self._dump = dump
        self.is_json: bool = is_json
        """Whether the bytes are a JSON document."""
        self.is_settled: bool = shape.is_settled
        """Whether what comes back is encoded to the same bytes: see `Shape`."""
        self._stable = stable
        self._shape = shape
        form = (b"json" if is_json else b"msgpack") + b" settled" * (self.is_settled and shape.has_floats)
        self._seed = shape.seed and (zlib.crc32(form, shape.seed) or 1)
        self._probe = probe
        self._misfit = explain or misfit
        self._name = name_of(value_type)
        self._may_hide = not shape.is_known or (shape.has_nullable_floats and is_json)

    def encode(self, value: T) -> bytes:
        """The bytes; EncodeError names the part that has none."""
        try:
            return self._encode(value)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (the application's classes may raise anything while they are encoded)
            problem = self._unencodable(value, error)
        del value  # tracebacks may show local variables
        raise EncodeError(f"{self._name} cannot be encoded {problem}")

    def decode(self, data: bytes) -> T:
        """A new value; DecodeError names the field that does not fit."""
        try:
            return self._decode(data)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (__post_init__ and validators may raise anything)
            problem = self._misfit(error)
        del data
        raise DecodeError(f"the bytes do not fit {self._name} {problem}")

    def check(self, value: T, data: bytes) -> T:
        """What *data*, the encoded *value*, comes back as; EncodeError if that is not the same (CONTRACT V1, V9)."""
        back = None
        try:
            back = self._decode(data)
            problem = None if self._shape.is_fair and value == back else difference(value, back, exact=False)
            if problem is None:
                return back
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (as in decode, and __eq__ may raise anything)
            problem = self._misfit(error)
        del value, data, back
        raise EncodeError(f"the value does not fit {self._name} {problem}")

    def spelling(self, data: bytes) -> int:
        """A number that says: `encode` made these very bytes, of this very type; kept beside them.

        Returns:
            The same in every process, as long as the type's classes, fields and types, and the format, are the same;
            never 0. 0 for a type that is not known to us (a pydantic model, a codec of the application's own).
        """
        return self._seed and (zlib.crc32(data, self._seed) or 1)

    def hides(self, data: bytes) -> bool:
        """Whether *data*, an encoded value, may be the bytes of another value too.

        JSON writes NaN as it writes None; a pydantic model and a codec of the application's own may leave out or change
        what they like.
        """
        return self._may_hide and (not self._shape.is_known or b"null" in data)

    def changed(self, base: bytes, value: T, data: bytes, *, spelling: int = 0) -> bytes | None:
        """What is to be stored of a *value* that says something else than *base* does, checked; None: it does not.

        Args:
            base: the stored bytes.
            value: the value.
            data: its bytes.
            spelling: what `spelling` gave for the bytes that were stored; 0 if it is not known.

        Raises:
            EncodeError: it would not come back the same (CONTRACT V1, V9).
        """
        shape = self._shape
        if base == data and not self.hides(data):
            return None
        if self.is_settled and base != data and 0 != spelling == self.spelling(base):
            # both differ by a change, or by another order of the same keys: the bytes of both have then one sum, which
            # the lower half of an Adler-32 is (RFC 1950 §8.2)
            ours = self.settled(value, data)
            if ours == base:
                return None
            if not (shape.has_keys and len(base) == len(ours)) or (zlib.adler32(base) ^ zlib.adler32(ours)) & 0xFFFF:
                return ours
        return None if self.unchanged(base, value, data) else self.settled(value, data)

    def settled(self, value: T, data: bytes) -> bytes:
        """*data*, the encoded *value*, checked, and as it will be encoded when it has come back: 1 for 1.0 is not."""
        back = self.check(value, data)
        return self._encode(back) if self.is_settled and self._shape.has_floats else data

    def unchanged(self, base: bytes, value: T, data: bytes) -> bool:
        """Whether *value*, encoded as *data*, says what the stored *base* says (CONTRACT V3).

        A backend may have written it differently, and a set iterates as it likes.
        """
        if base == data and not self.hides(data):
            return True
        shape = self._shape
        try:
            before = self._decode(base)
            if base == data or self._encode(before) == data:
                is_same = not self.hides(data) or (shape.is_fair and value == before)
                return is_same or difference(value, before, exact=False) is None
            if shape.is_fair and not shape.has_times and before != value:
                return False
            # a field that was left out may be written now, with the default that it had; a set may have no order
            return difference(before, value) is None and difference(value, before) is None
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (what cannot be compared counts as changed: it is written, and checked then)
            return False

    def to_tree(self, value: T) -> object:
        """The value as it is written: dicts, lists and scalars, sets in a settled order where their items have one."""
        try:
            settled = None if self._stable is None else _attempt(self._stable, value)[0]
            return self.parse(settled or self.encode(value))
        finally:
            del value  # tracebacks may show local variables

    def from_tree(self, tree: object) -> T:
        """A new value; DecodeError for a tree that does not fit."""
        try:
            return self.decode(self.dump(tree))
        finally:
            del tree  # tracebacks may show local variables

    def parse(self, data: bytes) -> object:
        """Bytes as a tree, without T: unknown fields are in it. DecodeError for bytes that are no document."""
        tree, error = _attempt(self._parse, data)
        if error is None:
            return tree
        del data, error
        raise DecodeError(f"the bytes of {self._name} are no document")

    def dump(self, tree: object) -> bytes:
        """A tree as bytes; DecodeError for one that has none."""
        data, error = _attempt(self._dump, tree)
        if data is not None:
            return data
        del tree, error
        raise DecodeError(f"a document of {self._name} cannot be written")

    def _unencodable(self, value: object, error: Exception) -> str:
        """Where and why: the deepest part that cannot be encoded by itself."""
        path = "$"
        for _ in range(_DEPTH):
            failing = next(self._failing(value), None)
            if failing is None:
                break
            step, value, error = failing
            path += step
        return f"at `{path}`: {why(value, error)}"

    def _failing(self, value: object) -> Iterator[tuple[str, object, Exception]]:
        if self._probe is None:
            return
        for step, part in parts(value):
            _, error = _attempt(self._probe, part)
            if error is not None:
                yield step, part, error


class _MsgspecCodec(CheckedCodec[T]):
    """What the two formats of msgspec have in common.

    Args:
        value_type: T.

    Raises:
        ConfigError: msgspec cannot work with this type; the message names the field.
    """

    _form: Any  # Any: msgspec's module for the format

    def __init__(self, value_type: type[T]) -> None:
        form = self._form
        super().__init__(
            value_type,
            encode=form.Encoder().encode,
            decode=decoder_for(value_type, form.Decoder),
            parse=form.decode,
            dump=form.encode,
            is_json=form is msgspec.json,
            stable=form.Encoder(order="deterministic").encode,
            shape=shape_of(value_type),
            probe=form.encode,
        )


class JSONCodec(_MsgspecCodec[T]):
    """JSON by msgspec: dataclasses, attrs, TypedDict, Struct, NamedTuple, builtins, and what they hold.

    Raises:
        ConfigError: msgspec cannot work with this type; the message names the field.
    """

    _form = msgspec.json


class MessagePackCodec(_MsgspecCodec[T]):
    """MessagePack by msgspec: smaller than JSON, for what nobody else reads. Types as JSONCodec.

    Raises:
        ConfigError: msgspec cannot work with this type; the message names the field.
    """

    _form = msgspec.msgpack


class PydanticCodec(CheckedCodec[T]):
    """JSON by pydantic (2.11 or later), under the fields' names, not their aliases, which may differ per direction.

    Raises:
        ConfigError: a field of the model is not written; the message names it and the fix.
    """

    def __init__(self, model: type[T]) -> None:
        pydantic_model: Any = model  # Any: this file imports no pydantic
        prove_model(pydantic_model)

        def encode(value: Any) -> bytes:  # Any: see above
            # no warnings: they would show the value, and decoding finds what they are about
            text: str = value.model_dump_json(by_alias=False, round_trip=True, warnings=False)
            return text.encode()

        def decode(data: bytes) -> T:
            return cast("T", pydantic_model.model_validate_json(data, by_alias=False, by_name=True))

        probe = cast("Callable[[object], bytes]", sys.modules["pydantic_core"].to_json)
        super().__init__(model, encode=encode, decode=decode, is_json=True, probe=probe, explain=pydantic_misfit)


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
        return codec
    if codec is not None:
        check_part("codec", codec, ("encode", "decode", "to_tree", "from_tree"), "give JSONCodec() or another")
        return CheckedCodec(
            value_type,
            encode=codec.encode,
            decode=codec.decode,
            # there are no raw documents: unknown fields do not survive a write
            parse=lambda data: codec.to_tree(codec.decode(data)),
            dump=lambda tree: codec.encode(codec.from_tree(tree)),
            is_json=codec.is_json,
        )
    if is_pydantic(value_type):
        return PydanticCodec(value_type)
    return JSONCodec(value_type) if json else MessagePackCodec(value_type)


def _attempt(function: Callable[[A], R], argument: A) -> tuple[R | None, Exception | None]:
    try:
        return function(argument), None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (as in encode and decode)
        return None, error
