"""What violates the restricted Pod Security Standard, field by field of its published table."""

import copy
from typing import Any

import pytest

from classmodels.cluster.objects import run_objects
from classmodels.cluster.security import violations
from classmodels.cluster.site import settings
from classmodels.job.schema import Cluster


def template() -> dict[str, Any]:
    """The smallest pod template that restricted Pod Security lets in."""
    container = {
        "name": "worker",
        "image": "a:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"metadata": {}, "spec": {"securityContext": security, "containers": [container]}}


def laid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in over.items():
        both[key] = laid(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def test_the_smallest_is_let_in() -> None:
    assert violations(template()) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"hostNetwork": True},
        {"hostPID": True},
        {"hostIPC": True},
        {"securityContext": {"runAsNonRoot": False}},
        {"securityContext": {"runAsUser": 0}},
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        {"securityContext": {"seccompProfile": None}},
        {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
        {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
        {"securityContext": {"seLinuxOptions": {"user": "system_u"}}},
        {"securityContext": {"seLinuxOptions": {"role": "sysadm_r"}}},
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        *(
            {"volumes": [{"name": "a", kind: {}}]}
            for kind in ("hostPath", "nfs", "gitRepo", "iscsi", "cephfs", "flexVolume", "awsElasticBlockStore", "local")
        ),
    ],
    ids=str,
)
def test_what_a_pod_must_not_say(spec: dict[str, Any]) -> None:
    found = template()
    found["spec"] = laid(found["spec"], spec)
    (said,) = violations(found)
    assert said.startswith("spec.")


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize(
    "container",
    [
        {"securityContext": {"privileged": True}},
        {"securityContext": {"allowPrivilegeEscalation": True}},
        {"securityContext": {"allowPrivilegeEscalation": None}},
        {"securityContext": {"capabilities": {"drop": ["NET_RAW"]}}},
        {"securityContext": {"capabilities": None}},
        {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
        {"securityContext": {"runAsNonRoot": False}},
        {"securityContext": {"runAsUser": 0}},
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        {"securityContext": {"procMount": "Unmasked"}},
        {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
        {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        {"ports": [{"containerPort": 80, "hostPort": 80}]},
        {"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}},
        {"lifecycle": {"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}}},
    ],
    ids=str,
)
def test_what_no_container_must_say(kind: str, container: dict[str, Any]) -> None:
    found = template()
    bad = laid(found["spec"]["containers"][0] | {"name": "bad"}, container)
    found["spec"][kind] = [*found["spec"].get(kind, []), bad]
    (said,) = violations(found)
    assert said.startswith(f"spec.{kind}.bad.")


def test_a_container_without_a_security_context_lacks_two_things() -> None:
    found = template()
    found["spec"]["initContainers"] = [{"name": "bare", "image": "a:1"}]
    assert [said.split(":")[0] for said in violations(found)] == [
        "spec.initContainers.bare.securityContext.allowPrivilegeEscalation",
        "spec.initContainers.bare.securityContext.capabilities.drop",
    ]


def test_an_old_apparmor_annotation_counts() -> None:
    found = template()
    key = "container.apparmor.security.beta.kubernetes.io/worker"
    found["metadata"]["annotations"] = {key: "unconfined"}
    assert violations(found) == [
        f"metadata.annotations.{key}: found 'unconfined', expected runtime/default or localhost/..."
    ]
    found["metadata"]["annotations"] = {key: "runtime/default"}
    assert violations(found) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"securityContext": {"runAsUser": 1000, "fsGroup": 0}},
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}},
        {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}},
        {"securityContext": {"seLinuxOptions": {"type": "container_t", "level": "s0"}}},
        {
            "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "a"}},
                {"name": "b", "csi": {"driver": "d"}},
            ]
        },
        {"hostNetwork": False, "volumes": None},
    ],
    ids=str,
)
def test_what_is_let_in(spec: dict[str, Any]) -> None:
    found = template()
    found["spec"] = laid(found["spec"], spec)
    assert violations(found) == []


def test_each_container_may_say_itself_what_the_pod_does_not() -> None:
    found = template()
    own = found["spec"].pop("securityContext")
    assert len(violations(copy.deepcopy(found))) == 2
    found["spec"]["containers"][0]["securityContext"] |= own
    assert violations(found) == []


def test_a_net_bind_service_may_be_added() -> None:
    found = template()
    found["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_BIND_SERVICE"]
    assert violations(found) == []


def test_what_a_pod_template_brings_in_is_seen() -> None:
    patch = {
        "spec": {
            "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
            "containers": [{"name": "side", "image": "b:1"}],
        }
    }
    objects = run_objects(
        name="a",
        run12="0123456789ab",
        units=1,
        output="s3://bucket/p",
        job_yaml="",
        inputs_json="",
        settings=settings(Cluster(pod_template=patch)),
    )
    assert [
        said.partition(": found")[0].partition(": expected")[0] for said in violations(objects.job["spec"]["template"])
    ] == [
        "spec.volumes.host",
        "spec.containers.side.securityContext.allowPrivilegeEscalation",
        "spec.containers.side.securityContext.capabilities.drop",
    ]
