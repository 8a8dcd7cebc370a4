"""One name in one store, worked out once: what a request's session is bound to."""

from typing import Any, Protocol, TypeVar

from aiosessions._lifetime import Lifetime
from aiosessions._tokens import TokenDigest
from aiosessions.transports.transport import HTTPSOnly, Transport

__all__ = ["Keeper", "Place"]

T_co = TypeVar("T_co", covariant=True)


class Keeper(Protocol[T_co]):
    """What a session asks of the store that opened it; answered without I/O."""

    @property
    def lifetime(self) -> Lifetime:
        """The store's."""
        ...

    def now(self) -> float:
        """Unix seconds; never goes back."""
        ...

    def fresh(self) -> tuple[T_co, bytes]:
        """A new value, and its bytes."""
        ...

    def check_lifetime(self, lifetime: Lifetime) -> None:
        """Raise ConfigError for one that this store cannot keep."""
        ...


class Place:
    """One name in one store. Compared by identity, and so a key of what a request has found.

    Args:
        keeper: the store.
        name: the session's name.
        namespace: the store's.
        transport: where its tokens travel.
    """

    __slots__ = ("__weakref__", "bound", "digest", "keeper", "name", "needs_https", "prefix", "transport")

    def __init__(self, keeper: Any, name: str, namespace: str, transport: Transport) -> None:
        self.keeper: Any = keeper  # Any: a store of any type; a session knows which
        self.name = name
        self.transport = transport
        self.bound = f"{namespace}:{name}" if namespace else name
        """What a sealed token is bound to."""
        self.prefix = f"{namespace}:{name}:"
        """What the keys of this name's records begin with."""
        self.digest = TokenDigest(namespace, name)
        self.needs_https = isinstance(transport, HTTPSOnly) and transport.needs_https

    def __repr__(self) -> str:
        return f"Place({self.bound!r})"

    def key(self, handle: str) -> str:
        """The storage key of a session."""
        return self.prefix + handle
