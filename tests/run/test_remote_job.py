"""Jobs whose checkpoints and labels are elsewhere: the same classifier, whatever way its file came."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from classmodels.job.check import load_job
from classmodels.models.remote import download, https
from classmodels.run.progress import Bars, Lines
from classmodels.s3 import S3Settings, connect, parse_uri
from faults import FaultProxy
from seaweed import SeaweedFS
from web import WebServer

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> None:
    monkeypatch.setattr(https, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(download, "PAUSES", (0.01, 0.01, 0.01))


class Job:
    """The smallest job; `write` it with its checkpoint and labels at any address."""

    def __init__(self, folder: Path, write_job: Callable[..., Path], data: dict[str, Any]) -> None:
        self.folder, self._write, self._model = folder, write_job, data["models"][0]
        self._write(folder)
        self.checkpoint = (folder / "tiny.safetensors").read_bytes()
        self.labels = (folder / "labels.txt").read_bytes()

    def write(self, *models: dict[str, Any], **changes: Any) -> Path:
        return self._write(self.folder, models=[self._model | model for model in models], **changes)


@pytest.fixture
def job(tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]]) -> Job:
    return Job(tmp_path, write_job, tiny_data())


def uploaded(uri: str, data: bytes) -> str:
    bucket, key = parse_uri(uri)
    connect(S3Settings()).put_object(Bucket=bucket, Key=key, Body=data)
    return uri


def records(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("out/units/*/*/*.json"))


def test_the_same_file_from_a_bucket_from_the_web_and_from_the_disk_is_the_same_classifier(
    job: Job, web: WebServer, bucket_uri: str
) -> None:
    file = job.write(
        {"name": "disk"},
        {"name": "web", "checkpoint": web.put("/w.bin", job.checkpoint)},
        {"name": "bucket", "checkpoint": uploaded(f"{bucket_uri}/tiny", job.checkpoint)},
    )
    disk, *others = load_job(file).models
    assert {model.model12 for model in others} == {disk.model12}
    assert {model.checkpoint_sha256 for model in others} == {disk.checkpoint_sha256}


def test_a_run_leaves_what_it_leaves_with_local_files_and_again_only_looks(
    job: Job, web: WebServer, seaweed: SeaweedFS, bucket_uri: str, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = run_command("run", job.write({}, panel="all"))
    expected = records(job.folder)
    checkpoint = web.put("/w.safetensors", job.checkpoint)
    remote = job.write(
        {"checkpoint": checkpoint, "labels": uploaded(f"{bucket_uri}/l.txt", job.labels)},
        panel="all",
        output=str(job.folder / "remote" / "out"),
    )
    proxy = FaultProxy((seaweed.host, seaweed.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    try:
        first = run_command("run", remote)
        assert first.code == local.code == 0, first.err
        assert f"fetching {checkpoint}: 4.0 kB" in first.err
        assert records(job.folder / "remote") == expected
        assert web.seen == ["HEAD /w.safetensors", "GET /w.safetensors"]
        web.seen.clear()
        proxy.seen.clear()
        again = run_command("run", remote)
        assert again.out.startswith("nothing to do: all 2 units are done")
        assert web.seen == ["HEAD /w.safetensors"]
        assert [request.split()[0] for request in proxy.seen] == ["HEAD"]
    finally:
        proxy.stop()


def test_a_file_that_is_no_longer_in_the_cache_is_not_fetched_where_nothing_is_to_do(
    job: Job, web: WebServer, run_command: Command, cache_root: Path
) -> None:
    file = job.write({"checkpoint": web.put("/w", job.checkpoint)})
    run_command("run", file)
    for path in (cache_root / "objects").iterdir():
        path.unlink()
    web.seen.clear()
    assert run_command("run", file).out.startswith("nothing to do")
    assert web.seen == ["HEAD /w"]
    assert run_command("run", file, "--set", "seed=1").out.startswith("2 units done")
    assert web.seen[-1] == "GET /w"


# What is told, and when


def test_validate_looks_for_checkpoints_and_downloads_none(
    job: Job, web: WebServer, run_command: Command, cache_root: Path
) -> None:
    url = web.put("/w.bin", job.checkpoint)
    ended = run_command("validate", job.write({"checkpoint": url}))
    assert (ended.code, web.seen) == (0, ["HEAD /w.bin"])
    assert ended.out.endswith("2 units\n")
    uncounted = job.write({"checkpoint": url, "labels": None}, classes="all")
    assert run_command("validate", uncounted).out.endswith("0 units, and those of tiny\n")
    assert "GET /w.bin" not in web.seen
    assert len(json.loads(run_command("plan", uncounted, "--json").out)["units"]) == 5
    assert "GET /w.bin" in web.seen
    assert run_command("validate", uncounted).out.endswith(", 5 units\n")  # now that it is here


def test_labels_elsewhere_are_small_and_read_by_validate_too(job: Job, web: WebServer, run_command: Command) -> None:
    url = web.put("/labels.json", json.dumps(["ant", "bee", "crow", "dog", "emu"]).encode())
    wrong = run_command("validate", job.write({"labels": url}, classes=["eel"]))
    assert wrong.code == 2
    assert 'class "eel" is not among the 5 labels' in wrong.err
    web.put("/labels.json", b"[1, 2]")
    assert (
        f"labels {url}: label 0 is a JSON int; expected text" in run_command("validate", job.write({"labels": url})).err
    )
    web.put("/labels.json", b"x" * 11_000_000)
    assert "larger than the 10,000,000 bytes" in run_command("validate", job.write({"labels": url})).err
    assert web.seen.count("GET /labels.json") == 2


def test_every_address_that_cannot_be_used_has_its_place_in_the_job_file(
    job: Job, web: WebServer, run_command: Command
) -> None:
    file = job.write(
        {"name": "a", "checkpoint": f"{web.url}/missing.pth"},
        {"name": "b", "checkpoint": "https://user:hush@host/w.pth"},
        {"name": "c", "checkpoint": "s3://bucket"},
        {"name": "d", "labels": "gs://bucket/labels.txt"},
    )
    ended = run_command("validate", file)
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert len(lines) == 4
    for line, said in zip(
        lines,
        (
            f"model a: checkpoint: {web.url}/missing.pth does not exist (HTTP 404): check the address",
            "model b: checkpoint: the address of host holds a user name or password",
            "model c: checkpoint: s3://bucket names no object",
            "model d: labels: found gs:, expected s3://bucket/key or https://host/path",
        ),
        strict=True,
    ):
        assert line.startswith(f"{file}:")
        assert said in line
    assert "hush" not in ended.err


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_a_server_that_is_not_there_ends_with_4_and_one_sentence(job: Job, run_command: Command, command: str) -> None:
    gone = {"checkpoint": "http://localhost:1/w.pth?signature=hush"}
    ended = run_command(command, job.write(gone | {"name": "a"}, gone | {"name": "b"}))
    assert ended.code == 4
    (line,) = ended.err.splitlines()
    assert line.startswith("classmodels: cannot read http://localhost:1/w.pth?...: the connection is refused")
    assert not (job.folder / "out").exists()


def test_what_is_wrong_with_the_job_is_told_beside_a_server_that_is_not_there(job: Job, run_command: Command) -> None:
    file = job.write({"checkpoint": "http://localhost:1/w.pth"}, recipes=["natrual"])
    ended = run_command("validate", file)
    assert ended.code == 2
    assert "the connection is refused" in ended.err
    assert "found the unknown recipe 'natrual'" in ended.err


def test_one_checkpoint_that_is_gone_when_it_is_needed_fails_only_its_units(
    job: Job, web: WebServer, run_command: Command, cache_root: Path
) -> None:
    pin = "0" * 64
    ended = run_command(
        "run",
        job.write(
            {"name": "bad", "checkpoint": web.put("/bad.pth", b"other bytes") + f"#sha256={pin}"},
            {"name": "good", "checkpoint": web.put("/good.pth", job.checkpoint)},
        ),
    )
    assert ended.code == 3
    assert ended.out.startswith("2 units done, 0 were done already, 2 failed")
    assert f"model bad: checkpoint {web.url}/bad.pth is not what the job pins: its sha256 is" in ended.err
    assert all("good@" in record for record in records(job.folder))


# Checkpoints are data, wherever they come from


class Attack:
    """A pickle that would write a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.write_text, (self.canary, "run")


