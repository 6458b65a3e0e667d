"""What the objects in a store say: records of units, verdicts of judges, plans of runs. And how their keys are made.

Everything here is data read from places others may write to: it is validated on reading and never trusted.
"""

import hashlib
import json
import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from classmodels.models.spec import Name

Digest12 = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Rank = Annotated[int, Field(ge=1)]


class Stored(BaseModel):
    """Base of stored objects: unknown fields are ignored, so that older software reads newer records."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class FileEntry(Stored):
    """One file of a unit. `name` is relative to the folder of the record; `bytes` its size; `sha256` in hex.

    frames: how many were taken; an encoder may merge equal ones.
    """

    name: str
    sha256: str
    bytes: int
    media_type: str
    width: int
    height: int
    frames: int = 1


class ModelEntry(Stored):
    """The classifier a unit belongs to. `identity` is what model12 was made from."""

    name: str
    model12: str
    family: str
    head: str
    classes: int
    licence: str | None = None
    identity: dict[str, Any]
    notes: tuple[str, ...] = ()


class RecipeEntry(Stored):
    """The recipe of a unit, fully expanded. `identity` is what `sha256` is of; recipe12 is how that begins."""

    name: str
    recipe12: str
    sha256: str
    settings: dict[str, Any]
    identity: dict[str, Any]


class Outcome(Stored):
    """What the network says of its float image at the end: raw logit, probability under its head, rank (1 = top)."""

    logit: float
    probability: Probability | None  # None where the score of another class is NaN
    rank: Rank


class Record(Stored):
    """A unit that is done. Written last: present means done, and every file it names is there."""

    version: Literal[1] = 1
    model: ModelEntry
    recipe: RecipeEntry
    class_index: int
    label: str
    seed: int
    image: FileEntry
    animation: FileEntry | None = None
    scores: tuple[float, ...]
    outcome: Outcome
    numerics: dict[str, Any]
    deterministic: bool = True
    nondeterministic: tuple[str, ...] = ()
    package: dict[str, str]
    timings: dict[str, Any]


class TopClass(Stored):
    """One of the classes a judge found most probable."""

    index: int
    label: str
    probability: Probability


LONGEST_FEATURES = 4096
"""Most values of an image's features in a verdict; longer ones are averaged down to as many."""


class Features(Stored):
    """What a judge sees of one image before it decides: the input of its last classifying layer, which `layer` names.

    values: float16, little-endian, as base64, each between -1 and 1; times `scale` they are what the layer got.
    """

    layer: str
    scale: Annotated[float, Field(ge=0, lt=3.5e38)]
    values: Annotated[str, Field(max_length=4 * LONGEST_FEATURES)]


class Verdict(Stored):
    """One judge's answer on one finished image (the PNG as stored, reloaded).

    `class_index` is the judge's own index of the unit's class, or None where the judge does not know that class;
    then rank and probability are None too. features: where the panel asks for them; a text says why there are none.
    """

    version: Literal[1] = 1
    judge: str
    judge12: str
    judge_family: str
    record: str
    image_sha256: str
    class_index: int | None
    rank: Rank | None
    probability: Probability | None
    top: tuple[TopClass, ...]
    features: Features | str | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A verdict without features says nothing of them: it has the same bytes as before there were any."""
        said: dict[str, Any] = serialize(self)
        if self.features is None:
            del said["features"]
        return said


class JudgeEntry(Stored):
    """A member of the panel as a run's plan names it. judge12: see `Judge.judge12`."""

    name: Name
    model12: Digest12
    judge12: Digest12
    family: str


class RunPlan(Stored):
    """`runs/<run12>/plan.json`: all a gallery needs to be rebuilt: which records and which judges belong to it."""

    version: Literal[1] = 1
    job: Name
    run12: Digest12
    records: tuple[str, ...]
    judges: tuple[JudgeEntry, ...]


