"""Sessions in Redis or Valkey whose clients have a key: starsessions' and aiohttp-session's."""

import re
from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar, cast

from aiosessions._errors import StorerError
from aiosessions.migration.envelope import end_of, mapping, unwrapped
from aiosessions.overseers.importer import Data, Importer, NotImportedError, Theirs, earlier
from aiosessions.storers._redis_driver import Client
from aiosessions.storers._redis_server import RedisServer
from aiosessions.storers.bounded import seconds_of

__all__ = ["AiohttpRedis", "StarsessionsRedis"]

T_co = TypeVar("T_co", covariant=True)
_FIVE_SECONDS = timedelta(seconds=5)


class _Redis(Importer[T_co]):
    """What both have in common: a string under a key that ends with what the client has."""

    _ID: re.Pattern[str]

    def __init__(
        self,
        client: Client,
        key: Callable[[str], str],
        *,
        timeout: timedelta,
        delete: bool,
        cookie: str,
        path: str,
        domain: str | None,
        max_age: timedelta | None,
        until: datetime | None,
        to: Callable[[Data], T_co | None] | None,
        user: Callable[[Data], str | None] | None,
        clear: bool,
    ) -> None:
        super().__init__(
            cookie=cookie, path=path, domain=domain, max_age=max_age, until=until, to=to, user=user, clear=clear
        )
        self._key = key
        self._deletes = delete
        self._server = RedisServer(client, timeout=seconds_of(timeout), wait_replicas=0)

    def open(self, text: str, *, now: float) -> Theirs:  # noqa: ARG002  # their backend keeps the time
        """See `Importer.open`: whether a key can end like this."""
        if not self._ID.fullmatch(text):
            raise NotImportedError("forged")
        return Theirs()

    async def fetch(self, text: str, *, now: float) -> Theirs | None:
        """See `Importer.fetch`. One round trip."""
        key = self._key(text)
        answers = await self._server.together(("GET", key), ("PTTL", key))
        for answer in answers:
            if isinstance(answer, StorerError):
                if str(answer.__cause__).startswith("WRONGTYPE"):  # clients choose how the key ends
                    raise NotImportedError("malformed")
                raise answer

        value, left = answers
        if not value or left == -2:  # nothing, or no longer
            return None

        found = self._read(value, now)
        if found is None:
            return None
        data, ends_at = found
        return Theirs(data, earlier(ends_at, None if left < 0 else now + left / 1000))

    async def delete(self, text: str) -> None:
        """See `Importer.delete`."""
        if self._deletes:
            await self._server.ask("DEL", self._key(text))

    @abstractmethod
    def _read(self, value: bytes, now: float) -> tuple[Data, float | None] | None:
        """The session's own keys, and when they end but for the TTL; None: it was emptied."""


class StarsessionsRedis(_Redis[T_co]):
    """Sessions of starsessions' `RedisStore` with its `JsonSerializer`.

    A record lives as long as its TTL, and one with a *max_age* also no longer than that after the `created` that
    starsessions keeps.

    Args:
        client: redis-py's asyncio `Redis`, made without `decode_responses`. It is never closed here.
        prefix: the store's `prefix`: text, or a function that makes the key of an id.
        cookie: `cookie_name` of its `SessionMiddleware`.
        path: `cookie_path`: only so the cookie can be cleared.
        domain: `cookie_domain`, likewise.
        max_age: `lifetime`, unless sessions are `rolling`; None: the TTL alone counts.
        until: from then on nothing is read; aware.
        to: makes the value of the session's own keys; None: not to be imported. Without it fields are taken by name.
        user: whose session it is; None: nobody's.
        clear: whether their cookie is cleared once our session is stored.
        delete: whether their record is deleted then.
        timeout: how long one round trip may take.

    Raises:
        ConfigError: an argument cannot work; names it and the fix.
    """

    _ID = re.compile(r"[0-9a-f]{32}", re.ASCII)  # starsessions.session.generate_session_id

    def __init__(
        self,
        client: Client,
        *,
        prefix: str | Callable[[str], str] = "starsessions.",
        cookie: str = "session",
        path: str = "/",
        domain: str | None = None,
        max_age: timedelta | None = None,
        until: datetime | None = None,
        to: Callable[[Data], T_co | None] | None = None,
        user: Callable[[Data], str | None] | None = None,
        clear: bool = True,
        delete: bool = True,
        timeout: timedelta = _FIVE_SECONDS,
    ) -> None:
        super().__init__(
            client,
            prefix if callable(prefix) else prefix.__add__,
            timeout=timeout,
            delete=delete,
            cookie=cookie,
            path=path,
            domain=domain,
            max_age=max_age,
            until=until,
            to=to,
            user=user,
            clear=clear,
        )

    def _read(self, value: bytes, now: float) -> tuple[Data, float | None] | None:
        data = mapping(value)
        metadata: object = data.pop("__metadata__", None)
        created = cast("Data", metadata).get("created") if isinstance(metadata, dict) else None
        return data, end_of(created, self.max_age, now)


class AiohttpRedis(_Redis[T_co]):
    """Sessions of aiohttp-session's `RedisStorage` with its JSON.

    A record lives as long as its TTL, and one with a *max_age* also no longer than that after the `created` that
    aiohttp-session keeps.

    Args:
        client: redis-py's asyncio `Redis`, made without `decode_responses`. It is never closed here.
        cookie: the storage's `cookie_name`, with which its keys begin, too.
        path: its `path`: only so the cookie can be cleared.
        domain: its `domain`, likewise.
        max_age: its `max_age`; None: the TTL alone counts.
        until: from then on nothing is read; aware.
        to: makes the value of the session's own keys; None: not to be imported. Without it fields are taken by name.
        user: whose session it is; None: nobody's.
        clear: whether their cookie is cleared once our session is stored.
        delete: whether their record is deleted then.
        timeout: how long one round trip may take.

    Raises:
        ConfigError: an argument cannot work; names it and the fix.
    """

    _ID = re.compile(r"[!-~]{1,256}", re.ASCII)  # whatever a `key_factory` may give that fits a cookie

    def __init__(
        self,
        client: Client,
        *,
        cookie: str = "AIOHTTP_SESSION",
        path: str = "/",
        domain: str | None = None,
        max_age: timedelta | None = None,
        until: datetime | None = None,
        to: Callable[[Data], T_co | None] | None = None,
        user: Callable[[Data], str | None] | None = None,
        clear: bool = True,
        delete: bool = True,
        timeout: timedelta = _FIVE_SECONDS,
    ) -> None:
        super().__init__(
            client,
            f"{cookie}_".__add__,
            timeout=timeout,
            delete=delete,
            cookie=cookie,
            path=path,
            domain=domain,
            max_age=max_age,
            until=until,
            to=to,
            user=user,
            clear=clear,
        )

    def _read(self, value: bytes, now: float) -> tuple[Data, float | None] | None:
        if value == b"{}":  # what it writes for a session that was emptied
            return None
        return unwrapped(value, self.max_age, now)
