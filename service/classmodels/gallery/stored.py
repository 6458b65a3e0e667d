"""The pictures of units as they are stored, believed only with the digest that their record names."""

import hashlib
import io
from collections.abc import Iterator

from PIL import Image

from classmodels.gallery.units import Unit
from classmodels.store import FileEntry
from classmodels.store.base import Read
from classmodels.store.believed import PIXELS, read_believed


def file_of(unit: Unit, file: FileEntry, read: Read) -> bytes | None:
    """The bytes of a unit's file; None where they are not there or not those that its record names."""
    data = read_believed(read, unit.folder + file.name)
    return data if data is not None and hashlib.sha256(data).hexdigest() == file.sha256 else None


def image_of(unit: Unit, read: Read) -> Image.Image | None:
    """The image of a unit, grey or RGB; None where it cannot be had."""
    if unit.record is None:
        return None
    data = file_of(unit, unit.record.image, read)
    return next((frame for frame, _ in frames_of(data, ("PNG",))), None) if data is not None else None


def frames_of(data: bytes, formats: tuple[str, ...]) -> Iterator[tuple[Image.Image, float]]:
    """The frames of a picture or film, grey or RGB, each with the milliseconds at which it ends.

    They end before the first one that cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > PIXELS:
                return
            ends = 0.0
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                frame = image.convert("L" if image.mode == "L" else "RGB")
                ends += image.info.get("duration", 0)
                yield frame, ends
    except Exception:  # what Pillow raises on bytes made to mislead it is of many kinds
        return
