"""Nights that have a cluster do the work: submitted in one night, gathered in a later one. Here it is a list."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmodels.errors import ClusterError, UnacceptableError
from classmodels.job.plan import Plan
from classmodels.nightly import Nightly
from classmodels.nights.checkpoint import TRIES
from classmodels.nights.discover import Whole
from classmodels.nights.reconcile import Bounds
from classmodels.nights.submit import Sent
from classmodels.nights.template import read_template
from classmodels.run.numerics import choose_machine
from classmodels.run.progress import Quiet
from classmodels.run.share import Share, do_share
from classmodels.run.upload import Tally
from nights_at_work import JOB, Nights, ends, left


class Cluster:
    """Remembers plans; `work` does them as pods would. failed: how runs have ended; refuses: what it raises instead."""

    def __init__(self, nights: Nights) -> None:
        self.nights, self.plans = nights, dict[str, Plan]()
        self.failed: dict[str, str] = {}
        self.refuses: Exception | None = None
        self.asked = 0

    def submit(self, plan: Plan, make: bool) -> Sent | None:
        self.asked += 1
        if self.refuses is not None:
            raise self.refuses
        known = plan.run12 in self.plans
        if not known and not make:
            return None
        self.plans[plan.run12] = plan
        return Sent(f"run-{plan.run12}", not known, self.failed.get(plan.run12))

    def work(self, which: Callable[[Plan], bool] = lambda plan: True) -> None:
        for plan in filter(which, self.plans.values()):
            do_share(Share(plan, 0, 1), self.nights.store, choose_machine("cpu", "auto"), Quiet(), Tally())

    def told(self, *, max_new: int | None = None, refresh: bool = False) -> dict[str, Any]:
        """The summary of a night."""
        bounds = Bounds(max_new=max_new, refresh=refresh)
        whole = Whole(None, timedelta(0))
        night = Nightly(read_template(self.nights.template), self.nights.checkpoints, whole=whole, bounds=bounds)
        return night.run(self.nights.store, choose_machine("cpu", "auto"), Quiet(), self.submit)

    def night(self, **bounds: Any) -> dict[str, str]:
        return ends(self.told(**bounds))


def is_noise(plan: Plan) -> bool:
    return plan.job.job.name.endswith("-noise")


@pytest.fixture
def cluster(nights: Nights) -> Cluster:
    """Over folders, which pods here can reach."""
    return Cluster(nights)


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
    gathered = {key: data for key, data in left(nights.store).items() if "/shards/" not in key}
    nights.output += "-here"
    nights.night()
    assert gathered == left(nights.store)


def test_units_that_fail_for_good_there_are_in_the_entry_and_submitted_no_more(
    nights: Nights, cluster: Cluster
) -> None:
    template = yaml.safe_load(nights.template.read_text())
    template["models"][0]["source"] = {"factory": "nets:broken", "args": [2]}
    nights.template.write_text(yaml.safe_dump(template))
    nights.prefix = "inner."
    nights.save("step_1.safetensors", seed=1)
    assert cluster.night() == {"step_1.safetensors": "submitted"}
    cluster.work()
    cluster.plans.clear()  # the cluster has forgotten what is over
    gathered = cluster.told()
    assert ends(gathered) == {"step_1.safetensors": "done"}
    assert gathered["exit_code"] == 3
    assert not cluster.plans
    (entry,) = nights.entries
    assert [(one.class_index, "not finite" in one.reason) for one in entry.failed] == [(2, True)]
    assert cluster.told()["checkpoints"] == []


def test_the_noise_of_a_checkpoint_that_is_done_is_waited_for_and_not_made_here(
    nights: Nights, cluster: Cluster
) -> None:
    nights.save("step_1.safetensors", seed=1)
    assert cluster.night() == {"step_1.safetensors": "submitted"}
    cluster.work(lambda plan: not is_noise(plan))
    before = set(nights.store.list("units/"))
    assert cluster.night() == {"step_1.safetensors": "submitted"}
    assert set(nights.store.list("units/")) == before
    cluster.work(is_noise)
    assert cluster.night() == {"step_1.safetensors": "done"}


def test_a_run_that_has_ended_undone_is_told_and_not_taken_for_one_under_way(nights: Nights, cluster: Cluster) -> None:
    nights.save("step_1.safetensors", seed=1)
    cluster.night()
    cluster.failed = dict.fromkeys(cluster.plans, "Job has reached the specified backoff limit")
    told = cluster.told()
    assert (ends(told), told["exit_code"]) == ({"step_1.safetensors": "incomplete"}, 3)
    assert "backoff limit; `classmodels status run-" in told["checkpoints"][0]["reason"]
    assert "summary" in told
    assert "summary" not in cluster.told()


def test_a_run_that_a_cluster_forgets_undone_again_and_again_is_left_to_people(
    nights: Nights, cluster: Cluster
) -> None:
    nights.save("step_1.safetensors", seed=1)
    for _ in range(TRIES):
        assert cluster.night() == {"step_1.safetensors": "submitted"}
        assert cluster.night() == {"step_1.safetensors": "submitted"}
        cluster.plans.clear()
    told = cluster.told()
    assert (ends(told), told["exit_code"], cluster.plans) == ({"step_1.safetensors": "incomplete"}, 3, {})
    assert "submitted 3 times" in told["checkpoints"][0]["reason"]
    assert cluster.night(refresh=True) == {"step_1.safetensors": "submitted"}
    assert len(cluster.plans) == 2


def test_a_cluster_that_does_not_answer_is_told_with_4_and_what_is_done_is_gathered_all_the_same(
    nights: Nights, cluster: Cluster
) -> None:
    nights.save("step_1.safetensors", seed=1)
    cluster.night()
    cluster.work()
    nights.save("step_2.safetensors", seed=2)
    nights.save("step_3.safetensors", seed=3)
    cluster.refuses, cluster.asked = ClusterError("nothing answers", passing=True), 0
    told = cluster.told()
    name = "step_{}.safetensors".format
    assert ends(told) == {name(3): "unreachable", name(2): "unreachable", name(1): "done"}
    assert told["exit_code"] == 4
    assert cluster.asked == 1
    assert nights.store.read(told["pages"][-1])
    cluster.refuses = UnacceptableError("its quota is exceeded")
    told = cluster.told()
    assert (ends(told), told["exit_code"]) == ({name(3): "blocked", name(2): "blocked"}, 3)
    cluster.refuses = None
    assert cluster.night() == {name(3): "submitted", name(2): "submitted"}


def test_what_is_under_way_takes_no_new_ones_place(nights: Nights, cluster: Cluster) -> None:
    for step in (1, 2, 3):
        nights.save(f"step_{step}.safetensors", seed=step)
    name = "step_{}.safetensors".format
    assert cluster.night(max_new=1) == {name(3): "submitted"}
    assert cluster.night(max_new=1) == {name(3): "submitted", name(2): "submitted"}
    assert cluster.night(max_new=1) == {name(step): "submitted" for step in (3, 2, 1)}


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
