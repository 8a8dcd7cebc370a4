"""Two writers of one document: what each did survives, and what cannot is told."""

import dataclasses
import datetime as dt
import decimal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, NewType, NotRequired, Required, TypedDict, TypeVar, cast

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosessions._errors import ConfigError, ConflictError
from aiosessions.values.codecs import CheckedCodec, Codec, JSONCodec, MessagePackCodec, PydanticCodec, codec_for
from aiosessions.values.merge import Merge, Merged, Merger

G = TypeVar("G")


@Merge.ATOMIC
@dataclass
class Money:
    amount: int = 0
    currency: str = "EUR"


@dataclass
class Item:
    sku: str = ""
    qty: int = 1
    marks: set[str] = field(default_factory=set[str])


@dataclass
class Prefs:
    theme: str = "light"
    lang: str = "en"
    more: "Prefs | None" = None


@dataclass
class App:
    visits: Annotated[int, Merge.ADD] = 5
    ratio: Annotated[float, Merge.ADD] = 0.0
    owed: Annotated[decimal.Decimal | None, Merge.ADD] = None
    last: Annotated[dt.datetime | None, Merge.MAX] = None
    best: Annotated[decimal.Decimal, Merge.MAX] = decimal.Decimal(0)
    longest: Annotated[dt.timedelta, Merge.MAX] = dt.timedelta(0)
    seen: Annotated[list[int], Merge.UNION] = field(default_factory=list[int])
    tags: set[str] = field(default_factory=set[str])
    cart: list[Item] = field(default_factory=list[Item])
    price: Money = field(default_factory=Money)
    was: Money | None = None
    pair: Annotated[dict[str, int], Merge.ATOMIC] = field(default_factory=dict[str, int])
    prefs: Prefs = field(default_factory=Prefs)
    state: Annotated[str, Merge.RAISE] = ""
    counts: dict[str, Annotated[int, Merge.ADD]] = field(default_factory=dict[str, int])
    place: tuple[int, ...] = ()
    note: str = ""
    anything: Any = None


@attrs.define
class Attrs:
    n: Annotated[int, Merge.ADD] = 0
    name: str = ""


class Typed(TypedDict, total=False):
    n: Annotated[int, Merge.ADD]
    names: set[str]
    price: Money


class Cat(msgspec.Struct, tag=True, omit_defaults=True, rename="camel"):
    lives_left: Annotated[int, Merge.ADD] = 9
    names: list[str] = []
    colour: str = ""


class Dog(msgspec.Struct, tag=True):
    tricks: int = 0
    colour: str = ""


class Row(msgspec.Struct, array_like=True, frozen=True):
    x: int = 0
    y: int = 0


class Point(NamedTuple):
    x: int = 0
    y: int = 0


class Zoo(msgspec.Struct):
    pet: Cat | Dog | None = None
    pets: list[Cat | Dog] = []
    row: Row = Row()
    spare: Row | None = None
    point: Point = Point()
    limited: Annotated[list[int], msgspec.Meta(max_length=2)] = []


@dataclass
class Box(Generic[G]):
    content: G
    others: dict[str, G] = field(default_factory=dict[str, G])


class Model(pydantic.BaseModel):
    n: Annotated[int, Merge.ADD] = pydantic.Field(default=0, alias="theNumber")
    owed: Annotated[decimal.Decimal, Merge.ADD] = decimal.Decimal(0)
    last: Annotated[dt.datetime | None, Merge.MAX] = None
    tags: set[str] = set()
    by_name: dict[str, Prefs] = {}
    price: Money = Money()
    anything: pydantic.JsonValue = None


class Root(pydantic.RootModel[dict[str, Annotated[int, Merge.ADD]]]):
    pass


JSON = JSONCodec(App)
PACK = MessagePackCodec(App)
MERGERS: list[tuple[CheckedCodec[App], Merger[App]]] = [(JSON, Merger(JSON)), (PACK, Merger(PACK))]


@pytest.fixture(params=MERGERS, ids=["json", "msgpack"])
def merged(request: pytest.FixtureRequest) -> Callable[..., Merged[App]]:
    codec, merger = cast("tuple[CheckedCodec[App], Merger[App]]", request.param)

    def merged(base: App, ours: dict[str, object], theirs: dict[str, object], **options: Any) -> Merged[App]:
        sides = [dataclasses.replace(deepcopy(base), **cast("dict[str, Any]", side)) for side in (ours, theirs)]
        return merger.merge(codec.encode(base), codec.encode(sides[0]), codec.encode(sides[1]), **options)

    return merged


def merge_of(value_type: Any, base: object, ours: object, theirs: object, **options: Any) -> Merged[Any]:
    codec = codec_for(value_type, json=True)
    return Merger(codec).merge(codec.encode(base), codec.encode(ours), codec.encode(theirs), **options)


def utc(hour: int, offset: int = 0) -> dt.datetime:
    return dt.datetime(2026, 1, 1, hour, tzinfo=dt.timezone(dt.timedelta(hours=offset)))


