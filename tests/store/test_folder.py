"""A folder as a store: whole objects or none, in order, and never outside its root."""

import errno
import os
import threading
from pathlib import Path

import pytest

from classmodels.errors import InputError, StoreError
from classmodels.store import open_store
from classmodels.store.folder import FolderStore


def test_what_is_written_is_read_and_listed_in_order(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new" / "out")
    assert list(store.list("")) == []
    for key in ("b/2", "a/1", "b/10", "c"):
        store.write(key, key.encode())
    assert store.read("b/10") == b"b/10"
    assert store.read("b") is None
    assert store.read("b/10/deeper") is None
    assert list(store.list("")) == ["a/1", "b/10", "b/2", "c"]
    assert list(store.list("b/1")) == ["b/10"]
    store.delete("b/10")
    store.delete("b/10")
    assert list(store.list("b/")) == ["b/2"]
    assert Path(store.locate("a/1")).read_bytes() == b"a/1"


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


def test_a_reader_never_sees_a_part_of_an_object(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    values = [bytes([letter]) * 200_000 for letter in b"ab"]
    store.write("a", values[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for value in values:
                store.write("a", value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(store.read("a") in values for _ in range(300))
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("key", ["../a", "/etc/passwd", "a/../../b", "a\0b"])
def test_a_key_does_not_leave_the_folder(key: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "root")
    for act in (store.read, store.delete, lambda key: store.write(key, b"")):
        with pytest.raises(StoreError, match="leaves the folder"):
            act(key)


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
    with pytest.raises(InputError, match="folders only"):
        open_store("s3://bucket/prefix")
