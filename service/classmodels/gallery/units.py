"""What the store holds for a plan: every unit with its record and the verdicts on it, and what of that is believed.

A record is believed as `store/believed.py` says; a verdict only on the very image that the record names. `view.py`
is next.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from classmodels.errors import DamagedError, InputError
from classmodels.store import Record, RunPlan, Store, Verdict
from classmodels.store.base import Read
from classmodels.store.believed import OBJECT_BYTES, record_of, unit_key
from classmodels.store.records import JudgeEntry, parse, verdict_key

State = Literal["done", "missing", "damaged"]
Relation = Literal["itself", "same family", "independent"]

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
    names = [unit_key(key) for key in keys]
    for key, name in zip(keys, names, strict=True):
        if name is None:
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
    for key, name, (record, state) in zip(keys, names, records, strict=True):
        assert name is not None
        judged = tuple(_judged(judge, key, record, answers) for judge in judges) if record else ()
        units.append(Unit(key, *name, record, state, judged))
    return units


def relation(judge: JudgeEntry, model12: str, family: str) -> Relation:
    """How a judge stands to the model it judges: an unnamed family is nobody's relative."""
    if judge.model12 == model12:
        return "itself"
    return "same family" if family and judge.family == family else "independent"


def _read_all(store: Store, keys: Iterable[str]) -> list[bytes | None]:
    with store.reading() as read, ThreadPoolExecutor(_READERS, "gallery-read") as readers:
        return list(readers.map(partial(_read, read), keys))


def _read(read: Read, key: str) -> bytes | None:
    """As `read`; nothing at all for what is there, but not with the bytes that were written."""
    try:
        return read(key)
    except DamagedError:
        return b""


def _record(key: str, data: bytes | None) -> tuple[Record | None, State]:
    if data is None:
        return None, "missing"
    record = record_of(key, data)
    return record, "damaged" if record is None else "done"


def _judged(judge: JudgeEntry, key: str, record: Record, answers: dict[str, bytes | None]) -> Judged:
    stands = relation(judge, record.model.model12, record.model.family)
    data = answers[verdict_key(judge.name, judge.model12, judge.judge12, key, record.image.sha256)]
    if data is None:
        return Judged(judge, stands, None, "missing")
    verdict = parse(Verdict, data) if len(data) <= OBJECT_BYTES else None
    if verdict is None or (verdict.judge12, verdict.image_sha256) != (judge.judge12, record.image.sha256):
        return Judged(judge, stands, None, "damaged")
    return Judged(judge, stands, verdict, "done")
