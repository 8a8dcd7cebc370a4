"""Values to bytes and back: what goes in comes out, or is refused, and no error shows it."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import pathlib
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict, cast
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from aiosessions._errors import ConfigError, DecodeError, EncodeError, SessionError
from aiosessions.values.codecs import CheckedCodec, Codec, JSONCodec, MessagePackCodec, PydanticCodec, codec_for

BERLIN = ZoneInfo("Europe/Berlin")
SECRET = "hunter2"
NOBODY = uuid.UUID(int=0)


class Colour(enum.Enum):
    RED = "red"


class Flag(enum.StrEnum):
    ON = "on"


class Size(enum.IntEnum):
    BIG = 3


@dataclass
class Item:
    sku: str
    qty: int = 1
    note: float | None = None


@dataclass
class App:
    cart: list[Item] = field(default_factory=list[Item])
    at: dt.datetime | None = None
    tags: set[str] = field(default_factory=set[str])
    name: str = ""
    colour: Colour = Colour.RED
    price: decimal.Decimal = decimal.Decimal(0)
    key: uuid.UUID = NOBODY
    grid: dict[str, list[dict[int, bytes]]] = field(default_factory=dict[str, list[dict[int, bytes]]])


@dataclass(slots=True)
class Slotted:
    n: int = 0
    inner: list[Item] = field(default_factory=list[Item])


@dataclass(eq=False)
class Uncomparable:
    n: int = 0
    at: dt.datetime | None = None
    tags: frozenset[str] = frozenset()


@attrs.define(eq=False)
class UncomparableAttrs:
    n: int = 0
    inner: "UncomparableStruct | None" = None


class UncomparableStruct(msgspec.Struct, eq=False):
    n: float = 0
    words: dict[str, str] = {}


@attrs.define
class Attrs:
    n: int = 0
    names: set[str] = attrs.field(factory=set[str])


class Struct(msgspec.Struct, rename="camel", omit_defaults=True):
    first_name: str = ""
    n: int = 0


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    n: int = 0


class Typed(TypedDict, total=False):
    n: int
    when: dt.date


class Point(NamedTuple):
    x: int = 0
    y: decimal.Decimal = decimal.Decimal(0)


class Picky(msgspec.Struct):
    n: int = 0

    def __post_init__(self) -> None:
        if self.n == 3:
            raise KeyError(SECRET)
        if self.n == 4:
            raise ValueError(SECRET + " - at `$.hunter2`")


class Model(pydantic.BaseModel):
    n: int = pydantic.Field(default=1, alias="theNumber")
    anything: Any = None
    tags: set[str] = set()
    ratio: float | None = None
    cart: list[Item] = []

    @pydantic.field_validator("n")
    @classmethod
    def small(cls, n: int) -> int:
        if n == 3:
            raise ValueError(SECRET)
        if n == 4:
            raise KeyError(SECRET)
        return n


FULL = App(
    cart=[Item("a"), Item("b", 2, 0.5)],
    at=dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    tags={"x", "y"},
    name="Zoë \0 \U0001f36a",
    price=decimal.Decimal("12.340"),
    key=uuid.uuid4(),
    grid={"a": [{1: b"\xff\0"}]},
)
VALUES: list[tuple[Any, Any]] = [
    (App, FULL),
    (Slotted, Slotted(3, [Item("a")])),
    (Uncomparable, Uncomparable(1)),
    (Attrs, Attrs(2, {"a", "b"})),
    (Struct, Struct("Ada", 0)),
    (Typed, Typed(n=1, when=dt.date(2026, 1, 2))),
    (Typed, Typed()),
    (Point, Point(1, decimal.Decimal("2.50"))),
    (str, "text"),
    (int, 2**63 - 1),
    (list[Item], [Item("x")]),
    (dict[str, Any], {"a": 1, "b": [1.5, None, True, {"c": "d"}], "big": 2**63}),
    (dict[str, set[int]], {"a": {1, 2}}),
    (dict[uuid.UUID, tuple[int, str]], {uuid.uuid4(): (1, "a")}),
    (set[int | str], {1, "a"}),
    (dt.timedelta, dt.timedelta(days=2, microseconds=5)),
    (Literal["a", "b"], "a"),
]


@pytest.fixture(params=[JSONCodec, MessagePackCodec])
def codec_of(request: pytest.FixtureRequest) -> Callable[[Any], CheckedCodec[Any]]:  # Any: each test's own type
    return cast("Callable[[Any], CheckedCodec[Any]]", request.param)


def saved(codec: CheckedCodec[Any], value: object) -> Any:  # Any: whatever the codec's type is
    return codec.check(value, codec.encode(value))


def shown(error: BaseException) -> str:
    """All that a log with local variables would hold of the library's own frames."""
    text: list[str] = []
    for each in filter(None, [error, error.__cause__, error.__context__]):
        text.append(f"{each!r} {each}")
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if pathlib.Path(frame.f_code.co_filename).name != pathlib.Path(__file__).name:
                text.append(repr(frame.f_locals))
    return " ".join(text)


