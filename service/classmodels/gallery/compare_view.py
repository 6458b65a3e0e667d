"""The view of a comparison: all that its page shows, as plain JSON-able values; stored beside it as compare.json.

A pure function of what was compared, as `view.py` is of a gallery. What may have made a difference other than what was
compared (another version of the algorithm, other numerics, other settings) stands in `marks`.
"""

from collections.abc import Callable
from statistics import median
from typing import Any
from urllib.parse import quote

from classmodels.gallery.compare import CHANCE, MEASURES, QUANTILE, Change
from classmodels.gallery.plain import flat, number, shown, text
from classmodels.gallery.sides import Compared, Side
from classmodels.gallery.units import Judged, Unit
from classmodels.store import FileEntry, Record

MARKS = 12
"""Differences of settings or numerics that are named."""

Link = Callable[[Side, Unit, FileEntry], str | None]


def link_up(up: str) -> Link:
    """Links to files of the store that the page is in, `up` from it."""
    return lambda side, unit, file: up + quote(unit.folder + file.name, safe="/@")


def compare_view(compared: Compared, link: Link, older_page: str | None, newer_page: str | None) -> dict[str, Any]:
    """The view. link: where a file of a unit lies, relative to the page; None where it is not to be had. older_page,
    newer_page: links to the galleries, if there are."""
    older, newer, found = compared.older, compared.newer, compared.changes
    both = [(b, a) for c in found if (b := _record(compared.before, c)) and (a := _record(compared.after, c))]
    scores = [a.outcome.logit - b.outcome.logit for b, a in both]
    return {
        "version": 1,
        "kind": _kind(older, newer),
        "older": _side(older, older_page),
        "newer": _side(newer, newer_page),
        "counts": {
            "classes": len(found),
            "changed": sum(change.changed is True for change in found),
            "unknown": sum(change.changed is None for change in found),
            "missing": sum(change.missing for change in found),
        },
        "quantile": QUANTILE,
        "chance": round(len(found) * CHANCE, 1 if len(found) * CHANCE < 10 else None),
        "floors": {name: {"value": number(floor.value, 4), "pairs": floor.count} for name, floor in _floors(compared)},
        "in_space": compared.in_space,
        "typical_score": number(median(scores), 4) if scores else None,
        "marks": _marks(compared, both),
        "classes": [_class(change, compared, link) for change in found],
    }


def changed_only(view: dict[str, Any]) -> dict[str, Any]:
    """What a summary or a timeline needs of a view: who changed, and what of the most changed."""
    top = [
        {name: entry[name] for name in ("index", "label", "said", "missing", "measures", "before", "after")}
        for entry in view["classes"]
        if entry["changed"]
    ]
    return {
        name: view[name]
        for name in ("version", "kind", "counts", "chance", "floors", "in_space", "typical_score", "marks")
    } | {
        "changed": sorted(entry["index"] for entry in view["classes"] if entry["changed"]),
        "top": top[:20],
    }


def _floors(compared: Compared) -> list[tuple[str, Any]]:
    return [(name, compared.floors[name]) for name in MEASURES if name in compared.floors]


def _side(side: Side, page: str | None) -> dict[str, Any]:
    names = ("name", "model", "model12", "recipe", "recipe12")
    return {name: text(getattr(side, name)) for name in names} | {"page": page}


def _kind(older: Side, newer: Side) -> str:
    if older.model12 != newer.model12:
        return "checkpoints" if older.recipe12 == newer.recipe12 else "checkpoints and recipes"
    return "recipes" if older.recipe12 != newer.recipe12 else "runs"


def _record(units: dict[int, Unit], change: Change) -> Record | None:
    unit = units.get(change.class_index)
    return unit.record if unit is not None and not change.missing else None


def _class(change: Change, compared: Compared, link: Link) -> dict[str, Any]:
    before, after = compared.before.get(change.class_index), compared.after.get(change.class_index)
    sides = [_shown(compared.older, before, link), _shown(compared.newer, after, link)]
    panel = _panel(compared, before, after)
    return {
        "index": change.class_index,
        "label": text(change.label),
        "changed": change.changed,
        "missing": change.missing,
        "said": _said(change, sides, panel),
        "measures": {
            name: {
                "value": number(one.value, 4),
                "floor": number(one.floor, 4),
                "above": one.above,
                "times": number(one.value / one.floor, 3) if one.floor else None,
            }
            for name, one in change.measures.items()
        },
        "before": sides[0],
        "after": sides[1],
        "panel": panel,
    }


def _shown(side: Side, unit: Unit | None, link: Link) -> dict[str, Any] | None:
    if unit is None or unit.record is None:
        return None
    record = unit.record
    return {
        "image": _file(side, unit, record.image, link),
        "animation": _file(side, unit, record.animation, link) if record.animation is not None else None,
        "logit": number(record.outcome.logit),
        "probability": number(record.outcome.probability, 4),
        "rank": record.outcome.rank,
    }


def _file(side: Side, unit: Unit, file: FileEntry, link: Link) -> dict[str, Any] | None:
    href = link(side, unit, file)
    return None if href is None else {"href": href, "width": file.width, "height": file.height}


