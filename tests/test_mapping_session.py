"""The session of a `dict[str, V]` reads and changes like the dict it holds, and no other session does."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from starlette.responses import JSONResponse

from aiosessions import (
    EncodeError,
    KeyExistsError,
    MappingSession,
    MemoryStorer,
    NoKeyError,
    Session,
    SessionError,
    StorageOverseer,
)
from aiosessions.testing.suites_store import Visitor

pytestmark = pytest.mark.anyio

PAGES = {"pages": 1, "visits": 2}


@dataclass
class Cart:
    count: int = 0


class ReadOnly(Mapping[str, int]):
    """A mapping that has no `|` of its own."""

    def __init__(self, items: dict[str, int]) -> None:
        self._items = items

    def __getitem__(self, key: str) -> int:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


@pytest.fixture
def store() -> StorageOverseer[dict[str, int]]:
    return StorageOverseer(dict[str, int], MemoryStorer(), clean_every=None, default=PAGES.copy)


@pytest.fixture
async def session(store: StorageOverseer[dict[str, int]]) -> MappingSession[int]:
    async with Visitor().visit() as visit:
        return await store.get(visit.request)


async def of(value_type: Any) -> Session[Any]:  # Any: stores of any types
    store: StorageOverseer[Any] = StorageOverseer(value_type, MemoryStorer(), clean_every=None)
    async with Visitor().visit() as visit:
        return await store.get(visit.request)


async def test_a_session_of_a_dict_is_a_mutable_mapping(session: MappingSession[int]) -> None:
    """V6: a real one, with all that a mapping has."""
    assert isinstance(session, MappingSession)
    assert isinstance(session, Session)
    assert isinstance(session, MutableMapping)
    session["lang"] = 3
    session.update({"pages": 4}, visits=5)
    assert session.value == {"pages": 4, "visits": 5, "lang": 3}
    assert [list(session), list(reversed(session))] == [["pages", "visits", "lang"], ["lang", "visits", "pages"]]
    assert list(session.items()) == [("pages", 4), ("visits", 5), ("lang", 3)]
    assert [list(session.keys()), list(session.values())] == [["pages", "visits", "lang"], [4, 5, 3]]
    assert session.keys() & {"lang", "theme"} == {"lang"}
    assert dict(session) == {**session} == session.value
    assert session.setdefault("pages", 9) == session.get("pages") == 4
    assert session.get("theme") is None
    assert session.pop("lang") == 3
    assert session.popitem() == ("visits", 5)
    match session:
        case {"pages": pages}:
            assert pages == 4
        case _:
            pytest.fail("a pattern finds no mapping")


async def test_it_is_the_value_it_has_now(session: MappingSession[int]) -> None:
    """V6: also where the handler has assigned another."""
    session.value = {"lang": 7}
    assert (session["lang"], len(session), "pages" in session) == (7, 1, False)


@pytest.mark.parametrize("kind", [dict[str, int], dict[str, Any], dict], ids=str)
async def test_every_dict_of_str_gives_one(kind: Any) -> None:
    """V6."""
    session: Any = await of(kind)
    assert (len(session), bool(session)) == (0, False)
    assert isinstance(session, MappingSession)


@pytest.mark.parametrize("kind", [Cart, str, list[str], dict[int, str]], ids=str)
async def test_a_session_of_anything_else_is_true_and_has_no_length(kind: Any) -> None:
    """V6: only for `dict[str, V]`."""
    session: Any = await of(kind)
    assert session
    assert not isinstance(session, Mapping)
    for ask in (len, iter, reversed, list, dict):
        with pytest.raises(TypeError):
            ask(session)
    with pytest.raises(TypeError):
        session["count"]
    with pytest.raises(TypeError):
        assert "count" in session


async def test_a_missing_key_is_an_error_of_ours_and_a_key_error(session: MappingSession[int]) -> None:
    """V6: wherever a dict raises a KeyError."""
    with pytest.raises(NoKeyError, match=r"^theme$") as caught:
        session["theme"]
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, SessionError)
    with pytest.raises(NoKeyError):
        session.pop("theme")
    with pytest.raises(NoKeyError):
        del session["theme"]
    assert session.pop("theme", None) is None
    assert session.value == PAGES
    session.clear()
    with pytest.raises(NoKeyError, match="empty"):
        session.popitem()


async def test_a_missing_key_shows_no_other_error_behind_it(session: MappingSession[int]) -> None:
    """V8: the traceback ends where the session was asked."""
    for ask in (lambda: session["theme"], lambda: session.pop("theme"), lambda: session.__delitem__("theme")):
        with pytest.raises(NoKeyError) as caught:
            ask()
        assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


async def test_add_refuses_a_key_that_is_there(session: MappingSession[int]) -> None:
    """V6."""
    session.add("lang", 1)
    with pytest.raises(KeyExistsError, match=r"^lang$") as caught:
        session.add("lang", 2)
    assert isinstance(caught.value, KeyError)
    assert session["lang"] == 1


async def test_a_copy_and_a_union_are_plain_dicts_of_their_own(session: MappingSession[int]) -> None:
    """V6: what is done to them changes no session."""
    lang = {"lang": 3, "visits": 9}
    for other in (lang, OrderedDict(lang), MappingProxyType(lang), ReadOnly(lang)):
        assert session | other == {"pages": 1, "visits": 9, "lang": 3}
        assert list((other | session).items()) == [("lang", 3), ("visits", 2), ("pages", 1)]
    nothing: dict[str, int] = {}
    for made in (session.copy(), session | nothing, nothing | session, session | session):
        assert type(made) is dict
        assert made == PAGES
        made["pages"] = 7
    assert session.value == PAGES
    with pytest.raises(TypeError):
        session | [("lang", 3)]  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    with pytest.raises(TypeError):
        None | session  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


async def test_a_union_in_place_changes_the_session_itself(session: MappingSession[int]) -> None:
    """V6."""
    same = session
    session |= {"visits": 9}
    session |= [("lang", 3)]
    assert session is same
    assert session.value == {"pages": 1, "visits": 9, "lang": 3}


async def test_it_equals_mappings_of_the_same_items(session: MappingSession[int]) -> None:
    """V6: a dict, and another session's mapping."""
    other = await of(dict[str, int])
    nothing: object = None
    assert session == PAGES
    assert session == PAGES
    assert session == MappingProxyType(PAGES)
    assert ReadOnly(PAGES) == session
    assert session != {"pages": 1}
    assert session != other
    assert session != nothing
    other.value = dict(PAGES)
    assert session == other


