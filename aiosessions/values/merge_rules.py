"""How each part of a type merges: the markers, and the plan that is made of a type once."""

import collections.abc
import datetime as dt
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar

import msgspec

from aiosessions._errors import ConfigError
from aiosessions.values.equality import names_of
from aiosessions.values.models import is_pydantic

__all__ = ["Merge", "Plan", "plan_of"]

C = TypeVar("C")

_MARK = "__aiosessions_merge__"
_DEEPEST = "[...]" * 8  # containers in containers: a recursive alias (`type J = list[J]`) has no other end
_NO_DEFAULT = (type(MISSING), type(msgspec.NODEFAULT), msgspec.UnsetType)
_NUMBERS = frozenset({int, float, Decimal})
_MOMENTS = frozenset({dt.datetime, dt.date, dt.timedelta})
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection)


class Merge(Enum):
    """What to do with a field that two requests changed: `visits: Annotated[int, Merge.ADD]`."""

    ADD = "add"
    """Numbers: both differences are added."""
    MAX = "max"
    """Numbers, dates, durations: the greater one."""
    UNION = "union"
    """Lists treated as sets: both additions and both removals. (Sets do this by themselves.)"""
    ATOMIC = "atomic"
    """One or the other as a whole, never a mixture; also on a class: `@Merge.ATOMIC`."""
    RAISE = "raise"
    """ConflictError, whatever the store's `on_conflict` says, unless it is "overwrite"."""

    def __call__(self, cls: type[C]) -> type[C]:
        """Mark a class. Raises ConfigError for a marker other than ATOMIC."""
        if self is not Merge.ATOMIC:
            raise ConfigError(f"@Merge.{self.name} on {cls.__name__}: only ATOMIC marks a class; annotate the field")
        setattr(cls, _MARK, self)
        return cls


@dataclass(slots=True)
class Plan:
    """How a part of a document merges. The plan of an untyped part: dicts by key, lists by what was added.

    Args:
        rule: the field's or the class's marker.
        kinds: the scalar types it may have.
        fields: the parts of a class, by their written names; None if it is no class.
        defaults: what it means that a field was left out, by its written name.
        items: the values of a dict, or the items of a list.
        is_list: a list; is_set: a list in the document, in any order; is_whole: never taken apart.
        tag_field: the key that tells the classes of a union apart; tag: what it says for this class.
        tagged: the plans of a union's classes.
    """

    rule: Merge | None = None
    kinds: frozenset[object] = frozenset()
    fields: "dict[str, Plan] | None" = None
    defaults: dict[str, object] = field(default_factory=dict[str, object])
    items: "Plan | None" = None
    is_list: bool = False
    is_set: bool = False
    is_whole: bool = False
    tag_field: str | None = None
    tag: object = None
    tagged: "dict[object, Plan]" = field(default_factory=dict[object, "Plan"])


def plan_of(value_type: object, written: Callable[[object], object]) -> Plan:
    """The plan of a type.

    Args:
        value_type: T.
        written: a value as it stands in a document, for defaults that are left out of it.

    Raises:
        ConfigError: a marker on a type that cannot follow it.
    """
    return _Planner(written).plan(value_type, {}, "$")


class _Planner:
    def __init__(self, written: Callable[[object], object]) -> None:
        self._written = written
        self._classes: dict[object, Plan] = {}

    def plan(self, hint: Any, variables: Mapping[object, object], path: str) -> Plan:  # Any: any type form
        if path.endswith(_DEEPEST):
            return Plan()
        hint, rule = _unwrapped(_filled(hint, variables))
        plan = self._of(hint, path)
        rule = rule or plan.rule
        if rule is None or rule is plan.rule:
            return plan

        allowed = {
            Merge.ADD: "int, float or Decimal" if not plan.kinds or not plan.kinds <= _NUMBERS else None,
            Merge.MAX: "numbers, or one of datetime, date, timedelta" if not _ordered(plan.kinds) else None,
            Merge.UNION: "a list or a set" if not (plan.is_list or plan.is_set) else None,
        }
        if needs := allowed.get(rule):
            raise ConfigError(f"Merge.{rule.name} at `{path}` needs {needs}")
        return replace(plan, rule=rule)

    def _of(self, hint: Any, path: str) -> Plan:  # Any: any type form
        origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
        if origin in (typing.Union, UnionType):
            return _united([self.plan(part, {}, path) for part in arguments if part is not NoneType])
        if origin in _DICTS:
            return Plan(items=self.plan(arguments[1], {}, f"{path}[...]") if arguments else None)
        if origin in _SETS:
            return Plan(is_set=True)
        if origin in _LISTS:
            return Plan(is_list=True, items=self.plan(arguments[0], {}, f"{path}[...]") if arguments else None)
        if not isinstance(origin, type):
            return Plan(kinds=frozenset({object}))
        if origin is tuple:
            is_open = len(arguments) == 2 and arguments[1] is ...
            return Plan(is_whole=True, items=self.plan(arguments[0], {}, f"{path}[...]") if is_open else None)
        hints = _hints(origin)
        if hints is None:
            return Plan(kinds=frozenset({origin}), is_whole=issubclass(origin, tuple))
        if getattr(origin, "__pydantic_root_model__", False):
            return self.plan(hints["root"], {}, path)
        return self._of_class(hint, origin, hints, path)

    def _of_class(self, hint: Any, origin: Any, hints: Mapping[str, object], path: str) -> Plan:
        # Any: type forms, and four libraries' classes
        if hint in self._classes:
            return self._classes[hint]

        # registered, and its dicts filled later in place: a class may hold itself
        inner: dict[str, Plan] = {}
        plan = self._classes[hint] = Plan(rule=getattr(origin, _MARK, None), fields=inner)
        names: dict[str, str] = {}
        if issubclass(origin, msgspec.Struct):
            config = origin.__struct_config__
            names = dict(zip(origin.__struct_fields__, origin.__struct_encode_fields__, strict=True))
            plan.tag_field, plan.tag, plan.is_whole = config.tag_field, config.tag, config.array_like
        plan.defaults = {
            name: self._written(default) for name, default in _defaults(origin) if not isinstance(default, _NO_DEFAULT)
        }
        open_ones: tuple[object, ...] = getattr(origin, "__parameters__", ())
        variables = dict(zip(open_ones, typing.get_args(hint), strict=False))
        for name, part in hints.items():
            inner[names.get(name, name)] = self.plan(part, variables, f"{path}.{name}")
        return plan


