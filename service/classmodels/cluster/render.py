"""`classmodels render`: a run's objects as text, for `kubectl apply -f -` or a repository. No cluster is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classmodels.cluster.inputs import Packed, pack
from classmodels.cluster.objects import RunObjects, run_objects
from classmodels.cluster.security import violations
from classmodels.cluster.site import settings
from classmodels.errors import InputError
from classmodels.job.plan import Plan
from classmodels.store import open_store


@dataclass(frozen=True)
class Rendered:
    """A run's objects, what they start from, and why a namespace with restricted Pod Security would refuse its pods."""

    objects: RunObjects
    packed: Packed
    violations: list[str]


def render(plan: Plan, output: str, site: Sequence[Mapping[str, Any]] = (), suspend: bool = False) -> Rendered:
    """The objects of the run of `plan` with its results at `output`. Raises InputError where that is no bucket."""
    if not output.startswith("s3://"):
        raise InputError(
            f"output: found {output!r}, which is on this machine alone; expected a bucket, which every pod can reach:"
            " --output s3://bucket/prefix"
        )
    output = open_store(output).uri
    job = plan.job.job
    packed = pack(plan, output)
    objects = run_objects(
        name=job.name,
        run12=plan.run12,
        units=len(plan.units),
        output=output,
        job_yaml=packed.job_yaml,
        inputs_json=packed.inputs_json,
        settings=settings(job.cluster, site),
        suspend=suspend,
    )
    return Rendered(objects, packed, violations(objects.job["spec"]["template"]))
