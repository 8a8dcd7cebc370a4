"""What was stored once is read for ever: these bytes were written by version 0.1.0 and must never be made anew."""

from base64 import b64decode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from aiosessions import AESGCMSealer, CookieOverseer, Event, Flash, Lifetime, MemoryStorer, Record, StorageOverseer
from aiosessions.testing.suites_store import Visitor
from tests.facts import facts

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
    "Aa-Uo2jJgwRCJsGEikd_gYcdA30DU1cz4_cY8bga1yf1wW1WPN5xwBpvMAtM6w0K6v1UFKFOR1IkacncMR90igBEBGwLSWfJNGyL"
    "iCOPMFqe535ebc44IioRjrCZKvTGhmSNsWR_nAFyM2EFZZExXxjn34Vl7YXqOTPgTqRhznZBIb2mKEIN-r5kgYA77cKwvbE6hwx2"
    "2syFMyXkkfD7fUCMqo1usv7Budcfug71IV3AyY2UztIKhKRYdnRrWc9sney4zet9eTAsyU0leLV0mUn6sADhT2vLQmp3xp9yF6K-"
    "U_RrHb9xSZ-QWst85eZjq-Y"
)
ENDED = (
    "Aa-Uo2jJDjzYSNZp3yXV-CQ_7zfNltWunDuXHE0XYbA17jdPxOWqD6zyldBd5Y6Jphh_MdTHvqJjnlzuJKIf-TCPEwtgBXhFpFn7"
    "njpNf6xH4GTq8npQ-6E7Bt2bahYqPZKoSJPE0LJpzzO7uuza7D0QitK3WSrxG1-XYwn_ukknFJqf2dmmgCDu805kRhYHfMCsJ6I_"
    "P73Ax854Xv350QIhPdb4h5oW-FciF3LO97AxVaKrEYUuiChzWiq1rSb6n_XP"
)
USER = "49915e0d7d4b402e3017d010bc1c0e83cac6c797d6c16e66340fe3268693a6a1"  # SHA-256 of "ann"
LEDGERS = {
    ":~generation:UtnHo8EbrSCE9cPDgDDIr09v": "lACAAcsAAAAAAAAAAA==",
    ":~generation:nePJNtGnrEH4bPlkQ-b7AOxW": "lACAAcsAAAAAAAAAAA==",
    f":~user:{USER}": "lACBuG5lUEpOdEduckVINGJQbGtRLWI3QU94V5PLQds1rPCAAACgxAAAywAAAAAAAAAA",
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
    store = await stored(on_event=facts(events))
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