def test_different_fields_survive_side_by_side_however_deep(merged: Callable[..., Merged[App]]) -> None:
    """F3: two writers, different fields: both survive."""
    base = App(prefs=Prefs(more=Prefs()), anything={"a": {"x": 1}, "gone": 1, "left": 1})

    result = merged(
        base,
        {"prefs": Prefs("dark", more=Prefs(lang="de")), "anything": {"a": {"x": 1, "o": 1}, "left": 1}},
        {"prefs": Prefs(lang="fr", more=Prefs("blue")), "anything": {"a": {"x": 2}, "gone": 1, "t": 1}},
    )

    assert result.value.prefs == Prefs("dark", "fr", Prefs("blue", "de"))
    assert result.value.anything == {"a": {"x": 2, "o": 1}, "t": 1}
    assert result.conflicts == ()


D = decimal.Decimal
FIELDS: list[tuple[str, Any, Any, Any, Any]] = [
    ("visits", 5, 6, 7, 8),
    ("visits", 5, 6, 6, 7),
    ("ratio", 0.5, 1.5, 0.25, 1.25),
    ("owed", D("1"), D("1.10"), D("1e30"), D("1000000000000000000000000000000.10")),
    ("owed", None, decimal.Decimal(1), decimal.Decimal(2), decimal.Decimal(3)),
    ("last", utc(1), utc(23, 14), utc(12), utc(12)),
    ("last", None, utc(3), utc(2), utc(3)),
    ("best", D("1"), D("10"), D("9.5"), D("10")),
    ("longest", dt.timedelta(1), dt.timedelta(10), dt.timedelta(hours=30), dt.timedelta(10)),
    ("seen", [1, 2, 3], [2, 3, 4], [1, 2, 5], [2, 5, 4]),
    ("tags", {"a", "b", "c"}, {"a", "b", "o"}, {"b", "c", "t"}, {"b", "o", "t"}),
    ("cart", [Item("a")], [Item("a"), Item("o")], [Item("a"), Item("t")], [Item("a"), Item("t"), Item("o")]),
    ("cart", [], [Item("same")], [Item("same")], [Item("same"), Item("same")]),
    ("cart", [Item("a")], [Item("o"), Item("a")], [Item("a"), Item("t")], [Item("o"), Item("a"), Item("t")]),
    (
        "cart",
        [Item("a"), Item("b")],
        [Item("o"), Item("a"), Item("b")],
        [Item("t"), Item("a"), Item("b")],
        [
            Item("t"),
            Item("o"),
            Item("a"),
            Item("b"),
        ],
    ),
    ("anything", [1, 2], [0, 1, 1.5, 2, 3], [1, 1, 2, 4], [0, 1, 1, 1.5, 2, 4, 3]),
    ("anything", [1], [1, 1], [0, 1], [0, 1, 1]),
    ("anything", [[1], {"a": 1}], [[1], "o", {"a": 1}], ["t", [1], {"a": 1}], ["t", [1], "o", {"a": 1}]),
    ("counts", {}, {"a": 1, "b": 1}, {"a": 1}, {"a": 2, "b": 1}),
    ("counts", {"a": 1, "gone": 1}, {"a": 2}, {"a": 1, "gone": 1, "t": 1}, {"a": 2, "t": 1}),
    ("anything", {}, {"list": [1]}, {"list": [2]}, {"list": [2, 1]}),
    ("anything", {}, {"new": {"a": 1}}, {"new": {"b": 1}}, {"new": {"a": 1, "b": 1}}),
    ("state", "", "same", "same", "same"),
    ("note", "", "same", "same", "same"),
    ("price", Money(), Money(7), Money(7), Money(7)),
]


@pytest.mark.parametrize(("name", "base", "ours", "theirs", "expected"), FIELDS)
def test_what_both_did_to_a_field_is_put_together_by_its_rule(
    merged: Callable[..., Merged[App]], name: str, base: Any, ours: Any, theirs: Any, expected: Any
) -> None:
    """F3: lists that only grew and sets unite, annotated fields follow their rule, equal changes are none."""
    start = dataclasses.replace(App(), **{name: base})

    result = merged(start, {name: ours}, {name: theirs}, on_conflict="raise")

    assert getattr(result.value, name) == expected
    assert result.conflicts == ()


CONFLICTS: list[tuple[str, Any, Any, Any]] = [
    ("note", "", "ours", "theirs"),
    ("price", Money(1), Money(2, "EUR"), Money(1, "USD")),
    ("was", None, Money(1), Money(2, "USD")),
    ("pair", {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}),
    ("cart", [Item("a")], [], [Item("a"), Item("t")]),
    ("cart", [Item("a")], [Item("a", 2), Item("o")], [Item("t"), Item("a")]),
    ("cart", [Item("a"), Item("b")], [Item("b"), Item("a"), Item("o")], [Item("a"), Item("t"), Item("b")]),
    ("place", (), (1,), (2,)),
    ("owed", decimal.Decimal(1), None, decimal.Decimal(2)),
    ("last", utc(1), utc(2).replace(tzinfo=None), utc(3)),
    ("anything", 1, True, "text"),
    ("anything", 1, [1], [2, 3]),
    ("anything", [1], {"a": 1}, [1, 2]),
]


