"""What every shop shows and keeps: two typed sessions, and one plain page. No framework in here."""

import os
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import scrypt
from hmac import compare_digest
from html import escape
from importlib.resources import files
from string import Template

from aiosessions import AESGCMSealer, CookieOverseer, Session, SessionInfo, StorageOverseer, Storer, new_key

__all__ = ["PRODUCTS", "Cart", "Item", "Preferences", "is_forged", "is_password", "put", "render", "stores"]

PRODUCTS: Mapping[str, int] = {"tea": 350, "cake": 420, "honey": 690}
"""What there is, and its price in cents."""

_SALT = urlsafe_b64decode("YWlvc2Vzc2lvbnMgZGVtbw==")
_PASSWORDS = {"ann": "tea", "bob": "milk"}  # a demonstration: a real shop has hashes, each with a salt of its own
_TEMPLATE = Template(files("aiosessions.demo").joinpath("shop.html").read_text(encoding="utf-8"))


@dataclass
class Item:
    product: str
    quantity: int = 1


@dataclass
class Cart:
    """What the session "shop" keeps on the server."""

    items: list[Item] = field(default_factory=list[Item])


@dataclass
class Preferences:
    """What the session "prefs" keeps in an encrypted cookie."""

    theme: str = "light"


def stores(storer: Storer) -> tuple[StorageOverseer[Cart], CookieOverseer[Preferences]]:
    """Two stores with two types: the cart in *storer*, the preferences with the client."""
    keys = os.environ.get("SESSION_KEYS") or new_key()
    return StorageOverseer(Cart, storer, name="shop"), CookieOverseer(Preferences, AESGCMSealer(keys), name="prefs")


def put(cart: Cart, product: str) -> bool:
    """Put one of a product into a cart; False if there is no such product."""
    if product not in PRODUCTS:
        return False

    for item in cart.items:
        if item.product == product:
            item.quantity += 1
            return True
    cart.items.append(Item(product))
    return True


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


def render(session: Session[Cart], preferences: Preferences, devices: Sequence[SessionInfo]) -> str:
    """The page."""
    csrf = f'<input type="hidden" name="csrf" value="{session.csrf_token()}">' if session.is_authenticated else ""
    cents = sum(PRODUCTS[item.product] * item.quantity for item in session.value.items)
    return _TEMPLATE.substitute(
        theme=escape(preferences.theme),
        other_theme="light" if preferences.theme == "dark" else "dark",
        flashes="".join(f'<p class="flash {escape(f.category)}">{escape(f.message)}</p>' for f in session.flashes()),
        shelf="".join(
            _button("/cart", f"{name}, {price / 100:.2f}", csrf, product=name) for name, price in PRODUCTS.items()
        ),
        cart="".join(f"<li>{item.quantity} x {escape(item.product)}</li>" for item in session.value.items),
        total=f"{cents / 100:.2f} together" if cents else "empty",
        you=_logged_in(session.user_id, devices, csrf) if session.user_id else _LOGIN,
        csrf=csrf,
    )


_LOGIN = """<form method="post" action="/login">
<input name="user" placeholder="ann or bob" required> <input name="password" type="password" placeholder="tea or milk">
<label><input name="remember" type="checkbox"> remember me</label> <button>log in</button></form>"""


def _logged_in(user_id: str, devices: Sequence[SessionInfo], csrf: str) -> str:
    rows = "".join(
        f"<li>{escape(device.label or 'a browser')}, since {device.created_at:%H:%M}</li>" for device in devices
    )
    return (
        f"<p>Hello, {escape(user_id)}. You are logged in on:</p><ul>{rows}</ul>"
        f"<ul>{_button('/logout', 'log out', csrf)}{_button('/logout-others', 'log out everywhere else', csrf)}</ul>"
    )


def _button(action: str, text: str, csrf: str, **values: str) -> str:
    inputs = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in values.items())
    return f'<li><form method="post" action="{action}">{csrf}{inputs}<button>{escape(text)}</button></form></li>'
