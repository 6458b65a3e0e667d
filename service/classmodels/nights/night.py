"""A night from its first listing on: find, reconcile, do one checkpoint after the other; then `show.py` shows it."""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from classmodels.job.identity import ALGORITHM
from classmodels.nights.checkpoint import Doing
from classmodels.nights.discover import Discovery, Found, Passed, Whole, dated, discover, open_prefix, sidecars12
from classmodels.nights.names import Names
from classmodels.nights.outcome import Outcome
from classmodels.nights.reconcile import Bounds, Budget, Work, is_open, misses_bridge, reconcile
from classmodels.nights.retag import retag
from classmodels.nights.show import show
from classmodels.nights.submit import Submit
from classmodels.nights.template import Template
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Failure
from classmodels.store import Store
from classmodels.store.nights import Done, Listing, Shown, nights_prefix, shown_key
from classmodels.store.patient import PatientStore
from classmodels.store.records import Tombstone, parse, tombstone_key

SPENT = ("done", "submitted", "broken", "incomplete")
"""How a checkpoint ends that a night has begun with."""


@dataclass(frozen=True)
class Look:
    """What a night found to do, before it does anything.

    deleted: what was deleted on purpose, `<source>@<model12>` and run12s. shown: what the last night showed and told.
    sidecars: a digest of them; retold: all checkpoints, where some say something else than when they were last read.
    """

    discovery: Discovery
    listing: Listing
    budget: Budget
    shown: Shown | None
    sidecars: str
    works: list[Work] = field(default_factory=list)
    deleted: frozenset[str] = frozenset()
    retold: list[Found] = field(default_factory=list)


@dataclass
class Night:
    """What a night did. failures: of judges that compare checkpoints; changes: the classes that changed most.

    pages: keys of what was written for people. news: whether there is anything that no night has told yet. keep: what
    is to be kept as `shown` once it is told; None where that is what is there.
    """

    began: datetime
    outcomes: list[Outcome] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    seconds: float = 0.0
    news: bool = False
    keep: Shown | None = None

    @property
    def exit_code(self) -> int:
        """4 where storage or the cluster failed in passing; 3 where something is for people to look at: what is broken
        or failed, and what only they can mend."""
        look = bool(self.failures) or any(not one.later for one in self.passed)
        return max([3 if look else 0, *(one.exit_code for one in self.outcomes)])


def look(template: Template, prefix: str, names: Names, whole: Whole, bounds: Bounds, store: Store) -> Look:
    """One listing of the checkpoints, one of the index; more only where something is to be done. Raises StoreError."""
    listing = Listing.of(template.name, keys := list(store.list(nights_prefix(template.name))))
    discovery = discover(open_prefix(prefix, template.settings), names, whole, datetime.now(UTC))
    wanted12 = list(template.wanted12.values())
    candidates = discovery.candidates
    shown = parse(Shown, store.read(shown_key(template.name)) or b"") if shown_key(template.name) in keys else None
    sidecars = sidecars12(candidates)
    seen = Look(discovery, listing, Budget(bounds.max_new), shown, sidecars)
    retold = bool(listing.entries) and (shown is None or shown.sidecars != sidecars)
    if not (
        retold
        or bounds.refresh
        or any(is_open(one, listing, wanted12) for one in candidates)
        or misses_bridge(candidates, listing, wanted12, ALGORITHM)
    ):
        return seen
    deleted = _deleted(listing, store)

    def is_deleted(one: Found) -> bool:
        keys = [key for key in listing.entries if f"/index/{one.checkpoint12}/" in key] if deleted else []
        entries = [parse(Done, store.read(key) or b"") for key in keys]
        return any(entry is not None and f"{entry.source}@{entry.model12}" in deleted for entry in entries)

    found = dated(discovery, list(template.sources))
    works = reconcile(found, listing, wanted12, ALGORITHM, bounds, is_deleted)
    return replace(seen, works=works, deleted=deleted, retold=found if retold else [])


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
    touched = retag(seen.retold, seen.listing, seen.shown, store) if seen.retold else {}
    doing = Doing(template, reached, seen.listing, machine, progress, seen.deleted, submit, interval)
    for number, work in enumerate(seen.works, 1):
        if not seen.budget.allows(work):
            continue
        progress.say(f"{number} of {len(seen.works)}: {work.found.uri}")
        outcome = doing.do(work)
        night.outcomes.append(outcome)
        if outcome.end in SPENT:
            seen.budget.spend(work)
        if outcome.reason:
            progress.say(f"{work.found.uri}: {outcome.end}: {outcome.reason}")
    show(doing, seen.shown, seen.sidecars, seen.discovery.candidates, touched, night, store)
    night.seconds = time.monotonic() - began
    return night


def _deleted(listing: Listing, store: Store) -> frozenset[str]:
    """What was deleted on purpose and not made again since: run12s of galleries, and `<source>@<model12>` of
    checkpoints that no gallery shows any more."""
    job = listing.job
    keys = set(store.list(f"galleries/{job}/"))
    alive = {key.split("/")[2] for key in keys if key.endswith("/index.html")}
    stones = [key for key in sorted(keys) if key.endswith("/deleted.json") and key.split("/")[2] not in alive]
    if not stones:
        return frozenset()
    with store.reading() as read:
        found = [(key, parse(Tombstone, read(key) or b"")) for key in stones]
        entries = [parse(Done, read(key) or b"") for key in listing.entries]
    gone = [one for key, one in found if one and key == tombstone_key(job, one.run12)]
    shown = {f"{one.source}@{one.model12}" for one in entries if one is not None and one.run12 in alive}
    return frozenset({one.run12 for one in gone} | ({model for one in gone for model in one.models} - shown))