@pytest.mark.parametrize(("name", "base", "ours", "theirs"), CONFLICTS)
def test_what_no_rule_settles_is_ours_and_told_or_raised_or_overwritten(
    merged: Callable[..., Merged[App]], name: str, base: Any, ours: Any, theirs: Any
) -> None:
    """F3: the rest is `on_conflict`, and never silent."""
    start = dataclasses.replace(App(), **{name: base})

    expected = getattr(merged(start, {name: ours}, {}).value, name)  # as the format gives it back
    result = merged(start, {name: ours, "visits": 6}, {name: theirs, "visits": 6})

    assert getattr(result.value, name) == expected
    assert result.conflicts == (
        (name,) if not (name == "anything" and isinstance(base, int) and ours == [1]) else result.conflicts
    )
    assert result.value.visits == 7
    with pytest.raises(ConflictError, match=f"both changed {name}"):
        merged(start, {name: ours}, {name: theirs}, on_conflict="raise")


def test_numbers_of_more_than_64_bits_are_merged_where_the_codec_writes_them() -> None:
    """F3, V2: JSON does."""
    start, ours, theirs = (JSON.encode(App(seen=seen)) for seen in ([2**70], [2**70, 1], [2**70, 2**80]))
    assert Merger(JSON).merge(start, ours, theirs).value.seen == [2**70, 2**80, 1]
    stored = b'{"cart":[{"sku":"a","qty":%d,"font":1}]}' % 2**70
    assert b'"font":1' in Merger(JSON).carry_unknown(stored, JSON.encode(JSON.decode(stored)))


def test_the_order_in_which_a_set_iterates_is_no_change_of_the_item_that_holds_it(
    merged: Callable[..., Merged[App]],
) -> None:
    """F3, V3: lists of items with sets grow side by side."""
    marks = set(map(str, range(2_000)))
    others = set(map(str, range(2_000, 20_000)))
    roomy = others | marks
    roomy -= others
    assert list(marks) != list(roomy)

    result = merged(
        App(cart=[Item(marks=marks)]),
        {"cart": [Item(marks=roomy), Item("o")]},
        {"cart": [Item(marks=marks), Item("t")]},
    )

    assert result.value.cart == [Item(marks=marks), Item("t"), Item("o")]
    assert result.conflicts == ()


def test_raise_is_a_conflict_error_whatever_the_store_says_and_names_the_field(
    merged: Callable[..., Merged[App]],
) -> None:
    """F3: Merge.RAISE."""
    with pytest.raises(ConflictError, match="both changed state"):
        merged(App(), {"state": "a", "note": "a"}, {"state": "b", "note": "b"})
    assert merged(App(), {"state": "a"}, {"note": "b"}).value == dataclasses.replace(App(), state="a", note="b")


def test_a_conflict_inside_is_named_by_its_path_and_a_key_that_may_be_data_is_not(
    merged: Callable[..., Merged[App]],
) -> None:
    """F3, V8: events and messages name fields, and show no value."""
    base = App(anything={"ada@example.org": 1, "name": 1})

    result = merged(
        base,
        {"prefs": Prefs("a"), "anything": {"ada@example.org": 2, "name": 2}},
        {"prefs": Prefs("b"), "anything": {"ada@example.org": 3, "name": 3}},
    )

    assert result.conflicts == ("prefs.theme", "anything[...]", "anything.name")


def test_a_key_that_one_deleted_and_the_other_changed_is_a_conflict() -> None:
    """F3: ours wins, and says so."""
    kind = dict[str, Any]

    deleted = merge_of(kind, {"a": 1, "b": 1}, {"b": 1}, {"a": 2, "b": 1})
    changed = merge_of(kind, {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"b": 1})

    assert (deleted.value, deleted.conflicts) == ({"b": 1}, ("a",))
    assert (changed.value, changed.conflicts) == ({"b": 1, "a": 2}, ("a",))
    assert merge_of(str, "a", "b", "c").conflicts == ("value",)


def test_a_type_told_by_a_bool_or_a_number_is_a_change() -> None:
    """F3: 1, 1.0 and true are equal in Python, and three things in a document."""
    assert merge_of(dict[str, Any], {"a": 1}, {"a": True}, {"a": 1, "b": 1}).value["a"] is True
    assert merge_of(dict[str, Any], {"a": 1}, {"a": 1, "b": 1}, {"a": True}).value["a"] is True


def test_every_kind_of_class_is_taken_apart_by_its_fields() -> None:
    """F3: attrs, TypedDict, Struct with renamed fields, generic classes, pydantic with aliases and root models."""
    assert merge_of(Attrs, Attrs(), Attrs(1), Attrs(2, "t")).value == Attrs(3, "t")
    typed = merge_of(Typed, Typed(n=1), Typed(n=2, names={"o"}), Typed(n=2, names={"t"}))
    assert typed.value == Typed(n=3, names={"o", "t"})
    assert merge_of(Cat, Cat(), Cat(8), Cat(7, colour="red")).value == Cat(6, colour="red")
    kind = Box[Annotated[int, Merge.ADD]]
    assert merge_of(kind, Box(1), Box(2, {"a": 1}), Box(2, {"a": 1})).value == Box(3, {"a": 2})
    codec = PydanticCodec(Model)
    ours = Model(theNumber=1, owed=decimal.Decimal("1.5"), last=utc(3), tags={"o"}, by_name={"o": Prefs()})
    theirs = Model(theNumber=2, owed=decimal.Decimal(1), last=utc(5, 3), tags={"t"}, anything=[1])
    pydantic_result = Merger(codec).merge(codec.encode(Model()), codec.encode(ours), codec.encode(theirs))
    assert pydantic_result.value == Model(
        theNumber=3,
        owed=decimal.Decimal("2.5"),
        last=utc(3),
        tags={"o", "t"},
        by_name={"o": Prefs()},
        anything=[1],
    )
    roots = PydanticCodec(Root)
    merged = Merger(roots).merge(b"{}", b'{"a":1,"b":1}', b'{"a":1}')
    assert merged.value == Root({"a": 2, "b": 1})


