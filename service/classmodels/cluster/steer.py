"""`cancel` and `retry`: a run on a cluster is ended, or what failed of it is tried again. Results stay in any case."""

import copy
from dataclasses import dataclass
from typing import Any

from classmodels.cluster.attempts import COMPLETE, REFUSED, Attempt, Outcome
from classmodels.cluster.names import ANNOTATION_OUTPUT, ANNOTATION_UNITS, LABEL_ATTEMPT, LABEL_RUN, job_name
from classmodels.cluster.objects import CONTAINER, MIN_PARALLELISM
from classmodels.cluster.submit import owners, start
from classmodels.cluster.target import Target
from classmodels.errors import ClusterError, InputError

_GENERATED = ("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name")
"""Labels that the server gives to a Job's pods, and lets nobody else choose."""
_ANNOTATIONS = (ANNOTATION_OUTPUT, ANNOTATION_UNITS, MIN_PARALLELISM)
JOB_NAME = "CLASSMODELS_JOB_NAME"
"""The variable by which a worker knows where its log goes."""


@dataclass(frozen=True)
class Cancelled:
    """What was removed from the cluster. jobs: each with how it had ended, None where it was under way."""

    run12: str
    jobs: list[tuple[str, Outcome | None]]
    config_maps: list[str]


def cancel(target: Target) -> Cancelled:
    """Delete the attempts at a run, with their pods, and what they started from; done twice, there is nothing to do.

    Workers get SIGTERM, and have their grace period to save what is under way. Raises ClusterError.
    """
    run12, cluster = target.run12, target.cluster
    some = target.meant.run.attempts if target.meant.run else ()
    # The newest first: it is the one that works.
    jobs = [
        (attempt.name, attempt.outcome)
        for attempt in reversed(some)
        if cluster.delete("Job", attempt.name, attempt.uid)
    ]
    config_maps = []
    # The garbage collector takes those that a Job owned; `render`ed ones have no owner.
    for found in cluster.list("ConfigMap", {LABEL_RUN: run12}):
        meta = found["metadata"]
        gone = not set(owners(found)) - {attempt.uid for attempt in some}
        if gone and cluster.delete("ConfigMap", meta["name"], meta["uid"]) and not owners(found):
            config_maps.append(str(meta["name"]))
    return Cancelled(run12, jobs, config_maps)


def retry(target: Target) -> tuple[Attempt, bool]:
    """Another attempt at a run that has ended without all its results; and whether it is new, or was cut off before.

    What is done is not done again. Raises InputError where there is nothing to try again.
    """
    target.require_attempt()
    cluster, run = target.cluster, target.meant.run
    assert run is not None
    last = run.latest
    outcome = last.outcome
    if outcome is None:
        if last.number and last.suspended and not last.begun and last.queue is None:
            return start(last, cluster), False
        raise InputError(f"{last.name} is not over yet: `classmodels status {last.name}` tells how far it is")
    if outcome.kind == REFUSED:
        raise InputError(
            f"{last.name} was refused by its workers, and would be again: `classmodels status {last.name}` tells why;"
            f" mend that, then `classmodels cancel {run.run12}` and submit the job again: what is done stays"
        )
    if outcome.kind == COMPLETE and not _lacks_units(target):
        raise InputError(f"{last.name} is complete: there is nothing to try again")
    job = again(last)
    try:
        created = cluster.create(job)
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise
        found = cluster.get("Job", job["metadata"]["name"])  # our own first try did arrive, or somebody else's
        if found is None or Attempt(found).run12 != run.run12:
            raise
        created = found
    return start(Attempt(created), cluster), True


def _lacks_units(target: Target) -> bool:
    """Whether results are gone that were there: somebody has pruned them."""
    results = target.results()
    look = results.look() if results is not None else None
    return look is not None and not look.missing and sum(look.done) < sum(look.units)


def again(last: Attempt) -> dict[str, Any]:
    """The Job of the next attempt: as the last one was, by another name, from the same ConfigMap."""
    number = last.number + 1
    meta, spec = last.job["metadata"], copy.deepcopy(dict(last.job["spec"]))
    name = job_name(last.job_name, last.run12, number)
    for generated in ("selector", "manualSelector"):
        spec.pop(generated, None)
    template = spec["template"]
    _relabel(template.setdefault("metadata", {}), number)
    template["metadata"].pop("creationTimestamp", None)
    for container in template["spec"]["containers"]:
        for variable in container.get("env") or []:
            if container["name"] == CONTAINER and variable["name"] == JOB_NAME:
                variable["value"] = name
    spec["suspend"] = True
    about: dict[str, Any] = {"name": name, "namespace": meta["namespace"]}
    about["labels"] = dict(meta["labels"])
    # Not what others have added, such as kubectl's copy of the whole object.
    about["annotations"] = {k: v for k, v in (meta.get("annotations") or {}).items() if k in _ANNOTATIONS}
    _relabel(about, number)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec}


def _relabel(meta: dict[str, Any], number: int) -> None:
    kept = {key: value for key, value in (meta.get("labels") or {}).items() if key not in _GENERATED}
    meta["labels"] = kept | {LABEL_ATTEMPT: str(number)}
