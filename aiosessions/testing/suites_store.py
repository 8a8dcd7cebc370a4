"""What every store promises whatever it is made of, as a pytest class to inherit.

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def make_store(self, clock: Clock) -> MakeStore:
            return lambda value_type, **options: StorageOverseer(value_type, MyStorer(), clock=clock.now, **options)

`make_store` may be called several times in one test: what it gives shares one backend and one set of keys. Stores whose
state is with the client say `is_client_held = True`; those among them that can revoke, `revokes = True`. Those whose
storer has no `keys()` say `lists = False`. The tests run as those of `StorerSuite` do.
"""

import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, NamedTuple, TypedDict, cast
from uuid import UUID

import msgspec
import pytest

from aiosessions._errors import (
    ConfigError,
    DecodeError,
    EncodeError,
    KeyExistsError,
    NoKeyError,
    NoSessionError,
    NotAuthenticatedError,
    ReauthenticationError,
    ResponseStartedError,
    SessionTooLargeError,
    UnsupportedError,
)
from aiosessions._lifetime import Lifetime
from aiosessions._session import Session
from aiosessions.testing.suites_storer import MovableClock

__all__ = ["MakeStore", "StoreSuite", "Visitor"]

MakeStore = Callable[..., Any]  # Any: stores of the types that the tests choose


class _Message(NamedTuple):
    """A request or a response."""

    headers: Any  # Any: see Request and Response
    scope: dict[str, Any]  # Any: an ASGI scope


