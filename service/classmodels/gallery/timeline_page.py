"""The pages of a source's timeline, and the page of all sources: from what `nights.py` has read to HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import Field, ValidationError

from classmodels.gallery.compare import CHANCE
from classmodels.gallery.html import render
from classmodels.gallery.plain import text
from classmodels.gallery.timeline import CLASSES, SIZES, Checkpoint, classes_of, page_views
from classmodels.store.nights import Broken, Done
from classmodels.store.records import Stored

MOVERS = 6
"""Most-changed classes of each source on the page of all."""
EARLIER = 7
"""Earlier comparisons of each source there."""
FACES = 60
"""So many classes are shown on a source's page by their newest images; more by their names alone."""


class _Picture(Stored):
    """An image of a comparison; where it is counts from the comparison's page."""

    href: str = Field(pattern=r"^(\.\./)+units/[^\\\x00-\x1f]{1,2000}\.png$")
    width: int = Field(gt=0, le=1 << 16)
    height: int = Field(gt=0, le=1 << 16)


class _Side(Stored):
    image: _Picture | None


class _Top(Stored):
    index: int
    label: str
    said: tuple[str, ...]
    before: _Side | None
    after: _Side | None


class _Counts(Stored):
    classes: int
    changed: int
    unknown: int


class _Changes(Stored):
    """`changes.json` as far as other pages show it."""

    counts: _Counts
    chance: float | None = None
    in_space: int
    changed: frozenset[int]
    marks: tuple[str, ...]
    top: tuple[_Top, ...]


@dataclass(frozen=True)
class Compare:
    """What a comparison with the checkpoint before found. page: its key. older12: with which one."""

    page: str
    older12: str
    said: _Changes

    @classmethod
    def of(cls, said: Mapping[str, Any] | None, prefix: str, older12: str) -> "Compare | None":
        """What `changes.json` says; None where it is not there, or says something else."""
        try:
            return cls(f"{prefix}index.html", older12, _Changes.model_validate(said))
        except ValidationError:
            return None

    @property
    def changed(self) -> frozenset[int]:
        return self.said.changed

    @property
    def in_space(self) -> int:
        """How many classes could be told apart in the older network's feature space."""
        return self.said.in_space

    @property
    def count(self) -> int | None:
        """How many classes changed; None where nobody knows what is noise."""
        return None if self.said.counts.unknown else self.said.counts.changed


@dataclass(frozen=True)
class Told:
    """A source as its pages and the page of all show it: its checkpoints, oldest first, their names and pages of
    galleries by model12, and by recipe what each comparison with the one before found."""

    source: str
    checkpoints: list[Done]
    names: Mapping[str, str]
    galleries: Mapping[str, str]
    compared: Mapping[str, Mapping[str, Compare]]
    broken: list[Broken]


def source_pages(job: str, told: Told, timelines: Mapping[str, Sequence[Checkpoint]]) -> dict[str, str]:
    """The pages of one source by name, relative to its timeline's folder."""
    pages = {}
    recipes = []
    for recipe, checkpoints in timelines.items():
        views = page_views(checkpoints, "../../../../../")
        for view in views:
            name = f"{view['number']:04d}.html"
            pages[f"{recipe}/{name}"] = render(
                "timeline.html",
                ["gallery.css", "timeline.css"],
                ["timeline.js"],
                view=view,
                source=told.source,
                recipe=recipe,
                others=[other for other in timelines if other != recipe],
                page=name,
                pages=len(views),
                sizes=SIZES,
            )
        recipes.append({"name": recipe, "classes": _links(recipe, checkpoints)})
    pages["index.html"] = render(
        "source.html",
        ["gallery.css", "timeline.css"],
        ["find.js"],
        job=job,
        source=told.source,
        recipes=recipes,
        classes=max((recipe["classes"] for recipe in recipes), key=len, default=[]),
        checkpoints=[_line(told, one, "../../../../") for one in reversed(told.checkpoints)],
        broken=[_broken(one) for one in told.broken],
        faces=FACES,
        one_in=round(1 / CHANCE),
    )
    return pages


