"""`export`: one gallery as one file that works behind a single link, offline: pictures and films are written into it.

They are made smaller for that. The file is meant to be sent: it gets the largest pictures and films of `SIZES` with
which it stays under LIMIT; a gallery of thousands of images is larger with any, and gets the smallest.
"""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from classmodels.gallery.page import render_page
from classmodels.gallery.shares import measure
from classmodels.gallery.stored import file_of
from classmodels.gallery.units import Unit, read_units
from classmodels.gallery.view import view_of
from classmodels.results.place import Place
from classmodels.results.survey import the_gallery
from classmodels.store.base import Read
from classmodels.store.believed import PIXELS
from classmodels.store.folder import FolderStore

LIMIT = 4_700_000
"""Bytes of pictures and films in a page of less than 5 MB, which mail and chat still take."""
SAMPLE = 8
"""Units that are tried before a size is taken for all of many."""
THREADS = 16


class Size(NamedTuple):
    """How pictures and films are written: longest side in pixels, WebP's quality; frames 0: no films."""

    side: int
    quality: int
    film_side: int
    frames: int


SIZES = (
    Size(320, 88, 224, 24),
    Size(256, 82, 160, 16),
    Size(224, 78, 112, 12),
    Size(192, 72, 0, 0),
    Size(112, 60, 0, 0),
)


@dataclass(frozen=True)
class Exported:
    """The file that was written, and how large its pictures are at most. missing: images that could not be had."""

    page: str
    job: str
    run12: str
    images: int
    films: int
    missing: int
    bytes: int
    side: int


def export(place: Place, page: str) -> Exported:
    """Write the gallery that `place` means into the file `page`. Raises InputError where it means none, or several."""
    gallery = the_gallery(place)
    units = read_units(place.store, gallery.plan)
    view = view_of(units, gallery.plan, measure(place.store, units))
    shown = [unit for unit in units if unit.record is not None]
    with place.store.reading() as read, ThreadPoolExecutor(THREADS, "export") as threads:

        def inline(some: list[Unit], size: Size) -> list[tuple[str, str]]:
            return list(threads.map(lambda unit: _inlined(unit, read, size), some))

        for size in SIZES:
            some = shown[:: max(1, len(shown) // SAMPLE)]
            if size is not SIZES[-1] and _length(inline(some, size)) * len(shown) > LIMIT * len(some):
                continue
            inlined = inline(shown, size)
            if _length(inlined) <= LIMIT:
                break
    entries = [entry for unit, entry in zip(units, view["units"], strict=True) if unit.record is not None]
    for entry, (image, film) in zip(entries, inlined, strict=True):
        entry["record"] = None
        entry["animation"] = {**entry["animation"], "href": film} if film else None
        entry["image"]["href"] = image
        if not image:  # its place stays, as that of an image that is not done
            entry["state"] = "missing"
    done = [entry["state"] == "done" for entry in view["units"]]
    view["contrast"] = [pair for pair in view["contrast"] if done[pair["score"]] and done[pair["probability"]]]
    data = render_page(view, alone=True).encode()
    target = Path(page)
    FolderStore(target.parent).write(target.name, data)  # whole, or not at all
    return Exported(
        page=str(target),
        job=gallery.plan.job,
        run12=gallery.plan.run12,
        images=sum(bool(image) for image, _ in inlined),
        films=sum(bool(film) for _, film in inlined),
        missing=len(units) - sum(bool(image) for image, _ in inlined),
        bytes=len(data),
        side=size.side,
    )


def _length(inlined: list[tuple[str, str]]) -> int:
    return sum(len(image) + len(film) for image, film in inlined)


def _inlined(unit: Unit, read: Read, size: Size) -> tuple[str, str]:
    """Picture and film of `unit` as data URIs; empty where there is none."""
    assert unit.record is not None
    image = _picture(file_of(unit, unit.record.image, read), size)
    animation = unit.record.animation
    film = _film(file_of(unit, animation, read), size) if animation is not None and size.frames else ""
    return image, film


def _picture(data: bytes | None, size: Size) -> str:
    frames = _frames(data, size.side, 1)
    return _uri(frames[0], quality=size.quality, method=4) if frames else ""


def _film(data: bytes | None, size: Size) -> str:
    frames = _frames(data, size.film_side, size.frames)
    if len(frames) < 2:
        return ""
    times = [2400 // len(frames)] * (len(frames) - 1) + [2400]
    return _uri(frames[0], quality=60, method=2, save_all=True, append_images=frames[1:], duration=times, loop=0)


def _frames(data: bytes | None, side: int, most: int) -> list[Image.Image]:
    """At most so many frames, evenly over the film, the last among them; no larger than `side`. Empty if unreadable."""
    if data is None:
        return []
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "GIF")) as image:
            if image.width * image.height > PIXELS:
                return []
            count = getattr(image, "n_frames", 1)
            kept = sorted({round(i * (count - 1) / max(most - 1, 1)) for i in range(most)}) if most > 1 else [0]
            frames = []
            for index in kept:
                image.seek(index)
                frame = image.convert("RGB")
                frame.thumbnail((side, side), Image.Resampling.LANCZOS)
                frames.append(frame)
            return frames
    except Exception:  # what Pillow raises on bytes made to mislead it is of many kinds
        return []


def _uri(image: Image.Image, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
