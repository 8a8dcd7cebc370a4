"""Without a framework: an Exchange stands for a request and its response."""

import json
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOptions,
    CookieOverseer,
    CookieTransport,
    Exchange,
    HeaderTransport,
    HMACSealer,
    JWTSealer,
    MemoryStorer,
    NoSessionError,
    ResponseStartedError,
    Sealer,
    Session,
    SessionError,
    StorageOverseer,
    Transport,
    new_key,
)
from aiosessions.testing import Clock, CookieJar

pytestmark = pytest.mark.anyio


@dataclass
class Cart:
    items: list[str] = field(default_factory=list[str])


Overseer = StorageOverseer[Cart] | CookieOverseer[Cart]
SEALERS: dict[str, Callable[[], Sealer | None]] = {
    "plain": lambda: None,
    "aesgcm": lambda: AESGCMSealer(new_key()),
    "hmac": lambda: HMACSealer(new_key()),
    "jwt": lambda: JWTSealer(new_key()),
}
KINDS = [
    pytest.param((keeps, travels, sealer), id=f"{keeps}-{travels}-{sealer}")
    for keeps in ("storage", "client")
    for travels in ("cookie", "header")
    for sealer in SEALERS
    if (keeps, sealer) != ("client", "plain")
]


class Client:
    """What keeps cookies and headers as it is told, and presents them."""

    def __init__(self, travels: str) -> None:
        self.travels = travels
        self.jar = CookieJar()
        self.headers: dict[str, str] = {}

    def exchange(self) -> Exchange:
        """Its next request."""
        cookies = self.jar.header("https://shop.example/")
        return Exchange([*self.headers.items(), *([("cookie", cookies)] if cookies else [])])

    def follow(self, exchange: Exchange) -> Exchange:
        """Do as it is told; its next request."""
        for name, value in exchange.headers:
            if name == "Set-Cookie":
                assert self.jar.receive(value, "https://shop.example/"), self.jar.refused
            elif name.startswith("Session-"):
                self.headers[name] = value
        return self.exchange()

    def presenting(self, token: str, name: str = "app") -> Exchange:
        """A client without a jar, which was given the token alone."""
        return Exchange(
            [("Cookie", f"__Host-{name}={token}") if self.travels == "cookie" else (f"session-{name}", token)]
        )


@dataclass
class House:
    """A store and its client."""

    keeps: str
    store: Overseer
    client: Client

    async def added(self, exchange: Exchange, item: str = "tea") -> Session[Cart]:
        """One request that changes its session."""
        session = await self.store.get(exchange)
        session.value.items.append(item)
        await self.store.save(session, exchange)
        return session

    async def items(self, exchange: Exchange) -> list[str] | None:
        """What is in the session that this request brings; None: it brings none."""
        session = await self.store.get(exchange)
        return None if session.is_new else session.value.items


def overseer(keeps: str, transport: Transport, sealer: Sealer | None, *, name: str = "app") -> Overseer:
    if keeps == "storage":
        return StorageOverseer(Cart, MemoryStorer(), name=name, transport=transport, sealer=sealer, clean_every=None)
    assert sealer is not None
    return CookieOverseer(Cart, sealer, name=name, transport=transport)


@pytest.fixture(params=KINDS)
def house(request: pytest.FixtureRequest) -> House:
    keeps, travels, sealer = request.param
    transport = CookieTransport() if travels == "cookie" else HeaderTransport()
    return House(keeps, overseer(keeps, transport, SEALERS[sealer]()), Client(travels))


@pytest.fixture
def held() -> House:
    """In memory, in a cookie."""
    return House("storage", overseer("storage", CookieTransport(), None), Client("cookie"))


@pytest.fixture
def sealed() -> House:
    """With the client, in chunks where it takes them."""
    transport = CookieTransport(CookieOptions(max_bytes=6144))
    return House("client", overseer("client", transport, AESGCMSealer(new_key())), Client("cookie"))


async def test_a_change_is_told_as_a_response_would_tell_it(house: House) -> None:
    """R14, R4: one token, `no-store`, Vary; and the next request has the session."""
    exchange = house.client.exchange()
    session = await house.added(exchange)
    assert session.is_new
    cookie, header = ["Set-Cookie", "Cache-Control", "Vary"], "Session-App"
    names = cookie if house.client.travels == "cookie" else [header, "Access-Control-Expose-Headers", *cookie[1:]]
    assert [name for name, _ in exchange.headers] == names
    assert ("Cache-Control", "no-store") in exchange.headers
    assert ("Vary", "Cookie" if house.client.travels == "cookie" else header) in exchange.headers
    assert await house.items(house.client.follow(exchange)) == ["tea"]


