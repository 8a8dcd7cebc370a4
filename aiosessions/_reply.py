"""What the response of this request must carry."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from aiosessions._discreet import Discreet
from aiosessions._place import Place
from aiosessions._request import SECURE_SCHEMES
from aiosessions._views import ResponseView
from aiosessions.transports.cookies import warn_plain_http
from aiosessions.transports.transport import Carried

_SITE_DATA = frozenset(("cache", "clientHints", "cookies", "executionContexts", "storage", "*"))


class _Word(Discreet, frozen=True):
    """What the client must be told of one session: a new token, or without one that its own is dead."""

    shown: ClassVar[tuple[str, ...]] = ("max_age", "site_data")

    carried: Carried
    token: str | None = None
    max_age: int | None = None
    site_data: tuple[str, ...] = ()


def check_site_data(kinds: Sequence[str]) -> None:
    """Raise ValueError for a word that `Clear-Site-Data` does not know."""
    if not _SITE_DATA.issuperset(kinds):
        raise ValueError(f"clear_site_data={kinds!r}: give some of {sorted(_SITE_DATA)}")


class Reply(msgspec.Struct, eq=False):
    """What is to be said, by place: the last word counts. Sessions refer to it, it refers to none.

    Args:
        scheme: of the request: `http`, `https`, `ws` or `wss`.
        is_managed: a middleware saves and tells the client.
        is_leaving: what is saved now leaves with the headers at once: only so a timed cookie is sent again.
        is_started: the headers have left.
        is_touched: somebody looked at a session after that.
        words: what has to be carried, whatever the status.
        told: who has been told a token.
    """

    advice: ClassVar[str] = (
        "add SessionMiddleware (Quart: init_app, Litestar: SessionPlugin, aiohttp: setup), or "
        "`await store.save(session, response)`"
    )
    """What whoever forgot to save is told to do."""

    scheme: str = "https"
    is_managed: bool = False
    is_leaving: bool = False
    is_started: bool = False
    is_touched: bool = False
    words: dict[Place, _Word] = {}  # msgspec copies it
    told: tuple[Place, ...] = ()

    @property
    def is_awaited(self) -> bool:
        """Whether a middleware will save once more, as the headers leave."""
        return self.is_managed and not (self.is_leaving or self.is_started)

    def tell(self, place: Place, carried: Carried, token: str, max_age: int | None) -> None:
        """The client gets a token, for *max_age* seconds (None: as long as it likes)."""
        self.words[place] = _Word(carried, token, max_age)

    def clear(self, place: Place, carried: Carried, site_data: Sequence[str] = ()) -> None:
        """The client is to forget its token, if it has one, and what else *site_data* says."""
        self.words[place] = _Word(carried, site_data=tuple(site_data))

    def owes(self, place: Place) -> bool:
        """Whether the client still has to be told what became of its token."""
        word = self.words.get(place)
        return word is not None and (word.token is not None or word.carried.is_there or place in self.told)

    def write_on(self, response: ResponseView, place: Place | None = None) -> None:
        """Put on a response what is to be said: of one place, or (None) of all."""
        for each in list(self.words) if place is None else (place,):
            word = self.words.pop(each, None)
            if word is not None:
                self._write(response, each, word)

    def _write(self, response: ResponseView, place: Place, word: _Word) -> None:
        if word.token is not None:
            if place.needs_https and self.scheme not in SECURE_SCHEMES:
                place.needs_https = False  # said once
                warn_plain_http()
            place.transport.write(response, place.name, word.token, word.carried, word.max_age)
            self.told += (place,)
            return

        carried = word.carried
        if place in self.told and not carried.present:
            carried = msgspec.structs.replace(carried, present=True)
        if carried.is_there:
            place.transport.clear(response, place.name, carried)
        if word.site_data:
            response.replace("Clear-Site-Data", [", ".join(f'"{kind}"' for kind in word.site_data)])