def test_what_comes_is_read_as_data_and_named_by_its_address(
    job: Job, web: WebServer, run_command: Command, tmp_path: Path
) -> None:
    for data, said in (
        (pickle.dumps({"state_dict": Attack(tmp_path / "canary")}), "cannot be used"),
        (b"<html>log in</html>", "it is a web page, not a checkpoint"),
        (job.checkpoint[:-100], "it is truncated or no safetensors file"),
        (b"", "it is empty"),
    ):
        url = web.put("/w.pth", data)
        ended = run_command("run", job.write({"checkpoint": f"{url}?signature=hush"}))
        assert ended.code == 3
        assert f"model tiny: checkpoint {url}?... cannot be used: " in ended.err
        assert said in ended.err
        assert "hush" not in ended.err
    assert not (tmp_path / "canary").exists()


def test_a_copy_that_was_altered_unseen_is_noticed_when_it_is_loaded_and_fetched_anew(
    job: Job, web: WebServer, run_command: Command, cache_root: Path
) -> None:
    file = job.write({"checkpoint": web.put("/w.pth", job.checkpoint)})
    run_command("plan", file)
    (path,) = (path for path in (cache_root / "objects").iterdir() if not path.suffix)
    note = path.with_name(f"{path.name}.json")
    path.write_bytes(job.checkpoint[:-1] + b"\0")
    note.write_text(json.dumps({"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}))
    ended = run_command("run", file)
    assert ended.code == 3
    assert "was altered: run the job again, and it is fetched anew" in ended.err
    assert run_command("run", file).out.startswith("2 units done")


# How a download is told


def test_a_log_has_a_line_when_a_download_begins_and_as_it_goes_on() -> None:
    console = Console(record=True, width=120)
    lines = Lines(console, every=0)
    lines.fetching("s3://bucket/w.pth", 1_000_000, 4_000_000)
    lines.fetched(1_000_000)
    lines.fetching("s3://bucket/v.pth", 0, None)
    lines.fetched(500)
    told = console.export_text().splitlines()
    assert told[0] == "fetching s3://bucket/w.pth: 4.0 MB, of which 1.0 MB are here already"
    assert told[1] == "fetching s3://bucket/w.pth: 2.0 MB of 4.0 MB, 0 s left"
    assert told[2:] == ["fetching s3://bucket/v.pth: nobody says how much", "fetching s3://bucket/v.pth: 500 bytes"]


def test_a_terminal_has_a_bar_of_bytes_beside_those_of_steps() -> None:
    console = Console(force_terminal=True, record=True, width=120)
    with Bars(console) as bars:
        bars.fetching("s3://bucket/[w].pth", 1_000_000, 4_000_000)
        bars.fetched(1_000_000)
        bars.begin("tiny / l2", 2, 10)
        bars.step(5)
    told = console.export_text()
    assert "s3://bucket/[w].pth" in told
    assert "2.0 MB of 4.0 MB" in told
    assert "tiny / l2 (2)" in told
    assert "5/20 steps" in told
