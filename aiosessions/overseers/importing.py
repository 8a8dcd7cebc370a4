"""From what came before a switch to a session of ours: asked only where no token of ours came at all."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from hashlib import sha256
from typing import Generic, Protocol, TypeVar

from msgspec import structs

from aiosessions import _base64url
from aiosessions._errors import DecodeError, EncodeError, StorerError
from aiosessions._events import Reporter
from aiosessions._flashes import packed_flash
from aiosessions._origin import Origin
from aiosessions._place import Place, Places
from aiosessions._reply import Reply
from aiosessions._session import Session
from aiosessions._state import Ending, Meta, State, Wishes
from aiosessions._text import check_user_id
from aiosessions.overseers.alias import Alias
from aiosessions.overseers.beside import Beside, Import, Source, sources_of
from aiosessions.overseers.importer import Importer, NotImportedError, Theirs, earlier
from aiosessions.overseers.origins import Foreign, Remembering
from aiosessions.transports.transport import Carried
from aiosessions.values.codecs import CheckedCodec

T = TypeVar("T")


class Load(Protocol[T]):
    """Finds the session of a request."""

    def __call__(self, place: Place, carried: Carried, reply: Reply, *, touch: bool) -> Awaitable[Session[T]]: ...


class Home(Remembering, Protocol[T]):
    """What differs between sessions that a storer keeps and those that clients hold."""

    def load(self, place: Place, carried: Carried, reply: Reply, *, touch: bool) -> Awaitable[Session[T]]:
        """As if nothing had come beside."""
        ...

    async def again(
        self, place: Place, carried: Carried, reply: Reply, origin: Foreign, *, touch: bool
    ) -> Session[T] | None:
        """What has become of one that was imported before; None: it was not."""
        ...

    async def renamed(
        self, place: Place, carried: Carried, reply: Reply, older: Place, theirs: Carried
    ) -> Session[T] | None:
        """The session under an older name; None: none."""
        ...

    def unproven(self, older: Place, token: str) -> Origin:
        """What a token under an older name is, as long as nobody has proven it."""
        ...

    def unread(
        self, place: Place, carried: Carried, reply: Reply, error: StorerError, ended: tuple[Ending, ...]
    ) -> Session[T]:
        """What stands for one that may be there, and ends it if it is destroyed; or the error is raised."""
        ...


class Importing(Generic[T]):
    """Takes over what came beside a store's own token.

    Args:
        home: of the store.
        imports: as the application gave them.
        places: of the store; its own looks beside itself from now on.
        codec: of the store.
        make: the store's kind of session.
        now: unix seconds.
        report: where events go.

    Raises:
        ConfigError: one of *imports* cannot be told from the store's own, or from another.
    """

    def __init__(
        self,
        home: Home[T],
        imports: Iterable[Import[T]],
        places: Places,
        codec: CheckedCodec[T],
        make: type[Session[T]],
        now: Callable[[], float],
        report: Reporter,
    ) -> None:
        self._home = home
        self._sources = sources_of(imports, places.own, now)
        self._older = {
            where: places.older(source.name, source.transport)
            for where, source in self._sources.items()
            if isinstance(source.given, Alias)
        }
        places.look_beside(Beside(places.own.transport, self._sources, now))
        self._codec = codec
        self._make = make
        self._now = now
        self._report = report

    def unprotected(self) -> list[str]:
        """What is read from cookies that another host of the domain can plant, for audits."""
        return [
            f"imports={source.given!r}: any host of the domain can plant one, {_until(source.given.until)}"
            for where, source in self._sources.items()
            if where.startswith("cookie ") and not where.startswith("cookie __Host-")
        ]

    async def load(self, place: Place, carried: Carried, reply: Reply, *, touch: bool) -> Session[T]:
        """The session of what came, in the order in which it was given to the store; a bad one never raises.

        Raises:
            StorerError: a backend failed, ours or theirs.
        """
        for theirs in () if carried.present else carried.others:
            source, older = self._sources[theirs.where], self._older.get(theirs.where)
            if older is not None:
                session = await self._home.renamed(place, carried, reply, older, theirs)
            else:
                session = await self._imported(place, carried, reply, source, theirs, touch=touch)
            if session is not None:
                return session
        return await self._home.load(place, carried, reply, touch=touch)

    def endings(self, place: Place, carried: Carried) -> tuple[Ending, ...]:
        """What a new session takes the place of: it is not imported afterwards."""
        found: list[Ending] = []
        for theirs in carried.others:
            source, older = self._sources[theirs.where], self._older.get(theirs.where)
            if older is None:
                opened = self._opened(place, source, theirs, report=False)
                found += [] if opened is None else [Ending(None, origin=opened[0])]
            elif theirs.token is not None:
                found.append(Ending(None, origin=self._home.unproven(older, theirs.token)))
        return tuple(found)

    async def _imported(
        self, place: Place, carried: Carried, reply: Reply, source: Source[T], theirs: Carried, *, touch: bool
    ) -> Session[T] | None:
        opened = self._opened(place, source, theirs)
        if opened is None:
            return None
        origin, importer, text, said = opened
        ended = (Ending(None, origin=origin),)
        try:
            session = await self._home.again(place, carried, reply, origin, touch=touch)
            if session is not None:
                return session
            if said.data is None:
                fetched = await importer.fetch(text, now=self._now())
                if fetched is None:  # or another request has imported it meanwhile
                    session = await self._home.again(place, carried, reply, origin, touch=touch)
                    if session is None:
                        self._report.note("rejected", place.name, reason="unknown")
                    return session
                said, origin.until = fetched, earlier(source.until, fetched.ends_at)
        except NotImportedError as error:
            self._refuse(place, error)
            return None
        except StorerError as error:
            self._report.note("store_failed", place.name, reason=type(error.__cause__).__name__)
            return self._home.unread(place, carried, reply, error, ended)

        made = self._made(place, importer, said)
        if made is None:
            return None
        value, state = made
        return self._make(place, carried, reply, value, state, ended=ended, wishes=Wishes(origin=origin))

    def _opened(
        self, place: Place, source: Source[T], theirs: Carried, *, report: bool = True
    ) -> tuple[Foreign, Importer[T], str, Theirs] | None:
        """What the token that came says, if it is one of theirs."""
        importer, text = source.given, theirs.token
        assert isinstance(importer, Importer)
        try:
            if text is None:
                raise NotImportedError("forged" if theirs.duplicate else "malformed")  # noqa: TRY301
            if len(text) > 1 and text[0] == text[-1] == '"':  # as some have to be sent (RFC 6265 §4.1.1)
                text = text[1:-1]
            said = importer.open(text, now=self._now())
        except NotImportedError as error:
            if report:
                self._refuse(place, error)
            return None

        handle = _base64url.encode(sha256(f"import\0{place.bound}\0{text}".encode()).digest()[:18])
        until = earlier(source.until, said.ends_at)
        return Foreign(importer, text, place, handle, until, self._home, self._report), importer, text, said

    def _refuse(self, place: Place, error: NotImportedError) -> None:
        if error.reason == "expired":
            self._report.note("expired", place.name)
        else:
            self._report.note("rejected", place.name, reason=error.reason)

    def _made(self, place: Place, importer: Importer[T], said: Theirs) -> tuple[T, State] | None:
        """The value and the first state of what is imported; None: it is not."""
        value: T | None = None
        data: bytes | None = None
        owner: str | None = None
        flashes: tuple[tuple[str, str, str, bytes], ...] = ()
        doing, keys = "the session", dict(said.data or {})
        try:
            if importer.user is not None:
                doing = "user()"
                owner = importer.user(dict(keys))
                if owner is not None:
                    check_user_id(owner)
            doing = "a flash"
            flashes = tuple(packed_flash(message, category, None) for message, category in said.flashes)
            doing = "to()" if importer.to else "the session"
            value = importer.to(keys) if importer.to else self._codec.from_tree(keys)
            if value is None:
                return None
            data = self._codec.encode(value)
            value = self._codec.check(value, data)
        except Exception as error:  # noqa: BLE001  # the application's functions may raise anything
            fits = "does not fit" if isinstance(error, DecodeError | EncodeError) else f"raised {type(error).__name__}"
            self._report.note("unreadable", place.name, reason=f"not imported: {doing} {fits}")
            return None
        state = State.blank(data, self._now(), Meta(flashes=flashes))
        return value, structs.replace(state, owner=owner)


def _until(until: datetime | None) -> str:
    return "with no until=" if until is None else f"until {until:%Y-%m-%d}"
