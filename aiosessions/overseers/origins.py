"""Where an imported session came from: claimed once ours is stored, and ended with it."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiosessions._errors import DecodeError, StorerError
from aiosessions._events import Reporter
from aiosessions._origin import Whose
from aiosessions._place import Place
from aiosessions._state import Ending, State
from aiosessions._tokens import new_version
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.importer import Importer
from aiosessions.storers.storer import Record, Storer


class Marks:
    """Which tokens of other software have been imported: one mark for each, for as long as the token would count.

    Args:
        storer: keeps them.
        namespace: of the store.
        now: unix seconds.
    """

    def __init__(self, storer: Storer, namespace: str, now: Callable[[], float]) -> None:
        self._storer = storer
        self._prefix = f"{namespace}:~imported:"  # "~" begins no session's name
        self._now = now

    async def read(self, handle: str) -> bytes | None:
        """What stands there of the session that was made, as far as it can be read; None: there is no mark."""
        try:
            record = await self._storer.read(self._prefix + handle)
        except DecodeError:  # see EncryptedStorer
            return b""
        return None if record is None else record.value

    async def leave(self, handle: str, made: bytes, until: float | None) -> bool:
        """Mark a token; False: somebody else has.

        Args:
            handle: of the session that is made of it: a digest of the token.
            made: what is to stand there.
            until: when the token would not count any longer, unix seconds; None: never.
        """
        now = self._now()
        record = Record(made, b"", None, now, now, until, new_version())
        return await self._storer.create(self._prefix + handle, record)


class Remembering(Protocol):
    """What a store knows of the sessions that were made of other software's tokens."""

    @property
    def marks(self) -> Marks | None:
        """None: nothing remembers them."""
        ...

    def pack(self, made: State) -> bytes:
        """What a mark says of the session that is made."""
        ...

    def unpack(self, handle: str, made: bytes) -> State | None:
        """Which session that is, by its handle; None: a mark does not say it, or the token opens none any more."""
        ...

    async def undo(self, place: Place, handle: str, made: State | None) -> None:
        """End the session that another request has made: of that handle, and the state that its mark says."""
        ...


class Foreign:
    """A token of other software.

    Args:
        importer: reads and ends it.
        text: the token.
        place: of the session that is made of it.
        handle: of that session, a digest of the token: two requests make one.
        until: when it would not count any longer, unix seconds; None: never.
        home: of the store.
        report: where events go.

    Attributes:
        standing: see `Origin`.
        is_in_place: likewise.
        until: see above; of what a backend of theirs keeps it is known once that was asked.
    """

    is_in_place: bool = False

    def __init__(
        self,
        importer: Importer[Any],  # Any: of a store of any type
        text: str,
        place: Place,
        handle: str,
        until: float | None,
        home: Remembering,
        report: Reporter,
    ) -> None:
        self._importer = importer
        self._text = text
        self._place = place
        self.handle: str = handle
        self.until: float | None = until
        self._home = home
        self._report = report
        self.standing: Whose = "nobody"

    async def claim(self, made: State) -> State | bool:
        """See `Origin.claim`."""
        is_open = made.handle == self.handle and not made.meta.epoch  # the token opens nothing that a login has made
        is_ours = await self._leave(self._home.pack(made) if is_open else b"")
        self.standing = "ours" if is_ours else "others"
        return is_ours or await self._imported() or False

    async def _leave(self, made: bytes) -> bool:
        marks = self._home.marks
        return marks is None or await marks.leave(self.handle, made, self.until)

    async def _imported(self) -> State | None:
        """What another request has made of it, as far as its mark says."""
        marks = self._home.marks
        made = None if marks is None else await marks.read(self.handle)
        return None if made is None else self._home.unpack(self.handle, made)

    async def end(self, *, is_wanted: bool) -> None:
        """See `Origin.end`."""
        is_left = self.standing == "nobody"
        if is_wanted or is_left:
            if not await self._leave(b""):
                await self._home.undo(self._place, self.handle, await self._imported())
            elif is_left:
                self._report.note("destroyed", self._place.name, self.handle, reason="" if is_wanted else "replaced")
        try:
            await self._importer.delete(self._text)
        except StorerError as error:
            if is_wanted or is_left:
                raise
            self._report.note("store_failed", self._place.name, self.handle, reason=type(error.__cause__).__name__)


class Renamed:
    """A session of ours under an older name.

    Args:
        place: the older one.
        ending: what ends there.
        end: ends it.
        backend: of the store; None: the client holds it.
        is_in_place: see `Origin`.

    Attributes:
        handle: "": it keeps the one that it has.
        standing: see `Origin`.
        is_in_place: likewise.
    """

    handle: str = ""

    def __init__(
        self,
        place: Place,
        ending: Ending,
        end: Callable[[Place, Ending], Awaitable[object]],
        backend: Backend | None = None,
        *,
        is_in_place: bool = False,
    ) -> None:
        self.is_in_place: bool = is_in_place
        self._place = place
        self._ending = ending
        self._end = end
        self._backend = backend
        self.standing: Whose = "nobody"

    async def claim(self, made: State) -> State | bool:  # noqa: ARG002  # see Origin
        """See `Origin.claim`: whoever removes the older record has moved it."""
        self.standing = "ours"
        backend, state = self._backend, self._ending.state
        if backend is None or state is None:
            return True
        if await backend.storer.delete(self._place.key(state.handle), version=state.version):
            return True
        newest = await backend.newest(self._place, state)
        if newest is None:
            self.standing = "others"
            return False
        self._ending = Ending(newest)
        return newest

    async def end(self, *, is_wanted: bool) -> None:
        """See `Origin.end`."""
        if is_wanted or self.standing == "nobody":
            is_anyhow = is_wanted and self._ending.state is not None
            await self._end(self._place, self._ending._replace(is_wanted=is_wanted, is_anyhow=is_anyhow))
