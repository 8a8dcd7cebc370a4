"""Three-way merge of documents: what was loaded, what we made of it, what somebody else stored meanwhile.

Pure functions over raw documents, so that the fields a newer version added survive. Nothing here raises while it holds
parts of a document: conflicts are collected by name.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, DecimalException
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

import msgspec

from aiosessions._errors import ConflictError, DecodeError, EncodeError
from aiosessions.values.codecs import CheckedCodec
from aiosessions.values.equality import SCALARS, canonical, difference, step_to
from aiosessions.values.graft import grafted
from aiosessions.values.merge_rules import Merge, Plan, plan_of
from aiosessions.values.value_type import name_of

__all__ = ["Merge", "Merged", "Merger"]

T = TypeVar("T")

_OnConflict: TypeAlias = Literal["merge", "raise", "overwrite"]
_Path: TypeAlias = tuple[object, ...]
_ABSENT = msgspec.UNSET
_OPEN = Plan()
_EXACT = Context(prec=1_000)  # sums of decimals keep every digit


@dataclass(frozen=True, slots=True)
class Merged(Generic[T]):
    """What came of a merge.

    Args:
        data: the document to store.
        value: the same, decoded.
        conflicts: the fields that both had changed and where ours won, like `cart.note`.
    """

    data: bytes
    value: T
    conflicts: tuple[str, ...]


class Merger(Generic[T]):
    """Merges documents of one type. Made once per store.

    Args:
        codec: the store's codec.

    Raises:
        ConfigError: a Merge marker on a type that cannot follow it.
    """

    def __init__(self, codec: CheckedCodec[T]) -> None:
        self._codec = codec
        self._name = name_of(codec.value_type)
        self._plan = plan_of(codec.value_type, self._written)
        self._has_fields = _has_fields(self._plan)

    def merge(
        self, base: bytes, ours: bytes, theirs: bytes, *, on_conflict: _OnConflict = "merge", are_spelled: bool = False
    ) -> Merged[T]:
        """What both writers wanted.

        Args:
            base: the stored document that we loaded.
            ours: our value, encoded.
            theirs: the document that is stored now.
            on_conflict: what to do where both changed the same thing and no rule settles it: "raise" raises, else ours
                is taken and reported. (Who overwrites does not merge.)
            are_spelled: the codec itself wrote all three of values of T as it is now: see `CheckedCodec.spelling`. Then
                so is the result.

        Raises:
            ConflictError: "raise" or `Merge.RAISE`, or the result would not fit T; it names the fields.
        """
        try:
            outcome = self._attempt((base, ours, theirs), on_conflict, are_spelled=are_spelled)
        except RecursionError:
            outcome = "it is nested too deeply to merge"
        if isinstance(outcome, Merged):
            return outcome
        del base, ours, theirs  # tracebacks may show local variables
        raise ConflictError(f"another request wrote this session ({self._name}) too, and {outcome}")

    def carry_unknown(self, stored: bytes, data: bytes) -> bytes:
        """*data*, our encoded value, with the fields of the *stored* document that this version does not know (V2).

        Args:
            stored: what is stored now.
            data: our value, encoded.

        Returns:
            The very *data* if there was nothing to carry.
        """
        if not self._has_fields:
            return data
        try:
            known = self._codec.encode(self._codec.decode(stored))
            if known == stored:
                return data
            ours = self._codec.parse(data)
            carried = _carry(self._plan, self._codec.parse(known), ours, self._codec.parse(stored))
            return data if carried == ours else self._codec.dump(carried)
        except (EncodeError, DecodeError, RecursionError):  # nothing that this version could carry
            return data

    def adopted(self, value: T, before: bytes, now: bytes) -> T:
        """The document that is stored *now*, as a value; what *value* changed since *before* is kept.

        It was written already, so nothing here raises: what cannot be merged stays as it is.

        Args:
            value: somebody holds and changes it.
            before: what it was when it was last in step with the store, as it was stored.
            now: what is stored.
        """
        try:
            ours = self._codec.encode(value)
            return grafted(value, self._codec.decode(now) if ours == before else self.merge(before, ours, now).value)
        except (EncodeError, DecodeError, ConflictError):
            return value

    def _attempt(
        self, documents: tuple[bytes, bytes, bytes], on_conflict: str, *, are_spelled: bool
    ) -> Merged[T] | str:
        """The merge, or why there is none."""
        clashes = _Clashes()
        try:
            trees = [self._codec.parse(data) for data in documents] if are_spelled else self._completed(*documents)
        except (EncodeError, DecodeError):
            return "what is stored now does not fit it"

        merged = _merge(self._plan, trees[0], trees[1], trees[2], (), clashes)
        if refused := clashes.refused or (clashes.settled if on_conflict == "raise" else []):
            return f"both changed {', '.join(refused)}"
        try:
            data = self._codec.dump(merged)
            return Merged(data, self._codec.decode(data), tuple(clashes.settled))
        except DecodeError:
            return "the two changes together do not fit it"

    def _written(self, default: object) -> object:
        try:
            return self._codec.parse(self._codec.dump(default))
        except DecodeError:  # a foreign codec knows T only
            return _ABSENT

    def _completed(self, base: bytes, ours: bytes, theirs: bytes) -> list[object]:
        """The three as trees in our own spelling, with what this version does not know."""
        before, mine, others = (self._codec.to_tree(self._codec.decode(data)) for data in (base, ours, theirs))
        return [
            self._complete(before, before, base),
            self._complete(before, mine, base),  # the fields that we do not know are those that we loaded
            self._complete(others, others, theirs),
        ]

    def _complete(self, base: object, ours: object, stored: bytes) -> object:
        """*ours* with what is *stored* beside what T knows of it, *base*, each in our own spelling."""
        raw = self._codec.parse(stored)
        return ours if raw == base else _carry(self._plan, base, ours, raw)


@dataclass(slots=True)
class _Clashes:
    settled: list[str] = field(default_factory=list[str])
    refused: list[str] = field(default_factory=list[str])


def _merge(plan: Plan, base: object, ours: object, theirs: object, path: _Path, clashes: _Clashes) -> object:
    if _same(plan, base, theirs):
        return ours
    if _same(plan, base, ours):
        return theirs

    combined = _combined(plan, base, ours, theirs, path, clashes)
    if combined is not _ABSENT:
        return combined
    if not _same(plan, ours, theirs):
        name = "".join(map(step_to, path)).lstrip(".") or "value"
        (clashes.refused if plan.rule is Merge.RAISE else clashes.settled).append(name)
    return ours


def _combined(plan: Plan, base: object, ours: object, theirs: object, path: _Path, clashes: _Clashes) -> object:
    """What both changes make together, or _ABSENT if only one of them can stand."""
    if plan.rule is Merge.ADD:
        return _sum(base, ours, theirs)
    if plan.rule is Merge.MAX:
        return _greater(plan, ours, theirs)
    if plan.rule in (Merge.ATOMIC, Merge.RAISE) or plan.is_whole:
        return _ABSENT

    before = () if base is None or base is _ABSENT else (base,)
    sides = (ours, theirs, *before)
    if all(isinstance(side, list) for side in sides):
        return _lists(plan, *cast("list[list[object]]", sides))
    if all(isinstance(side, dict) for side in sides):
        return _dicts(plan, cast("tuple[dict[object, object], ...]", sides), path, clashes)
    return _ABSENT


def _lists(plan: Plan, ours: list[object], theirs: list[object], base: Sequence[object] = ()) -> object:
    if plan.is_set or plan.rule is Merge.UNION:
        return _union(base, ours, theirs)
    mine, others = _added(base, ours), _added(base, theirs)
    if mine is None or others is None:
        return _ABSENT

    united = others[0] + mine[0]
    for item, theirs_after, ours_after in zip(base, others[1:], mine[1:], strict=True):
        united += [item, *theirs_after, *ours_after]
    return united


def _added(base: Sequence[object], side: list[object]) -> list[list[object]] | None:
    """What was added before the first item, and after each; None if one is gone or was changed.

    Of items that repeat the first is the one that was there: what was appended stays at the end.
    """
    gaps: list[list[object]] = [[]]
    for item in side:
        place = len(gaps) - 1
        if place < len(base) and _same(_OPEN, base[place], item):
            gaps.append([])
        else:
            gaps[-1].append(item)
    return gaps if len(gaps) == len(base) + 1 else None


def _union(base: Sequence[object], ours: list[object], theirs: list[object]) -> list[object]:
    before = set(map(canonical, base))
    mine = {canonical(item): item for item in ours}
    others = {canonical(item): item for item in theirs}
    kept = [item for key, item in others.items() if key in mine or key not in before]
    return kept + [item for key, item in mine.items() if key not in before and key not in others]


def _dicts(plan: Plan, sides: tuple[dict[object, object], ...], path: _Path, clashes: _Clashes) -> object:
    """The same for ours, theirs and, if there was one, the base."""
    ours, theirs, *base = sides
    inner = _member(plan, sides)
    if inner is None or (inner.fields is not None and not base):
        return _ABSENT  # objects of several classes, or two new ones

    before = base[0] if base else {}
    result: dict[object, object] = {}
    for key in {**theirs, **ours}:
        left_out = inner.defaults.get(cast("str", key), _ABSENT)
        one, two, three = before.get(key, left_out), ours.get(key, left_out), theirs.get(key, left_out)
        merged = _merge(_part(inner, key), one, two, three, (*path, key), clashes)
        if merged is not _ABSENT:
            result[key] = merged
    return result


def _carry(plan: Plan, base: object, ours: object, raw: object) -> object:
    """Our document with what *raw* has and T does not know; *base* is what T knows of *raw*."""
    documents = (base, ours, raw)
    if all(isinstance(side, dict) for side in documents):
        before, mine, stored = cast("tuple[dict[object, object], ...]", documents)
        inner = _member(plan, (before, mine, stored))
        if inner is None:
            return mine
        carried = {key: _carry(_part(inner, key), before.get(key), item, stored.get(key)) for key, item in mine.items()}
        if inner.fields is not None:
            known = {*before, *mine, *inner.fields}
            carried |= {key: item for key, item in stored.items() if key not in known}
        return carried
    if plan.items and all(isinstance(side, list) for side in documents):
        return _carry_items(plan.items, *cast("tuple[list[object], list[object], list[object]]", documents))
    return ours


def _carry_items(plan: Plan, base: list[object], ours: list[object], raw: list[object]) -> list[object]:
    """The same for a list: an item that moved is known by its content, one that changed by its place."""
    if len(base) != len(raw):
        return ours

    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for index in reversed(range(len(base))):
        places[canonical(base[index])].append(index)
    origins = [found.pop() if (found := places[canonical(item)]) else None for item in ours]
    if len(ours) >= len(base) and all(origin in (None, index) for index, origin in enumerate(origins)):
        origins = [*range(len(base)), *origins[len(base) :]]  # nothing moved: what differs was changed in its place
    return [
        item if origin is None else _carry(plan, base[origin], item, raw[origin])
        for item, origin in zip(ours, origins, strict=True)
    ]


def _member(plan: Plan, sides: Iterable[dict[object, object]]) -> Plan | None:
    """The plan of these dicts: in a union of tagged classes that of their class, None if they are of several."""
    if not plan.tagged:
        return plan
    tags = {side.get(plan.tag_field) for side in sides}
    return plan.tagged.get(tags.pop()) if len(tags) == 1 else None


def _part(plan: Plan, key: object) -> Plan:
    found = plan.fields.get(cast("str", key)) if plan.fields is not None else plan.items
    return found or _OPEN


def _same(plan: Plan, one: object, other: object) -> bool:
    if type(one) in SCALARS and type(one) is type(other):
        return one == other
    sides = (one, other)
    if plan.is_set and all(isinstance(side, list) for side in sides):
        ours, theirs = cast("tuple[list[object], list[object]]", sides)
        return set(map(canonical, ours)) == set(map(canonical, theirs))
    return one == other and difference(one, other) is None  # what is equal may still be of another type


def _sum(base: object, ours: object, theirs: object) -> object:
    """Their number and the difference that we made, as a number or in the text of a Decimal."""
    before = 0 if base is None or base is _ABSENT else base
    numbers: list[Any] = [before, ours, theirs]  # Any: int, float or text, as tested next
    if any(isinstance(number, bool) or not isinstance(number, (int, float, str)) for number in numbers):
        return _ABSENT
    if any(isinstance(number, str) for number in numbers):
        try:
            first, second, third = (Decimal(str(number)) for number in numbers)
            total = _EXACT.add(third, _EXACT.subtract(second, first))
        except DecimalException:
            return _ABSENT
        return str(total) if total.is_finite() else _ABSENT

    summed = numbers[2] + (numbers[1] - numbers[0])
    return summed if isinstance(summed, int) or math.isfinite(summed) else _ABSENT


def _greater(plan: Plan, ours: object, theirs: object) -> object:
    """The greater one by value: texts of times and decimals do not sort as what they say."""
    kind: Any = next(iter(plan.kinds - {int, float, Decimal}), Decimal)  # Any: what sorts
    try:
        one, other = (msgspec.convert(side, kind) for side in (ours, theirs))
        is_ours = one > other
    except (msgspec.ValidationError, TypeError, DecimalException):  # absent, None, or an aware and a naive time
        return _ABSENT
    return ours if is_ours else theirs


def _has_fields(plan: Plan | None) -> bool:
    """Whether a class is anywhere in it: only those have fields that we may not know."""
    return plan is not None and (plan.fields is not None or bool(plan.tagged) or _has_fields(plan.items))
