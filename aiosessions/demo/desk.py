"""What every shop does alike: two typed sessions, and what happens at the desk. No framework in here."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import scrypt
from hmac import compare_digest

import anyio

from aiosessions import (
    AESGCMSealer,
    CookieOverseer,
    CookieTransport,
    Session,
    SessionInfo,
    StorageOverseer,
    Storer,
    UnsupportedError,
    new_key,
)
from aiosessions.asgi import Connection
from aiosessions.demo.cart import Cart, Preferences, put
from aiosessions.demo.narrated import narrated
from aiosessions.demo.narrator import Narrator, Notes, note_event
from aiosessions.demo.page import render

__all__ = ["Desk", "is_forged", "is_password"]

_SALT = b"aiosessions demo"
_PASSWORDS = {"ann": "tea", "bob": "milk"}  # a demonstration: a real shop has hashes, each with a salt of its own


class Desk:
    """The stores of a shop, and what its framework need not know.

    Args:
        storer: keeps the carts.
        keys: seal the preferences; "": new ones, which end with the process.
        transport: None: cookies as a browser wants them over https.
        tell: gets the notes of each request.
    """

    def __init__(
        self,
        storer: Storer,
        *,
        keys: str = "",
        transport: CookieTransport | None = None,
        tell: Callable[[Notes], None] = lambda _: None,
    ) -> None:
        self.narrator: Narrator = Narrator(tell)
        self.carts: StorageOverseer[Cart] = StorageOverseer(
            Cart, narrated(storer), name="shop", transport=transport, on_event=note_event
        )  # what is worth something stays on the server
        sealer = AESGCMSealer(keys or os.environ.get("SESSION_KEYS") or new_key())
        self.prefs: CookieOverseer[Preferences] = CookieOverseer(
            Preferences, sealer, name="prefs", transport=transport, on_event=note_event
        )
        self._storer = type(storer).__name__
        self._copies: OrderedDict[str, str] = OrderedDict()  # what a thief has: by handle, the cookie before the login

    async def page(self, session: Session[Cart], preferences: Preferences) -> str:
        """The page, as this session sees it."""
        devices = await self._devices(session)
        return render(session, preferences, devices, list(self.narrator.recent), self._storer)

    async def _devices(self, session: Session[Cart]) -> Sequence[SessionInfo] | None:
        """Where the user is logged in; None: this storer has no list of that."""
        if session.user_id is None:
            return []

        try:
            return await self.carts.user_sessions(session.user_id)
        except UnsupportedError:
            return None

    def copy(self, session: Session[Cart], cookie: str) -> None:
        """A thief copies the cookie: call it before `set_user`.

        Args:
            session: of the request.
            cookie: its header `Cookie`.
        """
        if session.is_new:
            return

        self._copies[session.handle] = cookie
        if len(self._copies) > 256:
            self._copies.popitem(last=False)

    async def serve(self, action: str, session: Session[Cart], form: Mapping[str, str], cookie: str) -> None:
        """What a POST to `/desk/ACTION` asks for.

        Args:
            action: `end`, `end-others`, `race` or `steal`.
            session: the visitor's.
            form: what was sent, and found not to be forged.
            cookie: the request's header `Cookie`.

        Raises:
            NotAuthenticatedError: it is for users only.
        """
        match action:
            case "end":
                await self._end(session, form.get("handle", ""))
            case "end-others":
                await self._end_others(session)
            case "race" | "steal" if session.is_new:
                session.flash("Put something into your cart first: there is no session yet.", "error")
            case "race":
                await self._race(session, cookie)
            case "steal":
                await self._steal(session, cookie)
            case _:
                session.flash("That did not work.", "error")

    async def _end(self, session: Session[Cart], handle: str) -> None:
        """Log out one of the user's devices."""
        is_ended = await self.carts.delete(handle, user_id=session.require_user())
        session.flash("That device is logged out." if is_ended else "That device was logged out already.")

    async def _end_others(self, session: Session[Cart]) -> None:
        """Log out all devices of the user but this one."""
        try:
            count = await self.carts.delete_user_sessions(session.require_user(), keep=session)
        except UnsupportedError:
            session.flash(f"{self._storer} lists no devices, so the others are not known.", "error")
        else:
            session.flash(f"Logged out {count} others.")

    async def _race(self, session: Session[Cart], cookie: str) -> None:
        """Two requests with this cookie add to the cart at once: neither writes before both have read."""
        one, other = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._add, cookie, "tea", "one of two at once", one, other)
            tasks.start_soon(self._add, cookie, "cake", "the other at once", other, one)
        session.flash("Two requests had read the same cart. One added tea, one added cake: both are in it.")

    async def _add(self, cookie: str, product: str, who: str, mine: anyio.Event, other: anyio.Event) -> None:
        with self.narrator.listening("POST", "/cart", who) as notes:
            session = await self.carts.get(_request(cookie))
            mine.set()
            await other.wait()
            if not session.is_new:  # it may have ended meanwhile
                put(session.value, product)
                await self.carts.save(session)
        self.narrator.tell(notes)

    async def _steal(self, session: Session[Cart], cookie: str) -> None:
        """The thief presents the token that the login has rotated away.

        Where there was none, the session gets another token now, as a login would give it, and the thief has the old.
        """
        stolen = self._copies.get(session.handle)
        if stolen is None:
            session.regenerate()
            await self.carts.save(session)
            stolen = cookie
        with self.narrator.listening("GET", "/", "a thief") as notes:
            seen = await self.carts.get(_request(stolen))
        self.narrator.tell(notes)
        if seen.is_new:
            session.flash("A thief came with your old cookie and saw a stranger's page: no cart, no name.")
        else:
            session.flash("The thief is in. This must not happen.", "error")


def is_password(user: str, password: str) -> bool:
    """Whether this is the user's password; takes as long for a user that is not there."""
    given, right = (
        scrypt(text.encode(errors="replace"), salt=_SALT, n=1024, r=8, p=1)
        for text in (password, _PASSWORDS.get(user, ""))
    )
    return compare_digest(given, right) and user in _PASSWORDS


def is_forged(session: Session[Cart], token: str, fetch_site: str | None) -> bool:
    """Whether a form came from elsewhere.

    With a user the token tells. Without one the browser does (`Sec-Fetch-Site`): SameSite=Lax keeps the cookie away
    from another site's form, and the answer, a session for somebody new, would take the place of that cookie.
    """
    if fetch_site not in (None, "same-origin", "none"):
        return True

    return session.is_authenticated and not session.check_csrf(token)


def _request(cookie: str) -> Connection:
    """A request of its own, with this cookie and nothing else."""
    return Connection(
        {"type": "http", "scheme": "https", "headers": [(b"cookie", cookie.encode("latin-1", "replace"))]}
    )
