"""What one save is about to write: the next meta of a session, its secrets, and the record they make."""

from typing import NamedTuple

from msgspec.structs import replace

from aiosessions._csrf import new_csrf_key
from aiosessions._lifetime import Lifetime
from aiosessions._marks import Marks
from aiosessions._meta import Meta, Secret

__all__ = ["SHORT", "Draft", "first_alive", "next_meta", "next_secrets", "wants_confirmation", "wants_rotation"]

SHORT = 16
"""Bytes kept of a digest that opens nothing any more and is only recognised."""
_KEPT = 4  # how many secrets of one kind a meta holds at most


class Draft(NamedTuple):
    """What `prepare` found to be written.

    Args:
        value: the session's value, encoded.
        is_changed: whether it differs from what the session started with.
        marks: what else the handler asked for, as it was at that moment.
        is_touch: only the idle deadline moves.
        can_tell: whether a new token can still reach the client.
    """

    value: bytes
    is_changed: bool
    marks: Marks
    is_touch: bool = False
    can_tell: bool = True

    def __repr__(self) -> str:  # tracebacks may show local variables: no value
        return f"Draft(is_changed={self.is_changed}, is_touch={self.is_touch})"


def next_meta(
    meta: Meta, marks: Marks, *, lifetime: Lifetime, now: float, is_changed: bool, is_new: bool, lineage: bytes = b""
) -> Meta:
    """What a session's meta is after a save; the secrets are not its affair.

    Args:
        meta: as stored now, by whomever.
        marks: what the handler asked for.
        lifetime: the store's.
        now: unix seconds.
        is_changed: the value is written too.
        is_new: there is no record yet.
        lineage: what the write descends from.
    """
    updated_at = now if is_changed or is_new else meta.updated_at
    if not is_new and not marks.is_write:
        return replace(meta, updated_at=updated_at, lineage=lineage)

    flashes = () if marks.emptied else tuple(flash for flash in meta.flashes if flash[0] not in marks.taken)
    label = None if marks.emptied else meta.label
    ends_at, authenticated_at, own = meta.ends_at, meta.authenticated_at, meta.lifetime
    if is_new:
        ends_at = None if lifetime.absolute is None else now + lifetime.absolute.total_seconds()
    if marks.user is not None:
        user_id, since = marks.user
        chosen = marks.lifetime or lifetime
        restart = None if chosen.absolute is None else since + chosen.absolute.total_seconds()
        own = None if marks.lifetime is None else marks.lifetime.pack()
        if user_id is not None:
            ends_at, authenticated_at = restart, since
        else:  # a longer lifetime ends with the login it came from
            authenticated_at = None
            ends_at = min((end for end in (ends_at, restart) if end is not None), default=None)

    return replace(
        meta,
        epoch=meta.epoch + bool(marks.rotations),
        updated_at=updated_at,
        ends_at=ends_at,
        authenticated_at=authenticated_at,
        csrf=marks.csrf or (new_csrf_key() if is_new or marks.rotations else meta.csrf),
        label=marks.label[0] if marks.label else label,
        flashes=flashes + tuple(marks.added),
        lifetime=own,
        lineage=lineage,
    )


def next_secrets(
    meta: Meta, digest: bytes | None, *, presented: bytes, grace: float, now: float, is_explicit: bool
) -> Meta:
    """The meta with its secrets moved on (DESIGN 5).

    Args:
        meta: as it will be stored, but for the secrets.
        digest: of a new secret; None: none was made.
        presented: the digest of the secret that the request brought.
        grace: seconds.
        now: unix seconds.
        is_explicit: the older secrets die at once; else `grace` after the new one was first presented.
    """
    if is_explicit:
        ended = [Secret(secret.digest[:SHORT], now) for secret in meta.secrets]
        recent = [secret for secret in meta.superseded if now - secret.issued_at < grace]
        opening = () if digest is None else (Secret(digest, now),)
        return replace(meta, secrets=opening, superseded=tuple([*recent, *ended][-_KEPT:]))

    if digest is None and len(meta.secrets) == 1:
        only = meta.secrets[0]
        if only.presented_at or only.digest != presented:
            return meta

    secrets = [
        replace(secret, presented_at=now) if secret.digest == presented and not secret.presented_at else secret
        for secret in meta.secrets
    ]
    alive = first_alive(secrets, grace=grace, now=now)
    retired = [*meta.retired, *(Secret(secret.digest[:SHORT], now) for secret in secrets[:alive])]
    secrets = secrets[alive:]
    if digest is not None:
        # of several that were sent and never seen again, the newest are the likeliest to arrive
        unseen = [secret for secret in secrets if not secret.presented_at and secret.digest != presented]
        seen = [secret for secret in secrets if secret not in unseen]
        secrets = [*seen, *unseen[-1:], Secret(digest, now)]

    return replace(meta, secrets=tuple(secrets), retired=tuple(retired[-_KEPT:]))


def first_alive(secrets: list[Secret] | tuple[Secret, ...], *, grace: float, now: float) -> int:
    """The index of the oldest secret that still opens the session: a newer one was presented `grace` ago, or never."""
    for index in range(len(secrets) - 1, 0, -1):
        if secrets[index].presented_at and now - secrets[index].presented_at >= grace:
            return index

    return 0


def wants_rotation(meta: Meta, presented: bytes, lifetime: Lifetime, *, now: float) -> bool:
    """Whether a periodic rotation is due, or one got lost on its way to the client."""
    if lifetime.rotate is None or not meta.secrets:
        return False

    newest = meta.secrets[-1]
    age = now - newest.issued_at
    if newest.digest == presented:
        return age >= lifetime.rotate.total_seconds()

    return not newest.presented_at and age >= lifetime.grace.total_seconds()


def wants_confirmation(meta: Meta, presented: bytes) -> bool:
    """Whether a secret of a periodic rotation came for the first time."""
    return len(meta.secrets) > 1 and any(
        secret.digest == presented and not secret.presented_at for secret in meta.secrets[1:]
    )
