"""How a pulled record names its files: as people do, without the digest that keeps them apart in a bucket.

A record names the files beside it. In a pulled folder they have names without sha12, so the pulled record says those
names: then everything that reads a store (the page, `verify`, `gallery`, a second `pull`, `run`) reads a pulled folder
without knowing that it is one. Only names change; the sha256 of each file is in the record as before, and the change
can be undone, so that a pulled record can be compared with what it came from.
"""

import json
from collections.abc import Callable

from classmodels.store import FileEntry, Record
from classmodels.store.records import canonical
from classmodels.store.seal import has_seal, sealed, unsealed


def files_of(record: Record) -> list[FileEntry]:
    """The files that a record names: the image, and the animation where there is one."""
    return [record.image] if record.animation is None else [record.image, record.animation]


def for_people(data: bytes, record: Record) -> bytes:
    """The bytes of `record`, which `data` says, with the names that its files have in a pulled folder."""
    return _renamed(data, record, plain_name)


def by_content(data: bytes, record: Record) -> bytes:
    """The bytes of a pulled record as they were before: the inverse of `for_people`."""
    return _renamed(data, record, _named_by_content)


def plain_name(file: FileEntry) -> str:
    """`0009-ostrich.<sha12>.png` as `0009-ostrich.png`; other names as they are."""
    stem, _, suffix = file.name.rpartition(".")
    return f"{stem.removesuffix(f'.{file.sha256[:12]}')}.{suffix}"


def _named_by_content(file: FileEntry) -> str:
    stem, _, suffix = file.name.rpartition(".")
    return f"{stem}.{file.sha256[:12]}.{suffix}"


def _renamed(data: bytes, record: Record, rename: Callable[[FileEntry], str]) -> bytes:
    """`data` with every file renamed, and all else as it is, also what a newer version has added to records.

    A record that is sealed is sealed again: whoever renames its files has read it, and so found it whole.
    """
    if has_seal(data):
        return sealed(_renamed(unsealed(data), record, rename))
    changed = data
    for file in files_of(record):
        old = _line(file.name)
        if changed.count(old) != 1:  # not as `dump` writes it
            return _renamed_as_data(data, {file.name: rename(file) for file in files_of(record)})
        changed = changed.replace(old, _line(rename(file)))
    return changed


def _line(name: str) -> bytes:
    """How `dump` writes a file's name: two levels deep, which tells it from names elsewhere."""
    return f'\n  "name": {json.dumps(name, ensure_ascii=False)}'.encode()


def _renamed_as_data(data: bytes, names: dict[str, str]) -> bytes:
    said = json.loads(data)
    for file in (said["image"], said.get("animation")):
        if file is not None:
            file["name"] = names[file["name"]]
    return canonical(said)
