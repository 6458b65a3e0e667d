"""What tests do with places that hold results: copy, damage, check."""

from pathlib import Path

from classmodels.results.place import open_place
from classmodels.results.progress import Silent
from classmodels.results.verify import Verified, verify
from classmodels.store import Store


def copy(source: Store, target: Store) -> None:
    for key in source.list(""):
        data = source.read(key)
        assert data is not None
        target.write(key, data)


def verified(uri: str | Path) -> Verified:
    return verify(open_place(str(uri)), Silent())


def first(store: Store, end: str) -> str:
    """The first unit's object whose key ends so."""
    return next(key for key in store.list("units/") if key.endswith(end))


def flip(store: Store, key: str) -> None:
    """Change a bit in the middle of an object: its size stays."""
    data = store.read(key)
    assert data is not None
    middle = len(data) // 2
    store.write(key, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
