"""Bringing one object here, so that what has come is never asked for again and never mixed with something else.

The bytes go to a part file, with a note beside it of what object they are the beginning of and the digest of those
that are surely on the disk. After a kill, or a power cut, the next attempt keeps these and asks for the rest.
"""

import hashlib
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from classmodels.errors import InputError
from classmodels.models.remote.base import BrokenOffError, Listener, Remote, Seen
from classmodels.models.remote.disk import read_note, telling, write_note

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before the same bytes are asked for again; after the last the download is given up, and its part kept."""
SYNC_SECONDS = 2.0
"""How much of a download is lost at most when the process is killed."""


class Part:
    """The bytes of an object that have come so far, in the file `path`. digest: of these."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path.with_name(path.name + ".json")
        self.count = 0
        self.digest = hashlib.sha256()
        self._seen: Seen | None = None
        with telling(path.parent.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        self._synced = time.monotonic()

    def recall(self, seen: Seen) -> None:
        """Keep what is there of the object `seen`; anything else is thrown away."""
        note = read_note(self.note)
        count = note.get("count")
        known = seen.tag and seen.identity and note.get("identity") == seen.identity
        if not known or not isinstance(count, int) or count > (seen.size or 0):
            return self.restart(seen)
        with telling(self.path.parent.parent):
            self._file.seek(0)
            digest, left = hashlib.sha256(), count
            while left and (data := self._file.read(min(left, 1 << 20))):
                digest.update(data)
                left -= len(data)
            if left or digest.hexdigest() != note.get("sha256"):
                return self.restart(seen)
            self._file.truncate(count)
        self.count, self.digest, self._seen = count, digest, seen
        return None

    def restart(self, seen: Seen) -> None:
        """Nothing of the object `seen` has come yet."""
        self.count, self.digest, self._seen = 0, hashlib.sha256(), seen
        with telling(self.path.parent.parent):
            self._file.seek(0)
            self._file.truncate()
            self._write_note()

    def append(self, data: bytes) -> None:
        with telling(self.path.parent.parent):
            rest = memoryview(data)
            while rest:
                written = self._file.write(rest)
                self.digest.update(rest[:written])
                self.count += written
                rest = rest[written:]
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self.sync()

    def sync(self) -> None:
        """What has come so far is on the disk, and known by its digest."""
        with telling(self.path.parent.parent):
            os.fsync(self._file.fileno())
            self._write_note()
            self._synced = time.monotonic()

    def status(self) -> os.stat_result:
        return os.fstat(self._file.fileno())

    def remove(self) -> None:
        """Forget what has come; the file may have become an object."""
        with telling(self.path.parent.parent):
            self._seen = None
            self.path.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)

    def _write_note(self) -> None:
        assert self._seen is not None
        write_note(
            self.note,
            {
                "identity": self._seen.identity,
                "size": self._seen.size,
                "count": self.count,
                "sha256": self.digest.hexdigest(),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None and self._seen is not None:
                self.sync()
        finally:
            self._file.close()


def download(remote: Remote, seen: Seen, part: Part, most: int | None, listener: Listener) -> Seen:
    """Have all bytes of `remote` in `part`; returns what they are, which is not `seen` where it changed meanwhile.

    most: the bytes it may have. Raises StoreError; InputError where it is larger, or not there any more.
    """
    listener.fetching(remote.uri.shown, part.count, seen.size)
    in_vain = 0
    while part.count != seen.size:
        before = part.count
        try:
            seen = _go_on(remote, seen, part, most, listener)
            if seen.size is None or part.count == seen.size:
                break
            raise BrokenOffError(
                f"cannot read {remote.uri.shown}: {part.count:,} bytes came, and it has {seen.size:,}; look for a"
                " faulty proxy in between"
            )
        except BrokenOffError:
            in_vain = 0 if part.count > before else in_vain + 1
            if in_vain == len(PAUSES):
                raise
            time.sleep(PAUSES[in_vain])
    part.sync()
    return seen


def _go_on(remote: Remote, seen: Seen, part: Part, most: int | None, listener: Listener) -> Seen:
    """Append what `remote` still has to give, or begin anew where it has changed; returns what it is now."""
    with remote.read(part.count, seen) as answer:
        if answer.start == 0:
            again = part.count > 0
            seen = answer.seen
            check_size(remote, seen, most)
            part.restart(seen)
            if again:
                listener.fetching(remote.uri.shown, 0, seen.size)
        for chunk in answer.chunks:
            come = part.count + len(chunk)
            if seen.size is not None and come > seen.size:
                raise BrokenOffError(f"cannot read {remote.uri.shown}: more comes than the {seen.size:,} bytes it has")
            if most is not None and come > most:
                raise _too_large(remote, most)
            part.append(chunk)
            listener.fetched(len(chunk))
    return seen


def check_size(remote: Remote, seen: Seen, most: int | None) -> None:
    """Raises InputError where `remote` has more bytes than may be read of it."""
    if most is not None and (seen.size or 0) > most:
        raise _too_large(remote, most)


def _too_large(remote: Remote, most: int) -> InputError:
    return InputError(f"{remote.uri.shown} is larger than the {most:,} bytes that may be read of it")
