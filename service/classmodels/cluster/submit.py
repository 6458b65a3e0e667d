"""`submit`: a job becomes a run on a cluster. Done twice it is one run; cut off anywhere, doing it again goes on.

The order: what is there already is looked at, and the server is asked whether it would take the Job; the plan and the
inputs go to the bucket, each under the digest of its bytes; then the ConfigMap, and the Job, suspended; the Job becomes
the ConfigMap's owner, so that both are gone together; and last the Job may start. Each step finds by itself whether it
was done, so nothing is kept of how far somebody came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classmodels.cluster.attempts import COMPLETE, EXIT_CODES, Attempt
from classmodels.cluster.client import Cluster
from classmodels.cluster.inputs import upload
from classmodels.cluster.render import Rendered, render
from classmodels.cluster.runs import attempts
from classmodels.cluster.site import DEFAULTS, read_defaults
from classmodels.errors import ClusterError, InputError
from classmodels.job.plan import Plan
from classmodels.results.progress import Meter
from classmodels.s3 import S3Settings
from classmodels.store import Store, open_store
from classmodels.store.records import gallery_prefix

SUBMITTED, RESUMED, ATTACHED, DONE = "submitted", "resumed", "attached", "done"
TRIED = "dry-run"


@dataclass(frozen=True)
class Submitted:
    """What a submission came to. state: SUBMITTED; RESUMED, one that was cut off; ATTACHED, to what is there; DONE,
    the results are there already; TRIED, nothing was made.

    gallery: where its page will be, and what `pull` brings. attempt: the Job, None where there is none. notes: what is
    to be said about it.
    """

    state: str
    name: str
    run12: str
    namespace: str
    job: str
    output: str
    gallery: str
    units: int
    shards: int
    parallelism: int
    attempt: Attempt | None
    notes: list[str] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, Any]:
        """For programs."""
        fields = ("state", "name", "run12", "namespace", "job", "output", "gallery", "units", "shards", "parallelism")
        return {name: getattr(self, name) for name in fields} | {"notes": self.notes}

    @property
    def exit_code(self) -> int:
        """That of the run, where it is over; 0 while it is not."""
        outcome = self.attempt.outcome if self.attempt else None
        return EXIT_CODES[outcome.kind] if outcome else 0


def site_defaults(cluster: Cluster) -> list[dict[str, Any]]:
    """The site's defaults, as its ConfigMap says them, the strongest last; none where there is no such."""
    found = cluster.get("ConfigMap", DEFAULTS) or {}
    return read_defaults(found.get("data") or {})


def prepare(plan: Plan, output: str, cluster: Cluster | None) -> Rendered:
    """The run's objects, by the cluster's own defaults. Raises InputError for what cannot be submitted."""
    site = [*site_defaults(cluster), {"namespace": cluster.namespace}] if cluster is not None else []
    return render(plan, output, site, suspend=True)


def store_of(plan: Plan, output: str) -> Store:
    return open_store(output, S3Settings(**plan.job.job.storage.model_dump()))


def upload_inputs(plan: Plan, rendered: Rendered, output: str, meter: Meter) -> Store:
    """Have the plan and the inputs in the bucket; what is there stays."""
    store = store_of(plan, output)
    upload(rendered.packed, store, plan.run12, meter)
    return store


def submit(plan: Plan, rendered: Rendered, output: str, cluster: Cluster, meter: Meter) -> Submitted:
    """Have the run of `plan` on the cluster, its results at `output`. Raises ClusterError, InputError, StoreError."""
    there = attempts(cluster, plan.run12)
    if there:
        return _attach(there[-1], rendered, output, cluster)
    _ask_first(rendered, cluster)
    store = upload_inputs(plan, rendered, output, meter)
    if _is_done(plan, store):
        note = "every unit is done already, and the page is there: nothing was submitted"
        return _submitted(DONE, rendered, plan.run12, None, [note])
    _ensure_config_map(rendered.objects.config_map, plan.run12, cluster)
    try:
        job = cluster.create(rendered.objects.job)
    except ClusterError as error:
        # Somebody else was quicker, or our first try did arrive.
        there = attempts(cluster, plan.run12) if error.reason == "AlreadyExists" else ()
        if not there:
            raise
        return _attach(there[-1], rendered, output, cluster)
    attempt = start(Attempt(job), cluster)
    return _submitted(SUBMITTED, rendered, plan.run12, attempt, [])


def try_out(plan: Plan, rendered: Rendered, output: str, cluster: Cluster | None) -> Submitted:
    """What `submit` would come to: the server, if there is one, checks everything, and nothing is made anywhere."""
    if cluster is None:
        return _submitted(TRIED, rendered, plan.run12, None, [])
    there = attempts(cluster, plan.run12)
    if there:
        _check_output(there[-1], output, cluster)
        note = f"there is {there[-1].name} already: submitting again attaches to it"
        return _submitted(TRIED, rendered, plan.run12, there[-1], [note, *_changed(there[-1], rendered)])
    if cluster.get("ConfigMap", rendered.objects.config_map["metadata"]["name"]) is None:
        cluster.create(rendered.objects.config_map, dry_run=True)
    cluster.create(rendered.objects.job, dry_run=True)
    return _submitted(TRIED, rendered, plan.run12, None, [])


def start(attempt: Attempt, cluster: Cluster) -> Attempt:
    """Make the Job the owner of its ConfigMap, and let it begin, where that has not happened yet."""
    own(attempt, cluster)
    if attempt.suspended and not attempt.begun and attempt.queue is None:
        return Attempt(cluster.patch("Job", attempt.name, {"spec": {"suspend": False}}))
    return attempt


