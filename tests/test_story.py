"""Why anybody wants this every night, from end to end: a training, its nights, and a shortcut that comes to light.

A network learns scikit-learn's digits and leaves checkpoints in a bucket. The first night is killed in its middle.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from classmodels.store import open_store
from seaweed import WRITER

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
SERVICE = Path(__file__).parents[1] / "service"


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


def test_a_training_is_watched_through_its_nights_and_a_planted_shortcut_comes_to_light(
    example: dict[str, ModuleType], bucket_uri: str, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    train, pictures = example["train"], example["pictures"]
    checkpoints, output = f"{bucket_uri}/checkpoints", f"{bucket_uri}/galleries"
    options = ["nightly", EXAMPLE / "nightly.yaml", "--checkpoints", checkpoints, "--output", output, "--settled", "0s"]
    store = open_store(output)

    train.main(checkpoints, shortcut=False)
    killed_half_way(options, lambda: any(store.list("units/")))
    assert len(pictures.checkpoints(store)) < len(train.SAVED)
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
    second = run_command(*options, "--json")
    assert second.code == 0, second.err
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


def killed_half_way(options: list[Any], begun: Callable[[], bool]) -> None:
    """Start a night in a process of its own, and kill it once it has `begun`."""
    night = subprocess.Popen(
        [sys.executable, "-m", "classmodels.cli", *map(str, options)],
        env=os.environ | WRITER.environment | {"PYTHONPATH": str(SERVICE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not begun():
            assert night.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        night.kill()
    assert night.wait() == -signal.SIGKILL


def resemblance(found: np.ndarray, means: np.ndarray) -> float:
    """Mean correlation of class models with the mean images of their classes."""
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found, means, strict=True)]))
