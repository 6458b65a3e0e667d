"""`compare`: two galleries, or the units of two models or recipes, side by side on one page that stands by itself.

Pictures and films are copied beside the page, so that it may be moved or sent as a folder. What is noise is taken from
units of another seed, where one of the two stores has some.
"""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from classmodels.errors import InputError
from classmodels.gallery.compare_page import json_bytes, render_comparison
from classmodels.gallery.compare_view import Link, changed_only, compare_view
from classmodels.gallery.sides import Compared, Side, compare_sides
from classmodels.gallery.stored import file_of
from classmodels.gallery.units import Unit
from classmodels.results.place import Place
from classmodels.results.progress import Meter
from classmodels.results.survey import the_gallery
from classmodels.store import FileEntry, Record, RunPlan, Store
from classmodels.store.believed import read_as, read_record, unit_key
from classmodels.store.records import JudgeEntry, verdict_prefix

THREADS = 16
Found = dict[str, Any]


def compare(a: Place, b: Place, output: Store, meter: Meter) -> list[Found]:
    """Compare `a`, the older, with `b` and write the page into `output`; what was found, and where the page is.

    Several models or recipes that both have make a page each, in a folder of its own. Raises InputError where a place
    does not say what is to be compared, StoreError.
    """
    pairs = _pairs(_sides(a), _sides(b), a, b)
    found = []
    for older, newer in pairs:
        folder = f"{older.model}-{older.recipe}/" if len(pairs) > 1 else ""
        older, newer = (_with_judge(side, older) for side in (older, newer))
        noise = [*_other_seeds(older, newer), *_other_seeds(newer, older)]
        older, newer = _named(older, newer)
        compared = compare_sides(older, newer, noise)
        meter.begin(f"compare {older.name} with {newer.name}", sum(file.bytes for _, _, file in _shown(compared)))
        view = compare_view(compared, _copy(compared, output, folder, meter), None, None)
        output.write(f"{folder}compare.json", json_bytes(view))
        output.write(f"{folder}index.html", render_comparison(view))
        page = output.locate(f"{folder}index.html")
        found.append({"page": page, "older": view["older"], "newer": view["newer"], **changed_only(view)})
    return found


def lines(found: Found, most: int = 10) -> list[str]:
    """What a comparison found, for people."""
    counts = found["counts"]
    changed = f"{counts['changed']} changed (by chance alone about {found['chance']})"
    changed = "what is noise is not known" if counts["unknown"] else changed
    said = [f"{found['older']['name']} -> {found['newer']['name']}: {counts['classes']} classes, {changed}"]
    said += [f"  {entry['index']} {entry['label']}: {', '.join(entry['said'])}" for entry in found["top"][:most]]
    if len(found["changed"]) > most:
        said.append(f"  and {len(found['changed']) - most} more")
    return [*said, *(f"  note: {mark}" for mark in found["marks"]), found["page"]]


def _sides(place: Place) -> list[Side]:
    """What `place` means, a side for each model and recipe."""
    if place.inside.startswith("units/"):
        keys = [key for key in place.store.list(place.inside) if unit_key(key)]
        return _split(place.store, keys, _judges_of(place.store, set(keys)))
    gallery = the_gallery(place)
    return _split(place.store, gallery.plan.records, gallery.plan.judges)


def _split(store: Store, keys: Iterable[str], judges: tuple[JudgeEntry, ...]) -> list[Side]:
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for key in keys:
        if unit := unit_key(key):
            groups.setdefault(unit[:4], []).append(key)
    return [Side(store, names[0], *names, tuple(records), judges) for names, records in groups.items()]


def _judges_of(store: Store, keys: set[str]) -> tuple[JudgeEntry, ...]:
    """The judges of all runs that made one of these units."""
    judges: dict[str, JudgeEntry] = {}
    for key in store.list("runs/"):
        if key.endswith("/plan.json"):
            plan = read_as(RunPlan, store.read, key)
            if plan is not None and keys.intersection(plan.records):
                judges |= {judge.judge12: judge for judge in plan.judges}
    return tuple(judges.values())


def _with_judge(side: Side, judge: Side) -> Side:
    """`side` with the verdicts that the model of `judge` gave on it outside of any run, as neighbours do in nights."""
    mine = verdict_prefix(judge.model, judge.model12)
    folders = {key.removeprefix("units/").rpartition("/")[0] + "/" for key in side.records}
    ways = {
        key.split(".")[-2]
        for folder in sorted(folders)
        for key in side.store.list(mine + folder)
        if key.count(".") == 3
    }
    known = {entry.judge12 for entry in side.judges}
    more = [
        JudgeEntry(name=judge.model, model12=judge.model12, judge12=way, family="")
        for way in sorted(ways - known)
        if re.fullmatch("[0-9a-f]{12}", way)
    ]
    return replace(side, judges=(*side.judges, *more))


