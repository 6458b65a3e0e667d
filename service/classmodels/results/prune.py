"""`prune`: delete galleries by age and count, and with them the units and verdicts that no gallery that stays needs.

A kill at any moment leaves nothing broken, and pruning again completes what it cut off. The tombstone is written first
and says what is to go; pointer, plan and page go next, so that nothing leads to what is deleted after them: records,
and only then the files that they name. A gallery is there as long as its plan is: once that is gone the deletion is to
be completed, unless somebody runs the job again, which writes the plan again.

Runs go on meanwhile. One that has no page yet is not counted and stays; so do the units of runs that began after the
choice. Only a run that begins in the very moment of the deletion may miss units that it has just found done: it is
named, and running it again makes them.
"""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from classmodels.errors import InputError
from classmodels.gallery.nights import write_night
from classmodels.gallery.page import point_latest
from classmodels.results.nights import Made, made_at_night, stale_pages
from classmodels.results.place import Place
from classmodels.results.progress import megabytes
from classmodels.results.survey import Gallery, Survey, record_of_file, record_of_verdict, survey
from classmodels.run.state import STATES, state_prefix
from classmodels.store import Entry, Store
from classmodels.store.believed import read_as, unit_key
from classmodels.store.nights import nights_prefix
from classmodels.store.records import (
    RunPlan,
    Tombstone,
    dump,
    gallery_prefix,
    latest_key,
    parse,
    plan_key,
    tombstone_key,
)

THREADS = 16
UNDER_WAY = timedelta(days=1)
"""A run without a page that wrote something so lately goes on, or will be gone on with: it is never pruned."""
_AGE = re.compile(r"([0-9]{1,6})([hdw])")
_UNIT = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass
class Doomed:
    """What is to go. galleries: those that are pruned now; unfinished: tombstones of a pruning that was cut off.

    units: keys of records, of which all there is goes; shared: how many stay because a gallery in `kept` shows them.
    """

    store: Store
    galleries: list[Gallery] = field(default_factory=list)
    unfinished: list[Tombstone] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    shared: int = 0
    kept: list[Gallery] = field(default_factory=list)
    objects: dict[str, Entry] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.objects.values())

    @property
    def summary(self) -> dict[str, Any]:
        """For programs."""
        return {
            "galleries": [
                {"job": g.plan.job, "run12": g.plan.run12, "begun": g.begun.isoformat()} for g in self.galleries
            ],
            "completed": [{"job": one.job, "run12": one.run12} for one in self.unfinished],
            "units": [key for key in self.units if key in self.objects],
            "shared_units_kept": self.shared,
            "galleries_kept": len(self.kept),
            "objects": len(self.objects),
            "bytes": self.bytes,
        }


def choose(place: Place, older_than: str | None, keep_last: int | None, now: datetime | None = None) -> Doomed:
    """What a pruning of `place` deletes. Nothing is changed. Raises InputError where an argument is wrong.

    A gallery goes if none of its units was written since `older_than` ago (any age, if that is None) and it is not
    among the `keep_last` last ones of its job (1, if that is None); the one that `latest.json` points to counts as the
    last.
    Of galleries that nights made, the last ones of each model in the order of its training are kept, and all of tagged
    checkpoints. A run that has no page goes once it has written nothing for UNDER_WAY as well, and never counts.
    """
    if older_than is None and keep_last is None:
        raise InputError("expected --older-than AGE, --keep-last N, or both: what may go")
    now = now or datetime.now(UTC)
    before = now - _age(older_than) if older_than is not None else now
    found = survey(Place(place.store))
    if found.strange:
        raise _unreadable(place.store, *next(iter(found.strange.items())))
    doomed = Doomed(place.store)
    nights = made_at_night(place.store, sorted({one.plan.job for one in found.galleries}))
    written = _last_written(found)
    for mine in _lines_of(found.galleries, nights):
        keep = 1 if keep_last is None else keep_last
        for position, one in enumerate(mine):
            old = written[one.plan.run12] < (before if one.finished else min(before, now - UNDER_WAY))
            meant = one.prefix.startswith(place.inside) or plan_key(one.plan.run12).startswith(place.inside)
            made = nights.get((one.plan.job, one.plan.run12))
            goes = meant and old and position < len(mine) - keep and not (made and made.tagged)
            (doomed.galleries if goes else doomed.kept).append(one)
    plans = {one.plan.run12 for one in found.galleries}
    doomed.unfinished = [stone for stone in _tombstones(place.store) if stone.left and stone.run12 not in plans]
    needed = {key for one in doomed.kept for key in one.plan.records}
    named = [key for one in doomed.galleries for key in one.plan.records]
    named += [key for one in doomed.unfinished for key in one.left if unit_key(key)]
    doomed.units = [key for key in dict.fromkeys(named) if key not in needed]
    doomed.shared = len(set(named) & needed & found.records.keys())
    doomed.objects = _objects(found, doomed)
    return doomed


