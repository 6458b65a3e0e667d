"""The same job with a bucket instead of a folder: run, run again, rebuild, plan; and what is said where it fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from altered import put_with_old_digest
from classmodels.s3 import S3Settings, connect
from classmodels.store import Record, RunPlan, open_store
from classmodels.store.records import parse
from faults import FaultProxy
from seaweed import BUCKET, READER, SeaweedFS

Command = Callable[..., Any]


@pytest.fixture
def bucket_job(tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str) -> Path:
    """The smallest job with a film and a panel, and its output in a bucket."""
    return write_job(tmp_path, output=bucket_uri, panel="all", animation={"frames": 3, "format": "webp"})


def without_circumstances(key: str, data: bytes) -> Any:
    """An object but for what differs from one run to the next: timings and host."""
    record = parse(Record, data) if key.startswith("units/") and key.endswith(".json") else None
    return record.model_copy(update={"timings": {}}) if record else data


def test_a_bucket_ends_up_with_what_a_folder_does(
    bucket_job: Path, bucket_uri: str, run_command: Command, tmp_path: Path
) -> None:
    in_bucket = run_command("run", bucket_job)
    assert in_bucket.code == 0, in_bucket.err
    assert in_bucket.out.splitlines()[0].startswith("2 units done, 0 were done already, 0 failed, 2 verdicts given")
    in_folder = run_command("run", bucket_job, "--output", tmp_path / "out")
    bucket, folder = open_store(bucket_uri), open_store(str(tmp_path / "out"))
    keys = list(folder.list(""))
    assert list(bucket.list("")) == keys
    assert len(keys) >= 2 * 3 + 2 + 1 + 4
    for key in keys:
        theirs, ours = bucket.read(key), folder.read(key)
        assert theirs is not None
        assert ours is not None
        assert without_circumstances(key, theirs) == without_circumstances(key, ours), key
    page = in_bucket.out.splitlines()[-1]
    assert page.startswith(f"{bucket_uri}/galleries/tiny/")
    assert page.removeprefix(bucket_uri) == in_folder.out.splitlines()[-1].removeprefix(str(tmp_path / "out"))
    assert bucket.read(page.removeprefix(f"{bucket_uri}/")) is not None


def test_running_again_does_nothing_and_writes_nothing(
    bucket_job: Path,
    bucket_uri: str,
    run_command: Command,
    seaweed: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = run_command("run", bucket_job)
    proxy = FaultProxy((seaweed.host, seaweed.port))
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        again = run_command("run", bucket_job)
        asked = list(proxy.seen)
    finally:
        proxy.stop()
    assert again.code == 0
    assert again.out.splitlines() == ["nothing to do: all 2 units are done", first.out.splitlines()[-1]]
    assert {request.split()[0] for request in asked} <= {"HEAD", "GET"}
    assert len(asked) <= 10


def test_the_storage_of_the_job_says_where_the_bucket_is(
    bucket_uri: str,
    run_command: Command,
    seaweed: SeaweedFS,
    write_job: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    storage = {
        "endpoint_url": seaweed.endpoint,
        "region": "eu-west-1",
        "path_style": True,
        "checksum": "when_supported",
    }
    job = write_job(tmp_path, output=bucket_uri, storage=storage)
    assert run_command("run", job).code == 0
    estimated = json.loads(run_command("plan", job, "--estimate", "--json").out)["estimate"]
    assert (estimated["units"], estimated["missing"]) == (2, 0)


def test_a_gallery_is_rebuilt_in_the_bucket(bucket_job: Path, bucket_uri: str, run_command: Command) -> None:
    page = run_command("run", bucket_job).out.splitlines()[-1]
    store = open_store(bucket_uri)
    key = page.removeprefix(f"{bucket_uri}/")
    before = store.read(key)
    store.delete(key)
    ended = run_command("gallery", bucket_uri)
    assert (ended.code, ended.out) == (0, f"{page}\n")
    assert store.read(key) == before
    (plan,) = (key for key in store.list("runs/") if key.endswith("plan.json"))
    assert parse(RunPlan, store.read(plan) or b"") is not None


def test_a_gallery_of_an_empty_place_in_a_bucket_is_an_error(bucket_uri: str, run_command: Command) -> None:
    ended = run_command("gallery", bucket_uri)
    assert ended.code == 2
    assert f"{bucket_uri}: found no run" in ended.err


@pytest.mark.parametrize("command", ["run", "gallery"])
def test_a_bucket_that_cannot_be_used_ends_with_4_and_one_sentence(
    bucket_job: Path, run_command: Command, seaweed: SeaweedFS, command: str
) -> None:
    ended = run_command("run", bucket_job, "--output", "s3://galeries/a") if command == "run" else None
    ended = ended or run_command("gallery", "s3://galeries/a")
    assert ended.code == 4
    (line,) = [line for line in ended.err.splitlines() if line.startswith("classmodels: ")]
    assert line.startswith(
        f"classmodels: cannot list s3://galeries/a/runs/ at {seaweed.endpoint}: "
        if command == "gallery"
        else "classmodels: cannot read s3://galeries/a/runs/"
    )
    assert "the credentials do not permit it, or there is no such bucket; check the bucket's name" in line


def test_who_may_only_read_is_told_before_anything_is_computed(
    bucket_job: Path, bucket_uri: str, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in READER.environment.items():
        monkeypatch.setenv(variable, value)
    ended = run_command("run", bucket_job)
    assert ended.code == 4
    assert f"cannot write {bucket_uri}/runs/" in ended.err
    assert "s3:PutObject" in ended.err
    assert "to do" not in ended.err
    assert not [secret for secret in (READER.secret_key, READER.access_key) if secret in ended.err + ended.out]


def test_an_output_that_is_no_bucket_is_a_problem_of_the_job_file(
    tmp_path: Path, write_job: Callable[..., Path], run_command: Command
) -> None:
    job = write_job(tmp_path, output=f"s3:/{BUCKET}/a")
    ended = run_command("validate", job)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith(f"{job}:")
    assert f"found 's3:/{BUCKET}/a', expected s3://bucket/prefix" in line


KINDS = {
    "a record": lambda key: key.startswith("units/") and key.endswith("/0002.json"),
    "an image": lambda key: "/0002-" in key and key.endswith(".png"),
    "a verdict": lambda key: key.startswith("verdicts/") and "/0002." in key,
    "the plan": lambda key: key.endswith("/plan.json"),
    "the page": lambda key: key.endswith("/index.html"),
    "the page's data": lambda key: key.endswith("/gallery.json"),
    "the pointer": lambda key: key.endswith("/latest.json"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_in_the_bucket_stops_no_command_and_is_made_again(
    tmp_path: Path,
    write_job: Callable[..., Path],
    bucket_uri: str,
    run_command: Command,
    kind: str,
) -> None:
    job = write_job(tmp_path, output=bucket_uri, panel="all")
    assert run_command("run", job).code == 0
    store = open_store(bucket_uri)
    key = next(key for key in store.list("") if KINDS[kind](key))
    data = store.read(key) or b""
    put_with_old_digest(connect(S3Settings()), bucket_uri, key, data[:-1] + bytes([data[-1] ^ 1]), data)
    assert run_command("list", bucket_uri).code == 0
    assert run_command("verify", bucket_uri).code == 1
    assert run_command("gallery", bucket_uri).code == (2 if kind == "the plan" else 0)
    ended = run_command("run", job)
    if kind in ("an image", "a verdict"):  # `verify` says what to delete, so that they are made again
        store.delete(key if kind == "a verdict" else next(k for k in store.list("units/") if k.endswith("/0002.json")))
        ended = run_command("run", job)
    assert ended.code == 0, ended.err
    assert run_command("verify", bucket_uri).code == 0
