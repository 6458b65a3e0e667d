"""The contact sheet: all images of a gallery on one white page, after figure 1 of Simonyan et al. 2013.

One model and recipe: a grid with the class's name under each image. Several, for a few classes: a table, so that the
eye can compare. Several for many classes: a block each. What cannot be shown leaves a pale tile, never an error.
"""

import io
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from classmodels.gallery.lettering import font, printable, wrapped
from classmodels.gallery.stored import image_of
from classmodels.gallery.units import Unit
from classmodels.store import Store
from classmodels.store.base import Read

WIDTH = 3600
"""Widest sheet in pixels."""
TILES = 400
"""Most images on a sheet; of a larger job the first classes are shown, and the sheet says so."""
VARIANTS = 24
"""Most models and recipes on a sheet, each counted with each."""
COLUMNS = 20
READERS = 16
TILE = 224
GAP = 12
MARGIN = 40
INK, SOFT, PALE = (20, 20, 24), (105, 108, 116), (240, 241, 243)


@dataclass(frozen=True)
class _Cell:
    """A place in the grid, the unit whose picture goes there, and what is written under it: class, recipe."""

    column: int
    row: int
    unit: Unit | None
    label: str


def contact_sheet(store: Store, units: Sequence[Unit], job: str) -> bytes:
    """The sheet of `units` as PNG bytes: at most WIDTH wide and TILES images.

    An image counts only if its bytes have the digest that its record names, so that the sheet too is a function of
    the records.
    """
    variants = list(dict.fromkeys((u.model, u.recipe, u.model12, u.recipe12) for u in units))
    found, variants = len(variants), variants[:VARIANTS]
    indices = list(dict.fromkeys(u.class_index for u in units))
    kept = indices[: TILES // max(1, len(variants))]
    if len(kept) < len(indices) and len(kept) > COLUMNS:
        kept = kept[: len(kept) // COLUMNS * COLUMNS]  # whole rows: the sheet stops, the job does not
    at = {(u.model, u.recipe, u.model12, u.recipe12, u.class_index): u for u in units}
    names = {u.class_index: u.record.label for u in reversed(units) if u.record is not None}
    grid = [[at.get((*variant, index)) for index in kept] for variant in variants]
    blocks = _blocks(grid, [names.get(index, f"class {index}") for index in kept], _titles(variants))

    tile = _tile(max((1 + max((c.column for c in cells), default=0) for _, cells in blocks), default=1))
    canvas = _Canvas(tile)
    said = [f"Job {printable(job, 'unnamed')}"]
    if len(variants) == 1:
        said.append(printable(" · ".join(variants[0][:2]), ""))
    if len(kept) < len(indices):
        said.append(f"the first {len(kept)} of {len(indices)} classes")
    if len(variants) < found:
        said.append(f"the first {len(variants)} of {found} pairs of model and recipe")
    footer = ", ".join(part for part in said if part) + ". Class models after Simonyan, Vedaldi and Zisserman 2013."
    with store.reading() as read, ThreadPoolExecutor(READERS, "sheet") as readers:
        pictures = readers.map(lambda cell: _picture(read, cell.unit, tile), (c for _, cells in blocks for c in cells))
        return canvas.png(blocks, pictures, footer)


def _titles(variants: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """A name for each model and recipe that says only what differs."""
    models, recipes = len({v[0] for v in variants}) > 1, len({v[1] for v in variants}) > 1
    same_names = len({v[:2] for v in variants}) < len(variants)
    titles = []
    for model, recipe, model12, recipe12 in variants:
        parts = [model] * (models or not recipes) + [recipe] * recipes + [f"{model12} {recipe12}"] * same_names
        titles.append(printable(" · ".join(parts), f"{model12} {recipe12}"))
    return titles


def _blocks(grid: list[list[Unit | None]], labels: list[str], titles: list[str]) -> list[tuple[str, list[_Cell]]]:
    """Where everything goes: blocks (title, cells), one below the other."""
    classes, variants = len(labels), len(grid)
    if variants == 1 or classes > 12:
        columns = max(1, min(classes, COLUMNS, math.ceil(math.sqrt(classes * variants * 1.3))))
        return [
            (
                title if variants > 1 else "",
                [_Cell(i % columns, i // columns, unit, _named(unit, labels[i])) for i, unit in enumerate(row)],
            )
            for title, row in zip(titles, grid, strict=True)
        ]
    # A table; the longer side lies across, because screens and pages are read that way, unless it is too long for that.
    across = classes <= variants <= 12
    cells = []
    for v, row in enumerate(grid):
        for c, unit in enumerate(row):
            column, line = (v, c) if across else (c, v)
            cells.append(_Cell(column, line, unit, f"{_named(unit, labels[c])}\n{titles[v]}"))
    return [("", cells)]


def _named(unit: Unit | None, otherwise: str) -> str:
    """The label a model itself gives the class: two models may count their classes differently."""
    label = unit.record.label if unit is not None and unit.record is not None else otherwise
    return printable(label, f"class {unit.class_index}" if unit is not None else "")


def _tile(columns: int) -> int:
    return max(48, min(TILE, (WIDTH - 2 * MARGIN) // columns - GAP))


class _Canvas:
    """Draws blocks of tiles of one size."""

    def __init__(self, tile: int) -> None:
        self.tile = tile
        self.size = max(11, tile // 12)
        self.font = font(self.size)
        self.large = font(round(self.size * 1.6))
        self.small = font(max(10, self.size - 4))
        self.line = round(self.size * 1.3)

    def png(self, blocks: list[tuple[str, list[_Cell]]], pictures: Iterator[Image.Image | None], footer: str) -> bytes:
        """The finished sheet as PNG bytes. pictures: those of the cells, block by block."""
        columns = max((c.column + 1 for _, cells in blocks for c in cells), default=1)
        width = max(2 * MARGIN + columns * (self.tile + GAP) - GAP, 480)
        footer_lines = wrapped(footer, self.small, width - 2 * MARGIN, 4)
        height = 2 * MARGIN + sum(self._height(title, cells) for title, cells in blocks) + self.line * len(footer_lines)
        sheet = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(sheet)
        top = MARGIN
        for title, cells in blocks:
            if title:
                line = wrapped(title, self.large, width - 2 * MARGIN, 1)[0]
                draw.text((MARGIN, top + self.line // 2), line, INK, self.large)
            pitch = self._pitch(cells)
            for cell in cells:
                left = MARGIN + cell.column * (self.tile + GAP)
                self._draw(sheet, draw, cell, next(pictures), left, top + self._heading(title) + cell.row * pitch)
            top += self._height(title, cells)
        for line in footer_lines:
            draw.text((MARGIN, top + self.line // 2), line, SOFT, self.small)
            top += self.line
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG", compress_level=6)
        return buffer.getvalue()

    def _heading(self, title: str) -> int:
        return 3 * self.line if title else 0

    def _pitch(self, cells: list[_Cell]) -> int:
        lines = max((len(self._under(cell)) for cell in cells), default=0)
        return self.tile + GAP + lines * self.line + self.line // 2

    def _height(self, title: str, cells: list[_Cell]) -> int:
        rows = max((c.row + 1 for c in cells), default=0)
        return self._heading(title) + (rows * self._pitch(cells) if rows else 0)

    def _under(self, cell: _Cell) -> list[tuple[str, Any, tuple[int, int, int]]]:
        """The lines under a tile: the class's name on up to two, the recipe's in grey."""
        name, _, variant = cell.label.partition("\n")
        lines = [(line, self.font, INK) for line in wrapped(name, self.font, self.tile, 1 if variant else 2)]
        return lines + [(line, self.small, SOFT) for line in wrapped(variant, self.small, self.tile, 1) if variant]

    def _draw(
        self,
        sheet: Image.Image,
        draw: ImageDraw.ImageDraw,
        cell: _Cell,
        picture: Image.Image | None,
        left: int,
        top: int,
    ) -> None:
        if picture is None:
            draw.rectangle((left, top, left + self.tile - 1, top + self.tile - 1), fill=PALE)
        else:
            # Pictures stand on their captions, however wide or tall they are.
            sheet.paste(picture, (left + (self.tile - picture.width) // 2, top + self.tile - picture.height))
        y = top + self.tile + GAP // 2
        for line, letters, ink in self._under(cell):
            draw.text((left + (self.tile - letters.getlength(line)) / 2, y), line, ink, letters)
            y += self.line


def _picture(read: Read, unit: Unit | None, tile: int) -> Image.Image | None:
    """The picture of a unit in the size of a tile, if it is the one that its record names."""
    if unit is None or unit.record is None:
        return None
    picture = image_of(unit, read)
    if picture is None or picture.size != (unit.record.image.width, unit.record.image.height):
        return None
    picture = picture.convert("RGB")
    scale = tile / max(picture.size)
    if scale > 2:  # a few pixels, each of which is to be seen
        return picture.resize((int(scale) * picture.width, int(scale) * picture.height), Image.Resampling.NEAREST)
    size = (max(1, round(scale * picture.width)), max(1, round(scale * picture.height)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