def carry_out(doomed: Doomed) -> list[str]:
    """Delete what is doomed, and return the jobs that began meanwhile and now lack units, which are to be run again.

    Raises StoreError; pruning again then completes it.
    """
    store = doomed.store
    tombstones = [_tombstone(one, doomed) for one in doomed.galleries]
    for stone in tombstones:
        store.write(tombstone_key(stone.job, stone.run12), dump(stone))
    for job in sorted({one.plan.job for one in doomed.galleries}):
        _repoint(store, job, doomed)
    plans = [plan_key(one.plan.run12) for one in doomed.galleries]
    pages = [key for key in doomed.objects if not key.startswith(("units/", "verdicts/")) and key not in plans]
    with ThreadPoolExecutor(THREADS, "prune") as threads:

        def delete(keys: Iterable[str]) -> None:
            list(threads.map(store.delete, keys))

        delete(plans)
        delete(sorted(pages, key=lambda key: not key.endswith("/index.html")))
        spared = {key for plan in _begun_meanwhile(doomed) for key in plan.records}
        units = [key for key in doomed.units if key not in spared]
        delete(units)
        delete(_belongings(doomed, set(units)))
    for stone in [*tombstones, *doomed.unfinished]:
        store.write(tombstone_key(stone.job, stone.run12), dump(stone.model_copy(update={"left": ()})))
    for job in sorted({stone.job for stone in [*tombstones, *doomed.unfinished]}):
        if next(store.list(f"{nights_prefix(job)}index/"), None) is not None:
            write_night(store, job)
    return sorted({plan.job for plan in _begun_meanwhile(doomed) if not set(units).isdisjoint(plan.records)})


def lines(doomed: Doomed) -> list[str]:
    """What is to go, for people."""
    said = [f"{one.plan.job}  {one.plan.run12}  begun {one.begun:%Y-%m-%d %H:%M}" for one in doomed.galleries]
    said += [f"{one.job}  {one.run12}  its deletion was cut off, and is completed" for one in doomed.unfinished]
    if not said:
        return [f"nothing to delete: {len(doomed.kept)} galleries stay"]
    units = sum(key in doomed.objects for key in doomed.units)
    shared = f"; {doomed.shared} units stay, which galleries that stay show" if doomed.shared else ""
    said.append(
        f"{len(doomed.galleries)} galleries, {units} units: {len(doomed.objects)} objects, {megabytes(doomed.bytes)};"
        f" {len(doomed.kept)} galleries stay{shared}"
    )
    return said


def _lines_of(galleries: list[Gallery], nights: dict[tuple[str, str], Made]) -> list[list[Gallery]]:
    """The galleries of each job, unfinished, then oldest first; those of nights by model, in the order of training."""
    lines: dict[tuple[str, str], list[Gallery]] = {}
    for one in galleries:
        made = nights.get((one.plan.job, one.plan.run12))
        lines.setdefault((one.plan.job, made.source if made else ""), []).append(one)

    def order(one: Gallery) -> Any:
        made = nights.get((one.plan.job, one.plan.run12))
        return (one.finished, one.latest, made.place if made else 0, one.begun)

    return [sorted(lines[key], key=order) for key in sorted(lines)]


