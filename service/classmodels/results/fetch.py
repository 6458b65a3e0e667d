"""What of a place is here already, and bringing the rest: the part of `pull` that deals with one unit at a time.

What is here is compared by its bytes; what is there is known by listings and records, and is only read when it is to be
brought, or where a listing has no digest that ours equals: an ETag is the MD5 of what is there in most stores, and in
others (those that encrypt with a key of one's own) something else, which says nothing.
"""

import hashlib
import re
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from classmodels.errors import DamagedError
from classmodels.results.names import by_content, files_of, for_people, plain_name
from classmodels.results.survey import Survey
from classmodels.store import Entry, FileEntry, Record
from classmodels.store.base import Read
from classmodels.store.believed import OBJECT_BYTES, read_believed, record_of
from classmodels.store.folder import FolderStore

_NAMED_BY_CONTENT = re.compile(r"(.*)\.([0-9a-f]{12})\.([a-z]+)")
_MEND = "delete its record there and run the job again to have it made anew"


class Lack(NamedTuple):
    """So many objects of a unit, and bytes, are to be brought."""

    objects: int
    bytes: int


@dataclass
class Brought:
    """What came of one unit, or of an object that is copied."""

    key: str
    objects: int = 0
    bytes: int = 0
    unit: bool = False
    failed: str | None = None

    def add(self, size: int) -> None:
        self.objects += 1
        self.bytes += size


class _AmissError(Exception):
    """An object there is not what it should be; the others may be."""


class Fetcher:
    """Compares units with those here, and brings them; for many threads."""

    def __init__(self, found: Survey, here: FolderStore, read: Read) -> None:
        self._found, self._here, self._read = found, here, read
        self._names = set(here.list(""))  # so that looking for what is not here costs nothing
        self._writing = Lock()
        self._files = found.files_by_unit()
        self._right: set[tuple[str, str]] = set()
        """Files here, by key, that have been found to have a digest."""

    def lacking(self, key: str) -> Lack:
        """What of the unit of the record `key` is to be brought."""
        data = self._mine(key)
        record = record_of(key, data) if data is not None else None
        if data is None or record is None or not self._is_current(key, data, record):
            unlike = self._unlike(key)
            return Lack(1 + len(unlike), self._found.records[key].size + sum(entry.size for entry in unlike))
        sizes = [file.bytes for file in files_of(record) if not self._has(key, file.name, file.sha256)]
        return Lack(len(sizes), sum(sizes))

    def is_here(self, entry: Entry) -> bool:
        """Whether an object that is copied as it is lies here already."""
        mine = self._mine(entry.key)
        if mine is None or len(mine) != entry.size:
            return False
        return _md5(mine) == entry.md5 or mine == read_believed(self._read, entry.key)

    def bring(self, key: str) -> Brought:
        """Bring a unit's files that are not here, and then its record."""
        brought = Brought(key)
        try:
            self._bring(key, brought)
        except (_AmissError, DamagedError) as error:
            brought.failed = str(error)
        return brought

    def _bring(self, key: str, brought: "Brought") -> None:
        if self._found.records[key].size > OBJECT_BYTES:
            raise _AmissError("its record is larger than any record is")
        theirs = self._read(key)
        if theirs is None:
            raise _AmissError("its record is gone")
        record = record_of(key, theirs)
        if record is None:
            raise _AmissError("its record is damaged there; delete it and run the job again to have it made anew")
        for file in files_of(record):
            name = plain_name(file)
            if not self._has(key, name, file.sha256):
                data = self._file(_beside(key, file.name), file)
                self._write(_beside(key, name), data)
                brought.add(len(data))
        before, now = self._mine(key), for_people(theirs, record)
        if before != now:
            self._write(key, now)
            if before is not None:
                self._clear(key, before, record)
            brought.add(len(theirs))
        brought.unit = True

    def _file(self, key: str, file: FileEntry) -> bytes:
        """The bytes of a file there. Raises _AmissError unless they are those that its record names."""
        listed = self._found.files.get(key)
        if listed is None or listed.size == file.bytes:  # what has another size is not worth the way
            data = self._read(key)
            if data is None:
                raise _AmissError(f"{key} is not there; {_MEND}")
            if hashlib.sha256(data).hexdigest() == file.sha256:
                return data
        raise _AmissError(f"{key} is not the file that its record names; {_MEND}")

    def copy(self, entry: Entry) -> Brought:
        """Bring an object as it is."""
        brought = Brought(entry.key)
        try:
            if (data := self._read(entry.key)) is None:
                raise _AmissError("it is gone")
            self._write(entry.key, data)
            brought.add(len(data))
        except (_AmissError, DamagedError) as error:
            brought.failed = str(error)
        return brought

    def _write(self, key: str, data: bytes) -> None:
        with self._writing:  # file systems let one thread at a time change a folder: let the others sleep meanwhile
            self._here.write(key, data)

    def _mine(self, key: str) -> bytes | None:
        """The object here."""
        return self._here.read(key) if key in self._names else None

    def _is_current(self, key: str, mine: bytes, record: Record) -> bool:
        """Whether the record here is that of the unit there: told by the listing, or else by reading that."""
        if self._found.records[key].md5 in (_md5(by_content(mine, record)), _md5(mine)):
            return True
        theirs = read_believed(self._read, key)
        there = record_of(key, theirs) if theirs is not None else None
        return theirs is not None and there is not None and for_people(theirs, there) == mine

    def _has(self, key: str, name: str, sha256: str) -> bool:
        """Whether the file `name` beside the record `key` is here, with the bytes that `sha256` is of."""
        at = _beside(key, name)
        if (at, sha256) not in self._right:
            data = self._mine(at)
            if data is None or hashlib.sha256(data).hexdigest() != sha256:
                return False
            self._right.add((at, sha256))
        return True

    def _unlike(self, key: str) -> list[Entry]:
        """The unit's files that are not here, going by their names, which hold the beginning of a digest."""
        unlike = []
        for entry in self._files.get(key, ()):
            named = _NAMED_BY_CONTENT.fullmatch(entry.key)
            mine = self._mine(f"{named[1]}.{named[3]}" if named else entry.key)
            sha12 = named[2] if named else ""
            if mine is None or len(mine) != entry.size or not hashlib.sha256(mine).hexdigest().startswith(sha12):
                unlike.append(entry)
        return unlike

    def _clear(self, key: str, before: bytes, record: Record) -> None:
        """Delete files that the record here named before and `record` does not: their label has changed."""
        old = record_of(key, before)
        if old is not None:
            for name in {file.name for file in files_of(old)} - {plain_name(file) for file in files_of(record)}:
                self._here.delete(_beside(key, name))


def _beside(key: str, name: str) -> str:
    """The key of the file `name` in the folder of the record `key`."""
    return f"{key.rpartition('/')[0]}/{name}"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
