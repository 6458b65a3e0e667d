"""Runs of one job that are interrupted in the middle of a step, and that count their steps."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classmodels.ascent.loop import Ascent
from classmodels.store import open_store
from kills import tree

Command = Callable[..., Any]

STEPS = 5
UNITS = 5
BATCHES = 2
RECIPES = {
    "momentum": {"extends": "plain", "optimizer": {"momentum": 0.9, "schedule": "cosine"}},
    "adam": {"extends": "plain", "optimizer": {"kind": "adam", "lr": 0.1}},
    "tv": {"extends": "l2", "regularizers": {"tv": 0.05}},
    "transforms": {"extends": "natural", "preconditioner": {"spectral": [0.5, 1.5]}},
    "filters": {
        "extends": "yosinski",
        "regularizers": {"blur": {"every": 2}, "small_contribution": {"percentile": 20, "every": 2}},
    },
}


class Work:
    """A job of two batches, and the runs of it; each counts the steps that it takes."""

    def __init__(self, folder: Path, write_job: Callable[..., Path], command: Command, mp: pytest.MonkeyPatch) -> None:
        self.folder, self.write_job, self.command, self.monkeypatch = folder, write_job, command, mp
        self.steps = 0
        self.use("transforms")

    def use(self, recipe: str) -> None:
        settings = {"name": recipe, "steps": STEPS, "precision": "fp32"} | RECIPES[recipe]
        animation = {"frames": 4, "format": "webp"}
        self.job = self.write_job(self.folder, classes="all", recipes=[settings], animation=animation)

    def run(self, output: str = "out", stop_after: int | None = None, interval: float = 1000) -> Any:
        """Run the job; stop_after: with an interrupt in the middle of that step."""
        self.steps = 0
        real = Ascent.step

        def step(ascent: Ascent) -> None:
            self.steps += 1
            if self.steps == stop_after:
                os.kill(os.getpid(), signal.SIGINT)
            real(ascent)

        with self.monkeypatch.context() as patched:
            patched.setattr(Ascent, "step", step)
            return self.command("run", self.job, "--output", self.folder / output, "--state-interval", interval)

    def tree(self, output: str = "out") -> dict[str, Any]:
        return tree(open_store(str(self.folder / output)))

    @property
    def states(self) -> list[Path]:
        return sorted((self.folder / "out" / "state").rglob("*.safetensors"))

    @property
    def state(self) -> Path:
        (path,) = self.states
        return path
