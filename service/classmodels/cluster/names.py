"""What the objects of a run are called and labelled: told from the plan's digest, so that the same plan is one run."""

import re

LABEL_NAME = "app.kubernetes.io/name"
"""`classmodels` on every object that the service makes."""
LABEL_JOB = "classmodels.dev/job"
"""The job file's name, as far as a label's value may hold it."""
LABEL_RUN = "classmodels.dev/run"
"""The plan's digest: run12."""
LABEL_ATTEMPT = "classmodels.dev/attempt"
"""0 for the first Job of a run; N for its Nth retry."""
ANNOTATION_OUTPUT = "classmodels.dev/output"
"""Where the results go: s3://bucket/prefix. For `status` and `logs`, also when the pods are gone."""
ANNOTATION_UNITS = "classmodels.dev/units"
"""How many units the plan has."""

LONGEST = 52
"""Of a Job's name. A pod's host name, `<job>-<index>`, is a DNS label of at most 63 characters; room for the index."""


def slug(name: str) -> str:
    """`name` (of a job file) as a DNS label: lower case, digits and hyphens, no hyphen at either end."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def job_name(name: str, run12: str, attempt: int = 0) -> str:
    """The Kubernetes name of a run's Job: `<name>-<run12>`, and `-rN` for its Nth retry."""
    end = f"-{run12}" + (f"-r{attempt}" if attempt else "")
    return slug(name)[: LONGEST - len(end)].rstrip("-") + end


def labels(name: str, run12: str, attempt: int = 0) -> dict[str, str]:
    """The labels of every object of a run, and of its pods."""
    return {
        LABEL_NAME: "classmodels",
        LABEL_JOB: slug(name)[:63].rstrip("-"),
        LABEL_RUN: run12,
        LABEL_ATTEMPT: str(attempt),
    }
