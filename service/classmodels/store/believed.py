"""What of a store is believed: others may write to a bucket.

A record is believed only under the key that its own identity gives, with file names that stay in its folder. What a
bucket says is damaged is as good as not there.
"""

import re
from typing import NamedTuple

from classmodels.errors import DamagedError
from classmodels.store.base import Read
from classmodels.store.records import FileEntry, Record, parse

_RECORD_KEY = re.compile(
    r"units/(?P<model>[^/\x00-\x1f]{1,200})@(?P<model12>[0-9a-f]{12})"
    r"/(?P<recipe>[^/\x00-\x1f]{1,200})@(?P<recipe12>[0-9a-f]{12})/(?P<index>[0-9]{1,12})\.json"
)
_IMAGE = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]*\.png")
_ANIMATION = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]*\.(?:webp|gif|apng)")
_NAME_BYTES = 255
"""Longest name of a file that file systems take."""
OBJECT_BYTES = 1 << 24
"""Largest record or verdict that is parsed: the longest score curve, of 100,000 steps, needs an eighth of that."""


class UnitKey(NamedTuple):
    """What the key of a record says of its unit."""

    model: str
    model12: str
    recipe: str
    recipe12: str
    class_index: int


def read_believed(read: Read, key: str) -> bytes | None:
    """As `read`, for who goes on without the object, or makes it again: None too where its bytes are damaged.

    Raises StoreError where the storage cannot be used.
    """
    try:
        return read(key)
    except DamagedError:
        return None


def unit_key(key: str) -> UnitKey | None:
    """What `key` says, or None where it is not the key of a record."""
    match = _RECORD_KEY.fullmatch(key)
    if match is None:
        return None
    return UnitKey(match["model"], match["model12"], match["recipe"], match["recipe12"], int(match["index"]))


def record_of(key: str, data: bytes) -> Record | None:
    """`data` as the record of the unit under `key`; None where it is damaged, another unit's, or not believable."""
    record = parse(Record, data) if len(data) <= OBJECT_BYTES else None
    return record if record is not None and _belongs(record, key) and _believable(record) else None


def _belongs(record: Record, key: str) -> bool:
    unit = unit_key(key)
    return unit is not None and (
        (unit.model12, unit.recipe12, unit.class_index)
        == (record.model.model12, record.recipe.recipe12, record.class_index)
    )


def _believable(record: Record) -> bool:
    return _fits(record.image, _IMAGE) and (record.animation is None or _fits(record.animation, _ANIMATION))


def _fits(file: FileEntry, names: re.Pattern[str]) -> bool:
    """A plain visible name, so that a link cannot leave the folder, and a size that a page can lay out."""
    return (
        0 < file.width <= 1 << 16
        and 0 < file.height <= 1 << 16
        and re.fullmatch(r"[0-9a-f]{64}", file.sha256) is not None
        and names.fullmatch(file.name) is not None
        and len(file.name.encode()) <= _NAME_BYTES
    )
