"""A night from its first listing to its last page: find, reconcile, do, compare, show.

Whatever is cut off, the next night completes: what is done is told by the index, and whether the pages show all of it
by the digest of the index that they were made from.
"""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from classmodels.errors import InputError
from classmodels.gallery.page import point_latest
from classmodels.job.identity import ALGORITHM
from classmodels.job.plan import Plan, expand_plan
from classmodels.nights.checkpoint import Doing, Outcome
from classmodels.nights.discover import Discovery, Found, Passed, Whole, dated, discover, open_prefix
from classmodels.nights.names import Names
from classmodels.nights.reconcile import Bounds, Work, is_open, misses_bridge, reconcile
from classmodels.nights.submit import Submit
from classmodels.nights.template import Template
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Failure, Tally
from classmodels.run.verdicts import judge_all
from classmodels.store import Store
from classmodels.store.nights import (
    Broken,
    Done,
    Listing,
    Shown,
    Source,
    broken_key,
    in_order,
    nights_prefix,
    noise_job,
    shown_key,
    source_key,
)
from classmodels.store.patient import PatientStore
from classmodels.store.records import Tombstone, dump, parse, tombstone_key


@dataclass(frozen=True)
class Look:
    """What a night found to do, before it does anything."""

    discovery: Discovery
    listing: Listing
    works: list[Work]
    deleted: frozenset[str]


@dataclass
class Night:
    """What a night did. failures: of judges that compare checkpoints; changes: the classes that changed most.

    pages: keys of what was written for people.
    """

    began: datetime
    outcomes: list[Outcome] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """3 where something is for people to look at: what is broken or failed, and what only they can mend."""
        bad = any(one.end in ("broken", "incomplete") or one.failed for one in self.outcomes)
        return 3 if bad or self.failures or any(not one.later for one in self.passed) else 0


def look(template: Template, prefix: str, names: Names, whole: Whole, bounds: Bounds, store: Store) -> Look:
    """One listing of the checkpoints, one of the index; more only where something is to be done. Raises StoreError."""
    listing = Listing.of(template.name, store.list(nights_prefix(template.name)))
    discovery = discover(open_prefix(prefix, template.settings), names, whole, datetime.now(UTC))
    wanted12 = list(template.wanted12.values())
    candidates = discovery.candidates
    if not (
        bounds.refresh
        or any(is_open(one, listing, wanted12) for one in candidates)
        or misses_bridge(candidates, listing, wanted12, ALGORITHM)
    ):
        return Look(discovery, listing, [], frozenset())
    deleted = _deleted(template.name, store)

    def is_deleted(one: Found) -> bool:
        keys = [key for key in listing.entries if f"/index/{one.checkpoint12}/" in key] if deleted else []
        entries = [parse(Done, store.read(key) or b"") for key in keys]
        return any(entry is not None and f"{entry.source}@{entry.model12}" in deleted for entry in entries)

    found = dated(discovery, list(template.sources))
    works = reconcile(found, listing, wanted12, ALGORITHM, bounds, is_deleted)
    return Look(discovery, listing, works, deleted)


def run_night(
    template: Template,
    seen: Look,
    store: Store,
    machine: Machine,
    progress: Quiet,
    submit: Submit | None = None,
    interval: float = INTERVAL,
) -> Night:
    """Do what was `seen` to be done. Raises StoreError, and InputError where the template is wrong."""
    began = time.monotonic()
    night = Night(datetime.now(UTC).replace(microsecond=0), passed=list(seen.discovery.passed))
    reached, store = store, PatientStore(store)
    doing = Doing(template, reached, seen.listing, machine, progress, seen.deleted, submit, interval)
    for number, work in enumerate(seen.works, 1):
        progress.say(f"{number} of {len(seen.works)}: {work.found.uri}")
        outcome = doing.do(work)
        night.outcomes.append(outcome)
        if outcome.reason:
            progress.say(f"{work.found.uri}: {outcome.end}: {outcome.reason}")
    _show(night, doing, seen, store)
    night.seconds = time.monotonic() - began
    return night


