"""What was stored once is read for ever: these bytes were written by version 0.1.0 and must never be made anew."""

from base64 import b64decode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from aiosessions import AESGCMSealer, CookieOverseer, Event, Flash, Lifetime, MemoryStorer, Record, StorageOverseer
from aiosessions.testing.suites_store import Visitor

pytestmark = pytest.mark.anyio

NOW = 1_800_003_700.0
HOUR = timedelta(hours=1)


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])
    note: str = ""


# a session that a storer keeps: created, logged in, rotated, confirmed, written

FIRST = "sF9bTSAqOpiG8TCn_Dvs177kYma0B9mFg6qdVmZnN2MmdaNKkDadu-u_VW7_D8nh"
BEFORE = "sF9bTSAqOpiG8TCn_Dvs177ky7suP2OvgEsIOYK6nAg7KC0Hy7QoBRaWhUw6IdVC"
TOKEN = "sF9bTSAqOpiG8TCn_Dvs177kN1E46rrCIpMSBFD59XSMDiKi0jGfGliTh00UkfQS"
CSRF = "VmklT7oP_IFyr7TXIr7C0nMqsulPi92Bs6dvzaeMi94"
META = (
    "m5SRk8QgYMzm0QhaIoo6qpfoSfRaAhyWDROWbxmnOLCSFInkrRfLQdrSeAQAAADLQdrSeAaAAAABkZPEEHvroHNf8wklKmovA6lu"
    "vJjLQdrSdIAAAADLAAAAAAAAAACRk8QQX4FMlCUISi5JRTqYfhIjBMtB2tJ4EIAAAMsAAAAAAAAAAMtB2tJ4EIAAAMtB2tPUEAAA"
    "AMtB2tJ0gAAAAMQQJUOXpvWEIQDBCNsahTJJDLBGaXJlZm94IG9uIExpbnV4kZSsZGFkMjg2N2U0Zjk4p1dlbGNvbWWkaW5mb8QQ"
    "gaFulAHLQAQAAAAAAADAw5bLQOGUAAAAAADLQRX5AAAAAACqcGVyc2lzdGVudMDLQKwgAAAAAADLQD4AAAAAAADOj4vaecQAwA=="
)
RECORD = Record(
    b'{"items":["tea","milk"],"note":"soon"}',
    b64decode(META),
    "ann",
    1800000000.0,
    1800003650.0,
    1800039650.0,
    906820584754768448,
)

# a session that its client holds, one that ended, and what the revocations say of both

KEY = "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY"
HELD = (
    "Aa-Uo2jJNrtDIFhWY2Mb1MLstK5RiiQDMSFsL26_7_fZLBToYQTRyi4RgHl_JzC3ogflRJr77_MRrU6iHpxLCTZDloBc-jvkKQFt"
    "-Kf3OslOZIvCjoN20HKZaVXhtHs2dcmrWHL_20NKaSepJVQ2mdVboLJcrIf5DDbPomOWkqZlqBz78HpXVUR0tH0Mjf4x8T37EBba"
    "xhthoIhdcs-DoMKDYdbZH--xpNUcC8xSGM7HEgd3ANzX0HJtoyYpiVQDbT0rsrolElX11Z-MvodU1S_ip7i4fmq8tAY9llGy7QfO"
    "IdIoFJvuTbgiEwBYeyQqWnM"
)
ENDED = (
    "Aa-Uo2jJmzrEfpy-XGKryhLYy3tRbYvfX_DP2Oj1hjxqEuK-gj2CY6lWGP3TdND9qdF5fnM_8HKfsSSbySc5NYDXTd5qTwFX4QDK"
    "Ogb31oBht_TSKW66OSy0WRFPucpY6YxleTTwH3SLXH_3eW4kin9EQohTRKf_hSYLqKo2LHhWagvRK6QJjxWhzTR3yUyebqzsiNnG"
    "SB3xl-n9jfBuzfZT5SfQIkbxFsBXXGddtHYFTk3ip8pE3HADiakUu17upaLO"
)
USER = "49915e0d7d4b402e3017d010bc1c0e83cac6c797d6c16e66340fe3268693a6a1"  # SHA-256 of "ann"
LEDGERS = {
    ":~generation:DDWIi2G-SllUldr952onswwB": "lACAAcsAAAAAAAAAAA==",
    ":~generation:FuG2Bnm-i7J6aVuhjiP4qoSP": "lACAAcsAAAAAAAAAAA==",
    f":~user:{USER}": "lACBuEZ1RzJCbm0taTdKNmFWdWhqaVA0cW9TUMtB2zWs8IAAAADLAAAAAAAAAAA=",
}


