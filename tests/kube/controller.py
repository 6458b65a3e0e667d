"""What controllers, scheduler and kubelets do to Jobs and pods, one step at a time, at a stand-in API server.

`sync` starts pods; `succeed`, `fail`, `preempt` and so on end them as the documented failure policy has it. By hand,
so that a test can look at every situation for as long as it likes.
"""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from kube.api import StandIn, timestamp
from kube.rules import Object

INDEX = "batch.kubernetes.io/job-completion-index"


class Controller:
    """Acts on all Jobs of the stand-in's namespace."""

    def __init__(self, api: StandIn) -> None:
        self.api = api

    def sync(self) -> None:
        """As far as the Jobs' parallelism goes: a pod for every index that has none and is not finished."""
        self.api.collect_garbage()
        for job in self.api.all("Job"):
            spec, status = job["spec"], job.setdefault("status", {})
            if _finished(job):
                continue
            if spec.get("suspend"):
                self._suspend(job)
                continue
            if not status.get("startTime"):
                status["startTime"] = timestamp()
                self._condition(job, "Suspended", "JobResumed", "Job resumed", "False")
            live = self.live(job)
            ended = _indexes(status.get("completedIndexes", "")) | _indexes(status.get("failedIndexes", ""))
            busy = {index_of(pod) for pod in live}
            free = [index for index in range(spec["completions"]) if index not in busy | ended]
            for index in free[: max(0, spec["parallelism"] - len(live))]:
                self._start(job, index)
            self._count(job)

    def live(self, job: Object) -> list[Object]:
        """The Job's pods that have not ended."""
        return [pod for pod in self.pods(job) if pod["status"]["phase"] in ("Pending", "Running")]

    def pods(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self.api.all("Pod")
            if uid in [owner["uid"] for owner in pod["metadata"].get("ownerReferences", [])]
        ]

    def run(self, pod: Object) -> None:
        """The pod has found a node and its container has begun."""
        self._phase(pod, "Running", {"running": {"startedAt": timestamp()}})
        pod["spec"]["nodeName"] = "node-1"
        pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]

    def wait(self, pod: Object, reason: str, message: str = "") -> None:
        """The pod has found a node, but its container cannot begin."""
        self._phase(pod, "Pending", {"waiting": {"reason": reason, "message": message}})
        pod["spec"]["nodeName"] = "node-1"
        pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]

    def unschedulable(self, pod: Object, message: str) -> None:
        self._phase(pod, "Pending", None)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        pod["status"]["conditions"] = [condition]

    def succeed(self, pod: Object) -> None:
        self._phase(pod, "Succeeded", _ended(0, "Completed"))
        job = self._job(pod)
        status = job["status"]
        status["completedIndexes"] = _ranges(_indexes(status.get("completedIndexes", "")) | {index_of(pod)})
        status["succeeded"] = len(_indexes(status["completedIndexes"]))
        self._finish(job)

    def fail(self, pod: Object, code: int, reason: str = "Error") -> None:
        """The container ends with this exit code; what follows is for the failure policy to say."""
        self._phase(pod, "Failed", _ended(code, reason, self._last_words(pod)))
        job = self._job(pod)
        action, rule = _action(job, pod, code)
        if action == "FailJob":
            message = (
                f"Container worker for pod {self._named(pod)} failed with exit code {code} matching FailJob rule at"
                f" index {rule}"
            )
            self._condition(job, "FailureTarget", "PodFailurePolicy", message)
            for one in self.live(job):
                self.api.remove(one)
            self._condition(job, "Failed", "PodFailurePolicy", message)
        elif action == "FailIndex" or (
            action == "Count" and self._failures(job, index_of(pod)) > job["spec"].get("backoffLimitPerIndex", 6)
        ):
            status = job["status"]
            status["failedIndexes"] = _ranges(_indexes(status.get("failedIndexes", "")) | {index_of(pod)})
        if action != "Ignore":
            job["status"]["failed"] = job["status"].get("failed", 0) + 1
        self._finish(job)

    def preempt(self, pod: Object) -> None:
        """Another pod needs the room: this one is deleted, and gone once the Job has taken note."""
        self.disrupt(pod, "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod")
        self.api.remove(pod)

    def disrupt(self, pod: Object, reason: str, message: str, code: int = 130) -> None:
        """Its node takes the pod away, by eviction or shutdown; it stays to be looked at."""
        pod["status"].setdefault("conditions", []).append(
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
        )
        self.fail(pod, code)

    def evict(self, pod: Object, message: str, code: int = 137) -> None:
        """Its node ends a pod that has used more disk than it may: without the condition of those that do no wrong."""
        pod["status"] |= {"reason": "Evicted", "message": message}
        self.fail(pod, code)

    def terminate(self, pod: Object, ago: float, grace: int = 30) -> None:
        """Somebody has deleted the pod, `ago` seconds ago, and its node does not say that it is gone."""
        pod["metadata"]["deletionTimestamp"] = timestamp(ago - grace)
        pod["metadata"]["deletionGracePeriodSeconds"] = grace

    def exceed_deadline(self, job: Object) -> None:
        for pod in self.live(job):
            self.api.remove(pod)
        self._condition(job, "Failed", "DeadlineExceeded", "Job was active longer than specified deadline")

    def say(self, pod: Object, *lines: str, at: datetime | None = None) -> None:
        """The container prints."""
        stamp = at or datetime.now(UTC)
        self.api.logs.setdefault(pod["metadata"]["name"], []).extend((stamp, line) for line in lines)

    def event(self, obj: Object, reason: str, message: str, kind: str = "Warning") -> None:
        """Somebody notes what has happened to an object."""
        meta = obj["metadata"]
        involved = {"kind": obj["kind"], "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}
        self.api.put(
            {
                "kind": "Event",
                "apiVersion": "v1",
                "metadata": {"name": f"{meta['name']}.{uuid.uuid4().hex[:10]}"},
                "involvedObject": involved,
                "reason": reason,
                "message": message,
                "type": kind,
                "lastTimestamp": timestamp(),
            }
        )

    def admit(self, job: Object, *conditions: dict[str, str]) -> Object:
        """Kueue's Workload for the Job, with these conditions."""
        self.api.kueue = True
        meta = job["metadata"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        return self.api.put(
            {
                "kind": "Workload",
                "apiVersion": "kueue.x-k8s.io/v1beta1",
                "metadata": {"name": f"job-{meta['name']}-12345", "ownerReferences": [owner]},
                "spec": {"queueName": meta["labels"].get("kueue.x-k8s.io/queue-name", "")},
                "status": {"conditions": list(conditions)},
            }
        )

    def _suspend(self, job: Object) -> None:
        for pod in self.live(job):
            self.api.remove(pod)
        self._condition(job, "Suspended", "JobSuspended", "Job suspended")
        self._count(job)

    def _start(self, job: Object, index: int) -> None:
        meta, template = job["metadata"], job["spec"]["template"]
        name = f"{meta['name']}-{index}-{uuid.uuid4().hex[:5]}"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        self.api.put(
            {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {
                    "name": name,
                    "labels": template["metadata"]["labels"] | {INDEX: str(index)},
                    "annotations": {INDEX: str(index)},
                    "ownerReferences": [owner],
                },
                "spec": dict(template["spec"]),
                "status": {"phase": "Pending"},
            }
        )

    def _phase(self, pod: Object, phase: str, state: dict[str, Any] | None) -> None:
        image = pod["spec"]["containers"][0].get("image", "")
        pod["status"]["phase"] = phase
        pod["status"]["containerStatuses"] = (
            [] if state is None else [{"name": "worker", "image": image, "restartCount": 0, "state": state}]
        )
        self.api.put(pod)

    def _job(self, pod: Object) -> Object:
        job = self.api.get("Job", pod["metadata"]["ownerReferences"][0]["name"])
        assert job is not None
        return job

    def _last_words(self, pod: Object) -> str:
        """The end of its log, as a kubelet keeps it where the policy is FallbackToLogsOnError."""
        lines = [line for _, line in self.api.logs.get(pod["metadata"]["name"], [])]
        return "\n".join(lines[-80:])[-2048:]

    def _named(self, pod: Object) -> str:
        return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"

    def _failures(self, job: Object, index: int) -> int:
        return sum(
            index_of(pod) == index
            and pod["status"]["phase"] == "Failed"
            and _action(job, pod, code_of(pod))[0] == "Count"
            for pod in self.pods(job)
        )

    def _finish(self, job: Object) -> None:
        status = job["status"]
        completed, failed = _indexes(status.get("completedIndexes", "")), _indexes(status.get("failedIndexes", ""))
        if not _finished(job) and len(completed | failed) == job["spec"]["completions"]:
            if failed:
                self._condition(job, "Failed", "FailedIndexes", "Job has failed indexes")
            else:
                status["completionTime"] = timestamp()
                self._condition(job, "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        self._count(job)

    def _count(self, job: Object) -> None:
        status, live = job["status"], self.live(job)
        status["active"] = len(live)
        status["ready"] = sum(pod["status"]["phase"] == "Running" for pod in live)
        self.api.put(job)

    def _condition(self, job: Object, kind: str, reason: str, message: str, status: str = "True") -> None:
        conditions = [one for one in job["status"].get("conditions", []) if one["type"] != kind]
        now = timestamp()
        new = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
        job["status"]["conditions"] = [*conditions, new]
        self.api.put(job)


def index_of(pod: Object) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def code_of(pod: Object) -> int:
    """The exit code of a pod that has ended."""
    return int(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"])


def _ended(code: int, reason: str, message: str = "") -> dict[str, Any]:
    said = {"message": message} if message else {}
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": timestamp()} | said}


def _action(job: Object, pod: Object, code: int) -> tuple[str, int]:
    """What the first rule that matches says, and which rule that is; `Count` where none does."""
    conditions = {one["type"] for one in pod["status"].get("conditions", []) if one["status"] == "True"}
    for at, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", [])):
        if conditions & {one["type"] for one in rule.get("onPodConditions", [])}:
            return rule["action"], at
        exits = rule.get("onExitCodes")
        if exits and (code in exits["values"]) == (exits["operator"] == "In"):
            return rule["action"], at
    return "Count", -1


def _finished(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def _indexes(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _ranges(indexes: Iterable[int]) -> str:
    """Sorted indexes as Kubernetes writes them: 1,3-5,7."""
    said: list[list[int]] = []
    for index in sorted(indexes):
        if said and index == said[-1][-1] + 1:
            said[-1].append(index)
        else:
            said.append([index])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in said)
