"""`status`: each situation that a run on a cluster can be in, driven there step by step, and what is said of it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classmodels.job.check import load_job
from classmodels.job.plan import Plan, expand_plan
from classmodels.run.shipping import log_key
from classmodels.store import open_store
from classmodels.store.records import ReportedFailure, ShardReport, dump, report_key
from kube.api import StandIn, passed, status
from kube.controller import Controller, index_of
from kube.kubelet import environment_of
from kube.rules import Object

NO_GPU = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu. preemption: 0/5 nodes are available"
NO_IMAGE = 'Back-off pulling image "registry.example/classmodels:9": not found'


class Cluster:
    """One submitted run of six units in three shards, two at a time; what is done to it, and what `status` says."""

    def __init__(self, api: StandIn, controller: Controller, job: Path, command: Callable[..., Any], uri: str) -> None:
        self.api, self.controller, self.job_file, self.command = api, controller, job, command
        self.store = open_store(uri)
        assert command("submit", job).code == 0

    @property
    def job(self) -> Object:
        return self.api.all("Job")[-1]

    @property
    def plan(self) -> Plan:
        return expand_plan(load_job(self.job_file))

    def pods(self) -> list[Object]:
        """Those that have not ended, of as many shards as may be at work."""
        self.controller.sync()
        return sorted(self.controller.live(self.job), key=lambda pod: pod["metadata"]["name"])

    def running(self) -> list[Object]:
        for pod in self.pods():
            self.controller.run(pod)
        return self.pods()

    def finish(self, *codes: int) -> None:
        """Every shard ends with one of these exit codes, the last of which is that of all others."""
        for at in range(3):
            pod = self.running()[0]
            code = codes[min(at, len(codes) - 1)]
            self.controller.succeed(pod) if code == 0 else self.controller.fail(pod, code)
            if not self.pods():
                break

    def done(self, *units: int) -> None:
        """The records of these units of the plan are in the bucket."""
        for unit in units:
            self.store.write(self.plan.units[unit].record_key, b"{}")

    def reports(self, shard: int, *failed: int, reason: str = "the score is not finite") -> None:
        """The worker of a shard has ended, and could not do these units of the plan."""
        units = [self.plan.units[unit] for unit in failed]
        report = ShardReport(
            run12=self.plan.run12,
            index=shard,
            shards=3,
            units=2,
            done=2 - len(failed),
            already=0,
            verdicts=0,
            failed=tuple(ReportedFailure(what=str(one), reason=reason, record=one.record_key) for one in units),
            seconds=1.0,
        )
        self.store.write(report_key(self.plan.run12, shard, 3), dump(report))

    def ships_log(self, pod: Object) -> None:
        """The worker in a pod has put its log into the bucket."""
        self.store.write(log_key(self.plan.run12, index_of(pod), environment_of(pod)), b'{"event": "start"}\n')

    def told(self, *arguments: str) -> dict[str, Any]:
        ended = self.command("status", *arguments, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    def said(self, *arguments: str) -> str:
        ended = self.command("status", *arguments)
        assert ended.code == 0, ended.err
        return str(ended.out)


@pytest.fixture
def run(
    api: StandIn,
    controller: Controller,
    cluster_job: Callable[..., Path],
    run_command: Callable[..., Any],
    bucket_uri: str,
) -> Cluster:
    return Cluster(api, controller, cluster_job(), run_command, bucket_uri)


def progress(done: int, score: float, left: float) -> str:
    event = {"time": "2026-01-01T10:00:00Z", "event": "progress", "index": 0, "done": done, "units": 2}
    return json.dumps(event | {"score": score, "seconds_left": left})


# While it goes on


def test_units_are_counted_shard_by_shard_from_the_bucket(run: Cluster) -> None:
    run.running()
    run.done(0, 1, 3)
    told = run.told()
    assert (told["state"], told["units"], told["done"]) == ("running", 6, 3)
    assert [(s["index"], s["state"], s["done"], s["units"]) for s in told["shards"]] == [
        (0, "running", 2, 2),
        (1, "running", 1, 2),
        (2, "waiting", 0, 2),
    ]
    said = run.said()
    assert "3 of 6 done (50 %)" in said
    assert "2 running, 1 waiting; 2 at a time" in said


def test_score_and_time_left_are_what_the_workers_said_last(run: Cluster) -> None:
    first, second = run.running()
    run.controller.say(first, progress(0, 1.0, 900), "a traceback in between", progress(1, 11.0, 300))
    run.controller.say(second, progress(1, 21.0, 100))
    run.done(0, 2)
    told = run.told()
    assert told["score"] == pytest.approx(16.0)
    # Shards 0 and 1 say 300 s and 100 s for the one unit that each has left; so 2 waits for 2 units of 200 s, and two
    # work at a time.
    assert told["seconds_left"] == pytest.approx((300 + 100 + 2 * 200) / 2)
    assert "about 7 min" in run.said()


def test_a_run_that_waits_for_room_says_so(run: Cluster) -> None:
    for pod in run.pods():
        run.controller.unschedulable(pod, NO_GPU)
    assert run.told()["state"] == "pending"
    assert f"2 pods: no node can take it: {NO_GPU}" in run.said()


def test_an_image_that_cannot_be_pulled_is_told(run: Cluster) -> None:
    run.controller.wait(run.pods()[0], "ImagePullBackOff", NO_IMAGE)
    assert f"1 pod: its image cannot be pulled: {NO_IMAGE}" in run.said()


def test_a_secret_that_is_not_there_is_told(run: Cluster) -> None:
    run.controller.wait(run.pods()[0], "CreateContainerConfigError", 'secret "s3" not found')
    assert 'its container cannot be made: secret "s3" not found' in run.said()


def test_a_volume_that_cannot_be_mounted_is_told_by_its_event(run: Cluster) -> None:
    pod = run.pods()[0]
    run.controller.wait(pod, "ContainerCreating")
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    run.controller.event(pod, "FailedMount", 'MountVolume.SetUp failed: configmap "x" not found')
    assert 'MountVolume.SetUp failed: configmap "x" not found' in run.said()


def test_a_quota_that_lets_no_pod_in_is_told_by_its_event(run: Cluster) -> None:
    run.job["status"]["startTime"] = "2026-01-01T00:00:00Z"
    quota = 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4'
    run.controller.event(run.job, "FailedCreate", f"Error creating: {quota}")
    assert quota in run.said()


def test_who_may_not_read_events_is_told_the_rest(run: Cluster) -> None:
    run.job["status"]["startTime"] = "2026-01-01T00:00:00Z"
    run.api.forbidden.add(("list", "events"))
    assert run.told()["state"] == "pending"


def test_a_queued_run_says_what_kueue_says(
    api: StandIn, controller: Controller, cluster_job: Callable[..., Path], run_command: Callable[..., Any]
) -> None:
    run_command("submit", cluster_job(cluster={"queue": "lab"}))
    assert "Kueue has not admitted it yet, it waits in the queue lab" in run_command("status").out
    short = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a100"
    controller.admit(
        api.all("Job")[0], {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": short}
    )
    said = run_command("status").out
    assert "suspended" in said
    assert short in said
    api.forbidden.add(("list", "workloads"))
    assert "its workload may not be read" in run_command("status").out


def test_a_run_that_kueue_has_preempted_says_so(
    api: StandIn, controller: Controller, cluster_job: Callable[..., Path], run_command: Callable[..., Any]
) -> None:
    run_command("submit", cluster_job(cluster={"queue": "lab"}))
    message = "Preempted to accommodate a workload due to prioritization in the ClusterQueue"
    controller.admit(api.all("Job")[0], {"type": "Preempted", "status": "True", "message": message})
    assert f"preempted: {message}" in run_command("status").out


def test_a_submission_that_was_cut_off_says_how_to_go_on(run: Cluster) -> None:
    run.job["spec"]["suspend"] = True
    assert "its submission was cut off; submit it again" in run.said()


def test_a_run_that_a_person_has_suspended_says_how_to_go_on(run: Cluster) -> None:
    run.running()
    run.job["spec"]["suspend"] = True
    run.controller.sync()
    assert "somebody has suspended it" in run.said()


# Restarts and preemptions


def test_preemptions_and_failures_are_told_apart(run: Cluster) -> None:
    first, second = run.running()
    run.controller.disrupt(first, "PreemptionByScheduler", "preempted")
    run.controller.fail(second, 137, "OOMKilled")
    run.running()
    told = run.told()
    assert [(s["restarts"], s["taken"]) for s in told["shards"]] == [(0, 1), (1, 0), (0, 0)]
    said = run.said()
    assert "1 taken away: preempted: a pod of higher priority needed the room" in said
    assert "1 failed: out of memory: raise cluster.resources.requests.memory" in said
    assert "was taken away once" in said
    assert "failed and was restarted once" in said


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("DeletionByTaintManager", "its node was tainted"),
        ("EvictionByEvictionAPI", "evicted, as when a node is drained"),
        ("DeletionByPodGC", "its node is gone"),
        ("TerminationByKubelet", "its node was short of something, or is shut down"),
    ],
)
def test_every_way_to_be_taken_away_has_its_words(run: Cluster, reason: str, words: str) -> None:
    run.controller.disrupt(run.running()[0], reason, "", code=137)
    assert f"1 taken away: {words}" in run.said()


@pytest.mark.parametrize(("code", "state", "counts"), [(137, "failed", 1), (130, "interrupted", 0)])
def test_a_pod_that_fills_its_disk_was_not_taken_away(run: Cluster, code: int, state: str, counts: int) -> None:
    """A node that evicts for what a pod did itself gives it no DisruptionTarget; by its exit code it counts, or not."""
    pod = run.running()[0]
    run.controller.evict(pod, 'Usage of EmptyDir volume "scratch" exceeds the limit "10Gi". ', code)
    assert run.job["status"].get("failed", 0) == counts
    assert run.told()["shards"][0]["taken"] == 0
    said = run.said()
    assert f'1 {state}: evicted for its own use of disk: Usage of EmptyDir volume "scratch" exceeds' in said
    assert "raise cluster.resources.requests.ephemeral-storage" in said


def test_a_pod_that_its_node_does_not_let_in_has_failed(run: Cluster) -> None:
    """Without a container there is no exit code, and no disk that it could have filled."""
    pod = run.pods()[0]
    message = "Pod was rejected: The node had condition: [DiskPressure]. "
    pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
    assert f"1 failed: Evicted {message.strip()}" in run.said()


def test_a_pod_that_was_deleted_is_told_by_the_log_it_left(run: Cluster) -> None:
    """The scheduler deletes what it preempts: nothing of it stays in the cluster."""
    pod = run.running()[0]
    run.ships_log(pod)
    run.controller.preempt(pod)
    told = run.told()
    assert told["shards"][0]["taken"] == 1
    assert told["shards"][0]["restarts"] == 0


def test_what_was_cancelled_is_not_counted_as_taken_away(run: Cluster, cluster_job: Callable[..., Path]) -> None:
    """Submitted again, the Job has the same name; its forerunner's pods have left logs, and one is still ending."""
    first, second = run.running()
    run.ships_log(first)
    assert run.command("cancel", run.job["metadata"]["name"]).code == 0
    run.api.remove(first)
    assert run.command("submit", cluster_job()).code == 0
    run.controller.terminate(second, ago=5)
    run.pods()
    run.controller.run(second)
    told = run.told()
    assert [(s["taken"], s["state"]) for s in told["shards"]] == [(0, "pending"), (0, "pending"), (0, "waiting")]
    assert told["endings"] == {}