Count = NewType("Count", int)


@dataclass
class Either:
    part: Prefs | list[int] | None = None
    words: dict[str, set[str]] | str = ""
    count: Annotated[Count, Merge.ADD] = Count(0)


class Partly(TypedDict):
    n: Required[Annotated[int, Merge.ADD]]
    tags: NotRequired[set[str]]


def test_unions_new_types_and_required_keys_are_seen_through() -> None:
    """F3: the marker and the type are found under what is wrapped around them."""
    both = merge_of(
        Either, Either(Prefs()), Either(Prefs("o"), count=Count(1)), Either(Prefs(lang="t"), count=Count(1))
    )
    assert both.value == Either(Prefs("o", "t"), count=Count(2))
    lists = merge_of(Either, Either([]), Either([1], {"a": {"o"}}), Either([2], {"a": {"t"}}), on_conflict="merge")
    assert (lists.value, lists.conflicts) == (Either([2, 1], {"a": {"o"}}), ("words",))
    sets = merge_of(
        Either, Either(words={"a": {"x", "y"}}), Either(words={"a": {"x"}}), Either(words={"a": {"y", "z"}})
    )
    assert sets.value.words == {"a": {"z"}}
    keys = merge_of(Partly, Partly(n=1), Partly(n=2, tags={"o"}), Partly(n=3, tags={"t"}))
    assert keys.value == Partly(n=4, tags={"o", "t"})


def test_a_union_is_taken_apart_only_if_all_three_are_of_one_class() -> None:
    """F3: never half a cat and half a dog; array-like structs and named tuples are wholes."""
    both = merge_of(Zoo, Zoo(Cat()), Zoo(Cat(8)), Zoo(Cat(8, ["Tom"])))
    assert (both.value, both.conflicts) == (Zoo(Cat(7, ["Tom"])), ())

    other = merge_of(Zoo, Zoo(Cat(colour="a")), Zoo(Cat(8, colour="b")), Zoo(Dog(colour="c")))
    assert (other.value, other.conflicts) == (Zoo(Cat(8, colour="b")), ("pet",))

    class Home(pydantic.BaseModel):
        owner: Money | Model | Root | None = None

    homes = (Home(owner=Model(theNumber=n)) for n in (0, 1, 2))
    whole = merge_of(Home, *homes)
    assert (whole.value, whole.conflicts) == (Home(owner=Model(theNumber=1)), ("owner",))

    new = merge_of(Zoo, Zoo(), Zoo(Cat(8)), Zoo(Cat(7, ["Tom"])))
    assert (new.value, new.conflicts) == (Zoo(Cat(8)), ("pet",))

    whole = merge_of(Zoo, Zoo(), Zoo(row=Row(1, 0), point=Point(1, 0)), Zoo(row=Row(0, 1), point=Point(0, 1)))
    assert (whole.value, whole.conflicts) == (Zoo(row=Row(1, 0), point=Point(1, 0)), ("row", "point"))
    spare = merge_of(Zoo, Zoo(), Zoo(spare=Row(1, 0)), Zoo(spare=Row(0, 1)))
    assert (spare.value, spare.conflicts) == (Zoo(spare=Row(1, 0)), ("spare",))


def test_a_field_left_out_of_a_document_counts_with_its_default() -> None:
    """F3, V2: documents of an older version, and what `omit_defaults` leaves out."""
    merger = Merger(JSON)

    assert merger.merge(b"{}", b'{"visits":6}', b'{"visits":7}').value.visits == 8
    assert merger.merge(b'{"visits":6}', b"{}", b'{"visits":7}').value.visits == 6
    assert merge_of(Cat, Cat(), Cat(9, ["a"]), Cat(9, ["b"])).value.names == ["b", "a"]


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "why"),
    [
        (Zoo(), Zoo(limited=[1]), Zoo(limited=[2, 3]), "the two changes together do not fit"),
        (Zoo(), Zoo(limited=[1]), b"[]", "what is stored now does not fit"),
    ],
)
def test_a_result_that_does_not_fit_the_type_is_a_conflict_error(base: Zoo, ours: Zoo, theirs: Any, why: str) -> None:
    """F3: the result is checked against T before it is written."""
    codec = JSONCodec(Zoo)
    stored = theirs if isinstance(theirs, bytes) else codec.encode(theirs)

    with pytest.raises(ConflictError, match=why):
        Merger(codec).merge(codec.encode(base), codec.encode(ours), stored)


