"""The one loop that puts a write over whatever is stored, never over somebody else's.

In one event loop those who write one session need not race: they stand in a line. Who writes hands over the State that
it wrote, and who has waited together is merged one after the other and written at once. Other processes race by
version.
"""

import asyncio
import random
import threading
from collections.abc import Hashable
from typing import Any

import anyio
from msgspec.structs import replace

from aiosessions._errors import ConflictError, SessionTooLargeError, StorerError, UnsupportedError
from aiosessions._lifetime import Lifetime
from aiosessions._state import Meta, State, advance
from aiosessions._tokens import Token, new_secret, new_token, new_version
from aiosessions.overseers.backend import Backend
from aiosessions.overseers.changes import Changes, Made, Make, Plan
from aiosessions.overseers.line import Bid, Line, Trip, Won
from aiosessions.overseers.sealed import Sealed
from aiosessions.overseers.sliding import Sliding
from aiosessions.storers.batches import fresh
from aiosessions.storers.storer import Record

RACE_SECONDS = 5.0
"""How long a write is tried again while others win."""
META_BYTES = 4096
"""More than a meta without flashes ever takes."""


class Race:
    """Writes sessions of one store.

    Args:
        backend: of the store.
        sealed: makes the text that the client gets of a token, once it is known what is stored with it.
        sliding: which tokens are sent again.
        changes: makes the value that a save stores.
        limit: of value and meta, in bytes; None: none.
    """

    __slots__ = ("_backend", "_changes", "_lines", "_sealed", "_sliding", "limit")

    def __init__(
        self, backend: Backend, sealed: Sealed, sliding: Sliding, changes: Changes[Any], limit: int | None
    ) -> None:
        self._backend = backend
        self._sealed = sealed
        self._sliding = sliding
        self._changes = changes
        self.limit: int | None = limit
        self._lines: dict[Hashable, Line] = {}

    async def write(self, plan: Plan[Any], update: Make | None = None) -> Won | None:
        """Put it over what this request read, or else over the newest, until it wins.

        Args:
            plan: what to write; of a session of any type.
            update: makes the value, over a state, from the newest on; raises what says that it cannot. A write that
                failed is tried once more, so that one lost answer does no harm; what changes nothing is not written.

        Returns:
            The write that stands; None: the session is gone or of another epoch, and stays as it is.

        Raises:
            ConflictError: a merge says so, or others won for five seconds.
            StorerError: the backend failed; whether it wrote is unknown.
        """
        over = plan.state
        if over.handle:
            bid = Bid(plan.session._place.prefix + over.handle, over, plan, update)
            won = await self._in_line(bid)
            if won is not None or not plan.wishes.is_login:
                return won
            # a login whose record is gone is a session of its own; it takes along what this request saw of it
            over = State.blank(over.value, self._backend.now(), Meta(label=over.meta.label, flashes=over.meta.flashes))

        made = self._changes.saved(plan, over) if update is None else update(over)
        for _ in range(3):  # 144 random bits are taken once in the life of the universe; a broken backend may say so
            won, record = self.compose(plan, over, made, new_version(), can_tell=plan.can_tell)
            if await self._backend.storer.create(plan.session._place.key(won.state.handle), record):
                return won
        raise StorerError(f"session {plan.session.name!r}: the backend says that three new random keys are taken")

    def check(self, plan: Plan[Any]) -> None:
        """Raise whatever speaks against a save as far as this request knows; asks no backend."""
        made = self._changes.saved(plan, plan.state)
        self.compose(plan, plan.state, made, new_version(), can_tell=plan.can_tell)

    # the line of one session

    async def _in_line(self, bid: Bid) -> Won | None:
        try:
            where: Hashable = asyncio.get_running_loop(), bid.key
        except RuntimeError:  # trio: one in each thread
            where = threading.get_ident(), bid.key
        line = self._lines.get(where)
        try:
            if line is None:  # nobody else writes it: over what this request read
                line = self._lines[where] = Line(None if bid.update else bid.over)
            elif not await line.waited(bid):
                line = Line(None)  # whoever writes hangs: who does not wait any longer races by version
            if bid.is_open:
                await self._lead(line, bid)
            won = bid.won
            if won is not None and won.digest is None and won.sealed and line.newest is not won.state:
                bid.won = replace(won, sealed="")  # sent again, but others went on: maybe with a newer one
        finally:
            if line is not None and not (line.waiting or line.turn.is_taken) and self._lines.get(where) is line:
                del self._lines[where]
        if bid.error is not None:
            raise bid.error
        return bid.won

    async def _lead(self, line: Line, bid: Bid) -> None:
        """Write it, and what waits with it: in this turn one task does the work of all."""
        line.turn.is_taken = True
        batch = line.batch_of(bid) if line.waiting else [bid]
        base, line.newest = line.newest, None
        try:
            if base is not None and base is bid.over and len(batch) == 1:  # alone
                batch, base = await self._try(line, batch, base), None
            if batch:
                await self._settle(line, batch, base)
        finally:  # who leads may be cancelled: then those whose write is still open lead themselves
            line.turn.end()

    async def _settle(self, line: Line, batch: list[Bid], base: State | None) -> None:
        """Write them over *base* (None: the newest) until they win; each learns what has become of it."""
        place, handle = batch[0].plan.session._place, batch[0].over.handle
        attempt = 0
        while batch:
            if base is None:
                if attempt:
                    await anyio.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.1)))  # noqa: S311  # jitter, no secret
                base, _ = await self._backend.read(place, handle)
            batch = [bid for bid in batch if self._goes_on(bid, base)]
            if base is not None and batch:
                batch = await self._try(line, batch, base)
            attempt += 1
            base = None

    async def _try(self, line: Line, batch: list[Bid], base: State) -> list[Bid]:
        """One trip to the storer; those whose place others took meanwhile."""
        trip = Trip(base.version, new_version())
        state, record, done = self._merged(batch, base, trip)
        try:
            is_done = record is None or await self._replaced(batch, record, trip)
        except Exception as error:  # noqa: BLE001  # raised again, in the task of each
            is_too_much = len(done) > 1 and not isinstance(error, StorerError)
            for bid, _ in done:
                if is_too_much:  # for the backend: one by one then
                    await self._settle(line, [bid], line.newest or base)
                else:
                    bid.fail(fresh(error) if len(done) > 1 else error)
            return []
        if not is_done:
            return [bid for bid, _ in done]

        line.newest = state
        for bid, won in done:
            bid.won, bid.is_open = (won if won.state is state else self._under(won, state)), False
        return []

    def _goes_on(self, bid: Bid, newest: State | None) -> bool:
        """Whether it is still to be written, over what is stored now."""
        if newest is None or newest.meta.epoch != bid.over.meta.epoch:
            bid.is_open = False
            return False
        for trip, won in bid.tried:
            if newest.descends_from(trip.version):  # its answer got lost, and others wrote over it
                bid.won, bid.is_open = self._under(won, newest), False
                return False
            if trip.doubt is not None and not newest.descends_from(trip.base):
                bid.fail(trip.doubt)  # others have written so often since that nobody can tell
                return False
        bid.tried = [each for each in bid.tried if each[0].base == newest.version]  # the others never will be written
        now = anyio.current_time()
        bid.until = bid.until or now + RACE_SECONDS
        if now >= bid.until:
            name = bid.plan.session.name
            bid.fail(ConflictError(f"session {name!r}: others won for {RACE_SECONDS:.0f} seconds; try again"))
        return bid.is_open

    def _merged(self, batch: list[Bid], state: State, trip: Trip) -> tuple[State, Record | None, list[tuple[Bid, Won]]]:
        """One over the other; who cannot be merged learns it, and stops nobody."""
        record: Record | None = None
        done: list[tuple[Bid, Won]] = []
        for bid in batch:
            try:
                made = self._changes.saved(bid.plan, state) if bid.update is None else bid.update(state)
                if not made.is_changed and (
                    bid.update
                    or (self._backend.slides(state) and self._sliding.is_done(bid.plan.wishes, bid.over, state))
                ):
                    done.append((bid, Won(state, made)))
                    continue
                try:
                    won, record = self.compose(bid.plan, state, made, trip.version, can_tell=bid.plan.can_tell)
                except UnsupportedError:  # no token can be sealed, and none has to be: it keeps the one that it has
                    if bid.plan.wishes.rotations:
                        raise
                    won, record = self.compose(bid.plan, state, made, trip.version, can_tell=False)
            except Exception as error:  # noqa: BLE001  # raised again, in its own task
                bid.fail(error)
                continue
            bid.tried.append((trip, won))
            done.append((bid, won))
            state = won.state
        return state, record, done

    async def _replaced(self, batch: list[Bid], record: Record, trip: Trip) -> bool:
        put, key = self._backend.storer.replace, batch[0].key
        try:
            return await put(key, record, version=trip.base)
        except BaseException as error:
            trip.doubt = error if isinstance(error, StorerError) else StorerError("whether it wrote is unknown")
            if trip.doubt is not error or not any(bid.update for bid in batch):
                raise
        return await put(key, record, version=trip.base)  # the version proves if it was

    # one write

    def compose(self, plan: Plan[Any], over: State, made: Made, version: int, *, can_tell: bool) -> tuple[Won, Record]:
        """Composed and sealed before anything is sent."""
        session, wishes, now = plan.session, plan.wishes, self._backend.now()
        lifetime = self._backend.lifetime if over.meta.lifetime is None else self._backend.lifetime_of(over)
        token = None
        if wishes.rotations or lifetime.rotate is not None or not over.handle or wishes.origin is not None:
            token = self._next_token(plan, over, lifetime, now, can_tell=can_tell)
        digest = None if token is None else session._place.digest(token.secret)
        state = advance(
            over,
            wishes,
            made.data,
            lifetime=self._backend.lifetime,
            now=now,
            handle=over.handle if token is None else token.handle,
            is_changed=made.is_changed,
            version=version,
            spelling=made.spelling,
            digest=digest,
            presented=session._presented,
        )
        own = lifetime if state.meta.lifetime is over.meta.lifetime else self._backend.lifetime_of(state)
        is_timed = own.is_timed and self._backend.has_max_age
        if token is None and session._stale and can_tell and over.meta.secrets.is_newest(session._presented):
            token = None if is_timed else session._stale  # it came sealed under an older key
        sealed = "" if token is None else self._sealed.text(session._place, token, state)
        if is_timed:
            sealed = sealed or (self._sliding.again(session, wishes, over, state) if can_tell else "")
            state = self._sliding.sent(state, over, is_sent=bool(sealed))
        record = state.record(self._backend.lifetime)
        size = len(record.value) + len(record.meta)
        if self.limit is not None and size > self.limit:
            raise SessionTooLargeError(session.name, size=size, limit=self.limit, fix="raise max_size, or keep less")

        forgot = wishes.rotations > 0 and over.meta.secrets.is_full(own, now=now)
        return Won(state, made, digest, sealed, forgot), record

    @staticmethod
    def _next_token(plan: Plan[Any], over: State, lifetime: Lifetime, now: float, *, can_tell: bool) -> Token | None:
        """A new one, or the same handle with a new secret, when one is due."""
        origin, presented = plan.wishes.origin, plan.session._presented
        if origin is not None and (over.handle or origin.handle):
            is_told = origin.is_in_place and not over.meta.secrets.is_newest(presented)  # by another request
            return None if is_told else Token(over.handle or origin.handle, new_secret())
        if not over.handle:
            return new_token()
        if plan.wishes.rotations or (can_tell and over.meta.secrets.is_due(presented, lifetime, now=now)):
            return Token(over.handle, new_secret())
        return None

    def _under(self, won: Won, newest: State) -> Won:
        """A write that stands under those of others; its secret may have been ended by them."""
        digest, lifetime, now = won.digest, self._backend.lifetime_of(newest), self._backend.now()
        if digest is None or newest.meta.secrets.opens(digest, lifetime, now=now):
            return replace(won, state=newest)
        return replace(won, state=newest, digest=None, sealed="")
