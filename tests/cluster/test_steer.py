"""`cancel`, `retry` and `list`: a run ended, tried again, found among others."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmodels.job.check import load_job
from classmodels.job.plan import expand_plan
from classmodels.store import open_store
from kube.api import NAMESPACE, StandIn, passed, status
from kube.controller import Controller
from kube.rules import MANAGED, Object

ATTEMPT = "classmodels.dev/attempt"

Submit = Callable[..., Object]
Command = Callable[..., Any]


def end(controller: Controller, api: StandIn, code: int) -> None:
    """Every shard of the newest Job ends so."""
    for _ in range(4):
        controller.sync()
        for pod in controller.live(api.all("Job")[-1]):
            controller.run(pod)
            controller.succeed(pod) if code == 0 else controller.fail(pod, code)


def names(api: StandIn, kind: str = "Job") -> list[str]:
    return [obj["metadata"]["name"] for obj in api.all(kind)]


# cancel


def test_what_is_cancelled_is_gone_with_all_that_belongs_to_it(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, bucket_uri: str
) -> None:
    name = submitted()["metadata"]["name"]
    controller.sync()
    before = list(open_store(bucket_uri).entries(""))
    ended = run_command("cancel", name)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == f"cancelled {name}"
    assert f"what is done stays in {bucket_uri}; submitting the job again goes on from there" in ended.out
    api.collect_garbage()
    assert not api.objects
    assert list(open_store(bucket_uri).entries("")) == before


def test_cancelled_twice_there_is_nothing_to_do(submitted: Submit, api: StandIn, run_command: Command) -> None:
    name = submitted()["metadata"]["name"]
    run_command("cancel", name)
    ended = run_command("cancel", name)
    assert (ended.code, "nothing to cancel" in ended.out) == (0, True)


def test_a_name_that_means_nothing_is_a_slip_and_cancels_nothing(
    submitted: Submit, api: StandIn, run_command: Command
) -> None:
    submitted()
    assert run_command("cancel", "tyni").code == 2
    assert api.all("Job")


def test_a_rendered_run_goes_with_its_config_map(
    api: StandIn, cluster_job: Callable[..., Path], run_command: Command
) -> None:
    """As `kubectl apply` makes it: nobody owns the ConfigMap."""
    for obj in yaml.safe_load_all(run_command("render", cluster_job(), "--set", f"cluster.namespace={NAMESPACE}").out):
        api.put(obj)
    [name] = names(api)
    ended = run_command("cancel", name)
    assert ended.out.splitlines()[:2] == [f"cancelled {name}", f"removed the ConfigMap {name}"]
    assert not api.objects


def test_a_cancelled_run_can_be_submitted_again_at_once(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    """Before the garbage collector has come: what it takes later is not what the new run needs."""
    name = submitted()["metadata"]["name"]
    run_command("cancel", name)
    submitted()
    controller.sync()
    assert (names(api), names(api, "ConfigMap"), len(names(api, "Pod"))) == ([name], [name], 2)


def test_cancelling_that_fails_half_way_goes_on(submitted: Submit, api: StandIn, run_command: Command) -> None:
    name = submitted()["metadata"]["name"]
    api.next(passed, passed, *[status(500, "InternalError")] * 3)
    assert run_command("cancel", name).code == 4
    assert run_command("cancel", name).code == 0
    api.collect_garbage()
    assert not api.objects


# retry


def test_a_retry_is_a_new_job_from_the_same_config_map(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    first = submitted()
    end(controller, api, 3)
    ended = run_command("retry")
    name = first["metadata"]["name"]
    assert ended.out.splitlines() == [f"submitted {name}-r1", f"  classmodels status {name}-r1 --watch"]
    _, second = api.all("Job")
    [config_map] = api.all("ConfigMap")
    assert second["metadata"]["name"] == f"{name}-r1"
    assert second["metadata"]["labels"] == first["metadata"]["labels"] | {"classmodels.dev/attempt": "1"}
    assert second["metadata"]["annotations"] == first["metadata"]["annotations"]
    assert second["spec"]["suspend"] is False
    owners = [owner["uid"] for owner in config_map["metadata"]["ownerReferences"]]
    assert owners == [first["metadata"]["uid"], second["metadata"]["uid"]]
    controller.sync()
    pods = controller.live(second)
    assert len(pods) == 2
    for pod in pods:
        labels = pod["metadata"]["labels"]
        assert labels["batch.kubernetes.io/controller-uid"] == second["metadata"]["uid"]
        assert labels["batch.kubernetes.io/job-name"] == f"{name}-r1"
        job = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "job")
        assert job["configMap"]["name"] == name


def test_a_retry_begins_as_the_first_attempt_did_and_not_as_kueue_had_let_it_run(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    first = submitted(cluster={"queue": "lab", "tolerations": [{"key": "gpu", "operator": "Exists"}]})
    made = copy.deepcopy(first)
    spec, template = first["spec"], first["spec"]["template"]
    spec |= {"suspend": False, "parallelism": 1}  # admitted with fewer pods, in a flavor of this kind of node
    template["spec"]["nodeSelector"] = {"cloud/gpu": "a100-spot"}
    template["spec"]["tolerations"] += [{"key": "spot", "operator": "Exists"}]
    template["metadata"]["annotations"] = {"kueue.x-k8s.io/workload": "job-tiny-1", "kueue.x-k8s.io/podset": "main"}
    template["metadata"]["labels"] |= {"kueue.x-k8s.io/podset": "main"}
    first["metadata"]["annotations"]["kueue.x-k8s.io/admitted"] = "yes"
    end(controller, api, 3)
    assert run_command("retry").code == 0
    _, second = api.all("Job")
    for job in (made, second):  # what tells the two apart
        del job["spec"]["selector"], job["status"]
        for meta in (job["metadata"], job["spec"]["template"]["metadata"]):
            meta["labels"] = {key: value for key, value in meta["labels"].items() if key not in (*MANAGED, ATTEMPT)}
    assert second["spec"] == made["spec"]
    assert second["metadata"]["labels"] == made["metadata"]["labels"]
    assert second["metadata"]["annotations"] == made["metadata"]["annotations"]


def test_a_run_of_an_earlier_version_is_submitted_anew_and_not_retried(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    submitted()
    end(controller, api, 3)
    del api.all("ConfigMap")[0]["data"]["manifest.json"]
    ended = run_command("retry")
    assert (ended.code, "is of an earlier version" in ended.err) == (4, True)
    assert len(api.all("Job")) == 1


def test_the_first_attempts_end_does_not_take_the_second_ones_config_map(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    """As when its time to live is over."""
    submitted()
    end(controller, api, 3)
    run_command("retry")
    api.remove(api.all("Job")[0])
    api.collect_garbage()
    assert api.all("ConfigMap")


def test_retries_are_counted(submitted: Submit, api: StandIn, controller: Controller, run_command: Command) -> None:
    name = submitted()["metadata"]["name"]
    for number in (1, 2, 3):
        end(controller, api, 3)
        assert json.loads(run_command("retry", "--json").out)["attempt"] == number
    assert names(api) == [name, f"{name}-r1", f"{name}-r2", f"{name}-r3"]
    assert json.loads(run_command("status", "--json").out)["name"] == f"{name}-r3"
    assert json.loads(run_command("status", f"{name}-r1", "--json").out)["name"] == f"{name}-r1"
    run_command("cancel", name)
    assert not names(api)


def test_a_retry_that_was_cut_off_goes_on(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmodels.cluster.client.PAUSES", ())
    submitted()
    end(controller, api, 3)
    for healthy in range(6):
        api.faults.clear()
        api.next(*[passed] * healthy, status(500, "InternalError"))
        run_command("retry")
        api.faults.clear()
        run_command("retry")
        first, second = api.all("Job")
        assert second["spec"]["suspend"] is False
        [config_map] = api.all("ConfigMap")
        assert len(config_map["metadata"]["ownerReferences"]) == 2
        api.remove(second)
        config_map["metadata"]["ownerReferences"].pop()
        assert first["status"]["failedIndexes"]


def test_what_is_under_way_is_not_tried_again(submitted: Submit, controller: Controller, run_command: Command) -> None:
    submitted()
    controller.sync()
    ended = run_command("retry")
    assert (ended.code, "is not over yet" in ended.err) == (2, True)


def test_a_refused_run_would_be_refused_again(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    submitted()
    end(controller, api, 2)
    ended = run_command("retry")
    assert ended.code == 2
    assert "mend that, then `classmodels cancel" in ended.err


def test_a_complete_run_is_tried_again_only_where_results_are_gone(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    cluster_job: Callable[..., Path],
    bucket_uri: str,
) -> None:
    submitted()
    end(controller, api, 0)
    store, units = open_store(bucket_uri), expand_plan(load_job(cluster_job())).units
    for unit in units:
        store.write(unit.record_key, b"{}")
    ended = run_command("retry")
    assert (ended.code, "there is nothing to try again" in ended.err) == (2, True)
    store.delete(units[0].record_key)
    assert run_command("retry").code == 0


def test_a_cancelled_run_is_submitted_and_not_retried(submitted: Submit, run_command: Command) -> None:
    name = submitted()["metadata"]["name"]
    run_command("cancel", name)
    ended = run_command("retry", name)
    assert (ended.code, "`classmodels submit JOB` makes one, and keeps what is done" in ended.err) == (2, True)


# list


def test_runs_are_listed_the_newest_first(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    cluster_job: Callable[..., Path],
    bucket_uri: str,
) -> None:
    old = submitted()
    end(controller, api, 3)
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    run_command("submit", cluster_job(seed=1))
    rows = run_command("list").out.splitlines()
    assert rows[0].split() == ["RUN", "AGE", "STATE", "SHARDS", "UNITS", "OUTPUT"]
    assert rows[2].split()[0] == old["metadata"]["name"]
    assert rows[2].split()[3:] == ["failed", "0", "of", "3,", "3", "failed", "6", bucket_uri]
    assert "pending" in rows[1]
    listed = json.loads(run_command("list", "--json").out)["runs"]
    assert [one["state"] for one in listed] == ["pending", "failed"]


def test_a_run_and_its_retries_are_one_line(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    name = submitted()["metadata"]["name"]
    end(controller, api, 3)
    run_command("retry")
    assert len(run_command("list").out.splitlines()) == 2
    [listed] = json.loads(run_command("list", "--json").out)["runs"]
    assert listed["attempts"] == [name, f"{name}-r1"]


def test_hundreds_of_runs_come_page_by_page(submitted: Submit, api: StandIn, run_command: Command) -> None:
    job = submitted()
    for number in range(250):
        labels = job["metadata"]["labels"] | {"classmodels.dev/run": f"{number:012x}"}
        meta = {"name": f"tiny-{number:012x}", "labels": labels, "annotations": job["metadata"]["annotations"]}
        api.put({"kind": "Job", "metadata": meta, "spec": job["spec"], "status": {}})
    api.page = 100
    api.seen.clear()
    assert len(run_command("list").out.splitlines()) == 252
    assert api.seen == ["GET jobs"] * 3


def test_other_jobs_are_none_of_ours(api: StandIn, run_command: Command) -> None:
    api.put({"kind": "Job", "metadata": {"name": "backup", "labels": {}}, "spec": {}, "status": {}})
    assert run_command("list").out == f"no runs in the namespace {NAMESPACE} at {api.url}\n"


def test_a_place_is_listed_as_ever(submitted: Submit, api: StandIn, run_command: Command, bucket_uri: str) -> None:
    submitted()
    api.seen.clear()
    assert "0 of 6 units" in run_command("list", bucket_uri).out
    assert not api.seen
    assert run_command("list", bucket_uri, "--namespace", "x").code == 2