@pytest.mark.parametrize(("kind", "value"), VALUES)
def test_what_goes_in_comes_out_with_its_type(
    codec_of: Callable[[Any], CheckedCodec[Any]], kind: Any, value: Any
) -> None:
    """V1: every kind of T, and the scalars inside it, in both formats, through bytes and through trees."""
    codec = codec_of(kind)

    back = saved(codec, value)

    assert type(back) is type(value)
    if kind is not Uncomparable:
        assert back == value
        assert codec.from_tree(codec.to_tree(value)) == value
    again = codec.decode(codec.dump(codec.parse(codec.encode(value))))
    assert codec.unchanged(codec.encode(value), again, codec.encode(again))
    assert codec.is_json is isinstance(codec, JSONCodec)


def test_a_pydantic_model_comes_out_as_it_went_in_under_its_fields_names() -> None:
    """V1: recognised without codec=, also where MessagePack was asked for; aliases do not matter."""
    codec = codec_for(Model, json=False)
    value = Model(theNumber=2, tags={"a", "b"}, cart=[Item("x")], anything={"a": [1]})

    assert isinstance(codec, PydanticCodec)
    assert saved(codec, value) == value
    assert codec.from_tree(codec.to_tree(value)) == value
    assert b'"n":2' in codec.encode(value)


def test_classes_without_equality_are_compared_by_their_fields(
    codec_of: Callable[[Any], CheckedCodec[Any]],
) -> None:
    """V1, V3, V9: and an int in a float field is a float that was written short."""
    codec = codec_of(UncomparableAttrs)
    value = UncomparableAttrs(1, UncomparableStruct(2, {"a": "b"}))

    back = saved(codec, value)

    assert (back.n, back.inner.n, back.inner.words) == (1, 2.0, {"a": "b"})
    assert codec.unchanged(codec.encode(value), back, b"")
    back.inner.words["a"] = "c"
    assert not codec.unchanged(codec.encode(value), back, b"")
    for key in ("b", "c"):
        value.inner = UncomparableStruct(1, {key: cast("str", uuid.uuid4())})
        with pytest.raises(EncodeError, match=rf"\$\.inner\.words\.{key}`: `UUID`"):
            saved(codec, value)


def test_a_time_in_the_hour_that_a_clock_change_repeats_can_be_saved(
    codec_of: Callable[[Any], CheckedCodec[Any]],
) -> None:
    """V1: PEP 495 makes == False there, and the instant is the same all the same."""
    repeated = dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)

    for value in (App(at=repeated), Uncomparable(at=repeated, tags=frozenset("abc"))):
        back = saved(codec_of(type(value)), value)

        assert back.at.timestamp() == repeated.timestamp()


UNFAITHFUL: list[tuple[object, str]] = [
    ((1, 2), "`tuple` would come back as `list`: give the field its type"),
    ({1}, "`set` would come back as `list`: give the field its type"),
    (Colour.RED, "`Colour` would come back as `str`: give the field its type"),
    (decimal.Decimal(1), "`Decimal` would come back as `str`: give the field its type"),
    (dt.datetime(2026, 1, 1), "`datetime` would come back as `str`: give the field its type"),  # noqa: DTZ001 (a naive one is what is tested)
    (uuid.UUID(int=1), "`UUID` would come back as `str`: give the field its type"),
    (Item("a"), "`Item` would come back as `dict`: give the field its type"),
    (float("nan"), ""),
]


@pytest.mark.parametrize(("part", "why"), UNFAITHFUL)
def test_untyped_parts_refuse_what_would_come_back_as_something_else(
    codec_of: Callable[[Any], CheckedCodec[Any]], part: object, why: str
) -> None:
    """V1: in a mapping session, deep in it, and in an untyped field of a class."""
    mixed = dataclasses.make_dataclass("Mixed", [("n", int, 0), ("any", Any, None)])
    cases = [
        (dict[str, Any], {"k": [part]}, "$.k[0]"),
        (dict[str, Any], {"k": part}, "$.k"),
        (mixed, mixed(1, part), "$.any"),
    ]

    for kind, value, path in cases:
        with pytest.raises(EncodeError) as caught:
            saved(codec_of(kind), value)
        assert f"at `{path}`: {why}" in str(caught.value)


