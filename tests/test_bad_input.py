"""Bad input: a clear sentence that names the thing, the right exit code, neighbours unharmed, nothing half-written."""

import errno
import os
import pickle
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from classmodels.store import Record
from classmodels.store.records import parse

Command = Callable[..., Any]


class Trial:
    """A job with a bad model before a good one, and what became of it."""

    def __init__(self, folder: Path, write_job: Callable[..., Path], data: dict[str, Any], command: Command) -> None:
        self.folder, self.write_job, self.command = folder, write_job, command
        self.model = data["models"][0]
        self.out = folder / "out"

    def run(self, alone: bool = False, **bad: Any) -> Any:
        """Run it, the first model changed by `bad`; alone: without the good model."""
        models = [{"name": "bad"} | {k: v for k, v in (self.model | {"name": "bad"} | bad).items() if v is not ...}]
        models += [] if alone else [self.model | {"name": "good"}]
        return self.command("run", self.write_job(self.folder, models=models))

    def records(self, model: str) -> list[str]:
        return sorted(path.name for path in self.out.glob(f"units/{model}@*/*/*.json"))

    def assert_good_is_stored_and_nothing_of_bad(self) -> None:
        assert self.records("good") == ["0000.json", "0002.json"]
        assert not list(self.out.glob("units/bad@*"))
        assert_nothing_half_written(self.out)


def assert_nothing_half_written(out: Path) -> None:
    """No temporary file is left, and every record is whole and every file it names is there."""
    assert not list(out.rglob(".*"))
    for path in out.glob("units/*/*/*.json"):
        record = parse(Record, path.read_bytes())
        assert record is not None
        assert (path.parent / record.image.name).stat().st_size == record.image.bytes


def one_failure(ended: Any) -> str:
    """The one sentence that a run says of all that failed."""
    failures = [line for line in ended.err.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 1, ended.err
    return failures[0]


@pytest.fixture
def trial(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], run_command: Command
) -> Trial:
    write_job(tmp_path)
    return Trial(tmp_path, write_job, tiny_data(), run_command)