def test_a_stopped_worker_is_neither(run: Cluster) -> None:
    run.controller.fail(run.running()[0], 130)
    shard = run.told()["shards"][0]
    assert (shard["restarts"], shard["taken"], shard["interrupted"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "the worker broke"), (4, "storage or the node's GPU could not be used"), (139, "crashed"), (77, "code 77")],
)
def test_what_an_exit_code_means(run: Cluster, code: int, words: str) -> None:
    run.controller.fail(run.running()[0], code)
    assert words in run.said()


def test_a_pod_that_does_not_go_is_flagged(run: Cluster) -> None:
    run.controller.terminate(run.running()[0], ago=12 * 60)
    warnings = run.told()["warnings"]
    assert len(warnings) == 1
    assert "is terminating for 12 min on node-1, which may be unreachable" in warnings[0]
    # Deleted by force it would stay: the Job controller holds it until it has ended, and nobody says that it has.
    assert "--force" not in warnings[0]
    assert "kubectl delete node node-1, or kubectl taint nodes node-1 node.kubernetes.io/out-of-service=" in warnings[0]


def test_a_pod_within_its_grace_is_not_flagged(run: Cluster) -> None:
    run.controller.terminate(run.running()[0], ago=20)
    assert run.told()["warnings"] == []


def test_a_deadline_is_counted_down(run: Cluster) -> None:
    run.running()
    run.job["spec"]["activeDeadlineSeconds"] = 7200
    assert run.told()["deadline_left"] == pytest.approx(7200, abs=60)
    assert "deadline in 120 min" in run.said() or "deadline in 2 h" in run.said()


