"""Which checkpoints lie under a prefix, in a folder or a bucket, and which of them are whole: one listing tells.

A checkpoint counts once its ready marker is there, or once it has not been written to for a while. Nothing is read but
sidecars, and these only when the order of the checkpoints matters (`dated`).
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from classmodels.errors import InputError
from classmodels.job.identity import digest12
from classmodels.models.remote.bucket import S3Object
from classmodels.models.remote.uri import is_remote, parse
from classmodels.nights.names import Names, Told, check_sidecar, choose_source, shard_of, with_sidecar
from classmodels.s3 import S3Settings
from classmodels.store import Entry, Store, open_store
from classmodels.store.nights import checkpoint_digest

THREADS = 16
INDEX = ".safetensors.index.json"


@dataclass(frozen=True)
class Whole:
    """How it is told that a checkpoint is whole: by a marker (`<checkpoint><ready>`, or a file of that name beside it),
    or, where `ready` is None, by not having been written to for as long as `settled`."""

    ready: str | None = None
    settled: timedelta = timedelta(minutes=10)


@dataclass(frozen=True)
class Candidate:
    """A checkpoint under the prefix. source_id: changes whenever its bytes do. entry: of the file that is named."""

    entry: Entry
    uri: str
    source_id: str
    told: Told
    sidecar: Entry | None

    @property
    def checkpoint12(self) -> str:
        return checkpoint_digest(self.source_id)


@dataclass(frozen=True)
class Found:
    """A checkpoint with its place among those of its model. It is `Dated` as the entries of the index are."""

    candidate: Candidate
    source: str
    step: int | None
    epoch: int | None
    time: datetime | None
    tags: tuple[str, ...]

    @property
    def uri(self) -> str:
        return self.candidate.uri

    @property
    def source_id(self) -> str:
        return self.candidate.source_id

    @property
    def checkpoint12(self) -> str:
        return self.candidate.checkpoint12

    @property
    def modified(self) -> datetime:
        return self.candidate.entry.modified


@dataclass(frozen=True)
class Passed:
    """Something that looks like a checkpoint and is passed over this night, and why. later: it will mend itself."""

    uri: str
    reason: str
    later: bool = False


@dataclass
class Discovery:
    """What lies under a prefix."""

    place: Store
    candidates: list[Candidate] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)


def open_prefix(prefix: str, settings: S3Settings) -> Store:
    """The folder or bucket that checkpoints are looked for in. Raises InputError where there is no such folder."""
    place = open_store(prefix, settings)
    if not place.uri.startswith("s3://") and not Path(place.uri).is_dir():
        raise InputError(f"--checkpoints {prefix}: found no such folder, expected one, or s3://bucket/prefix")
    return place


def discover(place: Store, names: Names, whole: Whole, now: datetime) -> Discovery:
    """Look under `place`, once. Raises StoreError."""
    entries = {entry.key: entry for entry in place.entries("")}
    shards: dict[str, list[Entry]] = {}
    for key, entry in entries.items():
        if stem := shard_of(key):
            shards.setdefault(stem, []).append(entry)
    found = Discovery(place)
    for key, entry in entries.items():
        uri = place.locate(key)
        try:
            told = names.read(key)
        except InputError as error:
            found.passed.append(Passed(uri, str(error)))
            continue
        if told is None:
            continue
        parts = [entry, *shards.get(key.removesuffix(INDEX), ())] if key.endswith(INDEX) else [entry]
        if whole.ready is not None:
            if not {key + whole.ready, f"{key.rpartition('/')[0]}/{whole.ready}".lstrip("/")} & entries.keys():
                found.passed.append(Passed(uri, f"it has no {whole.ready} yet", later=True))
                continue
        elif any(part.modified > now - whole.settled for part in parts):
            found.passed.append(Passed(uri, "it was written to a moment ago", later=True))
            continue
        try:
            if is_remote(uri):
                parse(uri)
        except InputError as error:
            found.passed.append(Passed(uri, str(error)))
            continue
        found.candidates.append(Candidate(entry, uri, source_id(uri, parts), told, entries.get(key + ".json")))
    return found


def sidecars12(candidates: Iterable[Candidate]) -> str:
    """A digest of all sidecars as the listing has them: another one where one was written, changed or taken away."""
    said = [(one.uri, one.sidecar.tag, one.sidecar.size) for one in candidates if one.sidecar is not None]
    return digest12(sorted(said))


def dated(discovery: Discovery, sources: Sequence[str]) -> list[Found]:
    """The candidates as their sidecars tell of them; those that are nobody's join what is passed over."""
    known = list(sources)

    def say(candidate: Candidate) -> Found | Passed:
        told = candidate.told
        try:
            if candidate.sidecar is not None:
                check_sidecar(candidate.sidecar.size)
                if (data := read(candidate.sidecar.key)) is not None:
                    told = with_sidecar(told, data)
            source = choose_source(told, known)
        except InputError as error:
            return Passed(candidate.uri, str(error))
        return Found(candidate, source, told.step, told.epoch, told.time, told.tags)

    with discovery.place.reading() as read, ThreadPoolExecutor(THREADS, "sidecars") as readers:
        said = list(readers.map(say, discovery.candidates))
    discovery.passed += [one for one in said if isinstance(one, Passed)]
    return [one for one in said if isinstance(one, Found)]


def source_id(uri: str, parts: Sequence[Entry]) -> str:
    """Where a checkpoint is, and what stays the same there as long as its bytes do."""
    return " ".join([uri, *(f"{part.tag} {part.size}" for part in parts)])


def is_unchanged(one: Candidate, client: Callable[[], Any]) -> bool:
    """Whether the checkpoint is still the one that was listed. client: of S3, for what is there. Raises StoreError."""
    if not one.uri.startswith("s3://"):
        with contextlib.suppress(OSError):
            status = os.stat(one.uri)
            return (status.st_size, str(status.st_mtime_ns)) == (one.entry.size, one.entry.tag)
        return False
    try:
        seen = S3Object(parse(one.uri), client).look()
    except InputError:
        return False
    return (seen.size, (seen.tag or "").strip('"')) == (one.entry.size, one.entry.tag)