def test_a_sum_that_is_no_number_and_a_document_too_deep_are_conflicts() -> None:
    """F3: infinity would be written as null."""
    huge = merge_of(App, App(ratio=-1e308), App(ratio=1e308), App(ratio=1.2e308))
    assert (huge.value.ratio, huge.conflicts) == (1e308, ("ratio",))
    not_decimal = merge_of(App, App(), App(owed=decimal.Decimal("sNaN")), App(owed=decimal.Decimal(1)))
    assert not_decimal.conflicts == ("owed",)

    def deep(leaf: int) -> bytes:
        return b'{"a":' * 600 + str(leaf).encode() + b"}" * 600

    with pytest.raises(ConflictError, match="nested too deeply"):
        Merger(JSONCodec(dict[str, Any])).merge(deep(1), deep(2), deep(3))


def test_a_conflict_error_shows_no_value_in_message_context_or_local_variables() -> None:
    """V8: not in our own frames either."""
    caught: list[ConflictError] = []
    for options in ({"on_conflict": "raise"}, {}):
        try:
            merge_of(Zoo, Zoo(), Zoo(Cat(colour="hunter2")), Zoo(Dog(), limited=[1]), **options)
            Merger(JSONCodec(Zoo)).merge(b"{}", b'{"limited":[1]}', b'{"pet":"hunter2"}')
        except ConflictError as error:
            caught.append(error)

    assert len(caught) == 2
    for conflict in caught:
        assert conflict.__context__ is None
        frames = [frame for frame, _ in traceback.walk_tb(conflict.__traceback__)][1:]
        ours = [frame for frame in frames if not frame.f_code.co_filename.endswith("test_merge.py")]
        assert ours
        assert not any("hunter2" in repr(frame.f_locals) for frame in ours)
        assert "hunter2" not in str(conflict)


@pytest.mark.parametrize(
    "kind",
    [
        Annotated[str, Merge.ADD],
        Annotated[bool, Merge.ADD],
        Annotated[dt.timedelta, Merge.ADD],
        Annotated[Any, Merge.ADD],
        Annotated[str, Merge.MAX],
        Annotated[dt.date | int, Merge.MAX],
        Annotated[dict[str, int], Merge.UNION],
    ],
)
def test_a_marker_on_a_type_that_cannot_follow_it_is_a_config_error(kind: Any) -> None:
    """F10's rule for arguments: at construction, naming the field and the fix."""
    holder: type[object] = dataclasses.make_dataclass("Holder", [("part", kind)])

    with pytest.raises(ConfigError, match=r"`\$\.part` needs"):
        Merger(JSONCodec(holder))


def test_only_atomic_marks_a_class_and_the_class_stays_itself() -> None:
    """F3: `@Merge.ATOMIC` on dataclasses with slots, Structs, TypedDicts and models."""

    @Merge.ATOMIC
    @dataclass(slots=True)
    class Slotted:
        a: int = 0
        b: int = 0

    @Merge.ATOMIC
    class AtomicStruct(msgspec.Struct):
        a: int = 0
        b: int = 0

    @Merge.ATOMIC
    class AtomicDict(TypedDict):
        a: int
        b: int

    @Merge.ATOMIC
    class AtomicModel(pydantic.BaseModel):
        a: int = 0
        b: int = 0

    for kind in (Slotted, AtomicStruct, AtomicDict, AtomicModel):
        result = merge_of(kind, kind(a=0, b=0), kind(a=1, b=0), kind(a=0, b=1))
        assert (result.value, result.conflicts) == (kind(a=1, b=0), ("value",))
    with pytest.raises(ConfigError, match="only ATOMIC marks a class"):
        Merge.ADD(Slotted)


NEWER: dict[str, Any] = {
    "visits": 6,
    "prefs": {"theme": "dark", "lang": "en", "more": {"theme": "x", "font": "serif"}, "size": 3},
    "cart": [{"sku": "a", "qty": 1, "marks": ["x", "y"], "gift": True}, {"sku": "b", "qty": 1, "marks": [], "gift": 2}],
    "price": {"amount": 1, "currency": "EUR", "rate": 7},
    "counts": {"a": 1},
    "new": {"a": [1]},
}


def test_unknown_fields_of_a_newer_version_survive_a_write_by_an_older_one() -> None:
    """V2: at the top, in nested classes, in ATOMIC ones, and in the items of lists, moved or changed."""
    for codec, merger in MERGERS:
        stored = codec.dump(NEWER)
        value = codec.decode(stored)
        value.prefs.theme = "light"
        value.cart[1].qty = 5
        value.cart.append(Item("c"))

        written = cast("dict[str, Any]", codec.parse(merger.carry_unknown(stored, codec.encode(value))))

        assert written["new"] == {"a": [1]}
        assert (written["prefs"]["size"], written["prefs"]["theme"]) == (3, "light")
        assert written["prefs"]["more"]["font"] == "serif"
        assert written["price"]["rate"] == 7
        assert [item.get("gift") for item in written["cart"]] == [True, 2, None]
        assert [item["qty"] for item in written["cart"]] == [1, 5, 1]
        value.cart = [Item("b")]
        written = cast("dict[str, Any]", codec.parse(merger.carry_unknown(stored, codec.encode(value))))
        assert [item.get("gift") for item in written["cart"]] == [2]


