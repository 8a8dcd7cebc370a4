"""What the token of a session says that the client holds."""

from msgspec.structs import replace

from aiosessions._lifetime import MAX_AGE_LIMIT, Lifetime
from aiosessions._state import Held, Meta, State, is_time
from aiosessions.sealers.sealer import Claims


def state_of(claims: Claims, *, now: float, lifetime: Lifetime, must_end: bool) -> State | None:
    """The state that a token carries; None for a reference, and for what this library did not write like this.

    Args:
        claims: of a token that was verified.
        now: unix seconds.
        lifetime: the store's.
        must_end: what ends is remembered until its token does, and so every token has to; it may be foreign, or of a
            time without revocations.
    """
    meta = None if claims.is_reference or not claims.session_id else _meta_of(claims)
    held = None if meta is None else meta.held
    if meta is None or held is None:
        return None

    if must_end:
        latest = held.created_at + MAX_AGE_LIMIT.total_seconds()
        if meta.ends_at is None and lifetime.absolute is not None:
            latest = held.created_at + lifetime.absolute.total_seconds()
        meta = replace(meta, ends_at=latest if meta.ends_at is None else min(meta.ends_at, latest))
    return State(claims.session_id, claims.body, claims.user_id, held.created_at, held.seen_at, 0, meta, now)


def _meta_of(claims: Claims) -> Meta | None:
    """What the token says beside the value; a JWT that other software issued under a shared key says its times only."""
    if claims.meta:
        return Meta.unpack(claims.meta)

    since, until = claims.issued_at, claims.expires_at
    if not is_time(since) or not (until is None or is_time(until)):
        return None
    user_since = None if claims.user_id is None else since
    return Meta(updated_at=since, ends_at=until, authenticated_at=user_since, held=Held(since, since))
