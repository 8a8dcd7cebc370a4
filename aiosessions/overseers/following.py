"""How a token that a client holds gets its place in the ledgers of what has ended, and what it follows ends there."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, Generic, Protocol, TypeVar

from msgspec.structs import replace

from aiosessions._discreet import Discreet
from aiosessions._errors import ConflictError, StorerError
from aiosessions._events import Reporter
from aiosessions._lifetime import MAX_AGE_LIMIT
from aiosessions._origin import Origin
from aiosessions._place import Place
from aiosessions._session import Session
from aiosessions._state import Ending, State
from aiosessions.overseers.changes import Plan, is_renewed
from aiosessions.overseers.revocations import Revocations
from aiosessions.storers.holding import Holder

T = TypeVar("T")


class Issued(Discreet, frozen=True):
    """What a session becomes, and the token that says so: it is all there is to write."""

    shown: ClassVar[tuple[str, ...]] = ("state",)

    state: State
    token: str
    max_age: int | None


class _Issue(Protocol[T]):
    """Makes what a plan says, in these epochs: of the user, and of everybody."""

    def __call__(self, plan: Plan[T], *, epochs: tuple[int, int] | None = None) -> Issued: ...


class Following(Generic[T]):
    """The ledgers of one store.

    Args:
        revocations: where they are.
        holder: opens them.
        deny: ends what a session takes the place of: see `CookieOverseer`.
        issue: see `_Issue`.
        drop: says of a session that it is gone, and why.
        report: where events go.
        replay_protection: see CookieOverseer.
    """

    def __init__(
        self,
        revocations: Revocations,
        holder: Holder,
        deny: Callable[[Place, Ending], Awaitable[bool]],
        issue: _Issue[T],
        drop: Callable[[Session[T], str], None],
        report: Reporter,
        *,
        replay_protection: bool,
    ) -> None:
        self._revocations = revocations
        self._holder = holder
        self._deny = deny
        self._issue = issue
        self._drop = drop
        self._report = report
        self._replay_protection = replay_protection

    async def is_current(self, place: Place, state: State) -> bool:
        """Whether nothing ended a token before its time."""
        newest = state.as_held.generation
        try:
            await self._holder.ready()
            if self._replay_protection:
                newest = await self._revocations.generation(state.handle)
            allowed = await self._revocations.allows(state.handle, state.owner, state.as_held)
        except StorerError as error:
            self._report.note("store_failed", place.name, state.handle, reason=type(error.__cause__).__name__)
            raise

        if not allowed:
            self._report.note("rejected", place.name, state.handle, state.owner, reason="revoked")
            return False
        if state.as_held.generation < newest - 1:
            self._report.note("token_reused", place.name, state.handle, state.owner)
            return False
        return True

    async def follow(self, plan: Plan[T], issued: Issued) -> Issued | None:
        """Give the token its place, before anybody has it; None: it has none, and nothing is sent.

        Whoever finds its own session ended by somebody else is dropped: only a login goes on, as a session of its own.
        """
        session, wishes, until = plan.session, plan.wishes, issued.state.meta.ends_at or 0.0
        await self._holder.ready()
        issued = await self._of_this_epoch(plan, issued)
        advance = partial(self._revocations.advance, issued.state.handle, issued.state.as_held.generation - 1, until)
        is_fresh = is_renewed(plan) or wishes.origin is not None
        if self._replay_protection and is_fresh:
            await advance()  # what may fail comes before the older token is dead
        if not await self._may_follow(plan, issued.state, is_fresh=is_fresh) and not wishes.is_login:
            self._drop(session, "gone")
            return None
        if wishes.origin is not None and not await self._claimed(plan, issued.state, wishes.origin):
            return None
        if not self._replay_protection or is_fresh or await advance():
            return issued
        if not plan.is_changed and not wishes.is_claim:
            return None

        self._report.note(
            "conflict", session.name, session.handle, issued.state.owner, reason="not one of the last two tokens"
        )
        raise ConflictError(f"session {session.name!r}: this token has been followed by another; try again")

    async def _of_this_epoch(self, plan: Plan[T], issued: Issued) -> Issued:
        if not plan.state.handle or plan.wishes.is_login:
            epochs = await self._revocations.epochs(issued.state.owner, issued.state.meta.ends_at or 0.0)
            if plan.wishes.is_login or any(epochs):
                return self._issue(plan, epochs=epochs)
        elif plan.wishes.user is not None:
            return self._issue(plan, epochs=(0, plan.state.as_held.namespace_epoch))
        return issued

    async def _may_follow(self, plan: Plan[T], following: State, *, is_fresh: bool) -> bool:
        """Whether nobody else ended what this follows: it is ended here, or (of one session) still good."""
        session, before = plan.session, plan.state
        if not before.handle:
            may = True
            for ending in session._ended:
                if ending.origin is None:
                    may = await self._deny(session._place, ending) and may
                    session._has_ended(ending)
            return may
        if is_fresh:
            until = before.meta.ends_at or 0.0
            return await self._revocations.deny(before.handle, before.owner, before.as_held, until, following)
        return await self._revocations.allows(before.handle, before.owner, before.as_held)

    async def _claimed(self, plan: Plan[T], state: State, origin: Origin) -> bool:
        """Whether what is imported gets a token: not if another request has sent one, and there is no more to say."""
        wishes, claimed = plan.wishes, await origin.claim(state)
        if claimed is True:
            return True
        is_live = False
        if claimed is not False and wishes.rotations:  # what another request has made of it ends, as by any rotation
            until = claimed.meta.ends_at or 0.0
            is_live = await self._revocations.deny(claimed.handle, claimed.owner, claimed.as_held, until, state)
        elif claimed is not False:
            is_live = await self._revocations.allows(claimed.handle, claimed.owner, claimed.as_held)
        if not (is_live or wishes.is_login):
            self._drop(plan.session, "gone")
            return False
        if plan.is_changed or not plan.wishes.is_import:
            return True
        plan.session._settled(plan, state)
        return False

    async def end(self, state: State, *, is_anyhow: bool) -> bool:
        """End a session for every copy of its token; False if somebody else had."""
        await self._holder.ready()
        what = state.handle, state.owner, state.as_held, state.meta.ends_at or 0.0
        if not is_anyhow:
            return await self._revocations.deny(*what)
        await self._revocations.end(*what)
        return True

    async def end_user(self, user_id: str, keep: Session[T] | None, *, now: float) -> None:
        """End every session of a user, but *keep*: saving that one sends a token that is still good."""
        until = now + MAX_AGE_LIMIT.total_seconds()  # remember-me logins may outlive the store's own lifetime
        await self._holder.ready()
        epoch = await self._revocations.raise_epoch(user_id, until)
        if keep is not None and keep.user_id == user_id:
            held = replace(keep._state.as_held, user_epoch=epoch)
            keep._kept(replace(keep._state, meta=replace(keep._state.meta, held=held)))