def test_unknown_fields_survive_a_merge_and_follow_the_newest_document(merged: Callable[..., Merged[App]]) -> None:
    """V2, F3: what we do not know we have not changed."""
    for codec, merger in MERGERS:
        stored = codec.dump(NEWER)
        ours = codec.decode(stored)
        ours.note = "ours"
        theirs = codec.dump({**NEWER, "new": {"a": [1, 2]}, "visits": 8, "newer": 1})

        result = merger.merge(stored, codec.encode(ours), theirs)
        document = cast("dict[str, Any]", codec.parse(result.data))

        assert (document["new"], document["newer"]) == ({"a": [1, 2]}, 1)
        assert (result.value.visits, result.value.note, result.conflicts) == (8, "ours", ())
        assert document["prefs"]["size"] == 3


def test_the_fields_of_one_class_are_not_carried_to_another_of_a_union() -> None:
    """V2: they would not mean the same."""
    codec = JSONCodec(Zoo)
    merger = Merger(codec)
    stored = b'{"pet":{"type":"Cat","fur":1},"pets":[{"type":"Dog","barks":1}]}'

    dog = merger.carry_unknown(stored, codec.encode(Zoo(Dog(), [Cat()])))
    cat = merger.carry_unknown(stored, codec.encode(Zoo(Cat(3), [Dog(), Dog()])))

    assert b"fur" not in dog
    assert b"barks" not in dog
    odd = MessagePackCodec(list[dict[int | str, Prefs]])
    mixed = odd.dump([{1: {"theme": "a", "font": 1}, "1": {}}])
    assert b"font" in Merger(odd).carry_unknown(mixed, odd.encode(odd.decode(mixed)))
    grown = odd.encode([*odd.decode(mixed), {}, {}])
    assert b"font" in Merger(odd).carry_unknown(mixed, grown)
    assert b'"fur":1' in cat
    assert cat.count(b"barks") == 1


def test_a_list_that_decoding_shortens_and_containers_too_deep_for_a_plan_carry_nothing() -> None:
    """V2: better lost than at the wrong item."""

    class Short(pydantic.BaseModel):
        items: list[Prefs] = []

        @pydantic.field_validator("items")
        @classmethod
        def one(cls, items: list[Prefs]) -> list[Prefs]:
            return items[:1]

    short = PydanticCodec(Short)
    stored = b'{"items":[{"theme":"a","font":1},{"theme":"b","font":2}]}'
    assert b"font" not in Merger(short).carry_unknown(stored, short.encode(short.decode(stored)))
    deep = JSONCodec(list[list[list[list[list[list[list[list[list[Prefs]]]]]]]]])
    nested = b"[" * 9 + b'{"font":1}' + b"]" * 9
    assert b"font" not in Merger(deep).carry_unknown(nested, deep.encode(deep.decode(nested)))


def test_nothing_is_carried_where_nothing_is_unknown() -> None:
    """V2: a key that was deleted stays deleted, a field of `extra="allow"` too, and the bytes stay as they are."""

    class Extra(pydantic.BaseModel, extra="allow"):
        n: int = 0

    mapping = JSONCodec(dict[str, Item])
    assert Merger(mapping).carry_unknown(b'{"a":{"sku":"a","x":1}, "b":{}}', b'{"b":{"sku":""}}') == b'{"b":{"sku":""}}'
    plain = JSONCodec(dict[str, int])
    assert Merger(plain).carry_unknown(b"no document", b"{}") == b"{}"
    assert Merger(JSON).carry_unknown(b"no document", b"{}") == b"{}"
    assert Merger(JSON).carry_unknown(b'{"tags":["b","a"]}', b'{"tags":["a"]}') == b'{"tags":["a"]}'
    assert Merger(PydanticCodec(Extra)).carry_unknown(b'{"n":1,"more": 1}', b'{"n":2}') == b'{"n":2}'