def top_page(job: str, told: Sequence[Told]) -> bytes:
    """The page of all sources: what the newest checkpoint of each has changed."""
    return render(
        "nights.html",
        ["gallery.css", "compare.css", "timeline.css"],
        [],
        job=job,
        sources=[_source(one) for one in told],
    ).encode()


def _links(recipe: str, checkpoints: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    newest = {point.class_index: (one, point) for one in checkpoints for point in one.row.points}
    found = []
    for place, (index, label) in enumerate(classes_of(checkpoints)):
        one, point = newest[index]
        found.append(
            {
                "index": index,
                "label": label,
                "href": f"{recipe}/{place // CLASSES + 1:04d}.html#c{index}",
                "image": "../../../../" + quote(one.folder + point.file, safe="/@"),
                "width": point.width,
                "height": point.height,
            }
        )
    return found


def _line(told: Told, done: Done, up: str) -> dict[str, Any]:
    gallery = told.galleries.get(done.model12)
    when = done.time or done.modified
    return {
        "name": told.names[done.model12],
        "time": when.strftime("%Y-%m-%d %H:%M"),
        "uri": text(done.uri),
        "tags": [text(tag, 40) for tag in done.tags[:8]],
        "gallery": up + gallery if gallery is not None else None,
        "failed": len(done.failed),
        "cells": [_cell(recipe.get(done.model12), up) for recipe in told.compared.values()],
    }


def _cell(compare: Compare | None, up: str) -> dict[str, Any]:
    if compare is None:
        return {"compare": None, "changed": None, "classes": None, "marked": None}
    versions = any("of the algorithm" in mark for mark in compare.said.marks)
    numerics = any(mark.startswith("Other numerics") for mark in compare.said.marks)
    return {
        "compare": up + compare.page,
        "changed": compare.count,
        "classes": compare.said.counts.classes,
        "marked": "another version" if versions else "other numerics" if numerics else None,
    }


def _broken(broken: Broken) -> dict[str, str]:
    return {"uri": text(broken.uri), "reason": text(broken.reason)}


def _source(told: Told) -> dict[str, Any]:
    broken = [_broken(one) for one in told.broken]
    if not told.checkpoints:
        return {"name": told.source, "checkpoints": 0, "broken": broken, "compared": [], "earlier": [], "newest": None}
    newest = told.checkpoints[-1]
    up = "../../"
    compared = [
        {
            "recipe": recipe,
            "older": told.names[one.older12],
            "href": up + one.page,
            "changed": one.count,
            "classes": one.said.counts.classes,
            "chance": one.said.chance,
            "top": [_mover(entry, up) for entry in one.said.top[:MOVERS]],
        }
        for recipe, by_checkpoint in told.compared.items()
        if (one := by_checkpoint.get(newest.model12)) is not None
    ]
    earlier = [
        {
            "older": told.names[one.older12],
            "newer": told.names[done.model12],
            "href": up + one.page,
            "changed": one.count,
            "classes": one.said.counts.classes,
        }
        for done in reversed(told.checkpoints[:-1])
        for by_checkpoint in told.compared.values()
        if (one := by_checkpoint.get(done.model12)) is not None
    ]
    return {
        "name": told.source,
        "earlier": earlier[:EARLIER],
        "checkpoints": len(told.checkpoints),
        "newest": _line(told, newest, up),
        "timeline": f"timeline/{told.source}/index.html",
        "compared": compared,
        "broken": broken,
    }


def _mover(entry: _Top, up: str) -> dict[str, Any]:
    return {
        "index": entry.index,
        "label": text(entry.label),
        "said": [text(words) for words in entry.said[:3]],
        "before": _picture(entry.before, up),
        "after": _picture(entry.after, up),
    }


def _picture(side: _Side | None, up: str) -> dict[str, Any] | None:
    """An image with where it is as it counts from the page of all."""
    if side is None or side.image is None:
        return None
    return {**side.image.model_dump(), "href": up + side.image.href[side.image.href.index("units/") :]}
