"""What standards ask of session management, and how one store, as it is made, answers: for `aiosessions audit`."""

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from aiosessions._lifetime import Lifetime
from aiosessions.cli.trials import Cookie, codec_runs_pickles, sealer_faults, sent
from aiosessions.overseers.cookie import CookieOverseer
from aiosessions.overseers.overseer import Overseer
from aiosessions.overseers.storage import StorageOverseer
from aiosessions.sealers.aesgcm import AESGCMSealer
from aiosessions.sealers.hmac import HMACSealer
from aiosessions.sealers.jwt import JWTSealer
from aiosessions.storers.storer import UserIndexed
from aiosessions.transports.cookies import CookieOptions, CookieTransport
from aiosessions.transports.headers import HeaderTransport
from aiosessions.values.codecs import CheckedCodec

__all__ = ["Row", "Verdict", "rows_for"]

Verdict = Literal["enforced", "assisted", "weakened", "not applicable"]
_Answer = tuple[Verdict, str]

_LONG_GRACE = timedelta(minutes=5)  # OWASP: "a short safety interval"
_LONG_LEEWAY = 300.0  # seconds, of two clocks that NTP keeps
_COOKIE_BYTES = 4096


class Row(NamedTuple):
    """One requirement.

    Args:
        source: the standard, and the requirement's id there.
        requirement: in short.
        verdict: enforced: whatever the application does. assisted: the application has to call something. weakened: by
            an option of this store, which *how* names. not applicable: this store has nothing that it is about.
        how: in words.
    """

    source: str
    requirement: str
    verdict: Verdict
    how: str


def rows_for(store: Overseer[Any]) -> Iterator[Row]:  # Any: a store of any type
    """The rows for one store; its backend is not asked."""
    held = store if isinstance(store, CookieOverseer) else None
    stored = store if isinstance(store, StorageOverseer) else None
    yield from _tokens(store, held)
    yield from _times(store.lifetime)
    yield from _ends(stored, held)
    yield from _requests(store)
    yield from _cookies(store)
    yield from _data(store, held)
    yield from _seals(store)
    yield from _watch(store.lifetime, held)


def _row(source: str, requirement: str, how: str, *, weak: Sequence[str] = (), verdict: Verdict = "enforced") -> Row:
    """The row; what *weak* names counts more."""
    return Row(source, requirement, "weakened" if weak else verdict, "; ".join(weak) or how)


def _forgets(held: CookieOverseer[Any] | None) -> list[str]:  # Any: of any type
    """Why a copy of a token outlives its session."""
    if held is None:
        return []
    if held._revocations is None:
        return ["revocations=None: a copy of an old token stays valid until it expires"]
    lag = held._revocations._max_lag
    return [f"max_lag={timedelta(seconds=lag)}: so long a copy may outlive a logout"] if lag else []


def _tokens(store: Overseer[Any], held: CookieOverseer[Any] | None) -> Iterator[Row]:  # Any: of any type
    sealer = store._sealed._sealer
    faults = [] if sealer is None else sealer_faults(sealer)
    proved = "" if sealer is None else ": tried with a token that was changed, is another session's, has expired"
    yield _row(
        "ASVS 5 7.2.1",
        "verify tokens in the back end",
        f"only there{proved}",
        weak=[f"sealer={type(sealer).__name__}: {fault}" for fault in faults],
    )
    yield _row(
        "ASVS 5 7.2.2, 7.2.3; 11.5.1",
        "dynamic reference tokens, CSPRNG, at least 128 bits",
        "48 random bytes" if held is None else "the token is the session itself",
        verdict="enforced" if held is None else "not applicable",
    )
    yield _row(
        "ASVS 5 7.2.4",
        "a new token on (re-)authentication, and the old one ends",
        "session.set_user() does both",
        weak=_forgets(held),
        verdict="assisted",
    )


