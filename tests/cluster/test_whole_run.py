"""From `submit` to `pull`, with real workers in the pods' place and SeaweedFS for a bucket."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from classmodels.cluster import watch
from classmodels.store import open_store
from kube.api import StandIn
from kube.controller import Controller
from kube.kubelet import Kubelet

PASSED_ON = ("AWS_", "OMP_NUM_THREADS")


@pytest.fixture
def kubelet(
    controller: Controller, tmp_path: Path, bucket_uri: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kubelet]:
    monkeypatch.setattr(watch, "EVERY", 0.3)
    environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    kubelet = Kubelet(controller, tmp_path / "pods", **environment)
    kubelet.start()
    yield kubelet
    kubelet.stop()


def images(folder: Path) -> dict[str, str]:
    """The digest of each unit's image."""
    found = (folder / "units").rglob("*.png")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_job_is_submitted_followed_and_pulled(
    api: StandIn,
    kubelet: Kubelet,
    cluster_job: Callable[..., Path],
    run_command: Callable[..., Any],
    bucket_uri: str,
    tmp_path: Path,
) -> None:
    job = cluster_job(panel="all")
    watched = run_command("submit", job, "--watch")
    assert watched.code == 0, watched.out + watched.err + run_command("logs").out
    assert "complete; 6 of 6 done; 3 done" in watched.out
    pull = watched.out.splitlines()[-1].split()
    assert pull[:2] == ["classmodels", "pull"]
    pulled = run_command("pull", pull[2], tmp_path / "pulled")
    assert pulled.code == 0
    assert run_command("verify", tmp_path / "pulled").code == 0
    # The same job in one process, on this machine, makes the very same images.
    assert run_command("run", job, "--output", tmp_path / "here").code == 0
    run_command("pull", tmp_path / "here", tmp_path / "copy")
    assert images(tmp_path / "pulled") == images(tmp_path / "copy")
    assert len(images(tmp_path / "copy")) == 6
    # What is said of it afterwards.
    assert json.loads(run_command("status", "--json").out)["page"].endswith("index.html")
    assert "ended with exit code 0" in run_command("logs").out
    api.objects.clear()
    assert "ended with exit code 0" in run_command("logs", job).out


def test_a_run_with_a_broken_unit_is_tried_again_and_keeps_the_rest(
    api: StandIn,
    kubelet: Kubelet,
    cluster_job: Callable[..., Path],
    run_command: Callable[..., Any],
    bucket_uri: str,
) -> None:
    data = {"source": {"factory": "nets:broken"}, "name": "tiny", "labels": "./labels.txt"}
    size = {"size": 8, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    job = cluster_job(models=[data | {"input": size}], cluster={"shards": 2})
    watched = run_command("submit", job, "--watch")
    assert watched.code == 3
    told = json.loads(run_command("status", "--json").out)
    assert (told["state"], told["done"]) == ("failed", 4)
    assert {failure["what"].partition(" ")[0] for failure in told["failures"]} == {"tiny/quick/1", "tiny/calm/1"}
    assert "bee" in run_command("status").out
    before = set(open_store(bucket_uri).entries("units/"))
    assert run_command("retry").code == 0
    again = run_command("status", told["run12"], "--watch")
    assert again.code == 3
    assert set(open_store(bucket_uri).entries("units/")) == before
    names = [one["metadata"]["name"] for one in api.all("Job")]
    assert names == [told["name"], f"{told['name']}-r1"]
    assert len(list(open_store(bucket_uri).list(f"runs/{told['run12']}/logs/{names[1]}@"))) == 2


def test_a_preempted_worker_goes_on_in_another_pod(
    api: StandIn,
    kubelet: Kubelet,
    cluster_job: Callable[..., Path],
    run_command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubelet.environment["TINY_SLEEP"] = "0.5"
    size = {"size": 8, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    model = {"name": "tiny", "source": {"factory": "nets:slow"}, "input": size, "labels": "./labels.txt"}
    recipe = {"name": "quick", "extends": "plain", "steps": 20, "precision": "fp32"}
    job = cluster_job(models=[model], recipes=[recipe], cluster={"shards": 1})

    def preempt() -> None:
        while not any("begin" in line for lines in api.logs.values() for _, line in lines):
            time.sleep(0.1)
        time.sleep(1)
        kubelet.environment["TINY_SLEEP"] = "0"
        kubelet.interrupt(next(iter(kubelet.running)))

    thread = threading.Thread(target=preempt)
    thread.start()
    watched = run_command("submit", job, "--watch")
    thread.join()
    assert watched.code == 0, watched.out
    assert "1 interrupted: stopped, its state is saved" in watched.out
    [shard] = json.loads(run_command("status", "--json").out)["shards"]
    assert (shard["restarts"], shard["interrupted"]) == (0, 1)
