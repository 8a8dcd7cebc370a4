"""What a storer keeps, as an operator sees it: of every namespace and name, whatever the type of its value."""

import os
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import anyio

from aiosessions._errors import ConfigError, UnsupportedError
from aiosessions._state import BLANK, Meta
from aiosessions.overseers.devices import KEY, pages_of
from aiosessions.storers.disk import DiskStorer
from aiosessions.storers.memory import MemoryStorer
from aiosessions.storers.registry import storer_from_url
from aiosessions.storers.storer import Cleanable, Openable, Record, Storer, UserIndexed
from aiosessions.storers.together import reader

__all__ = [
    "Stored",
    "by_handle",
    "cleanable",
    "end",
    "end_user",
    "every",
    "is_namespace",
    "of_user",
    "opened",
    "owned_storer",
]

_NAMESPACE = re.compile(r"[A-Za-z0-9._/-]{0,64}", re.ASCII)


class Stored(NamedTuple):
    """One session; its `repr` shows no value.

    Args:
        namespace: "" for that of stores without one.
        name: the session's.
        handle: its public reference.
        record: as the storer keeps it.
        meta: blank where another version wrote it.
    """

    namespace: str
    name: str
    handle: str
    record: Record
    meta: Meta

    @staticmethod
    def of(key: str, record: Record) -> "Stored | None":
        """None for what is no session."""
        match = KEY.fullmatch(key)
        if match is None:
            return None
        return Stored(match[1], match[2], match[3], record, Meta.unpack(record.meta) or BLANK)

    @property
    def key(self) -> str:
        """Where the storer keeps it."""
        return f"{self.namespace}:{self.name}:{self.handle}"


def owned_storer(url: str) -> Storer:
    """The storer that an operator names.

    Raises:
        ConfigError: the URL is none, or names what another process has in its memory, or what is not there.
        ImportError: its driver is not installed; the message names the extra.
    """
    storer = storer_from_url(url)
    if isinstance(storer, MemoryStorer):
        raise ConfigError("memory: is seen by its own process only: give the URL of a storer that others can read")

    # They would be made, empty, and for whoever the operator is.
    path = None
    if isinstance(storer, DiskStorer):
        path = storer._path
    elif type(storer).__module__ == "aiosessions.storers.sqlite":  # a Python may lack it
        from aiosessions.storers.sqlite import SQLiteStorer

        assert isinstance(storer, SQLiteStorer)
        path = storer._file.path
    if path is not None and not os.path.lexists(path):
        raise ConfigError(f"{path} is not there")
    return storer


@asynccontextmanager
async def opened(storer: Storer) -> AsyncGenerator[None]:
    """Open what needs it, and close it.

    Raises:
        StorerError, ConfigError: as its `open`.
    """
    if not isinstance(storer, Openable):
        yield
        return

    await storer.open()
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await storer.aclose()


async def every(storer: Storer, namespace: str | None) -> AsyncGenerator[Stored]:
    """Every live session of *namespace*; None: of all.

    Raises:
        UnsupportedError: the storer cannot walk through its keys.
        StorerError: the backend failed.
    """
    read_together = reader(storer)
    async for keys in _pages(storer, namespace):
        for stored in _sessions(zip(keys, await read_together(keys), strict=True)):
            yield stored


async def by_handle(storer: Storer, namespace: str | None, handle: str) -> list[Stored]:
    """The live session of this handle, under whatever name; more than one only where somebody copied records.

    Raises:
        UnsupportedError, StorerError: as `every`.
    """
    keys = [key async for page in _pages(storer, namespace) for key in page if key.endswith(f":{handle}")]
    return _sessions(zip(keys, await reader(storer)(keys), strict=True)) if keys else []


async def of_user(storer: Storer, namespace: str | None, user: str) -> list[Stored]:
    """The live sessions of a user, newest use first.

    Raises:
        UnsupportedError: the storer has no user index.
        StorerError: the backend failed.
    """
    listed = _sessions(await _indexed(storer).list_by_owner(user, prefix=_prefix(namespace)))
    return sorted(listed, key=lambda stored: stored.record.seen_at, reverse=True)


async def end(storer: Storer, sessions: Iterable[Stored]) -> int:
    """End them, whatever was written to them meanwhile; how many were there.

    Raises:
        StorerError: the backend failed: some may not have ended.
    """
    return sum([await storer.delete(stored.key) for stored in sessions])


async def end_user(storer: Storer, namespace: str | None, user: str) -> int:
    """End all sessions of a user; how many went.

    Raises:
        UnsupportedError, StorerError: as `of_user`; some may not have ended.
    """
    return await _indexed(storer).delete_by_owner(user, prefix=_prefix(namespace))


def cleanable(storer: Storer) -> Cleanable:
    """The storer, if there is something to clean; UnsupportedError if its server does so."""
    if isinstance(storer, Cleanable):
        return storer
    raise UnsupportedError(f"{type(storer).__name__} has nothing to clean: its server removes what has expired")


def is_namespace(text: str) -> bool:
    """Whether stores can have this namespace."""
    return _NAMESPACE.fullmatch(text) is not None


def _indexed(storer: Storer) -> UserIndexed:
    if isinstance(storer, UserIndexed):
        return storer
    raise UnsupportedError(f"{type(storer).__name__} does not know whose sessions it keeps: it has no user index")


async def _pages(storer: Storer, namespace: str | None) -> AsyncGenerator[list[str]]:
    """The keys of every session, each once."""
    seen: set[str] = set()
    async with aclosing(pages_of(storer, namespace)) as pages:
        async for keys in pages:
            page = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(page)
            yield page


def _sessions(listed: Iterable[tuple[str, Record | None]]) -> list[Stored]:
    return [stored for key, record in listed if record is not None and (stored := Stored.of(key, record)) is not None]


def _prefix(namespace: str | None) -> str:
    return "" if namespace is None else f"{namespace}:"
