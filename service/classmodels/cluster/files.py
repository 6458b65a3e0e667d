"""The files that travel with a job: each digested once, listed under the path it will have, and uploaded once."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from classmodels.errors import InputError
from classmodels.run.inputs import MOST, InputFile
from classmodels.store.records import input_key


class PackedFile(NamedTuple):
    """A file to upload. key: where to, in the store of the output."""

    key: str
    path: Path
    sha256: str
    size: int


class Files:
    """The files of the run `run12`: `add` one that lies beside the job file again, `carry` one that need not."""

    def __init__(self, run12: str) -> None:
        self._run12 = run12
        self._digests: dict[Path, tuple[str, int]] = {}
        self._listed: dict[str, InputFile] = {}
        self._carried: dict[str, PackedFile] = {}

    @property
    def listed(self) -> tuple[InputFile, ...]:
        return tuple(self._listed[path] for path in sorted(self._listed))

    @property
    def carried(self) -> tuple[PackedFile, ...]:
        return tuple(self._carried[sha256] for sha256 in sorted(self._carried))

    def add(self, file: Path, inside: str) -> str:
        """Have `file` at the path `inside`, relative to the job file's folder; returns that. Raises InputError."""
        if len(self._listed) == MOST:
            raise InputError(f"the job names more than {MOST:,} local files: name a folder that holds only code")
        self.carry(file)
        sha256, size = self._digests[file]
        try:
            self._listed[inside] = InputFile(path=inside, sha256=sha256, size=size)
        except ValueError:
            name = str(file).encode("utf-8", "backslashreplace").decode()
            raise InputError(f"{name!r} cannot travel by its name: expected printable characters in UTF-8") from None
        return inside

    def carry(self, file: Path) -> str:
        """Have `file` in the bucket; returns its sha256. Raises InputError."""
        try:
            if file not in self._digests:
                self._digests[file] = digest(file)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from error
        sha256, size = self._digests[file]
        self._carried.setdefault(sha256, PackedFile(input_key(self._run12, sha256), file.absolute(), sha256, size))
        return sha256


def digest(file: Path) -> tuple[str, int]:
    """The sha256 and the size of what is read."""
    with file.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        return sha256, source.tell()


def changed(file: Path) -> InputError:
    return InputError(f"{file} changed since the job was read: submit it again, once nothing writes to it")
