"""The interface of a store, and `open_store`, which picks the implementation from a URI.

Keys are POSIX-style relative paths (`units/...`). An object appears whole or not at all.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from classmodels.errors import InputError, StoreError
from classmodels.s3 import S3Settings


@dataclass(frozen=True, order=True)
class Entry:
    """One object as a listing has it. size: in bytes; modified: when it was last written, in UTC.

    md5: of its bytes, in hex, where the listing tells it; to find copies that need no second look, and for nothing
    else: a store may give something else there. Where it equals no digest of ours, that says nothing.

    tag: what stays the same as long as the object does: the ETag in a bucket, the time in nanoseconds of a file.
    """

    key: str
    size: int
    modified: datetime
    md5: str | None = field(default=None, compare=False)
    tag: str | None = field(default=None, compare=False)


Read = Callable[[str], bytes | None]
"""As `Store.read`."""


class Store(Protocol):
    """A flat space of named objects, for many threads at once.

    Every method raises StoreError where the storage refuses, or where a key is none (see `check_key`).
    """

    uri: str

    def write(self, key: str, data: bytes) -> None:
        """Create or replace the object `key`, atomically and durably."""

    def create(self, key: str, data: bytes) -> bool:
        """As `write`, unless the object is there already: False, and it stays as it is.

        Of several writers at the same time one wins. A bucket whose server knows no such condition takes them all, one
        after the other: nothing may depend on it. True may also become False: where the answer to it was lost.
        """

    def write_file(self, key: str, file: Path, sha256: str) -> None:
        """As `write`, the bytes of a file of any size, whose digest is told. Raises OSError too, from reading it."""

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is no such object."""

    def reading(self) -> AbstractContextManager[Read]:
        """As `read`, from many threads and for thousands of objects: where a store has a quicker way, this is it."""

    def list(self, prefix: str) -> Iterator[str]:
        """All keys that begin with `prefix`, in order; none when nothing is there.

        What lies at a name with a part that begins with `.` is no object of ours: it is never listed.
        """

    def entries(self, prefix: str) -> Iterator[Entry]:
        """As `list`, with sizes and times: what it takes to tell what a copy lacks, and what is old."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens where there is none."""

    def locate(self, key: str) -> str:
        """A path or URI by which a person can name the object to other programs."""


def check_key(key: str, place: str) -> None:
    """Raises StoreError unless `key` is the one name of an object inside `place`, which is named in the message."""
    parts = key.split("/")
    if key.startswith("/") or ".." in parts or "\0" in key:
        raise StoreError(f"the key {key!r} leaves {place}")
    if "" in parts or "." in parts:
        raise StoreError(f"the key {key!r} names no object: expected names with one slash between them")


def open_store(uri: str, settings: S3Settings | None = None) -> Store:
    """The store at `uri`: a folder (created at the first write) or `s3://bucket/prefix`, reached as `settings` say.

    Nothing is read or written yet. Raises InputError for any other kind of URI.
    """
    if uri.lower().startswith("s3:"):
        from classmodels.store.s3 import S3Store

        return S3Store(uri, settings or S3Settings())
    if "://" in uri and not uri.startswith("file://"):
        raise InputError(f"found {uri!r}, expected a folder such as ./galleries, or s3://bucket/prefix")
    from classmodels.store.folder import FolderStore

    return FolderStore(uri.removeprefix("file://"))
