"""Imports into a storer: the session of a token is found by the token's digest, whoever imported it."""

from typing import Generic, Literal, TypeVar

from msgspec import structs

from aiosessions._errors import DecodeError, StorerError
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._session import Session
from aiosessions._state import Ending, Standing, State, Wishes
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.loading import Blank, Loading
from aiosessions.overseers.origins import Foreign, Marks, Renamed
from aiosessions.transports.transport import Carried
from aiosessions.values.codecs import CheckedCodec

T = TypeVar("T")


class StoredImports(Generic[T]):
    """See `Home`.

    Args:
        backend: of the store.
        loading: likewise.
        codec: likewise.
        namespace: likewise.
        make: the store's kind of session.
        blank: makes a new one.
        on_storer_error: see StorageOverseer.
    """

    def __init__(
        self,
        backend: Backend,
        loading: Loading[T],
        codec: CheckedCodec[T],
        namespace: str,
        make: type[Session[T]],
        blank: Blank[T],
        on_storer_error: Literal["raise", "new"],
    ) -> None:
        self._backend = backend
        self._loading = loading
        self._codec = codec
        self._make = make
        self._blank = blank
        self._report = backend.report
        self._on_storer_error = on_storer_error
        self.marks: Marks = Marks(backend.storer, namespace, backend.now)

    async def load(self, place: Place, carried: Carried, reply: Reply, *, touch: bool) -> Session[T]:
        """See `Home.load`."""
        return await self._loading.load(place, carried, reply, touch=touch)

    # what other software left

    def pack(self, made: State) -> bytes:  # noqa: ARG002  # the record says it
        """See `Remembering.pack`."""
        return b""

    def unpack(self, handle: str, made: bytes) -> State | None:  # noqa: ARG002  # likewise
        """See `Remembering.unpack`."""
        return None

    async def undo(self, place: Place, handle: str, made: State | None) -> None:  # noqa: ARG002  # likewise
        """See `Remembering.undo`."""
        imported = structs.replace(State.blank(b"", self._backend.now()), handle=handle)
        await self._backend.end(place, Ending(imported, is_wanted=True))

    async def again(
        self, place: Place, carried: Carried, reply: Reply, origin: Foreign, *, touch: bool
    ) -> Session[T] | None:
        """See `Home.again`. No secret came, and none is sent, until the session is rotated: then the token is dead."""
        await self._backend.holder.ready()
        state, is_unreadable = await self._backend.read(place, origin.handle)
        if state is None and not is_unreadable:
            if await self.marks.read(origin.handle) is None:
                return None
            state, _ = await self._backend.read(place, origin.handle)  # marked since, and stored before that
        if state is None or state.meta.epoch:
            self._report.note("rejected", place.name, origin.handle, reason="imported before")
            return self._blank(place, carried, reply, standing=self._standing(state))

        now = self._backend.now()
        deadline = state.deadline(self._backend.lifetime)
        if deadline is not None and now >= deadline:
            self._report.note("expired", place.name, state.handle, state.owner)
            return self._blank(place, carried, reply)
        try:
            value = self._codec.decode(state.value)
        except DecodeError as error:
            self._report.unreadable(place.name, state.handle, state.owner, error)
            return self._blank(place, carried, reply, ended=(Ending(state),))
        if touch and now - state.seen_at >= self._backend.lifetime_of(state).touch_window:
            seen = await self._backend.touch_while_read(place, state)
            if seen is None:
                return self._blank(place, carried, reply)
            state = seen
        self._report.note("loaded", place.name, state.handle, state.owner)
        origin.standing = "others"
        return self._make(place, carried, reply, value, state, ended=(Ending(None, origin=origin),))

    def unread(
        self, place: Place, carried: Carried, reply: Reply, error: StorerError, ended: tuple[Ending, ...]
    ) -> Session[T]:
        """See `Home.unread`."""
        if self._on_storer_error == "raise":
            raise error
        return self._blank(place, carried, reply, standing="unread", ended=ended)

    def _standing(self, state: State | None) -> Standing:
        """A login that is just on its way to this client must not be overwritten by an answer to the older token."""
        if state is None:
            return "fine"
        grace, opening = self._backend.lifetime_of(state).grace.total_seconds(), state.meta.secrets.opening
        return "dead" if opening and state.read_at - opening[-1].issued_at < grace else "fine"

    # what was ours under an older name

    async def renamed(
        self, place: Place, carried: Carried, reply: Reply, older: Place, theirs: Carried
    ) -> Session[T] | None:
        """See `Home.renamed`. The handle stays; the older secret opens until the newer one has come."""
        found = await self._loading.load(older, theirs, reply, touch=False)
        is_in_place = older.prefix == place.prefix  # it had another transport
        if found.handle:
            origin = Renamed(older, Ending(found._state), self._backend.end, self._backend, is_in_place=is_in_place)
            ended = () if is_in_place else (Ending(None, origin=origin),)
            return self._moved(place, carried, reply, found, ended=ended, wishes=Wishes(origin=origin))
        if found._standing == "fine" and not is_in_place:
            found = await self._loading.load(older.moved_to(place), theirs, reply, touch=False)
            if found.handle:
                return self._moved(place, carried, reply, found)
        return None if found._standing == "fine" else self._blank(place, carried, reply, standing=found._standing)

    def unproven(self, older: Place, token: str) -> Renamed:
        """See `Home.unproven`."""
        return Renamed(older, Ending(None, token), self._backend.end)

    def _moved(
        self,
        place: Place,
        carried: Carried,
        reply: Reply,
        found: Session[T],
        *,
        ended: tuple[Ending, ...] = (),
        wishes: Wishes | None = None,
    ) -> Session[T]:
        presented = found._presented
        return self._make(
            place, carried, reply, found.value, found._state, presented=presented, ended=ended, wishes=wishes
        )
