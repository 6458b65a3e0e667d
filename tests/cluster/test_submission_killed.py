"""A submission that is killed: at every question to the cluster and every object of the bucket, with real SIGKILLs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from classmodels.store import open_store
from kills import Runs
from kube.api import StandIn


@pytest.fixture
def runs(api: StandIn, bucket_uri: str) -> Iterator[Runs]:
    process = Runs()
    yield process
    process.stop()


def test_a_submission_killed_anywhere_goes_on_when_it_is_said_again(
    api: StandIn, runs: Runs, cluster_job: Callable[..., Path], bucket_uri: str
) -> None:
    job, kills, states = cluster_job(), 0, set()
    for number in range(1, 100):
        output = f"{bucket_uri}/{number}"
        submit = ["submit", str(job), "--output", output, "--json"]
        killed = runs.command(submit, at=number)
        if killed.code is None:
            kills += 1
            again = runs.command(submit)
            assert again.code == 0, again.said
            states.add(json.loads(again.said[again.said.index("{") :])["state"])
        [made], [config_map] = api.all("Job"), api.all("ConfigMap")
        assert made["spec"]["suspend"] is False
        assert [owner["uid"] for owner in config_map["metadata"]["ownerReferences"]] == [made["metadata"]["uid"]]
        files = json.loads(config_map["data"]["inputs.json"])["files"]
        run12 = made["metadata"]["name"].rpartition("-")[2]
        there = {entry.key: entry.size for entry in open_store(output).entries(f"runs/{run12}/inputs/")}
        assert there | {f"runs/{run12}/inputs/{file['sha256']}": file["size"] for file in files} == there
        api.objects.clear()
        if killed.code is not None:
            assert killed.code == 0, killed.said
            break
    assert kills > 10
    assert states >= {"submitted", "resumed"}