# How it ends


def test_a_complete_run(run: Cluster) -> None:
    run.finish(0)
    run.done(*range(6))
    told = run.told()
    assert (told["state"], told["done"]) == ("complete", 6)
    assert "complete after" in run.said()


def test_failed_indexes_are_told_while_others_go_on(run: Cluster) -> None:
    first, _ = run.running()
    run.controller.fail(first, 3)
    run.done(0)
    run.reports(0, 1)
    told = run.told()
    assert (told["state"], told["shards"][0]["state"], told["shards"][0]["failed"]) == ("running", "failed", 1)
    assert told["failures"] == [
        {"what": str(run.plan.units[1]), "reason": "the score is not finite", "shard": 0, "is_unit": True},
    ]
    assert f"{run.plan.units[1]}: the score is not finite" in run.said()


def test_failures_of_one_reason_take_one_line(run: Cluster) -> None:
    run.finish(3)
    run.reports(0, 0, 1)
    run.reports(2, 4, 5)
    assert f"{run.plan.units[0]} and 3 more: the score is not finite" in run.said()
    assert "0 of 6 done (0 %), 4 failed" in run.said()


def test_what_was_done_after_all_did_not_fail(run: Cluster) -> None:
    run.running()
    run.reports(0, 1)
    run.done(1)
    assert run.told()["failures"] == []