def _pairs(mine: Sequence[Side], theirs: Sequence[Side], a: Place, b: Place) -> list[tuple[Side, Side]]:
    for sides, place in ((mine, a), (theirs, b)):
        if len({(side.model, side.recipe) for side in sides}) < len(sides):
            raise InputError(
                f"{place}: found several checkpoints of one name, {_listed(sides)}: expected those of one, such as"
                f" units/{sides[0].model}@{sides[0].model12}/{sides[0].recipe}@{sides[0].recipe12}"
            )
    if len(mine) == len(theirs) == 1:
        pairs = [(mine[0], theirs[0])]
    else:
        at = {(side.model, side.recipe): side for side in theirs}
        pairs = [(side, at[side.model, side.recipe]) for side in mine if (side.model, side.recipe) in at]
    if not pairs:
        raise InputError(
            f"found {_listed(mine)} in {a} and {_listed(theirs)} in {b}: expected a model and recipe that both have, or"
            " two places that hold one each, such as units/<model>@<id>/<recipe>@<id>"
        )
    if all(_same(*pair) for pair in pairs):
        raise InputError(f"{a} and {b} are the same units: expected two checkpoints, recipes or runs to compare")
    return pairs


def _same(one: Side, other: Side) -> bool:
    return one.store.uri == other.store.uri and set(one.records) == set(other.records)


def _listed(sides: Sequence[Side]) -> str:
    names = [f"{side.model}/{side.recipe}" for side in sides[:5]]
    return ", ".join(names) + (f" and {len(sides) - 5} more" if len(sides) > 5 else "") or "no units"


def _named(older: Side, newer: Side) -> tuple[Side, Side]:
    """The sides under names that tell them apart, and say no more than that."""
    for name, digest in (("model", "model12"), ("recipe", "recipe12")):
        if getattr(older, digest) != getattr(newer, digest):
            names = [getattr(side, name) for side in (older, newer)]
            if names[0] == names[1]:
                names = [f"{getattr(side, name)}@{getattr(side, digest)}" for side in (older, newer)]
            return replace(older, name=names[0]), replace(newer, name=names[1])
    return replace(older, name="the first"), replace(newer, name="the second")


def _other_seeds(side: Side, other: Side) -> list[tuple[Side, Side]]:
    """`side` with units of the same model that differ from it in the seed alone; not with `other`."""
    first = next((record for key in side.records[:20] if (record := read_record(side.store.read, key))), None)
    if first is None:
        return []
    folders: dict[str, list[str]] = {}
    for key in side.store.list(f"units/{side.model}@{side.model12}/"):
        if (unit := unit_key(key)) and unit.recipe12 not in (side.recipe12, other.recipe12):
            folders.setdefault(key.rpartition("/")[0], []).append(key)
    found = []
    for keys in folders.values():
        record = read_record(side.store.read, keys[0])
        if record is not None and record.seed != first.seed and _but_seed(record) == _but_seed(first):
            indices = {unit.class_index for key in keys if (unit := unit_key(key))}
            mine = tuple(key for key in side.records if (unit := unit_key(key)) and unit.class_index in indices)
            recipe = record.recipe
            seeds = replace(side, recipe=recipe.name, recipe12=recipe.recipe12, records=tuple(keys))
            found.append((replace(side, records=mine), seeds))
    return found


def _but_seed(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.recipe.identity.items() if name != "seed"}


def _shown(compared: Compared) -> list[tuple[Side, Unit, FileEntry]]:
    """All pictures and films of a page."""
    sides = ((compared.older, compared.before), (compared.newer, compared.after))
    return [
        (side, unit, file)
        for side, units in sides
        for unit in units.values()
        if unit.record is not None
        for file in (unit.record.image, unit.record.animation)
        if file is not None
    ]


def _copy(compared: Compared, output: Store, folder: str, meter: Meter) -> Link:
    """Put all that the page shows beside it, and tell where each thing is from there. What is damaged is left out."""

    def copy(one: tuple[Side, Unit, FileEntry]) -> str | None:
        side, unit, file = one
        data = file_of(unit, file, side.store.read)
        if data is None:
            return None
        place = "older" if side is compared.older else "newer"
        output.write(f"{folder}{place}/{file.name}", data)
        return f"{place}/{quote(file.name)}"

    there: dict[tuple[bool, str, str], str | None] = {}
    with ThreadPoolExecutor(THREADS, "compare-copy") as threads:
        shown = _shown(compared)
        for (side, unit, file), href in zip(shown, threads.map(copy, shown), strict=True):
            there[side is compared.older, unit.key, file.name] = href
            meter.step(file.bytes)
    return lambda side, unit, file: there.get((side is compared.older, unit.key, file.name))
