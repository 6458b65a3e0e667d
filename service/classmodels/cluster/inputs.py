"""The inputs of a run: what a job names beside its file travels with it, under the digest of its bytes."""

from dataclasses import dataclass
from pathlib import Path

from classmodels.cluster.manifest import to_yaml
from classmodels.job.plan import Plan


@dataclass(frozen=True)
class Packed:
    """A job as its workers get it. files: (key, local path, sha256, size) of each input."""

    job_yaml: str
    inputs_json: str
    files: list[tuple[str, Path, str, int]]


def pack(plan: Plan, output: str) -> Packed:
    """The plan's job, with its overrides, and `output` as its output."""
    return Packed(to_yaml(plan.job.document.data | {"output": output}), '{"format": 1, "files": []}', [])
