"""A worker's inputs are data from elsewhere: checked by their digests, and never written outside their folder."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classmodels.run import inputs
from faults import FaultProxy, corrupted, cut_with_its_length, reset_download
from seaweed import SeaweedFS
from submitted import Submitted, submit

Command = Callable[..., Any]


@pytest.fixture
def submitted(tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str, cache_root: Path) -> Submitted:
    return submit(write_job(tmp_path / "home"), bucket_uri, tmp_path / "etc")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "scratch" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def listed(submitted: Submitted, *files: dict[str, Any], **more: Any) -> None:
    """Have these files in the list instead of what belongs there."""
    content = {"format": 1, "files": list(files)} | more
    submitted.job.with_name("inputs.json").write_text(json.dumps(content))


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_inputs_lie_beside_the_job_while_it_is_done_and_are_gone_after(
    submitted: Submitted, run_command: Command, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = inputs.shutil.rmtree

    def look(root: Path, **options: Any) -> None:
        real(root, **options)
        seen.extend(tree(Path(root).parent))

    monkeypatch.setattr(inputs.shutil, "rmtree", look)
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 0
    files = [name for name in seen if name.startswith("job/") and name.rpartition("/")[2].count(".") == 1]
    assert files == ["job/inputs/code/nets.py", "job/inputs/models/tiny/labels/labels.txt", "job/job.yaml"]
    assert tree(scratch) == []


def test_a_second_worker_has_the_checkpoint_from_the_cache_of_its_machine(
    submitted: Submitted, run_command: Command, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(*submitted.worker(0, 2)).code == 0
    (address,) = [model.checkpoint_sha256 for model in submitted.plan.job.models]
    proxy = FaultProxy((seaweed.host, seaweed.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    try:
        assert run_command(*submitted.worker(1, 2)).code == 0
        assert not [request for request in proxy.seen if address in request]
    finally:
        proxy.stop()


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "inputs/../../x",
        "/tmp/classmodels-hostile",
        "inputs//x",
        "inputs/./x",
        "inputs",
        "inputs/",
        "job.yaml",
        "inputs.json",
        "inputs/new\nline",
        "inputs/\u0000x",
        "inputs/" + "n" * 300,
        "",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused_and_nothing_is_written(
    submitted: Submitted, run_command: Command, scratch: Path, path: str
) -> None:
    good = json.loads(submitted.packed.inputs_json)["files"]
    listed(submitted, *good, good[0] | {"path": path})
    before = tree(scratch.parents[1])
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 2
    assert "inputs.json is no list of inputs: files.2.path" in ended.err
    assert tree(scratch.parents[1]) == before
    assert not Path("/tmp/classmodels-hostile").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "../../secret"}, "files.0.sha256"),
        ({"sha256": "A" * 64}, "files.0.sha256"),
        ({"size": -1}, "files.0.size"),
        ({"size": "many"}, "files.0.size"),
        ({"mode": 0o777}, "files.0.mode"),
    ],
)
def test_an_entry_that_is_none_is_named(
    submitted: Submitted, run_command: Command, change: dict[str, Any], said: str
) -> None:
    listed(submitted, json.loads(submitted.packed.inputs_json)["files"][0] | change)
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no list of inputs"),
        (b"\xff\xfe", "is no list of inputs"),
        (b"[" * 100_000, "is no list of inputs"),
        (b'{"format": 2, "files": []}', "format"),
        (b"[]", "is no list of inputs"),
    ],
)
def test_a_list_that_is_none_is_refused(submitted: Submitted, run_command: Command, content: bytes, said: str) -> None:
    submitted.job.with_name("inputs.json").write_bytes(content)
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize("second", ["inputs/a", "inputs/a/b"])
def test_a_path_is_there_once_and_is_no_folder_too(submitted: Submitted, run_command: Command, second: str) -> None:
    file = json.loads(submitted.packed.inputs_json)["files"][0]
    listed(submitted, file | {"path": "inputs/a"}, file | {"path": second})
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 2
    assert "expected each path once, and none that is also a folder" in ended.err


def test_an_input_that_is_missing_is_named(submitted: Submitted, run_command: Command, scratch: Path) -> None:
    (key,) = (file.key for file in submitted.packed.files if file.path.name == "labels.txt")
    submitted.store.delete(key)
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 2
    assert "the input inputs/models/tiny/labels/labels.txt is not in the bucket" in ended.err
    assert "submit the job again" in ended.err
    assert tree(scratch) == []


def test_an_input_that_is_another_file_is_not_used(submitted: Submitted, run_command: Command) -> None:
    (file,) = (file for file in submitted.packed.files if file.path.name == "nets.py")
    submitted.store.write(file.key, b"raise SystemExit('run me')".ljust(file.size))
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 4
    assert "is not what the job pins" in ended.err
    submitted.store.write(file.key, b"x" * (file.size + 1))
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 2
    assert f"is larger than the {file.size:,} bytes" in ended.err


def test_an_input_of_another_size_than_is_listed_is_not_used(submitted: Submitted, run_command: Command) -> None:
    files = json.loads(submitted.packed.inputs_json)["files"]
    files[0]["size"] += 1
    listed(submitted, *files)
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 2
    assert f"bytes, expected {files[0]['size']}" in ended.err


def test_bytes_that_are_damaged_on_the_way_are_asked_for_again(
    submitted: Submitted, run_command: Command, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FaultProxy((seaweed.host, seaweed.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    monkeypatch.setattr(inputs, "THREADS", 1)
    monkeypatch.setattr("classmodels.models.remote.download.PAUSES", (0.01, 0.01))
    from faults import passed

    try:
        for fault in (corrupted, reset_download, cut_with_its_length):
            proxy.next(passed, fault)  # a HEAD, and then the file itself
            ended = run_command(*submitted.worker(0, 1))
            assert ended.code == 0, ended.err
    finally:
        proxy.stop()


def test_storage_that_is_gone_ends_with_4(
    submitted: Submitted, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 4
    assert "the connection is refused" in ended.err


def test_inputs_need_a_run_and_a_bucket(submitted: Submitted, run_command: Command, tmp_path: Path) -> None:
    arguments = submitted.worker(0, 1)
    ended = run_command(*arguments[:-2])
    assert ended.code == 2
    assert "say which with --run" in ended.err
    text = submitted.job.read_text()
    submitted.job.write_text(text.replace(submitted.store.uri, str(tmp_path / "out"), -1))
    assert run_command(*arguments).code == 2


def test_many_small_inputs_come_quickly(
    tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str, run_command: Command, cache_root: Path
) -> None:
    job = write_job(tmp_path / "home")
    for number in range(300):
        (tmp_path / "home" / "src" / f"m{number}.py").write_text(f"x = {number}\n")
    submitted = submit(job, bucket_uri, tmp_path / "etc")
    assert submitted.sent == 303
    ended = run_command(*submitted.worker(0, 1))
    assert ended.code == 0
    end = json.loads(ended.out.splitlines()[-1])
    assert end["seconds"] < 30
    digests = {hashlib.sha256(f"x = {number}\n".encode()).hexdigest() for number in range(300)}
    assert digests <= {file.sha256 for file in submitted.packed.files}
