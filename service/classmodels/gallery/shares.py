"""What a regularizer leaves in its images: the shares of saturated values and of pixels that are exactly x0.

Counted in the images as they are stored, so that the numbers are of what is seen. Of a large gallery a sample is
looked at, evenly over each recipe's classes: what a page costs does not grow with it.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any, NamedTuple

from PIL import Image, ImageChops

from classmodels.gallery import formula
from classmodels.gallery.plain import mean, number
from classmodels.gallery.stored import image_of
from classmodels.gallery.units import Unit
from classmodels.store import Record, Store
from classmodels.store.base import Read

SAMPLE = 128
"""Images that are looked at in all, but for LEAST of each model and recipe."""
LEAST = 4
VARIANTS = 48
"""Models and recipes, each counted with each, that are looked at."""
THREADS = 16

Variant = tuple[str, str, str, str]
"""Model, model12, recipe, recipe12."""


class Shares(NamedTuple):
    """saturated: of all values, those at an edge of the box and not x0's; at_x0: of all pixels, those that are x0.

    n: images that were looked at, whose shares these are the means of.
    """

    saturated: float
    at_x0: float
    n: int


def count(image: Image.Image, x0: Sequence[int]) -> tuple[float, float]:
    """The shares of saturated values and of pixels at x0 in one image of as many channels, 0..255, as x0 has."""
    pixels, saturated, same = image.width * image.height, 0, None
    for channel, value in zip(image.split(), x0, strict=True):
        counted = channel.histogram()
        saturated += sum(counted[edge] for edge in (0, 255) if edge != value)
        here = channel.point([255 * (level == value) for level in range(256)])
        same = here if same is None else ImageChops.darker(same, here)
    assert same is not None
    return saturated / (pixels * len(x0)), same.histogram()[255] / pixels


def x0_of(record: Record) -> tuple[int, ...] | None:
    """The pixel, 0..255 a channel, that a record's image is pulled towards; None where the record does not say it."""
    regularizers = record.recipe.settings.get("regularizers")
    given = record.model.identity.get("input")
    mean = given.get("mean") if isinstance(given, dict) else None
    towards = regularizers.get("towards", "mean") if isinstance(regularizers, dict) else "mean"
    if not isinstance(mean, list) or not mean or not all(isinstance(m, int | float) and 0 <= m <= 1 for m in mean):
        return None
    shown = mean[:3] if len(mean) >= 3 else mean[:1]
    return tuple(round(value * (0 if towards == "black" else 255)) for value in shown)


def measure(store: Store, units: Sequence[Unit]) -> dict[Variant, Shares]:
    """The shares of each model and recipe of `units`; none where no image could be looked at. Raises StoreError."""
    done: dict[Variant, list[Unit]] = {}
    for unit in units:
        if unit.record is not None:
            done.setdefault((unit.model, unit.model12, unit.recipe, unit.recipe12), []).append(unit)
    some = dict(list(done.items())[:VARIANTS])
    each = max(LEAST, SAMPLE // max(1, len(some)))
    found = {}
    with store.reading() as read, ThreadPoolExecutor(THREADS, "shares") as threads:
        for variant, mine in some.items():
            sample = mine[:: math.ceil(len(mine) / each)]
            counts = [one for one in threads.map(lambda unit: _counted(unit, read), sample) if one is not None]
            if counts:
                saturated, at_x0 = (fmean(share) for share in zip(*counts, strict=True))
                found[variant] = Shares(saturated, at_x0, len(counts))
    return found


def _counted(unit: Unit, read: Read) -> tuple[float, float] | None:
    assert unit.record is not None
    x0, image = x0_of(unit.record), image_of(unit, read)
    if x0 is None or image is None or len(image.getbands()) != len(x0):
        return None
    return count(image, x0)


def regularizer_table(
    units: list[Unit],
    shares: Mapping[Variant, Shares],
    model_at: dict[tuple[str, str], int],
    recipe_at: dict[tuple[str, str], int],
) -> list[dict[str, Any]]:
    """A row for each model and recipe that has images: its regularizer, and what that leaves in them.

    marks: what it has most or fewest of, among the recipes of its model; clipping to x0 does not count as having most.
    """
    done: dict[Variant, list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.record is not None:
            done[unit.model, unit.model12, unit.recipe, unit.recipe12].append(unit)
    table: list[dict[str, Any]] = []
    for variant, mine in done.items():
        settings = mine[0].record.recipe.settings if mine[0].record is not None else {}
        seen = shares.get(variant)
        table.append(
            {
                "model": model_at[variant[:2]],
                "recipe": recipe_at[variant[2:]],
                "objective": formula.objective(settings),
                "regularizer": formula.regularizer(settings),
                "x0": formula.x0(settings),
                "filters": formula.filters(settings),
                "clips": formula.clips(settings),
                "logit": mean([logit for unit in mine if (logit := _logit(unit)) is not None]),
                "saturated": number(seen.saturated, 4) if seen else None,
                "at_x0": number(seen.at_x0, 4) if seen else None,
                "n": seen.n if seen else 0,
                "of": len(mine),
                "marks": [],
            }
        )
    for model in model_at.values():
        rivals = [row for row in table if row["model"] == model and row["n"]]
        for name, best, mark in (
            ("saturated", max, "most saturated"),
            ("saturated", min, "fewest saturated"),
            ("at_x0", max, "most at x0"),
        ):
            compared = [row for row in rivals if name != "at_x0" or not row["clips"]]
            values = [row[name] for row in compared]
            if len(set(values)) > 1:
                for row in compared:
                    row["marks"] += [mark] if row[name] == best(values) else []
    return table


def _logit(unit: Unit) -> float | None:
    return number(unit.record.outcome.logit) if unit.record is not None else None
