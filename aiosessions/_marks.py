"""What a handler asks of a session, kept until save; and what a session asks of its store."""

from copy import copy
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from aiosessions._errors import EncodeError
from aiosessions._lifetime import Lifetime
from aiosessions._meta import Meta, PackedFlash

if TYPE_CHECKING:
    from aiosessions._session import Session

__all__ = [
    "Doomed",
    "Exchange",
    "Flash",
    "JSONValue",
    "Keeper",
    "Marks",
    "Outgoing",
    "check_json",
    "check_text",
    "check_user_id",
]

T = TypeVar("T")
JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"


class Flash(NamedTuple):
    """A message that is shown once."""

    message: str
    category: str = "info"
    data: JSONValue = None


class Exchange:
    """What the sessions of one request share about its answer.

    Args:
        is_managed: a middleware saves and tells the client.
        is_started: the headers have left.
        is_plain: the request came by http or ws, as far as the server knows.
    """

    __slots__ = ("is_managed", "is_plain", "is_started")

    def __init__(self) -> None:
        self.is_managed: bool = False
        self.is_started: bool = False
        self.is_plain: bool = False


class Doomed(NamedTuple):
    """A stored session that is to end."""

    handle: str
    owner: str | None
    meta: Meta


class Outgoing(NamedTuple):
    """What the client must be told: a new token, or without one that its own is dead."""

    token: str | None = None
    max_age: int | None = None
    site_data: tuple[str, ...] = ()

    def __repr__(self) -> str:  # tracebacks may show local variables: no token
        return f"Outgoing(is_token={self.token is not None})"


class Keeper(Protocol[T]):
    """What a session asks of the store that opened it; answered without I/O."""

    @property
    def lifetime(self) -> Lifetime: ...

    def now(self) -> float: ...

    def fresh(self) -> tuple[T, bytes]: ...

    def is_unsaved(self, session: "Session[T]") -> bool: ...


class Marks:
    """What a handler asked for, to be done at save."""

    __slots__ = ("added", "csrf", "emptied", "is_touched", "label", "lifetime", "rotations", "taken", "user")

    def __init__(self) -> None:
        self.rotations = 0
        self.is_touched = False
        self.user: tuple[str | None, float] | None = None  # whom, and since when; (None, ...) unbinds
        self.lifetime: Lifetime | None = None
        self.label: tuple[str | None] | None = None
        self.csrf = b""
        self.added: list[PackedFlash] = []
        self.taken: set[str] = set()
        self.emptied = False  # the stored flashes and label go too

    @property
    def is_login(self) -> bool:
        return self.user is not None and self.user[0] is not None

    @property
    def is_content(self) -> bool:
        """Whether a session that is not stored yet is worth storing for this."""
        return bool(self.label or self.csrf or self.added or self.is_login)

    @property
    def is_write(self) -> bool:
        """Whether there is more to do than a touch."""
        return bool(self.rotations or self.taken or self.emptied) or self.is_content

    def copy(self) -> "Marks":
        """What a save carries out, while the handler may go on."""
        other = copy(self)
        other.added = list(self.added)
        other.taken = set(self.taken)
        return other

    def without(self, done: "Marks") -> "Marks | None":
        """What was asked for since the copy *done* was made; None: nothing."""
        rest = copy(self)
        rest.added = [flash for flash in self.added if flash not in done.added]
        rest.taken = self.taken - done.taken
        rest.rotations = self.rotations - done.rotations
        rest.emptied = self.emptied and not done.emptied
        rest.is_touched = False
        for name in ("user", "lifetime", "label"):
            if getattr(self, name) is getattr(done, name):
                setattr(rest, name, None)
        if self.csrf == done.csrf:
            rest.csrf = b""
        return rest if rest.is_write else None


def check_text(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise EncodeError(f"the {what} must be a str, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EncodeError(f"the {what} holds a lone surrogate, which is no text") from None


def check_user_id(user_id: object) -> None:
    if not isinstance(user_id, str):
        raise TypeError(f"user_id must be a str, not {type(user_id).__name__}: write set_user(str(user.id))")

    try:
        size = len(user_id.encode())
    except UnicodeEncodeError:
        raise ValueError("user_id holds a lone surrogate, which is no text") from None
    if not 1 <= size <= 255:
        raise ValueError(f"user_id takes {size} bytes: give 1 to 255")
    if "\0" in user_id:
        raise ValueError("user_id holds a NUL")


def check_json(what: str, data: object) -> None:
    try:
        is_json = data is None or msgspec.json.decode(msgspec.json.encode(data)) == data
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        is_json = False
    if not is_json:
        raise EncodeError(f"the {what} must be JSON: None, bool, int, float, str, and lists and dicts of them")
