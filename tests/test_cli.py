"""The commands as people meet them: what they print, what they leave behind, how they end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from classmodels import __version__
from classmodels.ops import extension

COMMAND = [sys.executable, "-m", "classmodels.cli"]
Command = Callable[..., Any]


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below `folder` with its bytes and the time it was written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("out/units/*/*/*.json"))


# Help


COMMANDS = [
    "run",
    "validate",
    "plan",
    "schema",
    "list",
    "pull",
    "verify",
    "compare",
    "gallery",
    "export",
    "prune",
    "figure",
    "cite",
    "fetch",
    "info",
    "worker",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run_command: Command, command: str) -> None:
    ended = run_command(command, "--help")
    assert ended.code == 0
    assert ended.out.startswith("Usage: ")
    assert command in run_command("--help").out


def test_the_version_is_told(run_command: Command) -> None:
    assert run_command("--version").out == f"classmodels, version {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['classmodels', '--help']\n"
        "from classmodels.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'torchvision', 'pydantic', 'numpy', 'PIL', 'yaml', 'rich', 'jinja2', 'botocore'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert ended.stdout.startswith("Usage: ")
    assert ended.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["run"], "Missing argument 'JOB'"),
        (["run", "job.yaml", "--bakend", "torch"], "No such option"),
        (["run", "job.yaml", "--backend", "rocm"], "'rocm' is not one of"),
    ],
)
def test_wrong_arguments_end_with_2(run_command: Command, arguments: list[str], message: str) -> None:
    ended = run_command(*arguments)
    assert ended.code == 2
    assert message in ended.err


# run


def test_a_run_leaves_records_images_and_a_page(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    ended = run_command("run", tiny_job)
    assert ended.code == 0
    counted, page = ended.out.splitlines()
    assert counted.startswith("2 units done, 0 were done already, 0 failed")
    assert Path(page).is_file()
    assert "ant" in Path(page).read_text()
    assert "tiny / quick: 2 to do" in ended.err
    for record in records(tmp_path):
        image = json.loads(record.read_text())["image"]["name"]
        assert (record.parent / image).read_bytes().startswith(b"\x89PNG")
    assert len(records(tmp_path)) == 2


def test_running_again_does_nothing_and_says_so(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    first = run_command("run", tiny_job)
    before = tree(tmp_path / "out")
    again = run_command("run", tiny_job)
    assert again.code == 0
    assert again.out.splitlines() == ["nothing to do: all 2 units are done", first.out.splitlines()[-1]]
    assert tree(tmp_path / "out") == before


def test_new_classes_are_added_to_what_is_there(
    run_command: Command, write_job: Callable[..., Path], tmp_path: Path
) -> None:
    run_command("run", write_job(tmp_path, classes=["ant"]))
    (done,) = records(tmp_path)
    before = done.read_bytes(), done.stat().st_mtime_ns
    ended = run_command("run", write_job(tmp_path, classes="all"))
    assert ended.out.startswith("4 units done, 1 were done already, 0 failed")
    assert (done.read_bytes(), done.stat().st_mtime_ns) == before


def test_mending_a_label_makes_nothing_again(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    run_command("run", tiny_job)
    (tmp_path / "labels.txt").write_text("emmet\nbee\ncrow\ndog\neel\n")
    assert run_command("run", tiny_job).out.startswith("nothing to do: all 2 units are done")


def test_only_does_only_these_units(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    ended = run_command("run", tiny_job, "--only", "*/*/crow")
    assert ended.code == 0
    assert [record.name for record in records(tmp_path)] == ["0002.json"]
    assert run_command("run", tiny_job).out.startswith("1 units done, 1 were done already")


def test_output_and_set_change_the_job_from_outside(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    ended = run_command(
        "run", tiny_job, "--output", tmp_path / "other", "--set", "classes=[eel]", "--set", "recipes.quick.steps=1"
    )
    assert ended.code == 0
    assert not (tmp_path / "out").exists()
    (record,) = (tmp_path / "other" / "units").rglob("*.json")
    said = json.loads(record.read_text())
    assert (said["label"], said["recipe"]["settings"]["steps"]) == ("eel", 1)


def test_json_is_all_that_is_printed(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    said = json.loads(run_command("run", tiny_job, "--json", "--set", "panel=all").out)
    assert (said["units"], said["done"], said["already"], said["verdicts"], said["failed"]) == (2, 2, 0, 2, [])
    assert Path(said["page"]).is_file()
    again = json.loads(run_command("run", tiny_job, "--json", "--set", "panel=all").out)
    assert (again["done"], again["already"], again["verdicts"]) == (0, 2, 0)
    assert again["run"] == said["run"]


def test_a_seed_of_its_own_is_another_recipe_beside_the_first(
    tiny_job: Path, run_command: Command, tmp_path: Path
) -> None:
    run_command("run", tiny_job)
    run_command("run", tiny_job, "--set", "seed=1")
    assert len(records(tmp_path)) == 4


@pytest.mark.parametrize("backend", ["cuda", "cpp"])
def test_a_backend_that_is_named_and_missing_is_an_error_with_the_reason(
    tiny_job: Path, run_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(extension, "compiled", None)
    monkeypatch.setattr(extension, "why_not", "it rained")
    ended = run_command("run", tiny_job, "--backend", backend)
    assert ended.code == 2
    assert ended.err == f"classmodels: backend '{backend}' is not available: it rained; or use --backend auto\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device 'gpu': expected auto, cpu, cuda or cuda:N"),
        ("", "device '': expected auto, cpu, cuda or cuda:N"),
        ("meta", "device 'meta' is not supported: expected auto, cpu, cuda or cuda:N"),
        ("cuda:99", f"device 'cuda:99' is not available: torch sees {torch.cuda.device_count()} CUDA devices"),
    ],
)
def test_an_unknown_device_is_an_error(tiny_job: Path, run_command: Command, device: str, message: str) -> None:
    ended = run_command("run", tiny_job, "--device", device)
    assert (ended.code, ended.err) == (2, f"classmodels: {message}\n")


def test_an_output_that_is_no_folder_yet_is_refused(tiny_job: Path, run_command: Command) -> None:
    ended = run_command("run", tiny_job, "--output", "ftp://example/x")
    assert ended.code == 2
    assert "ftp://example/x" in ended.err


# validate, plan, schema, gallery, info


def test_validate_says_what_a_valid_job_holds(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    ended = run_command("validate", tiny_job)
    assert (ended.code, ended.out) == (0, f"{tiny_job} is valid: 1 models, 1 recipes, 2 units\n")
    assert json.loads(run_command("validate", tiny_job, "--json").out) == {"valid": True, "problems": []}
    assert not (tmp_path / "out").exists()


def test_validate_prints_every_problem_with_its_place(
    run_command: Command, write_job: Callable[..., Path], tmp_path: Path
) -> None:
    job = write_job(tmp_path, classes=["crwo"], seed=-1)
    ended = run_command("validate", job)
    assert ended.code == 2
    assert [line.partition(": ")[0] for line in ended.err.splitlines()] == [f"{job}:21:3", f"{job}:31:7"]
    assert ended.out == ""
    told = run_command("validate", job, "--json")
    said = json.loads(told.out)
    assert told.code == 2
    assert said["valid"] is False
    assert [(problem["line"], problem["column"]) for problem in said["problems"]] == [(21, 3), (31, 7)]
    assert said["problems"][0]["message"].endswith('did you mean "crow"?')


def test_plan_lists_units_and_their_shards(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    sharded = ["--set", "classes=all", "--set", "cluster.shards=2"]
    lines = run_command("plan", tiny_job, *sharded).out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["0", "0", "1", "1", "1"]
    assert lines[-1].endswith("5 units in 2 shards")
    said = json.loads(run_command("plan", tiny_job, *sharded, "--json").out)
    assert [unit["class"] for unit in said["units"]] == [0, 1, 2, 3, 4]
    assert [unit["label"] for unit in said["units"]] == ["ant", "bee", "crow", "dog", "eel"]
    assert said["estimate"] is None
    assert not (tmp_path / "out").exists()


def test_plan_names_the_records_that_a_run_writes(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    planned = [unit["record"] for unit in json.loads(run_command("plan", tiny_job, "--json").out)["units"]]
    run_command("run", tiny_job)
    assert [str(record.relative_to(tmp_path / "out")) for record in records(tmp_path)] == planned


def test_plan_estimates_what_is_left(tiny_job: Path, run_command: Command) -> None:
    before = json.loads(run_command("plan", tiny_job, "--estimate", "--json").out)["estimate"]
    assert (before["units"], before["missing"], before["objects"]) == (2, 2, 4)
    assert before["device_hours"] is None
    assert "device-hours unknown" in run_command("plan", tiny_job, "--estimate").out
    run_command("run", tiny_job)
    after = json.loads(run_command("plan", tiny_job, "--estimate", "--json", "--set", "classes=all").out)["estimate"]
    assert (after["missing"], after["objects"]) == (3, 6)
    assert after["device_hours"] >= 0


def test_schema_prints_json_schema(run_command: Command) -> None:
    ended = run_command("schema")
    assert ended.code == 0
    assert json.loads(ended.out)["title"] == "classmodels job"


def test_a_gallery_is_rebuilt_from_what_is_stored(tiny_job: Path, run_command: Command, tmp_path: Path) -> None:
    page = Path(run_command("run", tiny_job).out.splitlines()[-1])
    before = page.read_bytes()
    page.unlink()
    ended = run_command("gallery", tmp_path / "out")
    assert (ended.code, ended.out) == (0, f"{page}\n")
    assert page.read_bytes() == before
    assert json.loads(run_command("gallery", tmp_path / "out", "--json").out) == {"pages": [str(page)]}


def test_a_gallery_of_nothing_is_an_error(run_command: Command, tmp_path: Path) -> None:
    ended = run_command("gallery", tmp_path / "empty")
    assert ended.code == 2
    assert "found no run" in ended.err


def test_info_tells_versions_devices_and_backends(run_command: Command) -> None:
    said = json.loads(run_command("info", "--json").out)
    assert said["versions"]["torch"] == torch.__version__
    assert said["versions"]["classmodels"] == __version__
    assert "cpu" in said["devices"]
    assert said["backends"]["torch"] == "available"
    assert set(said["backends"]) == {"cuda", "cpp", "torch"}
    plain = run_command("info").out
    assert all(part in plain for part in ("versions", "devices", "backends", torch.__version__))


def test_the_image_switches_off_what_needs_a_compiler_and_says_so(
    run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = (Path(__file__).parents[1] / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", re.findall(r"^ENV .*TORCHDYNAMO_DISABLE=(\S+)", last, re.MULTILINE)[0])
    said = json.loads(run_command("info", "--json").out)["user code"]
    assert said == {"torch.compile": "off: TORCHDYNAMO_DISABLE is set"}


# Interruption


@pytest.fixture
def slow_job(write_job: Callable[..., Path], tmp_path: Path) -> Path:
    """Five units in two batches, a second or more each while TINY_SLEEP is set."""
    model = {
        "name": "slow",
        "source": {"factory": "nets:slow"},
        "input": {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3},
        "labels": "./labels.txt",
    }
    recipe = {"name": "long", "extends": "plain", "steps": 20, "precision": "fp32"}
    return write_job(tmp_path, models=[model], recipes=[recipe], classes="all")


@pytest.fixture
def started(slow_job: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "run", str(slow_job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TINY_SLEEP": "0.1"},
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("polite", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_an_interrupt_keeps_what_is_done_and_the_next_run_goes_on(
    started: subprocess.Popen[str], slow_job: Path, tmp_path: Path, run_command: Command, polite: signal.Signals
) -> None:
    deadline = time.monotonic() + 120
    while not records(tmp_path):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # the rest of the first batch, and into the second
    asked = time.monotonic()
    started.send_signal(polite)
    out, err = started.communicate(timeout=60)
    assert time.monotonic() - asked < 5
    assert started.returncode == 130
    assert "Traceback" not in out + err
    kept = {path: path.read_bytes() for path in records(tmp_path)}
    assert 1 <= len(kept) < 5
    assert f"interrupted: {len(kept)} units are done and kept, {5 - len(kept)} are left" in err
    assert not list((tmp_path / "out").rglob(".*"))
    assert len(list(tmp_path.glob("out/state/*/*/*.safetensors"))) == 1

    ended = run_command("run", slow_job)
    assert ended.code == 0
    assert "1 units go on after step " in ended.err
    assert not list(tmp_path.glob("out/state/*/*/*"))
    assert ended.out.startswith(f"{5 - len(kept)} units done, {len(kept)} were done already, 0 failed")
    assert {path: path.read_bytes() for path in kept} == kept
    assert len(records(tmp_path)) == 5