def _times(lifetime: Lifetime) -> Iterator[Row]:
    said = f"idle {_words(lifetime.idle)}, absolute {_words(lifetime.absolute)}"
    yield _row(
        "ASVS 5 7.3.1, 7.3.2; NIST 800-63B-4 §5.2",
        "idle and absolute timeout, on the server",
        said,
        weak=[f"lifetime: {name}=None" for name in ("idle", "absolute") if getattr(lifetime, name) is None],
    )
    yield _row(
        "ASVS 5 7.1.1, 7.1.2",
        "documented timeouts and parallel sessions",
        f"write down: {said}; any number of sessions of one user at once",
        verdict="assisted",
    )
    level = next((name for name, preset in _LEVELS.items() if _is_within(lifetime, preset)), None)
    yield _row(
        "NIST 800-63B-4 AAL2/AAL3",
        "at most 24 h/1 h; 12 h/15 min",
        f"{level}: {said}" if level else "Lifetime.nist_aal2() or nist_aal3(), of the store or at set_user(lifetime=)",
        verdict="enforced" if level else "assisted",
    )


def _words(duration: timedelta | None) -> str:
    return str(duration).removesuffix(", 0:00:00")


_LEVELS = {"AAL3": Lifetime.nist_aal3(), "AAL2": Lifetime.nist_aal2()}


def _is_within(lifetime: Lifetime, preset: Lifetime) -> bool:
    pairs = ((lifetime.idle, preset.idle), (lifetime.absolute, preset.absolute))
    return all(own is not None and most is not None and own <= most for own, most in pairs)


def _ends(stored: StorageOverseer[Any] | None, held: CookieOverseer[Any] | None) -> Iterator[Row]:  # Any: of any type
    forgets = _forgets(held)
    yield _row(
        "ASVS 5 7.4.1",
        "a terminated session is dead",
        "the record is deleted" if held is None else "revocations= remembers it",
        weak=forgets,
    )
    unlisted = [] if stored is None else _unlisted(stored)
    all_of_them = ("ASVS 5 7.4.2, 7.4.5", "end all sessions of a user", "delete_user_sessions(user_id)")
    the_others = ("ASVS 5 7.4.3", "end all other sessions after a factor change", "delete_user_sessions(keep=)")
    for source, requirement, how in (all_of_them, the_others):
        yield _row(source, requirement, how, weak=forgets or unlisted, verdict="assisted")
    if held is not None:
        unlisted = ["CookieOverseer: what clients hold cannot be listed"]
    yield _row(
        "ASVS 5 7.5.2",
        "users see and end their sessions",
        "user_sessions(user_id), delete(handle, user_id=)",
        weak=unlisted,
        verdict="assisted",
    )
    yield _row(
        "ASVS 5 7.5.1, 7.5.3",
        "re-authenticate before sensitive operations",
        "session.require_fresh(within)",
        verdict="assisted",
    )
    clears = "store.destroy(session, clear_site_data=)"
    yield _row("ASVS 5 14.3.1", "clear client data on logout", clears, verdict="assisted")


def _unlisted(stored: StorageOverseer[Any]) -> list[str]:  # Any: of any type
    storer = stored._backend.storer
    return [] if isinstance(storer, UserIndexed) else [f"storer={type(storer).__name__}: it has no user index"]


def _requests(store: Overseer[Any]) -> Iterator[Row]:  # Any: of any type
    by_itself = bool(sent(store).cookies)  # a browser sends it along
    for source, requirement, how in (
        (
            "ASVS 5 3.5.1-3.5.3; NIST §5.1",
            "requests that change state are checked against CSRF",
            "session.csrf_token(), check_csrf(); origins= of the adapters",
        ),
        ("ASVS 5 4.4.2-4.4.4", "WebSocket handshakes check Origin", "origins= of the adapters"),
    ):
        if by_itself:
            yield _row(source, requirement, how, verdict="assisted")
        else:
            yield _row(source, requirement, "no browser sends this header by itself", verdict="not applicable")


