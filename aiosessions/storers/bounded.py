"""One operation of a backend: bounded in time, and whatever a driver raises leaves it as a StorerError (S13)."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

import anyio

from aiosessions._errors import ConfigError, StorerError

__all__ = ["bounded", "seconds_of"]


def seconds_of(timeout: timedelta) -> float:
    """The time-out that a storer was given, in seconds.

    Raises:
        ConfigError: it is not positive.
    """
    if timeout <= timedelta(0):
        raise ConfigError(f"timeout={timeout}: give a positive duration")
    return timeout.total_seconds()


def _type_name(error: Exception) -> str:
    return type(error).__name__


@contextmanager
def bounded(
    seconds: float,
    errors: tuple[type[Exception], ...],
    *,
    where: str,
    describe: Callable[[Exception], str] = _type_name,
    shield: bool = False,
) -> Generator[None]:
    """What one operation runs in.

    Args:
        seconds: how long it may take.
        errors: what the driver raises.
        where: names the backend in messages, without a password.
        describe: says what happened, without a value or a password.
        shield: whether a cancelled scope waits for the answer that is under way.

    Raises:
        StorerError: it took too long, or the driver raised; that error is the cause.
    """
    try:
        with anyio.fail_after(seconds, shield=shield):
            yield
    except TimeoutError as error:
        raise StorerError(f"{where}: no answer within {seconds:g} s") from error
    except errors as error:
        raise StorerError(f"{where}: {describe(error)}") from error
