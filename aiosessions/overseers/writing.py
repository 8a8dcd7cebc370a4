"""From a plan to what the storer keeps: the write, and what the session and its client learn of it."""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from msgspec.structs import replace

from aiosessions._errors import ConflictError, SessionError
from aiosessions._origin import Origin
from aiosessions._session import Session
from aiosessions._tokens import new_version
from aiosessions.overseers.backend import ATTEMPTS, Backend
from aiosessions.overseers.changes import Changes, Plan, Updated
from aiosessions.overseers.line import Won
from aiosessions.overseers.race import Race
from aiosessions.overseers.sliding import Sliding

T = TypeVar("T")


class Writing(Generic[T]):
    """Carries out the writes of one store.

    Args:
        backend: of the store.
        race: puts them over whatever is stored.
        sliding: which tokens are sent again.
        changes: takes into a value what others have changed.
        drop: says of a session that it is gone, and why.
    """

    def __init__(
        self,
        backend: Backend,
        race: Race,
        sliding: Sliding,
        changes: Changes[T],
        drop: Callable[[Session[T], str], None],
    ) -> None:
        self._backend = backend
        self._race = race
        self._sliding = sliding
        self._changes = changes
        self._drop = drop
        self._report = backend.report

    async def put(self, plan: Plan[T], update: Updated[T] | None = None) -> bool:
        """Write, and take what stands then into the session; False: it was gone.

        A lost race is no error for who only took flashes: that is no claim on anything.
        """
        session, place, wishes = plan.session, plan.session._place, plan.wishes
        try:
            origin = wishes.origin
            won = await (self._race.write(plan, update) if origin is None else self._taken(plan, origin))
        except ConflictError:
            if not plan.is_changed and not wishes.is_claim:
                return True
            self._report.note("conflict", session.name, session.handle, session.user_id)
            raise
        if won is None:
            self._drop(session, "gone")
            return False

        state, made = won.state, won.made
        if made.is_changed or update is None:
            reason = "superseded secrets forgotten" if won.forgot else ""
            self._report.note(self._kind(plan, won), place.name, state.handle, state.owner, reason=reason)
        if made.fields:
            self._report.note("merged", place.name, state.handle, state.owner, fields=made.fields)

        max_age = self._backend.lifetime_of(state).max_age(state.seen_at, state.meta.ends_at) if won.sealed else None
        presented = (won.digest or session._presented) if won.sealed else None
        if not session._settled(plan, state, won.sealed, max_age, presented):
            return True  # destroyed meanwhile: it ends next
        if not (won.sealed or session._reply.is_leaving) and self._backend.slides(state):
            self._sliding.put_off(session, wishes)
        if state.value != plan.data:  # others' changes came in
            session.value = self._changes.merger.adopted(session.value, plan.data, state.value)
        return True

    async def _taken(self, plan: Plan[T], origin: Origin) -> Won | None:
        """Make ours of what is imported, or write on what another request has made of it; None: it is gone."""
        if origin.is_in_place:
            won = await self._race.write(plan)
            origin.standing = "ours" if won is not None and won.digest is not None else "others"
            return won

        place, over, storer = plan.session._place, plan.state, self._backend.storer
        for _ in range(ATTEMPTS):
            made = self._changes.saved(plan, over)
            won, record = self._race.compose(plan, over, made, new_version(), can_tell=plan.can_tell)
            key = place.key(won.state.handle)
            if not await storer.create(key, record):
                origin.standing = "others"
                state = replace(plan.state, handle=won.state.handle)
                return await self._race.write(replace(plan, state=state, wishes=replace(plan.wishes, origin=None)))
            claimed = await origin.claim(won.state)
            if claimed is True or (claimed is False and plan.wishes.is_login):
                return won
            await storer.delete(key, version=record.version)
            if claimed is False:
                return None
            over = claimed
        raise ConflictError(f"session {plan.session.name!r}: others kept writing it under its older name; try again")

    async def send_again(self, plan: Plan[T]) -> None:
        """What was only read or touched; where it cannot be written it is touched, which takes no more room."""
        session = plan.session
        try:
            await self.put(plan)
        except SessionError as error:
            reason = type(error.__cause__ or error).__name__
            self._report.note("store_failed", session.name, session.handle, reason=reason)
            touch = self._backend.touch if plan.wishes.is_touched else self._backend.touch_late
            seen = await touch(session._place, plan.state)
            session._settled(plan, seen or plan.state, presented=session._presented)

    def _kind(self, plan: Plan[T], won: Won) -> Literal["created", "imported", "regenerated", "saved", "touched"]:
        origin, is_new = plan.wishes.origin, won.state.handle != plan.state.handle
        if origin is not None and origin.standing == "ours":
            return "imported"
        if won.digest is not None:
            return "created" if is_new else "regenerated"
        is_saved = won.made.is_changed or plan.wishes.is_write or not self._backend.slides(won.state)
        return "saved" if is_saved else "touched"