async def test_like_a_dict_it_has_no_hash(session: MappingSession[int]) -> None:
    """V6: what equals whatever it holds, and changes, is no key."""
    with pytest.raises(TypeError, match="unhashable type"):
        hash(session)


async def test_its_str_is_that_of_its_dict_and_its_repr_shows_no_value(session: MappingSession[int]) -> None:
    """V6, V8."""
    assert (str(session), f"{session}") == (str(PAGES), str(PAGES))
    assert "visits" not in repr(session)


async def test_its_value_goes_into_a_json_response(session: MappingSession[int]) -> None:
    """V6: as its documentation says; the session itself is nothing that an encoder knows."""
    assert "`session.value`" in (MappingSession.__doc__ or "")
    assert JSONResponse(session.value).body == b'{"pages":1,"visits":2}'
    with pytest.raises(TypeError):
        JSONResponse(session)


async def test_no_log_line_has_its_str(caplog: pytest.LogCaptureFixture) -> None:
    """V8: of a session that is made, logged in, written by two, refused and ended it is told, and not what it holds."""
    caplog.set_level("DEBUG")
    store = StorageOverseer(dict[str, Any], MemoryStorer(), clean_every=None)
    visitor = Visitor()

    async def change(act: Callable[[MappingSession[Any]], object], *, by: Visitor = visitor) -> None:
        async with by.visit() as visit:
            session = await store.get(visit.request)
            act(session)
            await store.save(session, visit.response)

    await change(lambda session: session.update(word="geheim"))
    await change(lambda session: session.set_user("ann"))
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        await change(lambda other: other.update(word="geheim 1"))
        session["word"] = "geheim 2"
        await store.save(session, visit.response)
    with pytest.raises(EncodeError):
        await change(lambda session: session.update(word=("geheim", object())))
    await change(lambda session: session.destroy())
    assert {"created", "regenerated", "merged", "destroyed"} <= set(caplog.text.split())
    assert "geheim" not in caplog.text


