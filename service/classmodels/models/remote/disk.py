"""The cache's way with the file system: JSON that appears whole or not at all, locks, refusals in words.

Locks are flock's: the kernel lets go of them when a process dies in whatever way, and there are shared ones, by which
many may read a file that nobody may remove meanwhile.
"""

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from classmodels.errors import StoreError

TEMPORARY = ".writing-"
_MAX_NOTE = 1 << 16
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def telling(folder: Path) -> Iterator[None]:
    """What the file system refuses in its body becomes a StoreError about the cache in `folder`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot use the cache {folder}: {_reason(error)}") from error


def write_note(path: Path, note: dict[str, Any]) -> None:
    """Put `note` at `path` as JSON; whoever reads it at the same time finds this one or the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(note, file)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_note(path: Path) -> dict[str, Any]:
    """The JSON object at `path`; an empty one where there is none, or something else."""
    try:
        with path.open("rb") as file:
            note = json.loads(file.read(_MAX_NOTE))
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


@contextlib.contextmanager
def exclusively(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Its body runs in one thread of one process at a time. waiting: called where that is not at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _take(descriptor, fcntl.LOCK_EX):
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_unused(lock: Path, *paths: Path) -> bool:
    """Remove the files `paths` unless a living process has the lock at `lock`, which may be the first of them.

    Whoever takes the lock afterwards finds none of them. Returns whether the first one is gone.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR if lock in paths else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return not paths[0].exists()
    try:
        if not _take(descriptor, fcntl.LOCK_EX):
            return False
        for path in paths:
            path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def share(descriptor: int) -> None:
    """Let nobody remove the open file until it is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # such as a mirror from a server of files: nothing is removed there either
            raise


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            "the disk is full; free some space, or name a folder on another disk with CLASSMODELS_CACHE: what has come"
            " is kept"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = os.strerror(error.errno).lower()
        return f"{reason}; mend its permissions, or name a folder that can be written to with CLASSMODELS_CACHE"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where a folder is expected; name another folder with CLASSMODELS_CACHE"
    if error.errno in _NO_LOCKS:
        return "its file system knows no locks; name a folder on a local disk with CLASSMODELS_CACHE"
    return os.strerror(error.errno).lower() if error.errno else str(error)
