"""Why a run does not work: what Kueue, the scheduler, the kubelets and the Job controller say about it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from classmodels.cluster.answers import plain
from classmodels.cluster.attempts import Attempt, moment, seconds_since, true_conditions
from classmodels.cluster.client import Cluster, Object
from classmodels.cluster.pods import PENDING, Pod
from classmodels.errors import ClusterError

KUEUE = "kueue.x-k8s.io"
VERSIONS = ("v1beta2", "v1beta1")
PATIENCE = 20.0
"""Seconds that a container may take to be made before somebody is asked why."""


def why_suspended(attempt: Attempt, cluster: Cluster) -> str:
    """Why a suspended Job is so."""
    if attempt.queue is None:
        if not attempt.begun:
            return "it was never let start: its submission was cut off; submit it again, which goes on from there"
        return f'somebody has suspended it; kubectl patch job {attempt.name} -p \'{{"spec":{{"suspend":false}}}}\''
    queue = f"Kueue has not admitted it yet, it waits in the queue {attempt.queue}"
    try:
        workload = _workload(attempt, cluster)
    except ClusterError as error:
        return f"{queue} ({'its workload may not be read' if error.status == 403 else 'nobody says why'})"
    said = _said(workload) if workload is not None else None
    return f"{queue}: {said}" if said else queue


def _workload(attempt: Attempt, cluster: Cluster) -> Object | None:
    """Kueue's own object for the Job; None where it has made none yet."""
    for version in VERSIONS:
        try:
            found = cluster.list_custom(KUEUE, version, "workloads")
        except ClusterError as error:
            if error.status == 404 and version != VERSIONS[-1]:
                continue
            raise
        for one in found:
            if attempt.uid in [owner.get("uid") for owner in one["metadata"].get("ownerReferences") or []]:
                return one
        return None
    return None


def _said(workload: Object) -> str | None:
    """The condition that tells most: preempted or evicted, else not yet given its quota."""
    status = workload.get("status") or {}
    for kind in ("Preempted", "Evicted"):
        for one in true_conditions(status, kind):
            return plain(f"{kind.lower()}: {one.get('message') or one.get('reason') or ''}", 300)
    for one in status.get("conditions") or []:
        if one.get("type") in ("QuotaReserved", "Admitted") and one.get("status") == "False" and one.get("message"):
            return plain(str(one["message"]), 300)
    return None


def why_pending(pods: Sequence[Pod], now: datetime, cluster: Cluster) -> list[tuple[int, str]]:
    """Each reason for which pods wait, with how many do; what most of them wait for first."""
    count: dict[str, int] = {}
    asked: dict[str, str] = {}
    for pod in pods:
        if pod.state != PENDING:
            continue
        note = pod.note
        if pod.waits in ("", "ContainerCreating") and pod.node and seconds_since(pod.created, now) > PATIENCE:
            # A volume that cannot be mounted is told by an event alone; one pod's is as good as another's.
            note = asked.setdefault(pod.note, _event(cluster, pod.name, pod.uid) or note)
        count[note] = count.get(note, 0) + 1
    return sorted(((number, note) for note, number in count.items()), reverse=True)


def why_no_pods(attempt: Attempt, cluster: Cluster) -> str:
    """Why the Job controller has made no pods: a quota, or Pod Security."""
    return _event(cluster, attempt.name, attempt.uid) or "its pods are about to be made"


def _event(cluster: Cluster, name: str, uid: str) -> str | None:
    """The newest warning about an object; None where there is none, or where events may not be read."""
    try:
        found = cluster.list("Event", fields=f"involvedObject.name={name},type=Warning")
    except ClusterError as error:
        if error.status == 403:
            return None
        raise
    mine = [event for event in found if (event.get("involvedObject") or {}).get("uid") in (None, uid)]
    newest = max(mine, key=_time, default=None)
    return plain(str(newest.get("message") or newest.get("reason") or ""), 400) if newest else None


def _time(event: Object) -> datetime:
    series = (event.get("series") or {}).get("lastObservedTime")
    times = (series, event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return next((at for text in times if (at := moment(text))), datetime.min.replace(tzinfo=UTC))
