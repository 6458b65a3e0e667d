"""Workers with completion indexes against a real S3 server, stopped and killed and started again as the Job controller
would: what they leave is, to the byte, what one run leaves.
"""

import json
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from classmodels.store import open_store
from kills import Run, Runs, tree
from submitted import Submitted, submit

SHARDS = 4
NODES = 3
STEPS = 6
SLEEP = 0.02
"""Seconds that the network takes for a look at a batch."""
SIGNALS = (signal.SIGTERM, signal.SIGKILL)
RECIPES = [
    {
        "name": "all",
        "extends": "natural",
        "steps": STEPS,
        "precision": "fp32",
        "regularizers": {"tv": 0.05, "blur": {"sigma": 0.5, "every": 4}},
    },
    {"name": "adam", "extends": "plain", "steps": STEPS, "precision": "fp32", "optimizer": {"kind": "adam", "lr": 0.1}},
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Runs]]:
    started = [Runs() for _ in range(NODES)]
    yield started
    for node in started:
        node.stop()


@dataclass
class Attempt:
    """One pod: which index, how it ended, what it told."""

    index: int
    run: Run
    sent: signal.Signals | None
    events: list[dict[str, Any]] = field(default_factory=list)


class Controller:
    """Starts pods for the indexes of a Job on NODES nodes, as long as there are indexes that have not succeeded.

    An exit code of 3 fails an index; a killed pod and one that ended with 130 or 4 are started again.
    """

    def __init__(self, submitted: Submitted, nodes: list[Runs], seed: int = 0, disturbed: int = 0) -> None:
        """disturbed: how many of the pods of each index get a signal, at a random moment."""
        self.submitted, self.nodes, self.moments = submitted, nodes, random.Random(seed)
        self.disturbed, self.attempts = disturbed, list[Attempt]()
        self.succeeded: set[int] = set()
        self.failed: set[int] = set()
        self._left = deque(range(SHARDS))

    def run(self) -> None:
        with ThreadPoolExecutor(NODES) as pool:
            for ended in pool.map(self._node, self.nodes):
                assert ended is None

    def _node(self, node: Runs) -> None:
        while len(self.succeeded) + len(self.failed) < SHARDS:
            try:
                index = self._left.popleft()
            except IndexError:
                time.sleep(0.05)
                continue
            self._pod(node, index)

    def _pod(self, node: Runs, index: int) -> None:
        number = sum(one.index == index for one in self.attempts)
        sent = SIGNALS[(number + index) % 2] if number < self.disturbed else None
        # In a step of its first batches; and now and then before that, or after.
        steps = self.moments.randint(1, 2 * STEPS) if sent and number % 3 < 2 else None
        after = self.moments.uniform(0, 2) if sent and steps is None else None
        run = node.command(
            [*self.submitted.worker(index, SHARDS), "--state-interval", "0"],
            after=after,
            steps=steps,
            with_signal=sent or signal.SIGKILL,
            CLASSMODELS_JOB_NAME="the-job",
            POD_NAME=f"the-job-{index}-{number}",
            TINY_SLEEP=str(SLEEP),
        )
        attempt = Attempt(index, run, sent)
        attempt.events = [
            json.loads(line) for line in run.said.splitlines() if line.startswith("{") and line[-1] == "}"
        ]
        self.attempts.append(attempt)
        assert "Traceback" not in run.said, run.said
        if run.code == 0:
            self.succeeded.add(index)
        elif run.code == 3:
            self.failed.add(index)
        else:
            assert run.code in (None, 130), run
            self._left.append(index)


@pytest.fixture
def job(tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]]) -> Path:
    """Twenty units of two models under two recipes, in batches of two; and a third model among the judges."""
    tiny = tiny_data()["models"][0]
    slow = tiny | {"source": {"factory": "nets:slow"}, "checkpoint": None}
    models = [
        slow | {"name": "slow"},
        slow | {"name": "brighter", "input": tiny["input"] | {"mean": [0.6, 0.6, 0.6]}},
        tiny | {"role": "judge"},
    ]
    return write_job(
        tmp_path / "home",
        models=models,
        classes="all",
        recipes=RECIPES,
        animation={"frames": 3, "format": "webp"},
        panel="all",
    )


def compared(objects: dict[str, Any]) -> dict[str, Any]:
    """But for what only workers leave."""
    return {key: value for key, value in objects.items() if not key.startswith("runs/") or key.endswith("/plan.json")}


