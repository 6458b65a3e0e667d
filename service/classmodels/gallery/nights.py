"""The pages of the nights, made from what the index says is done: what changed, and each model's checkpoints in time.

`write_night` is a pure function of the store: the index's entries, records and verdicts. It reads the units of a
checkpoint once, when that is new; of older ones a row each (`rows.py`) and a note on each comparison. What it writes it
writes only where the bytes differ.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from classmodels.gallery.compare_page import json_bytes, render_comparison
from classmodels.gallery.compare_view import changed_only, compare_view, link_up
from classmodels.gallery.neighbours import best, by_model, each_once, in_line, neighbours
from classmodels.gallery.plain import text
from classmodels.gallery.rows import Row, row_of
from classmodels.gallery.sides import Side, compare_sides
from classmodels.gallery.timeline import Checkpoint, folder_of
from classmodels.gallery.timeline_page import Compare, Told, source_pages, top_page
from classmodels.store import RunPlan, Store
from classmodels.store.base import Entry
from classmodels.store.believed import OBJECT_BYTES
from classmodels.store.nights import (
    Broken,
    Done,
    Listing,
    broken_key,
    checkpoint_digest,
    compare_prefix,
    done_key,
    nights_prefix,
    timeline_prefix,
)
from classmodels.store.records import (
    JudgeEntry,
    gallery_prefix,
    parse,
    plan_key,
    record_name,
    unit_prefix,
    verdict_prefix,
)

log = logging.getLogger("classmodels")

_READERS = 16


def write_night(
    store: Store, job: str, changed: Collection[str] | None = None, again: Collection[str] = frozenset()
) -> list[str]:
    """Write the pages of job `job` again for the sources in `changed` (None: for all) and return their keys.

    First the comparisons of neighbouring checkpoints that are not there yet, then timelines, then the page of all
    models. again: checkpoints, by model12, whose units are others than they were. Raises StoreError.
    """
    night = _Night(store, job, again)
    pages: list[str] = []
    told = []
    for source in sorted(night.done.keys() | night.broken.keys()):
        wanted = changed is None or source in changed
        told.append(night.source(source, pages if wanted else None))
    night.put(f"{nights_prefix(job)}index.html", top_page(job, told))
    return [*pages, f"{nights_prefix(job)}index.html"]


def read_changes(store: Store, job: str, source: str, older12: str, newer12: str, recipe: str) -> dict[str, Any] | None:
    """What a comparison found, as `compare_view.changed_only` tells it; None where it has not been written."""
    return _json(store.read(compare_prefix(job, source, older12, newer12, recipe) + "changes.json"))


def index_entries(store: Store) -> list[Entry]:
    """What the pages of nights are made from, besides units: of all jobs, the index and what is broken."""
    entries = {entry.key: entry for entry in store.entries("nights/")}
    found: list[Entry] = []
    for job in sorted({key.split("/")[1] for key in entries if key.count("/") > 1}):
        listing = Listing.of(job, entries)
        keys = [*listing.entries, *(broken_key(job, one) for one in sorted(listing.broken))]
        found += [entries[key] for key in keys]
    return found


@dataclass(frozen=True)
class _Pair:
    """Two neighbouring checkpoints under one recipe, each with the entry that is compared."""

    older: Done
    newer: Done
    prefix: str


class _Night:
    """What there is: done, broken: entries of the index by source; present: all keys under `nights/<job>/`."""

    def __init__(self, store: Store, job: str, again: Collection[str]) -> None:
        self.store, self.job, self.again = store, job, again
        self.present: dict[str, Entry] = {entry.key: entry for entry in store.entries(nights_prefix(job))}
        listing = Listing.of(job, self.present)
        galleries = store.list(f"galleries/{job}/")
        self.galleries = {key.split("/")[2] for key in galleries if key.endswith("/index.html")}
        self.done: dict[str, list[Done]] = {}
        self.broken: dict[str, list[Broken]] = {}
        for key, data in self._read(listing.entries):
            done = parse(Done, data)
            if done is None or _key(done) != key or done.job != job:
                log.warning("%r is passed over: it is no entry of the index of %s", key, job)
            else:
                self.done.setdefault(done.source, []).append(done)
        for key, data in self._read([broken_key(job, one) for one in sorted(listing.broken)]):
            broken = parse(Broken, data)
            if broken is not None and broken_key(job, checkpoint_digest(broken.source_id)) == key:
                self.broken.setdefault(broken.source, []).append(broken)

    def _read(self, keys: Iterable[str]) -> list[tuple[str, bytes]]:
        """The objects that are there, with their keys; what is larger than any is passed over."""
        with self.store.reading() as read, ThreadPoolExecutor(_READERS, "nights-read") as readers:
            wanted = [key for key in keys if key in self.present and self.present[key].size <= OBJECT_BYTES]
            return [(key, data) for key, data in zip(wanted, readers.map(read, wanted), strict=True) if data]

    def put(self, key: str, data: bytes) -> None:
        """Write `data` unless it is there."""
        if key not in self.present or self.present[key].size != len(data) or self.store.read(key) != data:
            self.store.write(key, data)

    def source(self, source: str, pages: list[str] | None) -> Told:
        """Bring the pages of a source up to date, where `pages` is given to be told them; what the top page shows."""
        done = self.done.get(source, [])
        checkpoints = each_once(done)
        names = titles(checkpoints)
        timelines, compared = {}, {}
        for recipe in sorted({one.recipe for one in done}):
            line = in_line(done, self.galleries, recipe)
            pairs = [
                _Pair(older, newer, compare_prefix(self.job, source, older.model12, newer.model12, recipe))
                for older, newer in neighbours(line)
            ]
            found = self._found(pairs)
            if pages is not None:
                due = [pair for pair in pairs if self._is_due(pair, found.get(pair.newer.model12))]
                for pair in due:
                    self._compare(pair, names)
                pages += [f"{pair.prefix}index.html" for pair in due]
                found |= self._found(due)
                timelines[recipe] = [
                    self._checkpoint(best(entries), names, found.get(entries[0].model12)) for entries in line
                ]
            compared[recipe] = found
        alive = by_model(one for one in done if one.run12 in self.galleries)
        galleries = {
            model12: f"{gallery_prefix(self.job, best(some).run12)}index.html" for model12, some in alive.items()
        }
        broken = sorted(self.broken.get(source, []), key=lambda one: one.uri)
        told = Told(source, checkpoints, names, galleries, compared, broken)
        if pages is not None:
            written = source_pages(self.job, told, timelines)
            for name, page in written.items():
                self.put(timeline_prefix(self.job, source) + name, page.encode())
            for key in self._outdated(source, written):
                self.store.delete(key)
            pages.append(f"{timeline_prefix(self.job, source)}index.html")
        return told

    def _outdated(self, source: str, written: Mapping[str, str]) -> list[str]:
        """Pages of a timeline that had more of them."""
        top = timeline_prefix(self.job, source)
        pages = [key for key in self.present if key.startswith(top) and key.endswith(".html")]
        return [key for key in pages if key.removeprefix(top) not in written]

    def _is_due(self, pair: _Pair, said: Compare | None) -> bool:
        """Whether a comparison is not there, or older than what it is of."""
        older, newer = pair.older, pair.newer
        page = self.present.get(f"{pair.prefix}index.html")
        if page is None or said is None or {older.model12, newer.model12} & set(self.again):
            return True
        if page.modified < max(self.present[_key(one)].modified for one in (older, newer)):
            return True
        if said.in_space or older.judge12 is None:
            return False
        # The older network may have been shown the newer one's images since.
        folder = unit_prefix(newer.source, newer.model12, newer.recipe, newer.recipe12).removeprefix("units/")
        verdicts = self.store.entries(f"{verdict_prefix(older.source, older.model12)}{folder}")
        return any(verdict.modified > page.modified for verdict in verdicts)

    def _compare(self, pair: _Pair, names: Mapping[str, str]) -> None:
        """Write a comparison, its page last."""
        judges = [_own_judge(one) for one in (pair.older, pair.newer) if one.judge12 is not None]
        older, newer = (self._side(one, names, judges) for one in (pair.older, pair.newer))
        noise = [
            (self._side(one, names, judges, one.noise.classes), self._noise(one, names, judges))
            for one in (pair.older, pair.newer)
            if one.noise is not None
        ]
        up = "../" * pair.prefix.count("/")
        view = compare_view(
            compare_sides(older, newer, noise),
            link_up(up),
            up + older.gallery if older.gallery else None,
            up + newer.gallery if newer.gallery else None,
        )
        self.put(f"{pair.prefix}compare.json", json_bytes(view))
        self.put(f"{pair.prefix}changes.json", json_bytes(changed_only(view)))
        timeline = f"{up}{timeline_prefix(self.job, pair.newer.source)}index.html"
        self.store.write(f"{pair.prefix}index.html", render_comparison(view, timeline))

    def _side(
        self, done: Done, names: Mapping[str, str], judges: list[JudgeEntry], classes: Iterable[int] | None = None
    ) -> Side:
        """The units of an entry, or some classes of them, with the verdicts of its run's judges and of `judges`."""
        plan = parse(RunPlan, self.store.read(plan_key(done.run12)) or b"")
        folder = unit_prefix(done.source, done.model12, done.recipe, done.recipe12)
        panel = plan.judges if plan is not None and plan.run12 == done.run12 else ()
        page = f"{gallery_prefix(self.job, done.run12)}index.html" if done.run12 in self.galleries else None
        return Side(
            self.store,
            names[done.model12],
            done.source,
            done.model12,
            done.recipe,
            done.recipe12,
            tuple(folder + record_name(index) for index in sorted(set(done.classes if classes is None else classes))),
            (*panel, *judges),
            page,
        )

    def _noise(self, done: Done, names: Mapping[str, str], judges: list[JudgeEntry]) -> Side:
        assert done.noise is not None
        seed = done.model_copy(update={"run12": done.noise.run12, "recipe12": done.noise.recipe12})
        return self._side(seed, names, judges, done.noise.classes)

    def _found(self, pairs: list[_Pair]) -> dict[str, Compare]:
        """What the comparison of each checkpoint with the one before says, by its model12."""
        with self.store.reading() as read, ThreadPoolExecutor(_READERS, "nights-read") as readers:
            said = readers.map(lambda pair: _json(read(f"{pair.prefix}changes.json")), pairs)
            found = [
                (pair, Compare.of(one, pair.prefix, pair.older.model12)) for pair, one in zip(pairs, said, strict=True)
            ]
        return {pair.newer.model12: one for pair, one in found if one is not None}

    def _checkpoint(self, done: Done, names: Mapping[str, str], compare: Compare | None) -> Checkpoint:
        row = self._row(done, names)
        return Checkpoint(
            names[done.model12],
            done,
            folder_of(done.source, row, done.recipe),
            row,
            f"{gallery_prefix(self.job, done.run12)}index.html",
            compare.page if compare is not None else None,
            compare.changed if compare is not None else frozenset(),
            len(done.failed),
        )

    def _row(self, done: Done, names: Mapping[str, str]) -> Row:
        """The row of an entry, made where it is not there or older than its entry."""
        name = _key(done).removeprefix(f"{nights_prefix(self.job)}index/").replace("/", "-")
        key = f"{timeline_prefix(self.job, done.source)}{done.recipe}/rows/{name}"
        kept = self.present.get(key)
        if (
            kept is not None
            and kept.size <= OBJECT_BYTES
            and kept.modified >= self.present[_key(done)].modified
            and done.model12 not in self.again
        ):
            row = parse(Row, self.store.read(key) or b"")
            if row is not None and (row.model12, row.recipe12) == (done.model12, done.recipe12):
                return row
        row = row_of(replace(self._side(done, names, []), judges=()))
        self.put(key, (row.model_dump_json() + "\n").encode())
        return row


