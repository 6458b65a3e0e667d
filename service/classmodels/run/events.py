"""What a worker tells of its work: a JSON object on each line of its stdout, and of the log that it keeps in the store.

`classmodels schema --events` prints this as JSON Schema. Kinds may be added and fields too, none changes its meaning:
readers pass over what they do not know. `event_log.py` writes the lines.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_serializer


class Event(BaseModel):
    """What every line has."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    time: datetime
    """When, in UTC, as ISO 8601."""
    index: int
    """The worker's completion index."""

    @field_serializer("time")
    def _iso(self, time: datetime) -> str:
        return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Start(Event):
    """The job is loaded, the device is chosen and the share is known; only messages come before."""

    event: Literal["start"] = "start"
    job: str
    run: str
    """The run's digest, 12 hex digits."""
    shards: int
    units: int
    """How many units this worker's share has."""
    versions: dict[str, str]
    """Of this package, Python and torch; and of CUDA, where torch is built with it."""
    image: str | None
    """The digest of the container image, where the cluster tells it."""
    pod: str
    device: str
    """cpu, cuda or cuda:N."""
    device_name: str
    backend: str
    """What computes the steps: cuda, cpp or torch."""
    note: str | None
    """Why no GPU is used, where one might have been."""


class Begin(Event):
    """A piece of work begins: the ascent of a model's units under a recipe, or a judge's turn."""

    event: Literal["begin"] = "begin"
    work: str
    """`model / recipe`, or `judge <model>`."""
    units: int
    steps: int
    """Of each unit; 1 for a judge."""


class Progress(Event):
    """How far the work is: every 10 seconds while it goes on."""

    event: Literal["progress"] = "progress"
    done: int
    """Units of the share that are in the store."""
    failed: int
    units: int
    work: str
    image_steps: int
    """Steps that the units of this piece of work have taken, all counted together."""
    of_image_steps: int
    image_steps_per_second: float | None
    score: float | None
    """Mean raw class score of the images under way, as the network saw them last."""
    seconds_left: float | None
    """Until all images of the share have ascended, at this speed; less where later ones turn out to be done already."""


class Failed(Event):
    """A unit cannot be done, or a judge cannot judge; the others go on."""

    event: Literal["failed"] = "failed"
    what: str
    reason: str
    record: str | None
    """The key that the unit's record would have; null for a judge."""
    retry: bool
    """Whether another attempt may well succeed, as with storage that is down."""


class Saved(Event):
    """The state of the batch under way is in the store: after a kill the work goes on from there."""

    event: Literal["saved"] = "saved"
    units: int
    step: int


class Message(Event):
    """A sentence for people."""

    event: Literal["message"] = "message"
    level: Literal["info", "warning"]
    text: str


class Interrupted(Event):
    """The process was asked to end, by SIGTERM or Ctrl-C; what is finished is kept, what was under way is saved."""

    event: Literal["interrupted"] = "interrupted"
    done: int
    left: int | None
    """Units of the share that are not done yet; null where the share was not known yet."""


class Page(Event):
    """The whole plan is done, and this is its gallery."""

    event: Literal["page"] = "page"
    page: str


class End(Event):
    """The last line, whatever happened; a log without it is that of a process that was killed, or still runs."""

    event: Literal["end"] = "end"
    exit_code: int
    """0 done; 2 the job is wrong; 3 some units failed; 4 storage or this machine cannot be used; 130 interrupted."""
    reason: str | None
    """Why, where it is not 0 or 130: one sentence."""
    done: int
    """Units that this process has done."""
    already: int
    """Units that were done before it came to them."""
    failed: int
    verdicts: int
    seconds: float


AnyEvent = Annotated[
    Start | Begin | Progress | Failed | Saved | Message | Interrupted | Page | End, Field(discriminator="event")
]


def json_schema() -> dict[str, Any]:
    """A line as JSON Schema (2020-12)."""
    schema = TypeAdapter(AnyEvent).json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "classmodels worker event"
    return schema
