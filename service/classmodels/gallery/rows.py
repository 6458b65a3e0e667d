"""A row of a timeline: what one checkpoint contributes to it, every class's image and score, as one small object.

Made from the records of the checkpoint's units when it is first shown, and kept beside the timeline: so a
night that adds one checkpoint reads that one's records, and of the others a row each. Deleted, rows are made again.
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from classmodels.gallery.plain import number, text
from classmodels.gallery.sides import Side
from classmodels.store.records import Digest12, Stored

_Name = Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]*\.png$", max_length=255)]
_Number = Annotated[float, Field(gt=-3.5e38, lt=3.5e38)]


class Point(NamedTuple):
    """One class at one checkpoint. file: the image's name in the folder of the units."""

    class_index: Annotated[int, Field(ge=0, lt=10**12)]
    label: Annotated[str, Field(max_length=400)]
    file: _Name
    width: Annotated[int, Field(gt=0, le=1 << 16)]
    height: Annotated[int, Field(gt=0, le=1 << 16)]
    logit: _Number | None
    probability: Annotated[float, Field(ge=0, le=1)] | None
    rank: Annotated[int, Field(ge=1, lt=10**12)]


class Row(Stored):
    """All classes of one checkpoint under one recipe."""

    version: Literal[1] = 1
    model12: Digest12
    recipe12: Digest12
    points: tuple[Point, ...]


def row_of(side: Side) -> Row:
    """The row of a side, from its records. Raises StoreError."""
    points = []
    for index, unit in sorted(side.units().items()):
        if (record := unit.record) is None:
            continue
        points.append(
            Point(
                index,
                text(record.label),
                record.image.name,
                record.image.width,
                record.image.height,
                number(record.outcome.logit, 4),
                number(record.outcome.probability, 4),
                record.outcome.rank,
            )
        )
    return Row(model12=side.model12, recipe12=side.recipe12, points=tuple(points))
