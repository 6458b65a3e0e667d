"""What a run's Job says: one attempt at doing the run. Job objects come in as the API has them, plain dicts."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from classmodels.cluster.names import (
    ANNOTATION_OUTPUT,
    ANNOTATION_UNITS,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_RUN,
)
from classmodels.cluster.objects import CONTAINER, QUEUE
from classmodels.run.shipping import log_prefix

COMPLETE, FAILED, REFUSED = "complete", "failed", "refused"
EXIT_CODES = {COMPLETE: 0, FAILED: 3, REFUSED: 2}
"""What a command ends with that has waited for such an outcome."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt has ended. kind: COMPLETE; FAILED: some of it, the rest is done; REFUSED: the job is wrong."""

    kind: str
    reason: str
    message: str
    at: datetime | None


@dataclass(frozen=True)
class Attempt:
    """A Job of a run."""

    job: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self._meta.get("name", ""))

    @property
    def uid(self) -> str:
        return str(self._meta.get("uid", ""))

    @property
    def run12(self) -> str:
        return str(self._labels.get(LABEL_RUN, ""))

    @property
    def job_name(self) -> str:
        """What the job file calls itself, as far as a label can hold that."""
        return str(self._labels.get(LABEL_JOB, ""))

    @property
    def number(self) -> int:
        """0 for the first attempt, N for the Nth retry."""
        return _whole(self._labels.get(LABEL_ATTEMPT))

    @property
    def output(self) -> str:
        """Where its results go."""
        return str((self._meta.get("annotations") or {}).get(ANNOTATION_OUTPUT, ""))

    @property
    def units(self) -> int:
        return _whole((self._meta.get("annotations") or {}).get(ANNOTATION_UNITS))

    @property
    def queue(self) -> str | None:
        """The Kueue queue that it waits in, if any."""
        return self._labels.get(QUEUE)

    @property
    def shards(self) -> int:
        return _whole(self._spec.get("completions"), 1)

    @property
    def parallelism(self) -> int:
        return _whole(self._spec.get("parallelism"), 1)

    @property
    def image(self) -> str:
        containers = self._pod.get("containers") or []
        return next((str(one.get("image")) for one in containers if one.get("name") == CONTAINER), "")

    @property
    def config_map(self) -> str:
        """The ConfigMap with its job: of the run's first attempt, whichever this is."""
        volumes = self._pod.get("volumes") or []
        named = (volume["configMap"].get("name") for volume in volumes if volume.get("name") == "job")
        return str(next(named, self.name))

    @property
    def logs(self) -> str:
        """Where in the store its workers' logs go."""
        return log_prefix(self.run12, self.name, self.uid)

    @property
    def ready(self) -> int:
        """How many of its pods work."""
        return _whole(self._status.get("ready"))

    @property
    def suspended(self) -> bool:
        return bool(self._spec.get("suspend"))

    @property
    def begun(self) -> bool:
        """Whether it has ever been let start: a suspended one that has not may be a submission that was cut off."""
        return self.started is not None

    @property
    def created(self) -> datetime | None:
        return moment(self._meta.get("creationTimestamp"))

    @property
    def started(self) -> datetime | None:
        """When it was last let start."""
        return moment(self._status.get("startTime"))

    @property
    def deadline(self) -> float | None:
        """Seconds after `started` at which it is ended."""
        seconds = self._spec.get("activeDeadlineSeconds")
        return float(seconds) if isinstance(seconds, int) else None

    @property
    def deleting(self) -> bool:
        return "deletionTimestamp" in self._meta

    @cached_property
    def completed(self) -> frozenset[int]:
        return frozenset(indexes(self._status.get("completedIndexes"), self.shards))

    @cached_property
    def failed(self) -> frozenset[int]:
        # Also while the Job goes on: its condition comes when all is over.
        return frozenset(indexes(self._status.get("failedIndexes"), self.shards))

    @property
    def outcome(self) -> Outcome | None:
        """None while it is not over."""
        for one in self.conditions("Complete", "Failed"):
            reason, message = str(one.get("reason", "")), str(one.get("message", ""))
            kind = COMPLETE if one["type"] == "Complete" else REFUSED if reason == "PodFailurePolicy" else FAILED
            # A success policy of one's own may call a Job complete that has failed indexes.
            if kind == COMPLETE and self.failed:
                kind = FAILED
            return Outcome(kind, reason, message, moment(one.get("lastTransitionTime")))
        return None

    def conditions(self, *kinds: str) -> Iterator[Mapping[str, Any]]:
        """Its conditions of these types that are true."""
        return true_conditions(self._status, *kinds)

    @property
    def _meta(self) -> Mapping[str, Any]:
        return self.job.get("metadata") or {}

    @property
    def _labels(self) -> Mapping[str, str]:
        return self._meta.get("labels") or {}

    @property
    def _spec(self) -> Mapping[str, Any]:
        return self.job.get("spec") or {}

    @property
    def _status(self) -> Mapping[str, Any]:
        return self.job.get("status") or {}

    @property
    def _pod(self) -> Mapping[str, Any]:
        return (self._spec.get("template") or {}).get("spec") or {}


def true_conditions(status: Mapping[str, Any], *kinds: str) -> Iterator[Mapping[str, Any]]:
    """Of a status's conditions those of these types that are true."""
    for one in status.get("conditions") or []:
        if one.get("type") in kinds and one.get("status") == "True":
            yield one


def indexes(text: Any, count: int) -> Iterator[int]:
    """The completion indexes below `count` in a text such as `1,3-5,7`."""
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text if isinstance(text, str) else ""):
        yield from range(int(first), min(int(last or first), count - 1) + 1)


def moment(text: Any) -> datetime | None:
    """A time as Kubernetes writes it; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def seconds_since(at: datetime | None, now: datetime) -> float:
    return 0.0 if at is None else max(0.0, (now - at).total_seconds())


def age(seconds: float | None) -> str:
    """A length of time for people: 45 s, 12 min, 3 h, 2 d."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= 100):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _whole(text: Any, default: int = 0) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        return default
