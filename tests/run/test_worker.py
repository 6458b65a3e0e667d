"""A worker does one shard and no more, ends as a cluster must know, and whoever ends last leaves the page."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from classmodels.ascent.loop import Ascent
from classmodels.errors import StoreError
from classmodels.models.remote.elsewhere import RemoteFile
from classmodels.run.events import json_schema
from classmodels.store import patient
from classmodels.store.folder import FolderStore
from kills import tree
from web import WebServer

Command = Callable[..., Any]
SHARDS = 3


@pytest.fixture
def job(tmp_path: Path, write_job: Callable[..., Path]) -> Path:
    """Five units and a judge."""
    return write_job(tmp_path, classes="all", panel="all", animation={"frames": 3, "format": "webp"})


@pytest.fixture
def work(run_command: Command) -> Callable[..., Any]:
    """`work(job, index)` runs a worker in this process."""

    def run(job: Path, index: int, *options: str | Path, shards: int = SHARDS) -> Any:
        return run_command("worker", "--job", job, "--index", index, "--shards", shards, *options)

    return run


def events(ended: Any, kind: str = "") -> list[dict[str, Any]]:
    """What a worker told, each line checked against the schema that is documented."""
    found = [json.loads(line) for line in ended.out.splitlines()]
    validator = jsonschema.Draft202012Validator(json_schema())
    for event in found:
        validator.validate(event)
    return [event for event in found if kind in ("", event["event"])]


def results(folder: Path, but: tuple[str, ...] = ("logs", "shards", "inputs")) -> dict[str, Any]:
    """What lies in the output, but for what only workers leave."""
    found = tree(FolderStore(folder))
    return {key: value for key, value in found.items() if not (key.startswith("runs/") and key.split("/")[2] in but)}


def records(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("out/units/*/*/*.json"))


def report(folder: Path, index: int, shards: int = SHARDS) -> dict[str, Any]:
    (path,) = folder.glob(f"out/runs/*/shards/{index}-of-{shards}.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pages(folder: Path) -> list[Path]:
    return list(folder.glob("out/galleries/*/*/index.html"))


# Shares


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_workers_leave_together_what_one_run_leaves(
    job: Path, tmp_path: Path, work: Command, run_command: Command, order: list[int]
) -> None:
    assert run_command("run", job, "--output", tmp_path / "alone").code == 0
    for index in order:
        assert not pages(tmp_path)
        assert work(job, index).code == 0
    assert pages(tmp_path)
    assert results(tmp_path / "out") == results(tmp_path / "alone")


def test_a_worker_does_and_judges_the_units_of_its_shard_alone(job: Path, tmp_path: Path, work: Command) -> None:
    ended = work(job, 1)
    assert ended.code == 0
    assert records(tmp_path) == ["0001", "0002"]
    verdicts = [path.name[:4] for path in sorted(tmp_path.glob("out/verdicts/*/*/*/*.json"))]
    assert verdicts == ["0001", "0002"]
    (start,), (end,) = events(ended, "start"), events(ended, "end")
    assert (start["index"], start["shards"], start["units"]) == (1, SHARDS, 2)
    assert (end["exit_code"], end["done"], end["verdicts"]) == (0, 2, 2)
    said = report(tmp_path, 1)
    assert (said["units"], said["done"], said["already"], said["failed"]) == (2, 2, 0, [])
    assert ended.err == ""


def test_a_worker_that_runs_again_does_nothing(job: Path, tmp_path: Path, work: Command) -> None:
    for index in range(SHARDS):
        work(job, index)
    before = results(tmp_path / "out")
    ended = work(job, 0)
    assert ended.code == 0
    assert not events(ended, "begin")
    assert report(tmp_path, 0)["already"] == 1
    assert results(tmp_path / "out") == before


def test_there_may_be_more_shards_than_units(job: Path, tmp_path: Path, work: Command) -> None:
    for index in range(8):
        assert work(job, index, shards=8).code == 0
    assert len(records(tmp_path)) == 5
    assert len(pages(tmp_path)) == 1


def test_the_index_comes_from_the_environment_of_an_indexed_job(
    job: Path, tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    assert run_command("worker", "--job", job, "--shards", 3).code == 0
    assert records(tmp_path) == ["0003", "0004"]


def test_a_worker_fetches_the_checkpoints_of_its_own_share_alone(
    tmp_path: Path,
    write_job: Callable[..., Path],
    tiny_data: Callable[[], dict[str, Any]],
    web: WebServer,
    work: Command,
    cache_root: Path,
) -> None:
    write_job(tmp_path)
    first = (tmp_path / "tiny.safetensors").read_bytes()
    models = [
        tiny_data()["models"][0] | {"name": name, "checkpoint": f"{web.put(f'/{name}', data)}#sha256={digest(data)}"}
        for name, data in (("a", first), ("b", first + b" "))
    ]
    job = write_job(tmp_path, models=models)
    assert work(job, 0, shards=2).code == 0
    assert sorted(web.seen) == ["GET /a", "HEAD /a", "HEAD /a", "HEAD /b"]


# Ends


def test_a_broken_unit_fails_its_index_only_and_the_page_still_comes(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], work: Command
) -> None:
    model = tiny_data()["models"][0] | {"source": {"factory": "nets:broken"}}
    del model["checkpoint"]
    job = write_job(tmp_path, models=[model], classes="all")
    codes = [work(job, index, shards=5) for index in (1, 0, 2, 3, 4)]
    assert [ended.code for ended in codes] == [3, 0, 0, 0, 0]
    (failed,) = events(codes[0], "failed")
    assert "not finite" in failed["reason"]
    assert failed["record"].endswith("/0001.json")
    (given_up,) = report(tmp_path, 1, 5)["failed"]
    assert given_up["record"] == failed["record"]
    assert events(codes[0], "end")[0]["reason"] == failed["reason"]
    (page,) = pages(tmp_path)
    counts = json.loads((page.parent / "gallery.json").read_text())["counts"]
    assert (counts["done"], counts["missing"]) == (4, 1)


def test_a_judge_that_fails_fails_the_index_and_the_page_comes_without_its_verdicts(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], work: Command
) -> None:
    model = tiny_data()["models"][0]
    (tmp_path / "bad.ckpt").write_bytes(b"nothing of the kind")
    judge = model | {"name": "judge", "role": "judge", "checkpoint": "./bad.ckpt"}
    job = write_job(tmp_path, models=[model, judge], panel="all")
    ended = [work(job, index, shards=2) for index in (0, 1)]
    assert [one.code for one in ended] == [3, 3]
    assert events(ended[0], "failed")[0]["what"] == "judge judge"
    (page,) = pages(tmp_path)
    counts = json.loads((page.parent / "gallery.json").read_text())["counts"]
    assert (counts["done"], counts["verdicts"], counts["verdicts_missing"]) == (2, 2, 2)


def test_the_page_waits_for_the_verdicts_of_a_worker_that_tries_again(
    tmp_path: Path, write_job: Callable[..., Path], work: Command
) -> None:
    job = write_job(tmp_path, panel="all")

    def gone(*arguments: Any) -> None:
        raise StoreError("the storage is gone")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("classmodels.run.job.judge_all", gone)
        assert work(job, 0, shards=2).code == 4
    assert records(tmp_path) == ["0000"]
    assert work(job, 1, shards=2).code == 0
    assert records(tmp_path) == ["0000", "0002"]
    assert not pages(tmp_path)
    assert work(job, 0, shards=2).code == 0
    assert len(pages(tmp_path)) == 1


def test_what_an_earlier_attempt_gave_up_is_waited_for_once_it_is_tried_again(
    tmp_path: Path, write_job: Callable[..., Path], work: Command
) -> None:
    job = write_job(tmp_path)
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("classmodels.run.units.load", lambda resolved: [][0])
        assert work(job, 0, shards=2).code == 3
    assert report(tmp_path, 0, 2)["failed"]
    real = Ascent.step

    def step(ascent: Ascent) -> None:
        if not seen:
            seen.append(None)
            seen[0] = work(job, 1, shards=2).code
            assert not pages(tmp_path)
        real(ascent)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Ascent, "step", step)
        assert work(job, 0, shards=2).code == 0
    assert seen == [0]
    assert len(pages(tmp_path)) == 1


def test_a_wrong_job_file_ends_with_2_and_says_where(tmp_path: Path, tiny_job: Path, work: Command) -> None:
    tiny_job.write_text(tiny_job.read_text().replace("linear", "linaer"))
    ended = work(tiny_job, 0)
    assert ended.code == 2
    assert 'did you mean "linear"' in ended.err or "linaer" in ended.err
    (end,) = events(ended, "end")
    assert end["exit_code"] == 2
    assert "linaer" in end["reason"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--index", "3", "--shards", "3"], "expected 0 to 2"),
        (["--shards", "3"], "--index"),
        (["--index", "0", "--shards", "3", "--run", "../x"], "expected 12 hex digits"),
        (["--index", "0", "--shards", "3", "--require-cuda", "--device", "cpu"], "beside --require-cuda"),
    ],
)
def test_wrong_arguments_end_with_2(tiny_job: Path, run_command: Command, options: list[str], said: str) -> None:
    ended = run_command("worker", "--job", tiny_job, *options)
    assert ended.code == 2
    assert said in ended.err


def test_a_worker_of_another_run_ends_with_2_and_says_what_differs(
    job: Path, tmp_path: Path, work: Command, run_command: Command
) -> None:
    run12 = json.loads(run_command("run", job, "--json").out)["run"]
    checkpoint = tmp_path / "tiny.safetensors"
    model12 = next((tmp_path / "out/units").iterdir()).name
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1
    checkpoint.write_bytes(data)
    before = results(tmp_path / "out")
    ended = work(job, 0, "--run", run12)
    assert ended.code == 2
    assert f"expected {run12}" in ended.err
    assert f"where that has {model12}/" in ended.err
    assert "a checkpoint or labels that changed" in ended.err
    assert results(tmp_path / "out") == before
    (log,) = tmp_path.glob(f"out/runs/{run12}/logs/local/0.*.jsonl")
    assert json.loads(log.read_text().splitlines()[-1])["exit_code"] == 2


def test_storage_that_cannot_be_used_ends_with_4(tiny_job: Path, work: Command, run_command: Command) -> None:
    tiny_job.write_text(tiny_job.read_text().replace("output: ", "output: /dev/null/"))
    ended = work(tiny_job, 0)
    assert ended.code == 4
    assert events(ended, "end")[0]["exit_code"] == 4


def test_a_unit_that_storage_did_not_take_is_for_another_attempt(
    job: Path, work: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient, "PATIENCE", 0.1)
    monkeypatch.setattr(patient, "PAUSES", (0.01, 0.02))
    real = FolderStore.write

    def write(store: FolderStore, key: str, data: bytes) -> None:
        if "0001-" in key:
            raise StoreError("the server is down", passing=True)
        real(store, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "write", write)
        ended = work(job, 1)
    assert ended.code == 4
    (failed,) = events(ended, "failed")
    assert failed["retry"] is True
    assert work(job, 1).code == 0


def test_a_checkpoint_that_cannot_be_fetched_is_for_another_attempt(
    tmp_path: Path,
    write_job: Callable[..., Path],
    tiny_data: Callable[[], dict[str, Any]],
    web: WebServer,
    work: Command,
    cache_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_job(tmp_path)
    address = web.put("/w", (tmp_path / "tiny.safetensors").read_bytes())
    job = write_job(tmp_path, models=[tiny_data()["models"][0] | {"checkpoint": address}])

    def down(file: RemoteFile) -> None:
        raise StoreError(f"cannot read {file}: the server is down")

    monkeypatch.setattr(RemoteFile, "held", down)
    ended = work(job, 0, shards=1)
    assert ended.code == 4
    assert "the server is down" in events(ended, "end")[0]["reason"]


def test_a_broken_checkpoint_ends_with_3(tmp_path: Path, tiny_job: Path, work: Command) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(b"not a checkpoint at all")
    ended = work(tiny_job, 0, shards=1)
    assert ended.code == 3
    assert "tiny.safetensors" in events(ended, "end")[0]["reason"]


def test_a_defect_is_told_before_its_traceback(tiny_job: Path, monkeypatch: pytest.MonkeyPatch, work: Command) -> None:
    monkeypatch.setattr("classmodels.worker.expand_plan", lambda job: [][0])
    with pytest.raises(IndexError):
        work(tiny_job, 0)


# Interruptions


def test_an_interrupt_saves_the_state_and_the_next_attempt_goes_on(
    job: Path, tmp_path: Path, work: Command, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command("run", job, "--output", tmp_path / "alone").code == 0
    real = Ascent.step

    def step(ascent: Ascent) -> None:
        real(ascent)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Ascent, "step", step)
        ended = work(job, 0)
    assert ended.code == 130
    assert [event["event"] for event in events(ended)][-3:] == ["saved", "interrupted", "end"]
    (interrupted,) = events(ended, "interrupted")
    assert (interrupted["done"], interrupted["left"]) == (0, 1)
    assert not list(tmp_path.glob("out/runs/*/shards/*"))
    ended = work(job, 0)
    assert "1 units go on after step 1" in [event["text"] for event in events(ended, "message")]
    for index in (1, 2):
        work(job, index)
    assert results(tmp_path / "out") == results(tmp_path / "alone")


def test_sigterm_ends_a_worker_with_130_in_time_and_its_log_is_there(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]]
) -> None:
    model = tiny_data()["models"][0] | {"source": {"factory": "nets:slow"}}
    del model["checkpoint"]
    recipe = {"name": "long", "extends": "plain", "steps": 5000}
    job = write_job(tmp_path, models=[model], recipes=[recipe], classes="all")
    command = [sys.executable, "-m", "classmodels.cli", "worker", "--job", job, "--index", "0", "--shards", "2"]
    environment = os.environ | {"TINY_SLEEP": "0.01", "POD_NAME": "pod-0-abcde", "CLASSMODELS_JOB_NAME": "tiny-job"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "begin":
            break
    time.sleep(0.5)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - asked < 10
    assert not err.strip()
    last = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in last[-2:]] == ["interrupted", "end"]
    assert last[-1]["exit_code"] == 130
    assert list(tmp_path.glob("out/state/*/*/*.safetensors"))
    (log,) = tmp_path.glob("out/runs/*/logs/tiny-job/0.pod-0-abcde.jsonl")
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()][-2:] == ["interrupted", "end"]


def run_in_a_process(job: Path, sigterm_at: str = "nothing") -> subprocess.Popen[str]:
    """A worker of all units, which gets SIGTERM as soon as it tells this event."""
    command = [sys.executable, "-m", "classmodels.cli", "worker", "--job", job, "--index", "0", "--shards", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == sigterm_at:
            process.send_signal(signal.SIGTERM)
    process.wait(60)
    return process


def test_sigterm_after_the_end_changes_nothing(tiny_job: Path) -> None:
    assert run_in_a_process(tiny_job, "end").returncode == 0


def test_sigterm_in_the_middle_of_an_import_ends_with_130_too(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]]
) -> None:
    job = write_job(tmp_path, models=[tiny_data()["models"][0] | {"source": {"factory": "late:linear"}}])
    (tmp_path / "src" / "late.py").write_text(
        "exec('import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)')\n"
        "from nets import linear\n"
    )
    assert run_in_a_process(job).returncode == 130


def test_what_a_network_prints_is_no_event(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], work: Command
) -> None:
    model = tiny_data()["models"][0] | {"source": {"factory": "loud:linear"}}
    job = write_job(tmp_path, models=[model])
    (tmp_path / "src" / "loud.py").write_text(
        "import nets\n\ndef linear():\n    print('built')\n    return nets.linear()\n"
    )
    ended = work(job, 0, shards=1)
    assert ended.code == 0
    assert events(ended)
    assert "built" in ended.err
