"""The files that were fetched, each under the sha256 of its bytes, shared by all processes on the machine.

    objects/<sha256>  <sha256>.json     a file; its size and time as they were when it was digested
    sources/<key>.json                  what the object at an address was, and its sha256: spares the next download
    parts/<key>  <key>.json             a download under way, or what is left of one
    locks/<key>                         held by the process that downloads
    mirror.json                         only in a mirror that `fetch` has made: it is read as it is, without any network

No name comes from elsewhere: <key> is a digest of the address. What whoever may write to this folder puts into it is
believed no more than a server: a file is digested again where its size or time is not as noted, and again when it is
loaded.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from classmodels.errors import InputError, StoreError
from classmodels.models.remote.base import Listener, Remote, Seen
from classmodels.models.remote.disk import exclusively, fsync_folder, read_note, share, telling, write_note
from classmodels.models.remote.download import Part, check_size, download
from classmodels.models.remote.room import ROOM, check_fits, make_room
from classmodels.models.remote.uri import SHA256, Uri

MIRROR = "mirror.json"


class DamagedError(StoreError):
    """The bytes that came are not those that were expected."""


class Cache:
    """The cache in the folder `root`, of at most `limit` bytes (None: a mirror in the making, which holds all).

    Every method raises StoreError where the folder cannot be used.
    """

    def __init__(self, root: Path, limit: int | None) -> None:
        self.root = root
        self.limit = limit

    def path(self, sha256: str) -> Path:
        return self.root / "objects" / sha256

    def has(self, sha256: str) -> bool:
        with telling(self.root):
            return self.path(sha256).is_file()

    def known(self, uri: Uri, seen: Seen | None) -> str | None:
        """The sha256 of what is at `uri` where that was learned before.

        seen: what is there now; None: what was there when it was last looked at is meant.
        """
        note = read_note(self._source(uri))
        sha256 = note.get("sha256")
        if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            return None
        if seen is not None and (seen.identity is None or note.get("identity") != seen.identity):
            return None
        return sha256

    def fetch(self, remote: Remote, seen: Seen, most: int | None, listener: Listener) -> str:
        """Have the bytes of `remote` here; returns their sha256. Raises StoreError, InputError.

        most: how many there may be. While another process fetches the same this one waits, and then finds them.
        """
        check_size(remote, seen, most)
        if self.limit is not None:
            check_fits(self.root, self.limit, remote.uri.shown, seen.size or 0)
        most = self.limit if most is None else most
        waiting = f"{remote.uri.shown} is being fetched by another process: waiting for it"
        with contextlib.ExitStack() as stack:
            with telling(self.root):
                lock = self.root / "locks" / remote.uri.key
                stack.enter_context(exclusively(lock, lambda: listener.say(waiting)))
            known = remote.uri.pin or seen.sha256 or self.known(remote.uri, seen)
            if known and (descriptor := self.hold(known)) is not None:
                os.close(descriptor)
                self._learn(remote.uri, seen, known)
                return known
            try:
                return self._download(remote, seen, most, listener)
            except DamagedError:  # maybe on the way: once more, from its first byte on
                return self._download(remote, remote.look(), most, listener)

    def hold(self, sha256: str) -> int | None:
        """A descriptor that keeps the object from being removed until it is closed; None where it is not here.

        One that was altered on the disk is not here: `fetch` puts the right one in its place.
        """
        with telling(self.root):
            try:
                descriptor = os.open(self.path(sha256), os.O_RDONLY)
            except FileNotFoundError:
                return None
            try:
                share(descriptor)
                if os.fstat(descriptor).st_nlink and self._is_whole(sha256, descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            return None

    def doubt(self, sha256: str) -> None:
        """Have the object digested again before it is next used."""
        with telling(self.root):
            self._stamp(sha256).unlink(missing_ok=True)

    def _download(self, remote: Remote, seen: Seen, most: int | None, listener: Listener) -> str:
        """One download, kept if its bytes are what they should be; returns their sha256. Raises also DamagedError."""
        with Part(self.root / "parts" / remote.uri.key) as part:
            part.recall(seen)
            if self.limit is not None:
                make_room(self.root, self.limit, max(0, (seen.size or 0) - part.count))
            try:
                seen = download(remote, seen, part, most, listener)
                sha256 = part.digest.hexdigest()
                check_digest(remote, seen, sha256)
            except (InputError, DamagedError):
                part.remove()
                raise
            self._keep(part, sha256)
        self._learn(remote.uri, seen, sha256)
        if self.limit is not None and seen.size is None:
            make_room(self.root, self.limit, 0)
        return sha256

    def _keep(self, part: Part, sha256: str) -> None:
        """Make the object of a whole part. Nothing is cleaned meanwhile: what is removed is what was looked at."""
        with telling(self.root), exclusively(self.root / ROOM):
            descriptor = self.hold(sha256)  # the same bytes may have come from another address
            if descriptor is None:
                path = self.path(sha256)
                self._note_stamp(sha256, part.status())
                os.replace(part.path, path)
                fsync_folder(path.parent)
            else:
                os.close(descriptor)
            part.remove()

    def _is_whole(self, sha256: str, descriptor: int) -> bool:
        """Whether the open object is what it was, by its size and time, or else by its digest."""
        status, stamp = os.fstat(descriptor), self._stamp(sha256)
        note = read_note(stamp)
        if (note.get("size"), note.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
            with contextlib.suppress(OSError):  # a cache that can only be read
                os.utime(stamp)
            return True
        with open(descriptor, "rb", closefd=False) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
        with contextlib.suppress(OSError):
            self._note_stamp(sha256, status)
        return True

    def _note_stamp(self, sha256: str, status: os.stat_result) -> None:
        write_note(self._stamp(sha256), {"size": status.st_size, "mtime_ns": status.st_mtime_ns})

    def _learn(self, uri: Uri, seen: Seen, sha256: str) -> None:
        note = {"uri": uri.shown, "identity": seen.identity, "size": seen.size, "sha256": sha256}
        with telling(self.root):
            if read_note(self._source(uri)) != note:
                write_note(self._source(uri), note)

    def _source(self, uri: Uri) -> Path:
        return self.root / "sources" / f"{uri.key}.json"

    def _stamp(self, sha256: str) -> Path:
        return self.root / "objects" / f"{sha256}.json"


def check_digest(remote: Remote, seen: Seen, found: str) -> None:
    """Raises DamagedError where the bytes of `remote` are not those that the job pins, or that were once written."""
    shown = remote.uri.shown
    if remote.uri.pin not in (None, found):
        raise DamagedError(f"{shown} is not what the job pins: its sha256 is {found}, expected {remote.uri.pin}")
    if seen.sha256 not in (None, found):
        raise DamagedError(
            f"{shown} is damaged: its sha256 is {found}, and the one noted with it {seen.sha256}; upload it again"
        )
