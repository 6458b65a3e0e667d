"""`figure`: chosen images of a gallery as a figure for a paper, as wide as a page's text, at 300 dots per inch.

Of one model and recipe: a grid with the class under each image, as Figure 1 of Simonyan et al. 2013. Of several: a row
for each class and a column for each of them. Equal images and choices give equal bytes.
"""

import io
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageDraw

from classmodels.errors import InputError
from classmodels.gallery.lettering import font, printable, wrapped
from classmodels.gallery.stored import image_of
from classmodels.gallery.units import Unit
from classmodels.results.chosen import chosen
from classmodels.results.place import Place
from classmodels.store.folder import FolderStore

DPI = 300
WIDTH = round(170 / 25.4 * DPI)
"""Of the widest figure: the text of an A4 page, 170 mm."""
TALLEST = round(240 / 25.4 * DPI)
TILE = round(40 / 25.4 * DPI)
"""Of the largest image: 40 mm."""
LABEL = round(26 / 25.4 * DPI)
"""Of the widest column of names: 26 mm, and two lines."""
LEAST = round(8 / 25.4 * DPI)
GAP = round(2 / 25.4 * DPI)
POINTS = 8
"""Size of the letters."""
MOST = 400
"""Images of the largest figure."""
COLUMNS = 8
THREADS = 16
INK = (0, 0, 0)

Kind = Literal["png", "pdf"]
Variant = tuple[str, str, str, str]


@dataclass(frozen=True)
class Drawn:
    """The file that was written: its size in pixels, how many images it shows, and how many could not be had."""

    file: str
    images: int
    missing: int
    width: int
    height: int
    bytes: int


def figure(
    place: Place,
    output: str,
    kind: Kind | None = None,
    *,
    classes: Sequence[str] = (),
    recipes: Sequence[str] = (),
    models: Sequence[str] = (),
) -> Drawn:
    """Draw what is chosen (see `chosen`) into the file `output`; kind: None to go by its name.

    Raises InputError where nothing or too much is chosen, or the kind is neither png nor pdf; StoreError.
    """
    kind = kind or _kind(output)
    _, units = chosen(place, classes, recipes, models)
    if len(units) > MOST:
        raise InputError(f"found {len(units)} images, expected at most {MOST}: choose with --classes and --recipes")
    with place.store.reading() as read, ThreadPoolExecutor(THREADS, "figure") as threads:
        pictures = list(threads.map(lambda unit: image_of(unit, read), units))
    missing = sum(picture is None for picture in pictures)
    if missing == len(units):
        raise InputError(f"{place}: found none of the {len(units)} images as their records name them; see `verify`")
    variants = list(dict.fromkeys((u.model, u.model12, u.recipe, u.recipe12) for u in units))
    if len(variants) == 1:
        sheet = _grid(units, pictures)
    else:
        sheet = _table(units, pictures, variants)
    data = _encoded(sheet, kind)
    target = Path(output)
    FolderStore(target.parent).write(target.name, data)  # whole, or not at all
    return Drawn(output, len(units) - missing, missing, sheet.width, sheet.height, len(data))


def _kind(output: str) -> Kind:
    suffix = Path(output).suffix.lower()
    if suffix == ".png":
        return "png"
    if suffix == ".pdf":
        return "pdf"
    raise InputError(f"found the file {output!r}, expected a name that ends with .png or .pdf, or --format")


