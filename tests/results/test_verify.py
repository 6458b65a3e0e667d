"""Rechecking results: what is right is silent, and of what differs each thing is named, with what to do about it."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import copy, first, flip, verified

from altered import put_with_old_digest, said_again
from classmodels.gallery.page import pointer
from classmodels.results.place import Place
from classmodels.results.progress import Silent
from classmodels.results.verify import verify
from classmodels.s3 import S3Settings, connect
from classmodels.store import Store, open_store

Command = Callable[..., Any]


def test_what_a_run_leaves_is_as_it_should_be(source: str, run_command: Command) -> None:
    ended = run_command("verify", source)
    assert ended.code == 0
    assert ended.out.startswith("0 differences in 33 objects (")
    assert "not done" not in ended.out


def test_json_tells_all(source: str, run_command: Command) -> None:
    key = first(open_store(source), ".png")
    flip(open_store(source), key)
    ended = run_command("verify", source, "--json")
    said = json.loads(ended.out)
    assert (ended.code, said["objects"], said["unfinished"]) == (1, 33, 0)
    (difference,) = said["differences"]
    assert difference["key"] == key


def rewrite(store: Store, key: str, old: str, new: str) -> str:
    before = (store.read(key) or b"").decode()
    assert old in before
    store.write(key, before.replace(old, new, 1).encode())
    return key


def record(store: Store) -> str:
    return first(store, "/0001.json")


def verdict(store: Store) -> str:
    return next(iter(store.list("verdicts/")))


def page(store: Store, name: str = "index.html") -> str:
    return next(key for key in store.list("galleries/") if key.endswith(name))


def altered(store: Store) -> str:
    flip(store, key := first(store, ".webp"))
    return key


def shortened(store: Store) -> str:
    store.write(key := first(store, ".png"), (store.read(key) or b"")[:-1])
    return key


def gone(store: Store) -> str:
    store.delete(key := first(store, ".png"))
    return key


def record_damaged(store: Store) -> str:
    store.write(key := record(store), b"{")
    return key


def record_of_another_class(store: Store) -> str:
    return rewrite(store, record(store), '"class_index": 1', '"class_index": 2')


def record_lost(store: Store) -> str:
    store.delete(record(store))
    return page(store, "gallery.json")


def verdict_damaged(store: Store) -> str:
    store.write(key := verdict(store), b"[]")
    return key


def verdict_on_nothing(store: Store) -> str:
    other = verdict(store).replace("/0000.", "/0003.")
    data = (store.read(verdict(store)) or b"").decode().replace("/0000.json", "/0003.json")
    store.write(other, said_again(json.loads(data)))
    return other


def verdict_elsewhere(store: Store) -> str:
    other = verdict(store).replace("/0000.", "/0001.")
    store.write(other, store.read(verdict(store)) or b"")
    return other


def page_lost(store: Store) -> str:
    store.delete(key := page(store))
    return key


def page_of_old_images(store: Store) -> str:
    key = page(store, "gallery.json")
    said = json.loads(store.read(key) or b"")
    said["units"][0]["image"]["sha256"] = "0" * 64
    store.write(key, said_again(said))
    return key


def page_of_another_version_with_a_dead_link(store: Store) -> str:
    said = json.loads(store.read(page(store, "gallery.json")) or b"")
    del said["files"]
    store.write(page(store, "gallery.json"), said_again(said))
    return rewrite(store, page(store), 'href="contact-sheet.png"', 'href="contact.png"')


def data_unreadable(store: Store) -> str:
    store.write(key := page(store, "gallery.json"), b'{"units": 3}')
    return key


def pointer_astray(store: Store) -> str:
    store.write("galleries/tiny/latest.json", pointer("0" * 12))
    return "galleries/tiny/latest.json"


def pointer_damaged(store: Store) -> str:
    store.write("galleries/tiny/latest.json", b"{}")
    return "galleries/tiny/latest.json"


def plan_damaged(store: Store) -> str:
    store.write(key := next(iter(store.list("runs/"))), b"{}")
    return key


@pytest.mark.parametrize(
    ("harm", "found", "advice"),
    [
        (altered, "its sha256 is", "and run the job again; in a pulled folder, pull again"),
        (shortened, "bytes, expected", "and run the job again"),
        (gone, "it is not there", "and run the job again"),
        (record_damaged, "it is no record of this unit, or damaged", "delete this record and run the job again"),
        (record_of_another_class, "it is no record of this unit", "delete this record and run the job again"),
        (record_lost, "which is not there", "`classmodels gallery`"),
        (verdict_damaged, "it is no verdict, or damaged", "delete this verdict and run the job again"),
        (verdict_on_nothing, "it is on an image that does not exist", "delete this verdict"),
        (verdict_elsewhere, "it is a verdict of another judge, or on another image", "delete this verdict"),
        (page_lost, "it is not there", "`classmodels gallery`"),
        (page_of_old_images, "it shows another image than", "`classmodels gallery`"),
        (page_of_another_version_with_a_dead_link, "it links to contact.png", "`classmodels gallery`"),
        (data_unreadable, "it cannot be read", "`classmodels gallery`"),
        (pointer_astray, "it points to galleries/tiny/0", "delete it, and run the job again"),
        (pointer_damaged, "it is no pointer to a gallery", "run the job again"),
        (plan_damaged, "it is no plan of a run", "run the job again"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_differs_is_named_with_what_to_do(
    source: str, run_command: Command, harm: Callable[[Store], str], found: str, advice: str
) -> None:
    key = harm(open_store(source))
    ended = run_command("verify", source)
    assert ended.code == 1
    lines = [line for line in ended.out.splitlines() if line.startswith(f"{key}: ")]
    assert len(lines) == 1, ended.out
    assert found in lines[0]
    assert advice in lines[0]


@pytest.mark.parametrize("where", ["in a folder", "written to a bucket", "behind a bucket's back"])
def test_a_byte_that_was_altered_anywhere_in_any_object_is_found(
    where: str, request: pytest.FixtureRequest, tmp_path: Path, finished: Path
) -> None:
    uri = str(tmp_path / "out") if where == "in a folder" else request.getfixturevalue("bucket_uri")
    store = open_store(uri)
    copy(open_store(str(finished)), store)
    place, client = Place(store), connect(S3Settings())
    assert verify(place, Silent()).differences == []
    for key in store.list(""):
        data = store.read(key)
        assert data is not None
        # In the middle; and, for where there is one, in the seal: its end, its digest, its name.
        for at in (len(data) // 3, len(data) - 1, len(data) - 10, len(data) - 80)[: 4 if where == "in a folder" else 1]:
            altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            if where == "behind a bucket's back":
                put_with_old_digest(client, uri, key, altered, data)
            else:
                store.write(key, altered)
            assert [one.key for one in verify(place, Silent()).differences] == [key], at
        store.write(key, data)


def test_bytes_that_a_bucket_gives_otherwise_than_it_got_them_are_named_and_the_rest_is_checked(
    bucket_uri: str, finished: Path, run_command: Command
) -> None:
    store = open_store(bucket_uri)
    copy(open_store(str(finished)), store)
    key = first(store, ".png")
    data = store.read(key) or b""
    put_with_old_digest(connect(S3Settings()), bucket_uri, key, b"other" + data[5:], data)
    ended = run_command("verify", bucket_uri)
    assert ended.code == 1
    assert f"{key}: its bytes are not those that were written" in ended.out
    assert "1 difference in 32 objects" in ended.out
    ended = run_command("pull", bucket_uri, finished.parent / "never")
    assert ended.code == 3
    assert "its bytes are not those that were written" in ended.err
    assert "5 units came" in ended.out


def test_an_image_of_the_right_digest_that_cannot_be_decoded_is_named(in_folder: Place) -> None:
    store = in_folder.store
    key = first(store, "/0000.json")
    said = json.loads(store.read(key) or b"")
    image = f"{key.rpartition('/')[0]}/{said['image']['name']}"
    noise = b"\x89PNG\r\n\x1a\n" + bytes(50)
    store.write(image, noise)
    said["image"] |= {"sha256": hashlib.sha256(noise).hexdigest(), "bytes": len(noise)}
    store.write(key, said_again(said))
    (difference,) = [one for one in verified(in_folder.store.uri).differences if one.key == image]
    assert difference.found.startswith("it cannot be decoded")


def test_units_that_are_not_done_yet_are_no_difference(
    tmp_path: Path, write_job: Callable[..., Path], run_command: Command
) -> None:
    job = write_job(tmp_path, classes="all")
    assert run_command("run", job, "--only", "*/*/ant").code == 0
    ended = run_command("verify", tmp_path / "out")
    assert ended.code == 0
    assert "not done yet: 4 units" in ended.out


def test_a_part_is_verified_by_itself(source: str) -> None:
    store = open_store(source)
    keys = [key for key in store.list("units/") if key.endswith(".png")]
    flip(store, keys[0])
    recipes = sorted({key.rpartition("/")[0] for key in keys})
    assert [len(verified(f"{source}/{recipe}").differences) for recipe in recipes] == [1, 0]


@pytest.mark.parametrize("way", ["run", "gallery"])
def test_whoever_follows_the_advice_has_everything_mended(
    tmp_path: Path, write_job: Callable[..., Path], run_command: Command, way: str
) -> None:
    """way: which of the two is tried first where both are named."""
    animation = {"frames": 3, "format": "webp"}
    job = write_job(tmp_path, classes=["ant", "bee"], animation=animation, panel="all")
    assert run_command("run", job).code == 0
    place = Place(open_store(str(tmp_path / "out")))
    for key in list(place.store.list("")):
        flip(place.store, key)
        (difference,) = verify(place, Silent()).differences
        assert difference.key == key
        both = [one for one in ("run the job again", "classmodels gallery") if one in difference.advice]
        if both == ["classmodels gallery"] or (len(both) == 2 and way == "gallery"):
            assert run_command("gallery", tmp_path / "out").code == 0
        else:
            if "delete" in difference.advice:
                named = re.search(r"delete (units/\S+)", difference.advice)
                place.store.delete(named[1] if named else key)
            assert run_command("run", job).code == 0
        assert verify(place, Silent()).differences == [], key


def test_pulling_again_mends_a_pulled_folder(in_folder: Place, tmp_path: Path, run_command: Command) -> None:
    here = tmp_path / "here"
    assert run_command("pull", in_folder.store.uri, here).code == 0
    place = Place(open_store(str(here)))
    for key in list(place.store.list("")):
        flip(place.store, key)
        (difference,) = verify(place, Silent()).differences
        again = ["gallery", here] if "classmodels gallery" in difference.advice else ["pull", in_folder.store.uri, here]
        assert run_command(*again).code == 0
        assert verify(place, Silent()).differences == [], key


def test_what_a_bucket_damages_is_made_again_or_left_out_and_stops_no_command(
    bucket_uri: str, finished: Path, tmp_path: Path, run_command: Command
) -> None:
    store, client = open_store(bucket_uri), connect(S3Settings())
    copy(open_store(str(finished)), store)
    lost = {first(store, "/0002.json"), first(store, ".png"), verdict(store)}
    pages = {"galleries/tiny/latest.json", *(key for key in store.list("galleries/") if key.count("/") == 3)}
    assert len(lost | pages) == 7
    for key in lost | pages:
        data = store.read(key) or b""
        put_with_old_digest(client, bucket_uri, key, data[:-1] + b"?", data)
    assert "1 gallery, 6 units" in run_command("list", bucket_uri).out
    assert run_command("gallery", bucket_uri).code == 0
    assert {one.key for one in verified(bucket_uri).differences} == lost | {"galleries/tiny/latest.json"}
    assert run_command("export", bucket_uri, tmp_path / "page.html").out.startswith("tiny ")
    ended = run_command("pull", bucket_uri, tmp_path / "here")
    assert ended.code == 3
    assert "4 units came" in ended.out
    plan = next(key for key in store.list("runs/") if key.endswith("plan.json"))
    put_with_old_digest(client, bucket_uri, plan, b"?", store.read(plan) or b"")
    assert f"{plan}: it is no plan of a run" in run_command("list", bucket_uri).out
