"""A night from its first listing on: find, reconcile, do one checkpoint after the other; then `show.py` shows it."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from classmodels.job.identity import ALGORITHM
from classmodels.nights.checkpoint import Doing, Outcome
from classmodels.nights.discover import Discovery, Found, Passed, Whole, dated, discover, open_prefix
from classmodels.nights.names import Names
from classmodels.nights.reconcile import Bounds, Work, is_open, misses_bridge, reconcile
from classmodels.nights.show import show
from classmodels.nights.submit import Submit
from classmodels.nights.template import Template
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Failure
from classmodels.store import Store
from classmodels.store.nights import Done, Listing, nights_prefix
from classmodels.store.patient import PatientStore
from classmodels.store.records import Tombstone, parse, tombstone_key


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
    done = {one.found.source_id: one.found.source for one in night.outcomes if one.end in ("done", "broken")}
    shown = show(doing, seen.discovery.candidates, done, store)
    night.pages, night.changes, night.failures = shown.pages, shown.changes, shown.failures
    night.seconds = time.monotonic() - began
    return night


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