def own(attempt: Attempt, cluster: Cluster) -> None:
    """Make the Job an owner of its ConfigMap, which goes when the last of its owners does."""
    found = config_map_of(attempt, cluster)
    if attempt.uid not in owners(found):
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": attempt.name, "uid": attempt.uid}
        cluster.patch("ConfigMap", attempt.config_map, {"metadata": {"ownerReferences": [owner]}})


def config_map_of(attempt: Attempt, cluster: Cluster) -> dict[str, Any]:
    """The run's ConfigMap. Raises ClusterError."""
    found = cluster.get("ConfigMap", attempt.config_map)
    if found is None:
        raise ClusterError(
            f"the ConfigMap {attempt.config_map} is gone, from which the run's workers start: remove the run with"
            f" `classmodels cancel {attempt.run12}` and submit it again; results stay"
        )
    return found


def owners(obj: Mapping[str, Any]) -> list[str]:
    """The uids of an object's owners."""
    return [str(one.get("uid")) for one in obj.get("metadata", {}).get("ownerReferences") or []]


def _attach(attempt: Attempt, rendered: Rendered, output: str, cluster: Cluster) -> Submitted:
    """To the run that is there: a submission that was cut off goes on, another is left as it is."""
    _check_output(attempt, output, cluster)
    if attempt.deleting:
        raise ClusterError(
            f"{attempt.name} is being deleted; submit again once it is gone (`classmodels list` tells), results stay"
        )
    notes = _changed(attempt, rendered)
    outcome = attempt.outcome
    if outcome is not None:
        return _submitted(DONE if outcome.kind == COMPLETE else ATTACHED, rendered, attempt.run12, attempt, notes)
    state = RESUMED if attempt.suspended and not attempt.begun and attempt.queue is None else ATTACHED
    return _submitted(state, rendered, attempt.run12, start(attempt, cluster), notes)


def _check_output(attempt: Attempt, output: str, cluster: Cluster) -> None:
    if attempt.output.rstrip("/") != output.rstrip("/"):
        raise InputError(
            f"the same run is there already, {attempt.name} in the namespace {cluster.namespace}, and its results go to"
            f" {attempt.output}, not to {output}: pull them from there, or end it with"
            f" `classmodels cancel {attempt.run12}` and submit again"
        )


def _changed(attempt: Attempt, rendered: Rendered) -> list[str]:
    """A sentence where the job says another thing now than when the run that is there was submitted."""
    new = Attempt(rendered.objects.job)
    pairs = {
        "image": (attempt.image, new.image),
        "shards": (attempt.shards, new.shards),
        "parallelism": (attempt.parallelism, new.parallelism),
        "queue": (attempt.queue, new.queue),
    }
    found = [f"{name} {old or 'none'}, not {now or 'none'}" for name, (old, now) in pairs.items() if old != now]
    if not found:
        return []
    note = (
        f"the run that is there stays as it was submitted: {', '.join(found)}; to change that, end it with"
        f" `classmodels cancel {attempt.run12}` and submit again: what is done stays"
    )
    return [note]


def _ask_first(rendered: Rendered, cluster: Cluster) -> None:
    """Have the server check the Job before anything is made: what it would refuse leaves nothing behind."""
    try:
        cluster.create(rendered.objects.job, dry_run=True)
    except ClusterError as error:
        # Such an admission webhook is asked when the Job is made.
        if "does not support dry run" not in str(error):
            raise


def _is_done(plan: Plan, store: Store) -> bool:
    """Whether a run that the cluster has forgotten has left nothing to do."""
    if store.read(gallery_prefix(plan.job.job.name, plan.run12) + "index.html") is None:
        return False
    present = {key for prefix in {unit.task.prefix for unit in plan.units} for key in store.list(prefix)}
    return all(unit.record_key in present for unit in plan.units)


def _ensure_config_map(config_map: dict[str, Any], run12: str, cluster: Cluster) -> None:
    """Have it there, with what it should say, and not about to go with an owner that is gone.

    It cannot be changed, so one that says something else is made anew, if no Job uses it.
    """
    name = config_map["metadata"]["name"]
    for _ in range(3):
        found = cluster.get("ConfigMap", name)
        if found is not None and found.get("data") == config_map["data"] and not owners(found):
            return
        if found is not None and attempts(cluster, run12):
            return  # somebody else has submitted meanwhile
        if found is not None:
            cluster.delete("ConfigMap", name, str(found["metadata"]["uid"]))
        try:
            cluster.create(config_map)
            return
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
    raise ClusterError(
        f"the ConfigMap {name} is changed by somebody else again and again: wait until they are done, and submit again"
    )


def _submitted(state: str, rendered: Rendered, run12: str, attempt: Attempt | None, notes: list[str]) -> Submitted:
    shown = attempt or Attempt(rendered.objects.job)
    job = rendered.packed.plan.job
    return Submitted(
        state=state,
        name=shown.name,
        run12=run12,
        namespace=rendered.objects.job["metadata"]["namespace"],
        output=shown.output,
        gallery=f"{shown.output.rstrip('/')}/{gallery_prefix(job, run12).rstrip('/')}",
        job=job,
        units=shown.units,
        shards=shown.shards,
        parallelism=shown.parallelism,
        attempt=attempt,
        notes=notes,
    )
