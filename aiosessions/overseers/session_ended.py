"""Tells a socket or a stream that its session has ended."""

from datetime import timedelta
from typing import Protocol, TypeVar

import anyio

from aiosessions._errors import ConfigError
from aiosessions._session import Session

T = TypeVar("T")


class _Watchable(Protocol[T]):
    """A store that can tell whether a session still counts: both overseers can."""

    async def is_live(self, session: Session[T]) -> bool: ...


async def session_ended(store: _Watchable[T], session: Session[T], *, poll: timedelta = timedelta(seconds=5)) -> None:
    """Return when a session has expired, was destroyed, or was rotated away by a login or logout elsewhere.

    For what holds a session long: run it beside a socket's loop, and close the socket when it returns (ASVS 5 7.4.1).

    Args:
        store: the one that gave the session.
        session: as the socket loaded it; one that was never stored has ended.
        poll: how often to ask, at one read each; a socket may outlive its session by so much.

    Raises:
        ConfigError: *poll* is not positive.
        StorerError: the backend failed.
    """
    if poll <= timedelta(0):
        raise ConfigError(f"poll={poll}: give a positive duration")

    while await store.is_live(session):  # noqa: ASYNC110  # the event is in the backend
        await anyio.sleep(poll.total_seconds())
