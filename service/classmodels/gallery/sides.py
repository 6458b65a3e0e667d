"""What is compared, read from one store or two: the units of one model under one recipe, and the same of another.

`Side` says where they lie, `compare_sides` reads both with their pictures and verdicts and has `compare.py` measure
them. Pictures are read one pair at a time: a thousand of them need no more memory than one. `compare_view.py` is next.
"""

import math
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from classmodels.gallery.compare import Change, Distances, Floor, Pair, Seen, changes, distances, floors_of
from classmodels.gallery.stored import file_of
from classmodels.gallery.units import Judged, Unit, read_units
from classmodels.image import decode_png
from classmodels.store import FileEntry, RunPlan, Store
from classmodels.store.base import Read
from classmodels.store.features import unpacked
from classmodels.store.records import Features, JudgeEntry

_READERS = 16


@dataclass(frozen=True)
class Side:
    """The units of one model under one recipe in a store. name: what people call it, such as `step 1200`.

    records: their keys. judges: whose verdicts on them are looked for. gallery: key of the page that shows them.
    """

    store: Store
    name: str
    model: str
    model12: str
    recipe: str
    recipe12: str
    records: tuple[str, ...]
    judges: tuple[JudgeEntry, ...] = ()
    gallery: str | None = None

    def units(self) -> dict[int, Unit]:
        """Its units by class, with what the store holds for them."""
        plan = RunPlan(job="compared", run12="0" * 12, records=self.records, judges=self.judges)
        return {unit.class_index: unit for unit in read_units(self.store, plan)}


@dataclass(frozen=True)
class Compared:
    """A comparison with all that a page shows of it. before, after: the units of a change; None where there is none.

    in_space: how many pairs could be told apart in the older network's feature space.
    """

    older: Side
    newer: Side
    changes: tuple[Change, ...]
    before: dict[int, Unit]
    after: dict[int, Unit]
    floors: dict[str, Floor] = field(default_factory=dict)
    in_space: int = 0


def compare_sides(older: Side, newer: Side, noise: Iterable[tuple[Side, Side]] = ()) -> Compared:
    """Compare two sides class by class. noise: pairs of sides that differ in their seed alone. Raises StoreError."""
    one, other = older.units(), newer.units()
    other = other if _same_classes(one, other) else _by_label(one, other)
    pairs = _pairs(older, newer, one, other, older.model12)
    logits = [abs(unit.record.outcome.logit) for unit in (*one.values(), *other.values()) if unit.record is not None]
    typical = median([logit for logit in logits if math.isfinite(logit)] or [1.0])
    floors = floors_of((apart for pair in noise for apart in _noise(*pair, older.model12)), typical)
    return Compared(
        older,
        newer,
        tuple(changes(pairs, floors)),
        one,
        other,
        floors,
        sum(pair.apart is not None and pair.apart.features is not None for pair in pairs),
    )


def _noise(one: Side, other: Side, space: str) -> list[Distances]:
    """The distances between two seeds, in the older network's space or, where it has not seen them, in their own."""
    first, second = one.units(), other.units()
    shared = {index: unit for index, unit in first.items() if index in second}
    seen = any(_features(unit, space) is not None for unit in second.values())
    pairs = _pairs(one, other, shared, {index: second[index] for index in shared}, space if seen else one.model12)
    return [pair.apart for pair in pairs if pair.apart is not None]


def _pairs(one: Side, other: Side, before: dict[int, Unit], after: dict[int, Unit], space: str) -> list[Pair]:
    indices = sorted(before.keys() | after.keys())
    with (
        one.store.reading() as read_one,
        other.store.reading() as read_other,
        ThreadPoolExecutor(_READERS, "compare") as readers,
    ):

        def pair(index: int) -> Pair:
            first, second = before.get(index), after.get(index)
            known = next((unit.record for unit in (second, first) if unit is not None and unit.record), None)
            label = known.label if known is not None else f"class {index}"
            seen, too = _seen(first, read_one, space), _seen(second, read_other, space)
            if seen is None or too is None or first is None or second is None:
                return Pair(index, label, None)
            return Pair(index, label, distances(seen, too), too.logit - seen.logit, _flipped(first, second))

        return list(readers.map(pair, indices))


def _seen(unit: Unit | None, read: Read, space: str) -> Seen | None:
    """What networks see in a unit's image; None where it is not there."""
    if unit is None or unit.record is None:
        return None
    pixels = _pixels(unit, unit.record.image, read)
    if pixels is None:
        return None
    outcome = unit.record.outcome
    panel = {
        judged.judge.judge12: judged.verdict.probability
        for judged in unit.judged
        if judged.verdict is not None and judged.verdict.probability is not None
    }
    return Seen(outcome.logit, outcome.probability, panel, _features(unit, space), pixels)


def _pixels(unit: Unit, file: FileEntry, read: Read) -> NDArray[np.uint8] | None:
    """The unit's picture, if it is the one that its record names."""
    data = file_of(unit, file, read)
    try:
        return decode_png(data) if data is not None else None
    except ValueError:
        return None


def _features(unit: Unit, space: str) -> NDArray[np.float64] | None:
    for judged in unit.judged:
        found = judged.verdict.features if judged.verdict is not None else None
        if judged.judge.model12 == space and isinstance(found, Features):
            return unpacked(found)
    return None


def _flipped(before: Unit, after: Unit) -> bool:
    """Whether the image's own network, or a judge of both, ranked the class first only once."""
    assert before.record is not None
    assert after.record is not None
    if (before.record.outcome.rank == 1) != (after.record.outcome.rank == 1):
        return True
    ranks = {judged.judge.judge12: rank for judged in before.judged if (rank := rank_of(judged)) is not None}
    return any(
        judged.judge.judge12 in ranks and (ranks[judged.judge.judge12] == 1) != (rank == 1)
        for judged in after.judged
        if (rank := rank_of(judged)) is not None
    )


def rank_of(judged: Judged) -> int | None:
    """How a judge ranks the class; None where it has not said."""
    return judged.verdict.rank if judged.verdict is not None else None


def _same_classes(one: dict[int, Unit], other: dict[int, Unit]) -> bool:
    """Whether an index means the same class on both sides: of one network, or wherever no label says otherwise."""
    shared = [(one[index].record, other[index].record) for index in one.keys() & other.keys()]
    known = [(a, b) for a, b in shared if a is not None and b is not None]
    return not known or any(
        a.model.name == b.model.name or a.model.identity.get("source") == b.model.identity.get("source")
        for a, b in known[:1]
    )


def _by_label(one: dict[int, Unit], other: dict[int, Unit]) -> dict[int, Unit]:
    """The units of `other` under the indices that classes of the same name have in `one`; the rest is not compared."""
    names = {_name(unit): index for index, unit in one.items() if unit.record is not None}
    return {names[name]: unit for unit in other.values() if unit.record and (name := _name(unit)) in names}


def _name(unit: Unit) -> str:
    label = unit.record.label if unit.record is not None else ""
    return re.sub(r"[\s_]+", " ", label.split(",")[0]).strip().casefold()
