"""A storer's URL, taken apart. What it shows of itself, in errors and in `repr`, has no password."""

import math
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from aiosessions._errors import ConfigError

__all__ = ["StorerURL", "at_least", "flag", "seconds"]

_T = TypeVar("_T")
_N = TypeVar("_N", int, float)
_MALFORMED = (
    "the storer's URL is malformed: give scheme://user:password@host:port/path?option=value, "
    "and write / ? # @ : in a password as %2F %3F %23 %40 %3A"
)


class StorerURL:
    """`scheme://user:password@host:port,host:port/path?option=value`.

    Each option is taken once, with `option`; `finish` refuses what nobody took.

    Args:
        text: the URL.

    Raises:
        ConfigError: it is no URL, or an option comes twice; the message never has the text itself.
    """

    def __init__(self, text: str) -> None:
        # Python's own messages quote the URL, and with it the password.
        try:
            parts = urlsplit(text)
            options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise ConfigError(_MALFORMED) from None
        if not parts.scheme:
            raise ConfigError("the storer's URL has no scheme: give memory:, disk:PATH, redis://host or another")
        # What follows a / ? or # of a password would be shown as a path.
        if parts.fragment or (parts.netloc and "@" in parts.path):
            raise ConfigError(_MALFORMED)
        self.scheme: str = parts.scheme
        self.path: str = unquote(parts.path)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        self.user: str = unquote(user)
        self.password: str = unquote(password)
        listed = hosts.split(",") if hosts else []
        self.hosts: list[tuple[str, int | None]] = [self._host_and_port(host) for host in listed]
        self._options = dict(options)
        self._known: set[str] = set()
        if len(self._options) < len(options):
            raise ConfigError(f"{self}: an option comes twice")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.where}{self.path}" if self.hosts else f"{self.scheme}:{self.path}".rstrip(":")

    def __repr__(self) -> str:
        return f"StorerURL({str(self)!r})"

    @property
    def where(self) -> str:
        """Hosts and ports."""
        return ",".join(host if port is None else f"{host}:{port}" for host, port in self.hosts)

    def option(self, name: str, convert: Callable[[str], _T], default: _T) -> _T:
        """Take the option *name*; *default* if it is not there.

        Raises:
            ConfigError: *convert* does not take its text.
        """
        self._known.add(name)
        text = self._options.pop(name, None)
        if text is None:
            return default

        try:
            return convert(text)
        except ValueError as error:
            why = f": {error}" if isinstance(error, ConfigError) else ""
            raise ConfigError(f"{self}: the option {name} cannot be {text!r}{why}") from None

    def driver_options(self, names: Collection[str]) -> dict[str, str]:
        """Take those of *names* that are there, for the driver to read."""
        self._known.update(names)
        return {name: self._options.pop(name) for name in names if name in self._options}

    def finish(self) -> None:
        """Refuse options that were not taken.

        Raises:
            ConfigError: some were not; the message lists those that were asked for.
        """
        if self._options:
            unknown = ", ".join(sorted(self._options))
            raise ConfigError(f"{self}: unknown option {unknown}; there are {', '.join(sorted(self._known)) or 'none'}")

    def rebuilt(self, scheme: str, options: dict[str, str], *, default_port: int) -> str:
        """The URL for a driver to read: of another scheme, with these options, and nothing in it that is malformed."""
        hosts = ",".join(
            f"[{host}]:{port or default_port}" if ":" in host else f"{quote(host, safe='')}:{port or default_port}"
            for host, port in self.hosts
        )
        user = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user else ""
        return urlunsplit((scheme, user + hosts, quote(self.path), urlencode(options), ""))

    def _host_and_port(self, text: str) -> tuple[str, int | None]:
        try:
            # The hostname comes in lower case, and an IPv6 address without its brackets.
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigError(f"a host in the {self.scheme}: URL is malformed: give host:port") from None
        if host is not None and "%2f" in host.lower():
            return unquote(text.rpartition(":")[0] if port is not None else text), port
        return host or "localhost", port


def at_least(least: _N) -> Callable[[str], _N]:
    """A number option of the type of *least*, finite and not below it."""

    def number(text: str) -> _N:
        value = type(least)(text)
        if not least <= value < math.inf:
            raise ConfigError(f"give {least} or more")
        return value

    return number


def seconds(text: str) -> timedelta:
    """A duration option: seconds, such as `2.5`."""
    try:
        duration = timedelta(seconds=float(text))
    except OverflowError:
        duration = timedelta(0)
    if duration <= timedelta(0):
        raise ConfigError("give seconds, more than 0, not for ever")
    return duration


def flag(text: str) -> bool:
    """A yes-or-no option: `true`, `1`, `yes`; `false`, `0`, `no`."""
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise ConfigError("give true or false")
