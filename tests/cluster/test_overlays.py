"""k8s/: what kustomize makes of every overlay and variant, and whether the objects go together."""

import contextlib
import functools
import itertools
import os
import re
import subprocess
import time
import tomllib
from base64 import b64decode
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from classmodels.cluster.objects import ENVIRONMENT, run_objects
from classmodels.cluster.security import violations
from classmodels.cluster.site import DEFAULTS, read_defaults, settings
from classmodels.job.schema import Cluster
from kubectl import kubectl, needs_kubectl
from manifests import pod_specs, problems
from seaweed import GRPC, PARTS, _free_ports, _program

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(
    path.parent.relative_to(K8S)
    for path in K8S.glob("*/**/kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Kustomization"  # a component is nothing by itself
)
VARIANTS = sorted(path.name for path in (K8S / "variants").iterdir())
Objects = dict[tuple[str, str], dict[str, Any]]

pytestmark = needs_kubectl


@functools.cache
def built(folder: Path) -> Objects:
    found = list(yaml.safe_load_all(kubectl("kustomize", str(folder))))
    objects = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(objects) == len(found)
    return objects


def with_variants(folder: Path, overlay: Path, variants: tuple[str, ...], own: str = "") -> Objects:
    """The objects of a site that takes an overlay and variants, and says `own` in its cluster.yaml."""
    return with_components(folder, overlay, tuple(f"variants/{variant}" for variant in variants), own)


def with_components(folder: Path, overlay: Path, components: tuple[str, ...], own: str = "") -> Objects:
    """As `with_variants`, from any components of k8s/."""
    (folder / "k8s").symlink_to(K8S)
    (folder / "site").mkdir()
    (folder / "site" / "cluster.yaml").write_text(own)
    generator = {"name": DEFAULTS, "namespace": "classmodels", "behavior": "merge", "files": ["cluster.yaml"]}
    site = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../k8s/{overlay}"],
        "components": [f"../k8s/{component}" for component in components],
        "configMapGenerator": [generator] if own else [],
    }
    (folder / "site" / "kustomization.yaml").write_text(yaml.safe_dump(site))
    return built(folder / "site")


def job_of(objects: Objects, **cluster: Any) -> dict[str, Any]:
    """The Job of a run that is submitted to the cluster with these objects."""
    return run_objects(
        name="figure-1",
        run12="0123456789ab",
        units=1000,
        output="s3://bucket/prefix",
        job_yaml="",
        inputs_json="",
        settings=settings(Cluster(**cluster), read_defaults(objects["ConfigMap", DEFAULTS]["data"])),
    ).job


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_an_api_server_takes_every_object_of_an_overlay(overlay: Path) -> None:
    for found in built(K8S / overlay).values():
        assert problems(found) == [], found["metadata"]["name"]
        for spec in pod_specs(found):
            assert violations({"spec": spec}) == []


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_a_job_submitted_there_is_valid_and_let_in(overlay: Path) -> None:
    objects = built(K8S / overlay)
    job = job_of(objects)
    assert problems(job) == []
    assert violations(job["spec"]["template"]) == []
    assert job["metadata"]["namespace"] == "classmodels"
    assert ("Namespace", "classmodels") in objects
    assert ("ServiceAccount", job["spec"]["template"]["spec"]["serviceAccountName"]) in objects
    assert ("ConfigMap", ENVIRONMENT) in objects


def test_there_are_the_overlays_and_variants_that_are_promised() -> None:
    assert [str(overlay) for overlay in OVERLAYS] == [
        "base",
        *(f"overlays/{name}" for name in ("cpu", "dev", "kueue", "nvidia")),
    ]
    assert VARIANTS == ["aws-irsa", "private-ca-proxy", "static-keys"]


PAIRS = [variants for count in (1, 2) for variants in itertools.combinations(VARIANTS, count)]


