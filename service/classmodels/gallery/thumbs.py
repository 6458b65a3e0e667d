"""Small pictures for the page of a large gallery, which could not hold thousands of full ones in memory.

A browser keeps every picture that was scrolled past, as it is stored and decoded: three thousand take half a gigabyte.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from classmodels.gallery.small import Small
from classmodels.gallery.stored import image_of
from classmodels.gallery.units import Unit
from classmodels.store import Store
from classmodels.store.base import Read

MANY = 1200
"""Images of the largest gallery that shows them as they are."""
SIDE = 96
"""Longest side of a small picture in pixels: about what a card of a long page is wide."""
QUALITY = 85
THREADS = 16


def write_thumbs(store: Store, units: Sequence[Unit], prefix: str) -> dict[str, str]:
    """Write small pictures of more than MANY units below `prefix`; by the key of a unit's record where its one is.

    An image that cannot be had has none. Raises StoreError.
    """
    done = [unit for unit in units if unit.record is not None]
    if len(done) <= MANY:
        return {}
    with store.reading() as read, ThreadPoolExecutor(THREADS, "thumbs") as threads:
        small = Small(store, read, prefix, "thumbs")
        written = threads.map(lambda unit: _written(small, unit, read), done)
        return {unit.key: href for unit, href in zip(done, written, strict=True) if href is not None}


def _written(small: Small, unit: Unit, read: Read) -> str | None:
    assert unit.record is not None

    def make() -> bytes | None:
        image = image_of(unit, read)
        if image is None:
            return None
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    return small.of(unit.record.image, make)
