"""Stores as an application's adapter is given them: what it opens, and what it keeps alive."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from aiosessions._errors import STRIPPED, ConfigError, StorerError
from aiosessions._events import logger
from aiosessions._place import Places
from aiosessions._request_sessions import incoming
from aiosessions._store import Request, Store

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
        if not _is(store, AbstractAsyncContextManager):
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

    __slots__ = ("_given",)

    def __init__(self, stores: Sequence[Refreshed]) -> None:
        self._given = [_pair(each) for each in _listed("refresh", stores)]

    def __bool__(self) -> bool:
        return bool(self._given)

    async def load(self, request: Request) -> None:
        """Load what came with a request; where a backend fails, whoever looks is told by `get`."""
        _, sessions = incoming(request)
        away: list[Store[Any]] = []
        for store, name, is_given in self._wanted():
            if store in away:
                continue  # each name would take its time-out
            looked_for = len(sessions.found)
            try:
                with STRIPPED:  # this frame too has the cookies at hand
                    session = await store.get(request, name)
            except StorerError as error:
                which = name or getattr(store, "name", "")
                logger.error("session %r could not be refreshed", which, exc_info=error)
                away.append(store)
            except ConfigError:
                if is_given:
                    raise  # else another store has the cookie of this name in this request
            else:
                if session.is_degraded:
                    away.append(store)
                elif session.is_new and looked_for < len(sessions.found):
                    sessions.forget(session)  # nobody but us has looked

    def _wanted(self) -> Iterator[tuple[Store[Any], str | None, bool]]:
        for store, name in self._given:
            yield store, name, True
        for store, name in self._given:
            places = None if name else _places(store)
            if places is not None:
                yield from ((store, known, False) for known in tuple(places.known)[1:])


def _listed(option: str, stores: Any) -> list[Any]:  # Any: whatever somebody gave
    if _is_store(stores) or isinstance(stores, (str, bytes)) or not _is(stores, Iterable):
        raise ConfigError(f"{option}: {type(stores).__name__} is no list of stores: write {option}=[store]")
    return list(stores)


def _pair(each: Any) -> tuple[Store[Any], str | None]:  # Any: as above
    if not _is(each, tuple):
        _check("refresh", each)
        return each, None

    if len(each) != 2 or not isinstance(each[1], str):
        raise ConfigError("refresh: give a store, or (store, name)")
    store, name = each
    _check("refresh", store)
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

    if isinstance(store, type):
        raise ConfigError(f"{option}: {store.__name__} is a class: give a store that was made")
    kind = type(store).__name__
    if hasattr(store, "replace") and hasattr(store, "touch"):
        raise ConfigError(f"{option}: {kind} is a storer: give the overseer that uses it")
    raise ConfigError(f"{option}: {kind} is no store: give the store itself, a StorageOverseer or CookieOverseer")


def _is_store(store: Any) -> bool:  # Any: as above
    return not isinstance(store, type) and all(hasattr(store, name) for name in ("get", "require", "save", "update"))


def _is(value: object, kind: type) -> bool:
    """As isinstance, of which type checkers would learn half a type."""
    return isinstance(value, kind)


def _places(store: Any) -> Places | None:  # Any: as above
    """The names of a store; None: it is none of ours."""
    places = getattr(store, "places", None)
    return places if isinstance(places, Places) else None
