"""What is damaged in a bucket is as good as not there, for who can go on without it; a bucket that is down is not."""

import boto3
import pytest

from classmodels.errors import DamagedError, StoreError
from classmodels.store import open_store
from classmodels.store.believed import read_believed
from seaweed import BUCKET


def test_a_damaged_object_is_as_good_as_not_there(bucket_uri: str) -> None:
    store = open_store(bucket_uri)
    store.write("whole", b"written")
    name = f"{bucket_uri.removeprefix(f's3://{BUCKET}/')}/damaged"
    boto3.client("s3").put_object(Bucket=BUCKET, Key=name, Body=b"other", Metadata={"sha256": "0" * 64})
    with pytest.raises(DamagedError):
        store.read("damaged")
    with store.reading() as quickly:
        for read in (store.read, quickly):
            assert read_believed(read, "whole") == b"written"
            assert read_believed(read, "damaged") is None
            assert read_believed(read, "not there") is None


def test_storage_that_cannot_be_used_is_an_error_all_the_same(bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(StoreError):
        read_believed(open_store(bucket_uri).read, "a")
