"""A session of a signed-in user, without the application's login page."""

from typing import TypeVar

from aiosessions._exchange import Exchange
from aiosessions._store import Store

__all__ = ["Credentials", "signed_in"]

T = TypeVar("T")

_NO_CREDENTIALS = frozenset(("set-cookie", "cache-control", "vary", "access-control-expose-headers"))


class Credentials(dict[str, str]):
    """Cookies by name, for a client that has a jar.

    Attributes:
        headers: what a client without one sends along: a `Cookie` header, or the session's own.
        set_cookies: the Set-Cookie lines.
    """

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self.set_cookies: list[str] = [value for name, value in lines if name.lower() == "set-cookie"]
        pairs = [line.partition(";")[0].partition("=") for line in self.set_cookies]
        super().__init__((name, value) for name, _, value in pairs)
        self.headers: dict[str, str] = {name: value for name, value in lines if name.lower() not in _NO_CREDENTIALS}
        if self:
            self.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.items())

    def __repr__(self) -> str:
        return f"Credentials({[*self, *self.headers]})"


async def signed_in(store: Store[T], user_id: str, value: T | None = None, *, name: str | None = None) -> Credentials:
    """Store a new session with this user bound to it, and give what a client must send to have it.

    Args:
        store: the application's own.
        user_id: whose session it is.
        value: None: the store's default.
        name: the session's name; None: the store's own.

    Raises:
        SessionError: what the store raises when it saves.
    """
    exchange = Exchange()
    session = store.new(exchange, name)
    if value is not None:
        session.value = value
    session.set_user(user_id)
    await store.save(session, exchange)
    return Credentials(exchange.headers)
