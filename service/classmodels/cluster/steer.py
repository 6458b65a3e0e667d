"""`cancel` and `retry`: a run on a cluster is ended, or what failed of it is tried again. Results stay in any case."""

import json
from dataclasses import dataclass
from typing import Any

from classmodels.cluster.attempts import COMPLETE, REFUSED, Attempt, Outcome
from classmodels.cluster.client import Cluster
from classmodels.cluster.names import LABEL_RUN
from classmodels.cluster.objects import MANIFEST, retried
from classmodels.cluster.submit import config_map_of, owners, start
from classmodels.cluster.target import Target
from classmodels.errors import ClusterError, InputError


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
    job = again(last, cluster)
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


def again(last: Attempt, cluster: Cluster) -> dict[str, Any]:
    """The Job of the next attempt, as the first one was made: a queue's controller has written into what ran.

    Raises ClusterError.
    """
    made = config_map_of(last, cluster).get("data", {}).get(MANIFEST)
    if made is None:
        raise ClusterError(
            f"{last.name} is of an earlier version of classmodels: remove the run with `classmodels cancel"
            f" {last.run12}` and submit it again; results stay"
        )
    return retried(json.loads(made), last.number + 1)