def _cookies(store: Overseer[Any]) -> Iterator[Row]:  # Any: of any type
    probe, options = sent(store), None
    if isinstance(store._transport, CookieTransport):
        options = store._transport.options
    first = probe.cookies[0] if probe.cookies else None
    largest = max((each.size for each in probe.cookies), default=0)
    as_sent = "" if first is None else f"sent: {first.shown}"
    custom = f"transport={type(store._transport).__name__}"
    for source, requirement, weak in (
        (
            "ASVS 5 3.3.1, 3.3.3; RFC 6265bis §4.1.3",
            "Secure, `__Host-`/`__Secure-`",
            [] if first is None else _unprotected(first, options, custom),
        ),
        ("ASVS 5 3.3.2", "SameSite always stated", [] if first is None else _crosses_sites(first, options, custom)),
        (
            "ASVS 5 3.3.4",
            "HttpOnly",
            [] if first is None or "httponly" in first.attributes else ["http_only=False" if options else custom],
        ),
        ("ASVS 5 3.3.5; 6265bis §5.6", "name and value at most 4096 bytes", [custom] * (largest > _COOKIE_BYTES)),
        ("6265bis §5.5", "at most 400 days", []),
        ("6265bis §4.1.1", "one Set-Cookie per name and response; grammar", []),
    ):
        if first is None:
            yield _row(source, requirement, "the token travels in no cookie", verdict="not applicable")
        else:
            yield _row(source, requirement, as_sent, weak=weak)

    older = [] if store._importing is None else store._importing.unprotected()
    if older:
        yield _row("ASVS 5 3.3.3", "what is imported comes under protected names", "imports=", weak=older)
    is_partitioned = first is not None and "partitioned" in first.attributes
    yield _row(
        "CHIPS",
        "Partitioned needs Secure",
        as_sent if is_partitioned else "no cookie is Partitioned",
        verdict="enforced" if is_partitioned else "not applicable",
    )
    yield _row(
        "ASVS 5 14.3.2; OWASP sheet: web content caching",
        "no-store on responses with tokens",
        f"sent: Cache-Control: {probe.cache_control}",
        weak=[] if "no-store" in probe.cache_control else [custom],
    )
    is_ours = isinstance(store._transport, CookieTransport | HeaderTransport)
    yield _row(
        "ASVS 5 14.2.1",
        "no token in URLs",
        "cookies and headers only" if is_ours else f"{custom} is the application's",
        verdict="enforced" if is_ours else "assisted",
    )


def _unprotected(cookie: Cookie, options: CookieOptions | None, custom: str) -> list[str]:
    """What keeps `Secure` and `__Host-` away."""
    if cookie.name.startswith("__Host-") and "secure" in cookie.attributes:
        return []
    if options is None:
        return [f"{custom} sends {cookie.shown}"]
    weak: list[str] = []
    if not options.secure:
        debug = " (AIOSESSIONS_DEBUG=1 makes it the default)" if os.environ.get("AIOSESSIONS_DEBUG") == "1" else ""
        weak.append(f"secure=False{debug}")
    if not options.prefix:
        weak.append("prefix=False")
    if options.domain is not None:
        weak.append(f"domain={options.domain!r}: its subdomains can set it")
    if options.path != "/":
        weak.append(f"path={options.path!r}: other paths can set it")
    return weak


def _crosses_sites(cookie: Cookie, options: CookieOptions | None, custom: str) -> list[str]:
    if cookie.attributes.get("samesite", "").lower() in ("lax", "strict"):
        return []
    return ["same_site='none': every site's requests carry it" if options else f"{custom} sends {cookie.shown}"]


