"""The seam between the nights and a cluster: something that takes a plan, has it run, and names the run."""

from collections.abc import Callable

from classmodels.errors import InputError
from classmodels.job.plan import Plan

Submit = Callable[[Plan], str]
"""Submits a plan, whose job is `plan.job.document`, and returns the run's name. Again: the same run, and no other."""


def cluster(output: str, namespace: str | None) -> Submit:
    """Submits to the Kubernetes cluster that the environment means, results to `output`. Raises InputError where that
    cannot be: without the client, or into a folder of this machine."""
    if not output.startswith("s3://"):
        raise InputError(f"--submit: found the output {output!r}, which pods cannot reach; expected s3://bucket/prefix")
    try:
        from classmodels.cluster.connect import connect
        from classmodels.cluster.site import NAMESPACE
        from classmodels.cluster.submit import prepare, submit
    except ImportError as error:
        raise InputError(
            f"--submit needs the client of Kubernetes, and {error.name or 'it'} is not installed here:"
            ' pip install "classmodels[cluster]"; without --submit the night runs in this process'
        ) from error
    from classmodels.results.progress import Silent

    there = connect(None, namespace, NAMESPACE)

    def to(plan: Plan) -> str:
        return str(submit(plan, prepare(plan, output, there), output, there, Silent()).name)

    return to