class _ResponseHeaders:
    """As much of a framework's headers as a store needs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def add(self, name: str, value: str) -> None:
        self.lines.append((name, value))

    def __contains__(self, name: str) -> bool:
        return bool(self.getlist(name))

    def __delitem__(self, name: str) -> None:
        self.lines = [line for line in self.lines if line[0].lower() != name.lower()]


class Visit:
    """One request and its response, made by hand."""

    def __init__(self, lines: list[tuple[bytes, bytes]]) -> None:
        self.request: _Message = _Message(dict(lines), {"type": "http", "scheme": "https", "headers": lines})
        self.response: _Message = _Message(_ResponseHeaders(), {})

    @property
    def sent(self) -> list[str]:
        """What the response says to the client about tokens."""
        lines: list[tuple[str, str]] = self.response.headers.lines
        return [value for key, value in lines if key.lower() == "set-cookie" or key.lower().startswith("session-")]

    @property
    def tokens(self) -> list[str]:
        """What of it is a token, and no removal: a cookie that may have chunks comes with the removal of those."""
        return [value for value in self.sent if "; Max-Age=0" not in value and value != "-"]


class Visitor:
    """A client that keeps cookies and session headers as it is told."""

    def __init__(self, cookies: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> None:
        self.cookies: dict[str, str] = dict(cookies or {})
        self.headers: dict[str, str] = dict(headers or {})

    def copy(self) -> "Visitor":
        """Somebody with the same tokens: another tab, or a thief."""
        return Visitor(self.cookies, self.headers)

    @asynccontextmanager
    async def visit(self) -> AsyncGenerator[Visit]:
        """One request; what its response says is kept afterwards."""
        lines = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        if self.cookies:
            lines.append((b"cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()))
        visit = Visit(lines)
        yield visit
        self.keep(visit)

    def keep(self, visit: Visit) -> None:
        """Do as a response says."""
        for name, value in visit.response.headers.lines:
            if name.lower() == "set-cookie":
                cookie, _, text = value.partition(";")[0].partition("=")
                self.cookies[cookie] = text
                if "; Max-Age=0" in value:
                    del self.cookies[cookie]
            elif name.lower().startswith("session-"):
                self.headers[name] = value
                if value == "-":
                    del self.headers[name]

    @property
    def tokens(self) -> dict[str, str]:
        """All that is held."""
        return {**self.cookies, **self.headers}


_ID = UUID(int=7)


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Nested(msgspec.Struct):
    quantity: int = 1


@dataclass
class Shop:
    """A value with a little of everything that a field may be."""

    cart: list[Nested] = field(default_factory=list[Nested])
    tags: set[str] = field(default_factory=set[str])
    notes: dict[str, str] = field(default_factory=dict[str, str])
    count: int = 0
    price: Decimal = Decimal("9.90")
    when: datetime = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    day: date = date(2026, 1, 2)
    id: UUID = _ID
    size: Size = Size.SMALL
    ratio: float | None = None
    raw: bytes = b"\x00\xff"


@dataclass(slots=True)
class Slotted:
    name: str = ""
    items: list[int] = field(default_factory=list[int])


class Typed(TypedDict, total=False):
    name: str
    number: int


class Newer(msgspec.Struct):
    """`Older`, a version later."""

    count: int = 0
    colour: str = "red"


class Older(msgspec.Struct):
    count: int = 0


class Other(msgspec.Struct):
    """What `Shop` cannot be read as."""

    cart: str = ""


HOUR = timedelta(hours=1)


class StoreSuite:
    """CONTRACT V, X, F and what R says without a framework."""

    is_client_held: ClassVar[bool] = False
    revokes: ClassVar[bool] = False
    lists: ClassVar[bool] = True
    is_json: ClassVar[bool] = True

    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock()

    @pytest.fixture
    def make_store(self) -> MakeStore:
        raise NotImplementedError("give a fixture make_store")

    # the session and its value

    @pytest.mark.parametrize(
        ("value_type", "first", "second"),
        [
            (Shop, Shop(), Shop([Nested(3)], {"b", "a"}, {"k": "é"}, 2, Decimal("1E+2"), size=Size.LARGE, ratio=0.5)),
            (Slotted, Slotted("é", [1, 2]), Slotted("", [3])),
            (Typed, {"name": "ann"}, {"name": "ann", "number": 1}),
            (Nested, Nested(5), Nested(6)),
            (dict[str, Any], {"a": [1, {"b": None}], "c": 1.5}, {"a": True, "d": "\U0001f4a5\x00"}),
            (dict[str, int], {"a": 1}, {}),
            (str, "text", "other"),
            (list[int], [1], [1, 2]),
        ],
        ids=["dataclass", "slots", "TypedDict", "Struct", "dict[str, Any]", "dict[str, int]", "str", "list"],
    )
    async def test_what_goes_in_comes_out_with_its_type(
        self, make_store: MakeStore, value_type: Any, first: Any, second: Any
    ) -> None:
        """V1."""
        store, visitor = make_store(value_type), Visitor()
        for value in (first, second):
            async with visitor.visit() as visit:
                session = await store.get(visit.request)
                session.value = value
                session.flash("so that a default is stored too")
                await store.save(session, visit.response)
            async with visitor.visit() as visit:
                back = (await store.get(visit.request)).value
            assert back == value, f"{value!r} came back as {back!r}"
            assert type(back) is type(value)

    @pytest.mark.parametrize("value", [{"a": (1, 2)}, {"a": {1}}, {"a": Decimal(1)}, {1: "a"}, {"a": Nested()}])
    async def test_an_untyped_value_that_would_come_back_as_something_else_is_refused(
        self, make_store: MakeStore, value: Any
    ) -> None:
        """V1, V9."""
        store = make_store(dict[str, Any])
        async with Visitor().visit() as visit:
            session = await store.get(visit.request)
            session.value = value
            with pytest.raises(EncodeError):
                await store.save(session, visit.response)
            assert visit.sent == []

    async def test_stored_bytes_that_do_not_fit_give_a_new_session(
        self, make_store: MakeStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """V2: one log record naming the field."""
        visitor = await self.with_value(make_store(Shop), lambda shop: shop.cart.append(Nested()))
        old = visitor.copy()
        async with visitor.visit() as visit:
            session = await make_store(Other).get(visit.request)
            assert session.is_new
            assert visit.sent == []
        warnings = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
        assert len(warnings) == 1
        assert "cart" in warnings[0]
        async with visitor.visit() as visit:
            assert not (await make_store(Shop).get(visit.request)).is_new, "the stored record did not stay"
        store = make_store(Other)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.value.cart = "new"
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).value.cart == "new"
        if not self.is_client_held:
            async with old.visit() as visit:
                assert (await make_store(Shop).get(visit.request)).is_new, "the record it replaced is still there"

    async def test_fields_of_a_newer_version_survive_a_write_by_an_older(self, make_store: MakeStore) -> None:
        """V2: missing fields take their defaults, unknown ones stay."""
        newer, older = make_store(Newer), make_store(Older)
        visitor = await self.with_value(newer, lambda value: setattr(value, "colour", "blue"))
        await self.with_value(older, lambda value: setattr(value, "count", 5), visitor)
        async with visitor.visit() as visit:
            assert (await newer.get(visit.request)).value == Newer(5, "blue")

    async def test_a_change_deep_inside_is_saved(self, make_store: MakeStore) -> None:
        """V3."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.cart.append(Nested(1)))

        def add(shop: Shop) -> None:
            shop.cart[0].quantity += 1

        await self.with_value(store, add, visitor)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).value.cart == [Nested(2)]

    async def test_an_equal_value_is_no_change(self, make_store: MakeStore) -> None:
        """V3: a set iterates as it likes, a dict may be filled in another order."""
        store = make_store(Shop)

        def fill(shop: Shop) -> None:
            shop.tags, shop.notes = {str(n) for n in range(50)}, {"a": "1", "b": "2"}

        def again(shop: Shop) -> None:
            shop.tags, shop.notes = {str(n) for n in reversed(range(50))}, {"b": "2", "a": "1"}

        visitor = await self.with_value(store, fill)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            before = session.updated_at
            again(session.value)
            await store.save(session, visit.response)
            assert visit.sent == []
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).updated_at == before

    async def test_new_sessions_share_nothing(self, make_store: MakeStore) -> None:
        """V4: a mutable default is copied."""
        shared: dict[str, int] = {"n": 0}
        store = make_store(dict[str, int], default=lambda: shared)
        async with Visitor().visit() as visit:
            (await store.get(visit.request)).value["n"] = 7
        async with Visitor().visit() as visit:
            assert (await store.get(visit.request)).value == {"n": 0}

    async def test_flashes_are_taken_once_and_the_others_stay(self, make_store: MakeStore) -> None:
        """V5: a flash alone makes a session worth storing."""
        store, visitor = make_store(Shop), Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.flash("saved")
            session.flash("wrong", "error", {"field": "name"})
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert session.value == Shop()
            assert [flash.message for flash in session.flashes(peek=True)] == ["saved", "wrong"]
            assert [tuple(flash) for flash in session.flashes("error")] == [("wrong", "error", {"field": "name"})]
            assert session.flashes("error") == []
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert [tuple(flash) for flash in session.flashes()] == [("saved", "info", None)]
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).flashes() == []

    async def test_a_session_of_a_dict_is_the_mapping_it_holds(self, make_store: MakeStore) -> None:
        """V6."""
        store = make_store(dict[str, Any])
        async with Visitor().visit() as visit:
            session = await store.get(visit.request)
            session["a"] = 1
            session.add("b", 2)
            with pytest.raises(KeyExistsError):
                session.add("b", 3)
            with pytest.raises(NoKeyError) as caught:
                session["c"]
            assert isinstance(caught.value, KeyError)
            assert session.pop("c", None) is None
            assert session.setdefault("d", 4) == 4
            assert dict(session.items()) == {"a": 1, "b": 2, "d": 4} == session.value
            session.clear(keep=("b", "z"))
            assert list(session) == ["b"]
            assert len(session) == 1
            assert "b" in session
            del session["b"]
            assert not session
        async with Visitor().visit() as visit:
            plain = await make_store(Shop, name="shop").get(visit.request)
            assert plain
            assert not hasattr(plain, "__len__")
            assert not hasattr(plain, "keys")

    async def test_a_login_binds_and_a_logout_unbinds(self, make_store: MakeStore, clock: MovableClock) -> None:
        """V7: `require_user`, `lifetime=`, `clear_user`; V4: who it is comes from the library."""
        store, visitor = make_store(Shop, lifetime=Lifetime(HOUR, 2 * HOUR)), Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.value.count = 3
            with pytest.raises(NotAuthenticatedError):
                session.require_user()
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.set_user("ann", lifetime=Lifetime.remember_me())
            session.label = "Firefox on Linux"
            assert session.require_user() == "ann"
            await store.save(session, visit.response)
        await clock.advance(3 * 3600)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert (session.require_user(), session.value.count, session.is_authenticated) == ("ann", 3, True)
            assert session.label == "Firefox on Linux"
            with pytest.raises(ReauthenticationError):
                session.require_fresh(HOUR)
            assert session.require_fresh(4 * HOUR) == "ann"
            session.clear_user()
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert (session.user_id, session.value.count, session.label) == (None, 3, None)
            assert session.authenticated_at is None
        await clock.advance(3 * 3600)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).is_new, "the long lifetime outlived its login"

    async def test_a_user_id_that_is_no_str_is_told_to_become_one(self, make_store: MakeStore) -> None:
        """V7."""
        async with Visitor().visit() as visit:
            session = await make_store(Shop).get(visit.request)
            with pytest.raises(TypeError, match=r"str\(user\.id\)"):
                session.set_user(5)
            for bad in ("", "a\0b", "x" * 256, "\ud800"):
                with pytest.raises(ValueError, match="user_id"):
                    session.set_user(bad)
            assert session.user_id is None

    async def test_nothing_that_prints_shows_a_token_or_a_value(self, make_store: MakeStore) -> None:
        """V8."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("geheim"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
        for text in (repr(session), repr(store), str(session)):
            assert "geheim" not in text
            assert not any(token in text for token in visitor.tokens.values())

    @pytest.mark.parametrize("how", ["too large", "does not fit", "cannot be encoded"])
    async def test_no_traceback_shows_a_token_or_a_value(self, make_store: MakeStore, how: str) -> None:
        """V8: also not one that shows the local variables of its frames."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("geheim"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            if how == "too large":
                session.value.notes["geheim"] = "geheim" * 100_000
            elif how == "does not fit":
                session.value.count = cast("int", "geheim")
            else:
                session.value.notes["geheim"] = "geheim\ud800"
            with pytest.raises((EncodeError, SessionTooLargeError)) as caught:
                await store.save(session, visit.response)
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
        shown = repr([frame.f_locals for frame in frames])
        assert "geheim" not in shown
        assert not any(token in shown for token in visitor.tokens.values())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ratio", float("nan")),
            ("count", "geheim"),
            ("notes", {"a": "geheim\ud800"}),
            ("when", object()),
            ("cart", 5),
        ],
    )
    async def test_a_value_that_does_not_fit_is_refused_at_save_by_its_field(
        self, make_store: MakeStore, name: str, value: object
    ) -> None:
        """V9, V8."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            setattr(session.value, name, value)
            with pytest.raises(EncodeError, match=name) as caught:
                await store.save(session, visit.response)
            assert "geheim" not in str(caught.value)
            assert visit.sent == []
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).value == Shop(tags={"a"})

    async def test_a_cycle_is_refused(self, make_store: MakeStore) -> None:
        """V9."""
        store = make_store(dict[str, Any])
        async with Visitor().visit() as visit:
            session = await store.get(visit.request)
            session["self"] = session.value
            with pytest.raises(EncodeError):
                await store.save(session, visit.response)
            session.value = {}

    async def test_a_type_that_cannot_work_is_refused_at_construction(self, make_store: MakeStore) -> None:
        """V9: ConfigError names the field or the fix."""

        @dataclass
        class NoDefaults:
            name: str

        with pytest.raises(ConfigError, match="default="):
            make_store(NoDefaults)
        assert make_store(NoDefaults, default=lambda: NoDefaults("x"))
        with pytest.raises(ConfigError, match="count"):
            make_store(Shop, default=lambda: Shop(count=cast("int", "many")))

    # a request

    async def test_a_new_unchanged_session_is_neither_stored_nor_sent(self, make_store: MakeStore) -> None:
        """R3; R2: `Vary` all the same."""
        store = make_store(Shop)
        async with Visitor().visit() as visit:
            session = await store.get(visit.request)
            assert session.is_new
            assert session.handle == ""
            session.regenerate()
            session.touch()
            await store.save(session, visit.response)
            assert visit.sent == []
            assert "Vary" in visit.response.headers

    async def test_the_first_change_is_stored_and_sent_once(self, make_store: MakeStore) -> None:
        """R4, R14: `save` twice writes and sends once."""
        store = make_store(Shop)
        async with Visitor().visit() as visit:
            session = await store.get(visit.request)
            session.value.count = 1
            await store.save(session, visit.response)
            handle = session.handle
            await store.save(session, visit.response)
            assert len(visit.tokens) == 1
            assert session.handle == handle != ""
            assert visit.response.headers.getlist("cache-control") == ["no-store"]

    async def test_the_same_request_and_name_give_the_same_session(self, make_store: MakeStore) -> None:
        """R5: two names and two types are independent; a token of one name is worthless under another."""
        store, other, visitor = make_store(Shop), make_store(Older, name="side"), Visitor()
        async with visitor.visit() as visit:
            session, side = await store.get(visit.request), await other.get(visit.request)
            assert await store.get(visit.request, "app") is session
            assert await store.get(visit.request, "second") is not session
            session.value.count = side.value.count = 4
            await store.save(session, visit.response)
            await other.save(side, visit.response)
        assert len(visitor.tokens) == 2
        names = list(visitor.tokens)
        for jar in (visitor.cookies, visitor.headers):
            if jar:
                jar[names[0]], jar[names[1]] = jar[names[1]], jar[names[0]]
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).is_new
            assert (await other.get(visit.request)).is_new

    async def test_two_stores_with_one_name_are_refused(self, make_store: MakeStore) -> None:
        """R5."""
        first, second = make_store(Shop), make_store(Older)
        async with Visitor().visit() as visit:
            await first.get(visit.request)
            with pytest.raises(ConfigError, match="name="):
                await second.get(visit.request)

    @pytest.mark.parametrize("name", ["", "1app", "a b", "app.0", "a" * 65, "é", "a;b", "a\r\nb"])
    async def test_names_outside_the_grammar_are_refused(self, make_store: MakeStore, name: str) -> None:
        """F10, F12."""
        with pytest.raises(ConfigError):
            make_store(Shop, name=name)
        async with Visitor().visit() as visit:
            with pytest.raises(ValueError, match="name"):
                await make_store(Shop).get(visit.request, name)

    async def test_a_token_that_is_not_ours_is_a_new_session_and_nothing_is_sent(self, make_store: MakeStore) -> None:
        """R6, F1, F6: tampered, cut, grown, empty, path-like, huge."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        ((name, token),) = visitor.tokens.items()
        middle = len(token) // 2
        flipped = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in (0, middle, -2)]
        bad = [*flipped, token[:-1], token + "A", "", "../../etc/passwd", "A" * 64, "A" * 5000, "%00", "a b", "\xff"]
        for text in bad:
            forger = visitor.copy()
            (forger.cookies or forger.headers)[name] = text
            async with forger.visit() as visit:
                session = await store.get(visit.request)
                assert session.is_new, f"{text[:80]!r} was accepted"
                await store.save(session, visit.response)
                assert visit.sent == []
                session.value.count = 1
                await store.save(session, visit.response)
            assert text not in forger.tokens.values(), "an id was adopted"
        async with visitor.visit() as visit:
            assert not (await store.get(visit.request)).is_new

    async def test_destroy_ends_it_on_both_sides(self, make_store: MakeStore) -> None:
        """R7, F4: a read in the same request is then a new, empty session."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        thief = visitor.copy()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.set_user("ann")
            session.destroy()
            assert (session.is_new, session.value, session.user_id, session.handle) == (True, Shop(), None, "")
            assert await store.get(visit.request) is session
            await store.save(session, visit.response)
        assert visitor.tokens == {}
        if not self.is_client_held or self.revokes:
            async with thief.visit() as visit:
                assert (await store.get(visit.request)).is_new

    async def test_store_destroy_clears_what_else_it_is_told(self, make_store: MakeStore) -> None:
        """SECURITY: ASVS 5 14.3.1."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            with pytest.raises(ValueError, match="clear_site_data"):
                await store.destroy(session, visit.response, clear_site_data=("everything",))
            await store.destroy(session, visit.response, clear_site_data=("cache", "storage"))
            assert visit.response.headers.getlist("clear-site-data") == ['"cache", "storage"']
        assert visitor.tokens == {}

    async def test_after_a_logout_a_flash_says_goodbye(self, make_store: MakeStore) -> None:
        """R7, V5: what is done to the object after destroy() belongs to the new session."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.destroy()
            session.flash("bye")
            await store.save(session, visit.response)
            assert len(visit.tokens) == 1
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert [flash.message for flash in session.flashes()] == ["bye"]
            assert session.value == Shop()

    @pytest.mark.parametrize("change", ["set_user", "regenerate", "clear_user"])
    async def test_an_explicit_rotation_ends_older_tokens(self, make_store: MakeStore, change: str) -> None:
        """R8, V7: the value is kept, under a new token."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        old = visitor.copy()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            getattr(session, change)(*(["ann"] if change == "set_user" else []))
            await store.save(session, visit.response)
        assert visitor.tokens != old.tokens
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert (session.is_new, session.value.tags) == (False, {"a"})
        if not self.is_client_held or self.revokes:
            async with old.visit() as visit:
                stale = await store.get(visit.request)
                assert (stale.is_new, stale.user_id, stale.value) == (True, None, Shop())

    async def test_new_takes_the_place_of_what_came(self, make_store: MakeStore) -> None:
        """R7, F2: the verified token's record goes when the new session is stored, and not before."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        old = visitor.copy()
        async with visitor.visit() as visit:
            fresh = store.new(visit.request)
            assert await store.get(visit.request) is fresh
            assert (fresh.is_new, fresh.value) == (True, Shop())
            await store.save(fresh, visit.response)
            assert visit.sent == []
        async with old.visit() as visit:
            assert not (await store.get(visit.request)).is_new
        async with visitor.visit() as visit:
            fresh = store.new(visit.request)
            fresh.value.count = 1
            await store.save(fresh, visit.response)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).value.count == 1
        if not self.is_client_held or self.revokes:
            async with old.visit() as visit:
                assert (await store.get(visit.request)).is_new

    async def test_require_wants_a_stored_session(self, make_store: MakeStore) -> None:
        """R3."""
        store = make_store(Shop)
        async with Visitor().visit() as visit:
            with pytest.raises(NoSessionError):
                await store.require(visit.request)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        async with visitor.visit() as visit:
            assert (await store.require(visit.request)).value.tags == {"a"}

    async def test_without_a_response_a_token_cannot_be_told(self, make_store: MakeStore) -> None:
        """R14: ResponseStartedError, and nothing is written."""
        store = make_store(Shop)
        async with Visitor().visit() as visit:
            session = await store.get(visit.request)
            session.value.count = 1
            with pytest.raises(ResponseStartedError):
                await store.save(session)
            assert session.handle == ""
            await store.save(session, visit.response)
            assert len(visit.tokens) == 1

    async def test_what_is_too_large_is_refused_and_the_old_stays(self, make_store: MakeStore) -> None:
        """S18, R11."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.value.notes["long"] = "".join(map(str, range(100_000)))
            with pytest.raises(SessionTooLargeError) as caught:
                await store.save(session, visit.response)
            assert caught.value.size > caught.value.limit
            assert visit.sent == []
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).value == Shop(tags={"a"})

    async def test_csrf_tokens_are_masked_and_bound_to_session_and_epoch(self, make_store: MakeStore) -> None:
        """SECURITY: ASVS 5 3.5.1."""
        store, visitor = make_store(Shop), Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert not session.check_csrf("")
            first = session.csrf_token()
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            second = session.csrf_token()
            assert first != second
            assert session.check_csrf(first)
            assert session.check_csrf(second)
            for bad in ("", "A" * len(first), first[:-1], first + "AA", "\xff", "é", first[::-1]):
                assert not session.check_csrf(bad)
            session.set_user("ann")
            assert not session.check_csrf(first), "a token of before the login"
            third = session.csrf_token()
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert session.check_csrf(third)
            assert not session.check_csrf(first)
        async with Visitor().visit() as visit:
            assert not (await store.get(visit.request)).check_csrf(third)

    # lifetimes

    async def test_an_idle_session_ends(self, make_store: MakeStore, clock: MovableClock) -> None:
        """X1, R15: use extends it, at one write per touch window."""
        store = make_store(Shop, lifetime=Lifetime(HOUR, 100 * HOUR))
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        for _ in range(5):
            await clock.advance(3000)
            async with visitor.visit() as visit:
                session = await store.get(visit.request)
                assert not session.is_new
                assert (datetime.fromtimestamp(clock.now(), UTC) - session.seen_at).total_seconds() <= 3000
                await store.save(session, visit.response)
        await clock.advance(3601)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).is_new

    async def test_a_look_without_touch_extends_nothing(self, make_store: MakeStore, clock: MovableClock) -> None:
        """R15."""
        store = make_store(Shop, lifetime=Lifetime(HOUR))
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        await clock.advance(3500)
        async with visitor.visit() as visit:
            session = await store.get(visit.request, touch=False)
            await store.save(session, visit.response)
            assert visit.sent == []
        await clock.advance(101)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).is_new

    async def test_a_timed_cookie_is_sent_again_while_it_is_in_use(
        self, make_store: MakeStore, clock: MovableClock
    ) -> None:
        """R15, X3: once per touch window; in a header, which has no Max-Age, only what the client holds."""
        store = make_store(Shop, lifetime=Lifetime(24 * HOUR, 720 * HOUR, cookie=24 * HOUR))
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        is_sent = self.is_client_held or not visitor.headers
        for _ in range(3):
            await clock.advance(20 * 3600)
            for is_due in (True, False):
                async with visitor.visit() as visit:
                    session = await store.get(visit.request)
                    assert session.value.tags == {"a"}
                    await store.save(session, visit.response)
                assert len(visit.tokens) == (is_sent and is_due)
                assert visitor.headers or all("; Max-Age=86400;" in token for token in visit.tokens)

    async def test_the_absolute_deadline_holds_however_busy(self, make_store: MakeStore, clock: MovableClock) -> None:
        """X2: also for a token that is replayed, also when a request spans it; X4: regenerate does not move it."""
        store = make_store(Shop, lifetime=Lifetime(HOUR, 3 * HOUR))
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        held: list[Session[Shop]] = []
        for minutes in (50, 50, 50):
            await clock.advance(60 * minutes)
            async with visitor.visit() as visit:
                session: Session[Shop] = await store.get(visit.request)
                assert not session.is_new
                session.value.count += 1
                session.regenerate()
                await store.save(session, visit.response)
                held.append(session)
        await clock.advance(60 * 30)
        assert held[-1].is_expired
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).is_new

    async def test_a_login_restarts_the_absolute_clock(self, make_store: MakeStore, clock: MovableClock) -> None:
        """X4."""
        store = make_store(Shop, lifetime=Lifetime(None, 3 * HOUR))
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        await clock.advance(2 * 3600)
        await self.with_session(store, lambda session: session.set_user("ann"), visitor)
        await clock.advance(2 * 3600)
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert session.user_id == "ann"
            assert session.expires_at == session.authenticated_at + 3 * HOUR

    async def test_a_clock_that_jumps_back_revives_nothing(self, make_store: MakeStore, clock: MovableClock) -> None:
        """X5."""
        store = make_store(Shop, lifetime=Lifetime(HOUR))
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        await clock.advance(4000)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).is_new
        clock.time -= 4000
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).is_new

    # security, as far as a store alone can show it

    async def test_a_token_is_bound_to_its_namespace(self, make_store: MakeStore) -> None:
        """F8."""
        visitor = await self.with_value(make_store(Shop, namespace="one"), lambda shop: shop.tags.add("a"))
        for namespace in ("two", "", "one/"):
            async with visitor.visit() as visit:
                assert (await make_store(Shop, namespace=namespace).get(visit.request)).is_new
        with pytest.raises(ConfigError):
            make_store(Shop, namespace="a:b")

    # everybody

    async def test_everybody_is_logged_out(self, make_store: MakeStore) -> None:
        """F4: users and strangers, of all names of this namespace and of no other; who begins later is in."""
        store, admin = make_store(Shop, namespace="shop"), make_store(Shop, namespace="shop", name="admin")
        inside = [
            (store, await self.with_value(store, lambda shop: shop.tags.add("a"))),
            (store, await self.with_session(store, lambda session: session.set_user("ann"))),
            (admin, await self.with_session(admin, lambda session: session.set_user("bob"))),
        ]
        outside: list[tuple[Any, Visitor]] = []
        for namespace in ("", "sho", "shop2", "shop/"):
            other = make_store(Shop, namespace=namespace)
            outside.append((other, await self.with_session(other, lambda session: session.set_user("ann"))))
        if not (self.revokes if self.is_client_held else self.lists):
            with pytest.raises(UnsupportedError):
                await store.delete_all()
            return

        for turn in range(2):
            assert await store.delete_all() == (0 if self.is_client_held or turn else 3)
        for each, visitor in inside:
            async with visitor.visit() as visit:
                assert (await each.get(visit.request)).is_new, "a session is back"
        for each, visitor in outside:
            async with visitor.visit() as visit:
                assert (await each.get(visit.request)).user_id == "ann", "a session of another namespace has ended"
        for user in (None, "ann"):
            visitor = await self.with_session(store, lambda session: session.flash("hello"))
            if user is not None:
                await self.with_session(store, lambda session: session.set_user("ann"), visitor)
            await self.with_session(store, lambda session: setattr(session.value, "count", 1), visitor)
            async with visitor.visit() as visit:
                assert (await store.get(visit.request)).value.count == 1

    @pytest.mark.parametrize("change", ["value", "touch", "regenerate", "clear_user", "new", "update"])
    async def test_what_a_request_holds_while_everybody_is_logged_out_stays_out(
        self, make_store: MakeStore, change: str
    ) -> None:
        """F4, F14: whatever it then writes; only a login is a session of its own."""
        if not (self.revokes if self.is_client_held else self.lists):
            pytest.skip("nobody can be logged out by this store alone")
        store = make_store(Shop)

        def count(shop: Shop) -> None:
            shop.count += 1

        visitor = await self.with_session(store, lambda session: session.set_user("ann"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            await store.delete_all()
            if change == "new":
                session = store.new(visit.request)
                session.value.count = 1
            elif change == "value":
                session.value.count = 1
            elif change != "update":
                getattr(session, change)()
            if change == "update":
                session._reply.is_managed = True
                with pytest.raises(NoSessionError):
                    await store.update(session, count)
            await store.save(session, visit.response)
            assert not visit.tokens or change == "new", "a token of a session that has ended"
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            assert session.user_id is None
            assert session.is_new or change == "new"
            session.set_user("ann")
            await store.delete_all()
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).user_id == "ann"

    async def test_all_sessions_are_listed(self, make_store: MakeStore, clock: MovableClock) -> None:
        """X1, X2: whose they are and what they hold, of all names; none that has ended."""
        if self.is_client_held:
            assert not hasattr(make_store(Shop), "sessions")
            return
        store = make_store(Shop, namespace="shop")
        brief = make_store(Shop, namespace="shop", lifetime=Lifetime(HOUR))
        await self.with_session(brief, lambda session: session.set_user("carl"))
        await clock.advance(3601)
        await self.with_session(store, lambda session: session.set_user("ann"))
        await self.with_value(store, lambda shop: shop.tags.add("a"))
        await self.with_value(
            make_store(Other, namespace="shop", name="other"), lambda other: setattr(other, "cart", "x")
        )
        await self.with_value(make_store(Shop, namespace="shop2"), lambda shop: shop.tags.add("b"))
        if not self.lists:
            with pytest.raises(UnsupportedError):
                await anext(store.sessions())
            return

        infos = [info async for info in store.sessions()]
        assert sorted((info.name, info.user_id or "") for info in infos) == [("app", ""), ("app", "ann"), ("other", "")]
        for info in infos:
            if info.name == "other":
                with pytest.raises(DecodeError, match="cart"):
                    _ = info.value
            else:
                assert info.value == Shop(tags=set() if info.user_id else {"a"})

    async def test_update_applies_a_change(self, make_store: MakeStore) -> None:
        """F3: in place or by returning another value."""
        store = make_store(Shop)
        visitor = await self.with_value(store, lambda shop: shop.tags.add("a"))
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            if self.is_client_held:
                session._reply.is_managed = True

            def count(shop: Shop) -> None:
                shop.count += 1

            assert (await store.update(session, count)).count == 1

            def another(shop: Shop) -> Shop:
                return Shop(count=shop.count + 1)

            result = await store.update(session, another)
            assert result.count == session.value.count == 2
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            assert (await store.get(visit.request)).value == Shop(count=2)

    # helpers

    async def with_session(
        self, store: Any, change: Callable[[Session[Any]], Any], visitor: Visitor | None = None
    ) -> Visitor:
        """A visitor, after one request that did this."""
        visitor = visitor or Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            change(session)
            await store.save(session, visit.response)
        return visitor

    async def with_value(self, store: Any, change: Callable[[Any], Any], visitor: Visitor | None = None) -> Visitor:
        """A visitor, after one request that changed the value so."""
        return await self.with_session(store, lambda session: change(session.value), visitor)
