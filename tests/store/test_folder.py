"""What only a folder has: links, disks that fill up, power cuts, leavings; `test_contract.py` has the rest."""

import errno
import os
import time
from pathlib import Path

import pytest

from classmodels.errors import StoreError
from classmodels.store import open_store
from classmodels.store.folder import FolderStore


def test_a_write_that_fails_leaves_the_old_object_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    store = FolderStore(tmp_path)
    store.write("a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="disk is full"):
        store.write("a", b"new")
    assert store.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("key", ["galleries/a/b.html", "galleries/a"])
def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path, key: str, there: bool) -> None:
    elsewhere = tmp_path / "elsewhere"
    if there:
        (elsewhere / "a").mkdir(parents=True)
        (elsewhere / "a" / "b.html").write_bytes(b"secret")
    store = FolderStore(tmp_path / "out")
    store.write("c", b"")
    (tmp_path / "out" / "galleries").symlink_to(elsewhere)
    acts = (
        store.read,
        store.delete,
        store.locate,
        lambda key: store.write(key, b"new"),
        lambda key: list(store.list(key + "/")),
    )
    for act in acts:
        with pytest.raises(StoreError, match=rf"the key '{key}' leaves the folder .*out: a symbolic link leads to"):
            act(key)
    assert list(store.list("")) == ["c"]
    if there:
        assert (elsewhere / "a" / "b.html").read_bytes() == b"secret"
    assert elsewhere.exists() == there


def test_a_linked_file_outside_is_not_read_or_listed_and_is_replaced_itself(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    store = FolderStore(tmp_path / "out")
    store.write("a/b", b"b")
    for name in ("written", "deleted"):
        (tmp_path / "out" / "a" / name).symlink_to(secret)
        with pytest.raises(StoreError, match=f"'a/{name}' leaves the folder"):
            store.read(f"a/{name}")
    assert list(store.list("a/")) == ["a/b"]
    store.write("a/written", b"new")
    store.delete("a/deleted")
    assert list(store.list("")) == ["a/b", "a/written"]
    assert store.read("a/written") == b"new"
    assert secret.read_bytes() == b"secret"


def test_links_inside_the_folder_and_to_the_folder_are_followed(tmp_path: Path) -> None:
    FolderStore(tmp_path / "real").write("units/a", b"a")
    (tmp_path / "out").symlink_to("real")
    (tmp_path / "real" / "linked").symlink_to("units")
    (tmp_path / "real" / "units" / "b").symlink_to("a")
    store = FolderStore(tmp_path / "out")
    store.write("linked/c", b"c")
    assert [store.read(key) for key in ("units/a", "units/b", "units/c", "linked/a")] == [b"a", b"a", b"c", b"a"]
    assert list(store.list("units/")) == ["units/a", "units/b", "units/c"]
    assert list(store.list("linked/")) == ["linked/a", "linked/b", "linked/c"]
    store.delete("linked/c")
    assert store.read("units/c") is None


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_an_object_is_created_once_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*paths: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    store = FolderStore(tmp_path)
    assert [store.create("a", data) for data in (b"first", b"second")] == [True, False]
    assert (os.listdir(tmp_path), store.read("a")) == (["a"], b"first")


def test_an_object_whose_name_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    assert FolderStore(tmp_path).read("x" * 100_000) is None


def test_what_killed_writers_left_is_cleared_from_a_folder_at_the_first_write(tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    for name, age in ((".writing-old", 3700), (".writing-new", 3500), ("old", 9999), (".hidden", 9999)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    store = FolderStore(tmp_path)
    store.write("other", b"")
    assert (folder / ".writing-old").exists()
    store.write("units/a", b"")
    assert sorted(os.listdir(folder)) == [".hidden", ".writing-new", "a", "old"]
    os.utime(folder / ".writing-new", (0, 0))
    store.write("units/b", b"")
    assert (folder / ".writing-new").exists()
    FolderStore(tmp_path).write("units/c", b"")
    assert not (folder / ".writing-new").exists()


def test_every_folder_on_the_way_to_an_object_outlives_a_power_cut(tmp_path: Path, monkeypatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    store = FolderStore(tmp_path / "out")
    store.write("a/b/c", b"")
    for path in (tmp_path, tmp_path / "out", tmp_path / "out/a", tmp_path / "out/a/b", tmp_path / "out/a/b/c"):
        assert path.stat().st_ino in synced, path
    assert tmp_path.parent.stat().st_ino not in synced
    synced.clear()
    store.write("a/b/d", b"")
    assert len(synced) == 2


def test_a_folder_that_was_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write("a/b", b"")
    (tmp_path / "a" / "b").unlink()
    (tmp_path / "a").rmdir()
    store.write("a/b", b"again")
    assert store.read("a/b") == b"again"


def test_unfinished_writes_of_a_killed_process_are_not_listed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write("units/a.json", b"{}")
    (tmp_path / "units" / ".writing-x").write_bytes(b"half")
    assert list(store.list("units/")) == ["units/a.json"]


def test_a_folder_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="a file stands where a folder is expected"):
        FolderStore(tmp_path / "file").write("a", b"")


def test_new_objects_have_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    FolderStore(tmp_path).write("a", b"")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode


def test_the_uri_picks_the_store(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}").uri == str(tmp_path)
    assert open_store("s3://bucket/prefix").uri == "s3://bucket/prefix"
