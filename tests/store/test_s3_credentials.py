"""Credentials and permissions on the real server: who may do what, and what is said to who may not."""

import datetime
import logging

import botocore.auth
import pytest
from acts import ACTS, DATA, SECRETS, told

from classmodels.errors import InputError
from classmodels.store import open_store
from seaweed import OTHER_BUCKET, READER, WRITE_ONLY, WRITER


def with_credentials(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for variable, value in changes.items():
        monkeypatch.setenv(variable, value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "the secret key is wrong"),
        ({"AWS_ACCESS_KEY_ID": "NOSUCHKEYID"}, "the server does not know these credentials"),
        ({"AWS_SESSION_TOKEN": "no-such-token"}, "the server does not know these credentials"),
    ],
    ids=["wrong secret", "unknown key", "unknown token"],
)
@pytest.mark.parametrize("act", ACTS)
def test_wrong_credentials_are_told(
    bucket_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, str],
    reason: str,
    act: str,
) -> None:
    with_credentials(monkeypatch, **changes)
    sentence = told(lambda: ACTS[act](open_store(bucket_uri)), caplog)
    assert sentence.startswith(f"cannot {act} {bucket_uri}/")
    assert reason in sentence
    assert not [value for value in changes.values() if value in sentence]


def test_a_reader_reads_and_lists_but_is_told_that_it_may_not_write(
    bucket_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_store(bucket_uri).write("a.bin", DATA)
    with_credentials(monkeypatch, **READER.environment)
    store = open_store(bucket_uri)
    assert store.read("a.bin") == DATA
    assert list(store.list("")) == ["a.bin"]
    for act, permission in (("write", "s3:PutObject"), ("delete", "s3:DeleteObject")):
        sentence = told(lambda act=act: ACTS[act](store), caplog)
        assert f"cannot {act} {bucket_uri}/a.bin" in sentence
        assert "do not permit it" in sentence
        assert permission in sentence
    assert store.read("a.bin") == DATA


def test_who_may_only_write_can_write_though_it_may_not_look_at_the_bucket(
    bucket_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_credentials(monkeypatch, **WRITE_ONLY.environment)
    store = open_store(bucket_uri)
    store.write("a.bin", DATA)
    assert "s3:GetObject" in told(lambda: store.read("a.bin"), caplog)
    assert "s3:ListBucket" in told(lambda: list(store.list("")), caplog)
    with_credentials(monkeypatch, **READER.environment)
    assert open_store(bucket_uri).read("a.bin") == DATA


@pytest.mark.parametrize("act", ACTS)
def test_a_bucket_of_others_is_told(bucket_uri: str, caplog: pytest.LogCaptureFixture, act: str) -> None:
    sentence = told(lambda: ACTS[act](open_store(f"s3://{OTHER_BUCKET}/a")), caplog)
    assert sentence.startswith(f"cannot {act} s3://{OTHER_BUCKET}/a/")
    assert "the credentials do not permit it, or there is no such bucket; check the bucket's name" in sentence


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_is_told(
    bucket_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hours: int
) -> None:
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now() + datetime.timedelta(hours=hours))
    sentence = told(lambda: open_store(bucket_uri).read("a"), caplog)
    assert "the clock of this machine and that of the server differ too much; set the clock" in sentence


def test_credentials_that_are_nowhere_are_told(
    bucket_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable in WRITER.environment:
        monkeypatch.delenv(variable)
    sentence = told(lambda: open_store(bucket_uri).read("a"), caplog)
    assert "no credentials can be had; set AWS_ACCESS_KEY_ID" in sentence


def test_half_a_pair_of_credentials_is_told(bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="missing: AWS_SECRET_ACCESS_KEY"):
        open_store(bucket_uri).read("a")


def test_nothing_that_is_logged_holds_a_secret(bucket_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "urllib3"):
        store = open_store(bucket_uri)
        for act in ("write", "read", "list", "delete"):
            ACTS[act](store)
    assert "urllib3" in caplog.text  # the log of some library did go through here
    assert not [secret for secret in SECRETS if secret in caplog.text]
