"""What would else be found out when the headers of a first response leave."""

from msgspec import structs

from aiosessions._errors import ConfigError, SessionTooLargeError, UnsupportedError
from aiosessions._lifetime import Lifetime
from aiosessions._place import Place
from aiosessions._request import RawHeaders
from aiosessions._state import State
from aiosessions._tokens import new_handle, new_token
from aiosessions.overseers.sealed import Sealed
from aiosessions.transports.transport import Carried


def prove(sealed: Sealed, place: Place, lifetime: Lifetime) -> None:
    """That the longest token of a session which is stored fits the transport.

    Raises:
        ConfigError: it does not.
    """
    now = place.keeper.now()
    absolute = 0.0 if lifetime.absolute is None else lifetime.absolute.total_seconds()
    state = State.blank(b"", now)
    meta = structs.replace(state.meta, ends_at=now + absolute)
    state = structs.replace(state, handle=new_handle(), owner="x" * 255, meta=meta)
    try:
        place.transport.write(RawHeaders([]), place.name, sealed.text(place, new_token(), state), Carried(""), None)
    except UnsupportedError:
        return  # it has public keys only: this store reads
    except SessionTooLargeError as error:
        raise ConfigError(
            f"sealer: its tokens do not fit the transport ({error}): give another, or more room"
        ) from None
