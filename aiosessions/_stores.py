"""Stores as an application's adapter is given them: what it opens, and what it keeps alive."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeAlias

from aiosessions._errors import STRIPPED, ConfigError, StorerError
from aiosessions._events import logger
from aiosessions._place import Places
from aiosessions._request_sessions import incoming
from aiosessions._store import Request, Store

__all__ = ["Refresh", "Refreshed", "check_mapping", "openable"]

# Any, here and below: stores of any types
Refreshed: TypeAlias = Store[Any] | tuple[Store[Any], str]


def openable(stores: Sequence[Store[Any]]) -> list[AbstractAsyncContextManager[Any]]:
    """The stores as what an application's lifespan opens and closes.

    Raises:
        ConfigError: they are no list of stores that can be opened and closed, or two have one name on one transport.
    """
    opened: list[AbstractAsyncContextManager[Any]] = []
    names: dict[tuple[str, str], object] = {}
    for store in _listed("stores", stores):
        _check("stores", store)
        if not isinstance(store, AbstractAsyncContextManager):
            raise ConfigError(f"stores: {type(store).__name__} is no async context manager, and so cannot be opened")
        places = _places(store)
        if places is not None:
            name = places.own.name
            if names.setdefault((name, repr(places.own.transport)), store) is not store:
                raise ConfigError(f"stores: two are called {name!r} on one transport: give one of them another name=")
        opened.append(store)
    return opened


def check_mapping(option: str, store: object) -> None:
    """Raise ConfigError for what is no store whose sessions are mappings."""
    _check(option, store)
    if not getattr(store, "is_mapping", True):
        raise ConfigError(f"{option}: the sessions of {store!r} are no mappings: give a store of dict[str, Any]")


class Refresh:
    """Sessions that are loaded and touched with every request, also where no handler looks.

    Args:
        stores: a store stands for its own name and every name that this process has opened through it, at most 64;
            `(store, name)` for another.

    Raises:
        ConfigError: they are no list of these, or a name is outside the grammar.
    """

    __slots__ = ("_named", "_stores")

    def __init__(self, stores: Sequence[Refreshed]) -> None:
        self._stores: list[Store[Any]] = []
        self._named: list[tuple[Store[Any], str]] = []
        for each in _listed("refresh", stores):
            if isinstance(each, tuple):
                self._named.append(_pair(each))
            else:
                _check("refresh", each)
                self._stores.append(each)

    def __bool__(self) -> bool:
        return bool(self._stores or self._named)

    async def load(self, request: Request) -> None:
        """Load what came with a request; where the backend fails, whoever looks is told by `get`."""
        for store in self._stores:
            await self._get(store, request, None)
        for store, name in self._named:
            await self._get(store, request, name)
        for store in self._stores:
            places = _places(store)
            for known in () if places is None else tuple(places.known):
                with suppress(ConfigError):  # in this request another store has the cookie of this name
                    await self._get(store, request, known)

    @staticmethod
    async def _get(store: Store[Any], request: Request, name: str | None) -> None:
        _, sessions = incoming(request)
        looked_for = len(sessions.found)
        try:
            with STRIPPED:  # this frame too has the cookies at hand
                session = await store.get(request, name)
        except StorerError as error:
            logger.error("a session could not be refreshed", exc_info=error)
        else:
            if session.is_new and looked_for < len(sessions.found):
                sessions.forget(session)  # nobody but us has looked


def _listed(option: str, stores: Any) -> list[Any]:  # Any: whatever somebody gave
    if _is_store(stores) or not isinstance(stores, Iterable) or isinstance(stores, (str, bytes)):
        raise ConfigError(f"{option}: {type(stores).__name__} is no list of stores: write {option}=[store]")
    return list(stores)


def _pair(each: tuple[Any, ...]) -> tuple[Store[Any], str]:
    if len(each) != 2:
        raise ConfigError(f"refresh: give (store, name), and no tuple of {len(each)}")

    store, name = each
    _check("refresh", store)
    if not isinstance(name, str):
        raise ConfigError(f"refresh: {type(name).__name__} is no name: give (store, name)")
    places = _places(store)
    try:
        if places is not None:
            places.of(name)
    except ValueError as error:
        raise ConfigError(f"refresh: {error}") from None
    return store, name


def _check(option: str, store: Any) -> None:  # Any: as above
    if _is_store(store):
        return

    kind = type(store).__name__
    if hasattr(store, "replace") and hasattr(store, "touch"):
        raise ConfigError(f"{option}: {kind} is a storer: give the overseer that uses it")
    raise ConfigError(f"{option}: {kind} is no store: give the store itself, a StorageOverseer or CookieOverseer")


def _is_store(store: Any) -> bool:  # Any: as above
    return not isinstance(store, type) and all(hasattr(store, name) for name in ("get", "require", "save", "update"))


def _places(store: Any) -> Places | None:  # Any: as above
    """The names of a store; None: it is none of ours."""
    places = getattr(store, "places", None)
    return places if isinstance(places, Places) else None
