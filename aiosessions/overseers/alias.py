"""A name that a session of ours had before."""

from datetime import datetime

from aiosessions._given import check_part, check_until
from aiosessions.transports.transport import Transport, check_name

__all__ = ["Alias"]


class Alias:
    """Sessions of ours under an older name or transport, with the same sealer and namespace.

    Everything stays: value, user, clocks, deadlines, flashes, label. The older record or session id ends with the first
    save; a session that was revoked is not taken.

    Args:
        name: the older one.
        transport: the older one; None: the store's own.
        until: from then on it is not looked at; aware.

    Raises:
        ConfigError: an argument cannot work; names it and the fix.
    """

    def __init__(self, name: str, *, transport: Transport | None = None, until: datetime | None = None) -> None:
        if transport is not None:
            check_part("transport", transport, ("read", "write", "clear", "vary"), "give CookieTransport() or another")
            check_name(transport, name)
        check_until(until)
        self.name: str = name
        self.transport: Transport | None = transport
        self.until: datetime | None = until

    def __repr__(self) -> str:
        return f"Alias({self.name!r})"
