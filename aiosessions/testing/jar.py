"""A cookie jar that keeps and refuses what browsers do (RFC 6265bis §5, CHIPS)."""

import ipaddress
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

__all__ = ["Cookie", "CookieJar"]

_LONGEST = 400 * 86_400.0  # §5.5
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SECURE_SCHEMES = ("https", "wss")


@dataclass(frozen=True, kw_only=True)
class Cookie:
    """One cookie. Its `repr` does not show the value.

    Args:
        host_only: for exactly *domain*, not for its subdomains.
        expires_at: unix seconds; None: at the end of the browser's session.
    """

    name: str
    value: str = field(repr=False)
    domain: str
    host_only: bool = True
    path: str = "/"
    secure: bool = False
    http_only: bool = False
    same_site: str = ""
    partitioned: bool = False
    expires_at: float | None = None

    def goes_to(self, url: SplitResult) -> bool:
        """Whether a request to this address carries it."""
        host = url.hostname or ""
        if not (host == self.domain if self.host_only else _is_within(host, self.domain)):
            return False
        return _is_below(url.path or "/", self.path) and (not self.secure or _is_trustworthy(url))


class CookieJar:
    """The cookies of one browser. All requests count as first-party, so SameSite keeps none back.

    Args:
        clock: unix seconds.

    Attributes:
        refused: why Set-Cookie lines were not kept, oldest first; for the message of a test that fails.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.refused: list[str] = []
        self._clock = clock
        self._cookies: dict[tuple[str, str, bool, str], Cookie] = {}  # in the order of their creation

    def __iter__(self) -> Iterator[Cookie]:
        """Those that are alive."""
        now = self._clock()
        return iter([each for each in self._cookies.values() if each.expires_at is None or each.expires_at > now])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(each.name == name for each in self)

    def get(self, name: str) -> str | None:
        """The value of the newest cookie of this name."""
        return next((each.value for each in reversed(list(self)) if each.name == name), None)

    def put(self, cookie: Cookie) -> None:
        """Plant a cookie; one of the same name, domain and path goes."""
        key = (cookie.name, cookie.domain, cookie.host_only, cookie.path)
        self._cookies[key] = cookie
        if cookie.expires_at is not None and cookie.expires_at <= self._clock():
            del self._cookies[key]

    def remove(self, name: str) -> None:
        """Forget every cookie of this name."""
        self._cookies = {key: each for key, each in self._cookies.items() if each.name != name}

    def clear(self) -> None:
        """Forget all."""
        self._cookies.clear()

    def end_session(self) -> None:
        """Close the browser: cookies without Max-Age and Expires go."""
        self._cookies = {key: each for key, each in self._cookies.items() if each.expires_at is not None}

    def copy(self) -> "CookieJar":
        """A jar with the same cookies: another tab's view, or a thief's."""
        other = CookieJar(self._clock)
        other._cookies = dict(self._cookies)
        return other

    def header(self, url: str) -> str:
        """The `Cookie` header of a request to *url*; "" without any (§5.8.3)."""
        address = urlsplit(url)
        chosen = sorted((each for each in self if each.goes_to(address)), key=lambda each: -len(each.path))
        return "; ".join(f"{each.name}={each.value}" if each.name else each.value for each in chosen)

    def receive(self, line: str, url: str) -> bool:
        """Take one Set-Cookie line of a response from *url*; whether a browser keeps it (§5.6, §5.7)."""
        address = urlsplit(url)
        try:
            cookie = self._parse(line, address)
            self._check(cookie, address, line)
        except _RefusedError as refusal:
            self.refused.append(f"{line.partition('=')[0]!r} from {url}: {refusal}")
            return False

        self.put(cookie)
        return True

    def _parse(self, line: str, url: SplitResult) -> Cookie:
        if _CONTROLS.search(line):
            raise _RefusedError("a control character")
        pair, _, rest = line.partition(";")
        name, equals, value = pair.partition("=")
        if not equals:
            name, value = "", name
        name, value = name.strip(" \t"), value.strip(" \t")
        if not name and not value:
            raise _RefusedError("neither name nor value")
        if len(name.encode()) + len(value.encode()) > 4096:
            raise _RefusedError("name and value over 4096 bytes")

        said: dict[str, str] = {}
        for attribute in rest.split(";"):
            key, _, text = attribute.partition("=")
            if len(text.strip(" \t").encode()) <= 1024:
                said[key.strip(" \t").lower()] = text.strip(" \t")
        host = url.hostname or ""
        domain = said.get("domain", "").lower().removeprefix(".")
        path = said.get("path", "")
        return Cookie(
            name=name,
            value=value,
            domain=domain or host,
            host_only=not domain or ("." not in domain and domain == host),
            path=path if path.startswith("/") else _default_path(url.path),
            secure="secure" in said,
            http_only="httponly" in said,
            same_site=said.get("samesite", "").lower(),
            partitioned="partitioned" in said,
            expires_at=self._expiry(said),
        )

    def _expiry(self, said: dict[str, str]) -> float | None:
        now = self._clock()
        if re.fullmatch(r"-?[0-9]+", said.get("max-age", ""), re.ASCII):
            return now + min(float(said["max-age"]), _LONGEST)
        try:
            moment = parsedate_to_datetime(said.get("expires", ""))
        except ValueError:
            return None
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return min(moment.timestamp(), now + _LONGEST)

    def _check(self, cookie: Cookie, url: SplitResult, line: str) -> None:
        host = url.hostname or ""
        if not cookie.host_only and "." not in cookie.domain:
            raise _RefusedError(f"Domain={cookie.domain} is a public suffix")
        if not _is_within(host, cookie.domain):
            raise _RefusedError(f"{host} is not within Domain={cookie.domain}")
        if cookie.secure and not _is_trustworthy(url):
            raise _RefusedError("Secure over plain http: use https:// as base URL")
        if cookie.same_site == "none" and not cookie.secure:
            raise _RefusedError("SameSite=None without Secure")
        if cookie.partitioned and not cookie.secure:
            raise _RefusedError("Partitioned without Secure")
        if not cookie.secure and not _is_trustworthy(url) and self._shadows(cookie):
            raise _RefusedError("plain http may not overlay a Secure cookie")

        attributes = [part.partition("=")[0].strip(" \t").lower() for part in line.split(";")[1:]]
        prefix = (cookie.name or cookie.value).lower()
        if not cookie.name and prefix.startswith(("__secure-", "__host-")):
            raise _RefusedError("a cookie without name whose value begins like a prefix")
        if prefix.startswith("__secure-") and not cookie.secure:
            raise _RefusedError("__Secure- without Secure")
        if prefix.startswith("__host-") and not (
            cookie.secure and cookie.path == "/" and "path" in attributes and "domain" not in attributes
        ):
            raise _RefusedError("__Host- needs Secure, Path=/ and no Domain")

    def _shadows(self, new: Cookie) -> bool:
        return any(
            old.secure
            and old.name == new.name
            and (_is_within(old.domain, new.domain) or _is_within(new.domain, old.domain))
            and _is_below(new.path, old.path)
            for old in self
        )


class _RefusedError(Exception):
    """A browser would not keep this cookie."""


def _is_within(host: str, domain: str) -> bool:
    """§5.1.3: equal, or a subdomain; addresses have none."""
    return host == domain or (host.endswith(f".{domain}") and not _is_address(host))


def _is_below(path: str, parent: str) -> bool:
    """§5.1.4."""
    return path == parent or (path.startswith(parent) and (parent.endswith("/") or path[len(parent)] == "/"))


def _default_path(path: str) -> str:
    """§5.1.4: up to the last slash, without it."""
    return path.rpartition("/")[0] or "/"


def _is_trustworthy(url: SplitResult) -> bool:
    """Browsers trust loopback like https (W3C Secure Contexts §3.1)."""
    host = url.hostname or ""
    if url.scheme in _SECURE_SCHEMES or host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
