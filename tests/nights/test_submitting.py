"""Nights that have a cluster do the work: submitted in one night, gathered in a later one. Here it is a list."""

from datetime import timedelta
from pathlib import Path

import pytest

from classmodels.job.plan import Plan
from classmodels.nightly import Nightly
from classmodels.nights.discover import Whole
from classmodels.nights.template import read_template
from classmodels.run.job import run_job
from classmodels.run.numerics import choose_machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Tally
from nights_at_work import JOB, Nights, ends, left


class Cluster:
    """Remembers plans; `work` does them as pods would."""

    def __init__(self, nights: Nights) -> None:
        self.nights, self.plans = nights, dict[str, Plan]()

    def submit(self, plan: Plan) -> str:
        self.plans[plan.run12] = plan
        return f"run-{plan.run12}"

    def work(self) -> None:
        for plan in self.plans.values():
            run_job(plan, self.nights.store, choose_machine("cpu", "auto"), Quiet(), Tally())

    def night(self) -> dict[str, str]:
        night = Nightly(read_template(self.nights.template), self.nights.checkpoints, whole=Whole(None, timedelta(0)))
        return ends(night.run(self.nights.store, choose_machine("cpu", "auto"), Quiet(), self.submit))


def test_what_was_submitted_is_gathered_once_it_is_done(bucket_nights: Nights) -> None:
    nights = bucket_nights
    cluster = Cluster(nights)
    nights.save("step_1.safetensors", seed=1)
    nights.save("step_2.safetensors", seed=2)
    name = "step_{}.safetensors".format
    assert cluster.night() == {name(2): "submitted", name(1): "submitted"}
    assert len(cluster.plans) == 4  # each with its noise
    assert all("#sha256=" in plan.job.document.data["models"][0]["checkpoint"] for plan in cluster.plans.values())
    assert not any(nights.store.list("units/"))
    # Not done yet: submitted again, which is the same run.
    assert cluster.night() == {name(2): "submitted", name(1): "submitted"}
    assert len(cluster.plans) == 4
    assert len(nights.listing.sources) == 2
    cluster.work()
    assert cluster.night() == {name(2): "done", name(1): "done"}
    assert not nights.listing.sources
    gathered = left(nights.store)
    nights.output += "-here"
    nights.night()
    assert gathered == left(nights.store)


def test_a_broken_checkpoint_is_not_submitted(bucket_nights: Nights) -> None:
    cluster = Cluster(bucket_nights)
    bucket_nights.save("step_1.safetensors", data=b"no network")
    assert cluster.night() == {"step_1.safetensors": "broken"}
    assert not cluster.plans


def test_a_folder_cannot_be_reached_by_pods(nights: Nights) -> None:
    Path(nights.checkpoints).mkdir()
    ended = nights.run("--submit")
    assert ended.code == 2
    assert "which pods cannot reach; expected s3://" in ended.err


def test_without_the_client_of_a_cluster_it_is_said_what_to_install(
    bucket_nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "classmodels.cluster.submit", None)
    ended = bucket_nights.run("--submit")
    assert ended.code == 2
    assert 'pip install "classmodels[cluster]"' in ended.err
    assert JOB
