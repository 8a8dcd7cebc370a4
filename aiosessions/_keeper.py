"""The store, as a session and its request see it."""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from aiosessions._lifetime import Lifetime

T_co = TypeVar("T_co", covariant=True)


class Keeper(Protocol[T_co]):
    """What a session, and whoever saves it, asks of the store that opened it.

    Attributes:
        is_warned: the log has it that a session was changed and never saved.
    """

    is_warned: bool

    @property
    def lifetime(self) -> "Lifetime":
        """The store's."""
        ...

    @property
    def can_end(self) -> bool:
        """Whether what was destroyed ends though its client is not told."""
        ...

    def now(self) -> float:
        """Unix seconds; never goes back."""
        ...

    def fresh(self) -> tuple[T_co, bytes]:
        """A new value, and its bytes."""
        ...

    def check_lifetime(self, lifetime: "Lifetime") -> None:
        """Raise ConfigError for one that this store cannot keep."""
        ...

    def plan(self, session: Any, *, can_tell: bool) -> Any:  # Any: a session, which knows this file; its Plan, or None
        """What a save has to do, encoded and checked; None: nothing. Without *can_tell* there can be no new token."""
        ...

    async def carry_out(self, plan: Any) -> None:  # Any: what `plan` gave
        """Do it."""
        ...

    async def confirm(self, session: Any) -> None:  # Any: as above
        """Take back a token that is sent again, if somebody has a newer one by now."""
        ...

    async def end(self, session: Any) -> None:  # Any: as above
        """End what was destroyed, and make up for a touch that a read had left to the headers."""
        ...
