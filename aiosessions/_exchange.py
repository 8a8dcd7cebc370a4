"""A request and a response in one, where no framework has them."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from aiosessions._errors import ConfigError
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._request_sessions import RequestSessions, incoming_other
from aiosessions._views import RequestView

_SCHEMES = ("https", "http", "wss", "ws")
_PAIRS = "give pairs of str, like [('Cookie', '...')]: the items() of a mapping, and bytes decoded as latin-1"


class Exchange:
    """A request and a response in one: for frameworks without an adapter, RPC, queues, Socket.IO, and for jobs.

    `session = await store.get(exchange)`, or `store.new(exchange)` where there is no request; then
    `await store.save(session, exchange)`, since nobody else saves it. Stores of any kind and number share one.

    Make one for each request, and never use it for a second: it keeps the sessions that it has opened, and the next
    client would be given those of the last. Whoever holds a connection for long gets its session once, from the
    handshake, and works on with `save` and `update`.

    Args:
        headers: of the request; names in any case, and as often as they came.
        scheme: of the request: `https`, `http`, `wss` or `ws`. A Secure cookie on plain http gets a warning.

    Attributes:
        headers: what is to be sent to the client, in pairs: Set-Cookie or the session's own header, Cache-Control, Vary
            (and Clear-Site-Data). What the application has put there is merged. The request's are not among them.

    Raises:
        ConfigError: *headers* are no pairs of str, or hold what no server passes on: a line break or a NUL
            (RFC 9110 §5.5); such a request is answered with 400. Or the *scheme* is another.
    """

    __slots__ = ("_sessions", "_told", "_view", "headers")

    def __init__(self, headers: Iterable[tuple[str, str]] = (), scheme: str = "https") -> None:
        if scheme not in _SCHEMES:
            raise ConfigError(f"scheme={scheme!r:.80}: give one of {_SCHEMES}")
        self._view = _Lines(list(_checked(headers)), scheme)
        self._sessions = RequestSessions(_Exchanged(scheme))
        self._told: dict[Place, str] = {}
        self.headers: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return f"<Exchange {self._view.scheme}, {len(self.headers)} headers to send>"

    @property
    def tokens(self) -> dict[str, str]:
        """The token of each session that `save` has one for, by the session's name, as a client presents it.

        In a cookie or header of its own, or wherever it travels; chunks are joined. None for a session whose token did
        not change, and none for one that was destroyed. Credentials: their `repr` does not show them. Of two stores
        with one name, on two transports, the later one's.
        """
        return _Tokens((place.name, token) for place, token in self._told.items())

    def _carry(self, reply: Reply, place: Place) -> None:
        """What a session's reply has to say is put on this one, and remembered."""
        word = reply.words.get(place)
        view = _Lines(self.headers)
        reply.write_on(view, place)
        place.transport.vary(view, place.name)
        if word is not None:
            self._told.pop(place, None)
            if word.token is not None:
                self._told[place] = word.token


class _Exchanged(Reply):
    """What an Exchange carries."""

    advice: ClassVar[str] = "`await store.save(session, exchange)`"


class _Tokens(dict[str, str]):
    """Tokens by name."""

    def __repr__(self) -> str:
        return f"Tokens({[*self]})"


class _Lines:
    """A view of a list of headers, changed in place."""

    __slots__ = ("_lines", "scheme")

    def __init__(self, lines: list[tuple[str, str]], scheme: str = "https") -> None:
        self._lines = lines
        self.scheme: str = scheme

    def header(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for key, value in self._lines if key.lower() == wanted]

    def add(self, name: str, value: str) -> None:
        self._lines.append((name, value))

    def replace(self, name: str, values: Iterable[str]) -> None:
        wanted = name.lower()
        self._lines[:] = [line for line in self._lines if line[0].lower() != wanted]
        self._lines += [(name, value) for value in values]


def _checked(headers: Iterable[object]) -> Iterator[tuple[str, str]]:
    for pair in headers:
        match pair:
            case [str(name), str(value)]:
                if any(each in text for text in (name, value) for each in "\r\n\0"):
                    raise ConfigError(
                        f"headers: a line break or NUL in {name!r:.80}, as no server passes on: answer 400"
                    )
                yield name, value
            case _:
                raise ConfigError(f"headers: {_PAIRS}")


@incoming_other.register
def _incoming(exchange: Exchange) -> tuple[RequestView, RequestSessions]:
    return exchange._view, exchange._sessions