async def stored(**options: Any) -> StorageOverseer[Cart]:  # Any: the store's own
    storer = MemoryStorer(clock=lambda: NOW)
    assert await storer.create(f"shop:app:{TOKEN[:24]}", RECORD)
    lifetime = Lifetime(10 * HOUR, 20 * HOUR, rotate=HOUR, grace=timedelta(seconds=30))
    return StorageOverseer(Cart, storer, namespace="shop", lifetime=lifetime, clock=lambda: NOW, **options)


async def held(**options: Any) -> CookieOverseer[Cart]:  # Any: the store's own
    storer = MemoryStorer(clock=lambda: NOW)
    for key, value in LEDGERS.items():
        assert await storer.create(key, Record(b64decode(value), b"", None, NOW, NOW, NOW + 400 * 86_400, 1))
    lifetime = Lifetime(HOUR, timedelta(days=300))
    options = {"revocations": storer, "replay_protection": True, "lifetime": lifetime, **options}
    return CookieOverseer(Cart, AESGCMSealer(KEY), clock=lambda: NOW, **options)


async def test_a_record_is_read_whole() -> None:
    """V2, V7, X2: value, user, label, flashes, CSRF key, own lifetime and the secret that opens it."""
    store = await stored()
    async with Visitor({"__Host-app": TOKEN}).visit() as visit:
        session = await store.get(visit.request)
        assert session.value == Cart(["tea", "milk"], "soon")
        assert (session.user_id, session.label, session.handle) == ("ann", "Firefox on Linux", TOKEN[:24])
        assert session.flashes(peek=True) == [Flash("Welcome", "info", {"n": [1, 2.5, None, True]})]
        assert session.check_csrf(CSRF)
        times = [session.created_at, session.authenticated_at, session.updated_at, session.seen_at, session.expires_at]
        assert [time and time.timestamp() - 1_800_000_000 for time in times] == [0, 0, 3650, 3650, 39_650]


async def test_the_secrets_of_before_are_recognised() -> None:
    """DESIGN 5: one that an explicit rotation ended, and one that a periodic rotation retired."""
    events: list[Event] = []
    store = await stored(on_event=events.append)
    for token in (FIRST, BEFORE):
        async with Visitor({"__Host-app": token}).visit() as visit:
            assert (await store.get(visit.request)).is_new
    assert [event.kind for event in events] == ["rejected", "token_reused"]


async def test_a_record_can_be_written_on() -> None:
    """V2: and is then read like before."""
    store = await stored()
    visitor = Visitor({"__Host-app": TOKEN})
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        session.value.items.append("bread")
        await store.save(session, visit.response)
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        assert (session.value.items, session.user_id, session.label) == (
            ["tea", "milk", "bread"],
            "ann",
            "Firefox on Linux",
        )


async def test_a_token_that_carries_the_state_is_read_whole() -> None:
    """V2, V7, DESIGN 7."""
    store = await held()
    async with Visitor({"__Host-app": HELD}).visit() as visit:
        session = await store.get(visit.request)
        assert (session.value.items, session.user_id, session.label) == (["tea"], "ann", "Firefox on Linux")
        assert session.flashes() == [Flash("Welcome", "info", [1])]
        assert session.created_at.timestamp() == 1_800_003_650


async def test_what_has_ended_is_ended_for_ever() -> None:
    """F16: the ledger of a user, written then, is understood now."""
    store = await held()
    async with Visitor({"__Host-app": ENDED}).visit() as visit:
        assert (await store.get(visit.request)).is_new
    store = await held(revocations=MemoryStorer())
    async with Visitor({"__Host-app": ENDED}).visit() as visit:
        assert (await store.get(visit.request)).user_id == "ann", "the token itself is good"
