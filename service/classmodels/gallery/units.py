"""What the store holds for a plan: every unit with its record and the verdicts on it, and what of that is believed.

A bucket may be written to by others. A record is believed only under the key that its own identity gives, with file
names that stay in its folder; a verdict only on the very image that the record names. Next: `view.py`.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from classmodels.errors import InputError
from classmodels.store import FileEntry, Record, RunPlan, Store, Verdict
from classmodels.store.records import JudgeEntry, parse, verdict_key

State = Literal["done", "missing", "damaged"]
Relation = Literal["itself", "same family", "independent"]

_RECORD_KEY = re.compile(
    r"units/(?P<model>[^/\x00-\x1f]{1,200})@(?P<model12>[0-9a-f]{12})"
    r"/(?P<recipe>[^/\x00-\x1f]{1,200})@(?P<recipe12>[0-9a-f]{12})/(?P<index>[0-9]{1,12})\.json"
)
_IMAGE = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]*\.png")
_ANIMATION = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]*\.(?:webp|gif|apng)")
_NAME_BYTES = 255
"""Longest name of a file that file systems take."""
_OBJECT_BYTES = 1 << 24
"""Largest record or verdict that is parsed: the longest score curve, of 100,000 steps, needs an eighth of that."""
_READERS = 16
"""Reads under way at once: a bucket answers each in tens of milliseconds, and a page needs thousands."""


@dataclass(frozen=True)
class Judged:
    """One judge of one unit. `verdict` is None where there is none yet or it is damaged."""

    judge: JudgeEntry
    relation: Relation
    verdict: Verdict | None
    state: State

    @property
    def held_out(self) -> bool:
        return self.relation != "itself"

    @property
    def answered(self) -> bool:
        """Whether this judge knows the class and has said how it ranks it."""
        return self.verdict is not None and self.verdict.rank is not None


@dataclass(frozen=True)
class Unit:
    """One planned unit as the store has it. Names come from the key, so that a unit without a record has them too."""

    key: str
    model: str
    model12: str
    recipe: str
    recipe12: str
    class_index: int
    record: Record | None
    state: State
    judged: tuple[Judged, ...]

    @property
    def folder(self) -> str:
        return self.key.rpartition("/")[0] + "/"


def read_units(store: Store, plan: RunPlan) -> list[Unit]:
    """The units of `plan` in its order, each once, with what `store` holds for them.

    Raises InputError for a plan that names something other than records of units.
    """
    keys = list(dict.fromkeys(plan.records))
    parts = [_RECORD_KEY.fullmatch(key) for key in keys]
    for key, match in zip(keys, parts, strict=True):
        if match is None:
            expected = "units/<model>@<id>/<recipe>@<id>/<class>.json"
            raise InputError(f"the plan of run {plan.run12} names {key!r:.300}: expected {expected}")
    records = [_record(key, data) for key, data in zip(keys, _read_all(store, keys), strict=True)]
    judges = list({judge.judge12: judge for judge in plan.judges}.values())
    asked = [
        verdict_key(judge.name, judge.model12, judge.judge12, key, record.image.sha256)
        for key, (record, _) in zip(keys, records, strict=True)
        if record is not None
        for judge in judges
    ]
    answers = dict(zip(asked, _read_all(store, asked), strict=True))

    units = []
    for key, match, (record, state) in zip(keys, parts, records, strict=True):
        assert match is not None
        judged = tuple(_judged(judge, key, record, answers) for judge in judges) if record else ()
        index = int(match["index"])
        units.append(
            Unit(
                key, match["model"], match["model12"], match["recipe"], match["recipe12"], index, record, state, judged
            )
        )
    return units


def relation(judge: JudgeEntry, model12: str, family: str) -> Relation:
    """How a judge stands to the model it judges: an unnamed family is nobody's relative."""
    if judge.model12 == model12:
        return "itself"
    return "same family" if family and judge.family == family else "independent"


def _read_all(store: Store, keys: Iterable[str]) -> list[bytes | None]:
    with ThreadPoolExecutor(_READERS, "gallery-read") as readers:
        return list(readers.map(store.read, keys))


def record_of(key: str, data: bytes) -> Record | None:
    """`data` as the record of the unit under `key`; None where it is damaged, another unit's, or not believable."""
    record = parse(Record, data) if len(data) <= _OBJECT_BYTES else None
    return record if record is not None and _belongs(record, key) and _believable(record) else None


def _record(key: str, data: bytes | None) -> tuple[Record | None, State]:
    if data is None:
        return None, "missing"
    record = record_of(key, data)
    return record, "damaged" if record is None else "done"


def _belongs(record: Record, key: str) -> bool:
    match = _RECORD_KEY.fullmatch(key)
    return match is not None and (
        (match["model12"], match["recipe12"], int(match["index"]))
        == (record.model.model12, record.recipe.recipe12, record.class_index)
    )


def _believable(record: Record) -> bool:
    return _fits(record.image, _IMAGE) and (record.animation is None or _fits(record.animation, _ANIMATION))


def _fits(file: FileEntry, names: re.Pattern[str]) -> bool:
    """A plain visible name, so that a link cannot leave the folder, and a size that a page can lay out."""
    return (
        0 < file.width <= 1 << 16
        and 0 < file.height <= 1 << 16
        and re.fullmatch(r"[0-9a-f]{64}", file.sha256) is not None
        and names.fullmatch(file.name) is not None
        and len(file.name.encode()) <= _NAME_BYTES
    )


def _judged(judge: JudgeEntry, key: str, record: Record, answers: dict[str, bytes | None]) -> Judged:
    stands = relation(judge, record.model.model12, record.model.family)
    data = answers[verdict_key(judge.name, judge.model12, judge.judge12, key, record.image.sha256)]
    if data is None:
        return Judged(judge, stands, None, "missing")
    verdict = parse(Verdict, data) if len(data) <= _OBJECT_BYTES else None
    if verdict is None or (verdict.judge12, verdict.image_sha256) != (judge.judge12, record.image.sha256):
        return Judged(judge, stands, None, "damaged")
    return Judged(judge, stands, verdict, "done")
