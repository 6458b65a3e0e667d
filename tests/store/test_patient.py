"""A store that is down is waited for, one that refuses is not; and the two are told apart."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as boto

from classmodels.errors import StoreError
from classmodels.s3_errors import BodyDiffersError, is_passing
from classmodels.store import patient
from classmodels.store.folder import FolderStore
from classmodels.store.patient import PatientStore

ACTS: dict[str, Callable[[Any], object]] = {
    "write": lambda store: store.write("a/b", b"c"),
    "read": lambda store: store.read("a/b"),
    "list": lambda store: list(store.list("a/")),
    "entries": lambda store: list(store.entries("a/")),
    "delete": lambda store: store.delete("a/b"),
}


class Flaky:
    """A folder of which each act fails a number of times."""

    def __init__(self, folder: FolderStore, failures: int, passing: bool) -> None:
        self.folder, self.failures, self.passing, self.tries = folder, failures, passing, 0
        self.uri = folder.uri

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def act(*arguments: Any) -> Any:
            self.tries += 1
            if self.tries <= self.failures:
                raise StoreError("cannot: no", passing=self.passing)
            return getattr(self.folder, name)(*arguments)

        return act


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    monkeypatch.setattr(patient, "PATIENCE", 0.2)
    monkeypatch.setattr(patient, "PAUSES", (0.01, 0.02))
    store = FolderStore(tmp_path)
    store.write("a/b", b"c")
    return store


@pytest.mark.parametrize("act", ACTS)
def test_what_fails_in_passing_is_done_in_the_end(
    folder: FolderStore, act: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = ACTS[act](PatientStore(Flaky(folder, 3, True)))
    assert [record.message for record in caplog.records] == ["cannot: no; trying again for 0 s"]
    assert found == ACTS[act](folder)
    assert (folder.read("a/b") is None) == (act == "delete")


@pytest.mark.parametrize("act", ACTS)
def test_what_is_refused_is_told_at_once(folder: FolderStore, act: str) -> None:
    flaky = Flaky(folder, 1, False)
    with pytest.raises(StoreError):
        ACTS[act](PatientStore(flaky))
    assert flaky.tries == 1


def test_patience_ends(folder: FolderStore) -> None:
    flaky = Flaky(folder, 10_000, True)
    with pytest.raises(StoreError, match="cannot: no"):
        PatientStore(flaky).write("a/b", b"c")
    assert 3 < flaky.tries < 30


def answer(status: int, code: str) -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (answer(503, "SlowDown"), True),
        (answer(500, "InternalError"), True),
        (answer(502, "502"), True),
        (answer(400, "BadDigest"), True),
        (answer(400, "IncompleteBody"), True),
        (answer(400, "RequestTimeout"), True),
        (answer(403, "AccessDenied"), False),
        (answer(404, "NoSuchBucket"), False),
        (answer(507, "XMinioStorageFull"), False),
        (answer(501, "NotImplemented"), False),
        (boto.EndpointConnectionError(endpoint_url="http://h"), True),
        (boto.ReadTimeoutError(endpoint_url="http://h"), True),
        (boto.ConnectionClosedError(endpoint_url="http://h"), True),
        (boto.SSLError(endpoint_url="http://h", error="no"), False),
        (boto.NoCredentialsError(), False),
        (BodyDiffersError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_server_that_is_down_is_told_from_one_that_refuses(error: Exception, passing: bool) -> None:
    assert is_passing(error) == passing


@pytest.mark.parametrize(("number", "passing"), [(errno.ESTALE, True), (errno.ENOSPC, False), (errno.EACCES, False)])
def test_a_folder_on_a_server_that_restarts_is_told_from_a_full_disk(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch, number: int, passing: bool
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError) as raised:
        folder.write("a/b", b"c")
    assert raised.value.passing == passing
