"""`pull`: bring a place here: only what is missing or differs, each file checked by the sha256 in its record.

First everything that is here is compared with what there is, mostly by listings (`fetch.py`); then units are
brought in parallel, files before their record, so that in a pulled folder too a record means that its files are there.
Each file is written under a temporary name and renamed; cut off at any moment, the same command goes on from there. The
pages, also those of nights, are made anew from what was pulled.
"""

import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from classmodels.errors import InputError
from classmodels.gallery import write_gallery
from classmodels.gallery.page import DATA, is_whole, point_latest, shown
from classmodels.results.fetch import Brought, Fetcher
from classmodels.results.place import Place
from classmodels.results.progress import Meter
from classmodels.results.survey import Gallery, Survey, latest_run, record_of_verdict, survey
from classmodels.store import RunPlan
from classmodels.store.base import Read
from classmodels.store.believed import FILE_BYTES, read_as, read_believed, read_record, unit_key
from classmodels.store.folder import FolderStore
from classmodels.store.nights import index_entries, nights_prefix
from classmodels.store.only import Only
from classmodels.store.records import dump, plan_key

THREADS = 64
"""Requests under way at once: enough to fill a line whose answers take tens of milliseconds."""


@dataclass
class Pulled:
    """What a pull did, or with `dry_run` would do. units: brought or mended; current: here and right before.

    failed: objects that could not be had, by key, each with the reason. pages: paths of the galleries here.
    """

    units: int = 0
    current: int = 0
    objects: int = 0
    bytes: int = 0
    pages: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, brought: Brought) -> None:
        self.units += brought.unit
        self.objects += brought.objects
        self.bytes += brought.bytes
        if brought.failed is not None:
            self.failed[brought.key] = brought.failed


def pull(place: Place, folder: str, only: Only, meter: Meter, *, dry_run: bool = False) -> Pulled:
    """Bring what `only` means of `place` into `folder`. Raises InputError, StoreError where one end cannot be used."""
    began = time.monotonic()
    # What a power cut damages here is found by its digest and brought again: not worth a wait for the disk.
    here = FolderStore(folder, durable=False)
    if isinstance(place.store, FolderStore) and here.root.resolve() == place.store.root.resolve():
        raise InputError(f"{folder}: found the folder that is to be pulled from, expected another")
    found = survey(place)
    report = Pulled(failed=dict(found.strange))
    with place.store.reading() as read, ThreadPoolExecutor(THREADS, "pull") as threads:
        wanted = _wanted(found, only, read, threads)
        keys = [key for key in found.records if key in wanted]
        galleries = [one for one in found.galleries if not only.patterns or wanted.intersection(one.plan.records)]
        fetcher = Fetcher(found, here, read)
        todo = {key: lack for key, lack in zip(keys, threads.map(fetcher.lacking, keys), strict=True) if lack.objects}
        copies = [entry for key, on in found.verdicts_by_unit().items() if key in wanted for entry in on]
        nights = [] if place.inside or only.patterns else index_entries(place.store)
        copies += nights
        copies = [entry for entry, same in zip(copies, threads.map(fetcher.is_here, copies), strict=True) if not same]
        report.current = len(wanted) - len(todo)
        size = sum(lack.bytes for lack in todo.values()) + sum(entry.size for entry in copies)
        if dry_run:
            report.units, report.bytes = len(todo), size
            report.objects = sum(lack.objects for lack in todo.values()) + len(copies)
            return report
        if todo or copies:
            meter.begin(f"pull {place}", size)

        def do(work: list[Future[Brought]]) -> None:
            try:
                for future in as_completed(work):
                    brought = future.result()
                    meter.step(brought.bytes)
                    report.add(brought)
            finally:  # where one fails for all, or at Ctrl-C, the others need not begin
                for future in work:
                    future.cancel()

        if todo or copies:  # without its data a gallery is made anew, also by whoever completes this
            for one in galleries:
                here.delete(f"{one.prefix}{DATA}")
            for job in {entry.key.split("/")[1] for entry in nights}:
                here.delete(f"{nights_prefix(job)}index.html")
        do([threads.submit(fetcher.bring, key) for key in todo])
        useful = [entry for entry in copies if record_of_verdict(entry.key) not in report.failed]
        do([threads.submit(fetcher.copy, entry) for entry in useful])
        for one in galleries:
            report.pages.append(here.locate(_gallery(one, wanted, here, read, bool(only.patterns))))
        _point(galleries, here)
        brought = {unit.model12 for key in todo if (unit := unit_key(key))}
        for job in sorted({entry.key.split("/")[1] for entry in nights}):
            from classmodels.gallery.nights import write_night

            if here.read(f"{nights_prefix(job)}index.html") is None:
                report.pages.append(here.locate(write_night(here, job, again=brought)[-1]))
    report.seconds = time.monotonic() - began
    return report


