"""Small pictures for the page of a large gallery, which could not hold thousands of full ones in memory.

A browser keeps every picture that was scrolled past, as it is stored and decoded: three thousand take half a gigabyte.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

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

    They are named after the digest of the image, and what is there by that name is left alone. An image that cannot be
    had has none. Raises StoreError.
    """
    done = [unit for unit in units if unit.record is not None]
    if len(done) <= MANY:
        return {}
    there = set(store.list(f"{prefix}thumbs/"))
    with store.reading() as read, ThreadPoolExecutor(THREADS, "thumbs") as threads:
        written = threads.map(lambda unit: _written(store, unit, read, prefix, there), done)
        return {unit.key: href for unit, href in zip(done, written, strict=True) if href is not None}


def _written(store: Store, unit: Unit, read: Read, prefix: str, there: set[str]) -> str | None:
    assert unit.record is not None
    href = f"thumbs/{unit.record.image.sha256[:12]}.jpg"
    if prefix + href not in there:
        image = image_of(unit, read)
        if image is None:
            return None
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        store.write(prefix + href, buffer.getvalue())
    return href