def _grid(units: Sequence[Unit], pictures: Sequence[Image.Image | None]) -> Image.Image:
    """Images in rows, each with its class below."""
    columns = min(len(units), COLUMNS if len(units) > 12 else 4)
    rows = math.ceil(len(units) / columns)
    line = _line()
    tile = min(TILE, (WIDTH + GAP) // columns - GAP, (TALLEST // rows) - GAP - line)
    _large_enough(tile)
    width = columns * (tile + GAP) - GAP
    sheet = Image.new("RGB", (width, rows * (tile + GAP + line) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for position, (unit, picture) in enumerate(zip(units, pictures, strict=True)):
        left, top = position % columns * (tile + GAP), position // columns * (tile + GAP + line)
        _paste(sheet, picture, left, top, tile)
        _write(draw, _label(unit), left + tile / 2, top + tile, tile + GAP // 2)
    return sheet


def _table(units: Sequence[Unit], pictures: Sequence[Image.Image | None], variants: Sequence[Variant]) -> Image.Image:
    """A row for each class with its name at the left, a column for each model and recipe with its name above."""
    classes = list(dict.fromkeys(unit.class_index for unit in units))
    line = _line()
    label = min(LABEL, max(math.ceil(_letters().getlength(_label(unit))) for unit in units) + 1)
    tile = min(TILE, (WIDTH - label) // len(variants) - GAP, (TALLEST - line) // len(classes) - GAP)
    _large_enough(tile)
    size = (label + len(variants) * (tile + GAP), line + GAP + len(classes) * (tile + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(_titles(variants)):
        _write(draw, title, label + column * (tile + GAP) + GAP + tile / 2, 0, tile + GAP // 2)
    named: set[int] = set()
    for unit, picture in zip(units, pictures, strict=True):
        row = classes.index(unit.class_index)
        column = variants.index((unit.model, unit.model12, unit.recipe, unit.recipe12))
        top = line + GAP + row * (tile + GAP)
        _paste(sheet, picture, label + column * (tile + GAP) + GAP, top, tile)
        if row not in named:
            named.add(row)
            lines = len(wrapped(_label(unit), _letters(), label, 2))
            _write(draw, _label(unit), label / 2, top + (tile - lines * line) // 2, label, 2)
    return sheet


def _titles(variants: Sequence[Variant]) -> list[str]:
    """A name for each model and recipe that says only what differs."""
    models, recipes = len({v[:2] for v in variants}) > 1, len({v[2:] for v in variants}) > 1
    names = {v[0]: len({w[1] for w in variants if w[0] == v[0]}) for v in variants}
    titles = []
    for model, model12, recipe, recipe12 in variants:
        model_said = f"{model}@{model12}" if names[model] > 1 else model
        parts = [model_said] * models + [recipe] * recipes
        titles.append(printable(" · ".join(parts), f"{model12} {recipe12}"))
    return titles


def _label(unit: Unit) -> str:
    label = unit.record.label if unit.record is not None else ""
    return printable(label.split(",")[0], f"class {unit.class_index}")


def _large_enough(tile: int) -> None:
    if tile < LEAST:
        raise InputError(
            "found more images than a page holds, at 8 mm each: choose fewer with --classes, --recipes and --models"
        )


def _line() -> int:
    return round(POINTS * 1.5 / 72 * DPI)


def _letters() -> Any:
    return font(round(POINTS / 72 * DPI))


def _write(draw: ImageDraw.ImageDraw, words: str, centre: float, top: int, width: int, lines: int = 1) -> None:
    letters = _letters()
    for line in wrapped(words, letters, width, lines):
        draw.text((centre - letters.getlength(line) / 2, top + _line() // 6), line, INK, letters)
        top += _line()


def _paste(sheet: Image.Image, picture: Image.Image | None, left: int, top: int, tile: int) -> None:
    if picture is None:
        ImageDraw.Draw(sheet).rectangle((left, top, left + tile - 1, top + tile - 1), outline=(190, 190, 190))
        return
    scale = tile / max(picture.size)
    size = (max(1, round(scale * picture.width)), max(1, round(scale * picture.height)))
    # Pixels that are to be seen stay squares; photographs are smoothed.
    shown = picture.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 4 else Image.Resampling.LANCZOS)
    sheet.paste(shown, (left + (tile - size[0]) // 2, top + tile - size[1]))


def _encoded(sheet: Image.Image, kind: Kind) -> bytes:
    buffer = io.BytesIO()
    if kind == "png":
        sheet.save(buffer, "PNG", dpi=(DPI, DPI), compress_level=9)
    else:
        never = time.gmtime(0)  # a file with the time in it would be another one each time
        options: dict[str, Any] = {"quality": 95, "subsampling": 0, "creationDate": never, "modDate": never}
        sheet.save(buffer, "PDF", resolution=DPI, title="Class models", **options)
    return buffer.getvalue()
