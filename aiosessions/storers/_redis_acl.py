"""What a user of Redis must be allowed, and what of that one lacks."""

from aiosessions._errors import StorerError
from aiosessions.storers._redis_driver import Argument, NoPermissionError, forbidden
from aiosessions.storers._redis_server import RedisServer

__all__ = ["COMMANDS", "refusal"]

COMMANDS = (
    "+eval +evalsha +get +mget +getrange +setrange +set +del +pttl +pexpire +persist +expireat +time "
    "+zadd +zscore +zscan +zrem +zremrangebyscore +zrevrange +scan +info"
)
"""What its ACL must allow, beside the keys that start with the prefix."""


async def refusal(server: RedisServer, error: StorerError, key: bytes) -> str | None:
    """What the user may not do, if that is why something failed; None: something else did.

    Args:
        server: which refused it.
        error: what came of it.
        key: one that nobody has, under the prefix.
    """
    denied = forbidden(error)
    if denied is None or "can't run this" not in denied:
        return denied

    # Redis 7.0 does not tell a script which: each is tried, so that it changes nothing
    trials: dict[str, tuple[Argument, ...]] = {
        "getrange": (key, 0, 0),
        "setrange": (key, 0, b""),
        "set": (key, b"", "XX"),
        "del": (key,),
        "pttl": (key,),
        "pexpire": (key, 1),
        "persist": (key,),
        "expireat": (key, 1),
        "time": (),
        "zadd": (key, "XX", 0, "member"),
        "zscore": (key, "member"),
        "zscan": (key, 0),
        "zrem": (key, "member"),
        "zremrangebyscore": (key, 0, 0),
        "zrevrange": (key, 0, 0),
    }
    missing = [command for command, arguments in trials.items() if not await _may(server, command, *arguments)]
    return f"this user has no permissions to run {', '.join(map(repr, missing))}" if missing else denied


async def _may(server: RedisServer, *command: Argument) -> bool:
    try:
        await server.ask(*command)
    except StorerError as error:
        if not isinstance(error.__cause__, NoPermissionError):
            raise
        return False
    return True
