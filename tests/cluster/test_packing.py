"""What is packed of a job, byte by byte; what cannot travel, and what changes on the way, is refused."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmodels.cluster import inputs as cluster_inputs
from classmodels.cluster.inputs import pack, upload
from classmodels.errors import InputError
from classmodels.job.check import load_job
from classmodels.job.document import dump, parse
from classmodels.job.plan import Plan, expand_plan
from classmodels.models import folders
from classmodels.results.progress import Silent
from classmodels.run import inputs as run_inputs
from submitted import submit


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the job lies."""
    folder = tmp_path / "home" / "job"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def model(tiny_data: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return tiny_data()["models"][0]


def planned(job: Path) -> Plan:
    return expand_plan(load_job(job))


def with_links(home: Path) -> None:
    """Have more in the code folder: what counts by what it leads to, and what does not count."""
    source, shared = home / "src", home / "shared"
    (source / "deep").mkdir()
    (source / "deep" / "größe.txt").write_text("ä")
    shared.mkdir()
    (shared / "more.py").write_text("x = 1\n")
    (source / "linked").symlink_to(shared)
    for skipped in ("__pycache__", ".git"):
        (source / skipped).mkdir()
        (source / skipped / "x.py").write_text("not code")


def test_the_same_inputs_give_the_same_bytes(
    home: Path, tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str
) -> None:
    job = write_job(home)
    with_links(home)
    first = pack(planned(job), bucket_uri)
    shutil.copytree(home, tmp_path / "copy", symlinks=True)
    second = pack(planned(tmp_path / "copy" / "job.yaml"), f"{bucket_uri}/")
    assert (first.job_yaml, first.inputs_json) == (second.job_yaml, second.inputs_json)
    assert [file[0] for file in first.files] == [file[0] for file in second.files]


def test_what_is_packed_is_what_the_digest_of_the_code_counts(
    home: Path, write_job: Callable[..., Path], bucket_uri: str
) -> None:
    job = write_job(home)
    with_links(home)
    packed = pack(planned(job), bucket_uri)
    listed = json.loads(packed.inputs_json)
    assert listed["format"] == 1
    code = [file for file in listed["files"] if file["path"].startswith("inputs/code/")]
    expected = {f"inputs/code/{name}" for name, _ in folders.files_of(home / "src")}
    assert {file["path"] for file in code} == expected
    assert "inputs/code/linked/more.py" in expected
    for file in code:
        data = (home / "src" / file["path"].removeprefix("inputs/code/")).read_bytes()
        assert (file["sha256"], file["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert packed.bytes == sum(file.size for file in packed.files)
    assert str(packed) == f"{len(packed.files)} files, {packed.bytes / 1000:.1f} kB"


def test_only_what_is_not_there_is_sent_and_the_plan_first(
    home: Path, tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str
) -> None:
    job = write_job(home)
    first = submit(job, bucket_uri, tmp_path / "etc")
    assert first.sent == len(first.packed.files) == 3
    assert submit(job, bucket_uri, tmp_path / "etc").sent == 0
    run = f"runs/{first.run12}"
    first.store.delete(first.packed.files[0].key)
    assert submit(job, bucket_uri, tmp_path / "etc").sent == 1
    expected = [f"{run}/plan.json", *(file.key for file in first.packed.files)]
    assert sorted(first.store.list("")) == sorted(expected)


def test_a_local_output_is_refused(tiny_job: Path) -> None:
    with pytest.raises(InputError, match="is a folder of this machine, where pods cannot write: expected s3://"):
        pack(planned(tiny_job), "./galleries")


def test_a_factory_in_the_working_directory_is_refused_and_the_way_out_is_told(
    home: Path, write_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(home, code=...)
    shutil.move(home / "src" / "nets.py", home / "nets.py")
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match=r"job.yaml:\d+:\d+: model tiny: .*nets.py is neither .* set `code: \.`"):
        pack(planned(job), "s3://bucket/x")
    assert pack(planned(write_job(home, code=".")), "s3://bucket/x").files


def test_what_the_code_imports_from_the_working_directory_is_missed_too(
    home: Path, write_job: Callable[..., Path], model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(home, models=[model | {"source": {"factory": "mine:linear"}}])
    (home / "src" / "mine.py").write_text("import beside_packing\nfrom nets import linear\n")
    (home / "beside_packing.py").write_text("x = 1\n")
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match=r"beside_packing.py, which its factory imports, is neither"):
        pack(planned(job), "s3://bucket/x")


@pytest.mark.parametrize("name", [b"new\nline.txt", b"\xff.txt", "bidi\u202etxt".encode()])
def test_a_file_whose_name_cannot_be_written_down_is_refused(
    home: Path, write_job: Callable[..., Path], name: bytes
) -> None:
    job = write_job(home)
    (home / "src" / os.fsdecode(name)).write_text("x")
    with pytest.raises(InputError, match="cannot travel by its name: expected printable characters in UTF-8"):
        pack(planned(job), "s3://bucket/x")


def test_a_link_to_a_folder_around_it_is_refused(home: Path, write_job: Callable[..., Path]) -> None:
    job = write_job(home)
    (home / "src" / "again").symlink_to(home / "src")
    with pytest.raises(InputError, match="again is a link to a folder around it, which cannot travel: remove it"):
        pack(planned(job), "s3://bucket/x")


def test_more_files_than_a_job_may_have_are_refused(
    home: Path, write_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(home)
    for number in range(20):
        (home / "src" / f"{number}.txt").touch()
    with monkeypatch.context() as patched:
        patched.setattr("classmodels.cluster.files.MOST", 10)
        with pytest.raises(InputError, match="names more than 10 local files"):
            pack(planned(job), "s3://bucket/x")
    monkeypatch.setattr(cluster_inputs, "MOST_CONFIG_BYTES", 2000)
    with pytest.raises(InputError, match=r"fit into a ConfigMap; name a folder .* or build a wheel"):
        pack(planned(job), "s3://bucket/x")
    assert run_inputs.MOST == folders.MAX_ENTRIES == 20_000


@pytest.mark.parametrize("name", ["src/nets.py", "tiny.safetensors", "labels.txt"])
def test_a_file_that_changed_since_the_plan_was_made_is_refused(
    home: Path, write_job: Callable[..., Path], name: str
) -> None:
    plan = planned(write_job(home))
    (home / name).write_bytes((home / name).read_bytes() + b"more\n")
    with pytest.raises(InputError, match="changed since the job"):
        pack(plan, "s3://bucket/x")


@pytest.mark.parametrize("name", ["src/nets.py", "tiny.safetensors", "labels.txt"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_changes_before_it_is_sent_is_refused(
    home: Path, write_job: Callable[..., Path], bucket_uri: str, name: str, gone: bool
) -> None:
    submitted = submit(write_job(home), bucket_uri, home.parent / "etc")
    for file in submitted.packed.files:
        submitted.store.delete(file.key)
    if gone:
        (home / name).unlink()
    else:
        (home / name).write_bytes((home / name).read_bytes() + b"more\n")
    with pytest.raises(InputError, match="cannot be read any more" if gone else "changed since the job was read"):
        upload(submitted.packed, submitted.store, submitted.run12, Silent())


def test_a_file_that_changes_while_it_is_sent_is_refused_and_taken_back(
    home: Path, write_job: Callable[..., Path], bucket_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = submit(write_job(home), bucket_uri, home.parent / "etc")
    (file,) = (one for one in submitted.packed.files if one.path.name == "labels.txt")
    submitted.store.delete(file.key)
    real = type(submitted.store).write_file

    def write_file(store: Any, key: str, path: Path, sha256: str) -> None:
        path.write_text("something else")
        real(store, key, path, sha256)

    monkeypatch.setattr(type(submitted.store), "write_file", write_file)
    with pytest.raises(InputError, match="changed since the job was read"):
        upload(submitted.packed, submitted.store, submitted.run12, Silent())
    assert submitted.store.read(file.key) is None


# The rewritten job

WORDS = ["no", "1e3", "0o17", "12e5", "1_000", "2026-01-01", "null", "~", "=", "<<", "0x1F", "1:30", "off", "", "- a"]
TEXT = st.one_of(st.sampled_from(WORDS), st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc"))))
NUMBER = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=10,
)


@given(st.dictionaries(TEXT, VALUE, min_size=1, max_size=5))
def test_what_is_written_as_yaml_is_read_as_the_same(data: dict[str, Any]) -> None:
    text = dump(data)
    found = parse(text.encode(), "job.yaml").data
    assert found == data
    assert repr(found) == repr(data)  # 1 is not 1.0, nor true
    assert dump(found) == text
