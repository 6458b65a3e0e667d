"""A finished job in a folder or a bucket, that each test may do with as it likes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from places import copy

from classmodels import cli
from classmodels.results.place import Place, open_place
from classmodels.store import open_store

RECIPES = [
    {"name": "quick", "extends": "plain", "steps": 3, "precision": "fp32"},
    {"name": "calm", "extends": "l2", "steps": 3, "precision": "fp32"},
]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, write_job: Callable[..., Path]) -> Path:
    """The results of a job: three classes under two recipes, films, a judge's verdicts. Nobody changes them."""
    folder = tmp_path_factory.mktemp("finished")
    job = write_job(
        folder,
        classes=["ant", "bee", "crow"],
        recipes=RECIPES,
        animation={"frames": 3, "format": "webp"},
        panel="all",
    )
    with pytest.raises(SystemExit, match="0"):
        cli.cli.main(["run", str(job)], standalone_mode=False)
    return folder / "out"


@pytest.fixture(params=["folder", "bucket"])
def source(request: pytest.FixtureRequest, tmp_path: Path, finished: Path) -> str:
    """Where a copy of `finished` lies: a folder, and a bucket."""
    uri = str(tmp_path / "source") if request.param == "folder" else request.getfixturevalue("bucket_uri")
    copy(open_store(str(finished)), open_store(uri))
    return uri


@pytest.fixture
def in_folder(tmp_path: Path, finished: Path) -> Place:
    """A copy of `finished` in a folder, as a place."""
    copy(open_store(str(finished)), open_store(str(tmp_path / "source")))
    return open_place(str(tmp_path / "source"))
