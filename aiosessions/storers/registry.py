"""`storer_from_url`: the storer that a URL names, with the driver's client made and closed for you."""

# ruff: noqa: PLC0415  (each module is imported when its scheme is asked for: `import aiosessions` imports no driver)

import os
import re
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points

from aiosessions._errors import ConfigError
from aiosessions.storers.storer import Storer
from aiosessions.storers.url import StorerURL, at_least, flag, seconds

__all__ = ["disk", "memory", "sqlite", "storer_from_url"]

ENTRY_POINTS = "aiosessions.storers"


def storer_from_url(url: str) -> Storer:
    """The storer for *url*, which owns what it opens: the last `aclose` closes it.

    Nothing is connected before `open` or the first call. The scheme says which:

    - `memory:` (`?max_sessions=10000`) and `disk:PATH` (`disk:/var/lib/shop/sessions?fsync=true`);
    - `sqlite:PATH` (`sqlite:sessions.db?timeout=2.5`, or `sqlite:///var/lib/shop/sessions.db`);
    - `redis:`, `rediss:`, `valkey:`, `valkeys:`, `redict:`, and `redis+sentinel:`: see `RedisStorer.from_url`;
    - `postgresql:`, `postgres:`: see `PostgresStorer.from_url`;
    - `memcached:`: see `MemcachedStorer.from_url`;
    - any other: an installed package's entry point of this name in the group `aiosessions.storers`, a callable that is
      given the whole URL and returns a storer.

    Args:
        url: the URL; a password in it is in no error and no `repr`.

    Raises:
        ConfigError: no storer has this scheme, or the URL has an option that its storer has not.
        ImportError: its driver is not installed; the message names the extra.
    """
    scheme = StorerURL(url).scheme
    own = _BUILT_IN.get(scheme)
    found = entry_points(group=ENTRY_POINTS, name=scheme) if own is None else [EntryPoint(scheme, own, ENTRY_POINTS)]
    for entry in found:
        storer: Storer = entry.load()(url)
        return storer

    installed = sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINTS).names})
    raise ConfigError(f"no storer for {scheme}: URLs is installed; there are {', '.join(installed)}")


def memory(url: str) -> Storer:
    """What `memory:` URLs name; see `storer_from_url`."""
    from aiosessions.storers.memory import MemoryStorer

    parsed = StorerURL(url)
    max_sessions = parsed.option("max_sessions", at_least(1), None)
    parsed.finish()
    return MemoryStorer(max_sessions=max_sessions)


def disk(url: str) -> Storer:
    """What `disk:` URLs name; see `storer_from_url`."""
    from aiosessions.storers.disk import DiskStorer

    parsed = StorerURL(url)
    if parsed.hosts:
        raise ConfigError(f"{parsed}: give disk:PATH, or disk:///PATH; there is no host")
    if not parsed.path:
        raise ConfigError("disk: has no folder: give disk:PATH")
    fsync = parsed.option("fsync", flag, default=False)
    parsed.finish()
    return DiskStorer(parsed.path, fsync=fsync)


def sqlite(url: str) -> Storer:
    """What `sqlite:` URLs name; see `storer_from_url`."""
    from aiosessions.storers.sqlite import SQLiteStorer

    parsed = StorerURL(url)
    if parsed.hosts:
        raise ConfigError(f"{parsed}: give sqlite:PATH, or sqlite:///PATH from the root; there is no host")
    if not parsed.path:
        raise ConfigError("sqlite: has no file: give sqlite:PATH")
    timeout = parsed.option("timeout", seconds, timedelta(seconds=5))
    parsed.finish()
    # SQLAlchemy's URLs have four slashes before a path from the root; on Windows a drive follows three.
    before = r"^/+(?=/|[A-Za-z]:)" if os.name == "nt" else r"^/+(?=/)"
    return SQLiteStorer(re.sub(before, "", parsed.path), timeout=timeout)


_REDIS = "aiosessions.storers.redis:RedisStorer.from_url"
_POSTGRES = "aiosessions.storers.postgres:PostgresStorer.from_url"
_BUILT_IN = {
    "memory": "aiosessions.storers.registry:memory",
    "sqlite": "aiosessions.storers.registry:sqlite",
    "disk": "aiosessions.storers.registry:disk",
    "redis": _REDIS,
    "rediss": _REDIS,
    "valkey": _REDIS,
    "valkeys": _REDIS,
    "redict": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
    "valkey+sentinel": _REDIS,
    "valkeys+sentinel": _REDIS,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "memcached": "aiosessions.storers.memcached:MemcachedStorer.from_url",
}
"""Ours, as an installed package's entry points say theirs: each module is imported when its scheme is asked for."""
