"""New values of one type."""

from collections.abc import Callable
from typing import Generic, TypeVar

from aiosessions._errors import ConfigError, DecodeError, EncodeError
from aiosessions.values.codecs import CheckedCodec

__all__ = ["Blank"]

T = TypeVar("T")


class Blank(Generic[T]):
    """Makes new values, each by itself (a default may depend on the time) and through the codec.

    Args:
        codec: the store's codec.
        value_type: T, which makes a value if nothing else does.
        default: makes a value.

    Raises:
        ConfigError: a value cannot be made without arguments, or cannot be stored, or does not stay what it is when it
            is stored again; the message names the field and the fix. What *default* raises leaves as it is.
    """

    def __init__(self, codec: CheckedCodec[T], value_type: type[T], default: Callable[[], T] | None) -> None:
        if default is not None and not callable(default):
            raise ConfigError(f"default={type(default).__name__} cannot be called: write default=lambda: ...")

        self._codec = codec
        self._make: Callable[[], T] = default or value_type
        name = getattr(value_type, "__name__", str(value_type))
        try:
            made = self._make()
        except MemoryError:
            raise
        except Exception:  # pydantic's ValidationError, and whatever else a class raises that wants arguments
            if default is not None:
                raise
            raise ConfigError(f"{name} cannot be made without arguments: give default=") from None
        try:
            value = codec.decode(codec.encode(made))
            codec.check(value, codec.encode(value))
        except (EncodeError, DecodeError) as error:
            raise ConfigError(f"a new {name} cannot be stored: {error}: change the type, or give default=") from None

    def __call__(self) -> tuple[T, bytes]:
        """A new value that went through the codec, so that a mutable default is never shared; and its bytes."""
        data = self._codec.encode(self._make())
        return self._codec.decode(data), data
