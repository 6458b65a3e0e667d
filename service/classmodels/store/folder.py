"""A folder as a store: write to a temporary name, fsync, rename, fsync the folder; no reader ever sees half a file."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from classmodels.errors import StoreError

_TEMPORARY = ".writing-"


class FolderStore:
    """Objects are files under `root`. Names that begin with `.` are never listed."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).expanduser().absolute()
        self.uri = str(self.root)

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o666 & ~_UMASK)
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _fsync_folder(path.parent)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {_reason(error)}") from error

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {_reason(error)}") from error

    def list(self, prefix: str) -> Iterator[str]:
        top = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        found: list[str] = []
        try:
            for folder, folders, files in os.walk(top, onerror=_raise):
                folders[:] = [name for name in folders if not name.startswith(".")]
                base = Path(folder).relative_to(self.root).as_posix()
                found += [name if base == "." else f"{base}/{name}" for name in files if not name.startswith(".")]
        except FileNotFoundError:
            return iter(())
        except OSError as error:
            raise StoreError(f"cannot list {top}: {_reason(error)}") from error
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {path}: {_reason(error)}") from error

    def locate(self, key: str) -> str:
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise StoreError(f"the key {key!r} leaves the folder {self.root}")
        return self.root / key


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


# Read once at import, in one thread: asking for the umask means setting it.
_UMASK = _umask()


def _raise(error: OSError) -> None:
    raise error


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run the job again: what is finished is kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.strerror(error.errno).lower()}; choose another folder with --output, or mend its permissions"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where a folder is expected; choose another folder with --output"
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