async def test_the_token_alone_is_enough_for_a_client(house: House) -> None:
    exchange = Exchange()
    session = house.store.new(exchange)
    session.set_user("ann")
    await house.store.save(session, exchange)
    assert list(exchange.tokens) == ["app"]
    visit = house.client.presenting(exchange.tokens["app"])
    assert (await house.store.require(visit)).user_id == "ann"


async def test_what_did_not_change_is_not_told(house: House) -> None:
    """R2, R3: only Vary."""
    exchange = Exchange()
    await house.store.save(await house.store.get(exchange), exchange)
    first = Exchange()
    await house.added(first)
    second = house.client.follow(first)
    await house.store.save(await house.store.get(second), second)
    for each in (exchange, second):
        assert [name for name, _ in each.headers] == ["Vary"]
        assert each.tokens == {}


async def test_a_stored_session_keeps_its_token(held: House) -> None:
    """R4: a later change sends nothing."""
    first = Exchange()
    await held.added(first)
    second = held.client.follow(first)
    await held.added(second, "milk")
    assert second.headers == [("Vary", "Cookie")]
    assert second.tokens == {}
    assert await held.items(held.client.exchange()) == ["tea", "milk"]


async def test_what_was_destroyed_has_no_token(house: House) -> None:
    """R7: in the same exchange and in a later one; the client forgets it."""
    first = Exchange()
    await house.added(first)
    second = house.client.follow(first)
    for exchange in (first, second):
        await house.store.destroy(await house.store.get(exchange), exchange)
        assert exchange.tokens == {}
        house.client.follow(exchange)
        if house.client.travels == "cookie":
            assert len(house.client.jar) == 0
        else:
            assert house.client.headers["Session-App"] == "-"
    assert await house.items(house.client.exchange()) is None


async def test_a_destroy_tells_what_else_to_forget(held: House) -> None:
    first = Exchange()
    await held.added(first)
    second = held.client.follow(first)
    await held.store.destroy(await held.store.get(second), second, clear_site_data=["cache"])
    assert ("Clear-Site-Data", '"cache"') in second.headers


async def test_a_token_that_nobody_sends_is_an_error_and_nothing_is_written(house: House) -> None:
    """R14, R11: `save(session)` alone; with the exchange the same session is saved."""
    exchange = Exchange()
    session = await house.store.get(exchange)
    session.value.items.append("tea")
    with pytest.raises(ResponseStartedError, match=r"or nobody sends any.*Exchange"):
        await house.store.save(session)
    assert (session.handle, exchange.headers, exchange.tokens) == ("", [], {})
    await house.store.save(session, exchange)
    assert await house.items(house.client.follow(exchange)) == ["tea"]


async def test_what_needs_no_token_is_saved_without_the_exchange(held: House) -> None:
    """R12: as on a socket, long after its handshake."""
    first = Exchange()
    session = await held.added(first)
    session.value.items.append("milk")
    await held.store.save(session)
    await held.store.update(session, lambda cart: cart.items.append("bread"))
    assert await held.items(held.client.follow(first)) == ["tea", "milk", "bread"]


async def test_of_two_saves_the_last_word_counts(house: House) -> None:
    """R9, R14: one Set-Cookie of a name; headers and tokens are those of the second save."""
    exchange = Exchange()
    session = await house.added(exchange)
    before = exchange.tokens["app"]
    await house.added(exchange, "milk")
    assert (exchange.tokens["app"] == before) is (house.keeps == "storage")
    session.set_user("ann")
    await house.store.save(session, exchange)
    assert exchange.tokens["app"] != before
    own = [value for name, value in exchange.headers if name in ("Set-Cookie", "Session-App")]
    assert len(own) == 1
    assert exchange.tokens["app"] in own[0]
    for visit in (house.client.follow(exchange), house.client.presenting(exchange.tokens["app"])):
        assert (await house.store.get(visit)).user_id == "ann"
        assert await house.items(visit) == ["tea", "milk"]
    if house.keeps == "storage":
        assert await house.items(house.client.presenting(before)) is None


async def test_a_save_that_changes_nothing_takes_nothing_back(house: House) -> None:
    """R14: `save` twice tells once, and what was told stays."""
    exchange = Exchange()
    session = await house.added(exchange)
    headers, tokens = list(exchange.headers), exchange.tokens
    await house.store.save(session, exchange)
    assert (exchange.headers, exchange.tokens) == (headers, tokens)


async def test_the_chunks_of_a_token_are_joined(sealed: House) -> None:
    """A client that has the token presents it whole; one with a jar presents the chunks."""
    exchange = Exchange()
    await sealed.added(exchange, "x" * 3600)
    cookies = [value for name, value in exchange.headers if name == "Set-Cookie" and "Max-Age=0" not in value]
    assert len(cookies) == 2
    (token,) = exchange.tokens.values()
    assert "~" not in token
    assert await sealed.items(sealed.client.presenting(token)) == ["x" * 3600]
    assert await sealed.items(sealed.client.follow(exchange)) == ["x" * 3600]

    smaller = sealed.client.exchange()
    session = await sealed.store.get(smaller)
    session.value.items = ["y"]
    await sealed.store.save(session, smaller)
    assert await sealed.items(sealed.client.follow(smaller)) == ["y"]
    assert len(sealed.client.jar) == 1


