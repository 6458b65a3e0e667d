"""What a place holds, as a few listings and the plans of its runs tell: galleries, records, files, verdicts.

Nothing is read but plans, so that a look at twenty thousand units costs requests by the thousand objects. What cannot
be believed is left out of the survey and named in `strange`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from classmodels.errors import InputError
from classmodels.results.place import Place
from classmodels.store import Entry, RunPlan, Store
from classmodels.store.believed import read_believed, unit_key
from classmodels.store.records import gallery_prefix, latest_key, parse, plan_key, verdict_prefix


@dataclass(frozen=True)
class Gallery:
    """One run's gallery. begun: when its plan was written, which is never written again while it stays the same.

    objects: what lies under its prefix, page, data, sheet, tombstone; run: what lies under that of its run.
    """

    plan: RunPlan
    begun: datetime
    objects: dict[str, Entry]
    run: dict[str, Entry]
    latest: bool

    @property
    def prefix(self) -> str:
        return gallery_prefix(self.plan.job, self.plan.run12)

    @property
    def page(self) -> str:
        return f"{self.prefix}index.html"

    @property
    def finished(self) -> bool:
        """Whether it has its page, which is written once everything that could be done is."""
        return self.page in self.objects


@dataclass
class Survey:
    """What is there. records, files, verdicts: by key; strange: plans that are none, each with what is wrong."""

    place: Place
    galleries: list[Gallery] = field(default_factory=list)
    records: dict[str, Entry] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    verdicts: dict[str, Entry] = field(default_factory=dict)
    strange: dict[str, str] = field(default_factory=dict)

    def files_by_unit(self) -> dict[str, list[Entry]]:
        """The files of each unit, by its record's key; also of units that have no record."""
        found: dict[str, list[Entry]] = {}
        for key, entry in self.files.items():
            found.setdefault(record_of_file(key), []).append(entry)
        return found

    def verdicts_by_unit(self) -> dict[str, list[Entry]]:
        """The verdicts on each unit, by its record's key."""
        found: dict[str, list[Entry]] = {}
        for key, entry in self.verdicts.items():
            found.setdefault(record_of_verdict(key), []).append(entry)
        return found


def survey(place: Place) -> Survey:
    """Look at `place`. Raises StoreError."""
    store, inside = place.store, place.inside
    found = Survey(place)
    wanted: set[str] | None = None
    found.galleries = [] if inside.startswith(("units/", "verdicts/")) else _galleries(found)
    if inside.startswith(("galleries/", "runs/")):
        wanted = {key for one in found.galleries for key in one.plan.records}
        folders = sorted({key.rpartition("/")[0] + "/" for key in wanted})
        judges = sorted({verdict_prefix(j.name, j.model12) for one in found.galleries for j in one.plan.judges})
        units = _entries(store, folders)
        verdicts = _entries(
            store, (f"{judge}{folder.removeprefix('units/')}" for judge in judges for folder in folders)
        )
    else:
        units = _entries(store, [inside if inside.startswith("units/") else "units/"])
        verdicts = _entries(store, [inside if inside.startswith("verdicts/") else "verdicts/"])

    def meant(key: str) -> bool:
        if wanted is not None:
            return key in wanted
        return not inside.startswith("units/") or key.startswith(inside)

    for entry in units:
        if unit_key(entry.key):
            if meant(entry.key):
                found.records[entry.key] = entry
        elif meant(record_of_file(entry.key)):
            found.files[entry.key] = entry
    found.verdicts = {entry.key: entry for entry in verdicts if meant(record_of_verdict(entry.key))}
    return found


def the_gallery(place: Place) -> Gallery:
    """The gallery that `place` means: its only one, or the latest of its only job. Raises InputError where none is."""
    galleries = survey(place).galleries
    jobs = sorted({one.plan.job for one in galleries})
    if not galleries:
        raise InputError(f"{place}: found no gallery, expected one, or the galleries of a job")
    if len(jobs) > 1:
        raise InputError(f"{place}: found galleries of {', '.join(jobs)}, expected one: {place}/galleries/{jobs[0]}")
    return next((one for one in galleries if one.latest), galleries[-1])


def record_of_file(key: str) -> str:
    """The key of the record that a unit's file belongs to, by its name: `0009-ostrich.<sha12>.png`, `0009.json`."""
    folder, _, name = key.rpartition("/")
    return f"{folder}/{name.partition('-')[0]}.json"


def record_of_verdict(key: str) -> str:
    """The key of the record that a verdict is on: `verdicts/<judge>/<model>/<recipe>/0009.<sha12>.json`."""
    stem = "/".join(key.split("/")[2:])
    folder, _, name = stem.rpartition("/")
    return f"units/{folder}/{name.partition('.')[0]}.json"


def _galleries(found: Survey) -> list[Gallery]:
    """The galleries that the place means, in order of job and age; what is strange goes into `found`."""
    store, inside = found.place.store, found.place.inside
    runs, pages = _runs(store, inside)
    galleries, latest = [], {}
    for run12, objects in runs.items():
        key = plan_key(run12)
        if key not in objects:
            continue
        plan = parse(RunPlan, read_believed(store.read, key) or b"")
        if plan is None or plan.run12 != run12:
            found.strange[key] = f"it is the plan of another run, {plan.run12}" if plan else "it is no plan of a run"
            continue
        if wrong := [record for record in plan.records if unit_key(record) is None]:
            found.strange[key] = f"it names {wrong[0]!r:.300}: expected units/<model>@<id>/<recipe>@<id>/<class>.json"
            continue
        if plan.job not in latest:
            latest[plan.job] = latest_run(store, plan.job)
        prefix = gallery_prefix(plan.job, run12)
        mine = {key: entry for key, entry in pages.items() if key.startswith(prefix)}
        galleries.append(Gallery(plan, objects[key].modified, mine, objects, latest[plan.job] == run12))
    return sorted(galleries, key=lambda one: (one.plan.job, one.begun, one.plan.run12))


def _runs(store: Store, inside: str) -> tuple[dict[str, dict[str, Entry]], dict[str, Entry]]:
    """The objects of each run that `inside` means, and those of galleries; of a store with many runs, only these."""
    parts = inside.split("/")
    pages = {e.key: e for e in store.entries("/".join(parts[:2]) + "/" if parts[0] == "galleries" else "galleries/")}
    if parts[0] == "galleries":
        run12s = sorted({key.split("/")[2] for key in pages if key.startswith(inside) and key.count("/") > 2})
        found = _entries(store, (f"runs/{run12}/" for run12 in run12s))
    else:
        found = _entries(store, [inside if parts[0] == "runs" else "runs/"])
    runs: dict[str, dict[str, Entry]] = {}
    for entry in found:
        runs.setdefault(entry.key.split("/")[1], {})[entry.key] = entry
    return runs, pages


def latest_run(store: Store, job: str) -> str | None:
    """The run that `latest.json` of `job` points to; None where it is not there or says nothing."""
    try:
        value = json.loads(read_believed(store.read, latest_key(job)) or b"{}")
    except ValueError:
        return None
    run12 = value.get("run12") if isinstance(value, dict) else None
    return run12 if isinstance(run12, str) else None


def _entries(store: Store, prefixes: Iterable[str]) -> Iterator[Entry]:
    for prefix in prefixes:
        yield from store.entries(prefix)