def titles(checkpoints: Iterable[Done]) -> dict[str, str]:
    """What people call each checkpoint, by its model12: by step, epoch, time or file; where that does not tell them
    apart, with the day or else the beginning of model12."""
    done = list(checkpoints)
    found = {one.model12: _title(one) for one in done}
    for more in (lambda one: f", {one.time:%Y-%m-%d}" if one.time else "", lambda one: f" ({one.model12[:6]})"):
        times = Counter(found.values())
        found = {one.model12: found[one.model12] + (more(one) if times[found[one.model12]] > 1 else "") for one in done}
    return found


def _title(done: Done) -> str:
    if done.step is not None:
        return f"step {done.step}"
    if done.epoch is not None:
        return f"epoch {done.epoch}"
    if done.time is not None:
        return done.time.strftime("%Y-%m-%d %H:%M")
    return text(re.sub(r"[?#].*", "", done.uri).rstrip("/").rsplit("/", 1)[-1], 60) or done.model12


def _key(done: Done) -> str:
    return done_key(done.job, checkpoint_digest(done.source_id), done.wanted12, done.algorithm)


def _own_judge(done: Done) -> JudgeEntry:
    assert done.judge12 is not None
    return JudgeEntry(name=done.source, model12=done.model12, judge12=done.judge12, family="")


def _json(data: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