@pytest.mark.parametrize("variants", PAIRS, ids="+".join)
@pytest.mark.parametrize("overlay", [Path("overlays/cpu"), Path("overlays/kueue")], ids=lambda overlay: overlay.name)
def test_variants_go_together_with_overlays(overlay: Path, variants: tuple[str, ...], tmp_path: Path) -> None:
    objects = with_variants(tmp_path, overlay, variants, "image: registry.example/classmodels:7\nttl: 60\n")
    for found in objects.values():
        assert problems(found) == [], found["metadata"]["name"]
    job = job_of(objects)
    assert problems(job) == []
    assert violations(job["spec"]["template"]) == []
    container = job["spec"]["template"]["spec"]["containers"][0]
    # Each has its say, and the site the last word.
    assert (container["image"], job["spec"]["ttlSecondsAfterFinished"]) == ("registry.example/classmodels:7", 60)
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay.name == "kueue")
    assert ("kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]) == (overlay.name == "kueue")
    mounted = any(mount["mountPath"] == "/etc/classmodels-ca" for mount in container["volumeMounts"])
    assert mounted == ("private-ca-proxy" in variants)
    assert (("Secret", "classmodels-s3") in objects) == ("static-keys" in variants)
    annotations = objects["ServiceAccount", "classmodels-worker"]["metadata"].get("annotations", {})
    assert ("eks.amazonaws.com/role-arn" in annotations) == ("aws-irsa" in variants)


def egress(objects: Objects, labels: dict[str, str]) -> list[tuple[str, int]]:
    """Where pods with `labels` may go: (address or peer, port). Raises where nothing holds them back."""
    policies = [one["spec"] for (kind, _), one in objects.items() if kind == "NetworkPolicy"]
    ours = [one for one in policies if one["podSelector"].get("matchLabels", {}).items() <= labels.items()]
    assert any("Egress" in one["policyTypes"] for one in ours)
    found = set()
    for rule in itertools.chain.from_iterable(one.get("egress", []) for one in ours):
        for peer in rule["to"]:
            where = (
                peer["ipBlock"]["cidr"]
                if "ipBlock" in peer
                else next(iter(peer["podSelector"]["matchLabels"].values()))
            )
            found |= {(where, port["port"]) for port in rule["ports"]}
    return sorted(found)


WORKER = {"app.kubernetes.io/name": "classmodels", "classmodels.dev/run": "0123456789ab"}
DNS = [("169.254.20.10/32", 53), ("kube-dns", 53)]
HTTPS = [("0.0.0.0/0", 443), ("::/0", 443)]


@pytest.mark.parametrize(
    ("overlay", "variants", "expected"),
    [
        ("base", (), DNS + HTTPS),
        ("overlays/dev", (), [*DNS, *HTTPS, ("seaweedfs", 8333)]),
        ("overlays/nvidia", ("static-keys",), DNS + HTTPS),
        ("overlays/nvidia", ("aws-irsa",), [*DNS, *HTTPS, ("169.254.170.23/32", 80), ("fd00:ec2::23/128", 80)]),
        ("overlays/nvidia", ("private-ca-proxy",), [*DNS, ("192.0.2.10/32", 3128)]),
    ],
)
def test_workers_go_where_they_must_and_nowhere_else(
    overlay: str, variants: tuple[str, ...], expected: list[tuple[str, int]], tmp_path: Path
) -> None:
    assert egress(with_variants(tmp_path, Path(overlay), variants), WORKER) == sorted(expected)


def test_only_the_nightly_run_asks_the_api_server() -> None:
    nightly = egress(built(K8S / "base"), WORKER | {"app.kubernetes.io/component": "nightly"})
    assert set(nightly) - set(egress(built(K8S / "base"), WORKER)) == {("0.0.0.0/0", 6443), ("::/0", 6443)}


def test_nobody_else_goes_anywhere_and_nobody_comes_in() -> None:
    objects = built(K8S / "base")
    assert egress(objects, {"app.kubernetes.io/name": "other"}) == []
    assert not any("ingress" in one["spec"] for (kind, _), one in objects.items() if kind == "NetworkPolicy")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_no_pod_gets_a_token_by_itself(overlay: Path) -> None:
    objects = built(K8S / overlay)
    accounts = [one for (kind, _), one in objects.items() if kind == "ServiceAccount"]
    assert {one["metadata"]["name"] for one in accounts} == {
        f"classmodels-{who}" for who in ("worker", "submitter", "nightly")
    }
    assert all(one["automountServiceAccountToken"] is False for one in accounts)
    pods = [spec for one in objects.values() for spec in pod_specs(one)]
    assert all(spec["automountServiceAccountToken"] is False for spec in pods)


def test_roles_give_no_more_than_the_commands_need() -> None:
    objects = built(K8S / "base")
    given = {
        (resource, verb)
        for rule in objects["Role", "classmodels-submitter"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    change = ("create", "get", "list", "patch", "delete")
    assert given == {
        *((resource, verb) for resource in ("jobs", "configmaps") for verb in change),
        *(("pods", verb) for verb in ("get", "list")),
        ("pods/log", "get"),
        ("events", "list"),
    }
    assert not [kind for kind, _ in objects if kind.startswith("Cluster")]
    assert not [
        who for one in objects.values() for who in one.get("subjects", []) if who["name"] == "classmodels-worker"
    ]


def test_every_binding_names_a_role_and_an_account_that_are_there() -> None:
    objects = built(K8S / "base")
    bindings = [one for (kind, _), one in objects.items() if kind == "RoleBinding"]
    assert len(bindings) == 2
    for binding in bindings:
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in objects
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["name"]) in objects


def test_kueue_covers_every_resource_that_a_worker_requests() -> None:
    objects = built(K8S / "overlays" / "kueue")
    job = job_of(objects)
    local = objects["LocalQueue", job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]]
    queue = objects["ClusterQueue", local["spec"]["clusterQueue"]]
    (group,) = queue["spec"]["resourceGroups"]
    requests = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert set(requests) <= set(group["coveredResources"])
    for flavor in group["flavors"]:
        assert ("ResourceFlavor", flavor["name"]) in objects
        assert [one["name"] for one in flavor["resources"]] == group["coveredResources"]
    assert "namespace" not in queue["metadata"]


def test_who_submits_may_read_what_kueue_says_of_a_run_that_waits() -> None:
    rules = built(K8S / "overlays" / "kueue")["Role", "classmodels-submitter"]["rules"]
    assert rules[:-1] == built(K8S / "base")["Role", "classmodels-submitter"]["rules"]
    assert rules[-1] == {"apiGroups": ["kueue.x-k8s.io"], "resources": ["workloads"], "verbs": ["list"]}


@pytest.mark.parametrize("components", [("variants/private-ca-proxy", "nightly"), ("nightly",)], ids="+".join)
def test_the_nightly_run_trusts_the_sites_own_authorities_too(components: tuple[str, ...], tmp_path: Path) -> None:
    """Its environment is that of the workers, and names the file in which they are."""
    objects = with_components(tmp_path, Path("overlays/cpu"), components)
    pod = objects["CronJob", "classmodels-nightly"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"configMapRef": {"name": ENVIRONMENT, "optional": True}} in container["envFrom"]
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["volumes"]}
    config_map = volumes[mounts["/etc/classmodels-ca"]]["configMap"]
    if len(components) == 1:
        assert config_map["optional"] is True
        return
    environment = objects["ConfigMap", ENVIRONMENT]["data"]
    for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        folder, _, file = environment[name].rpartition("/")
        assert folder == "/etc/classmodels-ca"
        assert file in objects["ConfigMap", config_map["name"]]["data"]