def _last_written(found: Survey) -> dict[str, datetime]:
    """When anything of each run was last written, by run12: plan, unit, state of a batch under way. Not the
    page, which may be made again at any time."""
    saved: dict[str, datetime] = {}
    for entry in found.place.store.entries(STATES):
        prefix = entry.key.rpartition("/")[0] + "/"
        saved[prefix] = max(entry.modified, saved.get(prefix, entry.modified))
    written = {}
    for one in found.galleries:
        entries = [*one.run.values(), *(found.records[key] for key in one.plan.records if key in found.records)]
        folders = {state_prefix(key.rpartition("/")[0] + "/") for key in one.plan.records}
        times = [entry.modified for entry in entries] + [saved[folder] for folder in folders if folder in saved]
        written[one.plan.run12] = max(times)
    return written


def _begun_meanwhile(doomed: Doomed) -> list[RunPlan]:
    """The plans of runs that began since the choice; also of one whose gallery is pruned, if it was run again.

    Raises InputError where one of them cannot be read.
    """
    known = {plan_key(one.plan.run12) for one in doomed.kept}
    keys = [key for key in doomed.store.list("runs/") if key.endswith("/plan.json") and key not in known]
    plans = []
    for key in keys:
        if (data := doomed.store.read(key)) is None:
            continue
        if (plan := parse(RunPlan, data)) is None:
            raise _unreadable(doomed.store, key, "it is no plan of a run")
        plans.append(plan)
    return plans


def _unreadable(store: Store, key: str, wrong: str) -> InputError:
    return InputError(
        f"{store.locate(key)}: {wrong}; so it cannot be told which units its gallery needs:"
        " run its job again, or delete this object first"
    )


def _belongings(doomed: Doomed, units: set[str]) -> Iterator[str]:
    """Keys of the files of these units, and of the verdicts on them."""
    for key in doomed.objects:
        if key.startswith("verdicts/"):
            belongs = record_of_verdict(key) in units
        else:
            belongs = key.startswith("units/") and key not in units and record_of_file(key) in units
        if belongs:
            yield key


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        raise InputError(f"--older-than {text!r}: expected a number of hours, days or weeks, such as 12h, 30d, 8w")
    return int(match[1]) * _UNIT[match[2]]


def _tombstones(store: Store) -> Iterator[Tombstone]:
    for key in store.list("galleries/"):
        stone = read_as(Tombstone, store.read, key) if key.endswith("/deleted.json") else None
        if stone is not None and key == tombstone_key(stone.job, stone.run12):
            yield stone


def _objects(found: Survey, doomed: Doomed) -> dict[str, Entry]:
    """All objects that go."""
    going = set(doomed.units)
    objects = {key: found.records[key] for key in doomed.units if key in found.records}
    for by_unit in (found.files_by_unit(), found.verdicts_by_unit()):
        objects |= {entry.key: entry for key in going for entry in by_unit.get(key, ())}
    gone = {f"{unit.model}@{unit.model12}" for key in going if (unit := unit_key(key))}
    pages = set(stale_pages(doomed.store, {one.plan.job for one in doomed.galleries}, gone))
    if pages:
        objects |= {entry.key: entry for entry in doomed.store.entries("nights/") if entry.key in pages}
    runs = [(one.plan.job, one.plan.run12) for one in doomed.galleries]
    for job, run12 in [*runs, *((stone.job, stone.run12) for stone in doomed.unfinished)]:
        for prefix in (gallery_prefix(job, run12), f"runs/{run12}/"):
            objects |= {entry.key: entry for entry in doomed.store.entries(prefix)}
        objects.pop(tombstone_key(job, run12), None)
    return objects


def _tombstone(gallery: Gallery, doomed: Doomed) -> Tombstone:
    units = [unit for key in gallery.plan.records if (unit := unit_key(key))]
    going = set(doomed.units)
    return Tombstone(
        job=gallery.plan.job,
        run12=gallery.plan.run12,
        models=tuple(dict.fromkeys(f"{unit.model}@{unit.model12}" for unit in units)),
        deleted=datetime.now(UTC).replace(microsecond=0),
        left=tuple(key for key in gallery.plan.records if key in going),
    )


def _repoint(store: Store, job: str, doomed: Doomed) -> None:
    """Have `latest.json` of `job` point to the last gallery that stays, if it points to one that goes."""
    if not any(one.latest and one.plan.job == job for one in doomed.galleries):
        return
    stays = [one for one in doomed.kept if one.plan.job == job and one.finished]
    if stays:
        point_latest(store, job, stays[-1].plan.run12)
    else:
        store.delete(latest_key(job))
