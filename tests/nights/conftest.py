"""A template over a tiny network, and a place where its training leaves checkpoints."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nights_at_work import Nights


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses its power: that a kill loses nothing needs no disk to be waited for."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def nights(
    tmp_path: Path,
    write_job: Callable[..., Path],
    tiny_data: Callable[[], dict[str, Any]],
    tiny_nets: dict[str, Any],
    run_command: Callable[..., Any],
) -> Nights:
    """Checkpoints and results in folders of tmp_path."""
    model = tiny_data()["models"][0]
    model.pop("checkpoint")
    template = write_job(tmp_path, name="every-night", models=[model])
    return Nights(template, str(tmp_path / "checkpoints"), str(tmp_path / "out"), tiny_nets["linear"], run_command)


@pytest.fixture
def bucket_nights(nights: Nights, bucket_uri: str) -> Nights:
    """As `nights`, in a bucket."""
    nights.checkpoints, nights.output = f"{bucket_uri}/checkpoints", f"{bucket_uri}/out"
    return nights
