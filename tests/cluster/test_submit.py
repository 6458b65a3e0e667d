"""`submit`: one run however often it is said, in the right order, and nothing made where something is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmodels.cluster.names import LABEL_RUN
from classmodels.store import open_store
from kube.api import NAMESPACE, TOKEN, StandIn, answer_lost, passed, status
from kube.controller import Controller

Run = Callable[..., Any]
Write = Callable[..., Path]


def uploaded(uri: str) -> set[str]:
    """What lies in the bucket."""
    return set(open_store(uri).list(""))


def test_a_run_is_a_job_that_owns_its_config_map_and_has_begun(
    api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str
) -> None:
    ended = run_command("submit", cluster_job())
    [job], [config_map] = api.all("Job"), api.all("ConfigMap")
    assert ended.code == 0
    assert ended.out.startswith(f"submitted {job['metadata']['name']}: 6 units in 3 shards, 2 at a time, in the name")
    assert job["spec"]["suspend"] is False
    assert config_map["immutable"]
    assert [owner["uid"] for owner in config_map["metadata"]["ownerReferences"]] == [job["metadata"]["uid"]]
    assert yaml.safe_load(config_map["data"]["job.yaml"])["output"] == bucket_uri
    listed = {file["sha256"] for file in json.loads(config_map["data"]["inputs.json"])["files"]}
    run12 = job["metadata"]["labels"][LABEL_RUN]
    assert listed
    assert {f"runs/{run12}/inputs/{sha256}" for sha256 in listed} | {f"runs/{run12}/plan.json"} <= uploaded(bucket_uri)


def test_the_job_may_begin_only_when_all_is_there(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    run_command("submit", cluster_job())
    made = [(method, path.partition("?")[0]) for method, path in api.changes if "dryRun" not in path]
    name = api.all("Job")[0]["metadata"]["name"]
    core, batch = f"/api/v1/namespaces/{NAMESPACE}/configmaps", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    assert made == [("POST", core), ("POST", batch), ("PATCH", f"{core}/{name}"), ("PATCH", f"{batch}/{name}")]


def test_it_is_said_what_to_type_next(api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str) -> None:
    said = run_command("submit", cluster_job(), "--context", "lab").out.splitlines()
    name = api.all("Job")[0]["metadata"]["name"]
    run12 = name.rpartition("-")[2]
    assert said[1:] == [
        f"  classmodels status {name} --context lab --watch",
        f"  classmodels logs {name} --context lab --follow",
        f"  classmodels cancel {name} --context lab",
        f"  classmodels pull {bucket_uri}/galleries/tiny/{run12} tiny",
    ]


def test_for_programs_it_is_json(api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str) -> None:
    told = json.loads(run_command("submit", cluster_job(), "--json").out)
    assert (told["state"], told["units"], told["shards"], told["output"]) == ("submitted", 6, 3, bucket_uri)
    assert json.loads(run_command("submit", cluster_job(), "--json").out) == told | {"state": "attached"}


def test_a_run_submitted_twice_is_one(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    job = cluster_job()
    run_command("submit", job)
    before = dict(api.objects)
    again = run_command("submit", job)
    assert (again.code, again.out.split()[0]) == (0, "attached")
    assert api.objects == before


def test_what_is_uploaded_is_not_uploaded_again(cluster_job: Write, run_command: Run, bucket_uri: str) -> None:
    job = cluster_job()
    assert run_command("submit", job, "--upload-only").code == 0
    before = list(open_store(bucket_uri).entries(""))
    assert len(before) > 3
    assert run_command("submit", job, "--upload-only").code == 0
    assert list(open_store(bucket_uri).entries("")) == before


def test_to_upload_no_cluster_is_needed(
    cluster_job: Write, run_command: Run, bucket_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert run_command("submit", cluster_job(), "--upload-only", "--dry-run").code == 0
    assert not uploaded(bucket_uri)
    ended = run_command("submit", cluster_job(), "--upload-only")
    assert (ended.code, uploaded(bucket_uri) != set()) == (0, True)


# What is refused


def test_a_folder_is_no_output_for_pods(api: StandIn, cluster_job: Write, run_command: Run, tmp_path: Path) -> None:
    ended = run_command("submit", cluster_job(output=str(tmp_path / "out")))
    assert ended.code == 2
    assert "output" in ended.err
    assert "s3://bucket/prefix" in ended.err
    assert not api.objects


def test_a_wrong_output_is_told_before_any_cluster_is_asked(
    cluster_job: Write, run_command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    ended = run_command("submit", cluster_job(), "--output", tmp_path / "here")
    assert (ended.code, "expected a bucket, which every pod can reach" in ended.err) == (2, True)
    assert run_command("submit", cluster_job()).code == 4


def test_a_wrong_job_never_reaches_the_cluster(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    assert run_command("submit", cluster_job(classes=["unicorn"])).code == 2
    assert run_command("submit", cluster_job(limits={"units": 5})).code == 2
    assert not api.seen


def test_a_module_that_would_stay_behind_is_refused(
    api: StandIn, cluster_job: Write, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cluster_job(code=...)
    monkeypatch.syspath_prepend(str(job.parent / "src"))
    monkeypatch.chdir(job.parent / "src")
    ended = run_command("submit", job)
    assert (ended.code, "code: ." in ended.err) == (2, True)
    assert not api.objects


def test_without_a_cluster_it_is_one_sentence(
    cluster_job: Write, run_command: Run, bucket_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    ended = run_command("submit", cluster_job())
    assert (ended.code, ended.out, ended.err.count("\n")) == (4, "", 1)
    assert not uploaded(bucket_uri)


def test_a_refused_user_has_uploaded_nothing(
    api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str, tmp_path: Path
) -> None:
    (tmp_path / "kube.yaml").write_text(api.kube_config(token=f"not-{TOKEN}"))
    ended = run_command("submit", cluster_job())
    assert (ended.code, TOKEN in ended.err) == (4, False)
    assert not uploaded(bucket_uri)


def test_a_webhook_that_knows_no_dry_run_does_not_stand_in_the_way(
    api: StandIn, cluster_job: Write, run_command: Run
) -> None:
    message = "admission webhook x.example does not support dry run"
    api.next(*[passed] * 2, status(400, "BadRequest", message))
    assert run_command("submit", cluster_job()).code == 0
    assert api.all("Job")


def test_a_pod_template_with_a_slip_is_refused_by_the_server(
    api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str
) -> None:
    ended = run_command("submit", cluster_job(cluster={"pod_template": {"spec": {"hostNmae": "x"}}}))
    assert ended.code == 2
    assert 'unknown field "spec.template.spec.hostNmae"' in ended.err
    assert not api.objects
    assert not uploaded(bucket_uri)


def test_pods_that_would_not_be_let_in_are_told_of_before(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    ended = run_command("submit", cluster_job(cluster={"pod_template": {"spec": {"hostNetwork": True}}}))
    assert "restricted Pod Security would refuse the pods: spec.hostNetwork: found true" in ended.err


def test_what_the_server_warns_of_is_said(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    api.warning = "would violate PodSecurity"
    assert "the cluster warns: would violate PodSecurity" in run_command("submit", cluster_job()).err


# The site


def test_the_sites_defaults_come_from_its_config_map(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    api.put(
        {
            "kind": "ConfigMap",
            "metadata": {"name": "classmodels-defaults"},
            "data": {"cluster.yaml": "image: registry.example/classmodels:7\nqueue: lab\nshards: 6\n"},
        }
    )
    assert run_command("submit", cluster_job()).code == 0
    [job] = api.all("Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/classmodels:7"
    assert job["spec"]["completions"] == 3, "the job's own word counts more"


def test_kueue_alone_lets_a_queued_run_begin(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    assert run_command("submit", cluster_job(cluster={"queue": "lab"})).code == 0
    [job], [config_map] = api.all("Job"), api.all("ConfigMap")
    assert job["spec"]["suspend"] is True
    assert config_map["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    run_command("submit", cluster_job(cluster={"queue": "lab"}))
    assert api.all("Job")[0]["spec"]["suspend"] is True


def test_wrong_defaults_of_the_site_are_told_with_their_place(
    api: StandIn, cluster_job: Write, run_command: Run
) -> None:
    data = {"cluster.yaml": "imgae: x\n"}
    api.put({"kind": "ConfigMap", "metadata": {"name": "classmodels-defaults"}, "data": data})
    ended = run_command("submit", cluster_job())
    assert (ended.code, "classmodels-defaults" in ended.err, "imgae" in ended.err) == (2, True, True)


def test_a_namespace_that_is_asked_for_is_where_it_runs(cluster_job: Write, run_command: Run, api: StandIn) -> None:
    api.namespaces = (NAMESPACE, "other")
    assert run_command("submit", cluster_job(), "--namespace", "other").code == 0
    assert api.all("Job", "other")
    assert not api.all("Job")


def test_the_next_commands_find_the_namespace_that_the_job_names(
    cluster_job: Write, run_command: Run, api: StandIn
) -> None:
    api.namespaces = (NAMESPACE, "other")
    said = run_command("submit", cluster_job(cluster={"namespace": "other"})).out
    name = api.all("Job", "other")[0]["metadata"]["name"]
    assert f"classmodels status {name} --namespace other --watch" in said
    assert run_command("status", name).code == 2
    assert run_command("status", name, "--namespace", "other").code == 0
    assert "--namespace" not in run_command("submit", cluster_job(cluster={"namespace": NAMESPACE})).out


# A dry run


def test_a_dry_run_makes_nothing_anywhere(api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str) -> None:
    ended = run_command("submit", cluster_job(), "--dry-run")
    assert (ended.code, ended.out.split()[:2]) == (0, ["would", "submit"])
    assert all("dryRun=All" in path for _, path in api.changes)
    assert len(api.changes) == 2
    assert not api.objects
    assert not uploaded(bucket_uri)


def test_a_dry_run_is_checked_by_the_server(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    wrong = cluster_job(cluster={"pod_template": {"spec": {"hostNmae": "x"}}})
    assert run_command("submit", wrong, "--dry-run").code == 2
    api.forbidden.add(("create", "jobs"))
    assert run_command("submit", cluster_job(), "--dry-run").code == 4


def test_a_dry_run_does_without_a_cluster(
    cluster_job: Write, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    ended = run_command("submit", cluster_job(), "--dry-run")
    assert (ended.code, ended.out.split()[:2]) == (0, ["would", "submit"])
    assert "not checked by a cluster" in ended.err


# What is there already


def test_a_changed_setting_does_not_change_the_run(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    run_command("submit", cluster_job())
    ended = run_command("submit", cluster_job(cluster={"shards": 2, "image": "other:1"}))
    [job] = api.all("Job")
    assert (ended.code, job["spec"]["completions"]) == (0, 3)
    assert "stays as it was submitted" in ended.out
    assert "shards 3, not 2" in ended.out
    assert "not other:1" in ended.out


def test_another_output_is_no_attaching(api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str) -> None:
    run_command("submit", cluster_job())
    ended = run_command("submit", cluster_job(), "--output", f"{bucket_uri}/elsewhere")
    assert ended.code == 2
    assert f"its results go to {bucket_uri}, not to {bucket_uri}/elsewhere" in ended.err


def test_a_run_that_has_failed_says_how_to_go_on(
    api: StandIn, controller: Controller, cluster_job: Write, run_command: Run
) -> None:
    run_command("submit", cluster_job())
    for _ in range(3):
        controller.sync()
        for pod in controller.live(api.all("Job")[0]):
            controller.fail(pod, 3)
    ended = run_command("submit", cluster_job())
    assert ended.code == 3
    assert "it has ended: failed" in ended.out
    assert "classmodels retry" in ended.out
    assert len(api.all("Job")) == 1


def test_a_run_that_is_complete_says_where_its_results_are(
    api: StandIn, controller: Controller, cluster_job: Write, run_command: Run
) -> None:
    run_command("submit", cluster_job())
    for _ in range(3):
        controller.sync()
        for pod in controller.live(api.all("Job")[0]):
            controller.succeed(pod)
    ended = run_command("submit", cluster_job())
    assert ended.code == 0
    assert "the results are there already" in ended.out
    assert "classmodels pull" in ended.out


def test_results_that_are_there_need_no_second_run(
    api: StandIn, cluster_job: Write, run_command: Run, bucket_uri: str
) -> None:
    """As when the Job was deleted some days after its end; and whoever made them."""
    assert run_command("run", cluster_job()).code == 0
    ended = run_command("submit", cluster_job())
    assert ended.code == 0
    assert "nothing was submitted" in ended.out
    assert not api.all("Job")


# Others, and bad days


def test_a_config_map_that_says_something_else_is_made_anew(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    """As after a submission that was cut off, of a job whose files have other names by now."""
    run_command("submit", cluster_job())
    [job] = api.all("Job")
    api.remove(job)
    [config_map] = api.all("ConfigMap")
    config_map["metadata"].pop("ownerReferences")
    wanted, config_map["data"] = config_map["data"], {"job.yaml": "another", "inputs.json": "{}"}
    assert run_command("submit", cluster_job()).code == 0
    assert api.all("ConfigMap")[0]["data"] == wanted


def test_a_config_map_whose_owner_is_gone_is_not_relied_on(
    api: StandIn, controller: Controller, cluster_job: Write, run_command: Run
) -> None:
    """The garbage collector takes it at any moment after the Job was deleted."""
    run_command("submit", cluster_job())
    api.remove(api.all("Job")[0])
    assert run_command("submit", cluster_job()).code == 0
    controller.sync()
    assert api.all("ConfigMap")
    assert len(controller.live(api.all("Job")[0])) == 2


def test_an_answer_that_was_lost_makes_no_second_job(
    api: StandIn, cluster_job: Write, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmodels.cluster.client.PAUSES", (0.01, 0.02))
    api.next(*[passed] * 4, answer_lost, answer_lost, passed, answer_lost, answer_lost)
    assert run_command("submit", cluster_job()).code == 0
    [job], [config_map] = api.all("Job"), api.all("ConfigMap")
    assert job["spec"]["suspend"] is False
    assert config_map["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]


def test_a_server_that_fails_leaves_what_the_next_try_goes_on_with(
    api: StandIn, cluster_job: Write, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmodels.cluster.client.PAUSES", (0.01, 0.02))
    down = status(500, "InternalError")
    for healthy in range(8):
        api.faults.clear()
        api.next(*[passed] * healthy, down, down, down)
        assert run_command("submit", cluster_job()).code == 4
        api.faults.clear()
        assert run_command("submit", cluster_job()).code == 0
        [job], [config_map] = api.all("Job"), api.all("ConfigMap")
        assert job["spec"]["suspend"] is False
        assert config_map["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
        api.objects.clear()


def test_a_run_that_is_being_deleted_is_waited_for(api: StandIn, cluster_job: Write, run_command: Run) -> None:
    run_command("submit", cluster_job())
    api.all("Job")[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ended = run_command("submit", cluster_job())
    assert (ended.code, "is being deleted" in ended.err) == (4, True)