EQUALS: list[object] = [Flag.ON, Size.BIG, {Flag.ON: [Size.BIG]}, collections.defaultdict(int, a=1)]


@pytest.mark.parametrize("part", EQUALS, ids=repr)
def test_untyped_parts_come_back_as_their_equals(codec_of: Callable[[Any], CheckedCodec[Any]], part: object) -> None:
    """V1: an IntEnum as an int, a StrEnum as a str; and what is beside them is still refused by its name."""
    mixed = dataclasses.make_dataclass("Mixed", [("n", int, 0), ("any", Any, None)])

    for kind, value in ((dict[str, Any], {"k": [part]}), (mixed, mixed(1, part))):
        back = saved(codec_of(kind), value)
        assert back == value
        assert not codec_of(kind).unchanged(b"", value, codec_of(kind).encode(value))
        assert codec_of(kind).unchanged(codec_of(kind).encode(back), value, codec_of(kind).encode(value))
    with pytest.raises(EncodeError, match=r"\$\.b`: `tuple` would come back as `list`"):
        saved(codec_of(dict[str, Any]), {"a": part, "b": (1,)})


def test_a_number_that_became_an_equal_one_is_a_change(codec_of: Callable[[Any], CheckedCodec[Any]]) -> None:
    """V3: True, 1 and 1.0 are equal, and not the same to who reads them."""
    codec = codec_of(dict[str, Any])
    for before, after in itertools.permutations([True, 1, 1.0], 2):
        base, data = codec.encode({"a": before}), codec.encode({"a": after})
        for spelling in (0, codec.spelling(base)):
            assert codec.changed(base, {"a": after}, data, spelling=spelling) == data


def test_json_refuses_what_only_messagepack_can_say() -> None:
    """V1: int keys and bytes are themselves in MessagePack, and texts in JSON."""
    for value in ({"k": {1: 2}}, {"k": b"x"}):
        with pytest.raises(EncodeError, match=r"\$\.k"):
            saved(JSONCodec(dict[str, Any]), value)
    assert saved(MessagePackCodec(dict[str, Any]), {"k": {1: b"x"}}) == {"k": {1: b"x"}}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (App(cart=[Item("a"), Item("b", note=float("nan"))]), "$.cart[1].note"),
        (App(cart=[Item("a", qty=cast("int", "1"))]), "$.cart[0].qty"),
        (App(cart=[Item("a", qty=cast("int", 1.5))]), "$.cart[0].qty"),
        (App(cart=[Item("a", qty=True)]), "$.cart[0].qty"),
        (App(cart=[Item(cast("str", uuid.uuid4()))]), "$.cart[0].sku"),
        (App(cart=[Item("a"), Item(cast("str", 1j))]), "$.cart[1].sku"),
        (App(name="\ud800"), "$.name"),
        (App(grid={"a": [{1: cast("bytes", object())}]}), "$.grid.a[0]"),
        (App(price=decimal.Decimal("NaN")), "$.price"),
        ({"name": "no App"}, "$"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_at_save_by_its_field(
    codec_of: Callable[[Any], CheckedCodec[Any]], value: object, path: str
) -> None:
    """V9: NaN, a wrong type, an unsupported type, a surrogate, another class."""
    with pytest.raises(EncodeError) as caught:
        saved(codec_of(App), value)
    assert f"App at `{path}" in str(caught.value).replace("cannot be encoded ", "").replace(
        "the value does not fit ", ""
    )


def test_a_thing_that_has_no_bytes_is_named_with_what_to_store_instead(
    codec_of: Callable[[Any], CheckedCodec[Any]],
) -> None:
    """V9: a row of an ORM, most of all."""
    with pytest.raises(EncodeError, match=r"at `\$\.user`: `object`: store its id, or plain data of it"):
        saved(codec_of(dict[str, Any]), {"user": object()})


def test_a_cycle_is_refused_at_save(codec_of: Callable[[Any], CheckedCodec[Any]]) -> None:
    """V9: RecursionError does not leave the codec."""
    cycle: dict[str, object] = {}
    cycle["again"] = [cycle]

    with pytest.raises(EncodeError, match="a cycle"):
        codec_of(dict[str, Any]).encode({"k": cycle})


def test_an_integer_that_messagepack_cannot_hold_is_refused_and_json_keeps_it() -> None:
    """V9: over 64 bits."""
    assert saved(JSONCodec(dict[str, Any]), {"k": 2**200}) == {"k": 2**200}
    with pytest.raises(EncodeError, match=r"\$\.k`: an integer of more than 64 bits"):
        MessagePackCodec(dict[str, Any]).encode({"k": 2**200})


def test_an_object_that_lost_an_attribute_is_refused(codec_of: Callable[[Any], CheckedCodec[Any]]) -> None:
    """V9: msgspec leaves such a field out without a word, and its default would come back."""
    value = Slotted(3)
    del value.n

    with pytest.raises(EncodeError):
        saved(codec_of(Slotted), value)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"anything": (1,)}, "$.anything"),
        ({"anything": [dt.date(2026, 1, 1)]}, "$.anything[0]"),
        ({"anything": object()}, "$.anything"),
        ({"anything": {"a": ["\ud800"]}}, "$.anything.a[0]"),
        ({"ratio": float("nan")}, "$.ratio"),
        ({"n": "many"}, "$.n"),
        ({"n": 3}, "$.n"),
        ({"n": 4}, "$"),
    ],
)
def test_a_pydantic_model_that_does_not_fit_is_refused_by_its_field(change: dict[str, Any], path: str) -> None:
    """V9: assignment is not checked by pydantic, saving is; and no warning of pydantic shows the value."""
    value = Model()
    for name, new in change.items():
        setattr(value, name, new)

    with pytest.raises(EncodeError, match=r"Model") as caught:
        saved(PydanticCodec(Model), value)
    assert f"at `{path}`" in str(caught.value)


