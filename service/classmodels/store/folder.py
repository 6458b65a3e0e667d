"""A folder as a store: write to a temporary name, fsync, rename, fsync the folder; no reader ever sees half a file.

Symbolic links are followed as long as they stay in the folder: what lies elsewhere is neither read nor written.
"""

import contextlib
import errno
import io
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from classmodels.errors import StoreError
from classmodels.store.base import Entry, Read, check_key

_TEMPORARY = ".writing-"
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN}
"""What a folder on another machine answers while that restarts."""
_LINKLESS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer."""
_ABANDONED = 3600.0
"""Seconds after which a temporary file belongs to no writer any more: its process was killed."""


class FolderStore:
    """Objects are files under `root`. Names that begin with `.` are never listed."""

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True) -> None:
        """durable: False for what can be had again, such as copies: a power cut may then damage what was written."""
        self.root = Path(root).expanduser().absolute()
        self._durable = durable
        self.uri = str(self.root)
        self._ready: set[Path] = set()
        self._inside: set[Path] = set()
        """Folders that have been found to lie in the root, links resolved: looking again takes longer than a read."""
        self._making = threading.Lock()

    def write(self, key: str, data: bytes) -> None:
        self._write(key, io.BytesIO(data), _replace)

    def create(self, key: str, data: bytes) -> bool:
        return self._write(key, io.BytesIO(data), _link)

    def write_file(self, key: str, file: Path, sha256: str) -> None:
        with file.open("rb") as source:
            self._write(key, source, _replace)

    def _write(self, key: str, source: BinaryIO, put: Callable[[Path, Path], bool]) -> bool:
        """put: has the file that is written appear under its name, or not; and so what is returned."""
        path = self._path(key, follow=False)
        try:
            self._make(path.parent)
            temporary = path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
            try:
                with open(temporary, "xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                    if self._durable:
                        file.flush()
                        os.fsync(file.fileno())
                done = put(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            if self._durable:
                _fsync_folder(path.parent)
        except OSError as error:
            raise _refused(f"write {path}", error) from error
        return done

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise _refused(f"read {path}", error) from error

    def reading(self) -> contextlib.AbstractContextManager[Read]:
        return contextlib.nullcontext(self.read)

    def list(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """All objects whose keys begin with `prefix`, in order.

        A linked folder is entered only where `prefix` goes through it; a link that leads out of the root is no key.
        """
        top = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        found: list[Entry] = []
        try:
            for folder, folders, files in os.walk(top, onerror=_raise_unless_gone):
                folders[:] = [name for name in folders if not name.startswith(".")]
                base = Path(folder).relative_to(self.root).as_posix()
                for name in files:
                    path, key = os.path.join(folder, name), name if base == "." else f"{base}/{name}"
                    if "/." in f"/{key}" or not key.startswith(prefix):
                        continue
                    if os.path.islink(path) and self._outside(path):
                        continue
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        status = os.stat(path)
                        modified = datetime.fromtimestamp(status.st_mtime, UTC)
                        found.append(Entry(key, status.st_size, modified, tag=str(status.st_mtime_ns)))
        except OSError as error:
            raise _refused(f"list {top}", error) from error
        return iter(sorted(found))

    def delete(self, key: str) -> None:
        path = self._path(key, follow=False)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _refused(f"delete {path}", error) from error

    def locate(self, key: str) -> str:
        return str(self._path(key))

    def _path(self, key: str, *, follow: bool = True) -> Path:
        """The path of `key`. Raises StoreError where that, links resolved, is not in the root.

        follow: False where a link at the end of the path is not followed, but replaced or removed itself.
        """
        check_key(key, f"the folder {self.root}")
        try:
            os.fsencode(key)
        except UnicodeError as error:
            raise StoreError(f"the key {key!r} cannot be a path here: {error}") from error
        path = self.root / key
        outside = None
        if path.parent not in self._inside:
            outside = self._outside(path.parent)
            if not outside and path.parent.is_dir():
                self._inside.add(path.parent)
        if follow and not outside and os.path.islink(path):
            outside = self._outside(path)
        if outside:
            raise StoreError(f"the key {key!r} leaves the folder {self.root}: a symbolic link leads to {outside}")
        return path

    def _outside(self, path: str | Path) -> str | None:
        """Where `path` really lies if that is not in the root, which may be a link itself; None if it is."""
        real = os.path.realpath(path)
        return None if Path(real).is_relative_to(os.path.realpath(self.root)) else real

    def _make(self, folder: Path) -> None:
        """Have `folder`, durably; the first time, clear away what killed writers left in it."""
        with self._making:
            if folder in self._ready and folder.is_dir():
                return
            missing, above = [], folder
            while not above.exists():
                missing.append(above)
                above = above.parent
            folder.mkdir(parents=True, exist_ok=True)
            for made in missing:
                with contextlib.suppress(PermissionError):  # a folder one may enter and write to, but not read
                    _fsync_folder(made.parent)
            _clear(folder)
            self._ready.add(folder)


def _replace(temporary: Path, path: Path) -> bool:
    os.replace(temporary, path)
    return True


def _link(temporary: Path, path: Path) -> bool:
    """Unlike a rename a link fails where something has its name already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _LINKLESS:
            raise
        return not os.path.lexists(path) and _replace(temporary, path)
    return True


def _clear(folder: Path) -> None:
    """Remove temporary files in `folder` that are too old to be somebody's; failing to is no failure of the write."""
    with contextlib.suppress(OSError):
        for entry in [e for e in os.scandir(folder) if e.name.startswith(_TEMPORARY)]:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - _ABANDONED:
                    os.unlink(entry.path)


def _raise_unless_gone(error: OSError) -> None:
    """What is not there has nothing in it: the folder itself, or one in it that is deleted meanwhile."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _refused(what: str, error: OSError) -> StoreError:
    return StoreError(
        f"cannot {what}: {_reason(error)}",
        passing=error.errno in _PASSING,
        full=error.errno in (errno.ENOSPC, errno.EDQUOT),
    )


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run the same command again: what is finished is kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.strerror(error.errno).lower()}; choose another folder, or mend its permissions"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where a folder is expected; choose another folder"
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
