"""Where a store looks for what came before a switch: beside its own token, under names that were used then."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from msgspec import structs

from aiosessions._errors import ConfigError
from aiosessions._events import logger
from aiosessions._place import Place
from aiosessions._views import RequestView, ResponseView
from aiosessions.overseers.alias import Alias
from aiosessions.overseers.importer import Importer
from aiosessions.transports.cookies import CookieTransport
from aiosessions.transports.transport import Carried, HTTPSOnly, Transport, check_name

T = TypeVar("T")
Import: TypeAlias = Importer[T] | Alias


class Source(NamedTuple, Generic[T]):
    """One of them.

    Args:
        given: by the application.
        transport: where its tokens travel.
        name: what they are called there.
        where: the cookie or header on the wire.
        until: it counts until then, unix seconds; None: always.
        is_cleared: once our session is stored.
    """

    given: Import[T]
    transport: Transport
    name: str
    where: str
    until: float | None
    is_cleared: bool


class _Nothing:
    """A request without headers."""

    scheme: str = "https"

    def header(self, name: str) -> list[str]:  # noqa: ARG002  # a view of a request has it
        return []


def sources_of(imports: Iterable[Import[T]], own: Place, now: Callable[[], float]) -> dict[str, Source[T]]:
    """What is to be looked at, in its order, by what it is called on the wire.

    Args:
        imports: as the application gave them.
        own: the store's own place.
        now: unix seconds.

    Raises:
        ConfigError: one of them cannot be told from the store's own, or from another.
    """
    sources: dict[str, Source[T]] = {}
    wires = {own.transport.read(_Nothing(), own.name).where: "the store's own"}
    for given in imports:
        source = _source(given, own.transport)
        if source.where in wires:
            raise ConfigError(f"imports: the {source.where} of {given!r} is {wires[source.where]}: give another name")
        wires[source.where] = "another's too"
        if source.until is not None and source.until <= now():
            logger.warning("imports: %r ended at %s and is not looked at: remove it", given, given.until)
        else:
            sources[source.where] = source
    return sources


def _source(given: Import[Any], own: Transport) -> Source[Any]:  # Any: of a store of any type
    if isinstance(given, Alias):
        transport, name, is_cleared = given.transport or own, given.name, True
        check_name(transport, name)
    elif isinstance(given, Importer):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a checker
        transport, name, is_cleared = CookieTransport(given.options), given.cookie, given.clear
    else:
        raise ConfigError(f"imports: {given!r:.80} is neither an importer of aiosessions.migration nor an Alias")
    where = transport.read(_Nothing(), name).where
    return Source(given, transport, name, where, _seconds(given.until), is_cleared)


def _seconds(until: datetime | None) -> float | None:
    return None if until is None else until.timestamp()


class Beside:
    """The transport of a store's own name, with what may come beside it.

    Args:
        own: the store's.
        sources: what else is read while it counts, and cleared with the token that takes its place; by name on the
            wire.
        now: unix seconds.
    """

    def __init__(  # Any: of a store of any type
        self, own: Transport, sources: Mapping[str, Source[Any]], now: Callable[[], float]
    ) -> None:
        self._own = own
        self._sources = sources
        self._now = now

    @property
    def needs_https(self) -> bool:
        """See `HTTPSOnly`."""
        return isinstance(self._own, HTTPSOnly) and self._own.needs_https

    def read(self, request: RequestView, name: str) -> Carried:
        """See `Transport.read`."""
        carried = self._own.read(request, name)
        now = self._now()
        counting = (source for source in self._sources.values() if source.until is None or now < source.until)
        beside = (source.transport.read(request, source.name) for source in counting)
        others = tuple(theirs for theirs in beside if theirs.present)
        return structs.replace(carried, others=others) if others else carried

    def write(self, response: ResponseView, name: str, token: str, carried: Carried, max_age: int | None) -> None:
        """See `Transport.write`."""
        self._own.write(response, name, token, carried, max_age)
        self._clear_others(response, carried)

    def clear(self, response: ResponseView, name: str, carried: Carried) -> None:
        """See `Transport.clear`. Of the store's own there may be nothing."""
        if carried.present:
            self._own.clear(response, name, carried)
        self._clear_others(response, carried)

    def vary(self, response: ResponseView, name: str) -> None:
        """See `Transport.vary`."""
        self._own.vary(response, name)
        for source in self._sources.values():
            source.transport.vary(response, source.name)

    def _clear_others(self, response: ResponseView, carried: Carried) -> None:
        for theirs in carried.others:
            source = self._sources[theirs.where]
            if source.is_cleared:
                source.transport.clear(response, source.name, theirs)
