"""Others do the same units on other numerics at the same time: the first record stays, and nothing else is left."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from classmodels.results.place import open_place
from classmodels.results.progress import Silent
from classmodels.results.verify import verify
from classmodels.store import Store, open_store
from classmodels.store.folder import FolderStore
from classmodels.store.records import Record, dump, file_name, parse

Command = Callable[..., Any]


def theirs(store: Store, key: str) -> dict[str, bytes]:
    """The unit of the record `key` as somebody else has it: another PNG of the same picture, the record last."""
    folder = key.rpartition("/")[0] + "/"
    record = parse(Record, store.read(key) or b"")
    assert record is not None
    png = (store.read(folder + record.image.name) or b"") + b"by others"
    name = file_name(record.class_index, record.label, png, "png")
    digest = sha256(png).hexdigest()
    image = record.image.model_copy(update={"name": name, "sha256": digest, "bytes": len(png)})
    other = record.model_copy(update={"image": image, "numerics": record.numerics | {"device": "another"}})
    return {folder + name: png, key: dump(other)}


def units(store: Store) -> list[str]:
    return list(store.list("units/"))


@pytest.fixture
def done(tmp_path: Path, write_job: Callable[..., Path], run_command: Command) -> tuple[Path, Store]:
    """A job with a judge, and the store it is done in."""
    job = write_job(tmp_path, panel="all")
    assert run_command("run", job).code == 0
    return job, open_store(str(tmp_path / "out"))


def crow(store: Store) -> str:
    return next(key for key in units(store) if key.endswith("/0002.json"))


def test_the_first_record_stays_and_the_files_of_the_second_go(
    done: tuple[Path, Store], tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, before = done
    others = theirs(before, crow(before))
    real = FolderStore.create

    def create(store: FolderStore, key: str, data: bytes) -> bool:
        if key == crow(before):
            for name, content in others.items():
                store.write(name, content)
        return real(store, key, data)

    monkeypatch.setattr(FolderStore, "create", create)
    assert run_command("run", job, "--output", tmp_path / "both").code == 0
    both = open_store(str(tmp_path / "both"))
    assert {key: both.read(key) for key in units(both) if "/0002" in key and ".webp" not in key} == others
    assert len(units(both)) == len(units(before))
    assert verify(open_place(both.uri), Silent()).differences == []


def test_a_record_that_says_nothing_is_no_winner(done: tuple[Path, Store], run_command: Command) -> None:
    job, store = done
    whole = json.loads(store.read(crow(store)) or b"")
    store.write(crow(store), b"")
    run_command("gallery", store.uri)
    assert run_command("run", job).code == 0
    mended = json.loads(store.read(crow(store)) or b"")
    assert mended["image"] == whole["image"]


def test_what_a_judge_said_of_an_image_that_was_replaced_goes(done: tuple[Path, Store], run_command: Command) -> None:
    job, store = done
    old = [key for key in store.list("verdicts/") if "/0002." in key]
    for key, data in theirs(store, crow(store)).items():
        store.write(key, data)
    run_command("gallery", store.uri)
    assert run_command("run", job).code == 0
    new = [key for key in store.list("verdicts/") if "/0002." in key]
    assert (len(new), set(new) & set(old)) == (len(old), set())
    assert verify(open_place(store.uri), Silent()).differences == []
