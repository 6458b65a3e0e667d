"""The cache's bound: what was used longest ago goes first, and never what a living process uses."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from classmodels.errors import StoreError
from classmodels.models.remote.disk import TEMPORARY, exclusively, read_note, remove_unused, telling
from classmodels.models.remote.place import PLACE, SIZE, amount

ROOM = "locks/room"
"""Held by whoever removes objects, or puts one in its place."""
_ABANDONED = 3600.0
"""Seconds after which a temporary file is nobody's any more: its process was killed."""


@dataclass(frozen=True)
class Held:
    """Something that takes room: an object, or the part of one, as large as it will be. used: when it last was."""

    used: float
    size: int
    path: Path
    lock: Path | None

    def remove(self) -> bool:
        """Remove it unless a living process uses it. Returns whether it is gone."""
        return remove_unused(self.lock or self.path, self.path, _note(self.path))


def make_room(root: Path, limit: int, coming: int) -> None:
    """Remove from the cache in `root` until it is within `limit` bytes and `coming` more fit on the disk.

    What is used is left even so: the bound then holds again once it is not. Raises StoreError where the disk is full.
    """
    with telling(root), exclusively(root / ROOM):
        there = sorted(_held(root), key=lambda one: one.used)
        total = sum(one.size for one in there)
        for one in there:
            if total <= limit and _free(root) >= coming:
                return
            if one.remove():
                total -= one.size
        free = _free(root)
    if free < coming:
        raise StoreError(
            f"cannot use the cache {root}: the disk is full: {amount(coming)} are to come and {amount(free)} are free;"
            f" free some space, or name a folder on another disk with {PLACE}"
        )


def check_fits(root: Path, limit: int, name: str, size: int) -> None:
    """Raises StoreError where an object of `size` bytes is larger than the whole cache may be."""
    if size > limit:
        raise StoreError(
            f"{name} has {amount(size)} and the cache {root} may hold {amount(limit)}: raise {SIZE}, such as"
            f" {SIZE}={-(-size // 10**9)}GB"
        )


def size_of(root: Path) -> int:
    """The bytes of all that is in the cache."""
    return sum(one.size for one in _held(root))


def _held(root: Path) -> Iterator[Held]:
    for entry in _entries(root / "objects"):
        path, status = Path(entry.path), entry.stat()
        with contextlib.suppress(FileNotFoundError):
            status = _note(path).stat()  # touched at every use
        yield Held(status.st_mtime, entry.stat().st_size, path, None)
    for entry in _entries(root / "parts"):
        path, status = Path(entry.path), entry.stat()
        size = read_note(_note(path)).get("size")
        whole = size if isinstance(size, int) else 0
        yield Held(status.st_mtime, max(whole, status.st_size), path, root / "locks" / path.name)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in `folder` but for notes; temporary files that a killed process left are cleared away."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            if entry.name.startswith(TEMPORARY):
                if entry.stat().st_mtime < time.time() - _ABANDONED:
                    os.unlink(entry.path)
            elif not entry.name.endswith(".json"):
                entry.stat()
                yield entry


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _free(root: Path) -> int:
    return shutil.disk_usage(root).free