async def test_what_is_changed_through_it_is_saved(store: StorageOverseer[dict[str, int]]) -> None:
    """V6, V3."""
    visitor = Visitor()
    async with visitor.visit() as visit:
        session = await store.get(visit.request)
        session |= {"lang": 3}
        session.pop("visits")
        await store.save(session, visit.response)
    async with visitor.visit() as visit:
        session = await store.require(visit.request)
        assert session == {"pages": 1, "lang": 3}
        assert isinstance(store.new(visit.request), MappingSession)


class TestClear:
    """What `clear` takes with it."""

    @pytest.fixture
    async def visitor(self, store: StorageOverseer[dict[str, int]]) -> Visitor:
        """Somebody who is logged in, and whom a message waits for."""
        visitor = Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.set_user("ann")
            session.label = "Firefox on Linux"
            session.flash("Welcome")
            await store.save(session, visit.response)
        return visitor

    @pytest.mark.parametrize("options", [{}, {"keep": None}, {"keep": ()}], ids=repr)
    async def test_clear_empties_the_session_and_unbinds_the_user(
        self,
        store: StorageOverseer[dict[str, int]],
        visitor: Visitor,
        options: Any,  # Any: keyword arguments
    ) -> None:
        """V6, V7: as `clear_user` does, older tokens included."""
        older = visitor.copy()
        async with visitor.visit() as visit:
            session = await store.require(visit.request)
            session.clear(**options)
            assert (session.value, session.user_id, session.label, session.flashes()) == ({}, None, None, [])
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.require(visit.request)
            assert (session.value, session.user_id, session.label, session.flashes()) == ({}, None, None, [])
        async with older.visit() as visit:
            assert (await store.get(visit.request)).is_new

    @pytest.mark.parametrize("keep", [("pages", "theme"), ["pages"], {"pages"}], ids=repr)
    async def test_clear_with_keep_leaves_those_keys_and_the_user(
        self, store: StorageOverseer[dict[str, int]], visitor: Visitor, keep: Any
    ) -> None:
        """V6."""
        tokens = visitor.tokens
        async with visitor.visit() as visit:
            session = await store.require(visit.request)
            session.clear(keep=keep)
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.require(visit.request)
            assert (session.value, session.user_id, session.label) == ({"pages": 1}, "ann", "Firefox on Linux")
            assert [flash.message for flash in session.flashes()] == ["Welcome"]
        assert visitor.tokens == tokens

    async def test_clear_of_a_session_without_a_user_is_a_change_like_another(
        self, store: StorageOverseer[dict[str, int]]
    ) -> None:
        """V6, R4: the token stays, and what waits to be shown too."""
        visitor = Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.flash("Welcome")
            await store.save(session, visit.response)
        tokens = visitor.tokens
        async with visitor.visit() as visit:
            session = await store.require(visit.request)
            session.clear()
            await store.save(session, visit.response)
        async with visitor.visit() as visit:
            session = await store.require(visit.request)
            assert session == {}
            assert [flash.message for flash in session.flashes()] == ["Welcome"]
        assert visitor.tokens == tokens

    async def test_clear_of_a_new_empty_session_stores_nothing(self) -> None:
        """R3."""
        store = StorageOverseer(dict[str, int], MemoryStorer(), clean_every=None)
        visitor = Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.clear()
            await store.save(session, visit.response)
        assert visitor.tokens == {}

    async def test_clear_takes_back_a_login_of_the_same_request(self, store: StorageOverseer[dict[str, int]]) -> None:
        """V7."""
        visitor = Visitor()
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.set_user("ann")
            session.clear()
            await store.save(session, visit.response)
            assert session.user_id is None
        assert await store.user_sessions("ann") == []


async def test_a_session_by_its_handle_is_one_too(store: StorageOverseer[dict[str, int]]) -> None:
    """V6: for jobs."""
    async with Visitor().visit() as visit:
        session = await store.get(visit.request)
        session.set_user("ann")
        await store.save(session, visit.response)
    opened = await store.open(session.handle, user_id="ann")
    assert isinstance(opened, MappingSession)
    assert opened == PAGES
