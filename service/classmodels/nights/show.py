"""After the night's work: neighbours judge each other, the pages show what is new, `latest.json` points to the newest.

Whether the pages show all there is, is told by the digest of the index that they were made from: what a kill prevented,
the next night makes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from classmodels.errors import InputError
from classmodels.gallery.nights import read_changes, write_night
from classmodels.gallery.page import point_latest
from classmodels.job.plan import expand_plan
from classmodels.nights.checkpoint import Doing
from classmodels.nights.discover import Candidate
from classmodels.run.state import STATES, state_prefix
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
    compare_prefix,
    in_order,
    nights_prefix,
    noise_job,
    shown_key,
    source_key,
)
from classmodels.store.records import dump, parse, unit_prefix

TOLD = 5
"""Classes that a summary names of each comparison."""


@dataclass
class Showing:
    """What came of it. changes: what the comparisons of new checkpoints found; failures: of judges."""

    pages: list[str] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def show(doing: Doing, candidates: Collection[Candidate], done: Mapping[str, str], store: Store) -> Showing:
    """Bring the pages up to date. done: what is done or broken since `doing.listing` was made: its source_id and model.

    candidates: what lies where checkpoints are looked for. Raises StoreError.
    """
    name, listing, found = doing.template.name, doing.listing, Showing()
    current = listing.is_empty
    if not listing.is_empty:
        shown = parse(Shown, store.read(shown_key(name)) or b"")
        current = shown is not None and shown.state == listing.state
    if current and not done:
        return found
    _forget_stale(listing, candidates, store)
    listing = Listing.of(name, store.list(nights_prefix(name)))
    entries = read_entries(listing, store)
    changed = set(done.values()) if current else None
    there = {candidate.source_id for candidate in candidates}
    pairs = []
    for source in sorted({one.source for one in entries} if changed is None else changed):
        for older, newer in pairwise(_in_line(entries, source, name, store)):
            if current and not {older.source_id, newer.source_id} & done.keys():
                continue
            pairs.append((older, newer))
            if {older.source_id, newer.source_id} <= there:
                found.failures += _judge(older, newer, doing, store)
    found.pages = write_night(store, name, changed)
    for older, newer in pairs:
        if newer.source_id in done:
            found.changes += [
                told for recipe in doing.template.recipes if (told := _told(store, older, newer, recipe.name))
            ]
    if entries:
        newest = in_order(entries)[-1]
        point_latest(store, name, newest.run12)
        if newest.noise is not None:
            point_latest(store, noise_job(name), newest.noise.run12)
    _sweep(entries, store)
    store.write(shown_key(name), dump(Shown(state=listing.state)))
    return found


def _sweep(entries: list[Done], store: Store) -> None:
    """Delete saved states of what is done: a night that was killed left them, and another did the work."""
    folders = {unit_prefix(one.source, one.model12, one.recipe, one.recipe12) for one in entries}
    folders |= {unit_prefix(o.source, o.model12, o.recipe, o.noise.recipe12) for o in entries if o.noise is not None}
    done = {state_prefix(folder) for folder in folders}
    for key in store.list(STATES):
        if f"{key.rpartition('/')[0]}/" in done:
            store.delete(key)


def read_entries(listing: Listing, store: Store) -> list[Done]:
    """The entries of the index that can be read."""
    with store.reading() as read:
        found = [parse(Done, read(key) or b"") for key in listing.entries]
    return [one for one in found if one is not None]


def _in_line(entries: list[Done], source: str, job: str, store: Store) -> list[Done]:
    """One entry for each checkpoint of `source` that has a gallery, oldest first; of the same weights in two places the
    older."""
    galleries = {key.split("/")[2] for key in store.list(f"galleries/{job}/") if key.endswith("/index.html")}
    mine = [one for one in entries if one.source == source and one.run12 in galleries]
    return in_order({one.model12: one for one in reversed(in_order(mine))}.values())


def _judge(older: Done, newer: Done, doing: Doing, store: Store) -> list[Failure]:
    """Have `older` judge the class models of `newer`, so that both are seen through the same eyes."""
    if older.judge12 is None:
        return []
    try:
        judging, judged = (doing.checked(one.source, one.uri, one.sha256) for one in (older, newer))
    except InputError as error:  # what was there at the listing need not be there now
        doing.progress.say(f"{older.uri} and {newer.uri} are not seen through the same eyes: {error}")
        return []
    eyes = tuple(judge for judge in judging.panel if judge.model is judging.models[0])
    tally = Tally()
    judge_all(expand_plan(judged).units, eyes, store, doing.machine, doing.progress, tally)
    return tally.failures


def _told(store: Store, older: Done, newer: Done, recipe: str) -> dict[str, Any] | None:
    """What the comparison of two neighbours says, for the summary; None where no class changed."""
    said = read_changes(store, older.job, older.source, older.model12, newer.model12, recipe)
    if not said or not said.get("changed"):
        return None
    return {
        "source": newer.source,
        "recipe": recipe,
        "older": {"step": older.step, "epoch": older.epoch, "model12": older.model12},
        "newer": {"step": newer.step, "epoch": newer.epoch, "model12": newer.model12},
        "classes": said["changed"],
        "most": [{name: one[name] for name in ("index", "label", "said")} for one in said["top"][:TOLD]],
        "page": compare_prefix(older.job, older.source, older.model12, newer.model12, recipe) + "index.html",
    }


def _forget_stale(listing: Listing, candidates: Collection[Candidate], store: Store) -> None:
    """Delete what is noted of checkpoints that are something else by now."""
    now = {candidate.uri: candidate.source_id for candidate in candidates}
    notes: list[tuple[str, type[Broken] | type[Source]]] = []
    notes += [(broken_key(listing.job, one), Broken) for one in sorted(listing.broken)]
    notes += [(source_key(listing.job, one), Source) for one in sorted(listing.sources)]
    for key, kind in notes:
        note = parse(kind, store.read(key) or b"")
        if note is not None and now.get(note.uri, note.source_id) != note.source_id:
            store.delete(key)
