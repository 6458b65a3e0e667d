"""What the nights leave in a store, under `nights/<job>/`: entries of the index, broken checkpoints, and their keys.

    index/<checkpoint12>/<recipe>.<algorithm>.json     all units of a checkpoint under a recipe are done: `Done`
    broken/<checkpoint12>.json                         a checkpoint that cannot be used: `Broken`
    sources/<checkpoint12>.json                        the sha256 of one that is begun and not done: `Source`
    pages.json                                         what was shown and told: `Shown`
    summaries/  compare/  timeline/  index.html        what a night tells, and its pages

The keys alone tell what is done, so that a night with nothing to do costs one listing of `nights/<job>/`.
checkpoint12 is made from where a checkpoint is and what stays the same there as long as its bytes do; recipe12 here is
`wanted12`: of the recipe, seed and classes that the template asks for, without the algorithm's version.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import AfterValidator, Field

from classmodels.models.spec import Name
from classmodels.store.records import Digest12, Stored

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=4096)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Tag = Annotated[str, Field(min_length=1, max_length=200)]


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


Time = Annotated[datetime, AfterValidator(_utc)]
"""A moment; without an offset it is meant in UTC."""


class Undone(Stored):
    """A class whose unit failed for good: it would fail again however often it was done."""

    class_index: int
    reason: Text


class Noise(Stored):
    """The same under another seed, for some classes: how far apart two class models are that differ in nothing else.

    Its units lie at `units/<source>@<model12>/<recipe>@<recipe12>/`, its gallery at `galleries/<job>-noise/<run12>/`.
    """

    run12: Digest12
    recipe12: Digest12
    seed: int
    classes: tuple[int, ...]


class Done(Stored):
    """A checkpoint's units under one recipe are all done, or have failed for good. Written after all of them.

    source: the template's model that the checkpoint belongs to. time: as its sidecar or its name tells; modified: when
    it was written, as the listing tells. judge12: as which the checkpoint judges with its features told: its verdict on
    any unit lies at verdict_key(source, model12, judge12, record's key, image's sha256); None where it cannot judge.
    Two entries may have the same model12: the same weights in two places.
    """

    version: Literal[1] = 1
    job: Name
    source: Name
    uri: Text
    source_id: Text
    sha256: Sha256
    model12: Digest12
    run12: Digest12
    recipe: Name
    recipe12: Digest12
    wanted12: Digest12
    algorithm: int
    step: Count | None = None
    epoch: Count | None = None
    time: Time | None = None
    modified: Time
    units: Count
    classes: tuple[int, ...]
    failed: tuple[Undone, ...] = ()
    tags: tuple[Tag, ...] = ()
    judge12: Digest12 | None = None
    noise: Noise | None = None


class Broken(Stored):
    """A checkpoint whose bytes were read whole and cannot be used. Not tried again until its source_id changes."""

    version: Literal[1] = 1
    source: Name
    uri: Text
    source_id: Text
    reason: Text
    step: Count | None = None
    epoch: Count | None = None
    time: Time | None = None
    modified: Time
    tags: tuple[Tag, ...] = ()


class Source(Stored):
    """The sha256 of a checkpoint that a night has begun with: so that it is not fetched every night to learn it.

    submitted: how often a cluster was given its run.
    """

    version: Literal[1] = 1
    uri: Text
    source_id: Text
    sha256: Sha256
    submitted: Count = 0


class Shown(Stored):
    """What was shown and told, written after all of it. Deleted, it is shown and told again.

    state: `Listing.state` as it was when the pages were made. told: what there was to tell, see `Listing.facts`.
    sidecars: a digest of the sidecars that were read. again: neighbours, older and newer by model12, of which the
    older's verdict failed in passing.
    """

    version: Literal[1] = 1
    state: str
    told: tuple[str, ...] = ()
    sidecars: str = ""
    again: tuple[tuple[Digest12, Digest12], ...] = ()


class Dated(Protocol):
    """What has a place in the order of checkpoints."""

    @property
    def time(self) -> datetime | None: ...
    @property
    def step(self) -> int | None: ...
    @property
    def epoch(self) -> int | None: ...
    @property
    def modified(self) -> datetime: ...
    @property
    def uri(self) -> str: ...


T = TypeVar("T", bound=Dated)


def in_order(checkpoints: Iterable[T]) -> list[T]:
    """Checkpoints of one source, oldest first: by time, else step, else epoch, whichever is known of all; else by when
    they were written. Those that are equal in that by step and epoch."""
    found = list(checkpoints)
    names = [name for name in ("time", "step", "epoch") if all(getattr(one, name) is not None for one in found)]
    first = names[0] if names else "modified"

    def place(one: T) -> Any:
        steps = [-1 if count is None else count for count in (one.step, one.epoch)]
        return (getattr(one, first), *steps, one.modified, one.uri)

    return sorted(found, key=place)


def checkpoint_digest(source_id: str) -> str:
    """checkpoint12 of a source_id."""
    return hashlib.sha256(source_id.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def nights_prefix(job: str) -> str:
    return f"nights/{job}/"


def done_key(job: str, checkpoint12: str, wanted12: str, algorithm: int) -> str:
    return f"{nights_prefix(job)}index/{checkpoint12}/{wanted12}.{algorithm}.json"


def broken_key(job: str, checkpoint12: str) -> str:
    return f"{nights_prefix(job)}broken/{checkpoint12}.json"


def source_key(job: str, checkpoint12: str) -> str:
    return f"{nights_prefix(job)}sources/{checkpoint12}.json"


def shown_key(job: str) -> str:
    return f"{nights_prefix(job)}pages.json"


def summaries_prefix(job: str) -> str:
    return f"{nights_prefix(job)}summaries/"


def compare_prefix(job: str, source: str, older12: str, newer12: str, recipe: str) -> str:
    """The folder of the page that compares two checkpoints, by their model12, under one recipe."""
    return f"{nights_prefix(job)}compare/{source}/{older12}-{newer12}/{recipe}/"


def timeline_prefix(job: str, source: str) -> str:
    return f"{nights_prefix(job)}timeline/{source}/"


def noise_job(job: str) -> str:
    """The name of the job that makes the units under another seed."""
    return f"{job}-noise"


_DONE = re.compile(r"index/([0-9a-f]{12})/([0-9a-f]{12})\.([0-9]{1,6})\.json")
_ONE = re.compile(r"(broken|sources)/([0-9a-f]{12})\.json")


@dataclass
class Listing:
    """What the keys under `nights/<job>/` say.

    done: for each checkpoint12 the (wanted12, algorithm) it has; broken, sources: checkpoint12s; entries: keys of the
    index, of every `Done`.
    """

    job: str
    done: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    entries: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, job: str, keys: Iterable[str]) -> "Listing":
        """What is not as it should be is passed over: others may write to a bucket."""
        listing = cls(job)
        for key in keys:
            name = key.removeprefix(nights_prefix(job))
            if match := _DONE.fullmatch(name):
                listing.done.setdefault(match[1], set()).add((match[2], int(match[3])))
                listing.entries.append(key)
            elif match := _ONE.fullmatch(name):
                (listing.broken if match[1] == "broken" else listing.sources).add(match[2])
        return listing

    @property
    def is_empty(self) -> bool:
        return not self.entries and not self.broken

    @property
    def facts(self) -> list[str]:
        """What there is to tell: each entry of the index and each broken checkpoint, by its key below the prefix."""
        keys = [*sorted(self.entries), *sorted(broken_key(self.job, one) for one in self.broken)]
        return [key.removeprefix(nights_prefix(self.job)) for key in keys]

    @property
    def state(self) -> str:
        """A digest of what there is to show: equal as long as no checkpoint is added or found broken."""
        return hashlib.sha256("\n".join(self.facts).encode()).hexdigest()[:12]
