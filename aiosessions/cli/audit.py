"""Finds the stores that `aiosessions audit package.module:store` names."""

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any, cast

from aiosessions._errors import ConfigError
from aiosessions.overseers.overseer import Overseer

__all__ = ["stores_of"]


def stores_of(target: str) -> list[Overseer[Any]]:  # Any: stores of any types
    """The store, or the stores of a list, of an application; what its import prints goes to standard error.

    Args:
        target: `package.module:store`; the working directory goes in front of `sys.path`.

    Raises:
        ConfigError: it cannot be imported, or is no store; the message says why.
    """
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise ConfigError("give package.module:store")

    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found: Any = importlib.import_module(name)  # Any: whatever an application holds
            for part in path.split("."):
                found = getattr(found, part)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the application's own
        raise ConfigError(f"{target} cannot be imported: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove(here)

    stores: list[Any] = list(cast("list[Any]", found)) if isinstance(found, list | tuple) else [found]
    for store in stores:
        if not isinstance(store, Overseer):
            kind = store.__name__ if isinstance(store, type) else type(store).__name__
            raise ConfigError(f"{target}: {kind} is no StorageOverseer or CookieOverseer, nor a list of them")
    if not stores:
        raise ConfigError(f"{target} is an empty list")
    return stores
