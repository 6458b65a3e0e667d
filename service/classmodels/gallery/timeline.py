"""The views of a timeline: its classes in pages, each class a strip of images over the training step with its scores.

Pure functions of checkpoints in order and their rows. A strip draws at most `axis.MOST` thumbnails; every checkpoint is
on its curve, and the page's script shows any of them large. `timeline_page.py` renders, `nights.py` reads and writes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from classmodels.gallery.axis import WIDTH, Axis, apart, axis_of, drawn
from classmodels.gallery.plain import number, text
from classmodels.gallery.rows import Point, Row
from classmodels.store.nights import Dated
from classmodels.store.records import slug, unit_prefix

CLASSES = 50
"""Classes on one page."""
CURVE = 124
"""Height of a curve, in the units in which it is WIDTH wide."""
TOP, BOTTOM = 22, 20


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a timeline under one recipe.

    name: `step 1200`; dated: what orders it; folder: of its units; gallery, compare: links from the store's top to its
    gallery and to the comparison with the one before, None where there is none. changed: the classes that comparison
    found changed. failed: how many units failed.
    """

    name: str
    dated: Dated
    folder: str
    row: Row
    gallery: str | None = None
    compare: str | None = None
    changed: frozenset[int] = field(default_factory=frozenset)
    failed: int = 0


def folder_of(source: str, row: Row, recipe: str) -> str:
    return unit_prefix(source, row.model12, recipe, row.recipe12)


def classes_of(checkpoints: Sequence[Checkpoint]) -> list[tuple[int, str]]:
    """All classes by index, each with the label that the newest checkpoint has for it."""
    labels = {point.class_index: point.label for one in checkpoints for point in one.row.points}
    return sorted(labels.items())


def page_views(checkpoints: Sequence[Checkpoint], up: str) -> list[dict[str, Any]]:
    """The view of each page of a timeline, CLASSES classes a page. up: from the page to the store's top."""
    if not checkpoints:
        return []
    axis = axis_of([one.dated for one in checkpoints])
    classes = classes_of(checkpoints)
    points = [{point.class_index: point for point in one.row.points} for one in checkpoints]
    shared = {
        "axis": {"name": axis.name, "ticks": [{"label": label, "x": x} for label, x in axis.ticks]},
        "checkpoints": [
            {
                "name": text(one.name),
                "x": x,
                "folder": up + quote(one.folder, safe="/@"),
                "gallery": one.gallery and up + one.gallery,
                "compare": one.compare and up + one.compare,
            }
            for one, x in zip(checkpoints, axis.at, strict=True)
        ],
    }
    views = []
    for start in range(0, len(classes), CLASSES):
        part = classes[start : start + CLASSES]
        strips = [_strip(index, label, checkpoints, points, axis, up) for index, label in part]
        views.append({**shared, "number": start // CLASSES + 1, "first": part[0], "last": part[-1], "classes": strips})
    return views


def _strip(
    index: int,
    label: str,
    checkpoints: Sequence[Checkpoint],
    rows: Sequence[dict[int, Point]],
    axis: Axis,
    up: str,
) -> dict[str, Any]:
    """One class through time."""
    mine = [(place, rows[place][index]) for place in range(len(checkpoints)) if index in rows[place]]
    stem = f"{index:04d}-{slug(label)}"
    chosen = [mine[i] for i in drawn([axis.at[place] for place, _ in mine])]
    spots = apart([axis.at[place] for place, _ in chosen])
    y = _Scale([point.logit for _, point in mine if point.logit is not None])
    known = [(axis.at[place], y(point.logit), place) for place, point in mine if point.logit is not None]
    return {
        "index": index,
        "label": label,
        "stem": quote(stem),
        "points": " ".join(_token(place, point, stem, index in checkpoints[place].changed) for place, point in mine),
        "last": _shown(checkpoints, *mine[-1], up),
        "first_logit": mine[0][1].logit,
        "thumbs": [
            {**_shown(checkpoints, place, point, up), "x": number(spot / WIDTH * 100, 4), "place": place}
            for (place, point), spot in zip(chosen, spots, strict=True)
        ],
        "leaders": "".join(
            f"M{spot:g} 0L{axis.at[place]:g} {TOP - 8}" for (place, _), spot in zip(chosen, spots, strict=True)
        ),
        "curve": "M" + "L".join(f"{x:g} {height:g}" for x, height, _ in known) if known else "",
        "dots": "".join(f"M{x:g} {h:g}h0" for x, h, place in known if index not in checkpoints[place].changed),
        "marks": "".join(f"M{x:g} {h:g}h0" for x, h, place in known if index in checkpoints[place].changed),
        "levels": [{"label": y.label(value), "y": y(value)} for value in (y.high, y.low)] if known else [],
    }


def _shown(checkpoints: Sequence[Checkpoint], place: int, point: Point, up: str) -> dict[str, Any]:
    return {
        "name": text(checkpoints[place].name),
        "href": up + quote(checkpoints[place].folder + point.file, safe="/@"),
        "width": point.width,
        "height": point.height,
        "logit": point.logit,
        "probability": point.probability,
        "rank": point.rank,
    }


def _token(place: int, point: Point, stem: str, changed: bool) -> str:
    """`place,file,logit,probability,rank,changed`, short: the file as what stands between stem and suffix."""
    name = point.file
    if name == f"{stem}.png":
        short = ""
    elif name.startswith(f"{stem}.") and name.endswith(".png") and "." not in name[len(stem) + 1 : -4]:
        short = name[len(stem) + 1 : -4]
    else:
        short = name
    said = ["" if value is None else f"{value:g}" for value in (point.logit, point.probability)]
    return ",".join([str(place), quote(short, safe="."), *said, str(point.rank), "1" if changed else ""])


class _Scale:
    """From a score to its height on a curve."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.low, self.high = min(scores, default=0.0), max(scores, default=1.0)
        if self.low == self.high:
            room = max(1.0, abs(self.low) / 100)
            self.low, self.high = self.low - room, self.high + room

    def label(self, score: float) -> str:
        """`score` as exactly as it matters on this scale."""
        digits = max(0, 1 - math.floor(math.log10(self.high - self.low)))
        return f"{round(score, digits) + 0.0:.{digits}f}"

    def __call__(self, score: float | None) -> float:
        share = ((score or 0.0) - self.low) / (self.high - self.low)
        return round(CURVE - BOTTOM - share * (CURVE - BOTTOM - TOP), 1)


SIZES = {"width": WIDTH, "curve": CURVE}
"""What the template draws with."""