def test_a_codec_of_ones_own_merges_by_its_trees() -> None:
    """F3: the Protocol's four methods are enough."""

    class Own:
        is_json = True

        def encode(self, value: Attrs) -> bytes:
            return f"{value.n};{value.name}".encode()

        def decode(self, data: bytes) -> Attrs:
            n, _, name = data.decode().partition(";")
            return Attrs(int(n), name)

        def to_tree(self, value: Attrs) -> object:
            return {"n": value.n, "name": value.name}

        def from_tree(self, tree: object) -> Attrs:
            return Attrs(**cast("dict[str, Any]", tree))

    @dataclass
    class Lost:
        n: "Nowhere" = 0  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]  # noqa: F821 (the point)

    own: Codec[Attrs] = Own()
    merger = Merger(codec_for(Attrs, json=True, codec=own))

    assert merger.merge(b"1;", b"2;", b"2;t") == Merged(b"3;t", Attrs(3, "t"), ())
    assert merger.carry_unknown(b"1;", b"2;") == b"2;"
    assert Merger(codec_for(Item, json=True, codec=cast("Codec[Item]", own))).carry_unknown(b"1;", b"2;") == b"2;"
    lost = Merger(codec_for(Lost, json=True, codec=cast("Codec[Lost]", own)))
    assert lost.merge(b"1;", b"2;", b"1;t").data == b"2;t"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` is a statement of Python 3.12")
def test_a_type_that_holds_itself_has_a_plan() -> None:
    """F3: recursive classes and aliases."""
    scope: dict[str, Any] = {}
    exec("type J = dict[str, J] | list[J] | int", scope)
    alias: Any = scope["J"]
    model = pydantic.create_model("Recursive", j=(alias, 0))

    result = merge_of(model, model(j={"a": [1]}), model(j={"a": [1, 2]}), model(j={"a": [1, 3], "b": 1}))

    assert result.value == model(j={"a": [1, 3, 2], "b": 1})


# Laws

numbers = st.integers(-1000, 1000)
texts = st.text("abc", max_size=2)
items = st.builds(Item, sku=texts, qty=numbers, marks=st.sets(texts, max_size=2))
moments = st.none() | st.builds(utc, st.integers(0, 23), st.integers(-12, 12))
leaves = st.none() | st.booleans() | numbers | texts
trees = st.recursive(
    leaves, lambda part: st.lists(part, max_size=3) | st.dictionaries(texts, part, max_size=3), max_leaves=6
)
apps = st.builds(
    App,
    visits=numbers,
    owed=st.none() | st.decimals(-100, 100, places=2),
    last=moments,
    best=st.decimals(-10, 10, places=1),
    seen=st.lists(numbers, max_size=3, unique=True),
    tags=st.sets(texts),
    cart=st.lists(items, max_size=3),
    price=st.builds(Money, numbers, texts),
    was=st.none() | st.builds(Money, numbers, texts),
    pair=st.dictionaries(texts, numbers, max_size=2),
    prefs=st.builds(Prefs, texts, texts, st.none() | st.builds(Prefs, texts, texts)),
    counts=st.dictionaries(texts, numbers, max_size=3),
    place=st.lists(numbers, max_size=2).map(tuple),
    note=texts,
    anything=trees,
)
sides = st.sampled_from(MERGERS)
NAMES = [part.name for part in dataclasses.fields(App)]


def changed(base: App, other: App, names: Sequence[str]) -> App:
    return dataclasses.replace(base, **{name: getattr(other, name) for name in names})


@given(sides, apps, apps)
def test_law_without_a_concurrent_change_a_merge_is_the_identity(side: Any, base: App, one: App) -> None:
    """F3, V3: what only one changed is as that one left it, without a conflict."""
    codec, merger = side
    before, after = codec.encode(base), codec.encode(one)
    expected = codec.decode(after)

    for ours, theirs in ((after, before), (before, after)):
        result = merger.merge(before, ours, theirs, on_conflict="raise")
        assert result.value == expected
        assert codec.unchanged(result.data, expected, after)
    assert merger.merge(before, before, before).value == codec.decode(before)
    assert codec.unchanged(merger.carry_unknown(before, after), expected, b"")


@given(sides, apps, apps, apps, st.sets(st.sampled_from(NAMES)))
def test_law_disjoint_changes_commute_and_conflict_nowhere(
    side: Any, base: App, one: App, two: App, names: set[str]
) -> None:
    """F3: two writers, different fields: both survive, whoever was first."""
    codec, merger = side
    mine, others = sorted(names), sorted({*NAMES} - names)
    before = codec.encode(base)
    ours, theirs = codec.encode(changed(base, one, mine)), codec.encode(changed(base, two, others))

    first = merger.merge(before, ours, theirs, on_conflict="raise")
    second = merger.merge(before, theirs, ours, on_conflict="raise")

    expected = codec.decode(codec.encode(changed(changed(base, one, mine), two, others)))
    assert first.value == expected
    assert second.value == expected


@given(sides, apps, apps, apps)
def test_law_a_merge_fits_the_type_and_atomic_parts_are_never_mixed(side: Any, base: App, one: App, two: App) -> None:
    """F3: whatever the two did."""
    codec, merger = side
    encoded = [codec.encode(each) for each in (base, one, two)]

    result = merger.merge(*encoded)

    assert codec.check(result.value, codec.encode(result.value)) == result.value
    assert codec.decode(result.data) == result.value
    for name in ("price", "was", "pair", "place"):
        before, ours, theirs = (getattr(codec.decode(data), name) for data in encoded)
        assert getattr(result.value, name) in (ours, theirs)
        assert getattr(result.value, name) == (theirs if ours == before else ours)


@given(st.sampled_from([JSONCodec, MessagePackCodec]), trees, trees, trees)
def test_law_untyped_documents_merge_into_documents(kind: Any, base: object, one: object, two: object) -> None:
    """F3: no shape makes the merge fail, and what one left alone is the other's."""
    codec = kind(dict[str, Any])
    merger = Merger(codec)
    encoded = [codec.encode({"k": each, "same": 1}) for each in (base, one, two)]

    result = merger.merge(*encoded)

    assert result.value["same"] == 1
    assert codec.check(result.value, result.data) == result.value
    if not result.conflicts:
        assert merger.merge(encoded[0], encoded[2], encoded[1]).conflicts == ()


@dataclass
class Line:
    sku: str = ""
    price: float = 0.0


class Some(TypedDict):
    a: int
    b: NotRequired[int]


@dataclass
class Settled:
    """Whatever is encoded comes back with the same spelling."""

    visits: Annotated[int, Merge.ADD] = 0
    ratio: float = 0.5
    seen: Annotated[list[int], Merge.UNION] = field(default_factory=list[int])
    cart: list[Line] = field(default_factory=list[Line])
    price: Money = field(default_factory=Money)
    note: str | None = None
    counts: dict[str, int] = field(default_factory=dict[str, int])
    by_number: dict[int, Annotated[float, Merge.ADD]] = field(default_factory=dict[int, float])
    some: Some = field(default_factory=lambda: Some(a=1))
    row: Row = field(default_factory=Row)
    anything: Any = None


settled = st.builds(
    Settled,
    visits=numbers,
    ratio=st.floats(-10, 10) | numbers,
    seen=st.lists(numbers, max_size=3, unique=True),
    cart=st.lists(st.builds(Line, texts, st.floats(0, 10) | numbers), max_size=3),
    price=st.builds(Money, numbers, texts),
    note=st.none() | texts,
    counts=st.dictionaries(texts, numbers, max_size=3),
    by_number=st.dictionaries(numbers, st.floats(-10, 10) | numbers, max_size=2),
    some=st.fixed_dictionaries({"a": numbers}, optional={"b": numbers}),
    row=st.builds(Row, numbers, numbers),
    anything=trees | st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.sampled_from([JSONCodec, MessagePackCodec]), settled, settled, settled)
def test_law_documents_that_the_codec_wrote_merge_by_the_short_way_as_by_the_long_one(
    kind: Any, base: Settled, one: Settled, two: Settled
) -> None:
    """F3, V2: the same value, the same conflicts; and what it makes is what the codec writes of it."""
    codec = kind(Settled)
    merger = Merger(codec)
    documents = [codec.settled(each, codec.encode(each)) for each in (base, one, two)]
    assert codec.is_settled

    short, long = merger.merge(*documents, are_spelled=True), merger.merge(*documents)

    assert short.value == long.value
    assert Counter(short.conflicts) == Counter(long.conflicts)
    assert short.data == codec.encode(short.value)


@st.composite
def added_to(draw: st.DrawFn, base: list[object]) -> list[object]:
    """A list with what was added to it, anywhere."""
    side = list(base)
    for item in draw(st.lists(leaves, max_size=4)):
        side.insert(draw(st.integers(0, len(side))), item)
    return side


def is_within(part: Sequence[object], whole: Sequence[object]) -> bool:
    """Whether the items are there in their order."""
    rest = iter(map(typed, whole))
    return all(typed(item) in rest for item in part)


def typed(item: object) -> tuple[type, object]:
    return type(item), item


@given(sides, st.data(), st.lists(leaves, max_size=4))
def test_law_lists_that_both_only_added_to_keep_every_addition_in_order(
    side: Any, data: st.DataObject, base: list[object]
) -> None:
    """F3: anywhere, each as often as it was added, and the orders of both."""
    codec, merger = side
    ours, theirs = data.draw(added_to(base)), data.draw(added_to(base))

    result = merger.merge(*(codec.encode(App(anything=each)) for each in (base, ours, theirs)), on_conflict="raise")

    merged = result.value.anything
    expected = Counter(map(typed, ours)) + Counter(map(typed, theirs))
    expected.subtract(map(typed, base))
    assert Counter(map(typed, merged)) == +expected
    assert is_within(ours, merged)
    assert is_within(theirs, merged)


@given(sides, st.lists(items, max_size=3), st.lists(items, max_size=3), st.lists(items, max_size=3))
def test_law_what_both_appended_stays_at_the_end(side: Any, base: list[Item], one: list[Item], two: list[Item]) -> None:
    """F3: also of items that repeat: theirs, then ours."""
    codec, merger = side
    lists = (base, base + one, base + two)

    result = merger.merge(*(codec.encode(App(cart=each)) for each in lists), on_conflict="raise")

    assert result.value.cart == (base + two + one if one and two else base + one + two)


changes = st.fixed_dictionaries(
    {"visits": numbers, "tags": st.sets(texts), "gone": st.sets(texts), "cart": st.lists(items, max_size=2)}
)


@given(sides, apps, st.lists(changes, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_law_sums_sets_and_appends_converge_whatever_the_order(
    side: Any, base: App, edits: list[dict[str, Any]], random: Any
) -> None:
    """F3: each writer started from the same base; the order in which they win does not matter."""
    codec, merger = side
    before = codec.encode(base)

    def after(order: Sequence[dict[str, Any]]) -> App:
        stored = before
        for edit in order:
            value = codec.decode(before)
            value.visits += edit["visits"]
            value.counts["k"] = value.counts.get("k", 0) + edit["visits"]
            value.owed = None if value.owed is None else value.owed + edit["visits"]
            value.tags = (value.tags | edit["tags"]) - edit["gone"]
            value.seen = [n for n in value.seen if n != edit["visits"]] or [edit["visits"]]
            value.cart.extend(edit["cart"])
            stored = merger.merge(before, codec.encode(value), stored, on_conflict="raise").data
        return cast("App", codec.decode(stored))

    shuffled = list(edits)
    random.shuffle(shuffled)
    one, two = after(edits), after(shuffled)

    assert one.visits == two.visits == base.visits + sum(edit["visits"] for edit in edits)
    assert one.counts == two.counts
    assert one.owed == two.owed
    assert one.tags == two.tags
    assert set(one.seen) == set(two.seen)
    assert Counter(map(repr_of, one.cart)) == Counter(map(repr_of, two.cart))
    assert len(one.cart) == len(base.cart) + sum(len(edit["cart"]) for edit in edits)


def repr_of(item: Item) -> str:
    return f"{item.sku} {item.qty} {sorted(item.marks)}"
