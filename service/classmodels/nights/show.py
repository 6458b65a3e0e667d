"""After the night's work: neighbours judge each other, the pages show what is new, `latest.json` points to the newest.

Whether the pages show all there is, is told by the digest of the index that they were made from: what a kill prevented,
the next night makes. What was told is kept with it, so that the next night also tells what a kill prevented.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from classmodels.errors import InputError
from classmodels.gallery.neighbours import each_once, in_line, neighbours
from classmodels.gallery.nights import read_changes, titles, write_night
from classmodels.gallery.page import point_latest
from classmodels.job.identity import digest12
from classmodels.job.plan import expand_plan
from classmodels.nights.checkpoint import Doing
from classmodels.nights.discover import Candidate
from classmodels.nights.outcome import Outcome
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
from classmodels.store.records import gallery_prefix, parse, unit_prefix

if TYPE_CHECKING:
    from classmodels.nights.night import Night

TOLD = 5
"""Classes that a summary names of each comparison."""
LISTED = 100
"""Classes of each comparison that a summary lists by index."""


def show(
    doing: Doing,
    shown: Shown | None,
    sidecars: str,
    candidates: Collection[Candidate],
    touched: Mapping[str, str],
    night: "Night",
    store: Store,
) -> None:
    """Bring the pages up to date, and `night` to what there is to tell of them. Raises StoreError.

    shown: what the last night left; sidecars: a digest of those there are now; candidates: what lies where checkpoints
    are looked for; touched: source_id and model of checkpoints whose entries say something else by now.
    """
    name, listing = doing.template.name, doing.listing
    done = {one.found.source_id: one.found.source for one in night.outcomes if one.end in ("done", "broken")}
    done |= touched
    again = set(shown.again) if shown is not None else set()
    current = listing.is_empty or (shown is not None and shown.state == listing.state)
    if not current or done or again:
        _forget_stale(listing, candidates, store)
        listing = Listing.of(name, store.list(nights_prefix(name)))
        # Another night may have told something meanwhile.
        shown = parse(Shown, store.read(shown_key(name)) or b"")
        told = frozenset(shown.told) if shown is not None else frozenset[str]()
        again = _bring_up_to_date(doing, listing, done if current else None, again, told, candidates, night, store)
    facts = [*listing.facts, *_troubles(night)]
    told = frozenset(shown.told) if shown is not None else frozenset()
    night.news = not told.issuperset(facts)
    keep = Shown(state=listing.state, told=tuple(sorted(facts)), sidecars=sidecars, again=tuple(sorted(again)))
    if night.news or (shown is not None and (shown.state, shown.sidecars, set(shown.again)) != _what(keep)):
        night.keep = keep


def _what(shown: Shown) -> tuple[str, str, set[tuple[str, str]]]:
    return shown.state, shown.sidecars, set(shown.again)


def _bring_up_to_date(
    doing: Doing,
    listing: Listing,
    done: Mapping[str, str] | None,
    again: Collection[tuple[str, str]],
    told: Collection[str],
    candidates: Collection[Candidate],
    night: "Night",
    store: Store,
) -> set[tuple[str, str]]:
    """Write the pages; which neighbours are to be judged again. done: what alone is new, or None where nobody knows."""
    name = doing.template.name
    entries = dict(read_entries(listing, store))
    galleries = {key.split("/")[2] for key in store.list(f"galleries/{name}/") if key.endswith("/index.html")}
    there = {candidate.source_id for candidate in candidates}
    pairs: list[tuple[Done, Done]] = []
    names: dict[str, dict[str, str]] = {}
    for source in sorted({one.source for one in entries.values()}):
        mine = [one for one in entries.values() if one.source == source]
        names[source] = titles(each_once(mine))
        for recipe in sorted({one.recipe for one in mine}):
            pairs += neighbours(in_line(mine, galleries, recipe))
    failed, asked = set(), set()
    for older, newer in pairs:
        both = (older.model12, newer.model12)
        due = done is None or both in again or bool({older.source_id, newer.source_id} & done.keys())
        if due and both not in asked and {older.source_id, newer.source_id} <= there:
            asked.add(both)
            failures = _judge(older, newer, doing, store)
            night.failures += failures
            if any(failure.passing for failure in failures):
                failed.add(both)
    asked_again = [newer.source for older, newer in pairs if (older.model12, newer.model12) in again]
    changed = None if done is None else {*done.values(), *asked_again}
    night.pages = write_night(store, name, changed)
    prefix = nights_prefix(name)
    news = {one.source_id for key, one in entries.items() if key.removeprefix(prefix) not in told}
    for older, newer in sorted(pairs, key=lambda pair: (pair[1].time or pair[1].modified, pair[1].uri), reverse=True):
        if newer.source_id in news and (change := _told(store, older, newer, names[newer.source])):
            night.changes.append(change)
    night.outcomes += _earlier(night, listing, [one for one in entries.values() if one.source_id in news], told, store)
    if entries:
        newest = in_order(entries.values())[-1]
        point_latest(store, name, newest.run12)
        if newest.noise is not None:
            point_latest(store, noise_job(name), newest.noise.run12)
    _sweep(list(entries.values()), store)
    return failed


def _troubles(night: "Night") -> list[str]:
    """What there is to tell besides the index: what waits for a cluster, and what is to be looked at."""
    found = [
        f"{one.end} {one.found.source_id} {one.reason if one.end in ('blocked', 'incomplete') else ''}"
        for one in night.outcomes
        if one.end in ("submitted", "incomplete", "blocked", "unreachable")
    ]
    found += [f"passed {one.uri} {one.reason}" for one in night.passed if not one.later]
    return [f"{text.partition(' ')[0]} {digest12(text)}" for text in found]


def _earlier(
    night: "Night", listing: Listing, entries: list[Done], told: Collection[str], store: Store
) -> list[Outcome]:
    """What earlier nights did and never told of, because they were cut off: of the index, and what is broken."""
    mine = {one.found.source_id for one in night.outcomes}
    found: dict[str, Outcome] = {}
    for one in in_order(entries):
        if one.source_id not in mine:
            before = found.get(one.source_id)
            failed = tuple(Failure(f"class {undone.class_index}", undone.reason) for undone in one.failed)
            found[one.source_id] = Outcome(
                one,
                "earlier",
                "done",
                units=one.units + len(one.failed) + (before.units if before else 0),
                failed=failed + (before.failed if before else ()),
                page=gallery_prefix(one.job, one.run12) + "index.html",
            )
    for checkpoint12 in sorted(listing.broken):
        key = broken_key(listing.job, checkpoint12)
        if key.removeprefix(nights_prefix(listing.job)) not in told:
            broken = parse(Broken, store.read(key) or b"")
            if broken is not None and broken.source_id not in mine:
                found[broken.source_id] = Outcome(broken, "earlier", "broken", reason=broken.reason)
    return list(found.values())


def _sweep(entries: list[Done], store: Store) -> None:
    """Delete saved states of what is done: a night that was killed left them, and another did the work."""
    folders = {unit_prefix(one.source, one.model12, one.recipe, one.recipe12) for one in entries}
    folders |= {unit_prefix(o.source, o.model12, o.recipe, o.noise.recipe12) for o in entries if o.noise is not None}
    done = {state_prefix(folder) for folder in folders}
    for key in store.list(STATES):
        if f"{key.rpartition('/')[0]}/" in done:
            store.delete(key)


def read_entries(listing: Listing, store: Store) -> list[tuple[str, Done]]:
    """The entries of the index that can be read, each with its key."""
    with store.reading() as read:
        found = [(key, parse(Done, read(key) or b"")) for key in listing.entries]
    return [(key, one) for key, one in found if one is not None]


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


def _told(store: Store, older: Done, newer: Done, names: Mapping[str, str]) -> dict[str, Any] | None:
    """What the comparison of two neighbours says, for the summary; None where no class changed."""
    recipe = newer.recipe
    said = read_changes(store, older.job, older.source, older.model12, newer.model12, recipe)
    if not said or not said.get("changed"):
        return None
    return {
        "source": newer.source,
        "recipe": recipe,
        "older": {name: getattr(older, name) for name in ("step", "epoch", "model12")} | {"name": names[older.model12]},
        "newer": {name: getattr(newer, name) for name in ("step", "epoch", "model12")} | {"name": names[newer.model12]},
        "changed": len(said["changed"]),
        "of": said["counts"]["classes"],
        "chance": said.get("chance", 0),
        "classes": said["changed"][:LISTED],
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
