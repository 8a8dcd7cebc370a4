"""JWTs that other software writes: for which session they are, until when, and what may stand in them."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt as pyjwt
import pytest

from aiosessions import Claims, CookieOverseer, Event, HMACSealer, JWTSealer, Lifetime, Sealer, Session, new_key
from aiosessions.sealers.keys import Key
from aiosessions.testing.suites_store import Visitor
from tests.facts import facts

pytestmark = pytest.mark.anyio

KEY = Key(new_key())
NOW = int(time.time())  # PyJWT has no clock to inject
AUDIENCE = "https://shop.example"


@dataclass
class Cart:
    count: int = 0


def written(**members: Any) -> str:  # Any: JSON; ... leaves one out
    """A token by PyJWT."""
    claims = {"aud": "app", "iat": NOW, "exp": NOW + 600, "jti": "an-id", "sub": "ann", "session": {"count": 7}}
    claims = {name: member for name, member in {**claims, **members}.items() if member is not ...}
    return pyjwt.encode(claims, KEY.material(), algorithm="HS256", headers={"typ": "aiosessions+jwt"})


def sealer(**options: Any) -> JWTSealer:  # Any: a sealer's options
    return JWTSealer(KEY, **options)


async def opened(
    token: str,
    seals: Sealer,
    name: str = "app",
    *,
    clock: Callable[[], float] = lambda: NOW,
    on_event: Callable[[Event], None] | None = None,
) -> Session[Cart]:
    """The session of a request that brings *token*."""
    store = CookieOverseer(Cart, seals, name=name, clock=clock, on_event=on_event)
    async with Visitor({f"__Host-{name}": token}).visit() as visit:
        return await store.get(visit.request)


async def names(token: str, seals: Sealer) -> list[str]:
    """The sessions that *token* opens."""
    return [name for name in ("app", "admin", "cart") if not (await opened(token, seals, name)).is_new]


@pytest.mark.parametrize(
    ("audience", "options", "expected"),
    [
        ("app", {}, ["app"]),
        ("admin", {}, ["admin"]),
        (["admin"], {}, ["admin"]),
        (["app", "admin"], {}, ["app"]),
        (["app", "admin"], {"foreign_name": "admin"}, ["admin"]),
        (["cart", "admin"], {}, []),
        (AUDIENCE, {"audience": AUDIENCE}, ["app"]),
        ([AUDIENCE, "admin"], {"audience": AUDIENCE}, ["app"]),
        (AUDIENCE, {"audience": AUDIENCE, "foreign_name": "admin"}, ["admin"]),
        (AUDIENCE, {"audience": AUDIENCE, "foreign_name": "shop:app"}, []),
        ("admin", {"audience": "admin"}, ["app"]),
    ],
)
async def test_a_foreign_token_is_for_one_session(audience: Any, options: Any, expected: list[str]) -> None:
    """F11, F8: its only audience, where that is a session's name; else `foreign_name`."""
    assert await names(written(aud=audience), sealer(**options)) == expected


async def test_a_default_audience_is_nobody_s_chosen_one() -> None:
    """F11, F8: with one key, a session called `app` and an audience called `app` are two things."""
    claims = Claims(b'{"count":7}', False, "an-id", NOW, NOW + 600, "ann", b"")
    default, chosen = sealer(), sealer(audience="app")
    for ours, theirs in ((default, chosen), (chosen, default)):
        token = ours.seal(claims, name="app")
        assert await names(token, ours) == ["app"]
        assert await names(token, theirs) == []


@pytest.mark.parametrize("late", [-1, 0, 10, 29])
async def test_leeway_holds_up_to_the_session(late: int) -> None:
    """F11: a token whose `exp` has passed by less than the leeway opens its session, which ends with the leeway."""
    session = await opened(written(iat=NOW - 60, exp=NOW - late), sealer(leeway=timedelta(seconds=30)))

    assert (session.is_new, session.user_id, session.value.count) == (False, "ann", 7)
    assert session.expires_at is not None
    assert session.expires_at.timestamp() == NOW - late + 30


async def test_a_session_written_within_the_leeway_ends_with_it() -> None:
    """F11, X2: what we write in its place lasts as long as the token it came from, and no longer."""
    seals, visitor = sealer(), Visitor({"__Host-app": written(iat=NOW - 60, exp=NOW - 10)})

    async def count(now: float) -> int:
        store = CookieOverseer(Cart, seals, clock=lambda: now)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.value.count += 1
            await store.save(session, visit.response)
        return session.value.count

    assert [await count(NOW), await count(NOW + 19), await count(NOW + 20)] == [8, 9, 1]


@pytest.mark.parametrize(
    ("late", "options"),
    [(30, {}), (31, {}), (0, {"leeway": timedelta(0)}), (11, {"leeway": timedelta(seconds=10)})],
)
async def test_beyond_the_leeway_there_is_no_session(late: int, options: Any) -> None:
    """F11: at its end, and after it."""
    assert (await opened(written(iat=NOW - 60, exp=NOW - late), sealer(**options))).is_new


async def test_leeway_is_not_for_the_idle_time() -> None:
    """X1: a store's own deadlines hold exactly."""
    store = CookieOverseer(Cart, sealer(), lifetime=Lifetime(idle=timedelta(seconds=60)), clock=lambda: NOW)
    async with Visitor({"__Host-app": written(iat=NOW - 60, exp=NOW + 5)}).visit() as visit:
        assert (await store.get(visit.request)).is_new


HARMLESS: list[dict[str, Any]] = [  # Any: JSON
    {"jti": "6b2f9f0e-6d0c-4b63-9f3a-0f6d4c1f2f11"},
    {"jti": "urn:example:~1/2=="},
    {"jti": "a" * 255},
    {"sub": ...},
    {"sub": "é" * 127},
    {"sub": "auth0|1234 5678"},
]
HARMFUL: list[dict[str, Any]] = [  # Any: JSON
    {"jti": ""},
    {"jti": "a" * 256},
    *({"jti": f"an{character}id"} for character in (" ", "\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "é", "\u2028")),
    {"jti": "an-id\n"},
    {"sub": ""},
    {"sub": "é" * 128},
    {"sub": "ann\x00"},
]


@pytest.mark.parametrize("members", HARMLESS, ids=ascii)
async def test_ids_of_any_usual_shape_are_accepted(members: dict[str, Any]) -> None:
    """F11: the other side of the borders below."""
    session = await opened(written(**members), sealer())
    assert session.handle == members.get("jti", "an-id")
    assert session.user_id == {"sub": "ann", **members}["sub"] or members["sub"] is ...


@pytest.mark.parametrize("members", HARMFUL, ids=lambda members: ascii(members)[:40])
async def test_ids_without_end_or_with_other_characters_are_refused(members: dict[str, Any]) -> None:
    """F11, F12: they would stand in logs, in keys of the revocations' backend, and in the application's own tables."""
    assert (await opened(written(**members), sealer())).is_new


async def test_what_a_key_s_owner_calls_a_session_forges_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """F12: whoever sealed it; the event has the id as it is."""
    seals, events, forged = HMACSealer(KEY), list[Event](), "an-id\r\n\x1b[2JERROR \u2028 all is well"
    token = seals.seal(Claims(b'{"count":7}', False, forged, NOW, NOW + 600, "ann\n", b""), name="app")

    with caplog.at_level(logging.DEBUG, logger="aiosessions"):
        await opened(token, seals, on_event=facts(events))
        await opened(written(jti="a" * 255), sealer())

    assert events == [Event("loaded", "app", forged, "ann\n")]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(line.isprintable() and len(line) < 200 for line in lines)
    assert "ERROR" in lines[0]