class Tombstone(Stored):
    """`galleries/<job>/<run12>/deleted.json`: this gallery was deleted on purpose, and is not one that was never made.

    It holds as long as there is no page beside it, which one listing of `galleries/` tells: whoever runs the job again
    has it again. models: `<name>@<model12>` of what was shown. left: keys of records that were to go with it and may be
    there still, because the deletion was cut off; empty once all are gone.
    """

    version: Literal[1] = 1
    job: Name
    run12: Digest12
    models: tuple[str, ...]
    deleted: datetime
    left: tuple[str, ...] = ()


class ReportedFailure(Stored):
    """A unit that was not done, or a judge that did not judge (then record is None), and why.

    for_good: it would fail again however often it was tried.
    """

    what: str
    reason: str
    record: str | None = None
    for_good: bool = False


class ShardReport(Stored):
    """`runs/<run12>/shards/<index>-of-<shards>.json`: what came of a worker's share, once it has done what it could.

    done: units of this attempt; already: those that were done before. failed: what another attempt would have to do.
    """

    version: Literal[1] = 1
    run12: Digest12
    index: Annotated[int, Field(ge=0)]
    shards: Annotated[int, Field(ge=1)]
    units: int
    done: int
    already: int
    verdicts: int
    failed: tuple[ReportedFailure, ...]
    seconds: float


T = TypeVar("T", bound=Stored)


def parse(kind: type[T], data: bytes) -> T | None:
    """`data` as an object of `kind`, or None where it is not one (damaged, foreign, of another version)."""
    try:
        return kind.model_validate_json(data)
    except ValidationError:
        return None


def dump(value: Stored) -> bytes:
    """`value` as canonical JSON: equal objects give equal bytes."""
    return canonical(json.loads(value.model_dump_json()))


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, one indent, a newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def slug(label: str, limit: int = 40) -> str:
    """`label` as a part of a file name: lower-case ASCII letters, digits, hyphens; `class` where nothing is left."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:limit].strip("-") or "class"


def unit_prefix(model: str, model12: str, recipe: str, recipe12: str) -> str:
    """The folder of all units of one model under one recipe; one listing of it tells what is done."""
    return f"units/{model}@{model12}/{recipe}@{recipe12}/"


def record_name(class_index: int) -> str:
    return f"{class_index:04d}.json"


def file_name(class_index: int, label: str, data: bytes, suffix: str) -> str:
    """`0009-ostrich.<sha12>.png`: named for people, and by content, so that two writers never disagree."""
    return f"{class_index:04d}-{slug(label)}.{hashlib.sha256(data).hexdigest()[:12]}.{suffix}"


def verdict_key(judge: str, model12: str, judge12: str, record_key: str, image_sha256: str) -> str:
    """A verdict's key ends with the image's digest, and with judge12 where that is not the judge's model12.

    So another image under the same record, or another way to match the classes, needs another verdict.
    """
    stem = record_key.removeprefix("units/").removesuffix(".json")
    way = "" if judge12 == model12 else f".{judge12}"
    return f"{verdict_prefix(judge, model12)}{stem}.{image_sha256[:12]}{way}.json"


def gallery_prefix(job: str, run12: str) -> str:
    return f"galleries/{job}/{run12}/"


def tombstone_key(job: str, run12: str) -> str:
    return f"{gallery_prefix(job, run12)}deleted.json"


def latest_key(job: str) -> str:
    """The pointer to a job's latest gallery."""
    return f"galleries/{job}/latest.json"


def plan_key(run12: str) -> str:
    return f"runs/{run12}/plan.json"


def input_prefix(run12: str) -> str:
    """What a run's job names beside itself, for workers elsewhere: each file under its sha256."""
    return f"runs/{run12}/inputs/"


def input_key(run12: str, sha256: str) -> str:
    return f"{input_prefix(run12)}{sha256}"


def report_prefix(run12: str) -> str:
    """What workers say of their shares when they end."""
    return f"runs/{run12}/shards/"


def report_key(run12: str, index: int, shards: int) -> str:
    return f"{report_prefix(run12)}{index}-of-{shards}.json"


def verdict_prefix(judge: str, model12: str) -> str:
    """The folder of all verdicts of one judge."""
    return f"verdicts/{judge}@{model12}/"
