"""Strips of film: some frames of an ascent in a row, as one small picture, for a slider to go through.

A page that is opened from the disk may show an animation but neither read nor stop it; of a strip it shows a part. They
are made from the animations as they are stored, for galleries of at most FILMS units: of more they would cost minutes.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from PIL import Image

from classmodels.film import DURATION, frame_steps
from classmodels.gallery.small import Small
from classmodels.gallery.stored import file_of, frames_of
from classmodels.gallery.units import Unit
from classmodels.store import FileEntry, Store
from classmodels.store.base import Read

FILMS = 120
"""Animations of the largest gallery that has strips."""
FRAMES = 16
MOST = 512
"""Frames of the longest film that is read."""
SIDE = 144
"""Longest side of a frame in pixels."""
QUALITY = 75
THREADS = 4

Frame = tuple[Image.Image, float]
"""A picture, and when it ends in milliseconds."""


def write_strips(store: Store, units: Sequence[Unit], prefix: str) -> dict[str, dict[str, Any]]:
    """Write the strips of `units` below `prefix` and return them by the key of the unit's record.

    Each is {href, frames, width, height, steps}: `href` relative to `prefix`, width and height those of one frame,
    steps[k] after how many steps frame k was taken. Raises StoreError.
    """
    filmed = [unit for unit in units if unit.record is not None and unit.record.animation is not None]
    if len(filmed) > FILMS:
        return {}
    with store.reading() as read, ThreadPoolExecutor(THREADS, "strips") as threads:
        small = Small(store, read, prefix, "strips")
        made = threads.map(lambda unit: _written(small, unit, read), filmed)
        return {unit.key: strip for unit, strip in zip(filmed, made, strict=True) if strip is not None}


def _written(small: Small, unit: Unit, read: Read) -> dict[str, Any] | None:
    assert unit.record is not None
    film = unit.record.animation
    assert film is not None
    count, steps = film.frames, len(unit.record.scores) - 1
    if not (2 <= count <= min(MOST, steps + 1) and film.width > 0 and film.height > 0):
        return None
    kept = sorted({round(k * (count - 1) / (FRAMES - 1)) for k in range(FRAMES)})
    scale = min(1.0, SIDE / max(film.width, film.height))
    width, height = (max(1, round(scale * side)) for side in (film.width, film.height))

    def make() -> bytes | None:
        data = file_of(unit, film, read)
        return _strip(data, film, kept, (width, height)) if data is not None else None

    href = small.of(film, make)
    if href is None:
        return None
    taken = frame_steps(count, steps)
    return {
        "href": href,
        "frames": len(kept),
        "width": width,
        "height": height,
        "steps": [taken[k] for k in kept],
    }


def _strip(data: bytes, film: FileEntry, kept: list[int], size: tuple[int, int]) -> bytes | None:
    """The frames `kept`, each of `size`, from left to right as JPEG; None where the film is not what is said of it."""
    frames = list(islice(frames_of(data, ("WEBP", "GIF", "PNG")), film.frames + 1))
    if not 2 <= len(frames) <= film.frames or frames[0][0].size != (film.width, film.height):
        return None
    strip = Image.new("RGB", (size[0] * len(kept), size[1]))
    for position, index in enumerate(kept):
        frame = frames[index] if len(frames) == film.frames else _at(frames, index * (DURATION // film.frames))
        strip.paste(frame[0].convert("RGB").resize(size, Image.Resampling.BOX), (position * size[0], 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _at(frames: list[Frame], time: int) -> Frame:
    """The frame that is shown at `time`, in milliseconds: an encoder shows one of equal ones for as long as all."""
    return next((frame for frame in frames if frame[1] > time), frames[-1])
