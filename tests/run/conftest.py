"""Fixtures for runs that are interrupted: a job, and one that was stopped already."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interrupted import Work


@pytest.fixture
def work(
    tmp_path: Path, write_job: Callable[..., Path], run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Work:
    return Work(tmp_path, write_job, run_command, monkeypatch)


@pytest.fixture
def interrupted(work: Work) -> Work:
    """Stopped in the third step of its first batch."""
    assert work.run(stop_after=3).code == 130
    return work