# Unknown names: the job is refused before anything is written


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"classes": ["ant", "crwo"]}, 'class "crwo" is not among the 5 labels; did you mean "crow"?'),
        ({"recipes": ["quick", "natrual"]}, "found the unknown recipe 'natrual'"),
        ({"recipes": [{"name": "mine", "extends": "natrual"}]}, "found the unknown recipe 'natrual'"),
    ],
)
def test_an_unknown_class_or_preset_ends_with_2_and_leaves_nothing(
    tmp_path: Path,
    write_job: Callable[..., Path],
    run_command: Command,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    ended = run_command("run", write_job(tmp_path, **changes))
    assert ended.code == 2
    assert sentence in ended.err
    assert not (tmp_path / "out").exists()


# Checkpoints


class Hostile:
    """A pickle that writes a file when it is loaded by a trusting loader."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def spoil(kind: str, folder: Path, nets: dict[str, Any]) -> str:
    """Write a checkpoint that is bad in this way and return its name."""
    good = (folder / "tiny.safetensors").read_bytes()
    state = nets["linear"](seed=2).state_dict()
    name = "bad.pth"
    path = folder / name
    if kind == "truncated .safetensors":
        path = folder / "bad.safetensors"
        path.write_bytes(good[: len(good) // 2])
    elif kind == "truncated .pth":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    elif kind == "text":
        path.write_text("404: Not Found\n")
    elif kind == "hostile pickle":
        path.write_bytes(pickle.dumps(Hostile(folder / "canary")))
    elif kind == "hostile zip":
        torch.save({"state_dict": Hostile(folder / "canary")}, path)
    elif kind == "of another network":
        torch.save(nets["conv"](seed=2).state_dict(), path)
    elif kind == "of more classes":
        path = folder / "bad.safetensors"
        save_file(nets["linear"](classes=6, seed=2).state_dict(), path)
    return path.name


CHECKPOINTS = [
    "truncated .safetensors",
    "truncated .pth",
    "empty",
    "a picture",
    "text",
    "hostile pickle",
    "hostile zip",
    "of another network",
    "of more classes",
]


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_bad_checkpoint_fails_its_units_and_no_others(trial: Trial, tiny_nets: dict[str, Any], kind: str) -> None:
    name = spoil(kind, trial.folder, tiny_nets)
    ended = trial.run(checkpoint=name)
    assert ended.code == 3
    assert ended.out.startswith("2 units done, 0 were done already, 2 failed")
    assert name in one_failure(ended)
    assert "bad/quick/0 (ant) and 1 more" in one_failure(ended)
    trial.assert_good_is_stored_and_nothing_of_bad()
    assert not (trial.folder / "canary").exists()


@pytest.mark.parametrize("kind", ["truncated .pth", "hostile pickle", "of more classes"])
def test_a_bad_checkpoint_ends_with_3_also_where_nothing_else_is_to_do(
    trial: Trial, tiny_nets: dict[str, Any], kind: str
) -> None:
    ended = trial.run(alone=True, checkpoint=spoil(kind, trial.folder, tiny_nets))
    assert ended.code == 3
    assert ended.out.startswith("0 units done, 0 were done already, 2 failed")
    assert not (trial.folder / "canary").exists()


def test_units_that_failed_are_done_once_the_checkpoint_is_mended(trial: Trial, tiny_nets: dict[str, Any]) -> None:
    name = spoil("truncated .safetensors", trial.folder, tiny_nets)
    trial.run(checkpoint=name)
    (trial.folder / name).write_bytes((trial.folder / "tiny.safetensors").read_bytes())
    ended = trial.run(checkpoint=name)
    assert ended.code == 0
    assert ended.out.startswith("2 units done, 2 were done already, 0 failed")


def test_a_checkpoint_that_is_missing_is_told_before_anything_is_done(trial: Trial) -> None:
    ended = trial.run(checkpoint="./tinny.safetensors")
    assert ended.code == 2
    assert "tinny.safetensors does not exist" in ended.err
    assert not trial.out.exists()


# Factories


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        ("netz:linear", 'there is no module "netz"'),
        ("nets:linaer", 'nets has no attribute "linaer"; did you mean "linear"?'),
        ("nets:torch.__version__", "not something to call"),
        ("wrong:build", "importing wrong raised SyntaxError"),
        ("raising:build", "importing raising raised RuntimeError: no licence server"),
        ("leaving:build", "importing leaving raised SystemExit"),
    ],
)
def test_a_factory_that_cannot_be_imported_ends_with_2_and_leaves_nothing(
    trial: Trial, factory: str, sentence: str
) -> None:
    (trial.folder / "src" / "wrong.py").write_text("def build(:\n")
    (trial.folder / "src" / "raising.py").write_text("raise RuntimeError('no licence server')\n")
    (trial.folder / "src" / "leaving.py").write_text("raise SystemExit(7)\n")
    ended = trial.run(source={"factory": factory})
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith(f"{trial.folder}/job.yaml:")
    assert f"model bad: factory {factory}" in line
    assert sentence in line
    assert not trial.out.exists()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"factory": "nets:no_network"}, "factory nets:no_network returned a str; expected a torch.nn.Module"),
        (
            {"factory": "nets:linear", "kwargs": {"clases": 5}},
            "factory nets:linear called with (clases=5) raised TypeError: ",
        ),
    ],
)
def test_a_factory_that_makes_no_network_is_the_jobs_fault(trial: Trial, source: dict[str, Any], sentence: str) -> None:
    # Without a checkpoint the network is made to tell its identity: the job is refused as a whole.
    ended = trial.run(source=source, checkpoint=...)
    assert ended.code == 2
    assert sentence in ended.err
    assert not trial.out.exists()
    # With one it is first made when its turn comes: nothing done is 2, something done is 3.
    alone = trial.run(alone=True, source=source)
    assert alone.code == 2
    assert sentence in one_failure(alone)
    beside = trial.run(source=source)
    assert beside.code == 3
    assert sentence in one_failure(beside)
    trial.assert_good_is_stored_and_nothing_of_bad()


# Labels


@pytest.mark.parametrize("count", [3, 4, 6])
def test_labels_of_the_wrong_count_are_the_jobs_fault(trial: Trial, count: int) -> None:
    (trial.folder / "wrong.txt").write_text("\n".join(["ant", "bee", "crow", "dog", "eel", "fox"][:count]))
    sentence = f"bad has 5 classes and {count} labels: expected as many"
    alone = trial.run(alone=True, labels="./wrong.txt")
    assert alone.code == 2
    assert sentence in one_failure(alone)
    beside = trial.run(labels="./wrong.txt")
    assert beside.code == 3
    assert sentence in one_failure(beside)
    trial.assert_good_is_stored_and_nothing_of_bad()


# NaN


def test_a_class_whose_logit_is_nan_fails_alone(trial: Trial) -> None:
    model = trial.model | {"name": "bad", "source": {"factory": "nets:broken"}}
    del model["checkpoint"]
    job = trial.write_job(trial.folder, models=[model, trial.model | {"name": "good"}], classes="all")
    ended = trial.command("run", job)
    assert ended.code == 3
    assert ended.out.startswith("9 units done, 0 were done already, 1 failed")
    assert "bad/quick/1 (bee)" in one_failure(ended)
    assert "not finite" in one_failure(ended)
    assert trial.records("bad") == ["0000.json", "0002.json", "0003.json", "0004.json"]
    assert len(trial.records("good")) == 5
    assert not list(trial.out.glob("units/bad@*/*/0001*"))
    assert_nothing_half_written(trial.out)


def test_a_judge_with_a_nan_fails_as_a_judge_and_all_images_are_kept(trial: Trial) -> None:
    judge = trial.model | {"name": "blind", "source": {"factory": "nets:broken"}, "role": "judge"}
    del judge["checkpoint"]
    job = trial.write_job(trial.folder, models=[judge, trial.model | {"name": "good"}], panel="all")
    ended = trial.command("run", job)
    assert ended.code == 3
    assert one_failure(ended).startswith(
        "failed: judge blind: model blind gives good/quick/0 (ant) probabilities that are"
    )
    assert trial.records("good") == ["0000.json", "0002.json"]
    assert len(list(trial.out.glob("verdicts/good@*/**/*.json"))) == 2
    assert not list(trial.out.glob("verdicts/blind@*"))


def test_neighbours_of_a_nan_are_the_same_as_without_it(trial: Trial) -> None:
    model = trial.model | {"source": {"factory": "nets:broken"}}
    del model["checkpoint"]
    images = []
    for classes in ("all", [0, 2, 3, 4]):
        trial.command("run", trial.write_job(trial.folder, models=[model], classes=classes, output=str(trial.out)))
        images.append({path.name: path.read_bytes() for path in trial.out.rglob("*.png") if "units" in path.parts})
        for path in trial.out.rglob("*"):
            if path.is_file():
                path.unlink()
    assert len(images[0]) == 4
    assert images[0] == images[1]


# Storage


def test_an_output_that_is_a_file_ends_with_4(trial: Trial) -> None:
    (trial.folder / "out").write_text("mine\n")
    ended = trial.run()
    assert ended.code == 4
    (line,) = [line for line in ended.err.splitlines() if line.startswith("classmodels: ")]
    assert line.startswith(f"classmodels: cannot write {trial.out}/")
    assert (trial.folder / "out").read_text() == "mine\n"


def test_an_output_in_a_place_where_nothing_can_be_made_ends_with_4(tiny_job: Path, run_command: Command) -> None:
    ended = run_command("run", tiny_job, "--output", "/proc/classmodels/out")
    assert ended.code == 4
    assert "classmodels: cannot write /proc/classmodels/out/" in ended.err


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
def test_a_full_disk_ends_with_4_and_keeps_what_is_finished(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    left = writes
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal left
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # folders are synced too
            if left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left -= 1
        real(descriptor)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        full.setattr("classmodels.run.upload.FEWEST", 1)  # one after the other: what got through can be told
        full.setattr("classmodels.run.upload.MOST", 1)
        ended = trial.run(alone=True)
    assert ended.code == 4
    assert "the disk is full; free some space and run the same command again: what is finished is kept" in ended.err
    assert str(trial.out) in ended.err
    assert_nothing_half_written(trial.out)
    kept = len(trial.records("bad"))
    assert kept == max(0, (writes - 1) // 2)  # the plan first; then an image and a record for each unit
    again = trial.run(alone=True)
    assert again.code == 0
    assert again.out.startswith(f"{2 - kept} units done, {kept} were done already, 0 failed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


def test_a_disk_that_is_really_full_leaves_no_half_of_anything(trial: Trial, small_disk: Path) -> None:
    job = trial.write_job(trial.folder, classes="all", output=str(small_disk / "out"))
    ended = trial.command("run", job)
    assert ended.code == 4
    assert "the disk is full" in ended.err
    assert_nothing_half_written(small_disk / "out")


def test_all_classes_of_a_network_that_cannot_be_loaded_is_a_failure_and_not_nothing_to_do(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], run_command: Any
) -> None:
    (model,) = tiny_data()["models"]
    del model["labels"]
    job = write_job(tmp_path, models=[model], classes="all")
    (tmp_path / "tiny.safetensors").write_bytes(b"truncated")
    done = run_command("run", job)
    assert done.code == 3
    assert "tiny.safetensors" in done.err