async def test_no_repr_shows_a_token(house: House) -> None:
    """V8: what travels on is a dict like any other."""
    exchange = Exchange()
    await house.added(exchange)
    token = exchange.tokens["app"]
    visit = house.client.presenting(token)
    await house.store.get(visit)
    for shown in (exchange, visit, exchange.tokens, [exchange.tokens]):
        assert token[-12:] not in f"{shown!r} {shown}"
    assert "app" in repr(exchange.tokens)
    assert json.dumps(exchange.tokens) == msgspec.json.encode(exchange.tokens, order="sorted").decode().replace(
        ":", ": "
    )


async def test_one_exchange_is_one_request(held: House) -> None:
    """R5: the same object; another exchange with the same token loads its own."""
    first = Exchange()
    session = await held.added(first)
    assert await held.store.get(first) is session
    second = held.client.follow(first)
    assert await held.store.get(second) is not session


async def test_an_exchange_is_no_cycle(house: House) -> None:
    """DESIGN 4: it goes when nobody has it any more, and no collection is needed."""
    exchange = Exchange()
    gone = weakref.ref(await house.added(exchange))
    assert gone() is not None
    del exchange
    assert gone() is None


async def test_a_read_sends_what_it_has_to() -> None:
    """R15: a client-held token carries its idle clock, and is sent again once per touch window."""
    clock = Clock()
    store = CookieOverseer(Cart, HMACSealer(new_key()), clock=clock)
    house, first = House("client", store, Client("cookie")), Exchange()
    await house.added(first)
    clock.advance(3600)
    second = house.client.follow(first)
    await store.save(await store.get(second), second)
    assert list(second.tokens) == ["app"]
    assert second.tokens != first.tokens


async def test_several_sessions_share_an_exchange() -> None:
    """R5: two names, two stores, two transports, and one name on two of them."""
    cookies = overseer("storage", CookieTransport(), None)
    headers = overseer("client", HeaderTransport(), HMACSealer(new_key()), name="theme")
    twin = overseer("client", HeaderTransport(), HMACSealer(new_key()))
    exchange = Exchange()
    sessions: list[Session[Cart]] = []
    for store, name in ((cookies, None), (cookies, "admin"), (headers, None), (twin, None)):
        session = await store.get(exchange, name)
        session.value.items.append("tea")
        await store.save(session, exchange)
        sessions.append(session)
    assert list(exchange.tokens) == ["app", "admin", "theme"]
    assert exchange.tokens["app"] == dict(exchange.headers)["Session-App"]
    assert [name for name, _ in exchange.headers].count("Set-Cookie") == 2
    assert ("Vary", "Cookie, Session-Theme, Session-App") in exchange.headers

    await twin.destroy(sessions[-1], exchange)
    assert list(exchange.tokens) == ["app", "admin", "theme"]
    cookies_sent = [value for name, value in exchange.headers if name == "Set-Cookie"]
    assert any(value.startswith(f"__Host-app={exchange.tokens['app']};") for value in cookies_sent)


async def test_two_stores_with_one_cookie_are_refused(held: House) -> None:
    """R5."""
    exchange = Exchange()
    await held.store.get(exchange)
    other = overseer("storage", CookieTransport(), None)
    with pytest.raises(ConfigError, match="two stores use the cookie __Host-app"):
        await other.get(exchange)


async def test_what_the_application_says_stays(held: House) -> None:
    """R9."""
    exchange = Exchange()
    theirs = [("set-cookie", "lang=de"), ("cache-control", "public, max-age=60"), ("vary", "Accept")]
    exchange.headers += theirs
    await held.added(exchange)
    said = {name.lower(): value for name, value in exchange.headers}
    assert ("set-cookie", "lang=de") in [(name.lower(), value) for name, value in exchange.headers]
    assert (said["cache-control"], said["vary"]) == ("no-store", "Accept, Cookie")


async def test_new_ends_what_came(house: House) -> None:
    """F15: a session of its own; a stored one that it takes the place of is gone."""
    first = Exchange()
    await house.added(first)
    token = first.tokens["app"]
    second = house.client.follow(first)
    session = house.store.new(second)
    session.value.items.append("milk")
    await house.store.save(session, second)
    assert await house.items(house.client.follow(second)) == ["milk"]
    if house.keeps == "storage":
        assert await house.items(house.client.presenting(token)) is None