DAMAGED = [b"", b"[" * 100_000, b"\xff", b"{", b"null", b'"\xff"', b"\xc1", b"\x92", b"\xdf\xff\xff\xff\xff"]


@pytest.mark.parametrize("data", DAMAGED)
@pytest.mark.parametrize("kind", [App, Model, dict[str, list[Any]], set[str], list[Any]])
def test_bytes_that_are_no_document_are_a_decode_error(
    codec_of: Callable[[Any], CheckedCodec[Any]], kind: Any, data: bytes
) -> None:
    """V2, V9: 100 000 brackets among them; nothing of msgspec, pydantic or Python leaves the codec."""
    codec = PydanticCodec[Any](kind) if kind is Model else codec_of(kind)

    with pytest.raises(DecodeError):
        codec.decode(data)


def test_bytes_that_do_not_fit_name_the_field() -> None:
    """V2: the one log record can say which field."""
    codec = JSONCodec(App)
    cases = {
        b'{"cart":[{"sku":1}]}': "$.cart[0].sku`: expected `str`, got `int`",
        b'{"cart":[{}]}': "$.cart[0].sku`: it is required and missing",
        b'{"colour":"hunter2"}': "$.colour`",
        b'{"at":"hunter2"}': "$.at`",
    }
    for data, expected in cases.items():
        with pytest.raises(DecodeError) as caught:
            codec.decode(data)
        assert expected in str(caught.value)
    with pytest.raises(DecodeError, match=r"\$\.cart\[0\]\.sku"):
        PydanticCodec(Model).decode(b'{"cart":[{"sku":4}]}')


def test_missing_fields_take_their_defaults_and_unknown_ones_are_ignored_unless_forbidden(
    codec_of: Callable[[Any], CheckedCodec[Any]],
) -> None:
    """V2: older and newer documents open."""
    older = codec_of(dict[str, Any]).encode({"name": "n", "new": {"a": 1}})

    assert codec_of(App).decode(older) == App(name="n")
    with pytest.raises(DecodeError):
        codec_of(Strict).decode(older)