def _show(night: Night, doing: Doing, seen: Look, store: Store) -> None:
    """Have neighbours judge each other, and make the pages that show what is new, unless they do so already."""
    name, done = doing.template.name, {one.found.source_id for one in night.outcomes if one.end in ("done", "broken")}
    if not seen.listing.is_empty:
        shown = parse(Shown, store.read(shown_key(name)) or b"")
        current = shown is not None and shown.state == seen.listing.state
    else:
        current = True
    if current and not done:
        return
    _forget_stale(seen, store)
    listing = Listing.of(name, store.list(nights_prefix(name)))
    entries = read_entries(listing, store)
    changed = {one.source for one in entries} if not current else set()
    changed |= {one.found.source for one in night.outcomes if one.found.source_id in done}
    for source in sorted(changed):
        order = checkpoints_of(entries, source)
        for older, newer in pairwise(order):
            if not current or {older.source_id, newer.source_id} & done:
                _compare(older, newer, night, doing, seen, store)
    if entries:
        newest = in_order(entries)[-1]
        point_latest(store, name, newest.run12)
        if newest.noise is not None:
            point_latest(store, noise_job(name), newest.noise.run12)
    store.write(shown_key(name), dump(Shown(state=listing.state)))


def _compare(older: Done, newer: Done, night: Night, doing: Doing, seen: Look, store: Store) -> None:
    """Have `older` judge the class models of `newer`, so that both are seen through the same eyes.

    Where one of them is no longer where it was found, what they say of themselves has to do.
    """
    there = {candidate.source_id for candidate in seen.discovery.candidates}
    if older.judge12 is None or not {older.source_id, newer.source_id} <= there:
        return
    try:
        judging, judged = (doing.checked(one.source, one.uri, one.sha256) for one in (older, newer))
    except InputError as error:
        doing.progress.say(f"{older.uri} and {newer.uri} are not compared: {error}")
        return
    eyes = tuple(judge for judge in judging.panel if judge.model is judging.models[0])
    plan = expand_plan(judged)
    tally = Tally()
    judge_all(Plan(replace(judged, panel=eyes), plan.units), store, doing.machine, doing.progress, tally)
    night.failures += tally.failures


def _forget_stale(seen: Look, store: Store) -> None:
    """Delete what is noted of checkpoints that are something else by now."""
    now = {candidate.uri: candidate.source_id for candidate in seen.discovery.candidates}
    notes: list[tuple[str, type[Broken] | type[Source]]] = []
    notes += [(broken_key(seen.listing.job, one), Broken) for one in sorted(seen.listing.broken)]
    notes += [(source_key(seen.listing.job, one), Source) for one in sorted(seen.listing.sources)]
    for key, kind in notes:
        note = parse(kind, store.read(key) or b"")
        if note is not None and now.get(note.uri, note.source_id) != note.source_id:
            store.delete(key)


def read_entries(listing: Listing, store: Store) -> list[Done]:
    """The entries of the index that can be read."""
    with store.reading() as read:
        found = [parse(Done, read(key) or b"") for key in listing.entries]
    return [one for one in found if one is not None]


def checkpoints_of(entries: list[Done], source: str) -> list[Done]:
    """One entry for each checkpoint of `source`, oldest first; of the same weights in two places the older."""
    first: dict[str, Done] = {}
    for one in in_order(entry for entry in entries if entry.source == source):
        first.setdefault(one.model12, one)
    return list(first.values())


def _deleted(job: str, store: Store) -> frozenset[str]:
    """`<source>@<model12>` of the galleries of `job` that were deleted on purpose and not made again since."""
    keys = set(store.list(f"galleries/{job}/"))
    stones = [
        key for key in keys if key.endswith("/deleted.json") and key[: -len("deleted.json")] + "index.html" not in keys
    ]
    with store.reading() as read:
        found = [(key, parse(Tombstone, read(key) or b"")) for key in sorted(stones)]
    return frozenset(
        model for key, one in found if one and key == tombstone_key(job, one.run12) for model in one.models
    )
