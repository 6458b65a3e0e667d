"""The CronJob of the nights: what it promises a cluster, and that its template is one."""

import shutil
import subprocess
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from classmodels.cli.nightly import nightly
from classmodels.nights.template import read_template

ROOT = Path(__file__).parents[1]
NIGHTLY = ROOT / "k8s" / "nightly"


@pytest.fixture(scope="module")
def cronjob() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((NIGHTLY / "cronjob.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def pod(cronjob: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def test_it_is_a_cronjob_by_every_kubernetes_since_podfailurepolicy(cronjob: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for version in ("1.31", "1.34"):
        validate.validate(cronjob, version, strict=True)


def test_nights_do_not_overlap_and_are_not_stopped_for_good(cronjob: dict[str, Any]) -> None:
    spec = cronjob["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert 600 <= spec["startingDeadlineSeconds"] < 86_400
    assert ZoneInfo(spec["timeZone"])
    assert spec["successfulJobsHistoryLimit"] <= 7
    job = spec["jobTemplate"]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy needs it
    assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore", "FailJob"]


def test_the_pod_is_let_into_a_restricted_namespace_and_alone_has_a_token(pod: dict[str, Any]) -> None:
    security = pytest.importorskip("classmodels.cluster.security")
    assert security.violations({"spec": pod}) == []
    assert pod["serviceAccountName"] == "classmodels-nightly"
    assert pod["automountServiceAccountToken"] is True


def test_its_command_line_is_one(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    command, *arguments = container["args"]
    assert command == "nightly"
    with nightly.make_context("nightly", list(arguments)) as context:
        assert context.params["submit"] is True
        assert context.params["checkpoints"] == "$(CHECKPOINTS)"
    assert {one["name"] for one in container["env"]} >= {"CHECKPOINTS", "OUTPUT", "CLASSMODELS_WEBHOOK"}


def test_the_template_is_one_and_the_same_as_among_the_jobs() -> None:
    template = read_template(NIGHTLY / "nightly.yaml")
    assert list(template.sources) == ["mine"]
    assert (ROOT / "jobs" / "nightly.yaml").read_text() == (NIGHTLY / "nightly.yaml").read_text()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_it_is_added_to_an_overlay_and_waits_in_the_queue_under_kueue(tmp_path: Path) -> None:
    shutil.copytree(NIGHTLY, tmp_path / "nightly")
    components = ["../nightly", "../nightly/kueue"]
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(yaml.safe_dump({"components": components}))
    built = subprocess.run(["kubectl", "kustomize", tmp_path / "overlay"], capture_output=True, check=True, text=True)
    objects = {one["kind"]: one for one in yaml.safe_load_all(built.stdout)}
    assert set(objects) == {"CronJob", "ConfigMap"}
    assert objects["ConfigMap"]["data"].keys() == {"nightly.yaml", "checkpoints", "output"}
    labels = objects["CronJob"]["spec"]["jobTemplate"]["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "classmodels"