def test_workers_that_are_stopped_and_killed_leave_what_one_run_leaves(
    job: Path, tmp_path: Path, bucket_uri: str, nodes: list[Runs], cache_root: Path
) -> None:
    assert nodes[0].run(job, str(tmp_path / "alone"), interval=1000).code == 0
    submitted = submit(job, bucket_uri, tmp_path / "etc")
    controller = Controller(submitted, nodes, seed=5, disturbed=3)
    controller.run()
    assert controller.succeeded == set(range(SHARDS))
    found, expected = tree(open_store(bucket_uri)), tree(open_store(str(tmp_path / "alone")))
    assert compared(found) == expected
    attempts = controller.attempts
    stopped = [one for one in attempts if one.run.code == 130]
    assert len(stopped) >= 3, [(one.index, one.sent, one.run.code) for one in attempts]
    assert sum(one.run.code is None for one in attempts) >= 3
    for one in stopped:
        kinds = [event["event"] for event in one.events]
        assert not kinds or kinds[-2:] == ["interrupted", "end"]
    assert any("go on after step" in event.get("text", "") for one in attempts for event in one.events)
    # The log of every pod that came to its end, by whatever way but SIGKILL, and a report of every index.
    run = f"runs/{submitted.run12}"
    for one in attempts:
        if one.run.code is not None and any(event["event"] == "start" for event in one.events):
            number = [other for other in attempts if other.index == one.index].index(one)
            log = found[f"{run}/logs/the-job/{one.index}.the-job-{one.index}-{number}.jsonl"]
            assert [json.loads(line) for line in log.splitlines()] == one.events
    assert [key for key in found if key.startswith(f"{run}/shards/")] == [
        f"{run}/shards/{index}-of-{SHARDS}.json" for index in range(SHARDS)
    ]


def test_two_pods_of_one_index_at_once_do_no_harm(
    job: Path, tmp_path: Path, bucket_uri: str, nodes: list[Runs], cache_root: Path
) -> None:
    assert nodes[0].run(job, str(tmp_path / "alone"), interval=1000).code == 0
    submitted = submit(job, bucket_uri, tmp_path / "etc")
    with ThreadPoolExecutor(2) as pool:
        for index in range(2):
            arguments = [*submitted.worker(index, 2), "--state-interval", "0"]
            both = [pool.submit(node.command, arguments, TINY_SLEEP="0.01") for node in nodes[:2]]
            assert [one.result().code for one in both] == [0, 0]
    assert compared(tree(open_store(bucket_uri))) == tree(open_store(str(tmp_path / "alone")))


def test_a_broken_unit_fails_its_index_and_the_page_shows_the_others(
    tmp_path: Path,
    bucket_uri: str,
    nodes: list[Runs],
    write_job: Callable[..., Path],
    tiny_data: Callable[[], dict[str, Any]],
    cache_root: Path,
) -> None:
    model = tiny_data()["models"][0] | {"source": {"factory": "nets:broken"}, "checkpoint": None}
    job = write_job(tmp_path / "home", models=[model], classes="all")
    submitted = submit(job, bucket_uri, tmp_path / "etc")
    controller = Controller(submitted, nodes)
    controller.run()
    # Five units in four shards: the class that is NaN, 1, lies in the second.
    assert (controller.succeeded, controller.failed) == ({0, 2, 3}, {1})
    prefix = f"galleries/tiny/{submitted.run12}"
    view = json.loads(submitted.store.read(f"{prefix}/gallery.json") or b"")
    assert (view["counts"]["done"], view["counts"]["missing"]) == (4, 1)
    assert submitted.store.read(f"{prefix}/index.html")


def test_a_worker_with_another_run_does_nothing(
    job: Path, tmp_path: Path, bucket_uri: str, nodes: list[Runs], cache_root: Path
) -> None:
    submitted = submit(job, bucket_uri, tmp_path / "etc")
    submitted.job.write_text(f"seed: 2\n{submitted.job.read_text()}")
    before = set(submitted.store.list(""))
    run = nodes[0].command(submitted.worker(0, SHARDS))
    assert run.code == 2
    assert f"expected {submitted.run12} (here is slow@" in run.said
    new = set(submitted.store.list("")) - before
    assert [key.split("/")[2] for key in new] == ["logs"]
