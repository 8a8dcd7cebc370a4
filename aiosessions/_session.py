"""One named session during one request. Pure state: no I/O, nothing to await."""

import os
import sys
import warnings
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from aiosessions._csrf import is_masked, masked, new_csrf_key
from aiosessions._errors import NotAuthenticatedError, ReauthenticationError, UnsavedSessionWarning
from aiosessions._lifetime import Lifetime, moment
from aiosessions._marks import (
    Doomed,
    Exchange,
    Flash,
    JSONValue,
    Keeper,
    Marks,
    Outgoing,
    check_json,
    check_text,
    check_user_id,
)
from aiosessions._meta import BLANK, Meta
from aiosessions.storers.storer import Record

__all__ = ["Session"]

T = TypeVar("T")


class Session(Generic[T]):
    """A typed session: read and change `value`; the store that opened it does the rest.

    Made by `Store.get`, `Store.require` and `Store.new`, never by hand.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_carried",
        "_doomed",
        "_draft",
        "_exchange",
        "_handle",
        "_is_busy",
        "_is_degraded",
        "_is_inert",
        "_is_new",
        "_is_sent",
        "_keeper",
        "_marks",
        "_meta",
        "_name",
        "_outgoing",
        "_presented",
        "_record",
        "_replaced",
        "_seen_at",
        "_stale",
        "_unverified",
        "value",
    )

    value: T
    """The state. Mutate it in place or assign it; changes are found by comparing, not by flags."""

    def __init__(
        self,
        keeper: Keeper[T],
        name: str,
        carried: Any,  # Any: the Transport's own, handed back to it
        exchange: Exchange,
        value: T,
        base: bytes,
        handle: str = "",
        record: Record | None = None,
        meta: Meta = BLANK,
    ) -> None:
        self.value = value
        self._keeper = keeper
        self._name = name
        self._carried = carried
        self._exchange = exchange
        self._base = base  # the value as it was when it was last in step with the store
        self._handle = handle
        self._record = record  # what is stored, as far as this request knows; None: nothing
        self._meta = meta
        self._is_new = record is None
        self._seen_at = keeper.now() if record is None else record.seen_at
        self._marks: Marks | None = None
        self._doomed: tuple[Doomed, ...] = ()  # what ends at save
        self._replaced: Doomed | None = None  # what this session takes the place of, once it is stored
        self._unverified = ""  # a token that may name such a session
        self._stale: Any = None  # Any: the overseer's own: a token that came sealed under an older key
        self._presented = b""  # the digest of the secret that the request brought
        self._draft: Any = None  # Any: the overseer's own, between its two phases
        self._outgoing: Outgoing | None = None
        self._is_sent = False  # a token has been handed to a response
        self._is_inert = False  # neither stored nor sent, but for a login
        self._is_degraded = False
        self._is_busy: Any = False  # Any: True, or the event a second save waits for

    def __repr__(self) -> str:  # ends up in logs: no token, no value
        return f"<Session {self._name} handle={self._handle!r} is_new={self._is_new}>"

    @property
    def name(self) -> str:
        """The session's name."""
        return self._name

    @property
    def is_new(self) -> bool:
        """No valid session came with the request."""
        return self._is_new

    @property
    def handle(self) -> str:
        """Public reference, no credential: for logs and "your devices" pages; "" until first saved."""
        return self._handle

    @property
    def is_degraded(self) -> bool:
        """The storer failed and `on_storer_error="new"` made this session up: saving it raises StorerError."""
        return self._is_degraded

    @property
    def created_at(self) -> datetime:
        """When the session was first stored; aware, UTC."""
        return moment(self._seen_at if self._record is None else self._record.created_at)

    @property
    def updated_at(self) -> datetime:
        """Last write of the value; aware, UTC."""
        return moment(self._seen_at if self._record is None else self._meta.updated_at)

    @property
    def seen_at(self) -> datetime:
        """Last touch or write; aware, UTC."""
        return moment(self._seen_at)

    @property
    def expires_at(self) -> datetime | None:
        """The earlier of the idle and the absolute deadline (ASVS 5 7.3.1, 7.3.2); aware, UTC; None: never."""
        deadline = self._deadline()
        return None if deadline is None else moment(deadline)

    @property
    def is_expired(self) -> bool:
        """Now past it: for sockets and jobs that hold a session long."""
        deadline = self._deadline()
        return deadline is not None and self._keeper.now() >= deadline

    def _deadline(self) -> float | None:
        marks = self._marks
        meta = self._meta
        lifetime = marks.lifetime if marks and marks.lifetime else meta.effective_lifetime(self._keeper.lifetime)
        ends_at = meta.ends_at
        if self._record is None or (marks and marks.is_login):
            started = marks.user[1] if marks and marks.user else self._seen_at
            ends_at = None if lifetime.absolute is None else started + lifetime.absolute.total_seconds()

        return lifetime.deadline(self._seen_at, ends_at)

    # the user

    @property
    def user_id(self) -> str | None:
        """The user bound by `set_user`."""
        if self._marks and self._marks.user:
            return self._marks.user[0]

        return None if self._record is None else self._record.owner

    @property
    def is_authenticated(self) -> bool:
        """Whether a user is bound."""
        return self.user_id is not None

    @property
    def authenticated_at(self) -> datetime | None:
        """When `set_user` was last called; aware, UTC."""
        if self._marks and self._marks.user:
            return moment(self._marks.user[1]) if self._marks.is_login else None

        since = self._meta.authenticated_at
        return None if since is None else moment(since)

    def require_user(self) -> str:
        """The user id: the line that guards a page.

        Raises:
            NotAuthenticatedError: no user is bound.
        """
        user_id = self.user_id
        if user_id is None:
            raise NotAuthenticatedError(f"session {self._name!r} has no user: call set_user() at login")

        return user_id

    def require_fresh(self, within: timedelta) -> str:
        """The user id, if the login is recent enough for a sensitive operation (ASVS 5 7.5.1).

        Args:
            within: how old the login may be.

        Raises:
            NotAuthenticatedError: no user is bound.
            ReauthenticationError: the login is older.
        """
        user_id = self.require_user()
        since = self.authenticated_at
        if since is None or self._keeper.now() - since.timestamp() > within.total_seconds():
            raise ReauthenticationError(f"the login is older than {within}: ask for the credential again")

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
        """
        check_user_id(user_id)
        self.regenerate()
        marks = self._marked()
        marks.user = (user_id, self._keeper.now())
        marks.lifetime = lifetime

    def clear_user(self) -> None:
        """Unbind the user and regenerate. The value stays, flashes and label go. Logout is `destroy()`."""
        self.regenerate()
        marks = self._marked()
        marks.user = (None, self._keeper.now())
        marks.lifetime = None
        marks.label = None
        marks.added.clear()
        marks.emptied = True

    # its life

    def regenerate(self) -> None:
        """A new secret at save: older tokens are dead, and so are requests that came in with them."""
        marks = self._marked()
        marks.rotations += 1
        marks.csrf = b""

    def destroy(self) -> None:
        """Gone at save, on both sides, also when the handler then fails; stays gone (ASVS 5 7.4.1).

        The object is then a new, empty session.
        """
        if self._record is not None:
            self._doomed = (*self._doomed, Doomed(self._handle, self._record.owner, self._meta))
        if not self._is_inert:
            self._outgoing = Outgoing()
        self._record = None
        self._meta = BLANK
        self._handle = ""
        self._marks = None
        self._is_new = True
        self._seen_at = self._keeper.now()
        self.value, self._base = self._keeper.fresh()

    def touch(self) -> None:
        """Extend the idle deadline now, whatever the touch window says."""
        self._marked().is_touched = True

    def _marked(self) -> Marks:
        if self._marks is None:
            self._marks = Marks()
        return self._marks

    # label and flashes

    @property
    def label(self) -> str | None:
        """Free text for session lists ("Firefox on Linux"), at most 200 characters."""
        if self._marks and self._marks.label:
            return self._marks.label[0]

        return None if self._marks and self._marks.emptied else self._meta.label

    @label.setter
    def label(self, label: str | None) -> None:
        if label is not None:
            if not isinstance(label, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a checker
                raise TypeError(f"label must be a str, not {type(label).__name__}")
            if len(label) > 200:
                raise ValueError(f"label has {len(label)} characters, and 200 is the most")
            check_text("label", label)
        if label != self.label:
            self._marked().label = (label,)

    def flash(self, message: str, category: str = "info", data: JSONValue = None) -> None:
        """Leave a message for the next page that takes it.

        Raises:
            EncodeError: the message is not text or *data* is not JSON.
        """
        check_text("flash message", message)
        check_text("flash category", category)
        check_json("flash data", data)
        self._marked().added.append((os.urandom(6).hex(), message, category, data))

    def flashes(self, category: str | None = None, *, peek: bool = False) -> list[Flash]:
        """Take the messages that wait, oldest first: each is read once.

        Args:
            category: only these; the others stay.
            peek: look, and leave them.
        """
        marks = self._marks
        taken: set[str] = marks.taken if marks else set()
        stored = () if marks and marks.emptied else self._meta.flashes
        waiting = [flash for flash in stored if flash[0] not in taken]
        waiting += marks.added if marks else ()
        chosen = [flash for flash in waiting if category is None or flash[2] == category]
        if chosen and not peek:
            marks = self._marked()
            marks.added = [flash for flash in marks.added if flash not in chosen]
            marks.taken |= {flash[0] for flash in chosen} & {flash[0] for flash in stored}

        return [Flash(*flash[1:]) for flash in chosen]

    # CSRF

    def csrf_token(self) -> str:
        """A token for a form or a header: masked anew each time, bound to this session and epoch (ASVS 5 3.5.1)."""
        key = self._csrf_key()
        if not key:
            key = self._marked().csrf = new_csrf_key()
        return masked(key)

    def check_csrf(self, token: str) -> bool:
        """Whether `csrf_token()` of this session and epoch made it; constant time."""
        return is_masked(token, self._csrf_key())

    def _csrf_key(self) -> bytes:
        if self._marks and (self._marks.csrf or self._marks.rotations):
            return self._marks.csrf

        return self._meta.csrf

    if sys.flags.dev_mode:

        def __del__(self) -> None:
            if self._keeper.is_unsaved(self):
                warnings.warn(
                    f"{self!r} was changed and never saved: is SessionMiddleware there?",
                    UnsavedSessionWarning,
                    stacklevel=2,
                    source=self,
                )
