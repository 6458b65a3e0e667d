"""The run that a command is about: on the cluster, if it still has it, and in the store where its results are."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from classmodels.cluster.attempts import Attempt
from classmodels.cluster.client import Cluster
from classmodels.cluster.connect import connect
from classmodels.cluster.results import Failure, Results
from classmodels.cluster.runs import Meant, is_file, meant
from classmodels.cluster.site import NAMESPACE
from classmodels.errors import ClassmodelsError, InputError
from classmodels.job.check import load_job
from classmodels.job.document import parse
from classmodels.job.plan import Plan, expand_plan
from classmodels.job.schema import Storage
from classmodels.models.remote.base import Listener
from classmodels.s3 import S3Settings
from classmodels.store import Store, open_store


@dataclass(frozen=True)
class Target:
    """plan: where the run was named by its job file; asked: the output that was named, instead of the Job's."""

    cluster: Cluster
    meant: Meant
    plan: Plan | None
    asked: str | None

    @property
    def run12(self) -> str:
        return self.meant.run12

    @property
    def attempt(self) -> Attempt | None:
        """The Job that is meant: of a run, its latest."""
        return self.meant.attempt

    @property
    def name(self) -> str:
        """As a person may name it again."""
        return self.attempt.name if self.attempt else self.run12

    @property
    def output(self) -> str | None:
        """Where the results go, if anybody says so."""
        if self.asked or self.attempt:
            return self.asked or (self.attempt.output if self.attempt else None)
        return self.plan.job.job.output if self.plan else None

    @cached_property
    def store(self) -> Store | None:
        """Where the results are; None where that is not known. It is reached as the job says. Raises ClusterError."""
        return open_store(self.output, self._settings()) if self.output else None

    def results(self) -> Results | None:
        shards = self.attempt.shards if self.attempt else 1
        return Results(self.store, self.run12, shards) if self.store is not None else None

    def require_attempt(self) -> Attempt:
        """The Job, or InputError where the cluster has none of this run."""
        if self.attempt is None:
            raise InputError(
                f"there is no Job of the run {self.run12} in the namespace {self.cluster.namespace} at"
                f" {self.cluster.server}; `classmodels submit JOB` makes one, and keeps what is done; with --output"
                " its bucket is looked at"
            )
        return self.attempt

    def _settings(self) -> S3Settings:
        if self.plan is not None:
            return S3Settings(**self.plan.job.job.storage.model_dump())
        config_map = self.cluster.get("ConfigMap", self.attempt.config_map) if self.attempt else None
        text = (config_map or {}).get("data", {}).get("job.yaml", "")
        try:
            storage = parse(text.encode(), "job.yaml").data.get("storage")
            return S3Settings(**Storage.model_validate(storage or {}).model_dump())
        except (ClassmodelsError, ValueError, AttributeError):
            return S3Settings()  # as the environment has it


def find(
    text: str | None, context: str | None, namespace: str | None, output: str | None, listener: Listener | None = None
) -> Target:
    """The run that `text` means, see `runs.meant`. Raises InputError, ClusterError."""
    plan = None
    if text is not None and is_file(text):
        if not Path(text).exists():
            raise InputError(f"RUN {text!r}: there is no such job file")
        plan = expand_plan(load_job(text, (), listener))
        namespace = namespace or plan.job.job.cluster.namespace
    cluster = connect(context, namespace, NAMESPACE)
    return Target(cluster, meant(cluster, plan.run12 if plan else text), plan, output)


@dataclass(frozen=True)
class Forgotten:
    """A run that the cluster knows nothing of (any more), as its bucket tells it. done is None where that does not."""

    run12: str
    output: str
    units: int | None
    done: int | None
    failures: tuple[Failure, ...]
    page: str | None

    @property
    def exit_code(self) -> int:
        return 0 if self.done is not None and self.done == self.units else 3

    def __str__(self) -> str:
        said = f"the cluster has no Job of the run {self.run12} (any more)"
        if self.done is None:
            return f"{said}, and {self.output} knows nothing of it"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{said}; {self.done} of {self.units} units are done{failed}, in {self.page or self.output}"


def forgotten(target: Target) -> Forgotten:
    """Raises InputError where nobody says which bucket it is, StoreError."""
    results = target.results()
    if results is None or target.output is None:
        target.require_attempt()
        raise AssertionError
    look = results.look()
    units, done = (None, None) if look.missing else (sum(look.units), sum(look.done))
    return Forgotten(target.run12, target.output, units, done, tuple(look.failures), look.page)