def test_a_refused_job_says_by_whom(run: Cluster) -> None:
    run.controller.fail(run.running()[0], 2)
    told = run.told()
    assert told["state"] == "refused"
    assert "failed with exit code 2" in told["reason"]
    assert "the job is wrong (exit code 2)" in run.said()


def test_a_deadline_that_is_over_has_failed_the_run(run: Cluster) -> None:
    run.running()
    run.controller.exceed_deadline(run.job)
    assert "Job was active longer than specified deadline" in run.said()
    assert run.told()["state"] == "failed"


# Where something cannot be asked


def test_a_bucket_that_cannot_be_read_leaves_the_rest(run: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    run.running()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    told = run.told()
    assert (told["state"], told["done"], told["units"]) == ("running", None, 6)
    assert "the store cannot be read" in told["warnings"][0]
    assert "nobody knows how many are done" in run.said()


def test_a_node_that_does_not_answer_leaves_the_rest(run: Cluster) -> None:
    """The API server asks the kubelet for a log, and says 500 where that is down."""
    first, second = run.running()
    run.controller.say(second, progress(1, 21.0, 100))
    down = status(500, "InternalError", "Get https://10.0.0.7:10250/containerLogs: dial tcp: i/o timeout")

    def kubelet(handler: Any) -> None:
        down(handler) if first["metadata"]["name"] in handler.path and "/log" in handler.path else passed(handler)

    run.api.usual = kubelet
    told = run.told()
    assert (told["score"], told["warnings"]) == (21.0, [])


def test_a_run_that_has_failed_and_still_has_pods_says_so(run: Cluster) -> None:
    run.running()
    message = "Job has reached the specified backoff limit"
    run.job["status"]["conditions"] = [{"type": "FailureTarget", "status": "True", "message": message}]
    assert f"waits for its pods to end: {message}" in run.said()


def test_logs_that_may_not_be_read_leave_the_rest(run: Cluster) -> None:
    run.running()
    run.api.forbidden.add(("get", "pods/log"))
    told = run.told()
    assert (told["state"], told["score"]) == ("running", None)
    assert "score and time left are unknown" in told["warnings"][0]


def test_a_run_that_the_cluster_has_forgotten_is_looked_for_in_its_bucket(run: Cluster) -> None:
    run.done(0, 1, 2)
    run.api.objects.clear()
    assert "3 of 6 units are done" in run.said(str(run.job_file))
    told = run.told(run.plan.run12, "--output", run.store.uri)
    assert (told["done"], told["units"]) == (3, 6)
    assert run.command("status", run.plan.run12).code == 2


# Which run


@pytest.mark.parametrize("name", ["the Job", "the digest", "the job's name", "the file", "nothing"])
def test_a_run_is_found_by_each_of_its_names(run: Cluster, name: str) -> None:
    names = {
        "the Job": [run.job["metadata"]["name"]],
        "the digest": [run.plan.run12],
        "the job's name": ["tiny"],
        "the file": [str(run.job_file)],
        "nothing": [],
    }
    assert run.told(*names[name])["run12"] == run.plan.run12


def test_where_several_could_be_meant_they_are_listed(
    run: Cluster, cluster_job: Callable[..., Path], run_command: Callable[..., Any]
) -> None:
    run_command("submit", cluster_job(seed=1))
    names = [job["metadata"]["name"] for job in run.api.all("Job")]
    assert len(names) == 2
    for arguments in (["status"], ["status", "tiny"]):
        ended = run_command(*arguments)
        assert ended.code == 2
        assert all(name in ended.err for name in names)


def test_a_name_that_no_run_has_is_a_slip(run: Cluster) -> None:
    ended = run.command("status", "tyni")
    assert (ended.code, run.job["metadata"]["name"] in ended.err) == (2, True)


def test_a_look_takes_few_questions(run: Cluster) -> None:
    run.running()
    run.api.seen.clear()
    began = time.monotonic()
    run.told()
    assert len(run.api.seen) <= 6
    assert time.monotonic() - began < 5


def test_a_server_that_is_down_is_one_sentence(run: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classmodels.cluster.client.PAUSES", (0.01,))
    run.api.usual = status(503, "ServiceUnavailable")
    ended = run.command("status")
    assert (ended.code, ended.out, ended.err.count("\n")) == (4, "", 1)