async def test_names_know_no_case_and_cookies_come_in_several_lines(held: House) -> None:
    """RFC 9113 §8.2.3: HTTP/2 splits them."""
    exchange = Exchange()
    await held.added(exchange)
    cookie = f"__Host-app={exchange.tokens['app']}"
    for headers in ([("COOKIE", f"a=b; {cookie}")], [("Cookie", "a=b"), ("cookie", cookie)]):
        assert await held.items(Exchange(iter(headers))) == ["tea"]
    for headers in ([("cookie", cookie), ("Cookie", cookie)], [("x-cookie", cookie)], []):
        assert await held.items(Exchange(headers)) is None


@pytest.mark.parametrize("text", ["", "é", "\ud800", "\x01", "x" * 20_000, "__Host-app", "__Host-app=\u2028"])
async def test_what_a_client_makes_up_is_a_new_session(house: House, text: str) -> None:
    """R6: and nothing but Vary is sent."""
    for headers in ([("cookie", text)], [("cookie", f"__Host-app={text}")], [("session-app", text)], [(text, text)]):
        exchange = Exchange(headers)
        session = await house.store.get(exchange)
        await house.store.save(session, exchange)
        assert session.is_new
        assert [name for name, _ in exchange.headers] == ["Vary"]


@pytest.mark.parametrize(
    "headers",
    [
        [("Cookie", "a=b\r\nx: y")],
        [("Cookie", "a=b\n")],
        [("Cookie", "a\0b")],
        [("Coo\rkie", "a=b")],
        [(b"cookie", b"a=b")],
        [("cookie", None)],
        [("cookie",)],
        [("cookie", "a=b", "c")],
        {"cookie": "a=b"},
        {"te": "trailers"},
        ["te"],
        [None],
    ],
)
def test_headers_that_are_none_are_refused(headers: Any) -> None:  # Any: what a checker refuses
    """As `ConfigError`: ours, and a ValueError. It does not show what may be a token."""
    with pytest.raises(ConfigError, match=r"^headers: ") as caught:
        Exchange(headers)
    assert "a=b" not in str(caught.value)
    assert isinstance(caught.value, SessionError)


@pytest.mark.parametrize("scheme", ["", "ftp", "HTTPS", "https://", None, 1, "x" * 1000])
def test_a_scheme_that_is_none_is_refused(scheme: Any) -> None:  # Any: likewise
    with pytest.raises(ConfigError, match=r"scheme=.*give one of") as caught:
        Exchange(scheme=scheme)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("scheme", "lines"), [("https", 0), ("wss", 0), ("http", 1), ("ws", 1)])
async def test_a_secure_cookie_over_plain_http_is_warned_about(
    held: House, scheme: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aiosessions"):
        await held.added(Exchange(scheme=scheme))
    assert sum("plain http" in line for line in caplog.messages) == lines


# open


async def test_an_anonymous_session_is_opened_for_nobody(held: House) -> None:
    """`open(handle, user_id=None)`: never one that a user has, and none of theirs is anonymous."""
    assert isinstance(held.store, StorageOverseer)
    exchange = Exchange()
    session = await held.added(exchange)
    job = await held.store.open(session.handle, user_id=None)
    job.value.items.append("from a job")
    await held.store.save(job)
    visit = held.client.follow(exchange)
    assert await held.items(visit) == ["tea", "from a job"]
    with pytest.raises(NoSessionError, match="'ann' has no session 'app' of this handle"):
        await held.store.open(session.handle, user_id="ann")

    session = await held.store.get(visit)
    session.set_user("ann")
    await held.store.save(session, visit)
    assert (await held.store.open(session.handle, user_id="ann")).user_id == "ann"
    for handle in (session.handle, "A" * 24, "../x", ""):
        with pytest.raises(NoSessionError, match="there is no anonymous session 'app' of this handle"):
            await held.store.open(handle, user_id=None)


async def test_whose_a_session_is_has_to_be_said(held: House) -> None:
    """Who forgets it opens none."""
    store: Any = held.store  # Any: a checker refuses it
    with pytest.raises(TypeError, match="user_id"):
        await store.open((await held.added(Exchange())).handle)


async def test_a_session_that_was_opened_tells_an_exchange_its_new_token(held: House) -> None:
    """A device that waits for its user: the job binds them, and has the token to hand over."""
    assert isinstance(held.store, StorageOverseer)
    first = Exchange()
    handle = (await held.added(first)).handle
    job = await held.store.open(handle, user_id=None)
    job.set_user("ann")
    with pytest.raises(ResponseStartedError):
        await held.store.save(job)
    answer = Exchange()
    await held.store.save(job, answer)
    assert (await held.store.require(held.client.presenting(answer.tokens["app"]))).user_id == "ann"
    assert await held.items(held.client.follow(first)) is None
