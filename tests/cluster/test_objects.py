"""The objects of a run: what an API server takes, and what the run's design asks of them."""

import copy
import json
import zoneinfo
from collections.abc import Callable
from typing import Any

import pytest

from classmodels.cluster.objects import RunObjects, retried, run_objects
from classmodels.cluster.security import violations
from classmodels.cluster.site import settings
from classmodels.errors import InputError
from classmodels.job.schema import Cluster
from manifests import problems


def make(units: int = 1000, *, suspend: bool = False, name: str = "figure-1", **cluster: Any) -> RunObjects:
    return run_objects(
        name=name,
        run12="0123456789ab",
        units=units,
        output="s3://bucket/prefix",
        job_yaml="apiVersion: classmodels/v1\n",
        inputs_json='{"format": 1, "files": []}',
        settings=settings(Cluster(**cluster)),
        suspend=suspend,
    )


def worker(objects: RunObjects) -> dict[str, Any]:
    containers: list[dict[str, Any]] = objects.job["spec"]["template"]["spec"]["containers"]
    return next(container for container in containers if container["name"] == "worker")


def environment(objects: RunObjects) -> dict[str, str]:
    return {one["name"]: one.get("value") for one in worker(objects)["env"]}


EVERYTHING = {
    "image": "registry.example:5000/team/classmodels:0.1.0@sha256:" + 64 * "a",
    "namespace": "research",
    "shards": 40,
    "parallelism": 12,
    "gpu": {"resource": "nvidia.com/mig-1g.10gb", "count": 1},
    "resources": {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"cpu": 4, "memory": "6Gi"}},
    "queue": "team-a",
    "priority_class": "low",
    "service_account": "other",
    "s3_secret": "keys",
    "ttl": 60,
    "node_selector": {"zone": "a"},
    "tolerations": ({"key": "spot", "operator": "Exists", "effect": "NoSchedule"},),
    "volumes": ({"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}, "mountPath": "/weights"},),
    "pod_template": {
        "spec": {"imagePullSecrets": [{"name": "pull"}], "containers": [{"name": "worker", "tty": False}]}
    },
}


@pytest.mark.parametrize("cluster", [{}, {"gpu": {"count": 0}}, EVERYTHING], ids=["defaults", "cpu", "everything"])
@pytest.mark.parametrize("units", [1, 600_000])
@pytest.mark.parametrize("name", ["A_job.with " + 80 * "long-name-", "9"])
def test_an_api_server_takes_the_objects(cluster: dict[str, Any], units: int, name: str) -> None:
    objects = make(units, name=name, **cluster)
    assert problems(objects.config_map) == []
    assert problems(objects.job) == []
    assert problems(retried(objects.job, 30)) == []
    assert violations(objects.job["spec"]["template"]) == []


def test_both_objects_carry_the_name_the_namespace_and_the_labels_of_the_run() -> None:
    objects = make(namespace="research")
    for found in (objects.config_map, objects.job):
        assert found["metadata"]["name"] == "figure-1-0123456789ab"
        assert found["metadata"]["namespace"] == "research"
        assert found["metadata"]["labels"]["classmodels.dev/run"] == "0123456789ab"
        assert found["metadata"]["annotations"]["classmodels.dev/output"] == "s3://bucket/prefix"
    assert objects.job["spec"]["template"]["metadata"]["labels"]["classmodels.dev/run"] == "0123456789ab"
    assert objects.config_map["immutable"] is True


def test_a_retry_is_the_same_job_by_another_name() -> None:
    objects = make(**EVERYTHING)
    made = copy.deepcopy(objects.job)
    again = retried(json.loads(objects.config_map["data"]["manifest.json"]), 2)
    assert objects.job == made
    assert again["metadata"]["name"] == "figure-1-0123456789ab-r2"
    attempts = (again["metadata"], again["spec"]["template"]["metadata"])
    assert [meta["labels"].pop("classmodels.dev/attempt") for meta in attempts] == ["2", "2"]
    assert again["spec"].pop("suspend") is True
    for meta in (made["metadata"], made["spec"]["template"]["metadata"]):
        del meta["labels"]["classmodels.dev/attempt"]
    del made["spec"]["suspend"], made["metadata"]["name"], again["metadata"]["name"]
    assert again == made


@pytest.mark.parametrize(
    ("units", "cluster", "shards", "parallelism"),
    [
        (1, {}, 1, 1),
        (50, {}, 1, 1),
        (51, {}, 2, 2),
        (1000, {}, 20, 8),
        (600_000, {}, 10_000, 8),
        (1000, {"shards": 3}, 3, 3),
        (2, {"shards": 3, "parallelism": 100}, 2, 2),  # never a pod for nothing
        (1000, {"parallelism": 15}, 20, 15),
    ],
)
def test_shards_and_parallelism(units: int, cluster: dict[str, Any], shards: int, parallelism: int) -> None:
    objects = make(units, **cluster)
    spec = objects.job["spec"]
    assert (spec["completions"], spec["parallelism"]) == (shards, parallelism)
    command = worker(objects)["command"]
    assert command[command.index("--shards") + 1] == str(shards)


def decided(policy: dict[str, Any], code: int, condition: str | None = None) -> str:
    """What the Job controller does with a pod that ended: the first rule that matches, else it counts."""
    for rule in policy["rules"]:
        if "onPodConditions" in rule:
            if any(one["type"] == condition and one["status"] == "True" for one in rule["onPodConditions"]):
                return str(rule["action"])
        elif (code in rule["onExitCodes"]["values"]) == (rule["onExitCodes"]["operator"] == "In"):
            return str(rule["action"])
    return "Count"


@pytest.mark.parametrize(
    ("code", "condition", "action"),
    [
        (2, None, "FailJob"),
        (3, None, "FailIndex"),
        (130, None, "Ignore"),
        (4, None, "Count"),
        (1, None, "Count"),
        (137, None, "Count"),  # out of memory
        (137, "DisruptionTarget", "Ignore"),
        (2, "DisruptionTarget", "Ignore"),
    ],
)
def test_what_becomes_of_a_pod_that_ended(code: int, condition: str | None, action: str) -> None:
    spec = make().job["spec"]
    assert decided(spec["podFailurePolicy"], code, condition) == action
    assert spec["backoffLimitPerIndex"] == 3
    assert "maxFailedIndexes" not in spec


def test_gpus_are_requested_and_insisted_on() -> None:
    objects = make(gpu={"resource": "amd.com/gpu", "count": 1})
    for part in ("requests", "limits"):
        assert worker(objects)["resources"][part]["amd.com/gpu"] == "1"
    assert "--require-cuda" in worker(objects)["command"]


def test_without_gpus_nothing_is_said_of_them() -> None:
    objects = make(gpu={"count": 0})
    assert "gpu" not in str(worker(objects)["resources"])
    assert "--require-cuda" not in worker(objects)["command"]


def test_every_path_to_write_to_is_in_scratch_and_the_rest_is_read_only() -> None:
    objects = make()
    mounts = {mount["name"]: mount for mount in worker(objects)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in objects.job["spec"]["template"]["spec"]["volumes"]}
    scratch = mounts["scratch"]["mountPath"]
    assert all(environment(objects)[name].startswith(scratch) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"))
    assert volumes["scratch"]["emptyDir"] == {"sizeLimit": "10Gi"}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert mounts["job"]["readOnly"]
    assert int(environment(objects)["CLASSMODELS_CACHE_SIZE"]) < 10 * 2**30


def test_scratch_is_as_large_as_the_disk_that_is_asked_for() -> None:
    objects = make(resources={"limits": {"ephemeral-storage": "100Gi"}})
    volumes = {volume["name"]: volume for volume in objects.job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["scratch"]["emptyDir"]["sizeLimit"] == "100Gi"
    assert int(environment(objects)["CLASSMODELS_CACHE_SIZE"]) == 75 * 2**30


@pytest.mark.parametrize(
    ("resources", "threads"),
    [
        ({}, "2"),
        ({"requests": {"cpu": "500m"}}, "1"),
        ({"requests": {"cpu": "3.9"}}, "3"),
        ({"requests": {"cpu": 1}, "limits": {"cpu": 8}}, "8"),
    ],
)
def test_threads_follow_the_processors_of_the_pod_and_not_of_the_node(resources: dict[str, Any], threads: str) -> None:
    assert environment(make(resources=resources))["OMP_NUM_THREADS"] == threads


def test_the_digest_of_the_image_reaches_the_records() -> None:
    assert environment(make(image="a/b:1@sha256:00"))["CLASSMODELS_IMAGE_DIGEST"] == "sha256:00"
    assert "CLASSMODELS_IMAGE_DIGEST" not in environment(make(image="a/b:1"))


def test_under_kueue_the_job_waits_for_its_quota_and_may_start_with_less() -> None:
    objects = make(queue="team-a")
    assert objects.job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert objects.job["metadata"]["annotations"]["kueue.x-k8s.io/job-min-parallelism"] == "1"
    assert objects.job["spec"]["suspend"] is True


def test_kueue_is_not_told_that_one_pod_may_be_fewer() -> None:
    assert "kueue.x-k8s.io/job-min-parallelism" not in make(1, queue="team-a").job["metadata"]["annotations"]


@pytest.mark.parametrize("suspend", [True, False])
def test_a_job_is_suspended_where_that_is_asked(suspend: bool) -> None:
    assert make(suspend=suspend).job["spec"]["suspend"] is suspend


def test_a_volume_is_mounted_where_it_says_and_read_only_unless_it_says() -> None:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "d"}, "mountPath": "/data"}
    objects = make(volumes=(volume, volume | {"name": "out", "mountPath": "/out", "readOnly": False}))
    assert problems(objects.job) == []
    mounts = {mount["name"]: mount for mount in worker(objects)["volumeMounts"]}
    assert (mounts["data"]["readOnly"], mounts["out"]["readOnly"]) == (True, False)


def test_proxy_and_ca_come_by_the_pod_template() -> None:
    patch = {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "containers": [
                {
                    "name": "worker",
                    "env": [
                        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
                        {"name": "HOME", "value": "/tmp/me"},
                    ],
                    "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
                }
            ],
            "volumes": [{"name": "ca", "configMap": {"name": "ca"}}, {"name": "shm", "emptyDir": {"sizeLimit": "4Gi"}}],
        },
    }
    objects = make(pod_template=patch)
    assert problems(objects.job) == []
    assert violations(objects.job["spec"]["template"]) == []
    assert environment(objects) | {"HTTPS_PROXY": "http://proxy:3128", "HOME": "/tmp/me"} == environment(objects)
    volumes = {volume["name"]: volume for volume in objects.job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}
    assert "scratch" in volumes


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"spec": {"restartPolicy": "OnFailure"}}, "restartPolicy: expected Never"),
        ({"spec": {"containers": [{"name": "worker", "$patch": "delete"}]}}, "expected one called 'worker'"),
        ({"containers": []}, "pod_template: found 'containers', expected metadata or spec"),
        ({"spec": {"volumes": [{"emptyDir": {}}]}}, "spec.volumes.0: found {'emptyDir': {}}, expected a mapping with"),
        ({"spec": {"$retainKeys": ["a"]}}, "pod_template.spec: found $retainKeys"),
    ],
)
def test_a_pod_template_that_breaks_the_job_is_refused(patch: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("$", r"\$").replace("{", r"\{")):
        make(pod_template=patch)


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for key in above:
            found = found[int(key) if key.isdecimal() else key]  # type: ignore[index]
        if value is ...:
            del found[last]
        else:
            found[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.template.spec.restartPolicy", "never"),
        ("spec.template.spec.restartPolicy", "OnFailure"),
        ("spec.podReplacementPolicy", "TerminatingOrFailed"),
        ("spec.podFailurePolicy.rules.0.action", "ignore"),
        ("spec.podFailurePolicy.rules.1.onExitCodes.containerName", "main"),
        ("spec.podFailurePolicy.rules.1.onExitCodes.values", [3, 2]),
        ("spec.podFailurePolicy.rules.1.onExitCodes.operator", "Is"),
        ("spec.backoffLimitPerIndex", ...),
        ("spec.completionMode", "NonIndexed"),
        ("spec.completions", 1_000_000),
        ("spec.suspend", False),
        ("spec.parallelism", 1),
        ("spec.template.spec.containers.0.image", "classmodels:latest"),
        ("spec.template.spec.containers.0.image", "classmodels"),
        ("spec.template.spec.containers.0.resources.requests.memory", "100Gi"),
        ("spec.template.spec.containers.0.volumeMounts.0.name", "nothing"),
        ("spec.template.spec.containers.0.env.0.name", "A-B"),
        ("spec.template.spec.volumes.0.emptyDir", {}),
        ("metadata.name", "a" * 62),
        ("metadata.labels.team", "x/y"),
    ],
)
def test_the_rules_that_schemas_do_not_hold_are_looked_at(path: str, value: Any) -> None:
    """Of the tests' own judge: each of these passes the schemas, and an API server, or Kueue, would refuse it."""
    job = copy.deepcopy(make(queue="team-a").job)
    changed(path, value)(job)
    found = problems(job)
    assert found
    assert not [one for one in found if one.startswith("schema")]


@pytest.mark.parametrize(
    ("zone", "known"), [("Europe/Berlin", True), ("Etc/UTC", True), ("Europe/Nowhere", False), ("CEST", False)]
)
def test_time_zones_are_looked_at_too(zone: str, known: bool) -> None:
    if not zoneinfo.available_timezones():
        pytest.skip("this machine has no list of time zones")
    template = {"spec": {"template": make().job["spec"]["template"]}}
    cron = {"schedule": "0 2 * * *", "timeZone": zone, "concurrencyPolicy": "Forbid", "jobTemplate": template}
    found = problems({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, "spec": cron})
    assert found == ([] if known else [f"{zone!r} is no time zone"])
