"""A session of a signed-in user, without the application's login page."""

from typing import TypeVar

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
    session = store.new(_Request(), name)
    if value is not None:
        session.value = value
    session.set_user(user_id)
    response = _Response()
    await store.save(session, response)
    return Credentials(response.headers.lines)


class _Request:
    """A request that brings nothing."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.scope: dict[str, object] = {"type": "http", "scheme": "https", "headers": []}


class _Response:
    def __init__(self) -> None:
        self.headers = ResponseHeaders()


class ResponseHeaders:
    """As much of a framework's headers as a store needs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def add(self, name: str, value: str) -> None:
        self.lines.append((name, value))

    def __contains__(self, name: str) -> bool:
        return bool(self.getlist(name))

    def __delitem__(self, name: str) -> None:
        self.lines = [line for line in self.lines if line[0].lower() != name.lower()]
