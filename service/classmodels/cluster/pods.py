"""What a run's pods say: which works on which shard, why one waits, and how those that are over have ended.

A pod that the cluster took away (preempted, drained, or evicted by a node in need) did nothing wrong: it is told apart
from one that failed, by the same condition as in the Job's failure policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from classmodels.cluster.answers import plain
from classmodels.cluster.attempts import moment, true_conditions
from classmodels.cluster.lines import last_event
from classmodels.cluster.objects import CONTAINER

ANNOTATION_INDEX = "batch.kubernetes.io/job-completion-index"

PENDING, RUNNING, DONE = "pending", "running", "done"
TAKEN, INTERRUPTED, FAILED = "taken away", "interrupted", "failed"

_TAKEN = {
    "PreemptionByScheduler": "preempted: a pod of higher priority needed the room",
    "DeletionByTaintManager": "its node was tainted",
    "EvictionByEvictionAPI": "evicted, as when a node is drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node was short of something, or is shut down",
}
_CODES = {
    1: "the worker broke: see its log",
    2: "the job is wrong",
    3: "some units failed",
    4: "storage or the node's GPU could not be used",
    137: "killed",
    139: "crashed",
}


@dataclass(frozen=True)
class Pod:
    """One pod. state: PENDING, RUNNING, or how it ended: DONE, TAKEN, INTERRUPTED, FAILED; note: why, in words.

    waits: for what the container waits, a word of Kubernetes, such as Unschedulable. ends: when its grace is over, for
    one that is to be gone.
    """

    name: str
    uid: str
    index: int
    state: str
    note: str
    waits: str
    node: str
    created: datetime | None
    ends: datetime | None
    grace: float

    @property
    def asked_to_end(self) -> datetime | None:
        """When it was told to be gone."""
        return None if self.ends is None else self.ends - timedelta(seconds=self.grace)

    @property
    def is_over(self) -> bool:
        return self.state not in (PENDING, RUNNING)


_SOME_FAILED = 3


def read_pod(pod: Mapping[str, Any]) -> Pod:
    """`pod` as the API has it."""
    meta, spec, status = (pod.get(part) or {} for part in ("metadata", "spec", "status"))
    about = {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}
    state, note, waits = _state(status)
    index = str(about.get(ANNOTATION_INDEX, ""))
    grace = meta.get("deletionGracePeriodSeconds")
    return Pod(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        index=int(index) if index.isdecimal() else -1,
        state=state,
        note=note,
        waits=waits,
        node=str(spec.get("nodeName", "")),
        created=moment(meta.get("creationTimestamp")),
        ends=moment(meta.get("deletionTimestamp")),
        grace=float(grace) if isinstance(grace, int) else 0.0,
    )


def _state(status: Mapping[str, Any]) -> tuple[str, str, str]:
    """State, note and what it waits for."""
    phase = status.get("phase")
    if phase == "Succeeded":
        return DONE, "", ""
    if phase == "Failed":
        return (*_ended(status), "")
    container = _container(status)
    if phase == "Running" or "running" in container:
        return RUNNING, "", ""
    return PENDING, *_waiting(status, container)


def _ended(status: Mapping[str, Any]) -> tuple[str, str]:
    """How a pod that did not succeed has ended, and why."""
    for disruption in true_conditions(status, "DisruptionTarget"):
        reason = str(disruption.get("reason", ""))
        said = plain(str(status.get("message") or ""), 200)
        return TAKEN, _TAKEN.get(reason, plain(reason)) + (f": {said}" if said else "")
    ended = _container(status).get("terminated") or {}
    code = ended.get("exitCode")
    if ended.get("reason") == "OOMKilled":
        return FAILED, "out of memory: raise cluster.resources.requests.memory"
    why = plain(f"{status.get('reason') or ''} {status.get('message') or ''}", 200)
    if status.get("reason") == "Evicted" and isinstance(code, int):
        # Where the node itself had too little, there is the condition above. It may have been quick to save its state.
        said = plain(str(status.get("message") or ""), 200).rstrip(".")
        why = f"evicted for its own use of disk: {said}; raise cluster.resources.requests.ephemeral-storage"
        return (INTERRUPTED if code == 130 else FAILED), why
    if code == 130:
        return INTERRUPTED, "stopped, its state is saved"
    if not isinstance(code, int):
        return FAILED, why or "nobody says why"
    words = _CODES.get(code, f"ended with exit code {code}")
    # What failed where is in the shards' reports.
    said = _last_words(str(ended.get("message") or "")) if code != _SOME_FAILED else ""
    return FAILED, f"{words} (exit code {code})" + (f": {said}" if said else "")


def _last_words(message: str) -> str:
    """Why a container ended, from its termination message: the end of its log, as objects.py asks for."""
    lines = message.strip().splitlines()
    end = last_event(lines, "end")
    if end is not None:
        return plain(str(end.get("reason") or ""), 400)
    return plain(lines[-1], 200) if lines else ""


def _waiting(status: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[str, str]:
    """Why a pod has not begun, in words; and Kubernetes' word for it."""
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            reason = str(one.get("reason") or "Unschedulable")
            said = plain(str(one.get("message") or ""), 300)
            if reason == "SchedulingGated":
                return "held back by a scheduling gate", reason
            return f"no node can take it: {said}" if said else "no node can take it", reason
    waiting = container.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    said = plain(str(waiting.get("message") or ""), 300)
    if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"):
        return f"its image cannot be pulled: {said or reason}", reason
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return f"its container cannot be made: {said or reason}", reason
    if reason in ("", "ContainerCreating", "PodInitializing"):
        scheduled = any(one.get("status") == "True" for one in status.get("conditions") or [])
        return ("its container is being made" if scheduled else "looking for a node"), reason
    return f"{reason}: {said}" if said else reason, reason


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of the worker's container."""
    for one in status.get("containerStatuses") or []:
        if one.get("name") == CONTAINER:
            return one.get("state") or {}
    return {}
