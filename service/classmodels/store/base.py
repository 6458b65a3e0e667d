"""The interface of a store, and `open_store`, which picks the implementation from a URI.

Keys are POSIX-style relative paths (`units/...`). An object appears whole or not at all.
"""

from collections.abc import Iterator
from typing import Protocol

from classmodels.errors import InputError


class Store(Protocol):
    """A flat space of named objects. Every method raises StoreError where the storage refuses."""

    uri: str

    def write(self, key: str, data: bytes) -> None:
        """Create or replace the object `key`, atomically and durably."""

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is no such object."""

    def list(self, prefix: str) -> Iterator[str]:
        """All keys that begin with `prefix`, in order; none when nothing is there."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens where there is none."""

    def locate(self, key: str) -> str:
        """A path or URL a person can open."""


def open_store(uri: str) -> Store:
    """The store at `uri`: a folder (created at the first write).

    Raises InputError for a kind of URI that no implementation serves.
    """
    from classmodels.store.folder import FolderStore

    if "://" in uri and not uri.startswith("file://"):
        raise InputError(f"output {uri!r}: this version writes to folders only; expected a path such as ./galleries")
    return FolderStore(uri.removeprefix("file://"))
