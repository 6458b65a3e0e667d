"""The view: all that a gallery page shows, as plain JSON-able values and nothing else.

A pure function of the plan, its records and their verdicts: no clock, no host, no path of this machine. `page.py`
renders it; it is also stored beside the page as gallery.json for whoever wants to read a gallery by program.
"""

import glob
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from classmodels.gallery.agreement import TOP, contrast, panel_table, ranking
from classmodels.gallery.plain import curve, neutral_settings, number, rows, text
from classmodels.gallery.shares import Shares, Variant, regularizer_table
from classmodels.gallery.units import Judged, Unit
from classmodels.store import FileEntry, RunPlan
from classmodels.store.records import gallery_prefix


def view_of(
    units: list[Unit],
    plan: RunPlan,
    shares: Mapping[Variant, Shares] | None = None,
    strips: Mapping[str, dict[str, Any]] | None = None,
    thumbs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The view of `units`, as `read_units` gave them for `plan`; shares are from `measure`, strips and thumbs from
    `write_strips` and `write_thumbs`.

    `models`, `recipes`, `judges`, `classes`, `steps`, `numerics` and `packages` are lists that `units` point into by
    position.
    Links (`href`) are relative to the page. A unit without a believable record keeps its place, with a `state` other
    than "done" and no image.
    """
    up = "../" * gallery_prefix(plan.job, plan.run12).count("/")
    models, recipes = _models(units), _recipes(units)
    model_at = {key: position for position, key in enumerate(dict.fromkeys((u.model, u.model12) for u in units))}
    recipe_at = {key: position for position, key in enumerate(dict.fromkeys((u.recipe, u.recipe12) for u in units))}
    judge_at = {
        judge: position
        for position, judge in enumerate(dict.fromkeys(j.judge.judge12 for u in units for j in u.judged))
    }
    numerics, packages, curve_steps = _Table(rows), _Table(rows), _Table(list)
    classes, class_of = _classes(units)

    shown = []
    for unit, position in zip(units, class_of, strict=True):
        model, recipe = model_at[unit.model, unit.model12], recipe_at[unit.recipe, unit.recipe12]
        entry: dict[str, Any] = {
            "id": "/".join(
                quote(part, safe="") for part in (models[model]["name"], recipes[recipe]["name"], str(unit.class_index))
            ),
            "state": unit.state,
            "model": model,
            "recipe": recipe,
            "class": position,
            "index": unit.class_index,
            "label": classes[position]["label"],
        }
        if (record := unit.record) is not None:
            steps, scores = curve(record.scores)
            entry |= {
                "label": text(record.label),
                "record": up + quote(unit.key, safe="/@"),
                "image": _file(unit, record.image, up),
                "animation": _file(unit, record.animation, up) if record.animation else None,
                "seed": record.seed,
                "logit": number(record.outcome.logit),
                "probability": number(record.outcome.probability, 4),
                "rank": record.outcome.rank,
                "steps": curve_steps.place(steps),
                "scores": scores,
                "deterministic": record.deterministic,
                "nondeterministic": [text(name) for name in record.nondeterministic[:20]],
                "numerics": numerics.place(record.numerics),
                "package": packages.place(record.package),
                "thumb": (thumbs or {}).get(unit.key),
                "strip": (strips or {}).get(unit.key),
                "held_out": _held_out(unit.judged),
                "disagreement": _disagreement(unit),
                "command": rerun(plan.job, unit),
                "verdicts": [_verdict(judged, judge_at[judged.judge.judge12]) for judged in unit.judged],
            }
        shown.append(entry)

    return {
        "version": 1,
        "job": text(plan.job),
        "run12": text(plan.run12),
        "counts": _counts(units),
        "models": models,
        "recipes": recipes,
        "judges": _judges(units),
        "classes": classes,
        "units": shown,
        "steps": curve_steps.items,
        "numerics": numerics.items,
        "packages": packages.items,
        "panel": panel_table(units, model_at, recipe_at),
        "regularizers": regularizer_table(units, shares or {}, model_at, recipe_at),
        "contrast": contrast(units),
    }


class _Table:
    """Distinct values in order of appearance; units share them by position, which keeps a large page small."""

    def __init__(self, shown: Callable[[Any], list[Any]]) -> None:
        """shown: makes of a value what the page has of it."""
        self.items: list[Any] = []
        self._shown = shown
        self._at: dict[str, int] = {}

    def place(self, value: Any) -> int:
        position = self._at.setdefault(json.dumps(value), len(self.items))
        if position == len(self.items):
            self.items.append(self._shown(value))
        return position


def _file(unit: Unit, file: FileEntry, up: str) -> dict[str, Any]:
    return {
        "href": up + quote(unit.folder + file.name, safe="/@"),
        "sha256": file.sha256,
        "width": file.width,
        "height": file.height,
        "frames": file.frames,
    }


def _models(units: list[Unit]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for unit in units:
        unknown: dict[str, Any] = {
            "family": "",
            "head": "",
            "classes": None,
            "licence": None,
            "notes": [],
            "identity": [],
        }
        entry = found.setdefault(
            (unit.model, unit.model12), {"name": text(unit.model), "model12": text(unit.model12), **unknown}
        )
        if unit.record is not None and entry["classes"] is None:
            model = unit.record.model
            entry |= {
                "family": text(model.family),
                "head": text(model.head),
                "classes": model.classes,
                "licence": text(model.licence) if model.licence else None,
                "notes": [text(note) for note in model.notes[:20]],
                "identity": rows(model.identity),
            }
    return _told_apart(list(found.values()), "model12")


def _recipes(units: list[Unit]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for unit in units:
        entry = found.setdefault(
            (unit.recipe, unit.recipe12), {"name": text(unit.recipe), "recipe12": text(unit.recipe12), "settings": []}
        )
        if unit.record is not None and not entry["settings"]:
            entry["settings"] = rows(unit.record.recipe.settings, neutral_settings())
    return _told_apart(list(found.values()), "recipe12")


def _told_apart(entries: list[dict[str, Any]], digest: str) -> list[dict[str, Any]]:
    """Two checkpoints under one name (a comparison) get their digest added to it."""
    times = Counter(entry["name"] for entry in entries)
    return [
        entry | {"name": f"{entry['name']}@{entry[digest]}"} if times[entry["name"]] > 1 else entry for entry in entries
    ]


def _judges(units: list[Unit]) -> list[dict[str, Any]]:
    judges = {judged.judge.judge12: judged.judge for unit in units for judged in unit.judged}
    return [{"name": text(j.name), "model12": text(j.model12), "family": text(j.family)} for j in judges.values()]


def _classes(units: list[Unit]) -> tuple[list[dict[str, Any]], list[int]]:
    """The classes in order of appearance, and each unit's position among them. id: the address of a class in the page.

    Two models' classes are one where index and first synonym agree. A unit without a record, and so without a label,
    joins whatever class has its index.
    """
    keys: dict[tuple[int, str], dict[str, Any]] = {}
    by_index: dict[int, tuple[int, str]] = {}
    for unit in units:
        if unit.record is not None:
            by_index.setdefault(unit.class_index, _class_key(unit.class_index, unit.record.label))
    of_unit = []
    for unit in units:
        index = unit.class_index
        key = _class_key(index, unit.record.label) if unit.record else by_index.get(index, (index, ""))
        label = text(unit.record.label) if unit.record else f"class {index}"
        entry = keys.setdefault(key, {"index": index, "label": label})
        if unit.record is not None and entry["label"] == f"class {index}":
            entry["label"] = label
        of_unit.append(key)
    place = {key: position for position, key in enumerate(keys)}
    times: Counter[int] = Counter()
    for entry in keys.values():
        times[entry["index"]] += 1
        entry["id"] = f"{entry['index']}" + (f"-{times[entry['index']]}" if times[entry["index"]] > 1 else "")
    return list(keys.values()), [place[key] for key in of_unit]


def _class_key(index: int, label: str) -> tuple[int, str]:
    return index, re.sub(r"[\s_]+", " ", label.split(",")[0]).strip().casefold()


def _held_out(judged: tuple[Judged, ...]) -> dict[str, Any]:
    """How the judges other than the model itself see one image: those that answered, and how they ranked it."""
    asked = [j for j in judged if j.held_out]
    seen = ranking(asked)
    return {
        "asked": len(asked),
        "judges": seen.n,
        "top1": seen.first,
        "top5": seen.among_top,
        "same_family": sum(j.answered and j.relation == "same family" for j in asked),
        "probability": seen.probability,
    }


def _disagreement(unit: Unit) -> float | None:
    """The widest gap between two probabilities of the class: the network's own, and each held-out judge's."""
    assert unit.record is not None
    said = [j.verdict.probability for j in unit.judged if j.held_out and j.verdict is not None]
    own = unit.record.outcome.probability
    known = [probability for probability in said if probability is not None]
    return number(max([*known, own]) - min([*known, own]), 4) if known and own is not None else None


def rerun(job: str, unit: Unit | None = None) -> str:
    """The command that makes the images of the job of that name, or that of `unit`, once more, into another folder."""
    command = f"classmodels run {shlex.quote(text(job) + '.yaml')}"
    if unit is not None:
        only = f"{glob.escape(unit.model)}/{glob.escape(unit.recipe)}/{unit.class_index}"
        command += f" --only {shlex.quote(text(only))}"
    return f"{command} --output ./again"


def _verdict(judged: Judged, judge: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"judge": judge, "relation": judged.relation, "state": judged.state}
    if (verdict := judged.verdict) is not None:
        entry |= {
            "rank": verdict.rank,
            "probability": number(verdict.probability, 4),
            "top": [
                [text(top.label), number(top.probability, 4), top.index == verdict.class_index]
                for top in verdict.top[:TOP]
            ],
        }
    return entry


def _counts(units: list[Unit]) -> dict[str, int]:
    judged = [j for unit in units for j in unit.judged]
    return {
        "units": len(units),
        "done": sum(unit.state == "done" for unit in units),
        "missing": sum(unit.state == "missing" for unit in units),
        "damaged": sum(unit.state == "damaged" for unit in units),
        "verdicts": sum(j.state == "done" for j in judged),
        "verdicts_missing": sum(j.state == "missing" for j in judged),
        "verdicts_damaged": sum(j.state == "damaged" for j in judged),
    }