def _panel(compared: Compared, before: Unit | None, after: Unit | None) -> list[dict[str, Any]]:
    """A row for each network that judged one of the two images: how it ranks the class in each, and what it sees."""
    rows: dict[str, dict[str, Any]] = {}
    for place, unit in (("before", before), ("after", after)):
        for judged in unit.judged if unit is not None else ():
            said = _verdict(judged)
            if said is None:
                continue
            model12 = judged.judge.model12
            row = rows.setdefault(model12, {"judge": _called(compared, judged), "before": None, "after": None})
            row[place] = row[place] or said
    return list(rows.values())


def _called(compared: Compared, judged: Judged) -> str:
    """The judge's name; of the two that are compared, which one it is."""
    if compared.older.model12 != compared.newer.model12:
        for side in (compared.older, compared.newer):
            if judged.judge.model12 == side.model12:
                return text(side.name)
    return text(judged.judge.name)


def _verdict(judged: Judged) -> dict[str, Any] | None:
    verdict = judged.verdict
    if verdict is None:
        return None
    first = verdict.top[0] if verdict.top else None
    return {
        "rank": verdict.rank,
        "probability": number(verdict.probability, 4),
        "sees": text(first.label) if first is not None else None,
    }


def _said(change: Change, sides: list[dict[str, Any] | None], panel: list[dict[str, Any]]) -> list[str]:
    """What happened, in a few words each, the weightiest first."""
    if change.missing:
        lost = [name for name, side in zip(("older", "newer"), sides, strict=True) if side is None]
        return [f"no image from the {lost[0]} one" if len(lost) == 1 else "no image to compare"]
    said = []
    before, after = sides
    assert before is not None
    assert after is not None
    if (before["rank"] == 1) != (after["rank"] == 1):
        said.append(
            "its own network now ranks it first"
            if after["rank"] == 1
            else f"its own network ranks it {_th(after['rank'])}"
        )
    gained = [r["judge"] for r in panel if _first(r["before"]) is False and _first(r["after"])]
    lost = [r["judge"] for r in panel if _first(r["before"]) and _first(r["after"]) is False]
    said += [f"{name} does not see it any more" for name in lost] + [f"{name} sees it now" for name in gained]
    if not (lost or gained) and "panel" in change.measures and change.measures["panel"].above:
        said.append("the panel is surer of it" if _surer(panel) else "the panel is less sure of it")
    for name, words in (("features", "looks different to the network"), ("pixels", "looks different")):
        if name in change.measures and change.measures[name].above:
            said.append(words)
            break
    if "score" in change.measures and change.measures["score"].above and None not in (before["logit"], after["logit"]):
        said.append(f"score {after['logit'] - before['logit']:+.3g}")
    return said


def _first(verdict: dict[str, Any] | None) -> bool | None:
    return None if verdict is None or verdict["rank"] is None else verdict["rank"] == 1


def _surer(panel: list[dict[str, Any]]) -> bool:
    both = [(row["before"], row["after"]) for row in panel if row["before"] and row["after"]]
    return sum((after["probability"] or 0) - (before["probability"] or 0) for before, after in both) > 0


def _th(rank: int) -> str:
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def _marks(compared: Compared, both: list[tuple[Record, Record]]) -> list[str]:
    """What else is different between the two sides, and what could not be measured; one sentence each."""
    marks = []
    if both:
        before, after = both[0]
        one, other = (record.recipe.identity.get("algorithm") for record in both[0])
        if one != other:
            marks.append(
                f"Made by versions {shown(one)} and {shown(other)} of the algorithm: part of the change may be due to"
                " that."
            )
        settings = _differences(flat(before.recipe.settings), flat(after.recipe.settings))
        if before.seed != after.seed:
            settings.append(f"seed ({before.seed}, {after.seed})")
        if settings:
            marks.append(f"Other settings: {_listed(settings)}.")
        if before.image.width != after.image.width or before.image.height != after.image.height:
            marks.append("The images differ in size, so that they are not compared pixel by pixel.")
    numerics = sorted({word for b, a in both for word in _differences(flat(b.numerics), flat(a.numerics))})
    if numerics:
        marks.append(
            f"Other numerics: {_listed(numerics)}. The same unit would not have the same bytes.{_same(compared)}"
        )
    if not compared.in_space:
        marks.append(
            "No distance in the network’s own feature space: the panel’s verdicts do not carry the older network’s"
            " features on both images."
        )
    if not compared.floors:
        marks.append("No noise floor: no image of another seed was found, so what is noise is not known.")
    return [text(mark) for mark in marks]


def _same(compared: Compared) -> str:
    """How far apart the same units are, if these are the same."""
    if _kind(compared.older, compared.newer) != "runs":
        return ""
    apart = [change.measures["pixels"].value for change in compared.changes if "pixels" in change.measures]
    return f" These are the same units: they are apart by an RMS of at most {max(apart):.2g}." if apart else ""


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    names = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    return [f"{name} ({shown(one.get(name))}, {shown(other.get(name))})" for name in names]


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - MARKS} more" if len(words) > MARKS else ""
    return ", ".join(text(word, 100) for word in words[:MARKS]) + more
