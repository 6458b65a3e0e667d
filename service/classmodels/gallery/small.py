"""Small pictures that a gallery keeps beside its page, made from files of its units: `strips.py` and `thumbs.py` do.

Each is named after the file it was made from and after its own bytes: `thumbs/<sha12>.<sha12>.jpg`. So what is there
and whole is not made again, and whoever reads one can tell.
"""

import hashlib
import re
from collections.abc import Callable

from classmodels.store import FileEntry, Store
from classmodels.store.base import Read
from classmodels.store.believed import read_believed

_NAME = re.compile(r"(?:strips|thumbs)/([0-9a-f]{12})\.([0-9a-f]{12})\.jpg")


class Small:
    """The pictures of one kind, `strips` or `thumbs`, below `prefix`; `read` is the store's. Raises StoreError."""

    def __init__(self, store: Store, read: Read, prefix: str, kind: str) -> None:
        self._store, self._read, self._prefix, self._kind = store, read, prefix, kind
        names = (key.removeprefix(prefix) for key in store.list(f"{prefix}{kind}/"))
        self._there = {match[1]: match[0] for name in names if (match := _NAME.fullmatch(name))}

    def of(self, file: FileEntry, make: Callable[[], bytes | None]) -> str | None:
        """The picture made from `file`, relative to the prefix; None where it is not there and cannot be made."""
        source = file.sha256[:12]
        there = self._there.get(source)
        if there is not None and is_whole(there, read_believed(self._read, self._prefix + there) or b""):
            return there
        data = make()
        if data is None:
            return None
        name = f"{self._kind}/{source}.{hashlib.sha256(data).hexdigest()[:12]}.jpg"
        self._store.write(self._prefix + name, data)
        return name


def is_small(name: str) -> bool:
    """Whether `name`, relative to a gallery's prefix, is that of a small picture."""
    return _NAME.fullmatch(name) is not None


def is_whole(name: str, data: bytes) -> bool:
    """Whether `data` is what was written under `name`, which is that of a small picture."""
    match = _NAME.fullmatch(name)
    return match is not None and hashlib.sha256(data).hexdigest().startswith(match[2])
