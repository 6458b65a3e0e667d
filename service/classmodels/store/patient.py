"""A store that waits for one that is down: what fails in passing is tried again, with growing pauses, for a minute.

`S3Store` gives up soon, so that a person is told of a slip at once. Once a run has reached its storage, a gateway that
restarts should not cost it anything; what the storage refuses outright is still told at once.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from classmodels.errors import StoreError
from classmodels.store.base import Entry, Read, Store

log = logging.getLogger("classmodels")

PATIENCE = 60.0
"""Seconds from the first failure on after which nothing is tried again."""
PAUSES = (0.5, 8.0)
"""Seconds before the second try, and the most before any; each pause is twice the one before."""

T = TypeVar("T")


class PatientStore:
    """`inner`, but a StoreError that is `passing` is raised only after PATIENCE."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.uri = inner.uri

    def write(self, key: str, data: bytes) -> None:
        self._patiently(lambda: self._inner.write(key, data))

    def create(self, key: str, data: bytes) -> bool:
        return self._patiently(lambda: self._inner.create(key, data))

    def write_file(self, key: str, file: Path, sha256: str) -> None:
        self._patiently(lambda: self._inner.write_file(key, file, sha256))

    def read(self, key: str) -> bytes | None:
        return self._patiently(lambda: self._inner.read(key))

    @contextmanager
    def reading(self) -> Iterator[Read]:
        with self._inner.reading() as read:
            yield lambda key: self._patiently(lambda: read(key))

    def list(self, prefix: str) -> Iterator[str]:
        return self._patiently(lambda: self._inner.list(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        return self._patiently(lambda: self._inner.entries(prefix))

    def delete(self, key: str) -> None:
        self._patiently(lambda: self._inner.delete(key))

    def locate(self, key: str) -> str:
        return self._inner.locate(key)

    def _patiently(self, act: Callable[[], T]) -> T:
        pause, longest = PAUSES
        deadline = None
        while True:
            try:
                return act()
            except StoreError as error:
                if not error.passing:
                    raise
                if deadline is None:
                    deadline = time.monotonic() + PATIENCE
                    log.warning("%s; trying again for %.0f s", error, PATIENCE)
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, longest)