def _leaks() -> list[tuple[str, Callable[[], object]]]:
    json, pack, model = JSONCodec(App), MessagePackCodec(App), PydanticCodec(Model)
    secret = App(name=SECRET, grid={SECRET: []})
    unfit = App(name=SECRET, cart=[Item(SECRET, cast("int", SECRET))])
    hopeless = App(name=SECRET, cart=[Item(SECRET, cast("int", 1j))])
    document = json.encode(secret).replace(b'"cart":[]', b'"cart":"hunter2"')
    picky = JSONCodec(Picky)
    return [
        ("encode", lambda: json.encode(hopeless)),
        ("encode msgpack", lambda: pack.encode(hopeless)),
        ("check", lambda: saved(json, unfit)),
        ("check msgpack", lambda: saved(pack, unfit)),
        ("to_tree", lambda: json.to_tree(hopeless)),
        ("decode", lambda: json.decode(document)),
        ("decode msgpack", lambda: pack.decode(b"\x81\xa4cart\xa7hunter2")),
        ("from_tree", lambda: json.from_tree({"cart": SECRET})),
        ("from_tree unwritable", lambda: json.from_tree({SECRET: object()})),
        ("parse", lambda: json.parse(b'{"name":"hunter2"')),
        ("dump", lambda: json.dump({SECRET: object()})),
        ("own error", lambda: picky.decode(b'{"n":3}')),
        ("own error, msgspec's words", lambda: picky.decode(b'{"n":4}')),
        ("pydantic decode", lambda: model.decode(b'{"n":"hunter2"}')),
        ("pydantic own error", lambda: model.decode(b'{"n":3}')),
        ("pydantic encode", lambda: model.encode(Model(anything=[SECRET, object()]))),
        ("pydantic check", lambda: saved(model, Model(anything=(SECRET,)))),
        ("foreign", lambda: codec_for(App, json=True, codec=Rude()).decode(SECRET.encode())),
    ]


@pytest.mark.parametrize(("where", "fail"), _leaks(), ids=[where for where, _ in _leaks()])
def test_no_error_shows_a_value_in_message_cause_context_or_local_variables(
    where: str, fail: Callable[[], object]
) -> None:
    """V8: what msgspec, pydantic or the type's own code said about the value stays inside."""
    with pytest.raises(SessionError) as caught:
        fail()

    assert SECRET not in shown(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_key_that_may_be_data_is_not_in_the_path() -> None:
    """V8: names are shown, addresses and the like are not."""
    with pytest.raises(EncodeError) as caught:
        JSONCodec(dict[str, Any]).encode({"carts": {"ada@example.org": [object()]}})

    assert "$.carts[...][0]" in str(caught.value)


def test_what_memory_cannot_hold_is_not_taken_for_a_bad_document() -> None:
    """V2: only documents that do not fit give a new session."""

    class Exhausted(Rude):
        def decode(self, data: bytes) -> App:
            raise MemoryError

        def encode(self, value: App) -> bytes:
            raise MemoryError

    codec = codec_for(App, json=True, codec=Exhausted())
    calls: list[Callable[[], object]] = [
        lambda: codec.decode(b""),
        lambda: codec.encode(App()),
        lambda: codec.check(App(), b""),
        lambda: codec.unchanged(b"a", App(), b"b"),
        lambda: codec.to_tree(App()),
    ]
    for call in calls:
        with pytest.raises(MemoryError):
            call()


@pytest.mark.parametrize("kind", [JSONCodec, MessagePackCodec, PydanticCodec])
def test_the_order_of_sets_and_dicts_and_the_spelling_of_a_backend_are_no_change(kind: Any) -> None:
    """V3: JSONB sorts keys and drops white space, a set iterates as it likes."""
    letters = {chr(97 + n) for n in range(20)}
    roomy = {*letters, *map(str, range(10_000))}
    roomy.difference_update(map(str, range(10_000)))
    codec: CheckedCodec[Any]
    one: Any
    other: Any
    changed: Any
    if kind is PydanticCodec:
        codec = PydanticCodec[Any](Model)
        one, other, changed = Model(tags=letters), Model(), Model(tags={*letters, "z"})
        other.tags = roomy
    else:
        codec, one, other, changed = kind(App), App(tags=letters), App(tags=roomy), App(tags={*letters, "z"})
    assert list(one.tags) != list(other.tags)
    stored = codec.encode(one)
    if codec.is_json:
        stored = msgspec.json.format(msgspec.json.encode(msgspec.json.decode(stored), order="sorted"), indent=2)

    assert codec.unchanged(stored, one, codec.encode(one))
    assert codec.unchanged(stored, other, codec.encode(other))
    assert not codec.unchanged(stored, changed, codec.encode(changed))


def test_a_set_without_an_order_and_an_unreadable_base_are_compared_too(
    codec_of: Callable[[Any], CheckedCodec[Any]],
) -> None:
    """V3: what cannot be compared counts as changed."""
    codec = codec_of(dict[str, set[int | str]])
    stored = codec.dump({"b": ["x", 1, 2], "a": []})
    value: dict[str, set[int | str]] = {"a": set(), "b": {2, 1, "x"}}

    assert codec.unchanged(stored, value, codec.encode(value))
    assert not codec.unchanged(stored, {"a": {1}, "b": {2, 1, "x"}}, b"")
    assert not codec.unchanged(stored, {"a": set(), "c": {2, 1, "x"}}, b"")
    assert not codec.unchanged(b"\xc1", value, codec.encode(value))


def test_a_deep_change_a_missing_default_and_an_equal_value_are_told_apart(
    codec_of: Callable[[Any], CheckedCodec[Any]],
) -> None:
    """V3: found by comparing, not by flags."""
    codec = codec_of(App)
    value = App(cart=[Item("a")])
    stored = codec.encode(value)
    older = codec.dump({"cart": [{"sku": "a"}], "unknown": 1})

    assert codec.unchanged(stored, App(cart=[Item("a")]), codec.encode(value))
    assert codec.unchanged(older, value, stored)
    value.cart[0].qty += 1
    assert not codec.unchanged(stored, value, codec.encode(value))


class Unknown:
    pass


@dataclass
class HoldsUnknown:
    n: int
    parts: list[Unknown]


@dataclass
class Unresolvable:
    n: int
    other: "Nowhere"  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]  # noqa: F821 (the point)


