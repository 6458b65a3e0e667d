"""Where the cache is, and how much it may hold, as CLASSMODELS_CACHE and CLASSMODELS_CACHE_SIZE say or without them."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from classmodels.errors import InputError, StoreError

PLACE = "CLASSMODELS_CACHE"
SIZE = "CLASSMODELS_CACHE_SIZE"
USUAL_SIZE = 50_000_000_000
"""Bytes; or half of the disk, where that is less."""

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([KMGT])(i?))?B?", re.IGNORECASE)


def find_place() -> Path:
    """The folder CLASSMODELS_CACHE, or else one that can be made: in XDG_CACHE_HOME, ~/.cache, or the temporary files.

    Raises StoreError where there is none. A folder that is named need not be there yet.
    """
    if named := os.environ.get(PLACE):
        try:
            return Path(named).expanduser().absolute()
        except RuntimeError:
            raise InputError(f"{PLACE}: found {named!r}, and there is no home folder; name the whole path") from None
    usual = os.environ.get("XDG_CACHE_HOME", "")
    try:
        above = Path(usual) if os.path.isabs(usual) else Path.home() / ".cache"
        place = above / "classmodels"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(place, os.W_OK | os.X_OK):
            return place
    except (OSError, RuntimeError):
        pass  # nobody's home, as in many containers, or one that cannot be written to
    return _temporary()


def find_limit(place: Path) -> int:
    """How many bytes the cache in `place` may hold. Raises InputError where CLASSMODELS_CACHE_SIZE is no size."""
    named = os.environ.get(SIZE)
    if named is None:
        there = next(folder for folder in (place, *place.parents) if os.path.exists(folder))
        return min(USUAL_SIZE, shutil.disk_usage(there).total // 2)
    size = _SIZE.fullmatch(named.strip())
    if size is None:
        raise InputError(f"{SIZE}: found {named!r}, expected a number of bytes such as 50GB or 20GiB")
    power = " KMGT".index(size[2].upper()) if size[2] else 0
    return int(float(size[1]) * (1024 if size[3] else 1000) ** power)


def amount(size: int) -> str:
    """So many bytes, for people."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


def _temporary() -> Path:
    place = Path(tempfile.gettempdir()) / f"classmodels-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
    except OSError as error:
        raise StoreError(
            f"there is no place for a cache: neither the home folder nor {place} can be written to"
            f" ({(error.strerror or '').lower()}); name a folder with {PLACE}"
        ) from error
    # Anybody can make a folder of this name before we do, and put weights of his own into it.
    if status.st_uid != os.getuid() or status.st_mode & 0o170077 != 0o040000:
        raise StoreError(f"{place} is not a folder of this user's alone; name another with {PLACE}")
    return place