def _data(store: Overseer[Any], held: CookieOverseer[Any] | None) -> Iterator[Row]:  # Any: of any type
    codec = store._codec
    is_foreign = type(codec) is CheckedCodec
    yield _row(
        "ASVS 5 1.5.2",
        "safe deserialisation",
        "the application's codec has to check; it did not run what a pickle told it to"
        if is_foreign
        else f"{type(codec).__name__}: checked, and no pickle runs",
        weak=["codec= runs what a pickle tells it to"] if codec_runs_pickles(codec) else (),
        verdict="assisted" if is_foreign else "enforced",
    )
    is_kept = held is None or held._revocations is not None
    yield _row(
        "ASVS 5 1.3.9",
        "nothing a client chose goes raw to a backend key",
        "shape check, digests" if is_kept else "no backend",
        verdict="enforced" if is_kept else "not applicable",
    )
    yield _row(
        "ASVS 5 6.5.2",
        "digests at rest",
        "SHA-256 of the secret" if held is None else "no secret is kept",
        verdict="enforced" if held is None else "not applicable",
    )


def _seals(store: Overseer[Any]) -> Iterator[Row]:  # Any: of any type
    sealer = store._sealed._sealer
    jwt = sealer if isinstance(sealer, JWTSealer) else None
    yield _row(
        "ASVS 5 9.1.1-9.2.4; RFC 8725 §3",
        "pinned algorithms, typ, aud, iss, exp, nbf; trusted keys only",
        "the sealer's algorithm and keys, and no others" if jwt else "no JWT",
        weak=[] if jwt is None else _lenient(jwt),
        verdict="enforced" if jwt else "not applicable",
    )
    agile: _Answer = "enforced", "format version, key id, key ring"
    aead: _Answer = "not applicable", "nothing is encrypted"
    if sealer is None:
        agile = "not applicable", "no key"
    elif not isinstance(sealer, AESGCMSealer | HMACSealer | JWTSealer):
        agile = aead = "assisted", f"{type(sealer).__name__} is the application's"
    elif isinstance(sealer, AESGCMSealer) or (jwt is not None and jwt._encrypt):
        aead = "enforced", "AES-256-GCM; tried: two tokens of equal claims differ"
    yield _row("ASVS 5 11.2.2", "crypto agility", agile[1], verdict=agile[0])
    yield _row("ASVS 5 11.3.3, 11.3.4", "AEAD, nonces never repeat", aead[1], verdict=aead[0])


def _lenient(jwt: JWTSealer) -> list[str]:
    others = sorted(jwt._types - {"aiosessions+jwt"})
    weak = [f"accept_typ={others}: tokens that were made for something else pass"] if others else []
    if jwt._leeway > _LONG_LEEWAY:
        weak.append(f"leeway={timedelta(seconds=jwt._leeway)}: so long other issuers' tokens outlive their exp")
    return weak


def _watch(lifetime: Lifetime, held: CookieOverseer[Any] | None) -> Iterator[Row]:  # Any: of any type
    yield _row("ASVS 5 16.2.5", "tokens never in logs", "masked reprs, handles")
    yield _row("OWASP sheet: strict session management", "unknown ids are never adopted", "a new session")
    long = [f"lifetime: grace={lifetime.grace}"] if lifetime.rotate and lifetime.grace > _LONG_GRACE else []
    how = f"rotate={_words(lifetime.rotate)}" if lifetime.rotate else "Lifetime(rotate=), or session.regenerate()"
    yield _row(
        "OWASP sheet: renewal timeout",
        "change the id during a session, with a short safety interval",
        how if held is None else "session.regenerate(); each write seals anew",
        weak=_forgets(held) or long,
        verdict="enforced" if lifetime.rotate else "assisted",
    )
    yield _row(
        "OWASP sheet: session life-cycle logging",
        "log create, renew, destroy, expiry, with a digest of the id",
        "the log `aiosessions`, and on_event=; they carry the handle",
    )
    yield _row("OWASP sheet: brute force detection", "notice many unknown ids", "`rejected` events", verdict="assisted")
