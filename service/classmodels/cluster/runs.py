"""Which runs a cluster has, and which of them somebody means: by Job, digest, the job's name or its file."""

import re
from collections.abc import Callable, Sequence
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
    """What somebody means. run: None where the cluster has none (any more); run12: None where only it would tell."""

    run: Run | None
    run12: str | None
    attempt: Attempt | None


def meant(cluster: Cluster, text: str | None, plan_of: Callable[[str], str]) -> Meant:
    """The run that `text` means: a Job's name, a run's digest, a job's name, a job file, or the only run there is.

    plan_of: the digest of a job file's plan. Raises InputError where it may be several, or none could be meant.
    """
    if text is not None and _FILE.search(text):
        run12 = plan_of(text)
        return _of(attempts(cluster, run12), run12, None)
    digest = _RUN12.search(text) if text is not None else None
    if text is not None and digest is not None:
        return _of(attempts(cluster, digest[1]), digest[1], text)
    found = runs(cluster, {LABEL_JOB: labels(text, "")[LABEL_JOB]} if text is not None else None)
    if not found:
        there = runs(cluster) if text is not None else []
        what = f"RUN {text!r}: there is no such run" if text is not None else "there is no run"
        raise InputError(f"{what} in the namespace {cluster.namespace} at {cluster.server}{_choice(there)}")
    if len(found) > 1:
        # A job that was submitted every night means its newest; several jobs mean nothing.
        names = {run.latest.job_name for run in found}
        under_way = [run for run in found if run.latest.outcome is None]
        if text is None and len(under_way) == 1:
            found = under_way
        elif text is None or len(names) > 1 or len(under_way) > 1:
            raise InputError(f"RUN: found {len(found)} runs, expected one of them by its name{_choice(found)}")
    return Meant(found[0], found[0].run12, found[0].latest)


def _of(some: Sequence[Attempt], run12: str, name: str | None) -> Meant:
    """The attempt called `name`, else the latest one."""
    named = next((one for one in some if one.name == name), None)
    return Meant(Run(tuple(some)) if some else None, run12, named or (some[-1] if some else None))


def _choice(some: Sequence[Run]) -> str:
    if not some:
        return "; `classmodels submit JOB` makes one, --namespace and --context look elsewhere"
    more = f"\n  and {len(some) - _LISTED} more: classmodels list" if len(some) > _LISTED else ""
    return ":" + "".join(f"\n  {run.latest.name}" for run in some[:_LISTED]) + more


def _newest(run: Run) -> tuple[float, str]:
    created = run.latest.created
    return created.timestamp() if created else 0.0, run.latest.name
