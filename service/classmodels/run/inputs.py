"""A worker's inputs: what the job names beside itself, brought from the bucket and laid out as the job names it.

`cluster/inputs.py` has put them there, each under its sha256, and listed them in `inputs.json` beside the job file.
Both are data from elsewhere: a path that would leave the folder is refused, and every file is checked by its digest.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from classmodels.errors import InputError, StoreError
from classmodels.job.schema import Job
from classmodels.models.remote.base import Listener, MissingError
from classmodels.models.remote.cache import Cache
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.models.remote.place import amount
from classmodels.run.background import Background
from classmodels.s3 import S3Settings
from classmodels.store import Store
from classmodels.store.records import input_key

LISTING = "inputs.json"
FOLDER = "inputs"
"""Where inputs lie beside a job file: nothing else is ever written."""
MOST = 20_000
"""Files of a job."""
THREADS = 8
LAST_FILE = 2.0
"""Seconds that files under way are given where one has failed, so that nobody writes to a folder that is removed."""
_MAX_BYTES = 1 << 24


class InputFile(BaseModel):
    """One file. path: relative to the job file's folder, below `inputs/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, Field(max_length=1024)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=1 << 50)]

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        parts = value.split("/")
        inside = parts[0] == FOLDER and len(parts) > 1 and not {"", ".", ".."} & set(parts)
        if not inside or not value.isprintable() or any(len(part.encode()) > 255 for part in parts):
            raise ValueError(f"expected a path below {FOLDER}/, of printable characters, without . and ..")
        return value


class Inputs(BaseModel):
    """`inputs.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    files: Annotated[tuple[InputFile, ...], Field(max_length=MOST)]

    @model_validator(mode="after")
    def _distinct(self) -> "Inputs":
        paths = {file.path for file in self.files}
        folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
        if len(paths) < len(self.files) or paths & folders:
            raise ValueError("expected each path once, and none that is also a folder")
        return self


@contextlib.contextmanager
def with_inputs(file: Path, job: Job, store: Store, run12: str | None, listener: Listener) -> Iterator[Path]:
    """The job file to load: `file` itself, or a copy in a folder of its own with the inputs that are listed beside it.

    job: what the file says. store: its output. run12: whose inputs they are. Raises InputError where the list, or what
    it leads to, is wrong; StoreError where the bucket cannot be read or the folder cannot be written.
    """
    listing = file.with_name(LISTING)
    listed = _listed(listing)
    if listed is None or not listed.files:
        yield file
        return
    if run12 is None:
        raise InputError(f"{listing} lists inputs, which are kept by run: say which with --run")
    if not store.uri.startswith("s3://"):
        raise InputError(f"{file}: output is {job.output!r}, and inputs come from a bucket: expected s3://...")
    with _scratch() as scratch:
        folder = scratch / "job"
        with _writing(folder):
            folder.mkdir()
            shutil.copyfile(file, folder / file.name)
        cache = Cache(scratch / "fetched", None)
        elsewhere = Elsewhere(S3Settings(**job.storage.model_dump()), cache=cache)
        listener.say(f"fetching {len(listed.files)} inputs, {amount(sum(one.size for one in listed.files))}")
        background = Background("inputs", THREADS)
        try:
            for one in listed.files:
                address = f"{store.locate(input_key(run12, one.sha256))}#sha256={one.sha256}"
                background.submit(partial(_bring, elsewhere, address, one, folder))
            background.wait()
        finally:
            background.close(LAST_FILE)
        shutil.rmtree(cache.root, ignore_errors=True)
        yield folder / file.name


def _listed(listing: Path) -> Inputs | None:
    """What is listed; None where no list is."""
    try:
        with listing.open("rb") as file:
            return Inputs.model_validate_json(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{listing} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        found = f"found {first['input']!r:.80}, " if isinstance(first["input"], str | int) else ""
        raise InputError(f"{listing} is no list of inputs: {where}: {found}{first['msg']}") from error


def _bring(elsewhere: Elsewhere, address: str, file: InputFile, folder: Path) -> None:
    """Have one input in `folder`, under its path."""
    try:
        fetched = elsewhere.bring(address, file.size)
    except MissingError as error:
        raise InputError(f"the input {file.path} is not in the bucket: {error}; submit the job again") from error
    except InputError as error:
        raise InputError(f"the input {file.path} cannot be used: {error}") from error
    target = folder / file.path
    with fetched.held() as path, _writing(target):
        if (found := path.stat().st_size) != file.size:
            raise InputError(f"the input {file.path} has {found} bytes, expected {file.size}: submit the job again")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # not every file system can
            shutil.copyfile(path, target)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="classmodels-", ignore_cleanup_errors=True)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"there is no place for the inputs: {reason}; name a folder with TMPDIR") from error
    with folder as name:
        yield Path(name)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {target}: {(error.strerror or str(error)).lower()}") from error
