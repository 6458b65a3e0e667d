"""A cluster that stands in for a real one, a bucket, and a job that is to run there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kube.api import StandIn
from kube.controller import Controller
from kube.rules import Object


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """An API server; the kube config leads to its namespace."""
    server = StandIn()
    (tmp_path / "kube.yaml").write_text(server.kube_config())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kube.yaml"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield server
    server.stop()


@pytest.fixture
def controller(api: StandIn) -> Controller:
    return Controller(api)


@pytest.fixture
def cluster_job(tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str) -> Callable[..., Path]:
    """`cluster_job(**changes)` writes a job of six units in three shards, two at a time, into a bucket."""

    def write(**changes: Any) -> Path:
        cluster = {"shards": 3, "parallelism": 2, "gpu": {"count": 0}} | changes.pop("cluster", {})
        recipes = [{"name": "quick", "extends": "plain", "steps": 3, "precision": "fp32"}]
        recipes += [{"name": "calm", "extends": "l2", "steps": 3, "precision": "fp32"}]
        data = {"classes": ["ant", "bee", "crow"], "recipes": recipes, "output": bucket_uri, "cluster": cluster}
        return write_job(tmp_path / "job", **(data | changes))

    return write


@pytest.fixture
def submitted(api: StandIn, cluster_job: Callable[..., Path], run_command: Callable[..., Any]) -> Callable[..., Object]:
    """`submitted(**changes)` submits such a job and returns its Job, as the API server has it."""

    def submit(**changes: Any) -> Object:
        ended = run_command("submit", cluster_job(**changes))
        assert ended.code == 0, ended.err
        [job] = api.all("Job")
        return job

    return submit
