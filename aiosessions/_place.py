"""One name in one store, worked out once: what a request's session is bound to."""

import re
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from aiosessions._errors import ConfigError
from aiosessions._given import check_part
from aiosessions._keeper import Keeper
from aiosessions._tokens import TokenDigest
from aiosessions.transports.transport import HTTPSOnly, Transport, check_name

_KNOWN = 64
"""How many names of one store are remembered: where visitors choose them there is no end."""
_NAMESPACE = re.compile(r"[A-Za-z0-9._/-]{0,64}", re.ASCII)


class Place:
    """One name in one store. Compared by identity, and so a key of what a request has found.

    Args:
        keeper: the store.
        name: the session's name.
        namespace: the store's.
        transport: where its tokens travel.
    """

    __slots__ = ("__weakref__", "bound", "digest", "keeper", "name", "needs_https", "prefix", "transport")

    def __init__(self, keeper: Keeper[Any], name: str, namespace: str, transport: Transport) -> None:
        self.keeper: Keeper[Any] = keeper  # Any: a store of any type; a session knows which
        self.name: str = name
        self.transport: Transport = transport
        self.bound: str = f"{namespace}:{name}" if namespace else name
        """What a sealed token is bound to."""
        self.prefix: str = f"{namespace}:{name}:"
        """What the keys of this name's records begin with."""
        self.digest: Callable[[str], bytes] = TokenDigest(namespace, name).of
        self.needs_https: bool = isinstance(transport, HTTPSOnly) and transport.needs_https

    def __repr__(self) -> str:
        return f"Place({self.bound!r})"

    def moved_to(self, other: "Place") -> "Place":
        """Where the records of *other* are, with tokens as they are here."""
        moved = Place(self.keeper, self.name, "", self.transport)
        moved.bound, moved.digest, moved.prefix = self.bound, self.digest, other.prefix
        return moved

    def key(self, handle: str) -> str:
        """The storage key of a session."""
        return self.prefix + handle


class Places:
    """The names of one store.

    Args:
        keeper: the store.
        own: the store's own name.
        namespace: keeps applications apart that share a storer or a key.
        transport: where its tokens travel.

    Attributes:
        known: every name that this process has opened, the store's own first; at most 64.

    Raises:
        ConfigError: *own* or *namespace* is outside the grammar.
    """

    __slots__ = ("_keeper", "_namespace", "_others", "_transport", "known", "own")

    def __init__(self, keeper: Keeper[Any], own: str, namespace: str, transport: Transport) -> None:  # Any: see Place
        check_part("transport", transport, ("read", "write", "clear", "vary"), "give CookieTransport() or another")
        check_name(transport, own)
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigError(f"namespace={namespace!r}: use at most 64 letters, digits, '.', '_', '-' and '/'")
        self._keeper = keeper
        self._namespace = namespace
        self._transport = transport
        self.own: Place = Place(keeper, own, namespace, transport)
        self.known: dict[str, Place] = {own: self.own}
        self._others: WeakValueDictionary[str, Place] = WeakValueDictionary()  # while they are in use

    def look_beside(self, transport: Transport) -> None:
        """The tokens of the store's own name travel with what came before a switch."""
        self.own = self.known[self.own.name] = self.older(self.own.name, transport)

    def older(self, name: str, transport: Transport) -> Place:
        """A place for no request to find: what had this name before."""
        return Place(self._keeper, name, self._namespace, transport)

    def of(self, name: str | None) -> Place:
        """The place of a name; None: the store's own. ValueError for one outside the grammar."""
        if name is None or name == self.own.name:
            return self.own
        place = self._others.get(name)
        if place is not None:
            return place

        try:
            check_name(self._transport, name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        place = self._others[name] = Place(self._keeper, name, self._namespace, self._transport)
        if len(self.known) < _KNOWN:
            self.known[name] = place
        return place
