"""The one page that every shop shows. What comes from elsewhere is escaped; no script, and nothing is fetched."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from aiosessions import Session, SessionInfo
from aiosessions.demo.cart import PRODUCTS, THEMES, Cart, Preferences
from aiosessions.demo.narrator import Notes

__all__ = ["render"]


def _read(name: str) -> str:
    return files("aiosessions.demo").joinpath(name).read_text(encoding="utf-8")


_STYLE = _read("shop.css")
_TEMPLATE = Template(_read("shop.html"))
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()  # the one style that the page's own policy allows


def render(
    session: Session[Cart],
    preferences: Preferences,
    devices: Sequence[SessionInfo] | None,
    recent: Iterable[Notes],
    storer: str,
) -> str:
    """The page.

    Args:
        session: the visitor's.
        preferences: likewise.
        devices: where the user is logged in; None: the storer cannot tell.
        recent: the requests before this one, the newest first.
        storer: what keeps the sessions.
    """
    csrf = f'<input type="hidden" name="csrf" value="{session.csrf_token()}">' if session.is_authenticated else ""
    bought = [(name, price, session.value.items.get(name, 0)) for name, price in PRODUCTS.items()]
    cents = sum(price * count for _, price, count in bought)
    return _TEMPLATE.substitute(
        style=_STYLE,
        style_hash=_STYLE_HASH,
        theme=escape(preferences.theme),
        themes="".join(_theme(name, csrf, is_chosen=name == preferences.theme) for name in THEMES),
        flashes="".join(f'<p class="flash {escape(f.category)}">{escape(f.message)}</p>' for f in session.flashes()),
        shelf="".join(_product(name, price, csrf) for name, price in PRODUCTS.items()),
        cart="".join(_row(f"{count} x {name}", price * count) for name, price, count in bought if count),
        total=f"<span>together</span><span>{cents / 100:.2f}</span>" if cents else "empty",
        you=_LOGIN if session.user_id is None else _logged_in(session, session.user_id, devices, csrf, storer),
        race=_button("/desk/race", "Two requests at once", csrf),
        steal=_button("/desk/steal", "Present the old cookie", csrf),
        told="".join(map(_told, recent)) or '<li class="quiet">Nothing yet: this is the first page.</li>',
        storer=escape(storer),
    )


_LOGIN = """<form method="post" action="/login" class="login">
<label>Name <input name="user" placeholder="ann" autocomplete="username" required></label>
<label>Password <input name="password" type="password" placeholder="tea" autocomplete="current-password"></label>
<label class="tick"><input name="remember" type="checkbox"> remember me</label>
<button class="main">log in</button></form>
<p class="quiet">ann has the password tea, bob has milk. Log in with another browser too.</p>"""


def _logged_in(
    session: Session[Cart], user_id: str, devices: Sequence[SessionInfo] | None, csrf: str, storer: str
) -> str:
    logout = _button("/logout", "Log out", csrf)
    hello = f'<div class="line"><p>Hello, {escape(user_id)}.</p>{logout}</div>'
    if devices is None:
        return (
            f"{hello}<h3>Your devices</h3>"
            f'<p class="quiet">{escape(storer)} lists no devices: it keeps no index of who has which session.</p>'
        )

    rows = "".join(_device(device, csrf, is_this=device.handle == session.handle) for device in devices)
    others = _button("/desk/end-others", "End all others", csrf) if len(devices) > 1 else ""
    return f'{hello}<div class="line"><h3>Your devices</h3>{others}</div><ul id="devices" class="rows">{rows}</ul>'


def _device(device: SessionInfo, csrf: str, *, is_this: bool) -> str:
    mark = ' <span class="chip on">this one</span>' if is_this else ""
    left = "" if device.expires_at is None else f", {_duration(device.expires_at - datetime.now(UTC))} left"
    end = "" if is_this else _button("/desk/end", "End", csrf, handle=device.handle)
    return (
        f"<li><span>{escape(device.label or 'A browser')}{mark}<br>"
        f'<small class="quiet">since {device.created_at:%H:%M} UTC{left}</small></span>{end}</li>'
    )


def _duration(left: timedelta) -> str:
    """To the minute, or in days: as much as anybody wants to know."""
    minutes = max(0, int(left.total_seconds() // 60))
    if minutes >= 2 * 24 * 60:
        return f"{minutes // (24 * 60)} days"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _product(name: str, price: int, csrf: str) -> str:
    icon = f'<svg aria-hidden="true"><use href="#{name}"></use></svg>'
    add = _button("/cart", "Add", csrf, f' aria-label="Add {name}"', product=name)
    return f"<li>{icon}<b>{name}</b><span>{price / 100:.2f}</span>{add}</li>"


def _row(text: str, cents: int) -> str:
    return f"<li><span>{text}</span><span>{cents / 100:.2f}</span></li>"


def _theme(name: str, csrf: str, *, is_chosen: bool) -> str:
    return _button("/theme", name, csrf, f' aria-pressed="{str(is_chosen).lower()}"', theme=name)


def _button(action: str, text: str, csrf: str, attributes: str = "", **values: str) -> str:
    inputs = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in values.items())
    button = f"<button{attributes}>{escape(text)}</button>"
    return f'<form method="post" action="{action}">{csrf}{inputs}{button}</form>'


def _told(notes: Notes) -> str:
    """One request of the panel."""
    who = f" <em>{escape(notes.who)}</em>" if notes.who else ""
    status = f' <span class="quiet">{notes.status}</span>' if notes.status else ""
    sent = ", ".join(notes.cookies) or "nothing"
    chips = "".join(
        f'<span class="chip{" on" * bool(is_on)}">{escape(text)}</span>'
        for text, is_on in (
            (f"read {notes.reads}", notes.reads),
            (f"wrote {notes.writes}", notes.writes),
            (f"sent {sent}", notes.cookies),
        )
    )
    return (
        f"<li><p><code>{escape(notes.method[:8])} {escape(notes.path[:40])}</code>{status}{who}</p>"
        f"<p>{chips}</p><p>{escape(' '.join(notes.why()))}</p></li>"
    )
