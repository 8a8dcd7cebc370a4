"""What can be tried of a store without its backend: what its transport sends, what its sealer and codec let through."""

import pickle
import time
from functools import cached_property
from typing import Any, NamedTuple

from aiosessions._errors import SessionError, UnsupportedError
from aiosessions._request import ASGIRequest, RawHeaders
from aiosessions._tokens import new_token
from aiosessions.overseers.overseer import Overseer
from aiosessions.sealers.sealer import Claims, Sealer
from aiosessions.values.codecs import CheckedCodec

__all__ = ["Cookie", "Sent", "codec_runs_pickles", "sealer_faults", "sent"]

_LIVES = 600.0  # seconds
_ran: list[bool] = []


class Cookie(NamedTuple):
    """One Set-Cookie line.

    Args:
        name: as it travels.
        size: of name and value, in bytes.
        attributes: by their names, in lower case.
        shown: the line without the value.
    """

    name: str
    size: int
    attributes: dict[str, str]
    shown: str


class Sent:
    """What a response says that carries a token.

    Args:
        headers: its headers.
    """

    def __init__(self, headers: RawHeaders) -> None:
        self._headers = headers

    @cached_property
    def cookies(self) -> list[Cookie]:
        """Those that are set, and not those that are removed."""
        cookies = [_parsed(line) for line in self._headers.header("Set-Cookie")]
        return [cookie for cookie in cookies if cookie.attributes.get("max-age") != "0"]

    @property
    def cache_control(self) -> str:
        """The header, or nothing."""
        return ", ".join(self._headers.header("Cache-Control"))


def sent(store: Overseer[Any]) -> Sent:  # Any: a store of any type
    """Let the store's transport send a token that opens nothing."""
    headers = RawHeaders([])
    transport = store._transport
    carried = transport.read(ASGIRequest({"scheme": "https", "headers": []}), store.name)
    transport.write(headers, store.name, new_token().text(), carried, int(_LIVES))
    return Sent(headers)


def _parsed(line: str) -> Cookie:
    pair, *rest = (part.strip() for part in line.split(";"))
    name, _, value = pair.partition("=")
    named = [part.partition("=") for part in rest]
    shown = "; ".join([f"{name}=...", *(part for part in rest if not part.lower().startswith("max-age"))])
    return Cookie(name, len(name) + len(value), {key.lower(): text for key, _, text in named}, shown)


def sealer_faults(sealer: Sealer) -> list[str]:
    """What a sealer lets through that it should not; nothing of one that cannot write."""
    now = time.time()
    claims = Claims(
        b'{"probe":1}',
        is_reference=False,
        session_id="a" * 24,
        issued_at=now,
        expires_at=now + _LIVES,
        user_id="ann",
        meta=b"probe",
    )
    try:
        token, second = (sealer.seal(claims, name="audit") for _ in range(2))
    except UnsupportedError:
        return []

    faults = {
        "it opens a token that was changed": _changed(sealer, token, now),
        "it opens another session's token": sealer.open(token, name="other", now=now) is not None,
        "it opens a token that has expired": sealer.open(token, name="audit", now=now + 2 * _LIVES) is not None,
        "equal claims make equal tokens": token == second,
    }
    return [fault for fault, is_so in faults.items() if is_so]


def _changed(sealer: Sealer, token: str, now: float) -> bool:
    """Whether one of a hundred changed tokens opens."""
    places = range(0, len(token), max(1, len(token) // 100))
    for place in places:
        other = "A" if token[place] != "A" else "B"
        if sealer.open(token[:place] + other + token[place + 1 :], name="audit", now=now) is not None:
            return True
    return False


def codec_runs_pickles(codec: CheckedCodec[Any]) -> bool:  # Any: of any type
    """Whether it runs what a client would have it run."""
    _ran.clear()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            codec.decode(pickle.dumps(_Pickled(), protocol))
        except SessionError:
            continue
    return bool(_ran)


class _Pickled:
    """Tells who unpickles it to call `_run`, and no more than that."""

    def __reduce__(self) -> tuple[Any, ...]:  # Any: what pickle wants
        return _run, ()


def _run() -> None:
    _ran.append(True)
