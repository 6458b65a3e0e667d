"""Bringing results here: what comes, what does not come twice, what is never believed. From a folder and a bucket."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import copy, first, flip, verified

from altered import resealed, said_again
from classmodels.errors import StoreError
from classmodels.results import pull as pulling
from classmodels.results.place import open_place
from classmodels.results.progress import Silent
from classmodels.results.pull import Pulled, pull
from classmodels.store import open_store
from classmodels.store.folder import FolderStore
from classmodels.store.only import Only
from classmodels.store.s3 import S3Store
from faults import FaultProxy
from seaweed import READER, SeaweedFS

Command = Callable[..., Any]


def bring(source: str, folder: Path, *only: str, dry_run: bool = False) -> Pulled:
    return pull(open_place(source), str(folder), Only(only), Silent(), dry_run=dry_run)


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def links(page: Path) -> list[str]:
    found = re.findall(r'(?:href|src)="([^"#]+)"', page.read_text())
    return [link for link in found if not link.startswith(("http", "data:"))]


def test_everything_comes_and_is_what_its_record_says(source: str, tmp_path: Path) -> None:
    report = bring(source, tmp_path / "here")
    assert (report.units, report.current, report.failed) == (6, 0, {})
    assert report.objects == 6 * 3 + 6  # image, film and record; a verdict each
    looked = verified(tmp_path / "here")
    assert (looked.differences, looked.unfinished) == ([], 0)
    assert looked.objects >= 24


def test_pulled_names_are_for_people_and_the_page_works_with_them(source: str, tmp_path: Path) -> None:
    (page,) = bring(source, tmp_path / "here").pages
    units = {path.name for path in (tmp_path / "here" / "units").rglob("*") if path.is_file()}
    assert units == {f"000{i}{rest}" for i, name in enumerate(["ant", "bee", "crow"]) for rest in
                     (".json", f"-{name}.png", f"-{name}.webp")}  # fmt: skip
    images = [link for link in links(Path(page)) if "units/" in link]
    assert len(images) >= 12
    for link in links(Path(page)):
        assert (Path(page).parent / link).is_file(), link
    view = json.loads((Path(page).parent / "gallery.json").read_text())
    for unit in view["units"]:
        image = Path(page).parent / unit["image"]["href"]
        assert hashlib.sha256(image.read_bytes()).hexdigest() == unit["image"]["sha256"]
    latest = json.loads((tmp_path / "here" / "galleries" / "tiny" / "latest.json").read_text())
    assert (tmp_path / "here" / "galleries" / "tiny" / latest["page"]) == Path(page)


def test_a_pulled_folder_is_a_store_like_any_other(source: str, tmp_path: Path, run_command: Command) -> None:
    bring(source, tmp_path / "here")
    before = tree(tmp_path / "here")
    assert run_command("gallery", tmp_path / "here").code == 0
    assert tree(tmp_path / "here") == before  # page and contact sheet are what a rebuild makes of the pulled records
    again = bring(str(tmp_path / "here"), tmp_path / "further")
    assert again.units == 6
    ours = {name: data for name, (data, _) in before.items()}
    assert {name: data for name, (data, _) in tree(tmp_path / "further").items()} == ours
    bring(source, tmp_path / "here")
    assert tree(tmp_path / "here") == before


def test_pulling_again_brings_nothing_and_touches_nothing(source: str, tmp_path: Path, run_command: Command) -> None:
    bring(source, tmp_path / "here")
    before = tree(tmp_path / "here")
    report = bring(source, tmp_path / "here")
    assert (report.units, report.current, report.objects, report.bytes) == (0, 6, 0, 0)
    assert tree(tmp_path / "here") == before
    ended = run_command("pull", source, tmp_path / "here")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == ["nothing to do: all 6 units are here", report.pages[0]]


def test_pulling_again_costs_a_bucket_listings_and_plans_alone(
    bucket_uri: str, finished: Path, tmp_path: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(open_store(str(finished)), open_store(bucket_uri))
    bring(bucket_uri, tmp_path / "here")
    proxy = FaultProxy((seaweed.host, seaweed.port))
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        assert bring(bucket_uri, tmp_path / "here").objects == 0
        asked = list(proxy.seen)
    finally:
        proxy.stop()
    assert {request.split()[0] for request in asked} == {"GET"}
    assert not [request for request in asked if "/units/" in request]
    assert len(asked) <= 9


def test_an_etag_that_is_no_md5_says_nothing(
    bucket_uri: str, finished: Path, tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(open_store(str(finished)), open_store(bucket_uri))
    entries = S3Store.entries
    # As stores do that encrypt with a key of one's own: 32 hex digits too.
    foreign = lambda self, prefix: iter([replace(e, md5=e.md5[::-1]) for e in entries(self, prefix)])  # noqa: E731
    monkeypatch.setattr(S3Store, "entries", foreign)
    assert bring(bucket_uri, tmp_path / "here").units == 6
    before = tree(tmp_path / "here")
    assert run_command("pull", bucket_uri, tmp_path / "here").out.startswith("nothing to do: all 6 units are here\n")
    assert tree(tmp_path / "here") == before
    store = open_store(bucket_uri)
    key = next(store.list("verdicts/"))
    flip(store, key)
    assert bring(bucket_uri, tmp_path / "here").objects == 1
    assert (tmp_path / "here" / key).read_bytes() == store.read(key)


def test_a_file_altered_without_changing_its_size_is_found_by_verify_and_mended_by_pull(
    source: str, tmp_path: Path, run_command: Command
) -> None:
    bring(source, tmp_path / "here")
    here = FolderStore(tmp_path / "here")
    for end in ("-bee.png", "-ant.webp", "0002.json"):
        before = tree(tmp_path / "here")
        key = first(here, end)
        flip(here, key)
        ended = run_command("verify", tmp_path / "here")
        assert ended.code == 1
        (line,) = [line for line in ended.out.splitlines() if line.startswith(key) or end == "0002.json"][:1]
        assert "pull again" in line
        report = bring(source, tmp_path / "here")
        assert (report.units, report.objects) == (1, 1), end
        assert {name: data for name, (data, _) in tree(tmp_path / "here").items()} == {
            name: data for name, (data, _) in before.items()
        }
        assert run_command("verify", tmp_path / "here").code == 0


def test_what_is_missing_here_comes_and_nothing_else(source: str, tmp_path: Path) -> None:
    bring(source, tmp_path / "here")
    here = FolderStore(tmp_path / "here")
    png, film, record = (first(here, end) for end in ("-ant.png", "-bee.webp", "/0002.json"))
    for key in (png, film, record):
        here.delete(key)
    report = bring(source, tmp_path / "here")
    assert (report.units, report.current, report.objects) == (3, 3, 3)
    assert verified(tmp_path / "here").differences == []


def test_what_is_new_there_comes_with_the_next_pull(
    tmp_path: Path, write_job: Callable[..., Path], run_command: Command
) -> None:
    run_command("run", write_job(tmp_path, classes=["ant"]))
    bring(str(tmp_path / "out"), tmp_path / "here")
    run_command("run", write_job(tmp_path, classes=["ant", "eel"]))
    report = bring(str(tmp_path / "out"), tmp_path / "here")
    assert (report.units, report.current, len(report.pages)) == (1, 1, 2)
    latest = json.loads((tmp_path / "here/galleries/tiny/latest.json").read_text())["run12"]
    assert latest == json.loads((tmp_path / "out/galleries/tiny/latest.json").read_text())["run12"]


def test_a_label_that_was_mended_leaves_no_file_under_the_old_name(source: str, tmp_path: Path) -> None:
    bring(source, tmp_path / "here")
    store = open_store(source)
    key, old = first(store, "/0000.json"), first(store, ".png")
    data, image = store.read(key), store.read(old)
    assert data is not None
    assert image is not None
    new = old.replace("-ant.", "-emmet.")
    store.write(new, image)
    name, changed = old.rpartition("/")[2], new.rpartition("/")[2]
    data = data.replace(name.encode(), changed.encode()).replace(b'"label": "ant"', b'"label": "emmet"')
    store.write(key, resealed(data))
    bring(source, tmp_path / "here")
    folder = (tmp_path / "here" / key).parent
    assert sorted(path.name for path in folder.glob("0000*")) == ["0000-ant.webp", "0000-emmet.png", "0000.json"]
    assert verified(tmp_path / "here").differences == []


@contextmanager
def cut_off(monkeypatch: pytest.MonkeyPatch, writes: int) -> Iterator[None]:
    """So many objects are written here, one after the other, and then nothing more."""
    left, write = iter(range(writes)), FolderStore.write

    def until_then(self: FolderStore, key: str, data: bytes) -> None:
        if next(left, None) is None:
            raise StoreError("the plug is pulled")
        write(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(pulling, "THREADS", 1)
        patch.setattr(FolderStore, "write", until_then)
        yield


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 7, 12])
def test_a_pull_that_is_cut_off_leaves_nothing_wrong_and_the_next_goes_on_from_there(
    in_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    with cut_off(monkeypatch, writes), pytest.raises(StoreError, match="plug"):
        bring(in_folder.store.uri, tmp_path / "here")
    came = set(tree(tmp_path / "here"))
    assert len(came) == writes
    for record in (name for name in came if name.startswith("units/") and name.endswith(".json")):
        said = json.loads((tmp_path / "here" / record).read_text())
        assert all(
            (tmp_path / "here" / record).with_name(said[kind]["name"]).is_file() for kind in ("image", "animation")
        )
    report = bring(in_folder.store.uri, tmp_path / "here")
    assert report.objects == 24 - writes
    assert verified(tmp_path / "here").differences == []


def content(folder: Path) -> dict[str, bytes]:
    return {name: data for name, (data, _) in tree(folder).items()}


def test_a_second_pull_that_is_cut_off_anywhere_leaves_no_stale_page_to_the_third(
    in_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [key for key in in_folder.store.list("units/") if "/0002" in key]
    later = {key: in_folder.store.read(key) for key in some}
    for key in some:
        in_folder.store.delete(key)
    bring(in_folder.store.uri, tmp_path / "first")
    for key, data in later.items():
        in_folder.store.write(key, data)
    bring(in_folder.store.uri, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for writes in range(100):
        here = tmp_path / f"cut-{writes}"
        shutil.copytree(tmp_path / "first", here)
        with cut_off(monkeypatch, writes):
            try:
                bring(in_folder.store.uri, here)
            except StoreError:
                pass
            else:
                break
        bring(in_folder.store.uri, here)
        assert content(here) == whole, writes
    assert writes > 8


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["*/quick/crow"], {"0002"}),
        (["*/*/1"], {"0001"}),
        (["tiny/calm/*", "*/quick/ANT"], {"0000", "0001", "0002"}),
        (["*/quick/[ab]*"], {"0000", "0001"}),
    ],
)
def test_only_brings_what_is_meant_and_a_page_of_it(
    source: str, tmp_path: Path, only: list[str], names: set[str]
) -> None:
    (page,) = bring(source, tmp_path / "here", *only).pages
    records = list((tmp_path / "here" / "units").rglob("*.json"))
    assert {path.stem for path in records} == names
    view = json.loads(Path(page).with_name("gallery.json").read_text())
    assert view["counts"]["units"] == view["counts"]["done"] == len(records)
    assert verified(tmp_path / "here").differences == []


def test_one_pull_adds_to_another(source: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    bring(source, whole)
    bring(source, parts, "*/quick/crow")
    bring(source, parts, "*/calm/*")
    assert verified(parts).differences == []
    assert len(list((parts / "units").rglob("*.png"))) == 4
    bring(source, parts)
    assert {name: data for name, (data, _) in tree(parts).items()} == {
        name: data for name, (data, _) in tree(whole).items()
    }


@pytest.mark.parametrize(
    ("only", "message"), [("*/quick/eel", "found no such unit"), ("quick/ant", "expected MODEL/RECIPE/CLASS")]
)
def test_only_that_means_nothing_is_an_error(
    source: str, tmp_path: Path, run_command: Command, only: str, message: str
) -> None:
    ended = run_command("pull", source, tmp_path / "here", "--only", only)
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "here").exists()


def test_a_dry_run_tells_what_would_come_and_writes_nothing(source: str, tmp_path: Path, run_command: Command) -> None:
    said = json.loads(run_command("pull", source, tmp_path / "here", "--dry-run", "--json").out)
    assert not (tmp_path / "here").exists()
    really = json.loads(run_command("pull", source, tmp_path / "here", "--json").out)
    for what in ("units", "objects", "bytes", "current"):
        assert said[what] == really[what], what
    assert run_command("pull", source, tmp_path / "here", "--dry-run").out.startswith(
        "0 units would come (0 objects, 0.0 kB), 6 were here already"
    )


@pytest.mark.parametrize(
    "inside", ["galleries/tiny/{run}", "galleries/tiny/{run}/index.html", "galleries/tiny", "runs/{run}"]
)
def test_a_path_inside_means_that_gallery(source: str, tmp_path: Path, inside: str) -> None:
    store = open_store(source)
    run = next(store.list("runs/")).split("/")[1]
    stray = first(store, "/0000.json")
    other = stray.replace("quick@", "other@").replace("calm@", "other@")
    store.write(other, store.read(stray) or b"")
    report = bring(f"{source}/{inside.format(run=run)}", tmp_path / "here")
    assert (report.units, len(report.pages), report.failed) == (6, 1, {})
    assert not (tmp_path / "here" / other).exists()
    assert verified(tmp_path / "here").differences == []


def test_units_alone_come_without_a_page(source: str, tmp_path: Path) -> None:
    recipe = first(open_store(source), ".json").rpartition("/")[0]
    report = bring(f"{source}/{recipe}", tmp_path / "here")
    assert (report.units, report.pages) == (3, [])


def test_what_is_damaged_there_does_not_come_and_everything_else_does(
    source: str, tmp_path: Path, run_command: Command
) -> None:
    store = open_store(source)
    png, record = first(store, ".png"), [key for key in store.list("units/") if key.endswith("/0001.json")][-1]
    flip(store, png)
    store.write(record, b"{}")
    ended = run_command("pull", source, tmp_path / "here")
    assert ended.code == 3
    assert "4 units came" in ended.out
    assert f"{png} is not the file that its record names; delete its record there and run the job again" in ended.err
    assert f"failed: {record}: its record is damaged there" in ended.err
    assert len(list((tmp_path / "here" / "units").rglob("*.png"))) == 4
    looked = verified(tmp_path / "here")
    assert (looked.differences, looked.unfinished) == ([], 2)


@pytest.mark.parametrize("name", ["../../../../stolen.png", "/tmp/stolen.png", ".hidden.png", "a/b.png", "a\\b.png"])
def test_a_record_cannot_name_a_file_elsewhere(source: str, tmp_path: Path, name: str) -> None:
    store = open_store(source)
    record = first(store, "/0000.json")
    said = json.loads(store.read(record) or b"")
    said["image"]["name"] = name
    store.write(record, said_again(said))
    report = bring(source, tmp_path / "a" / "b" / "here")
    assert list(report.failed) == [record]
    assert not list(tmp_path.rglob("*stolen*"))
    assert report.units == 5


def test_a_record_that_is_written_otherwise_is_renamed_all_the_same(source: str, tmp_path: Path) -> None:
    store = open_store(source)
    record = first(store, "/0000.json")
    said = json.loads(store.read(record) or b"")
    said["of a newer version"] = [1.5, {"name": said["image"]["name"]}]
    store.write(record, said_again(said, separators=(",", ":")))
    bring(source, tmp_path / "here")
    ours = json.loads((tmp_path / "here" / record).read_text())
    assert ours["image"]["name"] == "0000-ant.png"
    assert ours["of a newer version"] == said["of a newer version"]
    assert verified(tmp_path / "here").differences == []


def test_a_link_in_the_folder_does_not_lead_a_pull_elsewhere(source: str, tmp_path: Path, run_command: Command) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "units").symlink_to(tmp_path / "elsewhere")
    ended = run_command("pull", source, tmp_path / "here")
    assert ended.code == 4
    assert "a symbolic link leads to" in ended.err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_is_not_pulled_into_itself(in_folder: Any, run_command: Command) -> None:
    ended = run_command("pull", in_folder.store.uri, in_folder.store.uri)
    assert ended.code == 2
    assert "expected another" in ended.err


def test_who_reads_results_waits_for_no_torch(in_folder: Any, tmp_path: Path) -> None:
    source, page = in_folder.store.uri, tmp_path / "page.html"
    commands = [["pull", source, str(tmp_path / "here")], ["verify", source], ["list", source], ["gallery", source]]
    script = (
        "import sys; from classmodels.cli import cli\n"
        f"for command in {[*commands, ['export', source, str(page)]]!r}:\n"
        "    try: cli.main(command, standalone_mode=False)\n"
        "    except SystemExit as end: assert end.code == 0, command\n"
        "assert not {'torch', 'numpy', 'boto3', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("command", ["pull", "verify", "list", "export", "gallery", "prune"])
def test_a_place_with_nothing_of_ours_is_an_error(tmp_path: Path, run_command: Command, command: str) -> None:
    arguments = {"pull": [tmp_path / "here"], "export": [tmp_path / "a.html"], "prune": ["--keep-last", "1"]}
    ended = run_command(command, tmp_path / "nothing", *arguments.get(command, []))
    assert ended.code == 2
    assert f"{tmp_path / 'nothing'}: found no run, expected a folder or bucket that" in ended.err
    assert not (tmp_path / "here").exists()


WRONG = {
    "bucket": ({}, "there is no such bucket"),
    "secret": ({"AWS_SECRET_ACCESS_KEY": "no-such-secret"}, "the secret key is wrong"),
    "port": ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "the connection is refused: no server listens there"),
    "no credentials": (dict.fromkeys(READER.environment), "no credentials can be had; set AWS_ACCESS_KEY_ID"),
    "nothing set": (
        dict.fromkeys([*READER.environment, "AWS_ENDPOINT_URL_S3"]),
        "at https://s3.amazonaws.com: no credentials can be had",
    ),
}


@pytest.mark.parametrize("command", ["pull", "verify", "list", "export", "gallery", "prune"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_bucket_that_cannot_be_used_is_told_in_one_sentence_within_half_a_minute(
    bucket_uri: str, tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch, command: str, wrong: str
) -> None:
    arguments = {"pull": [tmp_path / "here"], "export": [tmp_path / "a.html"], "prune": ["--keep-last", "1"]}
    uri = "s3://galeries/a" if wrong == "bucket" else bucket_uri
    environment, reason = WRONG[wrong]
    for variable, value in environment.items():
        monkeypatch.delenv(variable) if value is None else monkeypatch.setenv(variable, value)
    began = time.monotonic()
    ended = run_command(command, uri, *arguments.get(command, []))
    assert time.monotonic() - began < 30
    assert ended.code == 4
    (line,) = ended.err.splitlines()
    assert line.startswith(f"classmodels: cannot list {uri}/")
    assert reason in line
    assert "no-such-secret" not in line
    assert not list(tmp_path.iterdir())


def test_who_may_only_read_can_pull_and_verify(
    bucket_uri: str, finished: Path, tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(open_store(str(finished)), open_store(bucket_uri))
    for variable, value in READER.environment.items():
        monkeypatch.setenv(variable, value)
    for arguments in (["pull", bucket_uri, tmp_path / "here"], ["verify", bucket_uri]):
        ended = run_command(*arguments)
        assert ended.code == 0
        assert not [secret for secret in (READER.secret_key, READER.access_key) if secret in ended.out + ended.err]
    ended = run_command("prune", bucket_uri, "--keep-last", "0", "--yes")
    assert ended.code == 4
    assert "s3:PutObject" in ended.err


def test_ctrl_c_ends_a_pull_at_once_and_the_next_goes_on(
    bucket_uri: str, finished: Path, tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(open_store(str(finished)), open_store(bucket_uri))
    write = FolderStore.write

    def interrupted(self: FolderStore, key: str, data: bytes) -> None:
        if key.endswith("/0001.json"):
            raise KeyboardInterrupt
        write(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "write", interrupted)
        ended = run_command("pull", bucket_uri, tmp_path / "here")
    assert ended.code == 130
    assert "interrupted: what has come is kept; the same command goes on from there\n" in ended.err
    assert not list((tmp_path / "here").rglob(".*"))
    assert bring(bucket_uri, tmp_path / "here").failed == {}
    assert verified(tmp_path / "here").differences == []
