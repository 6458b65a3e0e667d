"""The seam between the nights and a cluster: something that takes a plan, has it run, and says how that goes."""

from collections.abc import Callable
from dataclasses import dataclass

from classmodels.errors import InputError
from classmodels.job.plan import Plan


@dataclass(frozen=True)
class Sent:
    """A run on a cluster. new: it was made now. failed: how it has ended, where it has and units are missing all the
    same: it does no more by itself."""

    name: str
    new: bool = True
    failed: str | None = None


Submit = Callable[[Plan, bool], Sent | None]
"""Submits a plan, whose job is `plan.job.document`, and returns its run. Again: the same run, and no other. With False
the run that is there, or None. Raises ClusterError, InputError."""


def cluster(output: str, namespace: str | None) -> tuple[Submit, Callable[[], list[str]]]:
    """What submits to the Kubernetes cluster that the environment means, results to `output`; and what sweeps up there
    what old runs have left behind, and returns its names.

    Raises InputError where that cannot be: without the client, or into a folder of this machine.
    """
    if not output.startswith("s3://"):
        raise InputError(f"--submit: found the output {output!r}, which pods cannot reach; expected s3://bucket/prefix")
    try:
        from classmodels.cluster.attempts import COMPLETE
        from classmodels.cluster.connect import connect
        from classmodels.cluster.runs import attempts
        from classmodels.cluster.site import NAMESPACE
        from classmodels.cluster.submit import RESUMED, SUBMITTED, prepare, submit
        from classmodels.cluster.sweep import sweep
    except ImportError as error:
        raise InputError(
            f"--submit needs the client of Kubernetes, and {error.name or 'it'} is not installed here:"
            ' pip install "classmodels[cluster]"; without --submit the night runs in this process'
        ) from error
    from classmodels.results.progress import Silent

    there = connect(None, namespace, NAMESPACE)

    def to(plan: Plan, make: bool) -> Sent | None:
        if not make and not attempts(there, plan.run12):
            return None
        found = submit(plan, prepare(plan, output, there), output, there, Silent())
        outcome = found.attempt.outcome if found.attempt is not None else None
        failed = None
        if outcome is not None and outcome.kind != COMPLETE:
            failed = outcome.message or outcome.kind
        return Sent(found.name, found.state in (SUBMITTED, RESUMED), failed)

    return to, lambda: sweep(there)
