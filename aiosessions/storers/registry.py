"""`storer_from_url`: the storer that a URL names, with the driver's client made and closed for you."""

# ruff: noqa: PLC0415  (each module is imported when its scheme is asked for: `import aiosessions` imports no driver)

from collections.abc import Callable
from importlib.metadata import entry_points

from aiosessions._errors import ConfigError
from aiosessions.storers.storer import Storer
from aiosessions.storers.url import StorerURL, flag

__all__ = ["storer_from_url"]

ENTRY_POINTS = "aiosessions.storers"


def storer_from_url(url: str) -> Storer:
    """The storer for *url*, which owns what it opens: the last `aclose` closes it.

    Nothing is connected before `open` or the first call. The scheme says which:

    - `memory:` (`?max_sessions=10000`) and `disk:PATH` (`disk:/var/lib/shop/sessions?fsync=true`);
    - `redis:`, `rediss:`, `valkey:`, `valkeys:`, `redict:`: see `RedisStorer.from_url`;
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
    if scheme in _BUILT_IN:
        return _BUILT_IN[scheme](url)

    for entry in entry_points(group=ENTRY_POINTS, name=scheme):
        storer: Storer = entry.load()(url)
        return storer

    installed = sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINTS).names})
    raise ConfigError(f"no storer for {scheme}: URLs is installed; there are {', '.join(installed)}")


def _memory(url: str) -> Storer:
    from aiosessions.storers.memory import MemoryStorer

    parsed = StorerURL(url)
    max_sessions = parsed.option("max_sessions", int, None)
    parsed.finish()
    return MemoryStorer(max_sessions=max_sessions)


def _disk(url: str) -> Storer:
    from aiosessions.storers.disk import DiskStorer

    parsed = StorerURL(url)
    if parsed.hosts:
        raise ConfigError(f"{parsed}: give disk:PATH, or disk:///PATH; there is no host")
    if not parsed.path:
        raise ConfigError("disk: has no folder: give disk:PATH")
    fsync = parsed.option("fsync", flag, default=False)
    parsed.finish()
    return DiskStorer(parsed.path, fsync=fsync)


def _redis(url: str) -> Storer:
    from aiosessions.storers.redis import RedisStorer

    return RedisStorer.from_url(url)


def _postgres(url: str) -> Storer:
    from aiosessions.storers.postgres import PostgresStorer

    return PostgresStorer.from_url(url)


def _memcached(url: str) -> Storer:
    from aiosessions.storers.memcached import MemcachedStorer

    return MemcachedStorer.from_url(url)


_BUILT_IN: dict[str, Callable[[str], Storer]] = {
    "memory": _memory,
    "disk": _disk,
    "redis": _redis,
    "rediss": _redis,
    "valkey": _redis,
    "valkeys": _redis,
    "redict": _redis,
    "postgresql": _postgres,
    "postgres": _postgres,
    "memcached": _memcached,
}
