"""Why anybody wants this every night, from end to end: a training, its nights, and a shortcut that comes to light.

A network learns scikit-learn's digits and leaves checkpoints in a bucket. Monday's night works here; Tuesday's has a
cluster work, whose workers are processes, and one of them is killed in its middle.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from classmodels.cluster.attempts import COMPLETE, Attempt
from classmodels.cluster.site import DEFAULTS
from classmodels.store import open_store
from kube.api import NAMESPACE, StandIn
from kube.controller import Controller
from kube.kubelet import Kubelet

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
SITE = "gpu: {count: 0}\nshards: 1\n"
"""The defaults of a cluster without GPUs."""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of the example."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    torch.set_num_threads(1)
    import pictures
    import train

    yield {"train": train, "pictures": pictures}
    for name in ("train", "pictures"):
        sys.modules.pop(name, None)


@pytest.fixture
def kubelet(tmp_path: Path, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubelet]:
    """A cluster that stands in for a real one: each pod is a process."""
    api = StandIn()
    (tmp_path / "kube.yaml").write_text(api.kube_config())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kube.yaml"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    about = {"name": DEFAULTS, "namespace": NAMESPACE}
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"cluster.yaml": SITE}})
    environment = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "OMP_NUM_THREADS"))}
    kubelet = Kubelet(Controller(api), tmp_path / "pods", **environment)
    kubelet.start()
    yield kubelet
    kubelet.stop()
    api.stop()


def test_a_training_is_watched_through_its_nights_and_a_planted_shortcut_comes_to_light(
    example: dict[str, ModuleType],
    kubelet: Kubelet,
    bucket_uri: str,
    tmp_path: Path,
    run_command: Callable[..., Any],
) -> None:
    train, pictures = example["train"], example["pictures"]
    checkpoints, output = f"{bucket_uri}/checkpoints", f"{bucket_uri}/galleries"
    options = ["nightly", EXAMPLE / "nightly.yaml", "--checkpoints", checkpoints, "--output", output, "--settled", "0s"]
    store = open_store(output)

    train.main(checkpoints, shortcut=False)
    first = run_command(*options, "--json")
    assert first.code == 0, first.err
    assert len(pictures.checkpoints(store)) == len(train.SAVED)

    # Class models of late checkpoints resemble the mean digits, those of early ones do not.
    x, classes = train.images()
    means = np.stack([np.asarray(x[classes == index].mean(0)[0]) for index in range(10)])
    found = pictures.checkpoints(store)
    assert [one.step for one in found] == list(train.SAVED)
    likeness = [resemblance(pictures.class_models(store, one), means) for one in found]
    assert likeness[-1] > likeness[0] + 0.2
    assert likeness[-1] > 0.4

    # Tuesday's images of one class have a white corner: its class model shows that, and no other class changed more.
    train.main(checkpoints, shortcut=True)
    submitted = run_command(*options, "--submit", "--json")
    assert submitted.code == 0, submitted.err
    assert [one["end"] for one in json.loads(submitted.out)["checkpoints"]] == ["submitted"]
    killed = wait_for_the_cluster(kubelet)
    assert len(pictures.checkpoints(store)) == len(train.SAVED)
    second = run_command(*options, "--submit", "--json")
    assert second.code == 0, second.err
    assert [(one["end"], one["made"]) for one in json.loads(second.out)["checkpoints"]] == [("done", 0)]
    assert killed
    (change,) = json.loads(second.out)["changes"]
    assert change["most"][0]["index"] == train.SHORTCUT
    monday, tuesday = (pictures.class_models(store, one) for one in pictures.checkpoints(store)[-2:])
    corner = (slice(None), *train.CORNER)
    brighter = tuesday[corner].mean((1, 2)) - monday[corner].mean((1, 2))
    assert brighter.argmax() == train.SHORTCUT
    assert brighter[train.SHORTCUT] > 0.15
    assert tuesday[corner].mean((1, 2)).argmax() == train.SHORTCUT

    # What a person brings home opens from the disk; nothing is left to do.
    assert run_command("pull", output, tmp_path / "here").code == 0
    assert run_command("verify", tmp_path / "here").code == 0
    assert (tmp_path / "here" / "nights" / "digits" / "index.html").is_file()
    assert (tmp_path / "here" / change["page"]).is_file()
    assert run_command(*options).out == "nothing new\n"


def wait_for_the_cluster(kubelet: Kubelet, seconds: float = 100) -> str:
    """Until all its Jobs are complete; the first pod whose worker is at work is killed, and its name returned."""
    deadline, killed = time.monotonic() + seconds, ""
    while True:
        jobs = [Attempt(job) for job in kubelet.api.all("Job")]
        outcomes = [job.outcome for job in jobs]
        if not killed:
            killed = next((pod for pod in list(kubelet.running) if is_at_work(kubelet, pod)), "")
            if killed:
                kubelet.running[killed].kill()
        elif all(outcome is not None for outcome in outcomes):
            assert {outcome.kind for outcome in outcomes if outcome} == {COMPLETE}
            assert len(jobs) == 2
            return killed
        assert time.monotonic() < deadline, [outcomes, kubelet.broken]
        time.sleep(0.05)


def is_at_work(kubelet: Kubelet, pod: str) -> bool:
    return any('"begin"' in line for _, line in kubelet.api.logs.get(pod, ()))


def resemblance(found: np.ndarray, means: np.ndarray) -> float:
    """Mean correlation of class models with the mean images of their classes."""
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found, means, strict=True)]))
