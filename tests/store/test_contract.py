"""What a store is, whatever it is made of: every claim here holds of a folder and of a bucket alike."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from classmodels.errors import StoreError
from classmodels.store import Store, open_store

KEYS = ["c", "a/1", "a-1/x", "a/10", "a b+c%.png", "a/2", "é/ü", "a.d/x"]


@pytest.fixture(params=["folder", "bucket"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens one and the same place, empty at first, as a store; again and again."""
    uri = str(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("bucket_uri")
    return lambda: open_store(uri)


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()


def test_an_object_is_read_as_it_was_written_also_by_others(store: Store, reopen: Callable[[], Store]) -> None:
    for key, data in {"a/b.json": b"{}", "empty": b"", "bytes": bytes(range(256)) * 5000}.items():
        store.write(key, data)
        assert store.read(key) == data
        assert reopen().read(key) == data


def test_a_file_is_written_like_bytes(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 5000)
    store.write_file("a/b", tmp_path / "file", "0" * 64)
    assert store.read("a/b") == bytes(range(256)) * 5000
    with pytest.raises(FileNotFoundError):
        store.write_file("a/c", tmp_path / "none", "0" * 64)
    assert list(store.list("")) == ["a/b"]


def test_writing_again_replaces_the_object(store: Store) -> None:
    for data in (b"first and longer", b"second"):
        store.write("a/b", data)
    assert store.read("a/b") == b"second"
    assert [entry.size for entry in store.entries("")] == [len(b"second")]


def test_what_is_created_is_there_and_what_is_there_already_stays(store: Store, reopen: Callable[[], Store]) -> None:
    assert store.create("a/b", b"first")
    assert not reopen().create("a/b", b"second")
    assert store.read("a/b") == b"first"
    store.delete("a/b")
    assert store.create("a/b", b"third")
    assert list(store.list("")) == ["a/b"]


def test_of_many_that_create_an_object_one_does(reopen: Callable[[], Store]) -> None:
    stores, start = [reopen() for _ in range(8)], threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return stores[number].create("a/b", b"%d" % number)

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(8)))
    assert sum(won) == 1
    assert reopen().read("a/b") == b"%d" % won.index(True)


def test_what_is_not_there_is_none_and_lists_as_nothing(store: Store) -> None:
    assert store.read("a") is None
    assert list(store.list("")) == []
    store.write("a/b", b"")
    for key in ("a", "a/c", "a/b/c", "x" * 300):
        assert store.read(key) is None, key
    assert list(store.list("b")) == []


def test_keys_are_listed_in_order_and_without_what_the_store_puts_before_them(store: Store) -> None:
    for key in KEYS:
        store.write(key, key.encode())
    assert list(store.list("")) == sorted(KEYS)
    assert [store.read(key) for key in store.list("")] == [key.encode() for key in sorted(KEYS)]


def test_a_prefix_is_the_beginning_of_a_key_not_a_folder(store: Store) -> None:
    for key in KEYS:
        store.write(key, b"")
    for prefix in ("a", "a/", "a/1", "a-", "é/", "a b", "c", "d"):
        assert list(store.list(prefix)) == sorted(key for key in KEYS if key.startswith(prefix)), prefix


def test_entries_say_how_large_objects_are_and_when_they_were_written(store: Store) -> None:
    store.write("a/1", b"12345")
    store.write("b", b"")
    entries = list(store.entries(""))
    assert [(entry.key, entry.size) for entry in entries] == [("a/1", 5), ("b", 0)]
    assert all(abs(entry.modified - datetime.now(UTC)) < timedelta(minutes=1) for entry in entries)
    assert [entry.key for entry in store.entries("a")] == ["a/1"]


def test_what_begins_with_a_dot_is_never_listed(store: Store) -> None:
    for key in (".hidden", "a/.hidden", ".folder/a", "a/b.c"):
        store.write(key, b"")
    assert list(store.list("")) == ["a/b.c"]
    assert list(store.list(".")) == list(store.list(".folder/")) == []


def test_what_is_deleted_is_gone_and_deleting_again_is_no_error(store: Store) -> None:
    for key in ("a/b", "a/c"):
        store.write(key, b"")
    for _ in range(2):
        store.delete("a/b")
    assert store.read("a/b") is None
    assert list(store.list("")) == ["a/c"]


@pytest.mark.parametrize("key", ["../a", "/etc/passwd", "a/../../b", "a/..", "a\0b"])
def test_a_key_does_not_leave_the_store(key: str, store: Store) -> None:
    for act in (store.read, store.delete, store.locate, lambda key: store.write(key, b"")):
        with pytest.raises(StoreError, match="leaves"):
            act(key)


@pytest.mark.parametrize("key", ["", ".", "a//b", "./a", "a/", "a/.", "\ud800"])
def test_a_key_is_the_only_name_of_its_object(key: str, store: Store) -> None:
    for act in (store.read, store.delete, store.locate, lambda key: store.write(key, b"")):
        with pytest.raises(StoreError, match=r"names no object|cannot be a"):
            act(key)
    assert list(store.list("")) == []


@pytest.mark.parametrize("prefix", ["../", "a/../b", "/a"])
def test_a_listing_does_not_leave_the_store(prefix: str, store: Store) -> None:
    with pytest.raises(StoreError, match=r"leaves|names no object"):
        list(store.list(prefix))


def test_many_threads_write_and_read_at_once(store: Store) -> None:
    keys = [f"units/{index}.json" for index in range(60)]
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda key: store.write(key, key.encode() * 100), keys))
        assert list(threads.map(store.read, keys)) == [key.encode() * 100 for key in keys]
    assert list(store.list("units/")) == sorted(keys)


def test_a_reader_sees_one_writer_or_another_and_never_a_mixture(store: Store) -> None:
    values = [letter * 200_000 for letter in (b"a", b"bc")]
    store.write("a", values[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for value in values:
                store.write("a", value)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        assert all(store.read("a") in values for _ in range(100))
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_a_place_has_the_name_that_was_given_and_objects_lie_below_it(store: Store) -> None:
    assert store.locate("a/b c.html") == f"{store.uri}/a/b c.html"