@dataclass
class Ambiguous:
    n: int
    either: Item | Slotted


@dataclass
class HoldsModel:
    model: Model


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (HoldsUnknown, "$.parts[...]"),
        (Unresolvable, "$.other"),
        (Ambiguous, "$.either"),
        (HoldsModel, "$.model"),
        (complex, "$"),
        (dict[str, Unknown], "$[...]"),
        (dict[str, Item | Slotted], "$"),
    ],
)
def test_a_type_that_cannot_work_is_a_config_error_that_names_the_field_and_the_fix(
    codec_of: Callable[[Any], CheckedCodec[Any]], kind: Any, path: str
) -> None:
    """V9: at construction."""
    with pytest.raises(ConfigError, match="codec=") as caught:
        codec_of(kind)
    assert f"at `{path}`" in str(caught.value)
    assert getattr(kind, "__name__", "") in str(caught.value)


class Rude:
    """A codec of somebody who knows nothing of our errors."""

    is_json = False

    def encode(self, value: App) -> bytes:
        return value.name.encode("ascii")

    def decode(self, data: bytes) -> App:
        if data == SECRET.encode():
            raise LookupError(SECRET)
        return App(name=data.decode("ascii"))

    def to_tree(self, value: App) -> object:
        return {"name": value.name}

    def from_tree(self, tree: object) -> App:
        return App(name=cast("dict[str, str]", tree)["name"])


def test_a_codec_of_ones_own_gets_the_same_seam() -> None:
    """V9: whatever it raises is EncodeError or DecodeError, and what it loses is refused."""
    own: Codec[App] = Rude()
    codec = codec_for(App, json=True, codec=own)

    assert saved(codec, App(name="a")) == App(name="a")
    assert codec.is_json is False
    assert codec.from_tree(codec.to_tree(App(name="a"))) == App(name="a")
    assert codec.unchanged(b"a", App(name="a"), b"A")
    assert not codec.unchanged(b"a", App(name="b"), b"b")
    assert codec.dump(codec.parse(b"abc")) == b"abc"
    with pytest.raises(EncodeError, match=r"\$\.tags"):
        saved(codec, App(name="a", tags={"lost"}))
    with pytest.raises(EncodeError):
        codec.encode(App(name="é"))
    with pytest.raises(DecodeError):
        codec.decode(b"\xff")


def test_a_codecs_own_errors_keep_their_words() -> None:
    """V9: it was asked to show no value, and can say more than we could."""

    class Polite(Rude):
        def decode(self, data: bytes) -> App:
            raise DecodeError("the header is of version 7")

    with pytest.raises(DecodeError, match="version 7"):
        codec_for(App, json=True, codec=Polite()).decode(b"")


def test_the_format_is_chosen_by_the_type_and_by_what_is_asked_for() -> None:
    """V1: pydantic for its models, else msgspec; a given codec wins."""
    given = MessagePackCodec(App)

    assert isinstance(codec_for(App, json=True), JSONCodec)
    assert isinstance(codec_for(App, json=False), MessagePackCodec)
    assert codec_for(App, json=True, codec=given) is given


def test_pydantic_is_not_imported_for_types_that_are_not_its_own() -> None:
    """V1: recognised, and imported only then."""
    script = (
        "import sys; from aiosessions.values.codecs import codec_for;"
        "codec_for(dict[str, int], json=True); assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
