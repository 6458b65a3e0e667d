"""The strategic merge of pod templates, against kubectl's own and against the API's types."""

import copy
import json
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import pytest
import yaml

from classmodels.cluster.merge import MERGE_KEYS, strategic_merge
from classmodels.errors import InputError
from kubectl import kubectl, needs_kubectl
from manifests import OLDEST

BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1", "b": "2"}},
    "spec": {
        "restartPolicy": "Never",
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "one"}],
        "containers": [
            {
                "name": "worker",
                "image": "a:1",
                "command": ["run", "it"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "envFrom": [{"configMapRef": {"name": "x"}}],
                "ports": [{"containerPort": 80, "name": "http"}],
                "resources": {"limits": {"memory": "1Gi"}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
            },
            {"name": "side", "image": "b:1"},
        ],
        "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
    },
}


def worker(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "worker", **fields}]}}


PATCHES = {
    "nothing": {},
    "labels": {"metadata": {"labels": {"b": "3", "c": "4"}}},
    "a null removes": {"metadata": {"labels": {"a": None}}, "spec": {"nodeSelector": None}},
    "env by name": worker(env=[{"name": "C", "value": "3"}, {"name": "B", "value": "9"}]),
    "a variable goes": worker(env=[{"name": "A", "$patch": "delete"}]),
    "all variables are replaced": worker(env=[{"$patch": "replace"}, {"name": "C", "value": "3"}]),
    "envFrom is replaced": worker(envFrom=[{"secretRef": {"name": "y"}}]),
    "commands are replaced": worker(command=["other"]),
    "ports by number": worker(ports=[{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81}]),
    "mounts by path": worker(
        volumeMounts=[{"name": "other", "mountPath": "/tmp"}, {"name": "more", "mountPath": "/m"}]
    ),
    "resources by key": worker(resources={"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}),
    "another container": {"spec": {"containers": [{"name": "new", "image": "c:1"}]}},
    "a container goes": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}},
    "an init container": {"spec": {"initContainers": [{"name": "first", "image": "c:1"}]}},
    "tolerations are replaced": {"spec": {"tolerations": [{"key": "b"}]}},
    "pull secrets by name": {"spec": {"imagePullSecrets": [{"name": "two"}, {"name": "one"}]}},
    "a volume's size": {"spec": {"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}}]}},
    "a volume of another kind": {
        "spec": {"volumes": [{"name": "scratch", "emptyDir": None, "persistentVolumeClaim": {"claimName": "c"}}]}
    },
    "a mapping is replaced": {"spec": {"nodeSelector": {"$patch": "replace", "disk": "ssd"}}},
    "a new mapping": {"spec": {"securityContext": {"fsGroup": 7}, "affinity": {"nodeAffinity": {}}}},
}


def unordered(value: Any, name: str = "") -> Any:
    """`value` without the order of the lists that are merged, which means nothing there."""
    if isinstance(value, dict):
        return {key: unordered(item, key) for key, item in value.items()}
    if isinstance(value, list):
        items = [unordered(item) for item in value]
        return sorted(items, key=lambda item: str(item[MERGE_KEYS[name]])) if name in MERGE_KEYS else items
    return value


@needs_kubectl
@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_does_what_it_does_in_kubectl(name: str, tmp_path: Path) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": BASE}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    patch = json.dumps({"spec": {"template": PATCHES[name]}})
    options = ("--local", "--type", "strategic", "--output", "json", "--patch", patch)
    theirs = json.loads(kubectl("patch", "--filename", str(tmp_path / "job.yaml"), *options))["spec"]["template"]
    assert unordered(strategic_merge(BASE, PATCHES[name])) == unordered(theirs)


@pytest.mark.parametrize("name", PATCHES)
def test_neither_side_is_changed(name: str) -> None:
    base, patch = copy.deepcopy(BASE), copy.deepcopy(PATCHES[name])
    strategic_merge(base, patch)
    assert (base, patch) == (BASE, PATCHES[name])


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (
            worker(env=[{"value": "1"}]),
            r"pod_template.spec.containers.0.env.0: found {'value': '1'}, expected .* 'name'",
        ),
        (worker(env=["A=1"]), r"pod_template.spec.containers.0.env.0: found 'A=1'"),
        (
            {"spec": {"$patch": "remove"}},
            r"pod_template.spec: found \$patch: 'remove', expected merge, replace or delete",
        ),
        (
            {"$setElementOrder/volumes": []},
            r"found \$setElementOrder/volumes, expected fields of a pod template or \$patch",
        ),
    ],
)
def test_what_cannot_be_merged_is_said(patch: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        strategic_merge(BASE, patch)


def test_the_lists_that_are_merged_are_those_of_the_api() -> None:
    path = f"kubernetes-json-schema/v{OLDEST}.0-local/_definitions.json"
    definitions = kubernetes_validate.utils.schema_contents(path, OLDEST)["$defs"]
    keys: dict[str, set[str | None]] = {}
    seen: set[str] = set()

    def look(schema: dict[str, Any]) -> None:
        if reference := schema.get("$ref"):
            name = reference.rpartition("/")[2]
            if name not in seen:
                seen.add(name)
                look(definitions[name])
        for field, value in schema.get("properties", {}).items():
            if "array" in str(value.get("type")):
                keys.setdefault(field, set()).add(value.get("x-kubernetes-patch-merge-key"))
                look(value["items"])
            else:
                look(value)

    look(definitions["io.k8s.api.core.v1.PodTemplateSpec"])
    assert len(seen) > 50
    assert {field: key for field, key in keys.items() if key != {None}} == {f: {k} for f, k in MERGE_KEYS.items()}