def test_the_laptops_bucket_is_where_its_workers_look() -> None:
    objects = built(K8S / "overlays" / "dev")
    endpoint = objects["ConfigMap", ENVIRONMENT]["data"]["AWS_ENDPOINT_URL_S3"]
    host, port = re.fullmatch(r"http://([a-z]+):(\d+)", endpoint).groups()
    service, pod = objects["Service", host], objects["Deployment", host]["spec"]["template"]
    assert service["spec"]["ports"][0]["port"] == int(port)
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    container = pod["spec"]["containers"][0]
    assert f"-s3.port={port}" in container["args"]
    secret = container["envFrom"][0]["secretRef"]["name"]
    assert ("Secret", secret) in objects
    assert {"secretRef": {"name": secret, "optional": True}} in job_of(objects)["spec"]["template"]["spec"][
        "containers"
    ][0]["envFrom"]


def test_the_laptops_bucket_is_there_once_its_server_has_started(tmp_path: Path) -> None:
    """SeaweedFS as the Deployment starts it, but for ports that are free here: it knows the Secret's keys alone."""
    objects = built(K8S / "overlays" / "dev")
    (container,) = objects["Deployment", "seaweedfs"]["spec"]["template"]["spec"]["containers"]
    secret = objects["Secret", "classmodels-s3"]["data"]
    key, word = (b64decode(secret[f"AWS_{name}"]).decode() for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    ports = dict(zip(PARTS, _free_ports(len(PARTS)), strict=True))
    moved = [f"-{part}.port={port}" for part, port in ports.items()] + [f"-dir={tmp_path}", "-ip.bind=127.0.0.1"]
    command = [_program(), *container["command"][1:], *container["args"], *moved]
    environment = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": word, "PATH": os.environ["PATH"]}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = partial(boto3.client, "s3", endpoint_url=f"http://127.0.0.1:{ports['s3']}", region_name="us-east-1")
    try:
        ours = client(aws_access_key_id=key, aws_secret_access_key=word)
        for _ in range(150):
            with contextlib.suppress(BotoCoreError, ClientError):
                if [bucket["Name"] for bucket in ours.list_buckets()["Buckets"]] == ["classmodels"]:
                    break
            time.sleep(0.2)
        ours.put_object(Bucket="classmodels", Key="a", Body=b"a")
        with pytest.raises(ClientError, match="NoSuchBucket"):
            ours.put_object(Bucket="clasmodels", Key="a", Body=b"a")
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            client(aws_access_key_id=key, aws_secret_access_key="x").list_buckets()
    finally:
        server.terminate()
        server.wait()
        for part, port in ports.items():
            for name in (f"{part}-{port}", f"{part}-grpc-{port + GRPC}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)


def test_the_image_of_the_base_is_the_version_of_this_tree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    data = yaml.safe_load((K8S / "base" / "cluster.yaml").read_text())
    assert data["image"] == f"classmodels:{version}"


@pytest.mark.parametrize("name", ["base/secret.example.yaml", "examples/prometheus-rule.yaml"])
def test_the_examples_are_objects_that_nothing_applies(name: str) -> None:
    (found,) = yaml.safe_load_all((K8S / name).read_text())
    assert problems(found) == []
    assert not any(
        (found["kind"], found["metadata"]["name"]) in built(K8S / overlay) for overlay in ("base", "overlays/kueue")
    )


def test_every_alert_asks_for_metrics_that_kube_state_metrics_has() -> None:
    known = {"kube_job_failed", "kube_job_status_failed", "kube_job_status_active", "kube_job_status_succeeded"}
    known |= {"kube_job_status_start_time", "kube_pod_status_phase", "kube_pod_deletion_timestamp"}
    rule = yaml.safe_load((K8S / "examples" / "prometheus-rule.yaml").read_text())
    alerts = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    assert {name for one in alerts for name in re.findall(r"kube_\w+", one["expr"])} <= known
    assert all('namespace="classmodels"' in one["expr"] for one in alerts)
