"""What workers leave beside the plan of a run, logs, reports and inputs, is no result, and goes with its run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import verified

from classmodels.results.place import open_place
from classmodels.results.prune import carry_out, choose
from classmodels.store import Store, open_store

Command = Callable[..., Any]


@pytest.fixture
def store(source: str) -> Store:
    """A finished run, as a cluster leaves it."""
    opened = open_store(source)
    run = next(opened.list("runs/")).rpartition("/")[0]
    for key in (
        "inputs/" + "0" * 64,
        "logs/tiny-0123/0.tiny-0123-0-abcde.jsonl",
        "logs/local/plan.json",
        "shards/0-of-2.json",
    ):
        opened.write(f"{run}/{key}", b'{"event": "message"}\n')
    return opened


def beside_plans(store: Store) -> list[str]:
    return [key for key in store.list("runs/") if not key.endswith("/plan.json") or key.count("/") > 2]


def test_list_verify_and_gallery_pass_over_them(store: Store, run_command: Command) -> None:
    assert "1 gallery, 6 units" in run_command("list", store.uri).out
    assert verified(store.uri).differences == []
    assert run_command("gallery", store.uri).code == 0
    assert len(beside_plans(store)) == 4


def test_pull_does_not_bring_them_and_pulling_again_does_nothing(
    store: Store, tmp_path: Path, run_command: Command
) -> None:
    assert run_command("pull", store.uri, tmp_path / "here").code == 0
    assert beside_plans(open_store(str(tmp_path / "here"))) == []
    assert "nothing to do" in run_command("pull", store.uri, tmp_path / "here").out


def test_prune_deletes_them_with_their_run(store: Store) -> None:
    carry_out(choose(open_place(store.uri), None, 0))
    assert list(store.list("runs/")) == []
