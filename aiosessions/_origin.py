"""Where a session comes from that was not stored as ours: what ends there once it is."""

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from aiosessions._state import State


Whose: TypeAlias = Literal["nobody", "ours", "others"]


class Origin(Protocol):
    """One session of elsewhere, as one request found it.

    Attributes:
        standing: who has imported it: `ours` is this request.
        is_in_place: it is ours, where it belongs, and only the token that came has to be replaced.
    """

    standing: Whose

    @property
    def is_in_place(self) -> bool: ...

    @property
    def handle(self) -> str:
        """That of the session which is made of it, so that two requests make one; "": the one that it has."""
        ...

    async def claim(self, made: "State") -> "State | bool":
        """Ours is stored: nobody takes it a second time.

        Returns:
            False: somebody has, and it is gone; a State: it was written meanwhile, so this is to be taken along.
        """
        ...

    async def end(self, *, is_wanted: bool) -> None:
        """Gone there too.

        Args:
            is_wanted: it was destroyed: what other requests have made of it is to end as well, and comes from there no
                more.

        Raises:
            StorerError: it may not have ended.
        """
        ...