def _wanted(found: Survey, only: Only, read: Read, threads: ThreadPoolExecutor) -> set[str]:
    """The records that `only` means. What a label decides is asked of the records, and only then."""
    if not only.patterns:
        return set(found.records)

    def matching(key: str) -> list[str]:
        unit = unit_key(key)
        assert unit is not None  # the survey has no others
        known = only.matching(unit.model, unit.recipe, unit.class_index, None)
        if known is not None:
            return known
        record = read_record(read, key)
        label = record.label if record is not None else ""
        return only.matching(unit.model, unit.recipe, unit.class_index, label) or []

    matches = dict(zip(found.records, threads.map(matching, found.records), strict=True))
    for pattern in only.patterns:
        if not any(pattern in matched for matched in matches.values()):
            raise InputError(f"--only {pattern!r}: found no such unit; `classmodels list` tells models and recipes")
    return {key for key, matched in matches.items() if matched}


def _gallery(gallery: Gallery, wanted: set[str], here: FolderStore, read: Read, some: bool) -> str:
    """Write the plan of `gallery` here, and its page unless that is there and whole; the page's key.

    some: only some units were asked for; then the gallery here is one of these, and of what was pulled before.
    """
    key = plan_key(gallery.plan.run12)
    before = read_as(RunPlan, here.read, key)
    plan = gallery.plan
    if some:
        both = wanted.union(before.records if before is not None else ())
        plan = plan.model_copy(update={"records": tuple(record for record in plan.records if record in both)})
    if plan != before:
        here.delete(f"{gallery.prefix}{DATA}")
        here.write(key, dump(plan))
    if not is_whole(here, plan, shown(here, plan)):
        write_gallery(here, plan, latest=False, drawn=lambda view: _sheet(gallery, view, read))
    return gallery.page


def _sheet(gallery: Gallery, view: Mapping[str, Any], read: Read) -> bytes | None:
    """The contact sheet there, if the page there shows the very images of `view`; drawing one takes seconds."""
    data, sheet = f"{gallery.prefix}gallery.json", f"{gallery.prefix}contact-sheet.png"
    if not all(key in gallery.objects and gallery.objects[key].size <= FILE_BYTES for key in (data, sheet)):
        return None
    try:
        theirs = json.loads(read_believed(read, data) or b"{}")
        return read_believed(read, sheet) if _shown(theirs) == _shown(view) else None
    except (ValueError, TypeError, LookupError, AttributeError):  # whatever was put there
        return None


def _shown(view: Mapping[str, Any]) -> list[Any]:
    """What a contact sheet is made of."""
    units = [(u["id"], u["state"], u["label"], (u.get("image") or {}).get("sha256")) for u in view["units"]]
    return [view["job"], view["models"], view["recipes"], *units]


def _point(galleries: list[Gallery], here: FolderStore) -> None:
    """Have the latest gallery of each job here be the one that is so there, or else the newest that was pulled."""
    for job in {one.plan.job for one in galleries}:
        mine = [one.plan.run12 for one in galleries if one.plan.job == job]
        theirs = [one.plan.run12 for one in galleries if one.plan.job == job and one.latest]
        if theirs or latest_run(here, job) is None:
            point_latest(here, job, (theirs or mine)[-1])
