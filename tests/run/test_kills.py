"""Nothing finished is lost: a job that is killed again and again ends up, to the byte, as if nothing had happened.

`make soak` does the same for long, also on a real S3 server; `kills.py` says how it is done.
"""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from classmodels.results.place import open_place
from classmodels.results.progress import Silent
from classmodels.results.verify import verify
from classmodels.store import Record, Store, open_store
from classmodels.store.records import parse
from kills import Run, Runs, kill_at_every_operation, kill_at_random, tree

RECIPES = [
    {
        "name": "all",
        "extends": "natural",
        "steps": 6,
        "precision": "fp32",
        "regularizers": {"tv": 0.05, "blur": {"sigma": 0.5, "every": 4}},
    }
]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    started = Runs()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def killed_job(tmp_path_factory: pytest.TempPathFactory, write_job: Callable[..., Path]) -> Path:
    """Three units in two batches, with momentum, transforms, TV, a film and a judge."""
    return write_job(
        tmp_path_factory.mktemp("job"),
        classes=[0, 2, 4],
        recipes=RECIPES,
        animation={"frames": 3, "format": "webp"},
        panel="all",
    )


@pytest.fixture(scope="module")
def undisturbed(killed_job: Path, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nobody kills, and that never saves its state."""
    output = str(tmp_path_factory.mktemp("undisturbed"))
    assert runs.run(killed_job, output, interval=1000).code == 0
    return tree(open_store(output))


def test_a_run_killed_at_any_storage_operation_ends_as_if_undisturbed(
    runs: Runs, killed_job: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    outcome = kill_at_every_operation(runs, killed_job, lambda name: str(tmp_path / name), undisturbed)
    assert outcome.flawless, outcome
    assert outcome.kills == outcome.restarts > 35
    assert outcome.resumed > 2


def test_a_run_killed_in_a_store_that_has_a_page_already_ends_as_if_undisturbed(
    runs: Runs, killed_job: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    only = ["--only", "*/*/0", "--only", "*/*/2"]
    outcome = kill_at_every_operation(runs, killed_job, lambda name: str(tmp_path / name), undisturbed, only)
    assert outcome.flawless, outcome
    assert outcome.kills > 12


def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(
    runs: Runs, killed_job: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    outcome = kill_at_random(runs, killed_job, lambda name: str(tmp_path / name), undisturbed, kills=20, seed=4)
    assert outcome.flawless, outcome
    assert outcome.kills >= 20


# Two workers


def side_by_side(runs: Runs, job: Path, output: str, threads: int) -> list[Run]:
    """The same job twice at the same time, the second run with `threads` threads."""
    other, ended = Runs(), []
    try:
        both = [
            Thread(target=lambda: ended.append(runs.run(job, output))),
            Thread(target=lambda: ended.append(other.run(job, output, threads=threads))),
        ]
        other.run(job, "/dev/null/nowhere")  # so that both have imported everything
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    finally:
        other.stop()
    return ended


def assert_complete(store: Store, units: int, page: dict[str, Any]) -> None:
    """Every record is there and its files are what it says; the page has them all; nothing is left over."""
    records = [key for key in store.list("units/") if key.endswith(".json")]
    assert len(records) == units
    for key in records:
        record = parse(Record, store.read(key) or b"")
        assert record is not None
        for file in filter(None, (record.image, record.animation)):
            data = store.read(key.rpartition("/")[0] + "/" + file.name)
            assert data is not None
            assert sha256(data).hexdigest() == file.sha256
    assert len(list(store.list("units/"))) == units * 3
    assert not list(store.list("state/"))
    assert page["counts"]["done"] == units
    assert verify(open_place(store.uri), Silent()).differences == []


def page_of(store: Store) -> dict[str, Any]:
    (key,) = (key for key in store.list("galleries/") if key.endswith("/gallery.json"))
    found: dict[str, Any] = json.loads(store.read(key) or b"")
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_two_workers_on_the_same_units_do_no_harm(
    runs: Runs, killed_job: Path, undisturbed: dict[str, Any], tmp_path: Path, threads: int
) -> None:
    output = str(tmp_path / "out")
    ended = side_by_side(runs, killed_job, output, threads)
    assert [run.code for run in ended] == [0, 0], ended
    store = open_store(output)
    assert_complete(store, 3, page_of(store))
    if threads == 1:
        assert tree(store) == undisturbed


def test_two_workers_on_the_same_units_of_a_bucket_do_no_harm(runs: Runs, killed_job: Path, bucket_uri: str) -> None:
    ended = side_by_side(runs, killed_job, bucket_uri, 2)
    assert [run.code for run in ended] == [0, 0], ended
    store = open_store(bucket_uri)
    assert_complete(store, 3, page_of(store))
