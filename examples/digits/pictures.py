"""The README's picture of the digits' nights, from what they left.

    python examples/digits/pictures.py OUTPUT docs/digits.png

A row for each checkpoint, oldest first, a column for each class; the mean images of the classes above.
"""

import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from classmodels.store import Store, open_store
from classmodels.store.believed import record_of
from classmodels.store.nights import Done, in_order
from classmodels.store.records import parse, record_name, unit_prefix

SIDE, GAP, LEFT = 56, 6, 132


def checkpoints(store: Store, job: str = "digits") -> list[Done]:
    """What the nights have done, oldest first."""
    found = [parse(Done, store.read(key) or b"") for key in store.list(f"nights/{job}/index/")]
    return in_order(one for one in found if one is not None)


def class_models(store: Store, done: Done) -> NDArray[np.float64]:
    """The class models of a checkpoint, [classes, 8, 8] from 0 to 1."""
    folder = unit_prefix(done.source, done.model12, done.recipe, done.recipe12)
    pictures = []
    for index in done.classes:
        record = record_of(folder + record_name(index), store.read(folder + record_name(index)) or b"")
        assert record is not None
        png = store.read(folder + record.image.name)
        assert png is not None
        pictures.append(np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=np.float64) / 255)
    return np.stack(pictures)


def main(output: str, picture: str) -> None:
    from train import images

    store = open_store(output)
    x, classes = images()
    means = np.stack([np.asarray(x[classes == index].mean(0)[0]) for index in range(10)])
    found = checkpoints(store)
    rows = [("mean digit", means)]
    rows += [
        (f"{one.time:%a} step {one.step}" if one.time else str(one.step), class_models(store, one)) for one in found
    ]
    sheet = Image.new("L", (LEFT + 10 * (SIDE + GAP), len(rows) * (SIDE + GAP) + GAP), 255)
    draw = ImageDraw.Draw(sheet)
    for row, (text, pictures) in enumerate(rows):
        top = GAP + row * (SIDE + GAP)
        draw.text((8, top + SIDE // 2 - 8), text, fill=0, font_size=15)
        for column, values in enumerate(pictures):
            small = Image.fromarray(np.uint8(np.clip(values, 0, 1) * 255))
            sheet.paste(small.resize((SIDE, SIDE), Image.Resampling.NEAREST), (LEFT + column * (SIDE + GAP), top))
    sheet.save(picture, optimize=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(*sys.argv[1:])