def _defaults(cls: Any) -> Iterator[tuple[str, object]]:  # Any: a class of four libraries
    """What may be left out: of a Struct by `omit_defaults`, of a dataclass what was never assigned to it."""
    if issubclass(cls, msgspec.Struct):
        for info in msgspec.structs.fields(cls):
            factory: Any = info.default_factory
            yield info.encode_name, factory() if factory in (list, dict, set) else info.default
    elif is_dataclass(cls):
        for part in fields(cls):
            yield part.name, part.default


def _unwrapped(hint: Any) -> tuple[Any, Merge | None]:  # Any: any type form
    """The type under Annotated, NewType, Required and aliases, and the outermost marker on the way."""
    rule: Merge | None = None
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            rule = rule or next((mark for mark in hint.__metadata__ if isinstance(mark, Merge)), None)
            hint = hint.__origin__
        elif origin in (typing.Required, typing.NotRequired, typing.Final):
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hasattr(hint, "__value__"):  # `type X = ...` of Python 3.12
            hint = hint.__value__ if origin is None else origin.__value__[typing.get_args(hint)]
        else:
            return hint, rule


def _filled(hint: Any, variables: Mapping[object, object]) -> Any:  # Any: any type form
    """A field's type, with the variables of its generic class put in."""
    if isinstance(hint, TypeVar):
        return variables.get(hint, object)
    if variables and (open_ones := getattr(hint, "__parameters__", ())):
        return hint[tuple(variables.get(one, object) for one in open_ones)]
    return hint


def _hints(cls: Any) -> Mapping[str, object] | None:  # Any: four libraries' classes, told apart by what they carry
    """The fields of a class and their types, markers included; None if it has no fields."""
    if is_pydantic(cls):
        return {
            name: typing.Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
            for name, info in cls.__pydantic_fields__.items()
        }
    names = cls.__annotations__ if typing.is_typeddict(cls) else names_of(cls)
    if names is None:
        return None
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):  # a codec of the application's own may not need them
        return None
    return {name: hints[name] for name in names if name in hints}


def _ordered(kinds: frozenset[object]) -> bool:
    return bool(kinds) and (kinds <= _NUMBERS or (len(kinds) == 1 and kinds <= _MOMENTS))


def _united(plans: list[Plan]) -> Plan:
    """The plan of a union: what its members would do, where the document says which member it is."""
    if len(plans) == 1:
        return plans[0]

    classes = [plan for plan in plans if plan.fields is not None or plan.tagged]
    lists = [plan for plan in plans if plan.is_list]
    dicts = [plan for plan in plans if plan.items is not None and not plan.is_list and not plan.is_whole]
    holders = [*dicts, *lists]
    tags = {plan.tag_field for plan in classes}
    united = replace(
        classes[0] if len(classes) == 1 else Plan(),
        rule=next((plan.rule for plan in plans if plan.rule), None),
        kinds=frozenset[object]().union(*(plan.kinds for plan in plans)),
        items=holders[0].items if len(holders) == 1 else None,
        is_list=bool(lists),
        is_set=any(plan.is_set for plan in plans),
        is_whole=any(plan.is_whole for plan in plans) or len(dicts) + len(tags) > 1,
    )
    if len(classes) > 1 and None in tags:
        united.is_whole = True
    elif len(classes) > 1:
        united.tag_field = classes[0].tag_field
        for plan in classes:
            united.tagged |= plan.tagged or {plan.tag: plan}
    return united
