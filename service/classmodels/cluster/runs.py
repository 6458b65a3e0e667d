"""Which runs a cluster has, and which of them somebody means: by Job, digest, the job's name or its file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from classmodels.cluster.attempts import Attempt
from classmodels.cluster.client import Cluster
from classmodels.cluster.names import LABEL_JOB, LABEL_NAME, LABEL_RUN, labels
from classmodels.errors import InputError

_RUN12 = re.compile(r"(?:^|-)([0-9a-f]{12})(?:-r[0-9]+)?$")
_FILE = re.compile(r"[/\\]|\.ya?ml$")
_LISTED = 10


@dataclass(frozen=True)
class Run:
    """A run, as its Jobs on the cluster tell it: at least one, the first attempt first."""

    attempts: tuple[Attempt, ...]

    @property
    def latest(self) -> Attempt:
        return self.attempts[-1]

    @property
    def run12(self) -> str:
        return self.latest.run12


def runs(cluster: Cluster, wanted: dict[str, str] | None = None) -> list[Run]:
    """All runs in the cluster's namespace that have the labels `wanted`, the newest first. Raises ClusterError."""
    selector = ",".join([f"{LABEL_NAME}=classmodels", LABEL_RUN, *(f"{k}={v}" for k, v in (wanted or {}).items())])
    found: dict[str, list[Attempt]] = {}
    for job in cluster.list("Job", selector):
        attempt = Attempt(job)
        found.setdefault(attempt.run12, []).append(attempt)
    listed = [Run(tuple(sorted(some, key=lambda one: one.number))) for some in found.values()]
    return sorted(listed, key=_newest, reverse=True)


def attempts(cluster: Cluster, run12: str) -> tuple[Attempt, ...]:
    """All attempts at the run, the first one first; none where the cluster does not know it."""
    found = runs(cluster, {LABEL_RUN: run12})
    return found[0].attempts if found else ()


@dataclass(frozen=True)
class Meant:
    """What somebody means. run and attempt: None where the cluster has none (any more)."""

    run12: str
    run: Run | None
    attempt: Attempt | None


def is_file(text: str) -> bool:
    """Whether somebody means a job file, and no run by its name."""
    return _FILE.search(text) is not None


def meant(cluster: Cluster, text: str | None) -> Meant:
    """The run that `text` means: a Job's name, a run's digest, a job's name; the only run there is where it is None.

    Raises InputError where it may be several, or where nothing tells which run that would be.
    """
    digest = _RUN12.search(text) if text is not None else None
    if digest is not None:
        some = attempts(cluster, digest[1])
        named = next((one for one in some if one.name == text), some[-1] if some else None)
        return Meant(digest[1], Run(some) if some else None, named)
    found = runs(cluster, {LABEL_JOB: labels(text, "")[LABEL_JOB]} if text is not None else None)
    if not found:
        there = runs(cluster) if text is not None else []
        what = f"RUN {text!r}: there is no such run" if text is not None else "there is no run"
        raise InputError(f"{what} in the namespace {cluster.namespace} at {cluster.server}{_choice(there)}")
    if len(found) > 1:
        under_way = [run for run in found if run.latest.outcome is None]
        if len(under_way) != 1:
            raise InputError(f"RUN: found {len(found)} runs, expected one of them by its name{_choice(found)}")
        found = under_way
    return Meant(found[0].run12, found[0], found[0].latest)


def _choice(some: Sequence[Run]) -> str:
    if not some:
        return "; `classmodels submit JOB` makes one, --namespace and --context look elsewhere"
    more = f"\n  and {len(some) - _LISTED} more: classmodels list" if len(some) > _LISTED else ""
    return ":" + "".join(f"\n  {run.latest.name}" for run in some[:_LISTED]) + more


def _newest(run: Run) -> tuple[float, str]:
    created = run.latest.created
    return created.timestamp() if created else 0.0, run.latest.name
