"""One named session during one request. Pure state: no I/O, nothing to await.

A session is a value beside its State and the Wishes of its handler. Only this file writes its private attributes.
"""

from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from aiosessions._csrf import is_masked, masked, new_csrf_key
from aiosessions._errors import NotAuthenticatedError, ReauthenticationError
from aiosessions._flashes import Flash, JSONValue, packed_flash, shown
from aiosessions._given import seconds_within
from aiosessions._lifetime import Lifetime, moment
from aiosessions._meant import Meant
from aiosessions._place import Place
from aiosessions._reply import Reply
from aiosessions._state import Ending, Standing, State, Wishes
from aiosessions._text import check_label, check_user_id
from aiosessions._tokens import Token
from aiosessions._turn import Turn
from aiosessions.transports.transport import Carried

T = TypeVar("T")


class Session(Meant, Generic[T]):
    """A typed session: read and change `value`; the store that opened it does the rest.

    Made by `Store.get`, `Store.require` and `Store.new`, never by hand.
    """

    __slots__ = (
        "__weakref__",
        "_carried",
        "_ended",
        "_failed",
        "_is_new",
        "_lives",
        "_place",
        "_presented",
        "_reply",
        "_stale",
        "_standing",
        "_state",
        "_turn",
        "_wishes",
        "value",
    )

    value: T
    """The state. Mutate it in place or assign it; changes are found by comparing, not by flags."""

    def __init__(
        self,
        place: Place,
        carried: Carried,
        reply: Reply,
        value: T,
        state: State,
        presented: bytes = b"",
        stale: Token | None = None,
        *,
        standing: Standing = "fine",
        ended: tuple[Ending, ...] = (),
        wishes: Wishes | None = None,
    ) -> None:
        self.value = value
        self._place = place
        self._carried = carried
        self._reply = reply
        self._state = state  # what is stored, as far as this request knows
        self._wishes: Wishes | None = wishes
        self._is_new = not (state.handle or wishes)  # with wishes it is imported
        self._presented = presented  # the digest of the secret that the request brought
        self._stale = stale  # a token that came sealed under an older key
        self._standing: Standing = standing
        self._ended = ended
        self._lives = 0  # how often it was destroyed: what was written for an earlier life ends too
        self._failed: tuple[bytes, Wishes] | None = None  # what an explicit save could not save
        self._turn = Turn()  # two saves of one session go one by one

    def __repr__(self) -> str:  # ends up in logs: no token, no value
        return f"<Session {self._place.name} handle={self._state.handle!r} is_new={self._is_new}>"

    @property
    def name(self) -> str:
        """The session's name."""
        return self._place.name

    @property
    def is_new(self) -> bool:
        """No valid session came with the request."""
        return self._is_new

    @property
    def handle(self) -> str:
        """Public reference, no credential: for logs and "your devices" pages; "" until first saved."""
        return self._state.handle

    @property
    def is_degraded(self) -> bool:
        """The storer failed and `on_storer_error="new"` made this session up: saving it raises StorerError."""
        return self._standing == "unread"

    @property
    def created_at(self) -> datetime:
        """When the session was first stored; aware, UTC."""
        return moment(self._state.created_at)

    @property
    def updated_at(self) -> datetime:
        """Last write of the value; aware, UTC."""
        return moment(self._state.meta.updated_at if self._state.handle else self._state.seen_at)

    @property
    def seen_at(self) -> datetime:
        """Last touch or write; aware, UTC."""
        return moment(self._state.seen_at)

    @property
    def expires_at(self) -> datetime | None:
        """The earlier of the idle and the absolute deadline (ASVS 5 7.3.1, 7.3.2); aware, UTC; None: never."""
        deadline = self._deadline()
        return None if deadline is None else moment(deadline)

    @property
    def is_expired(self) -> bool:
        """Now past it: for sockets and jobs that hold a session long."""
        deadline = self._deadline()
        return deadline is not None and self._place.keeper.now() >= deadline

    def _deadline(self) -> float | None:
        state, wishes = self._state, self._wishes
        own = wishes.lifetime if wishes else None
        lifetime = own or state.meta.effective_lifetime(self._place.keeper.lifetime)
        ends_at = state.meta.ends_at
        if not state.handle or (wishes and wishes.is_login):
            started = wishes.user[1] if wishes and wishes.user else state.seen_at
            ends_at = None if lifetime.absolute is None else started + lifetime.absolute.total_seconds()
        return lifetime.deadline(state.seen_at, ends_at)

    # the user

    @property
    def user_id(self) -> str | None:
        """The user bound by `set_user`."""
        if self._wishes and self._wishes.user:
            return self._wishes.user[0]

        return self._state.owner

    @property
    def is_authenticated(self) -> bool:
        """Whether a user is bound."""
        return self.user_id is not None

    @property
    def authenticated_at(self) -> datetime | None:
        """When `set_user` was last called; aware, UTC."""
        if self._wishes and self._wishes.user:
            return moment(self._wishes.user[1]) if self._wishes.is_login else None

        since = self._state.meta.authenticated_at
        return None if since is None else moment(since)

    def require_user(self) -> str:
        """The user id: the line that guards a page.

        Raises:
            NotAuthenticatedError: no user is bound.
        """
        user_id = self.user_id
        if user_id is None:
            raise NotAuthenticatedError(f"session {self.name!r} has no user: call set_user() first", reply=self._reply)

        return user_id

    def require_fresh(self, within: timedelta) -> str:
        """The user id, if the login is recent enough for a sensitive operation (ASVS 5 7.5.1).

        Args:
            within: how old the login may be.

        Raises:
            NotAuthenticatedError: no user is bound.
            ReauthenticationError: the login is older.
        """
        seconds, user_id, since = seconds_within(within), self.require_user(), self.authenticated_at
        if since is None or self._place.keeper.now() - since.timestamp() > seconds:
            raise ReauthenticationError(
                f"the login is older than {within}: ask for the credential again", reply=self._reply
            )

        return user_id

    def set_user(self, user_id: str, *, lifetime: Lifetime | None = None) -> None:
        """Login in one call: bind, regenerate, restart the clocks (ASVS 5 7.2.4).

        Call it where the credential was checked.

        Args:
            user_id: 1 to 255 bytes of UTF-8, no NUL.
            lifetime: for this session instead of the store's: "remember me".

        Raises:
            TypeError: *user_id* is not a str; write `set_user(str(user.id))`.
            ValueError: *user_id* is empty, too long, or holds NUL or a lone surrogate.
            ConfigError: this store cannot keep such a *lifetime*.
        """
        check_user_id(user_id)
        if lifetime is not None:
            self._place.keeper.check_lifetime(lifetime)
        self.regenerate()
        wishes = self._wish()
        wishes.user = (user_id, self._place.keeper.now())
        wishes.lifetime = lifetime

    def clear_user(self) -> None:
        """Unbind the user and regenerate. The value stays, flashes and label go. Logout is `destroy()`."""
        self.regenerate()
        wishes = self._wish()
        wishes.user = (None, self._place.keeper.now())
        wishes.lifetime = None
        wishes.label = None
        wishes.added.clear()
        wishes.emptied = True

    # its life

    def regenerate(self) -> None:
        """A new secret at save: older tokens are dead, and so are requests that came in with them."""
        wishes = self._wish()
        wishes.rotations += 1
        wishes.csrf = b""

    def destroy(self) -> None:
        """Gone at save, on both sides, also when the handler then fails; stays gone (ASVS 5 7.4.1).

        The object is then a new, empty session.
        """
        # what it took the place of goes too
        ended = [each._replace(is_due=True, is_wanted=True) for each in self._ended]
        if self._state.handle:
            ended.append(Ending(self._state, is_due=True, is_wanted=True, is_anyhow=True))
        self._ended = tuple(ended)
        if self._standing != "dead":
            self._standing = "fine"
            self._reply.clear(self._place, self._carried)
        self._wishes = None
        self._failed = None
        self._stale = None
        self._is_new = True
        self._lives += 1
        self.value, data = self._place.keeper.fresh()
        self._state = State.blank(data, self._place.keeper.now())

    def touch(self) -> None:
        """Extend the idle deadline now, and send a timed cookie again, whatever the touch window says."""
        self._wish().is_touched = True

    def _wish(self) -> Wishes:
        if self._wishes is None:
            self._wishes = Wishes()
        return self._wishes

    # label and flashes

    @property
    def label(self) -> str | None:
        """Free text for session lists ("Firefox on Linux"), at most 200 characters."""
        if self._wishes and self._wishes.label:
            return self._wishes.label[0]

        return None if self._wishes and self._wishes.emptied else self._state.meta.label

    @label.setter
    def label(self, label: str | None) -> None:
        check_label(label)
        if label != self.label:
            self._wish().label = (label,)

    def flash(self, message: str, category: str = "info", data: JSONValue = None) -> None:
        """Leave a message for the next page that takes it.

        Raises:
            EncodeError: the message is not text, or *data* is not JSON of 64-bit numbers at most 100 deep.
        """
        self._wish().added.append(packed_flash(message, category, data))

    def flashes(self, category: str | None = None, *, peek: bool = False) -> list[Flash]:
        """Take the messages that wait, oldest first: each is read once.

        Args:
            category: only these; the others stay.
            peek: look, and leave them.
        """
        wishes = self._wishes
        taken: set[str] = wishes.taken if wishes else set()
        stored = () if wishes and wishes.emptied else self._state.meta.flashes
        waiting = [flash for flash in stored if flash[0] not in taken]
        waiting += wishes.added if wishes else ()
        chosen = [flash for flash in waiting if category is None or flash[2] == category]
        if chosen and not peek:
            wishes = self._wish()
            wishes.added = [flash for flash in wishes.added if flash not in chosen]
            wishes.taken |= {flash[0] for flash in chosen} & {flash[0] for flash in stored}

        return [shown(flash) for flash in chosen]

    # CSRF

    def csrf_token(self) -> str:
        """A token for a form or a header: masked anew each time, bound to this session and epoch (ASVS 5 3.5.1)."""
        key = self._csrf_key()
        if not key:
            key = self._wish().csrf = new_csrf_key()
        return masked(key)

    def check_csrf(self, token: str | None) -> bool:
        """Whether `csrf_token()` of this session and epoch made it; constant time. False for what is no text."""
        return is_masked(token, self._csrf_key())

    def _csrf_key(self) -> bytes:
        if self._wishes and (self._wishes.csrf or self._wishes.rotations):
            return self._wishes.csrf

        return self._state.meta.csrf

    # what the store tells it

    @property
    def _is_ending(self) -> bool:
        """Whether something was destroyed that has not ended yet."""
        return bool(self._ended) and any(each.is_due for each in self._ended)

    def _settled(  # Any: a Plan, which knows this file
        self, plan: Any, state: State, token: str = "", max_age: int | None = None, presented: bytes | None = None
    ) -> bool:
        """The *plan* is carried out: *state* is stored now; False if the session was destroyed meanwhile.

        Then what was written for its earlier life is to end as well. The client gets a *token*, if there is one.
        """
        if self._lives != plan.lives:
            self._ended = (*self._ended, Ending(state, is_due=True, is_wanted=True, is_anyhow=True))
            return False

        if state.handle != self._state.handle:  # what it took the place of is to end
            self._ended = tuple(each._replace(is_due=True) for each in self._ended)
        self._state = state
        self._standing = "fine"
        self._failed = None
        if self._wishes is not None:
            self._wishes = self._wishes.without(plan.wishes)
        if presented is not None:
            self._presented = presented
            self._stale = None
        if token:
            self._reply.tell(self._place, self._carried, token, max_age)
        return True

    def _seen(self, seen_at: float) -> None:
        """It was touched, by whomever."""
        if seen_at > self._state.seen_at:
            self._state = self._state.seen(seen_at)

    def _kept(self, state: State) -> None:
        """The store made another state of it, which is to be told to the client."""
        self._state = state
        self.touch()

    def _died(self) -> None:
        """It ended elsewhere: from now on it is neither stored nor sent, but for a login."""
        self._standing = "dead"
        self._wishes = None
        self._state = State.blank(self._state.value, self._state.seen_at)

    def _abandon(self) -> None:
        """Forget every change but a destroy."""
        self._standing = "dead"
        self._wishes = None

    def _gave_up(self, failed: tuple[bytes, Wishes] | None) -> None:
        """What an explicit save could not save; its caller knows, and the same is not tried again behind its back."""
        self._failed = failed

    def _replaces(self, other: "Session[Any]") -> None:
        """Take the place of another session of this request; what that one was to end, and its death, pass on."""
        self._ended = other._ended
        if other._state.handle:
            self._ended = (*other._ended, Ending(other._state))
        if other._standing == "dead":
            self._standing = "dead"
        other._standing = "dead"
        other._wishes = None
        other._ended = ()

    def _has_ended(self, ending: Ending) -> None:
        """One of them has."""
        self._ended = tuple(each for each in self._ended if each is not ending)
