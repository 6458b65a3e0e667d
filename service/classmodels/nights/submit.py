"""The seam between the nights and a cluster: something that takes a plan, has it run, and names the run."""

from collections.abc import Callable

from classmodels.errors import InputError
from classmodels.job.plan import Plan

Submit = Callable[[Plan], str]
"""Submits a plan, whose job is `plan.job.document`, and returns the run's name. Again: the same run, and no other."""


def cluster() -> Submit:
    """Submits to the Kubernetes cluster of the environment. Raises InputError where its client is not installed."""
    try:
        from classmodels.cluster.submit import submit_plan  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise InputError(
            f"--submit needs the client of Kubernetes, and {error.name or 'it'} is not installed here:"
            ' pip install "classmodels[cluster]"; without --submit the night runs in this process'
        ) from error
    submit: Submit = submit_plan
    return submit
